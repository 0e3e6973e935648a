//! Writes down what happens: the history, the log of the run, and violations, all by one clock.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use vltava_history::event::{At, Begin, RunId};
use vltava_history::recorder::Recorder;

use crate::Fallible;

/// See the module.
pub struct Scribe {
    /// The history.
    pub recorder: Recorder,
    start: Instant,
    log: Mutex<File>,
    aloud: bool,
    violations: Mutex<Vec<String>>,
}

impl Scribe {
    /// Starts `history` and `log`; what is said is also printed if `aloud`.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn new(
        history: &Path,
        log: &Path,
        seed: u64,
        title: &str,
        version: &str,
        aloud: bool,
    ) -> Fallible<Self> {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let begin = Begin {
            // Different for each run, also of the same seed.
            run: RunId::new(u64::try_from(unix.as_nanos() & u128::from(u64::MAX)).unwrap_or(0)),
            seed,
            title: title.to_owned(),
            version: version.to_owned(),
            started_unix_ms: u64::try_from(unix.as_millis()).unwrap_or(0),
        };
        Ok(Self {
            recorder: Recorder::create(history, begin)?,
            start: Instant::now(),
            log: Mutex::new(File::create(log)?),
            aloud,
            violations: Mutex::default(),
        })
    }

    /// Now, by the history's clock.
    pub fn now(&self) -> At {
        At::new(self.start.elapsed())
    }

    /// Notes something, with the time.
    pub fn say(&self, words: &str) {
        let line = format!("{:>8.2}s {words}\n", self.start.elapsed().as_secs_f64());
        let written = self.log.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
        if self.aloud || written.is_err() {
            eprint!("{line}");
        }
    }

    /// Notes what must not happen.
    pub fn violation(&self, words: &str) {
        self.say(&format!("VIOLATION: {words}"));
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).push(words.to_owned());
    }

    /// Everything that must not have happened.
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the history.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn finish(&self) -> io::Result<()> {
        self.recorder.finish(self.now())
    }
}
