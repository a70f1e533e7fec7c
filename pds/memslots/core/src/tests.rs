// SPDX-License-Identifier: BSD-2-Clause
//! Tests on a model of the kernel.

extern crate std;

use crate::*;
use partita_srcu::{EpochWord, Reader, SlotFlags, Table};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::{vec, vec::Vec};

const MIB: u64 = 1 << 20;

/// The GSpace and the frames' contents (one byte stands for each 4 KiB).
#[derive(Debug, Default)]
pub(crate) struct Fake {
    gspace: BTreeMap<u64, (Frame, bool)>,
    pinned: BTreeSet<u64>,
    contents: BTreeMap<(Frame, u64), u8>,
    zeroed: u64,
    destroyed: u64,
    map_fails: bool,
    unmap_fails: bool,
    prepare_fails: bool,
    window_fails: bool,
}

impl Kernel for &mut Fake {
    fn map(&mut self, gfn: Gfn, frame: Frame, writable: bool) -> Result<(), KernelFailed> {
        if self.map_fails {
            return Err(KernelFailed);
        }
        assert_eq!(gfn.get() % frame.size.pages(), 0, "aligned");
        for (other, (held, _)) in &self.gspace {
            assert_ne!(*held, frame, "one frame, two places");
            let apart =
                *other + held.size.pages() <= gfn.get() || gfn.get() + frame.size.pages() <= *other;
            assert!(apart, "two frames, one place");
        }
        self.gspace.insert(gfn.get(), (frame, writable));
        Ok(())
    }

    fn unmap(&mut self, gfn: Gfn, frame: Frame) -> Result<(), UnmapError> {
        if self.unmap_fails {
            return Err(UnmapError::Failed);
        }
        if self.pinned.contains(&gfn.get()) {
            return Err(UnmapError::Pinned);
        }
        let (held, _) = self.gspace.remove(&gfn.get()).expect("was mapped");
        assert_eq!(held, frame);
        Ok(())
    }

    fn destroy(&mut self, frame: Frame) -> Result<(), KernelFailed> {
        self.gspace.retain(|_, (held, _)| *held != frame);
        self.destroyed += 1;
        self.zero(frame, 0, frame.size.bytes())
    }

    fn prepare(&mut self, frame: Frame) -> Result<(), KernelFailed> {
        if self.prepare_fails {
            return Err(KernelFailed);
        }
        for (held, _) in self.gspace.values() {
            assert_ne!(*held, frame, "a frame in use is given out");
        }
        self.zero(frame, 0, frame.size.bytes())
    }

    fn zero(&mut self, frame: Frame, offset: u64, length: u64) -> Result<(), KernelFailed> {
        assert!(offset + length <= frame.size.bytes());
        self.zeroed += length;
        self.contents
            .retain(|(f, at), _| *f != frame || *at < offset || *at >= offset + length);
        Ok(())
    }

    fn copy(&mut self, to: (Frame, u64), from: (Frame, u64)) -> Result<(), KernelFailed> {
        if self.window_fails {
            return Err(KernelFailed);
        }
        match self.contents.get(&from).copied() {
            Some(byte) => self.contents.insert(to, byte),
            None => self.contents.remove(&to),
        };
        Ok(())
    }

    fn write(&mut self, frame: Frame, offset: u64, bytes: &[u8]) -> Result<(), KernelFailed> {
        if self.window_fails {
            return Err(KernelFailed);
        }
        assert!(offset + bytes.len() as u64 <= frame.size.bytes());
        self.contents.insert((frame, offset & !0xfff), bytes[0]);
        Ok(())
    }
}

/// What the arrays of a server live in.
struct Memory {
    table: Table,
    epoch: EpochWord,
    frames: [Vec<u32>; 3],
    words: Vec<PageWord>,
}

impl Memory {
    fn new(frames: [usize; 3], words: usize) -> Self {
        Memory {
            table: Table::new(),
            epoch: EpochWord::new(),
            frames: frames.map(|n| vec![0; n]),
            words: vec![PageWord::FREE; words],
        }
    }
}

pub(crate) fn with(
    frames: [usize; 3],
    words: usize,
    ram_shift: u32,
    test: impl FnOnce(&mut MemSlots<'_, &mut Fake>, &Reader<'_>),
) {
    let mut memory = Memory::new(frames, words);
    let mut fake = Fake::default();
    let readers = [&memory.epoch];
    let reader = Reader::new(&memory.table, &memory.epoch);
    let [small, medium, large] = &mut memory.frames;
    let pool = Pool::new(small, medium, large, true);
    let writer = Writer::new(&memory.table, &readers);
    let mut server = MemSlots::new(&mut fake, writer, pool, &mut memory.words, ram_shift);
    test(&mut server, &reader);
    check(&server);
}

