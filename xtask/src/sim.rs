//! Which build of the simulator a run is worth. What the simulator's other arguments mean is not known here.

/// A search of so many seeds saves the processor time that its quicker build costs more: see docs/reliability.md.
const MANY_SEEDS: u64 = 1000;

/// The profile for a simulator with these arguments.
pub fn profile(mut args: impl Iterator<Item = String>) -> &'static str {
    let seeds = args.find(|arg| arg == "--seeds").and_then(|_| args.next()?.parse().ok());
    if seeds.is_some_and(|seeds: u64| seeds >= MANY_SEEDS) { "search" } else { "sim" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_many_seeds_are_worth_the_longer_build() {
        let of = |args: &str| profile(args.split_whitespace().map(str::to_owned));
        assert_eq!(of("--seed 1000"), "sim");
        assert_eq!(of("--seeds 999 --from 30000"), "sim");
        assert_eq!(of("--from 7 --seeds 1000 --jobs 2"), "search");
        assert_eq!(of("--seeds"), "sim");
        assert_eq!(of("--seeds many"), "sim");
    }
}
