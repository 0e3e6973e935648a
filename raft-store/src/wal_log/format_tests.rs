//! Every kind of record reads back, no changed bit goes unnoticed, and a newer format is told from damage.

use super::*;
use crate::testing::{position, stored, vote};

const SALT: u64 = 0x5a17;

fn records() -> Vec<Record> {
    vec![
        Record::Entry(stored(3, 7, 0)),
        Record::Entry(stored(3, 8, 300)),
        Record::Truncate { from: 8, last: Some(position(3, 7)) },
        Record::Purge(position(3, 5)),
        Record::Vote(vote(9)),
        Record::Vote(VoteRecord { term: 10, voted_for: None, committed: false }),
        Record::Committed(Some(position(3, 7))),
        Record::Committed(None),
        Record::Roll(FileNumber(4)),
    ]
}

fn header() -> FileHeader {
    let record = StateRecord { change: 8, chain: 77, vote: Some(vote(2)), ..StateRecord::default() };
    FileHeader { log_id: 5, number: FileNumber(3), capacity: 1 << 20, slot_bytes: 1024, state: record }
}

#[test]
fn groups_read_back() {
    let group = Group::new(SALT, 12, 99, &records());
    assert!(group.bytes.len().is_multiple_of(SECTOR_BYTES));
    assert_eq!(group.bytes.len() as u64, group.head.padded());
    assert_eq!(GroupHead::decode(&group.bytes, SALT), Some(group.head));
    assert_eq!(GroupHead::decode(&group.bytes, SALT + 1), None, "another file's");
    let views = group.head.records(&group.bytes[GROUP_HEAD_BYTES..]).unwrap();
    let read: Vec<_> = views.iter().map(|view| (view.change, view.place)).collect();
    assert_eq!(read, group.changes);
    assert_eq!(views[1].payload, stored(3, 8, 300).bytes);
    let lengths: usize = records().iter().map(Record::len).sum();
    assert_eq!(group.head.length as usize, lengths);
}

#[test]
fn no_changed_bit_and_no_cut_of_a_group_goes_unnoticed() {
    let group = Group::new(SALT, 12, 99, &records());
    let whole = GROUP_HEAD_BYTES + group.head.length as usize;
    let read = |bytes: &[u8]| {
        let head = GroupHead::decode(bytes, SALT)?;
        head.records(&bytes[GROUP_HEAD_BYTES..]).ok().map(|_| head)
    };
    for bit in 0..whole * 8 {
        let mut changed = group.bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(read(&changed), None, "bit {bit}");
    }
    for length in GROUP_HEAD_BYTES..whole {
        assert_eq!(read(&group.bytes[..length]), None, "cut to {length}");
    }
}

#[test]
fn an_unknown_kind_of_record_is_newer_and_not_damaged() {
    let mut bytes = vec![99, 0, 0, 0];
    bytes.extend_from_slice(&[0; 20]);
    let chain = chain(7, &bytes, &[]);
    bytes.extend_from_slice(&chain.to_le_bytes());
    let newer = Malformed::Newer { what: "kind of record", number: 99 };
    assert_eq!(read_record(&bytes, 7, 0), Err(newer));
    assert_eq!(read_record(&bytes, 8, 0), Err(Malformed::Damaged), "it continues something else");
}

#[test]
fn headers_read_back_and_no_changed_bit_goes_unnoticed() {
    let page = header().encode();
    assert_eq!(FileHeader::decode(&page), Ok(header()));
    for bit in 0..page.len() * 8 {
        let mut changed = page;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(FileHeader::decode(&changed), Err(Malformed::Damaged), "bit {bit}");
    }
    let mut newer = page;
    newer[8] = 2;
    let crc = crc32c::crc32c(&newer[..HEADER_BYTES - CRC_BYTES]);
    newer[HEADER_BYTES - CRC_BYTES..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(FileHeader::decode(&newer), Err(Malformed::Newer { what: "version", number: 2 }));
}

#[test]
fn slots_hold_what_fits() {
    let group = Group::new(SALT, 12, 99, &records());
    let whole = GROUP_HEAD_BYTES + group.head.length as usize;
    assert_eq!(SlotContent::of(&group.head, (SLOT_HEAD_BYTES + whole) as u32), SlotContent::Copy);
    assert_eq!(SlotContent::of(&group.head, (SLOT_HEAD_BYTES + whole) as u32 - 1), SlotContent::Proof);
    for (content, copy) in
        [(SlotContent::Copy, Some(group.bytes[..whole].to_vec())), (SlotContent::Proof, None)]
    {
        let mut slot = encode_slot(4096, &group.head, &group.bytes, content);
        let expected = Slot { position: 4096, head: group.head, group: copy };
        assert_eq!(decode_slot(&slot, SALT), Some(expected));
        assert_eq!(decode_slot(&slot, SALT + 1), None);
        for bit in 0..slot.len() * 8 {
            slot[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_slot(&slot, SALT), None, "bit {bit}");
            slot[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn every_file_has_a_salt_of_its_own() {
    let salt = |log_id, number| FileHeader { log_id, number: FileNumber(number), ..header() }.salt();
    let mut salts: Vec<u64> = (0..50).flat_map(|id| (1..50).map(move |number| salt(id, number))).collect();
    salts.sort_unstable();
    salts.dedup();
    assert_eq!(salts.len(), 50 * 49);
}