/// Exact accounting, and that the GSpace holds what the words say.
fn check(server: &MemSlots<'_, &mut Fake>) {
    let stats = server.stats();
    let mut used = [0u64; 3];
    let mut mapped = BTreeMap::new();
    for region in &server.regions {
        for number in 0..region.words.1 {
            let (gfn, frame, word) = server.page(region, number);
            if let Some(frame) = frame {
                if !word.is_foreign() {
                    used[frame.size as usize] += 1;
                }
                if word.is_mapped() {
                    mapped.insert(gfn.unwrap().get(), frame);
                }
            }
        }
    }
    for (i, pool) in stats.frames.iter().enumerate() {
        assert_eq!(pool.free + used[i], pool.total, "frames of size {i}");
    }
    let gspace: BTreeMap<_, _> = server
        .kernel
        .gspace
        .iter()
        .map(|(g, (f, _))| (*g, *f))
        .collect();
    // While a slot moves its pages are out of the GSpace, so bases agree whenever any is mapped.
    assert_eq!(gspace, mapped);
    assert_eq!(stats.mapped, mapped.len() as u64);
    // A word of no region is free: a new slot finds nothing of an old one (S2.3).
    let mut owned = vec![false; server.words.len()];
    for region in &server.regions {
        owned[region.words.0..region.words.0 + region.words.1].fill(true);
    }
    assert!(
        server
            .words
            .iter()
            .zip(owned)
            .all(|(word, owned)| owned || *word == PageWord::FREE)
    );
}

fn gfn(n: u64) -> Gfn {
    Gfn::new(n).unwrap()
}

fn finish(server: &mut MemSlots<'_, &mut Fake>) -> Vec<Step> {
    let mut steps = Vec::new();
    loop {
        steps.push(server.advance().unwrap());
        if matches!(steps.last(), Some(Step::Done | Step::Restored)) {
            return steps;
        }
        assert!(steps.len() < 10_000);
    }
}

/// S2.1, S2.5 to S2.7, S2.9: nothing is taken until a page is asked for, then it is taken once.
#[test]
fn s2_1_s2_7_pages_come_when_needed() {
    with([0, 64, 8], 1024, 12, |server, _| {
        assert_eq!(server.set_region(0, 0, 4 * MIB, 0), Ok(Step::Done));
        assert_eq!(server.stats().held, 0);
        assert_eq!(
            server.slot(0).unwrap().page_shift,
            21,
            "large frames where they fit"
        );
        assert_eq!(server.request(gfn(0x1ff), 12, true), Answer::Ready);
        assert_eq!(server.request(gfn(0x1f0), 16, true), Answer::Ready);
        let stats = server.stats();
        assert_eq!((stats.held, stats.mapped, stats.frames[2].free), (1, 1, 7));
        assert_eq!(stats.frames[2].committed, 2);
        assert_eq!(
            server.kernel.zeroed,
            2 * MIB,
            "zeroed when handed out, once"
        );
        assert_eq!(
            server.request(gfn(0x1ff), 21, true),
            Answer::Refused,
            "not its first page"
        );
        assert_eq!(
            server.request(gfn(0), 24, true),
            Answer::Refused,
            "larger than its pieces"
        );
        assert_eq!(
            server.request(gfn(0x400), 12, true),
            Answer::Refused,
            "no slot"
        );
    });
}

/// S2.2 and the S3 list: everything that a region may not be.
#[test]
fn s2_2_s3_checks() {
    with([64, 64, 8], 64, 16, |server, _| {
        let kib64 = 1 << 16;
        assert_eq!(
            server.set_region(0, 0x1000, kib64, 0),
            Err(Error::Alignment)
        );
        assert_eq!(server.set_region(0, 0, 0x1000, 0), Err(Error::Alignment));
        assert_eq!(server.set_region(0, !0xffff, kib64, 0), Err(Error::Range));
        assert_eq!(
            server.set_region(0, (1 << 57) - kib64, 2 * kib64, 0),
            Err(Error::Range)
        );
        assert_eq!(
            server.set_region(0, u64::MAX << 17, 1 << 63, 0),
            Err(Error::Range)
        );
        assert_eq!(
            server.set_region(0, 0, kib64, 1),
            Err(Error::Flags),
            "INVALID is not theirs"
        );
        assert_eq!(server.set_region(0, 0, kib64, 8), Err(Error::Flags));
        assert_eq!(
            server.set_region(0, 0, 0, 0),
            Err(Error::NoSlot),
            "never created"
        );
        assert_eq!(
            server.set_region(0, 0, 65 * kib64, 0),
            Err(Error::NoPageWords)
        );
        assert_eq!(server.set_region(0, 0, 2 * kib64, 0), Ok(Step::Done));
        assert_eq!(
            server.set_region(0, 0, 2 * kib64, 0),
            Ok(Step::Done),
            "no change"
        );
        assert_eq!(server.set_region(0, 0, kib64, 0), Err(Error::Changed));
        assert_eq!(server.set_region(0, 0, 2 * kib64, 2), Err(Error::Changed));
        assert_eq!(
            server.set_region(1, kib64, kib64, 0),
            Err(Error::Overlap(0))
        );
        server.set_region(40, 8 * kib64, kib64, 0).unwrap();
        assert_eq!(
            server.set_region(1, 4 * kib64, 8 * kib64, 0),
            Err(Error::Overlap(40))
        );
        assert_eq!(
            server.set_region(1, 8 * kib64, kib64, 0),
            Err(Error::Overlap(40))
        );
        server.set_region(40, 0, 0, 0).unwrap();
        finish(server);
        assert_eq!(server.advance(), Err(Error::NoChange));
        assert_eq!(server.abort(), Err(Error::NoChange));
        for id in 1..33 {
            server
                .set_region(id, id as u64 * 2 * kib64, kib64, 0)
                .unwrap();
        }
        assert_eq!(server.lookup(gfn(0x20), Policy::Instantiate).unwrap().id, 1);
        assert_eq!(server.lookup(gfn(0x30), Policy::Destroy), None);
    });
    with([0, 128, 0], 128, 16, |server, _| {
        for id in 0..64 {
            server
                .set_region(id, (id as u64) << 16, 1 << 16, 0)
                .unwrap();
        }
        assert_eq!(
            server.set_region(64, 64 << 16, 1 << 16, 0),
            Err(Error::TooManySlots)
        );
    });
}

