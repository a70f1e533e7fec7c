// SPDX-License-Identifier: BSD-2-Clause
//! Random calls, compared with a model that knows nothing of chains, locks or the real table.

use super::machine::*;
use super::std::boxed::Box;
use super::std::collections::BTreeMap;
use super::std::{vec, vec::Vec};
use crate::fault::cause;
use crate::*;
use partita_papr::hash::Segment;
use partita_papr::hcall::{PROTECT_MASK, flags, number::*, protect_bits, status::*};
use partita_papr::hpte::*;
use partita_papr::{HptOrder, PageSize, Ptex};
use partita_srcu::SlotFlags;
use proptest::prelude::*;

fn failure(status: i64) -> Reply {
    Reply {
        status,
        words: [0; 8],
        count: 0,
    }
}

fn reply(results: &[u64]) -> Reply {
    let mut words = [0; 8];
    words[..results.len()].copy_from_slice(results);
    Reply {
        status: H_SUCCESS,
        words,
        count: results.len(),
    }
}

fn two(v: u64, r: u64) -> Reply {
    reply(&[v, r])
}

/// Groups that the calls use: few, so that they meet.
const GROUPS: u64 = 3;

#[derive(Clone, Debug)]
enum Op {
    Enter {
        flags: u64,
        index: u64,
        v: u64,
        r: u64,
    },
    Remove {
        flags: u64,
        index: u64,
        value: u64,
    },
    Bulk([u64; 8]),
    Protect {
        flags: u64,
        index: u64,
        avpn: u64,
    },
    Read {
        flags: u64,
        index: u64,
    },
    ClearRef(u64),
    ClearMod(u64),
    PageInit {
        flags: u64,
        to: u64,
        from: u64,
    },
    ClearHpt,
    /// Anything at all.
    Hostile(u64, [u64; 8]),
    /// A processor uses the entry.
    Access {
        index: u64,
        store: bool,
    },
    /// A fault on the entry, if it is ABSENT.
    Fault {
        index: u64,
        store: bool,
    },
    HostileFault(Fault),
    /// How `memslots` answers for a page from now on.
    Backing(u64, Backing),
    Flush(u64, u64),
    /// A page is taken away: flush, then unmap.
    Reclaim(u64),
    Dirty {
        stopped: bool,
    },
    /// Slot 1 becomes INVALID, is flushed, goes and comes back.
    Cycle,
}

fn index() -> impl Strategy<Value = u64> {
    prop_oneof![
        30 => 0..GROUPS * 8,
        1 => Just(16384u64),
        1 => any::<u64>(),
    ]
}

fn v() -> impl Strategy<Value = u64> {
    prop_oneof![
        20 => (0u64..2, 0u64..3, any::<bool>()).prop_map(|(a, flags, bolted)| {
            V | a << 7 | [0, LARGE, SECONDARY][flags as usize] | if bolted { BOLTED } else { 0 }
        }),
        1 => any::<u64>(),
    ]
}

fn r() -> impl Strategy<Value = u64> {
    let low = prop_oneof![
        Just(0u64),
        Just(2),
        Just(3),
        Just(R | C | M),
        Just(PP0 | 2),
        any::<u64>().prop_map(|r| r & (PROTECT_MASK | WIMG | R | C | MODIFIED))
    ];
    prop_oneof![
        20 => (0..GFNS + 2, low.clone()).prop_map(|(gfn, low)| gfn << 12 | low),
        10 => (0..GFNS / 16, low).prop_map(|(page, low)| page << 16 | 0x1000 | low),
        1 => any::<u64>(),
    ]
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(V),
        Just(V | 0x80),
        Just(BOLTED),
        Just(0u64),
        any::<u64>()
    ]
}

