// SPDX-License-Identifier: BSD-2-Clause
//! Random calls. Most are invocations of a capability of the right kind with plausible arguments, so that
//! they get past the first checks; the rest are noise.

use crate::attack::Stage;
use crate::holding::{Kind, Place, target};
use partita_abi::{InvocationLabel as L, ObjectType, vcpu_register as register};
use testkit::Random;
use testkit::raw::needs;

/// Message registers that a call fills in.
pub const MAX_WORDS: usize = 24;

/// How a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `Call`.
    Call,
    /// `NBSend`: pointers that lead nowhere are no fault.
    NbSend,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// How.
    pub way: Way,
    /// Capability pointer.
    pub cptr: u64,
    /// Label.
    pub label: u64,
    /// Message registers, as the message says.
    pub length: u64,
    /// Message registers.
    pub words: [u64; MAX_WORDS],
    /// Extra capabilities, as the message says.
    pub extra: u64,
    /// Their pointers.
    pub caps: [u64; 3],
}

const ADDRESSES: [u64; 9] = [
    0x10_0000_0000,
    0x10_0020_0000,
    0x10_0021_0000,
    0x10_0021_1000,
    0x20_0000_0000,
    0x3fff_ffff_f000,
    0x4000_0000_0000,
    0,
    0xffff_ffff_ffff_f000,
];

/// A request that does no harm to a guest, whoever of its servers gets it.
const HARMLESS: u64 = 1;

