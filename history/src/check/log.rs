//! What consumers saw of one partition, offset by offset: one slot a record, in pages, so that a few wild offsets cost
//! little.

use std::collections::BTreeMap;

use crate::event::{ClientRef, Reading};

const PAGE: u64 = 1024;

/// A record, as far as its partition does not tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub producer: ClientRef,
    pub seq: u64,
}

/// What lies at one offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    Record(Identity),
    /// Something that does not belong there; told when it was read.
    Alien,
}

/// Who has read an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    /// Consumers beside the load only.
    Along,
    /// The final read, whoever else did.
    Final,
}

/// One offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub what: What,
    pub by: By,
    /// The event that told it first.
    pub event: u32,
}

/// One partition's offsets.
#[derive(Default)]
pub(super) struct Log {
    pages: BTreeMap<u64, Box<[Option<Slot>]>>,
}

/// An offset that showed two different records.
pub(super) struct Conflict {
    pub before: Identity,
    pub event: u32,
}

impl Log {
    /// Notes that `what` was read at `offset`; tells when another record was read there before.
    pub(super) fn see(&mut self, offset: u64, what: What, reading: Reading, event: u32) -> Option<Conflict> {
        let page =
            self.pages.entry(offset / PAGE).or_insert_with(|| vec![None; PAGE as usize].into_boxed_slice());
        let slot = &mut page[(offset % PAGE) as usize];
        let by = match reading {
            Reading::Along => By::Along,
            Reading::Final => By::Final,
        };
        let Some(known) = slot else {
            *slot = Some(Slot { what, by, event });
            return None;
        };
        let conflict = match (known.what, what) {
            (What::Record(before), What::Record(now)) if before != now => {
                Some(Conflict { before, event: known.event })
            }
            _ => None,
        };
        if by == By::Final {
            // What is there in the end is the truth by which the rest is measured.
            known.by = By::Final;
            if known.what != what {
                (known.what, known.event) = (what, event);
            }
        }
        conflict
    }

    /// What was read at an offset.
    pub(super) fn get(&self, offset: u64) -> Option<Slot> {
        self.pages.get(&(offset / PAGE))?[(offset % PAGE) as usize]
    }

    /// All offsets that were read, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Slot)> + '_ {
        self.pages.iter().flat_map(|(page, slots)| on_page(*page, slots))
    }

    /// All offsets that were read in `from..to`, ascending.
    pub(super) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, Slot)> + '_ {
        let pages = from / PAGE..=to.max(from) / PAGE;
        let slots = self.pages.range(pages).flat_map(|(page, slots)| on_page(*page, slots));
        slots.filter(move |(offset, _)| (from..to).contains(offset))
    }
}

fn on_page(page: u64, slots: &[Option<Slot>]) -> impl Iterator<Item = (u64, Slot)> + '_ {
    (page * PAGE..).zip(slots).filter_map(|(offset, slot)| slot.map(|slot| (offset, slot)))
}