/// S3.5, S3.6, S3.11, S2.10, S2.11: deletion, with a reader and a pin in the way.
#[test]
fn s3_5_s3_11_two_step_deletion() {
    with([0, 200, 0], 200, 16, |server, reader| {
        server.set_region(3, 0, 200 << 16, 0).unwrap();
        for page in 0..150 {
            assert_eq!(server.request(gfn(page * 16), 16, true), Answer::Ready);
        }
        let old = reader.read();
        assert_eq!(
            server.set_region(3, 0, 0, 0),
            Ok(Step::NotYet(Waiting::Reader(0)))
        );
        assert_eq!(server.changing(), Some(3));
        assert_eq!(
            server.request(gfn(0), 12, true),
            Answer::Refused,
            "S3.6: no new uses"
        );
        assert!(server.lookup(gfn(0), Policy::Destroy).is_some());
        assert_eq!(
            server.set_region(4, 1 << 30, 1 << 16, 0),
            Err(Error::InProgress)
        );
        assert_eq!(server.advance(), Ok(Step::NotYet(Waiting::Reader(0))));
        drop(old);
        assert_eq!(
            server.advance(),
            Ok(Step::Flush {
                first: gfn(0),
                end: 3200
            })
        );
        server.kernel.pinned.insert(16);
        assert_eq!(server.advance(), Ok(Step::NotYet(Waiting::Pinned(gfn(16)))));
        assert_eq!(
            server.stats().held,
            150,
            "no frame goes before the removal is published"
        );
        server.kernel.pinned.clear();
        let steps = finish(server);
        assert!(steps.len() > 4, "at most {BATCH} pages a call: {steps:?}");
        let stats = server.stats();
        assert_eq!((stats.slots, stats.held, stats.frames[1].free), (0, 0, 200));
        assert_eq!(stats.frames[1].committed, 0);
        assert_eq!(reader.read().lookup(gfn(0), Policy::Destroy), None);
        // The frames go to another slot without what was in them.
        assert_eq!(server.set_region(3, 0, 200 << 16, 0), Ok(Step::Done));
    });
}

/// S3.5: frames are not given back while a reader still sees the INVALID slot.
#[test]
fn s3_11_frames_wait_for_the_second_drain() {
    with([0, 4, 0], 4, 16, |server, reader| {
        server.set_region(0, 0, 4 << 16, 0).unwrap();
        server.request(gfn(0), 12, true);
        server.set_region(0, 0, 0, 0).unwrap();
        let invalid = reader.read();
        assert!(invalid.lookup(gfn(0), Policy::Destroy).is_some());
        assert_eq!(server.advance(), Ok(Step::NotYet(Waiting::Reader(0))));
        assert_eq!(
            server.abort(),
            Err(Error::NoChange),
            "the removal is published"
        );
        assert_eq!(server.stats().held, 1);
        drop(invalid);
        finish(server);
        assert_eq!(server.stats().held, 0);
    });
}