const EXTREMES: [u64; 16] = [
    0,
    1,
    2,
    7,
    63,
    64,
    255,
    256,
    0xfff,
    0x1000,
    1 << 31,
    1 << 44,
    1 << 46,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Small pointers whose slots are in the Microkit CNode, and those of `<cspace>`: a call on an empty slot
/// is an error and no fault.
fn any_slot(r: &mut Random) -> u64 {
    if r.chance(3, 4) {
        r.below(1 << partita_abi::microkit::CNODE_BITS)
    } else {
        (1 + r.below(63)) << 58
    }
}

fn anything(r: &mut Random) -> u64 {
    match r.below(5) {
        0 => r.word(),
        1 => r.pick(&EXTREMES),
        2 => r.pick(&ADDRESSES),
        3 => 1 << r.below(64),
        _ => r.below(1 << 12),
    }
}

impl Call {
    fn is_to(&self, place: &Place, kind: Kind) -> bool {
        place
            .of(kind)
            .any(|h| (0..h.count).any(|i| h.pointer(i) == self.cptr))
    }

    /// Whether it would end the attacker itself: the monitor never answers and stops whoever sends it a
    /// fault; an early answer takes the time back that a passive server runs on.
    fn ends_the_caller(&self, place: &Place) -> bool {
        let fault = self.way == Way::Call || self.label != 0;
        self.is_to(place, Kind::Monitor) && fault || self.is_to(place, Kind::Reply)
    }
}

impl Place {
    fn pointer(&self, r: &mut Random, kind: Kind) -> Option<u64> {
        let total: u64 = self.of(kind).map(|h| h.count).sum();
        let mut i = r.below(total);
        for holding in self.of(kind) {
            if i < holding.count {
                return Some(holding.pointer(i));
            }
            i -= holding.count;
        }
        None
    }

    fn any_pointer(&self, r: &mut Random) -> u64 {
        let holding = r.pick(self.holdings);
        holding.pointer(r.below(holding.count))
    }

    fn gpa(&self, r: &mut Random) -> u64 {
        let pages = self.guest_memory >> 12;
        match r.below(8) {
            0 => r.below(pages) << 12,
            1 => r.below(pages >> 4) << 16,
            2 => self.guest_memory + (r.below(64) << 21),
            3 => r.below(1 << 32) << 12,
            4 => r.pick(&EXTREMES),
            _ => r.below(pages >> 9) << 21,
        }
    }

    fn ptex(&self, r: &mut Random, gentle: bool) -> u64 {
        let entries = 1 << (self.hpt_order - 4);
        if r.chance(1, 32) {
            return r.pick(&[entries - 1, entries, u64::MAX, 1 << 32]);
        }
        loop {
            // Few groups: many entries are used twice.
            let ptex = if r.chance(3, 4) {
                r.below(256)
            } else {
                r.below(entries)
            };
            if !gentle || !(self.keeps)(ptex) {
                return ptex;
            }
        }
    }

    /// Whether it takes a capability away that the guest may depend on.
    fn takes_used(&self, label: L, words: &[u64; MAX_WORDS]) -> bool {
        let indices: &[usize] = match label {
            L::CNodeRevoke | L::CNodeDelete => &[0],
            L::CNodeMove | L::CNodeMutate => &[2],
            L::CNodeRotate => &[0, 3, 6],
            _ => &[],
        };
        // Bits above the depth do not count.
        let (bits, free) = self.cnode;
        indices.iter().any(|i| words[*i] % (1 << bits) < free)
    }

    /// Whether one of the entries that the call may name is to be left alone.
    fn keeps_any(&self, call: &Call) -> bool {
        let entries = call.words.iter().take(5);
        entries.into_iter().any(|ptex| (self.keeps)(*ptex))
    }

    fn free_index(&self, r: &mut Random) -> u64 {
        let (bits, first) = self.cnode;
        first + r.below((1 << bits) - first)
    }

    fn used_index(&self, r: &mut Random, gentle: bool) -> u64 {
        if gentle || r.chance(1, 2) {
            self.free_index(r)
        } else {
            r.below(1 << self.cnode.0)
        }
    }

    fn words(&self, r: &mut Random, label: L, gentle: bool) -> [u64; MAX_WORDS] {
        let depth = if r.chance(15, 16) {
            u64::from(self.cnode.0)
        } else {
            r.pick(&[0, 1, 32, 64, 65])
        };
        let first: [u64; 8] = match label {
            L::UntypedRetype => {
                let kind = r.below(ObjectType::COUNT as u64);
                let bits = r.pick(&[0, 1, 4, 6, 12, 12, 13, 16, 18, 21]);
                [kind, bits, 0, 0, self.free_index(r), 1 + r.below(3), 0, 0]
            }
            L::CNodeRevoke | L::CNodeDelete | L::CNodeCancelBadgedSends => {
                [self.used_index(r, gentle), depth, 0, 0, 0, 0, 0, 0]
            }
            L::CNodeCopy | L::CNodeMint => {
                let from = r.below(1 << self.cnode.0);
                let to = self.free_index(r);
                [to, depth, from, depth, r.below(16), r.below(4), 0, 0]
            }
            L::CNodeMove | L::CNodeMutate => {
                let from = self.used_index(r, gentle);
                [self.free_index(r), depth, from, depth, r.below(4), 0, 0, 0]
            }
            L::CNodeRotate => {
                let [a, b, c] = [(); 3].map(|()| self.used_index(r, gentle));
                [a, depth, 0, b, depth, 0, c, depth]
            }
            L::PageMap => {
                let at = if r.chance(1, 2) {
                    self.gpa(r)
                } else {
                    r.pick(&ADDRESSES)
                };
                [at, r.below(4), r.below(4), 0, 0, 0, 0, 0]
            }
            L::PageTableMap | L::HPTMapView => [r.pick(&ADDRESSES), r.below(4), 0, 0, 0, 0, 0, 0],
            L::TimerSet => [
                testkit::timebase().wrapping_add(r.below(1 << 20)),
                0,
                0,
                0,
                0,
                0,
                0,
                0,
            ],
            L::GPageTableMap => [self.gpa(r), 0, 0, 0, 0, 0, 0, 0],
            L::GSpaceMakeView => [self.free_index(r), depth, r.below(4), 0, 0, 0, 0, 0],
            L::ViewMap => [self.gpa(r), r.pick(&ADDRESSES), r.below(4), 0, 0, 0, 0, 0],
            L::HPTBind => [r.pick(&[12, 16, 24]), 0, 0, 0, 0, 0, 0, 0],
            L::HPTInsert => [
                self.ptex(r, gentle),
                dw0(r),
                self.gpa(r) & !0xfff | dw1_low(r),
                0,
                0,
                0,
                0,
                0,
            ],
            L::HPTRemove => [self.ptex(r, gentle), 0, 0, 0, 0, 0, 0, 0],
            L::HPTRemoveBatch => {
                let [a, b, c, d] = [(); 4].map(|()| self.ptex(r, gentle));
                [r.below(6), a, b, c, d, 0, 0, 0]
            }
            L::HPTUpdate => [self.ptex(r, gentle), r.word(), 0, 0, 0, 0, 0, 0],
            L::HPTClearRC => [
                self.ptex(r, gentle),
                r.pick(&[0, 0x80, 0x100, 0x180, 0x200]),
                0,
                0,
                0,
                0,
                0,
                0,
            ],
            L::HPTSetFaultMode => [r.below(3), 0, 0, 0, 0, 0, 0, 0],
            L::VCPUReadRegisters | L::VCPUWriteRegisters => {
                let first = r.below(register::COUNT as u64 + 2);
                let count = 1 + r.below(MAX_WORDS as u64 - 2);
                let mut words = [0; 8];
                words[..2].copy_from_slice(&[first, count]);
                words[2..].fill_with(|| anything(r));
                words
            }
            L::VCPUInject => [
                0x20 * r.below(300),
                r.word() & 0x783f_0000,
                r.word(),
                r.word(),
                0,
                0,
                0,
                0,
            ],
            L::VCPUSetMode => {
                let bits = |r: &mut Random| {
                    let one = r.pick(&[0, 0x0200_0000, 0x0180_0000, 0x0080_0000]);
                    if r.chance(1, 16) { r.word() } else { one }
                };
                [bits(r), bits(r), 0, 0, 0, 0, 0, 0]
            }
            L::VCPUBindDispatchCounter => [self.gpa(r) | r.below(8) << 2, 0, 0, 0, 0, 0, 0, 0],
            L::VCPURouteHypercall => [4 * r.below(0x140), r.below(10), 0, 0, 0, 0, 0, 0],
            L::TCBWriteRegisters => {
                let mut words = [0; 8];
                words.fill_with(|| anything(r));
                words[..2].copy_from_slice(&[r.below(2), r.below(40)]);
                words
            }
            _ => [(); 8].map(|()| r.below(16)),
        };
        let mut words = [0; MAX_WORDS];
        words[..8].copy_from_slice(&first);
        words[8..].fill_with(|| anything(r));
        if r.chance(1, 6) {
            words[r.below(8) as usize] = anything(r);
        }
        words
    }

    fn extra_caps(&self, r: &mut Random, label: L) -> [u64; 3] {
        let kinds: [Kind; 3] = match label {
            L::PageMap if r.chance(1, 2) => [Kind::GSpace; 3],
            L::PageMap | L::PageTableMap | L::ViewMap | L::HPTMapView => [Kind::VSpace; 3],
            L::GPageTableMap | L::LPIDControlAssign => [Kind::GSpace; 3],
            L::HPTBind => [Kind::GSpace, Kind::Frame, Kind::Frame],
            L::VCPUBind => [Kind::Tcb, Kind::GSpace, Kind::GSpace],
            L::VCPUSetRoute => [Kind::Endpoint; 3],
            L::VCPUBindDispatchCounter => [Kind::View; 3],
            L::TCBSetSpace => [Kind::Endpoint, Kind::CNode, Kind::VSpace],
            L::TCBConfigure => [Kind::CNode, Kind::VSpace, Kind::Frame],
            L::TCBBindNotification | L::TimerSetNotification | L::IRQSetIRQHandler => {
                [Kind::Notification; 3]
            }
            L::UntypedRetype | L::GSpaceMakeView => [Kind::CNode; 3],
            _ => [Kind::Tcb, Kind::CNode, Kind::Endpoint],
        };
        kinds.map(|kind| match self.pointer(r, kind) {
            Some(cptr) if r.chance(11, 12) => cptr,
            _ if r.chance(1, 2) => self.any_pointer(r),
            _ => any_slot(r),
        })
    }

    /// The next call.
    pub fn next_call(&self, r: &mut Random, stage: Stage) -> Call {
        let gentle = stage == Stage::Gentle;
        loop {
            let call = self.candidate(r, gentle);
            let label = L::from_number(call.label);
            let target = label.and_then(target);
            let fatal = gentle && label.is_some_and(|l| self.fatal.contains(&l));
            let power = matches!(label, Some(L::PlatformPowerOff | L::PlatformReboot));
            // Firmware takes its time for the clock.
            let clock = target == Some(Kind::Platform) && !r.chance(1, 64);
            // A message that donates no time leaves a passive server with nothing to run on, and most
            // requests change the guest's memory.
            let harms = call.is_to(self, Kind::Endpoint)
                && match (stage, call.way) {
                    (Stage::Gentle, Way::Call) => call.label != HARMLESS,
                    (Stage::Wild, Way::Call) => false,
                    (Stage::Gentle | Stage::Wild, Way::NbSend) => true,
                    (Stage::Last, way) => way == Way::Call,
                };
            // Nobody would ever receive from an endpoint of its own.
            let lonely =
                label == Some(L::UntypedRetype) && call.words[0] == ObjectType::Endpoint as u64;
            let kept = gentle
                && (target == Some(Kind::Hpt) && self.keeps_any(&call)
                    || label.is_some_and(|label| self.takes_used(label, &call.words)));
            if !(fatal || power || clock || harms || lonely || kept || call.ends_the_caller(self)) {
                return call;
            }
        }
    }

    fn candidate(&self, r: &mut Random, gentle: bool) -> Call {
        // Labels that something here could understand, mostly.
        let label = loop {
            let label = L::ALL[r.below(L::COUNT as u64) as usize];
            let known = target(label).is_some_and(|kind| self.of(kind).next().is_some());
            if known || r.chance(1, 12) {
                break label;
            }
        };
        let (length, extra) = needs(label);
        let mut call = Call {
            way: Way::Call,
            cptr: target(label)
                .and_then(|kind| self.pointer(r, kind))
                .unwrap_or(0),
            label: label as u64,
            length: length as u64,
            words: self.words(r, label, gentle),
            extra: extra as u64,
            caps: self.extra_caps(r, label),
        };
        if matches!(label, L::TCBWriteRegisters | L::VCPUWriteRegisters) {
            call.length = call.words[1].saturating_add(2).min(127);
        }
        match r.below(32) {
            // The right label on the wrong capability, and the other way round.
            0 | 1 => call.cptr = self.any_pointer(r),
            2 => call.cptr = any_slot(r),
            3 => call.label = r.below(2 * L::COUNT as u64),
            4 => call.length = r.below(call.length + 1),
            5 => call.length = r.below(128),
            6 => call.extra = r.below(4),
            7 => {
                // Messages to those whom it may call.
                if let Some(cptr) = self.pointer(r, Kind::Endpoint) {
                    call.cptr = cptr;
                    call.label = if gentle { HARMLESS } else { r.below(16) };
                    call.length = r.below(9);
                    call.extra = 0;
                    call.words.fill_with(|| r.below(self.guest_memory >> 11));
                }
            }
            8 => {
                call.way = Way::NbSend;
                call.cptr = anything(r);
                call.caps = [(); 3].map(|()| anything(r));
                call.extra = r.below(4);
            }
            9 => call.way = Way::NbSend,
            // The monitor takes label 0 for the wish to be passive; others stop the sender.
            10 if !gentle && r.chance(1, 64) => {
                if let Some(cptr) = self.pointer(r, Kind::Monitor) {
                    call = Call {
                        way: Way::NbSend,
                        cptr,
                        label: 0,
                        ..call
                    };
                }
            }
            _ => {}
        }
        call
    }
}

fn dw0(r: &mut Random) -> u64 {
    if r.chance(1, 8) {
        return r.word();
    }
    let b = r.pick(&[0, 0, 1 << 62, 1 << 62, 1 << 63]);
    b | r.below(1 << 30) << 7 | r.below(2) << 4 | r.below(2) << 2 | 1
}

fn dw1_low(r: &mut Random) -> u64 {
    // LP, key, R, C, WIMG, N, PP.
    r.pick(&[0, 0x1000, 0x7000, 0x38000, 0x3000]) | r.below(1 << 12) | r.below(2) << 63
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holding::Holding;
    use partita_abi::microkit as slots;

    const HOLDINGS: &[Holding] = &[
        Holding::COMMON[0],
        Holding::COMMON[1],
        Holding::COMMON[2],
        Holding::COMMON[3],
        Holding::calls(1),
        Holding::notifies(1),
        Holding::root(Kind::Hpt, 1, 1),
        Holding::root(Kind::View, 2, 4),
        Holding::root(Kind::GSpace, 9, 1),
        Holding::own(Kind::CNode, 402, 1),
        Holding::inside(Kind::Untyped, 8, 100, 50),
        Holding::inside(Kind::Frame, 8, 150, 50),
        Holding::inside(Kind::PageTable, 8, 200, 50),
        Holding::inside(Kind::GPageTable, 8, 250, 50),
        Holding::own(Kind::Tcb, 266, 1),
        Holding::own(Kind::VCpu, 330, 1),
        Holding::root(Kind::Timer, 20, 1),
        Holding::root(Kind::Platform, 21, 1),
    ];

    fn place() -> Place {
        Place {
            holdings: HOLDINGS,
            fatal: &[L::HPTClear],
            guest_memory: 64 << 20,
            hpt_order: 20,
            cnode: (12, 3000),
            keeps: |ptex| ptex % 8 == 7,
        }
    }

    #[test]
    fn every_label_comes_up_on_every_capability_kind() {
        let (place, mut r) = (place(), Random::new(5));
        let mut labels = [0u32; L::COUNT];
        let mut kinds = [0u32; HOLDINGS.len()];
        for _ in 0..200_000 {
            let call = place.next_call(&mut r, Stage::Wild);
            if let Some(count) = labels.get_mut(call.label as usize) {
                *count += 1;
            }
            for (h, count) in HOLDINGS.iter().zip(&mut kinds) {
                *count += u32::from((0..h.count).any(|i| h.pointer(i) == call.cptr));
            }
        }
        for label in L::ALL {
            let never = matches!(label, L::PlatformPowerOff | L::PlatformReboot);
            assert_eq!(labels[label as usize] == 0, never, "{}", label.name());
        }
        for (h, count) in HOLDINGS.iter().zip(kinds) {
            let least = match h.kind {
                // `Attack::receive` uses it.
                Kind::Reply => 0,
                // It takes few messages that do not stop the sender.
                Kind::Monitor => 1,
                _ => 100,
            };
            assert!(count >= least, "{h:?}: {count}");
        }
    }

    #[test]
    fn the_first_part_spares_the_guest_and_both_spare_the_caller() {
        let (place, mut r) = (place(), Random::new(6));
        for stage in [Stage::Gentle, Stage::Wild, Stage::Last] {
            let gentle = stage == Stage::Gentle;
            for _ in 0..100_000 {
                let call = place.next_call(&mut r, stage);
                let monitor = slots::MONITOR_EP_SLOT as u64;
                assert!(call.cptr != monitor || call.way == Way::NbSend && call.label == 0);
                assert!(call.cptr != slots::REPLY_SLOT as u64);
                let request = call.cptr == Holding::calls(1).first;
                assert!(!gentle || !request || call.label == HARMLESS);
                // A server that has a message but no time never answers again.
                assert!(!request || (call.way == Way::Call) == (stage != Stage::Last));
                assert!(!gentle || call.label != L::HPTClear as u64);
                let remove = call.label == L::HPTRemove as u64;
                assert!(!gentle || !remove || !(place.keeps)(call.words[0]));
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_calls() {
        let place = place();
        let calls = |seed| {
            let mut r = Random::new(seed);
            [(); 50].map(|()| format!("{:?}", place.next_call(&mut r, Stage::Gentle).cptr))
        };
        assert_eq!(calls(1), calls(1));
        assert_ne!(calls(1), calls(2));
    }
}