fn condition() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 2 => Just(flags::AVPN), 1 => Just(flags::ANDCOND), 1 => Just(flags::AVPN | flags::ANDCOND)]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        20 => prop::sample::select(Vec::from([
            H_ENTER, H_REMOVE, H_BULK_REMOVE, H_READ, H_PROTECT, H_CLEAR_REF, H_CLEAR_MOD,
            H_PAGE_INIT, H_REGISTER_PROC_TBL,
        ])),
        1 => any::<u64>(),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let bulk_word = prop_oneof![
        8 => (0..GROUPS * 8, 0u64..3).prop_map(|(i, f)| 1 << 62 | f << 56 | i),
        1 => Just(3u64 << 62),
        1 => any::<u64>(),
    ];
    let pair = (bulk_word, value());
    prop_oneof![
        12 => (prop_oneof![3 => Just(0), 1 => Just(flags::EXACT), 1 => Just(flags::ZERO_PAGE)], index(), v(), r())
            .prop_map(|(flags, index, v, r)| Op::Enter { flags, index, v, r }),
        4 => (condition(), index(), value()).prop_map(|(flags, index, value)| Op::Remove { flags, index, value }),
        2 => prop::array::uniform4(pair).prop_map(|p| {
            let mut args = [0; 8];
            for (i, (a, b)) in p.into_iter().enumerate() {
                args[2 * i] = a;
                args[2 * i + 1] = b;
            }
            Op::Bulk(args)
        }),
        4 => (0u64..0x4000, any::<bool>(), index(), value()).prop_map(|(f, avpn, index, value)| Op::Protect {
            flags: f | if avpn { flags::AVPN } else { 0 },
            index,
            avpn: value,
        }),
        2 => (any::<bool>(), index()).prop_map(|(four, index)| Op::Read { flags: if four { flags::READ_4 } else { 0 }, index }),
        2 => index().prop_map(Op::ClearRef),
        2 => index().prop_map(Op::ClearMod),
        1 => (prop_oneof![Just(flags::ZERO_PAGE), Just(flags::COPY_PAGE)], 0..GFNS + 1, 0..GFNS + 1)
            .prop_map(|(flags, to, from)| Op::PageInit { flags, to: to << 12, from: from << 12 }),
        1 => Just(Op::ClearHpt),
        3 => (number(), any::<[u64; 8]>()).prop_map(|(n, args)| Op::Hostile(n, args)),
        10 => (0..GROUPS * 8, any::<bool>()).prop_map(|(index, store)| Op::Access { index, store }),
        4 => (0..GROUPS * 8, any::<bool>()).prop_map(|(index, store)| Op::Fault { index, store }),
        1 => any::<[u64; 7]>().prop_map(|[pc, msr, dar, cause, asdr, amr, iamr]| Op::HostileFault(Fault {
            instruction: amr & 1 != 0, pc, msr, dar: dar >> (iamr & 63), cause, asdr, amr, iamr,
        })),
        3 => (0..GFNS, prop::sample::select(Vec::from([Backing::Ready, Backing::Ready, Backing::Busy, Backing::Refused])))
            .prop_map(|(gfn, backing)| Op::Backing(gfn, backing)),
        1 => (0..GFNS, 0..GFNS).prop_map(|(a, b)| Op::Flush(a.min(b), a.max(b))),
        2 => (0..GFNS).prop_map(Op::Reclaim),
        1 => any::<bool>().prop_map(|stopped| Op::Dirty { stopped }),
        1 => Just(Op::Cycle),
    ]
}

/// What the guest believes: index -> its two words, without R and C that hardware has set.
#[derive(Default)]
struct Model {
    entries: BTreeMap<u64, (u64, u64)>,
}

struct World<'a> {
    memory: &'a Memory,
    kernel: &'a Kernel<'a>,
    hpt: &'a Hpt<'a, &'a Kernel<'a>, &'a Kernel<'a>>,
    model: Model,
}

/// Slot 0: pages 0..32; slot 1: 32..80; slot 2, read-only: 80..96.
fn slots(middle: Option<SlotFlags>) -> Vec<partita_srcu::Slot> {
    let mut slots = Vec::from([slot(0, 0, 32, SlotFlags::NONE)]);
    slots.extend(middle.map(|flags| slot(1, 32, 48, flags)));
    slots.push(slot(2, 80, 16, SlotFlags::READ_ONLY));
    slots
}

const ENTRIES: u64 = 1 << 14;