/// S3 list: a failure after the first step restores the original, with its contents.
#[test]
fn s3_abort_restores_the_original() {
    with([0, 4, 0], 4, 16, |server, reader| {
        server.set_region(0, 0, 4 << 16, 0).unwrap();
        assert_eq!(server.load(0x1_0ffc, &[7; 8]), Answer::Ready);
        server.request(gfn(0), 12, true);
        let before = server.kernel.contents.clone();
        assert!(matches!(
            server.set_region(0, 0, 0, 0),
            Ok(Step::Flush { .. })
        ));
        server.kernel.unmap_fails = true;
        assert_eq!(server.advance(), Ok(Step::NotYet(Waiting::Failed)));
        server.kernel.unmap_fails = false;
        server.kernel.pinned.insert(16);
        assert_eq!(server.advance(), Ok(Step::NotYet(Waiting::Pinned(gfn(16)))));
        let held = reader.read();
        assert_eq!(server.abort(), Ok(Step::NotYet(Waiting::Reader(0))));
        drop(held);
        assert_eq!(finish(server).pop(), Some(Step::Restored));
        assert_eq!(server.request(gfn(0), 12, true), Answer::Ready);
        assert_eq!(server.kernel.contents, before, "nothing was zeroed");
        assert_eq!(
            reader
                .read()
                .lookup(gfn(0), Policy::Instantiate)
                .unwrap()
                .id,
            0
        );
    });
}

/// S3 list: a move takes the INVALID step too and keeps the contents.
#[test]
fn s3_move_keeps_contents() {
    with([0, 8, 0], 8, 16, |server, _| {
        server.set_region(0, 0, 4 << 16, 4).unwrap();
        server.load(0x1_2000, &[9]);
        let before = server.kernel.contents.clone();
        let step = server.set_region(0, 2 << 16, 4 << 16, 4);
        assert_eq!(
            step,
            Ok(Step::Flush {
                first: gfn(0),
                end: 64
            })
        );
        assert_eq!(finish(server), [Step::Done]);
        assert_eq!(server.request(gfn(0x12), 12, true), Answer::Refused);
        assert_eq!(server.request(gfn(0x32), 12, true), Answer::Ready);
        assert_eq!(server.kernel.contents, before);
        assert_eq!(
            server.kernel.gspace.keys().copied().collect::<Vec<_>>(),
            [0x30]
        );
        assert_eq!(
            server.set_region(1, 0, 2 << 16, 0),
            Ok(Step::Done),
            "the old place is free"
        );
        assert_eq!(
            server.set_region(0, 1 << 16, 4 << 16, 4),
            Err(Error::Overlap(1))
        );
    });
}

/// S3.4, S3.8: flags change in one step, pages stay where they are.
#[test]
fn s3_4_flags_in_one_step() {
    with([0, 8, 0], 8, 16, |server, reader| {
        server.set_region(0, 0, 4 << 16, 0).unwrap();
        server.request(gfn(0), 12, true);
        let held = reader.read();
        assert_eq!(
            server.set_region(0, 0, 4 << 16, 4),
            Ok(Step::NotYet(Waiting::Reader(0)))
        );
        drop(held);
        assert_eq!(server.advance(), Ok(Step::Done));
        assert!(server.slot(0).unwrap().flags.contains(SlotFlags::LOG_DIRTY));
        assert_eq!(server.stats().mapped, 1);
    });
}

#[test]
fn read_only_slots() {
    with([0, 8, 0], 8, 16, |server, _| {
        server.set_region(0, 0, 1 << 16, 2).unwrap();
        assert_eq!(server.load(4, b"rom"), Answer::Ready);
        assert_eq!(server.request(gfn(0), 12, false), Answer::Ready);
        assert!(
            !server.kernel.gspace[&0].1,
            "mapped without the right to write"
        );
        assert_eq!(server.request(gfn(0), 12, true), Answer::Refused);
        assert_eq!(server.zero(gfn(0), 12), Answer::Refused);
        assert_eq!(server.copy(gfn(0), gfn(0)), Answer::Refused);
    });
}

/// S2.6, S2.7: a page that cannot be had leaves nothing behind.
#[test]
fn s2_6_failures_leave_nothing() {
    with([0, 1, 0], 8, 16, |server, _| {
        server.set_region(0, 0, 4 << 16, 0).unwrap();
        server.kernel.map_fails = true;
        assert_eq!(server.request(gfn(0), 12, true), Answer::Refused);
        assert_eq!(server.stats().frames[1].free, 1);
        server.kernel.map_fails = false;
        server.kernel.prepare_fails = true;
        assert_eq!(server.request(gfn(0), 12, true), Answer::Refused);
        assert_eq!(server.stats().frames[1].free, 1);
        server.kernel.prepare_fails = false;
        assert_eq!(server.request(gfn(0), 12, true), Answer::Ready);
        server.kernel.window_fails = true;
        assert_eq!(server.load(0, &[1]), Answer::Refused);
        assert_eq!(server.copy(gfn(1), gfn(0)), Answer::Refused);
        server.kernel.window_fails = false;
        assert_eq!(
            server.request(gfn(16), 12, true),
            Answer::Refused,
            "no frame left"
        );
        assert_eq!(
            server.load(0xfff0, &[1; 32]),
            Answer::Refused,
            "the second page is missing"
        );
        assert_eq!(server.load(u64::MAX - 4, &[1; 32]), Answer::Refused);
    });
}

