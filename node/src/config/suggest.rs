//! The nearest known name to one that was mistyped. Pure text; knows no properties.

/// The candidate that is nearest to `typed`, if one is near enough to be what was meant.
///
/// Near enough is an edit distance of at most a third of the name, or a candidate that differs only in its ending or
/// has the same words.
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_ascii_lowercase().replace(['_', '-'], ".");
    let limit = (typed.chars().count() / 3).max(1);
    let scored = candidates.into_iter().filter_map(|candidate| {
        let distance = distance(&typed, candidate);
        let near = distance <= limit || (typed.len() >= 4 && candidate.ends_with(&format!(".{typed}")));
        near.then_some((distance, candidate))
    });
    scored.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// How many characters must be inserted, dropped, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(a[i] != b[j]);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_name() {
        let names = ["broker.rack", "log.dirs", "node.id", "log.retention.ms", "log.retention.bytes"];
        assert_eq!(nearest("broker.rcak", names), Some("broker.rack"));
        assert_eq!(nearest("log.dir", names), Some("log.dirs"));
        assert_eq!(nearest("node_id", names), Some("node.id"));
        assert_eq!(nearest("retention.ms", names), Some("log.retention.ms"));
        assert_eq!(nearest("zookeeper.connect", names), None);
    }

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("acb", "abc"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
