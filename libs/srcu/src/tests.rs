// SPDX-License-Identifier: BSD-2-Clause
//! Sequential properties.

extern crate std;
use crate::*;
use partita_papr::Gfn;
use proptest::prelude::*;
use std::vec::Vec;

fn slot(id: u16, base: u64, npages: u64, flags: SlotFlags) -> Slot {
    Slot {
        base: Gfn::new(base).unwrap(),
        npages,
        flags,
        page_shift: 16,
        id,
    }
}

fn gfn(n: u64) -> Gfn {
    Gfn::new(n).unwrap()
}

#[test]
fn fits_a_page() {
    assert_eq!(size_of::<Table>(), 3136);
    assert_eq!(size_of::<EpochWord>(), 64);
}

/// S3.1: a reader keeps its snapshot. S3.2: the writer learns who still reads.
#[test]
fn s3_1_s3_2_snapshot_and_drain() {
    let (table, epochs) = (Table::new(), [EpochWord::new(), EpochWord::new()]);
    let words = [&epochs[0], &epochs[1]];
    let writer = Writer::new(&table, &words);
    let (a, b) = (
        Reader::new(&table, &epochs[0]),
        Reader::new(&table, &epochs[1]),
    );
    writer.publish(&[slot(0, 0, 16, SlotFlags::NONE)]).unwrap();
    assert_eq!(writer.drained(), Drained::Done);

    let old = b.read();
    writer
        .publish(&[slot(0, 0, 16, SlotFlags::INVALID)])
        .unwrap();
    assert!(table.word() >> 63 == 1, "update in progress");
    assert_eq!(old.lookup(gfn(3), Policy::Instantiate).unwrap().id, 0);
    assert_eq!(writer.drained(), Drained::NotYet(1));
    assert_eq!(writer.publish(&[]), Err(PublishError::NotDrained(1)));
    let new = a.read();
    assert_eq!(new.lookup(gfn(3), Policy::Instantiate), None);
    drop(old);
    assert_eq!(
        writer.drained(),
        Drained::Done,
        "a reader of the newest one does not count"
    );
    assert!(table.word() >> 63 == 0);
    drop(new);
}

/// S3.6, S3.8: what was changed before a deletion is given up must not be lost.
#[test]
fn s3_6_s3_8_changes_are_logged_while_a_slot_is_invalid() {
    let table = Table::new();
    let epoch = EpochWord::new();
    let words = [&epoch];
    let writer = Writer::new(&table, &words);
    let reader = Reader::new(&table, &epoch);
    let logged = SlotFlags::LOG_DIRTY.with(SlotFlags::INVALID);
    writer
        .publish(&[slot(7, 4, 4, logged), slot(8, 8, 4, SlotFlags::NONE)])
        .unwrap();
    let guard = reader.read();
    assert!(guard.is_logged(gfn(4)) && guard.is_logged(gfn(7)));
    assert!(!guard.is_logged(gfn(8)) && !guard.is_logged(gfn(3)));
}

/// S3.6
#[test]
fn s3_6_invalid_blocks_instantiation_only() {
    let table = Table::new();
    let epoch = EpochWord::new();
    let words = [&epoch];
    let writer = Writer::new(&table, &words);
    let reader = Reader::new(&table, &epoch);
    writer
        .publish(&[slot(7, 4, 4, SlotFlags::INVALID)])
        .unwrap();
    let guard = reader.read();
    assert_eq!(guard.lookup(gfn(4), Policy::Instantiate), None);
    assert_eq!(guard.lookup(gfn(4), Policy::Destroy).unwrap().id, 7);
    assert_eq!(guard.lookup(gfn(8), Policy::Destroy), None);
    assert_eq!(guard.find(7).unwrap().npages, 4);
    assert_eq!(guard.find(6), None);
}

/// S3 list: a crashed reader must count as idle after its restart, or deletion hangs.
#[test]
fn s3_crashed_reader_is_idle_after_restart() {
    let (table, epoch) = (Table::new(), EpochWord::new());
    let words = [&epoch];
    let writer = Writer::new(&table, &words);
    let reader = Reader::new(&table, &epoch);
    core::mem::forget(reader.read());
    writer.publish(&[]).unwrap();
    assert_eq!(writer.drained(), Drained::NotYet(0));
    let _again = Reader::new(&table, &epoch);
    assert_eq!(writer.drained(), Drained::Done);
}

#[test]
fn nested_sections_end_with_the_outer_one() {
    let (table, epoch) = (Table::new(), EpochWord::new());
    let words = [&epoch];
    let writer = Writer::new(&table, &words);
    let reader = Reader::new(&table, &epoch);
    let outer = reader.read();
    drop(reader.read());
    writer.publish(&[]).unwrap();
    assert_eq!(writer.drained(), Drained::NotYet(0));
    drop(outer);
    assert_eq!(writer.drained(), Drained::Done);
}

#[test]
fn malformed_tables_are_not_published() {
    let table = Table::new();
    let writer = Writer::new(&table, &[]);
    let none = SlotFlags::NONE;
    for bad in [
        &[slot(0, 8, 8, none), slot(1, 0, 8, none)][..],
        &[slot(0, 0, 9, none), slot(1, 8, 8, none)],
        &[slot(0, 0, 0, none)],
        &[slot(0, 8, u64::MAX, none)],
        &[slot(0, (1 << 45) - 1, 2, none)],
    ] {
        assert_eq!(writer.publish(bad), Err(PublishError::Malformed));
    }
    let many: Vec<_> = (0..65).map(|i| slot(i, i as u64, 1, none)).collect();
    assert_eq!(writer.publish(&many), Err(PublishError::TooMany));
    assert_eq!(writer.generation(), 0);
    assert!(writer.publish(&many[..64]).is_ok());
    assert_eq!(writer.lookup(gfn(63), Policy::Instantiate).unwrap().id, 63);
}

#[test]
fn suits_wants_alignment_and_backing() {
    let s = slot(0, 16, 32, SlotFlags::NONE);
    assert!(s.suits(12) && s.suits(16) && !s.suits(21) && !s.suits(11) && !s.suits(80));
    assert!(!slot(0, 8, 32, SlotFlags::NONE).suits(16));
    assert!(!slot(0, 16, 24, SlotFlags::NONE).suits(16));
}

proptest! {
    /// S3 list, memslot_id: one look-up, equal to a linear search.
    #[test]
    fn lookup_is_linear_search(gaps in prop::collection::vec((1u64..5, 0u64..3, 0u8..8), 0..64), at in 0u64..400) {
        let mut base = 0;
        let mut slots = Vec::new();
        for (i, (npages, gap, flags)) in gaps.into_iter().enumerate() {
            base += gap;
            slots.push(slot(i as u16, base, npages, SlotFlags(flags)));
            base += npages;
        }
        let table = Table::new();
        let writer = Writer::new(&table, &[]);
        writer.publish(&slots).unwrap();
        let epoch = EpochWord::new();
        let reader = Reader::new(&table, &epoch);
        let guard = reader.read();
        let found = slots.iter().copied().find(|s| s.contains(gfn(at)));
        prop_assert_eq!(guard.lookup(gfn(at), Policy::Destroy), found);
        let usable = found.filter(|s| !s.flags.contains(SlotFlags::INVALID));
        prop_assert_eq!(guard.lookup(gfn(at), Policy::Instantiate), usable);
        prop_assert_eq!(guard.iter().collect::<Vec<_>>(), slots);
    }
}