/// S2.9, S2.15: frames of the caller's are used and not given to the pool.
#[test]
fn s2_9_s2_15_foreign_frames() {
    with([0, 4, 0], 8, 16, |server, _| {
        server.set_region(0, 0, 4 << 16, 0).unwrap();
        assert_eq!(server.prefill(0, 100), Ok(()));
        assert_eq!(server.prefill(0, 100), Err(Error::Changed));
        assert_eq!(server.prefill(1, 100), Err(Error::NoSlot));
        assert_eq!(server.request(gfn(16), 12, true), Answer::Ready);
        assert_eq!(server.kernel.gspace[&16].0.index, 101);
        assert_eq!(
            (server.stats().foreign, server.stats().frames[1].free),
            (4, 4)
        );
        // A frame of the pool's is in use meanwhile, so that it has room for one too many.
        server.set_region(1, 1 << 20, 1 << 16, 0).unwrap();
        assert_eq!(server.request(gfn(0x100), 12, true), Answer::Ready);
        server.set_region(0, 0, 0, 0).unwrap();
        finish(server);
        assert_eq!(server.stats().frames[1].free, 3);
    });
}

/// DESIGN 5: a page goes by BUSY, flush, unmap.
#[test]
fn reclaim() {
    with([4, 0, 0], 8, 12, |server, _| {
        server.set_region(0, 0, 4 << 12, 0).unwrap();
        server.request(gfn(2), 12, true);
        assert_eq!(server.reclaim_finish(gfn(2)), Err(Error::NoChange));
        assert_eq!(server.reclaim_begin(gfn(2)), Ok((gfn(2), 3)));
        assert_eq!(server.request(gfn(2), 12, true), Answer::Busy);
        assert_eq!(server.zero(gfn(2), 12), Answer::Busy);
        server.kernel.pinned.insert(2);
        assert_eq!(
            server.reclaim_finish(gfn(2)),
            Ok(Step::NotYet(Waiting::Pinned(gfn(2))))
        );
        server.kernel.pinned.clear();
        assert_eq!(server.reclaim_finish(gfn(2)), Ok(Step::Done));
        assert_eq!((server.stats().busy, server.stats().frames[0].free), (0, 4));
        assert_eq!(
            server.reclaim_begin(gfn(3)),
            Ok((gfn(3), 4)),
            "also one without a frame"
        );
        assert_eq!(server.reclaim_cancel(gfn(3)), Ok(()));
        assert_eq!(server.request(gfn(3), 12, true), Answer::Ready);
        assert_eq!(server.reclaim_begin(gfn(9)), Err(Error::NoSlot));
    });
}

/// H_PAGE_INIT's side.
#[test]
fn zero_and_copy() {
    with([4, 0, 0], 8, 12, |server, _| {
        server.set_region(0, 0, 4 << 12, 0).unwrap();
        server.load(0x1008, &[5]);
        assert_eq!(server.copy(gfn(2), gfn(1)), Answer::Ready);
        let at = |server: &MemSlots<'_, &mut Fake>, page: u64| {
            let frame = server.kernel.gspace[&page].0;
            server.kernel.contents.get(&(frame, 0)).copied()
        };
        assert_eq!(at(server, 2), Some(5));
        assert_eq!(server.zero(gfn(1), 12), Answer::Ready);
        assert_eq!((at(server, 1), at(server, 2)), (None, Some(5)));
        assert_eq!(
            server.copy(gfn(2), gfn(3)),
            Answer::Ready,
            "a page that nobody has touched"
        );
        assert_eq!(at(server, 2), None);
        assert_eq!(server.copy(gfn(2), gfn(4)), Answer::Refused);
    });
}

/// Frames of a smaller size are chosen when there are too few large ones.
#[test]
fn frame_size_follows_alignment_and_pool() {
    with([64, 64, 2], 4096, 12, |server, _| {
        let shift = |server: &mut MemSlots<'_, &mut Fake>, id, base, size| {
            server.set_region(id, base, size, 0).unwrap();
            server.slot(id).unwrap().page_shift
        };
        assert_eq!(shift(server, 0, 0, 2 * MIB), 21);
        assert_eq!(
            shift(server, 1, 32 * MIB, 4 * MIB),
            16,
            "one large frame is promised"
        );
        assert_eq!(shift(server, 2, 64 * MIB + 0x1000, 0x3000), 12);
        assert_eq!(
            shift(server, 3, 128 * MIB, 512 * MIB),
            21,
            "nothing suffices: the largest"
        );
    });
}

