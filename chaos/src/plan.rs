//! What will happen when: drawn from the seed before anything begins, so that a run can be had again.
//!
//! Times and kinds are the seed's alone; whom a strike finds when its time comes also depends on what the cluster did.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::faults::{KINDS, Kind};

/// One fault to come.
#[derive(Clone, Copy)]
pub struct Strike {
    /// When, after the start.
    pub at: Duration,
    /// What.
    pub kind: &'static Kind,
    /// For how long.
    pub lasts: Duration,
    /// What its own choices are drawn from.
    pub seed: u64,
}

/// What a plan is drawn from.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Everything is drawn from it.
    pub seed: u64,
    /// For how long faults come.
    pub span: Duration,
    /// The mean time from one fault to the next.
    pub every: Duration,
    /// Only these kinds, if any is named.
    pub only: Vec<String>,
    /// Besides, these kinds that come only on demand.
    pub also: Vec<String>,
    /// Whether disks can fail and forget.
    pub lossy: bool,
}

/// Before the first fault.
const QUIET_BEGIN: Duration = Duration::from_secs(3);
/// Storms last so long, in milliseconds, and calms between them.
const STORM_MS: (u64, u64) = (15_000, 50_000);
const CALM_MS: (u64, u64) = (3_000, 9_000);

impl Wishes {
    fn wants(&self, kind: &Kind) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == kind.name);
        let possible = self.lossy || !kind.lossy;
        let wanted =
            if self.only.is_empty() { !kind.on_demand || named(&self.also) } else { named(&self.only) };
        possible && wanted
    }

    /// The kinds that this run has.
    pub fn kinds(&self) -> Vec<&'static Kind> {
        KINDS.iter().filter(|kind| self.wants(kind)).collect()
    }
}

fn between(range: (u64, u64), rng: &mut StdRng) -> Duration {
    Duration::from_millis(rng.random_range(range.0..=range.1))
}

/// Draws a plan; in order of time. Empty when no kind is wanted.
pub fn draw(wishes: &Wishes) -> Vec<Strike> {
    let mut rng = StdRng::seed_from_u64(wishes.seed);
    let kinds = wishes.kinds();
    let weights: u32 = kinds.iter().map(|kind| kind.weight).sum();
    let mut plan = Vec::new();
    if weights == 0 {
        return plan;
    }
    let mut at = QUIET_BEGIN;
    let mut calm_at = at + between(STORM_MS, &mut rng);
    while at < wishes.span {
        let mut drawn = rng.random_range(0..weights);
        let kind = kinds.iter().find(|kind| match drawn.checked_sub(kind.weight) {
            Some(rest) => {
                drawn = rest;
                false
            }
            None => true,
        });
        if let Some(&kind) = kind {
            plan.push(Strike { at, kind, lasts: between(kind.lasts_ms, &mut rng), seed: rng.next_u64() });
        }
        // Exponential gaps: sometimes several at once, sometimes none for long.
        let gap = -f64::ln(1.0 - rng.random::<f64>());
        at += wishes.every.mul_f64(gap.min(4.0));
        if at > calm_at {
            at += between(CALM_MS, &mut rng);
            calm_at = at + between(STORM_MS, &mut rng);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(seed: u64) -> Wishes {
        Wishes {
            seed,
            span: Duration::from_secs(600),
            every: Duration::from_secs(3),
            only: Vec::new(),
            also: Vec::new(),
            lossy: true,
        }
    }

    fn words(wishes: &Wishes) -> Vec<(Duration, &'static str, Duration, u64)> {
        draw(wishes).iter().map(|s| (s.at, s.kind.name, s.lasts, s.seed)).collect()
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_does_not() {
        assert_eq!(words(&wishes(7)), words(&wishes(7)));
        assert_ne!(words(&wishes(7)), words(&wishes(8)));
    }

    #[test]
    fn ten_minutes_have_every_kind_but_those_on_demand() {
        let drawn = words(&wishes(1));
        assert!((120..300).contains(&drawn.len()), "{} strikes", drawn.len());
        for kind in KINDS {
            let comes = drawn.iter().any(|(_, name, _, _)| *name == kind.name);
            assert_eq!(comes, !kind.on_demand, "{}", kind.name);
        }
    }

    #[test]
    fn wishes_are_kept() {
        let none_lossy = Wishes { lossy: false, ..wishes(1) };
        assert!(draw(&none_lossy).iter().all(|strike| !strike.kind.lossy));
        let only = Wishes { only: vec!["kill".to_owned()], ..wishes(1) };
        assert!(draw(&only).iter().all(|strike| strike.kind.name == "kill"));
        let also = Wishes { also: vec!["bit-flip".to_owned()], ..wishes(1) };
        assert!(draw(&also).iter().any(|strike| strike.kind.name == "bit-flip"));
    }
}
