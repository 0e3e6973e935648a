//! The known name that is nearest to one that was mistyped. Knows no configs.

/// Names from anywhere are not compared beyond this length: the effort grows with the product of both.
const MAX_LEN: usize = 100;

/// The candidate that differs least from `name`, if no more than a third of it, or two characters, differ.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_LEN {
        return None;
    }
    let allowed = (name.len() / 3).max(2);
    candidates
        .into_iter()
        .map(|candidate| (distance(name.as_bytes(), candidate.as_bytes()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many bytes must be inserted, removed or replaced to make `b` of `a`.
fn distance(a: &[u8], b: &[u8]) -> usize {
    // The distances of what was seen of `a` to every beginning of `b`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_single_changes() {
        for (a, b, expected) in [("", "", 0), ("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), expected);
            assert_eq!(distance(b.as_bytes(), a.as_bytes()), expected);
        }
    }

    #[test]
    fn what_is_too_far_or_too_long_has_no_nearest() {
        assert_eq!(nearest("retention.m", ["retention.ms", "segment.ms"]), Some("retention.ms"));
        assert_eq!(nearest("colour", ["retention.ms"]), None);
        assert_eq!(nearest(&"r".repeat(1 << 20), ["retention.ms"]), None);
    }
}