#[derive(Clone, Debug)]
enum Op {
    Set(u16, u64, u64, u8),
    Advance,
    Abort,
    Request(u64, u32, bool),
    Zero(u64),
    Load(u64, u8),
    ReclaimBegin(u64),
    ReclaimFinish(u64),
    Pin(u64),
    Unpin,
    Enter,
    Leave,
    MapFails(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let page = 0u64..80;
    prop_oneof![
        6 => (0u16..4, 0u64..5, 0u64..3, prop::sample::select(vec![0u8, 0, 2, 4]))
            .prop_map(|(id, base, size, flags)| Op::Set(id, base << 16, size << 16, flags)),
        12 => Just(Op::Advance),
        1 => Just(Op::Abort),
        8 => (page.clone(), prop::sample::select(vec![12u32, 16, 21]), any::<bool>())
            .prop_map(|(p, s, w)| Op::Request(p, s, w)),
        1 => page.clone().prop_map(Op::Zero),
        3 => (page.clone(), 1u8..).prop_map(|(p, b)| Op::Load(p, b)),
        1 => page.clone().prop_map(Op::ReclaimBegin),
        1 => page.clone().prop_map(Op::ReclaimFinish),
        1 => page.prop_map(Op::Pin),
        2 => Just(Op::Unpin),
        2 => Just(Op::Enter),
        3 => Just(Op::Leave),
        1 => any::<bool>().prop_map(Op::MapFails),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// S2, S3: any sequence keeps the accounts exact, never shows a slot's memory to another, and
    /// never takes anything from under a reader or a pin.
    #[test]
    fn any_sequence(ops in prop::collection::vec(op(), 1..120)) {
        with([0, 6, 0], 12, 16, |server, reader| {
            let mut guard = None;
            // What the guest should read from each page of each slot.
            let mut expected: BTreeMap<(u16, u64), u8> = BTreeMap::new();
            for op in ops {
                match op {
                    Op::Set(id, base, size, flags) => {
                        let existed = server.slot(id).is_some();
                        let result = server.set_region(id, base, size, flags);
                        if size == 0 && !existed {
                            assert!(result.is_err());
                        }
                    }
                    Op::Advance => {
                        let before = server.changing();
                        if let Ok(Step::Done) = server.advance()
                            && let Some(id) = before
                            && server.slot(id).is_none()
                        {
                            expected.retain(|(slot, _), _| *slot != id);
                        }
                    }
                    Op::Abort => {
                        let _refused = server.abort();
                    }
                    Op::Request(page, shift, write) => {
                        let answer = server.request(gfn(page), shift, write);
                        let slot = server.lookup(gfn(page), Policy::Instantiate);
                        if slot.is_none() || shift == 21 {
                            assert_eq!(answer, Answer::Refused);
                        }
                    }
                    Op::Zero(page) => {
                        if server.zero(gfn(page), 12) == Answer::Ready {
                            let slot = server.lookup(gfn(page), Policy::Instantiate).unwrap();
                            expected.remove(&(slot.id, page - slot.base.get()));
                        }
                    }
                    Op::Load(page, byte) => {
                        if server.load(page << 12, &[byte]) == Answer::Ready {
                            let slot = server.lookup(gfn(page), Policy::Instantiate).unwrap();
                            expected.insert((slot.id, page - slot.base.get()), byte);
                        }
                    }
                    Op::ReclaimBegin(page) => {
                        let _refused = server.reclaim_begin(gfn(page));
                    }
                    Op::ReclaimFinish(page) => {
                        if server.reclaim_finish(gfn(page)) == Ok(Step::Done) {
                            let slot = server.lookup(gfn(page), Policy::Instantiate).unwrap();
                            let first = (page & !15) - slot.base.get();
                            expected.retain(|(id, at), _| {
                                *id != slot.id || !(first..first + 16).contains(at)
                            });
                        }
                    }
                    Op::Pin(page) => {
                        if server.kernel.gspace.contains_key(&(page & !15)) {
                            server.kernel.pinned.insert(page & !15);
                        }
                    }
                    Op::Unpin => server.kernel.pinned.clear(),
                    Op::Enter => {
                        if guard.is_none() {
                            guard = Some(reader.read());
                        }
                    }
                    Op::Leave => guard = None,
                    Op::MapFails(fails) => server.kernel.map_fails = fails,
                }
                check(server);
                // A pin keeps its page in the GSpace.
                for page in &server.kernel.pinned {
                    assert!(server.kernel.gspace.contains_key(page));
                }
                // What a reader sees is still there, with its frames.
                if let Some(guard) = &guard {
                    for slot in guard.iter() {
                        assert!(server.slot(slot.id).is_some(), "a slot went under a reader");
                    }
                }
                // Contents follow the slot, wherever it is, and nothing else shows in it.
                let mut found = BTreeMap::new();
                for region in &server.regions {
                    for number in 0..region.words.1 {
                        let (_, Some(frame), _) = server.page(region, number) else { continue };
                        for i in 0..16 {
                            if let Some(byte) = server.kernel.contents.get(&(frame, i << 12)) {
                                found.insert((region.slot.id, number as u64 * 16 + i), *byte);
                            }
                        }
                    }
                }
                let gone = server.changing().filter(|id| {
                    !server.regions.iter().any(|region| region.slot.id == *id)
                });
                assert_eq!(gone, None);
                // While a deletion gives its frames back, they are no longer the slot's.
                let deleting = server.changing();
                let keep = |(id, _): &(u16, u64)| Some(*id) != deleting;
                let found: Vec<_> = found.into_iter().filter(|(key, _)| keep(key)).collect();
                let wanted: Vec<_> =
                    expected.iter().map(|(k, v)| (*k, *v)).filter(|(key, _)| keep(key)).collect();
                assert_eq!(found, wanted);
            }
            drop(guard);
        });
    }
}

/// What the guest uses can be taken away by force: it is free and all zeros when it is found again.
#[test]
fn a_page_is_taken_away_by_force() {
    with([0, 16, 0], 16, 16, |server, _| {
        server.set_region(0, 0, 1 << 20, 0).unwrap();
        assert_eq!(server.load(0x1_0000, &[7]), Answer::Ready);
        server.kernel.pinned.insert(16);
        let gfn = Gfn::new(17).unwrap();
        assert_eq!(server.reclaim_by_force(gfn), Ok(Step::Done));
        assert_eq!(server.kernel.destroyed, 1);
        let stats = server.stats();
        assert_eq!((stats.held, stats.mapped), (0, 0));
        assert_eq!(stats.frames[1].free, 16);
        // Nothing behind it: nothing to do.
        assert_eq!(server.reclaim_by_force(gfn), Ok(Step::Done));
        assert_eq!(server.kernel.destroyed, 1);
        server.kernel.pinned.clear();
        assert_eq!(
            server.request(Gfn::new(16).unwrap(), 16, true),
            Answer::Ready
        );
        assert!(server.kernel.contents.is_empty());
        // A caller's own frame stays.
        let far = Gfn::new(1 << 20).unwrap();
        assert_eq!(server.reclaim_by_force(far), Err(Error::NoSlot));
    });
}

const LARGE_PAGE: u64 = 16 * MIB;

/// Where the frames of a piece of 16 MiB are.
fn frames_of(server: &MemSlots<'_, &mut Fake>, base: u64) -> Vec<u32> {
    let first = base >> 12;
    (0..8)
        .map(|i| server.kernel.gspace[&(first + 512 * i)].0.index)
        .collect()
}

/// H_ENTER 5, 6 and C3: a slot that is aligned so, with whole groups behind it, has pages of 16 MiB.
#[test]
fn pages_of_16_mib() {
    with([0, 0, 24], 24, 12, |server, _| {
        server.set_region(0, 0, 2 * LARGE_PAGE, 0).unwrap();
        while server.changing().is_some() {
            server.advance().unwrap();
        }
        let slot = server.slot(0).unwrap();
        assert_eq!(slot.page_shift, 24);
        assert!(slot.suits(24) && slot.suits(12));
        assert_eq!(server.stats().page_shift, 24);
        // A single page sets its group aside; the others are made ready when they are needed.
        assert_eq!(server.request(gfn(3 * 512), 12, true), Answer::Ready);
        assert_eq!((server.stats().held, server.stats().mapped), (8, 1));
        assert_eq!(server.kernel.zeroed, 2 * MIB);
        assert_eq!(server.request(gfn(0), 24, true), Answer::Ready);
        assert_eq!(server.kernel.zeroed, LARGE_PAGE);
        let frames = frames_of(server, 0);
        assert_eq!(frames[0] % 8, 0, "aligned");
        assert!(frames.windows(2).all(|w| w[1] == w[0] + 1), "in a row");
        assert_eq!(
            server.request(gfn(512), 24, true),
            Answer::Refused,
            "not aligned"
        );
        // Reclaimed as a whole.
        server.kernel.pinned.insert(5 * 512);
        let piece = server.reclaim_begin(gfn(6 * 512)).unwrap();
        assert_eq!(piece, (gfn(0), 4096));
        assert_eq!(server.request(gfn(4), 12, true), Answer::Busy);
        let step = server.reclaim_finish(gfn(6 * 512)).unwrap();
        assert_eq!(step, Step::NotYet(Waiting::Pinned(gfn(5 * 512))));
        server.kernel.pinned.clear();
        assert_eq!(server.reclaim_finish(gfn(1)), Ok(Step::Done));
        assert_eq!(server.stats().held, 0);
        assert_eq!(server.zero(gfn(4096), 24), Answer::Ready);
        // It moves by whole pages only.
        assert_eq!(
            server.set_region(0, 2 * MIB, 2 * LARGE_PAGE, 0),
            Err(Error::Alignment)
        );
        server
            .set_region(0, 4 * LARGE_PAGE, 2 * LARGE_PAGE, 0)
            .unwrap();
        while server.changing().is_some() {
            server.advance().unwrap();
        }
        assert_eq!(server.request(gfn(5 * 4096), 24, true), Answer::Ready);
        assert_eq!(server.stats().held, 8);
        server.kernel.pinned.insert(5 * 4096);
        assert_eq!(server.reclaim_by_force(gfn(5 * 4096 + 9)), Ok(Step::Done));
        server.kernel.pinned.clear();
        assert_eq!(server.stats().held, 0);
    });
}

/// Whole groups that a slot was promised are there when it needs them; other slots get along with the rest.
#[test]
fn promised_groups_stay_whole() {
    with([0, 0, 20], 64, 12, |server, _| {
        let settle = |server: &mut MemSlots<'_, &mut Fake>| {
            while server.changing().is_some() {
                server.advance().unwrap();
            }
        };
        server.set_region(0, LARGE_PAGE, LARGE_PAGE, 0).unwrap();
        settle(server);
        // Twelve more: four of the last, broken group, and one group; no whole one is left for this.
        server
            .set_region(1, 4 * LARGE_PAGE, 3 * LARGE_PAGE, 0)
            .unwrap();
        settle(server);
        assert_eq!(server.slot(0).unwrap().page_shift, 24);
        assert_eq!(server.slot(1).unwrap().page_shift, 21);
        let first = (4 * LARGE_PAGE) >> 12;
        for page in 0..24 {
            let answer = server.request(gfn(first + 512 * page), 21, true);
            let right = if page < 12 {
                Answer::Ready
            } else {
                Answer::Refused
            };
            assert_eq!(answer, right, "{page}");
        }
        assert_eq!(server.request(gfn(4096), 24, true), Answer::Ready);
        assert_eq!(server.stats().frames[2].free, 0);
        // Gone, its group is another's.
        server.set_region(0, 0, 0, 0).unwrap();
        settle(server);
        assert_eq!(
            server.request(gfn(first + 512 * 20), 21, true),
            Answer::Ready
        );
        assert_eq!(server.stats().frames[2].free, 7);
    });
    // Without frames in a row there are no such pages.
    let (mut small, mut medium, mut large) = (vec![], vec![], vec![0; 16]);
    let mut pool = Pool::new(&mut small, &mut medium, &mut large, false);
    assert!(!pool.promise(1));
    let frames: BTreeSet<_> = (0..16).map(|_| pool.take(FrameSize::Large)).collect();
    assert!(frames.len() == 16 && pool.take(FrameSize::Large).is_none());
}

proptest! {
    /// Groups and single frames: each frame is given out once, whole groups are aligned and in a row, and a promise
    /// holds.
    #[test]
    fn any_frames(
        count in 0usize..70,
        ops in prop::collection::vec((0u8..5, 0usize..64), 1..300),
    ) {
        let (mut small, mut medium, mut large) = (vec![], vec![], vec![0; count]);
        let mut pool = Pool::new(&mut small, &mut medium, &mut large, true);
        let (mut singles, mut groups) = (Vec::<Frame>::new(), Vec::<u32>::new());
        let (mut used, mut promised) = (BTreeSet::new(), 0usize);
        for (op, n) in ops {
            match op {
                0 => {
                    if let Some(frame) = pool.take(FrameSize::Large) {
                        prop_assert!(used.insert(frame.index));
                        singles.push(frame);
                    }
                }
                1 => {
                    if !singles.is_empty() {
                        let frame = singles.swap_remove(n % singles.len());
                        used.remove(&frame.index);
                        pool.give_back(frame);
                    }
                }
                2 => {
                    if pool.promise((n % 3) as u64) {
                        promised += n % 3;
                    }
                }
                3 => {
                    if promised > 0 {
                        let first = pool.take_group().expect("it was promised");
                        promised -= 1;
                        prop_assert_eq!(first % 8, 0);
                        for index in first..first + 8 {
                            prop_assert!(used.insert(index));
                        }
                        groups.push(first);
                    }
                }
                _ => {
                    if !groups.is_empty() {
                        let first = groups.swap_remove(n % groups.len());
                        for index in first..first + 8 {
                            used.remove(&index);
                        }
                        pool.give_back_group(first);
                        promised += 1;
                    }
                }
            }
            let stats = pool.stats(FrameSize::Large);
            prop_assert_eq!(stats.total, count as u64);
            prop_assert_eq!(stats.free, (count - used.len()) as u64);
            prop_assert!(used.iter().all(|index| (*index as usize) < count));
        }
        // Nothing but what is promised is kept back.
        while let Some(frame) = pool.take(FrameSize::Large) {
            prop_assert!(used.insert(frame.index));
        }
        prop_assert_eq!(count - used.len(), 8 * promised);
    }
}