impl World<'_> {
    fn call(&self, number: u64, args: &[u64]) -> Reply {
        let mut all = [0; 8];
        all[..args.len()].copy_from_slice(args);
        self.hpt.hypercall(number, all)
    }

    /// R and C of the real entry.
    fn rc(&self, index: u64) -> u64 {
        let real = &self.memory.real[index as usize];
        if real.dw0() & VALID != 0 {
            real.dw1() & (R | C)
        } else {
            0
        }
    }

    /// The status that the page behind an entry gives: what H_ENTER checks before the place.
    fn page_status(&self, v: u64, r: u64) -> Result<(u64, u64), i64> {
        let size = PageSize::decode(v, r).ok_or(H_PARAMETER)?;
        let first = size.real_address(r) >> 12;
        let pages = size.bytes() >> 12;
        if v >> 63 != 0 || pages > 16 || first >= GFNS {
            return Err(H_PARAMETER);
        }
        Ok((first, pages))
    }

    /// What `memslots` says for pages that are not mapped.
    fn deferred(&self, first: u64, pages: u64, always: bool) -> Backing {
        let mapped = |gfn: u64| self.kernel.gspace.borrow().contains_key(&gfn);
        if !always && (first..first + pages).all(mapped) {
            return Backing::Ready;
        }
        (first..first + pages)
            .map(|gfn| {
                self.kernel
                    .backing
                    .borrow()
                    .get(&gfn)
                    .copied()
                    .filter(|backing| *backing != Backing::Refused || !mapped(gfn))
                    .unwrap_or(Backing::Ready)
            })
            .find(|b| *b != Backing::Ready)
            .unwrap_or(Backing::Ready)
    }

    fn enter(&mut self, call_flags: u64, index: u64, v: u64, r: u64) {
        let expected = self.expect_enter(call_flags, index, v, r);
        let reply = self.call(H_ENTER, &[call_flags, index, v, r]);
        match expected {
            Ok(at) => {
                assert_eq!(
                    (reply.status, reply.count, reply.words[0]),
                    (H_SUCCESS, 1, at)
                );
                let v = v & !(LOCK | ABSENT) | VALID;
                self.model
                    .entries
                    .insert(at, (v, r & !(MODIFIED | 1 << 59)));
            }
            Err(status) => assert_eq!(reply, failure(status)),
        }
    }

    fn expect_enter(&self, call_flags: u64, index: u64, v: u64, r: u64) -> Result<u64, i64> {
        let (first, pages) = self.page_status(v, r)?;
        if index >= ENTRIES {
            return Err(H_PARAMETER);
        }
        let free = |i: &u64| !self.model.entries.contains_key(i);
        let place = if call_flags & flags::EXACT != 0 {
            Some(index).filter(free)
        } else {
            (index & !7..(index & !7) + 8).find(free)
        };
        if call_flags & flags::ZERO_PAGE != 0 {
            if first >= 80 {
                return Err(H_PARAMETER);
            }
            place.ok_or(H_PTEG_FULL)?;
            match self.deferred(first, pages, true) {
                Backing::Ready => {}
                Backing::Busy => return Err(H_BUSY),
                Backing::Refused => return Err(H_PARAMETER),
            }
        }
        let place = place.ok_or(H_PTEG_FULL)?;
        match self.deferred(first, pages, false) {
            Backing::Refused => Err(H_PARAMETER),
            _ => Ok(place),
        }
    }

    /// Removes from the model; the answer's words.
    fn take(&mut self, index: u64, avpn: Option<u64>, andcond: Option<u64>) -> Option<(u64, u64)> {
        let &(v, r) = self.model.entries.get(&index)?;
        if avpn.is_some_and(|a| v & !0x7f != a) || andcond.is_some_and(|m| v & m != 0) {
            return None;
        }
        self.model.entries.remove(&index);
        Some((v, r | self.rc(index)))
    }

    fn remove(&mut self, call_flags: u64, index: u64, value: u64) {
        let given = |flag| (call_flags & flag != 0).then_some(value);
        let expected = if index >= ENTRIES {
            failure(H_PARAMETER)
        } else {
            match self.take(index, given(flags::AVPN), given(flags::ANDCOND)) {
                Some((v, r)) => two(v, r),
                None => failure(H_NOT_FOUND),
            }
        };
        assert_eq!(self.call(H_REMOVE, &[call_flags, index, value]), expected);
    }

    fn bulk(&mut self, args: [u64; 8]) {
        let mut expected = Reply {
            status: H_SUCCESS,
            words: args,
            count: 8,
        };
        for pair in 0..4 {
            let (word, value) = (args[2 * pair], args[2 * pair + 1]);
            let index = word & ((1 << 56) - 1);
            let kind = (word >> 56) & 3;
            let answer = |code: u64, rc: u64| {
                2 << 62 | code << 60 | (rc & (R | C)) << 51 | kind << 56 | index
            };
            expected.words[2 * pair] = match word >> 62 {
                3 => break,
                1 if kind != 3 && index < ENTRIES => {
                    let given = |k| (kind == k).then_some(value);
                    match self.take(index, given(2), given(1)) {
                        Some((_, r)) => answer(0, r),
                        None => answer(1, 0),
                    }
                }
                _ => {
                    expected.status = H_PARAMETER;
                    expected.words[2 * pair] = answer(2, 0);
                    break;
                }
            };
        }
        assert_eq!(self.hpt.hypercall(H_BULK_REMOVE, args), expected);
    }

    fn protect(&mut self, call_flags: u64, index: u64, avpn: u64) {
        let expected = if index >= ENTRIES {
            H_PARAMETER
        } else {
            match self.model.entries.get_mut(&index) {
                Some((v, r)) if call_flags & flags::AVPN == 0 || *v & !0x7f == avpn => {
                    *r = *r & !PROTECT_MASK | protect_bits(call_flags);
                    H_SUCCESS
                }
                _ => H_NOT_FOUND,
            }
        };
        assert_eq!(
            self.call(H_PROTECT, &[call_flags, index, avpn]),
            failure(expected)
        );
    }

    fn view(&self, index: u64) -> [u64; 2] {
        self.model
            .entries
            .get(&index)
            .map_or([0, 0], |(v, r)| [*v, r | self.rc(index)])
    }

    fn read(&self, call_flags: u64, index: u64) {
        let reply = self.call(H_READ, &[call_flags, index]);
        if index >= ENTRIES {
            assert_eq!(reply, failure(H_PARAMETER));
        } else if call_flags & flags::READ_4 != 0 {
            let expected: Vec<_> = (0..4).flat_map(|i| self.view(index & !3 | i)).collect();
            assert_eq!(
                (reply.status, reply.count, &reply.words[..]),
                (H_SUCCESS, 8, &expected[..])
            );
        } else {
            let [v, r] = self.view(index);
            assert_eq!(reply, two(v, r));
        }
    }

    fn clear(&mut self, number: u64, bit: u64, index: u64) {
        let expected = if index >= ENTRIES {
            failure(H_PARAMETER)
        } else if self.model.entries.contains_key(&index) {
            reply(&[self.view(index)[1]])
        } else {
            failure(H_NOT_FOUND)
        };
        // R or C of the other kind that hardware has set stays in the real entry.
        assert_eq!(self.call(number, &[0, index]), expected);
        if let Some((_, r)) = self.model.entries.get_mut(&index) {
            *r &= !bit;
        }
    }

    /// R and C move from the real entries to the guest's view when entries become ABSENT.
    fn flush(&mut self, first: u64, end: u64) {
        for (index, (v, r)) in self.model.entries.iter_mut() {
            let size = PageSize::decode(*v, *r).unwrap();
            let gfn = size.real_address(*r) >> 12;
            let real = &self.memory.real[*index as usize];
            if (first..end).contains(&gfn) && real.dw0() & VALID != 0 {
                *r |= real.dw1() & (R | C);
            }
        }
        let mut range = GfnRange { next: first, end };
        while self.hpt.flush(&mut range).unwrap() == Progress::More {}
    }

    fn fault(&mut self, index: u64, store: bool) {
        let Some(&(v, r)) = self.model.entries.get(&index) else {
            return;
        };
        // The effective address that leads to this entry: segment and AVPN give the rest.
        let Some(size) = PageSize::decode(v, r) else {
            return;
        };
        let base = if size.base_shift() == 12 { 0 } else { 0x110 };
        let asdr = v & (!0 << 24) & !(3 << 62) | B_1T | base;
        let order = HptOrder::new(ORDER).unwrap();
        let group = Ptex::new(index, order).unwrap().group();
        let hash = if v & SECONDARY != 0 { !group } else { group } & order.group_mask();
        let vsid = (asdr & !B) >> 24;
        let page = (vsid ^ (vsid << 25) ^ hash) & order.group_mask();
        let low = page << size.base_shift();
        let ea = (v & 0xff_ff80) << 16 | low & 0x7f_ffff;
        let Some(segment) = Segment::new(asdr) else {
            return;
        };
        if segment.avpn(ea) != v & (B | AVPN) {
            return;
        }
        let absent = self.memory.real[index as usize].dw0() & VALID == 0;
        let cause = cause::NOHPTE | if store { cause::STORE } else { 0 };
        let fault = Fault {
            dar: ea,
            msr: 0x10,
            cause,
            asdr,
            ..Default::default()
        };
        let action = self.hpt.storage_fault(&fault);
        let key0 = partita_papr::protection::may_write(r, false) || !store;
        // Another entry of the same address may be met first, so only these are certain.
        if !absent && key0 {
            assert_ne!(
                action,
                FaultAction::Inject {
                    vector: 0x400,
                    srr1: 0,
                    dar: 0,
                    dsisr: 0
                }
            );
        }
        if absent && action == FaultAction::Resume && !self.is_shadowed(index, v) {
            let gfn = size.real_address(r) >> 12;
            let pages = size.bytes() >> 12;
            let busy = self.deferred(gfn, pages, false) == Backing::Busy;
            let mapped = self.memory.real[index as usize].dw0() & VALID != 0;
            assert!(key0 && (mapped || busy), "{fault:?}");
        }
    }

    /// Whether an entry before this one in search order translates the same address.
    fn is_shadowed(&self, index: u64, v: u64) -> bool {
        let mask = B | AVPN;
        self.model
            .entries
            .iter()
            .any(|(i, (w, _))| *i != index && w & mask == v & mask)
    }

    fn dirty(&mut self, stopped: bool) {
        let before: Vec<u64> = self
            .kernel
            .touched
            .borrow()
            .iter()
            .filter(|(_, bits)| *bits & C != 0)
            .map(|(gfn, _)| *gfn)
            .collect();
        // C goes to the guest's view when it leaves the real entry.
        for (index, (_, r)) in self.model.entries.iter_mut() {
            let real = &self.memory.real[*index as usize];
            if real.dw0() & VALID != 0 {
                *r |= real.dw1() & C;
            }
        }
        let mut reported = Vec::new();
        let mut range = GfnRange { next: 0, end: GFNS };
        while self
            .hpt
            .collect_dirty(&mut range, stopped, |gfn, n| reported.push((gfn.get(), n)))
            .unwrap()
            == Progress::More
        {}
        for gfn in before {
            assert!(
                reported
                    .iter()
                    .any(|(first, n)| (*first..first + n).contains(&gfn))
            );
            self.kernel.forget_touched(gfn, C);
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Enter { flags, index, v, r } => self.enter(flags, index, v, r),
            Op::Remove {
                flags,
                index,
                value,
            } => self.remove(flags, index, value),
            Op::Bulk(args) => self.bulk(args),
            Op::Protect { flags, index, avpn } => self.protect(flags, index, avpn),
            Op::Read { flags, index } => self.read(flags, index),
            Op::ClearRef(index) => self.clear(H_CLEAR_REF, R, index),
            Op::ClearMod(index) => self.clear(H_CLEAR_MOD, C, index),
            Op::PageInit { flags, to, from } => {
                let reply = self.call(H_PAGE_INIT, &[flags, to, from]);
                if to >> 12 >= 80 {
                    assert_eq!(reply.status, H_PARAMETER, "read-only or no memory");
                }
            }
            Op::ClearHpt => {
                while self.call(H_CLEAR_HPT, &[]).status == H_CONTINUE {}
                self.model.entries.clear();
            }
            Op::Hostile(number, args) => self.hostile(number, args),
            Op::Access { index, store } => {
                self.kernel.access(index, store);
            }
            Op::Fault { index, store } => self.fault(index, store),
            Op::HostileFault(fault) => {
                self.hpt.storage_fault(&fault);
                self.resync();
            }
            Op::Backing(gfn, backing) => {
                self.kernel.backing.borrow_mut().insert(gfn, backing);
            }
            Op::Flush(first, end) => self.flush(first, end),
            Op::Reclaim(gfn) => {
                // Entries of a large page are on the chain of its first page.
                self.flush(gfn & !15, gfn + 1);
                self.kernel.unmap(gfn).expect("nothing pins a flushed page");
            }
            Op::Dirty { stopped } => self.dirty(stopped),
            Op::Cycle => {
                self.memory.publish(&slots(Some(SlotFlags::INVALID)));
                let reply = self.call(H_ENTER, &[0, 0, V, 40 << 12]);
                assert_eq!(reply.status, H_PARAMETER, "S3.6");
                self.flush(32, 80);
                self.hpt.verify_unmapped(32, 80).expect("I7");
                for gfn in 32..80 {
                    self.kernel.unmap(gfn).expect("nothing pins a flushed slot");
                }
                self.memory.publish(&slots(None));
                self.hpt.verify_all().unwrap();
                self.memory.publish(&slots(Some(SlotFlags::NONE)));
            }
        }
    }

    /// Arguments without any sense, through the typed paths where the model knows the answer.
    fn hostile(&mut self, number: u64, args: [u64; 8]) {
        let [a, b, c, d, ..] = args;
        match number {
            H_ENTER => self.enter(a & !flags::ZERO_PAGE, b, c, d),
            H_REMOVE => self.remove(a, b, c),
            H_BULK_REMOVE => self.bulk(args),
            H_PROTECT => self.protect(a, b, c),
            H_READ => self.read(a, b),
            H_CLEAR_REF => self.clear(number, R, b),
            H_CLEAR_MOD => self.clear(number, C, b),
            H_CLEAR_HPT => {}
            _ => {
                let reply = self.hpt.hypercall(number, args);
                assert!(matches!(reply.status, H_SUCCESS | H_PARAMETER | H_FUNCTION));
            }
        }
    }

    /// After a fault with translation off the area may have new entries: the model learns them.
    fn resync(&mut self) {
        for index in 0..ENTRIES {
            let [v, r] = {
                let reply = self.call(H_READ, &[0, index]);
                [reply.words[0], reply.words[1]]
            };
            let known = self.model.entries.contains_key(&index);
            if v != 0 && !known {
                assert!(partita_papr::hash::is_vrma(v));
                self.model.entries.insert(index, (v, r));
            } else if known {
                assert!(v != 0 || self.model.entries[&index].0 & BOLTED == 0);
                if v == 0 {
                    self.model.entries.remove(&index);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// I1 to I8, S4.9, S4.11: any sequence of calls, with hardware and `memslots` acting between
    /// them, gives the guest exactly what the model says and keeps every invariant.
    #[test]
    fn i1_to_i8_any_sequence(ops in prop::collection::vec(op(), 1..80)) {
        let memory = Box::new(Memory::new(GFNS));
        let kernel = Kernel::new(&memory);
        kernel.read_only.borrow_mut().extend(80..GFNS);
        memory.publish(&slots(Some(SlotFlags::NONE)));
        let hpt = memory.hpt(&kernel);
        let mut world = World { memory: &memory, kernel: &kernel, hpt: &hpt, model: Model::default() };
        for op in ops {
            world.run(op);
            kernel.assert_sound();
            hpt.verify_all().unwrap();
        }
        for index in 0..GROUPS * 8 {
            world.read(0, index);
        }
    }
}
