//! What processes and the machine use, from `/proc`.

use std::fs;

use crate::Fallible;

/// In what `/proc/PID/stat` counts time: 100 a second on every Linux that programs see.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// User and system time of all its threads, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory now, in MB (10^6 bytes).
    pub rss_mb: f64,
}

/// Of a running process.
///
/// # Errors
/// When it does not run.
pub fn of(pid: u32) -> Fallible<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; fields count from behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| -> Fallible<f64> {
        Ok(fields.get(place).ok_or("a field of stat is missing")?.parse::<f64>()?)
    };
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = resident.trim().trim_end_matches("kB").trim().parse()?;
    Ok(Usage { cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND, rss_mb: kib * 1024.0 / 1e6 })
}

/// The machine's load averages.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
