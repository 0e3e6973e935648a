//! Where things go in a drawing.

/// The width of every drawing.
pub(super) const WIDTH: f64 = 1160.0;
/// Where the plot begins, right of the labels.
pub(super) const LEFT: f64 = 76.0;
/// Where it ends.
pub(super) const RIGHT: f64 = WIDTH - 8.0;

/// Maps seconds to x.
#[derive(Clone, Copy)]
pub(super) struct Time {
    /// The run's length in seconds, at least 1.
    pub seconds: f64,
}

impl Time {
    pub(super) fn x(&self, second: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (second / self.seconds).clamp(0.0, 1.0)
    }

    /// Round seconds for an axis, with their labels.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        const STEPS: [f64; 16] = [
            1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0,
            14400.0, 28800.0,
        ];
        let step = STEPS.into_iter().find(|step| self.seconds / step <= 13.0).unwrap_or(self.seconds / 10.0);
        let count = (self.seconds / step) as u32;
        (0..=count).map(|at| f64::from(at) * step).map(|second| (second, clock(second))).collect()
    }
}

/// Seconds as `4:05` or `1:04:05`.
pub(super) fn clock(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// Maps values to y.
#[derive(Clone, Copy)]
pub(super) enum Values {
    /// From zero to the top.
    Linear { max: f64 },
    /// From one power of ten to another.
    Log { min: f64, max: f64 },
}

impl Values {
    /// From zero to a round number that all values are below.
    pub(super) fn linear(values: impl Iterator<Item = f64>) -> Self {
        let largest = values.fold(1.0, f64::max);
        let unit = 10f64.powf(largest.log10().floor());
        let max = [1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 10.0].into_iter().map(|factor| factor * unit);
        Self::Linear { max: max.into_iter().find(|max| *max >= largest).unwrap_or(largest) }
    }

    /// From and to powers of ten that all values lie between.
    pub(super) fn log(values: impl Iterator<Item = f64>, least: f64) -> Self {
        let (mut low, mut high) = (f64::MAX, least);
        for value in values.filter(|value| *value > 0.0) {
            low = low.min(value);
            high = high.max(value);
        }
        let min = 10f64.powf(low.min(high).log10().floor());
        Self::Log { min, max: 10f64.powf(high.log10().ceil()).max(min * 10.0) }
    }

    /// The share of the way from the bottom to the top.
    pub(super) fn share(&self, value: f64) -> f64 {
        let share = match self {
            Self::Linear { max } => value / max,
            Self::Log { min, max } => (value.max(*min) / min).log10() / (max / min).log10(),
        };
        share.clamp(0.0, 1.0)
    }

    /// Values for grid lines.
    pub(super) fn ticks(&self) -> Vec<f64> {
        match self {
            Self::Linear { max } => (0..=4).map(|at| max * f64::from(at) / 4.0).collect(),
            Self::Log { min, max } => {
                let decades = (max / min).log10().round() as i32;
                let between: &[f64] = if decades <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let steps = (0..decades).flat_map(|decade| between.iter().map(move |step| (decade, step)));
                steps.map(|(decade, step)| min * 10f64.powi(decade) * step).chain([*max]).collect()
            }
        }
    }
}

/// 12345 as `12.3 k`.
pub(super) fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} M", trimmed(v / 1e6)),
        v if v >= 1e3 => format!("{} k", trimmed(v / 1e3)),
        v => trimmed(v),
    }
}

fn trimmed(value: f64) -> String {
    let text = if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") };
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}
