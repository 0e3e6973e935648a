//! I24: a term has one leader; an index has one entry once it was applied anywhere, and every later leader has it; nobody
//! applies what he does not have, or goes back.

use std::collections::BTreeMap;

use vltava_controller::{Position, QuorumView};
use vltava_model::DirectoryId;

use super::{Life, Verdict};
use crate::host::HostId;

/// See the module.
#[derive(Default)]
pub struct Quorum {
    /// Who led in a term: which machine, with which disk.
    leaders: BTreeMap<u64, (HostId, DirectoryId)>,
    /// The term of an entry that was applied, by its index.
    applied: BTreeMap<u64, u64>,
    /// The last index that was applied of each term.
    ends: BTreeMap<u64, u64>,
    last: BTreeMap<Life, QuorumView>,
    term: u64,
}

impl Quorum {
    /// The newest term that a controller was in.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// What a controller says of itself.
    pub fn look(&mut self, life: Life, directory: DirectoryId, view: QuorumView) -> Verdict {
        let before = self.last.insert(life, view);
        if before == Some(view) {
            return Ok(());
        }
        let host = life.host;
        self.term = self.term.max(view.term);
        if let Some(before) = before {
            if view.term < before.term {
                return Err(format!("I24: {host} went back from term {} to {}", before.term, view.term));
            }
            let index = |view: QuorumView| view.applied.map(|position| position.index);
            if index(view) < index(before) {
                return Err(format!("I24: {host} had applied {:?}, now {:?}", before.applied, view.applied));
            }
        }
        if let Some(position) = view.applied {
            self.apply(host, position, view.last_index)?;
        }
        if view.leads { self.lead(host, directory, view) } else { Ok(()) }
    }

    fn apply(&mut self, host: HostId, Position { term, index }: Position, last: Option<u64>) -> Verdict {
        if last.is_none_or(|last| last < index) {
            return Err(format!("I24: {host} applied entry {index}, its log ends at {last:?}"));
        }
        let known = *self.applied.entry(index).or_insert(term);
        if known != term {
            return Err(format!("I24: {host} applied entry {index} of term {term}, it was of term {known}"));
        }
        let end = self.ends.entry(term).or_insert(index);
        *end = index.max(*end);
        Ok(())
    }

    fn lead(&mut self, host: HostId, directory: DirectoryId, view: QuorumView) -> Verdict {
        let term = view.term;
        let known = *self.leaders.entry(term).or_insert((host, directory));
        if known != (host, directory) {
            return Err(format!("I24: {host} leads in term {term}, in which {} led", known.0));
        }
        let must_have = self.ends.range(..=term).map(|(_, end)| *end).max();
        if view.last_index < must_have {
            return Err(format!(
                "I24: {host} leads in term {term} with entries up to {:?}, {must_have:?} was applied",
                view.last_index
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(
        quorum: &mut Quorum,
        host: u64,
        start: u32,
        term: u64,
        leads: bool,
        last: u64,
        applied: (u64, u64),
    ) -> Verdict {
        let applied = Some(Position { term: applied.0, index: applied.1 });
        let view = QuorumView { term, leads, last_index: Some(last), applied };
        quorum.look(Life { host: HostId(host), start }, DirectoryId::new(host.into()), view)
    }

    #[test]
    fn each_rule_is_told_when_it_is_broken() {
        let mut quorum = Quorum::default();
        look(&mut quorum, 1, 1, 1, true, 5, (1, 4)).unwrap();
        look(&mut quorum, 2, 1, 1, false, 5, (1, 3)).unwrap();
        let told = |verdict: Verdict, words: &str| {
            let violation = verdict.unwrap_err();
            assert!(violation.contains(words), "{violation}");
        };
        told(look(&mut quorum, 2, 2, 1, true, 5, (1, 4)), "in which");
        told(look(&mut quorum, 2, 3, 2, true, 3, (1, 3)), "was applied");
        told(look(&mut quorum, 2, 4, 2, false, 5, (2, 4)), "it was of term 1");
        told(look(&mut quorum, 2, 5, 2, false, 3, (1, 4)), "its log ends");
        look(&mut quorum, 3, 1, 3, false, 5, (1, 4)).unwrap();
        told(look(&mut quorum, 3, 1, 2, false, 5, (1, 4)), "went back from term");
        told(look(&mut quorum, 3, 1, 3, false, 5, (1, 3)), "had applied");
        look(&mut quorum, 3, 2, 3, true, 5, (1, 3)).unwrap();
    }
}
