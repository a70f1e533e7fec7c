// SPDX-License-Identifier: BSD-2-Clause
//! Random system calls. Most are invocations with arguments that make some sense, so that they get
//! past the first checks; the rest are noise.

use crate::layout::{self, Kind};
use partita_abi::{InvocationLabel as L, ObjectType, syscall};
use testkit::Random;
use testkit::raw::needs;

/// Most message registers that a call uses.
pub const MAX_WORDS: usize = 24;

/// A system call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its number.
    pub number: isize,
    /// r3.
    pub cptr: u64,
    /// Label of the message.
    pub label: u64,
    /// Message registers in use, as the message says (it may say more than there are).
    pub length: u64,
    /// Message registers.
    pub words: [u64; MAX_WORDS],
    /// Extra capabilities, as the message says.
    pub extra: u64,
    /// Pointers of the extra capabilities.
    pub caps: [u64; 3],
    /// r14.
    pub reply: u64,
    /// r15.
    pub dest: u64,
}

/// Virtual addresses that come up.
pub const ADDRESSES: [u64; 10] = [
    0x5000_0000,
    0x5000_1000,
    0x5001_0000,
    0x5020_0000,
    0x6_0000_0000,
    0x2000_0000_0000,
    0x3fff_ffff_f000,
    0x4000_0000_0000,
    0,
    0xffff_ffff_ffff_f000,
];

/// Interrupt sources: there are few, and firmware grumbles about others on the console.
const SOURCES: [u64; 8] = [
    0,
    0x10,
    0xffff0,
    0xffff1,
    0xffff8,
    0xffff9,
    1 << 31,
    u64::MAX,
];

const EXTREMES: [u64; 16] = [
    0,
    1,
    2,
    7,
    63,
    64,
    65,
    255,
    256,
    0xfff,
    0x1000,
    1 << 31,
    1 << 46,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

fn slot_of(r: &mut Random, kind: Kind) -> u64 {
    let (first, count) = layout::slots(kind);
    first + r.below(count)
}

fn any_slot(r: &mut Random) -> u64 {
    r.below(1 << layout::CSPACE_BITS)
}

fn free_slot(r: &mut Random) -> u64 {
    let first = layout::filled() + 1;
    first + r.below((1 << layout::CSPACE_BITS) - first)
}

fn filled_slot(r: &mut Random) -> u64 {
    1 + r.below(layout::filled())
}

fn anything(r: &mut Random) -> u64 {
    match r.below(6) {
        0 => r.word(),
        1 => r.pick(&EXTREMES),
        2 => any_slot(r),
        3 => r.pick(&ADDRESSES),
        4 => 1 << r.below(64),
        _ => r.below(1 << 12),
    }
}

/// A guest real address that may be mapped.
fn guest_address(r: &mut Random) -> u64 {
    match r.below(4) {
        0 => 0,
        1 => r.below(64) << 12,
        2 => r.below(8) << 16,
        _ => r.below(4) << 21,
    }
}

/// Arguments of an invocation that make sense.
fn sensible(r: &mut Random, label: L, words: &mut [u64; MAX_WORDS]) {
    let depth = layout::CSPACE_BITS as u64;
    // The CSpace's CNode resolves all 64 bits by its guard; the small CNodes resolve four.
    let d = if r.chance(9, 10) {
        64
    } else {
        r.pick(&[0, 4, depth, 56, 63, 65])
    };
    let values: [u64; 8] = match label {
        L::UntypedRetype => {
            let kind = r.below(ObjectType::COUNT as u64);
            let bits = r.pick(&[0, 1, 2, 4, 6, 6, 8, 12, 12, 16, 18]);
            [kind, bits, 0, 0, free_slot(r), 1 + r.below(3), 0, 0]
        }
        L::CNodeRevoke | L::CNodeDelete | L::CNodeCancelBadgedSends => {
            let slot = if r.chance(1, 2) {
                free_slot(r)
            } else {
                filled_slot(r)
            };
            [slot, d, 0, 0, 0, 0, 0, 0]
        }
        L::CNodeCopy | L::CNodeMint => [
            free_slot(r),
            d,
            filled_slot(r),
            d,
            r.below(16),
            r.below(4),
            0,
            0,
        ],
        L::CNodeMove | L::CNodeMutate => [free_slot(r), d, filled_slot(r), d, 0, 0, 0, 0],
        L::CNodeRotate => {
            let (a, b) = (filled_slot(r), filled_slot(r));
            let c = if r.chance(1, 2) { free_slot(r) } else { b };
            [c, d, 0, a, d, 0, b, d]
        }
        L::TCBReadRegisters | L::TCBWriteRegisters => [
            r.below(2),
            r.below(40),
            r.pick(&ADDRESSES),
            r.pick(&ADDRESSES),
            0,
            0,
            0,
            0,
        ],
        L::TCBCopyRegisters => [r.below(16), 0, 0, 0, 0, 0, 0, 0],
        L::TCBConfigure => [0, 0, r.pick(&ADDRESSES), 0, 0, 0, 0, 0],
        L::TCBSetPriority | L::TCBSetMCPriority => [r.below(60), 0, 0, 0, 0, 0, 0, 0],
        L::TCBSetSchedParams => [r.below(60), r.below(60), 0, 0, 0, 0, 0, 0],
        L::TCBSetIPCBuffer | L::TCBSetTLSBase => [r.pick(&ADDRESSES), 0, 0, 0, 0, 0, 0, 0],
        L::SchedControlConfigureFlags => {
            let budget = 100 + r.below(2000);
            [
                budget,
                budget + r.below(20_000),
                r.below(3),
                r.word(),
                r.below(2),
                0,
                0,
                0,
            ]
        }
        L::PageMap => [r.pick(&ADDRESSES), r.below(4), r.below(4), 0, 0, 0, 0, 0],
        L::PageTableMap => [r.pick(&ADDRESSES), 0, 0, 0, 0, 0, 0, 0],
        L::ASIDControlMakePool => [free_slot(r), d, 0, 0, 0, 0, 0, 0],
        L::IRQIssueIRQHandler => [r.pick(&SOURCES), free_slot(r), d, 0, 0, 0, 0, 0],
        L::IRQIssueIRQHandlerTrigger => [r.pick(&SOURCES), r.below(2), free_slot(r), d, 0, 0, 0, 0],
        L::TimerSet => [testkit::timebase() + r.below(1 << 22), 0, 0, 0, 0, 0, 0, 0],
        L::GPageTableMap => [guest_address(r), 0, 0, 0, 0, 0, 0, 0],
        L::GSpaceMakeView => [free_slot(r), d, 1 + r.below(3), 0, 0, 0, 0, 0],
        L::ViewMap => [guest_address(r), r.pick(&ADDRESSES), 1, 0, 0, 0, 0, 0],
        L::HPTBind => [r.pick(&[12, 16, 24]), 0, 0, 0, 0, 0, 0, 0],
        L::HPTMapView => [r.pick(&ADDRESSES), 0, 0, 0, 0, 0, 0, 0],
        L::HPTInsert => {
            // dw0: AVPN, B, valid; dw1: real address, protection.
            let dw0 = r.below(1 << 20) << 12 | r.below(2) << 2 | 1;
            let dw1 = guest_address(r) | r.below(4) | 0x10 << (3 * r.below(2));
            [r.below(1 << 14), dw0, dw1, 0, 0, 0, 0, 0]
        }
        L::HPTRemove => [r.below(1 << 14), 0, 0, 0, 0, 0, 0, 0],
        L::HPTRemoveBatch => {
            let p = |r: &mut Random| r.below(1 << 14);
            [r.below(6), p(r), p(r), p(r), p(r), 0, 0, 0]
        }
        L::HPTUpdate | L::HPTClearRC => [r.below(1 << 14), r.below(1 << 10), 0, 0, 0, 0, 0, 0],
        L::VCPUReadRegisters | L::VCPUWriteRegisters => [
            r.below(64),
            r.below(64),
            r.pick(&ADDRESSES),
            r.word(),
            0,
            0,
            0,
            0,
        ],
        L::VCPUInject => [
            0x100 * r.below(16),
            r.word(),
            r.word(),
            r.word(),
            0,
            0,
            0,
            0,
        ],
        L::VCPUBindDispatchCounter => [guest_address(r) | r.below(8) << 2, 0, 0, 0, 0, 0, 0, 0],
        _ => core::array::from_fn(|_| r.below(16)),
    };
    words[..8].copy_from_slice(&values);
    for word in &mut words[8..] {
        *word = r.word();
    }
    if r.chance(1, 6) {
        let which = r.below(8) as usize;
        words[which] = anything(r);
    }
}

/// Extra capabilities that make sense.
fn sensible_caps(r: &mut Random, label: L, target: u64) -> [u64; 3] {
    use Kind as K;
    let kinds: [Kind; 3] = match label {
        L::TCBConfigure => [K::CNode, K::VSpace, K::Frame],
        L::TCBSetSpace => [K::Endpoint, K::CNode, K::VSpace],
        L::TCBSetSchedParams => [K::Tcb, K::SchedContext, K::Endpoint],
        L::TCBSetPriority | L::TCBSetMCPriority | L::TCBCopyRegisters => [K::Tcb; 3],
        L::TCBSetTimeoutEndpoint | L::VCPUSetRoute => [K::Endpoint; 3],
        L::TCBSetIPCBuffer => [K::Frame; 3],
        L::TCBBindNotification | L::IRQSetIRQHandler | L::TimerSetNotification => {
            [K::Notification; 3]
        }
        L::SchedControlConfigureFlags => [K::SchedContext; 3],
        L::SchedContextBind | L::SchedContextUnbindObject => {
            let kind = if r.chance(1, 2) {
                K::Tcb
            } else {
                K::Notification
            };
            // What has been bound is named again only if each scheduling context has its favourites.
            let (first, count) = layout::slots(K::SchedContext);
            let (favourite, favourites) = layout::slots(kind);
            let own = target.wrapping_sub(first);
            if own < count.min(favourites) && r.chance(3, 4) {
                return [favourite + own; 3];
            }
            [kind; 3]
        }
        L::PageMap => {
            if r.chance(3, 4) {
                [K::VSpace; 3]
            } else {
                [K::GSpace; 3]
            }
        }
        L::PageTableMap | L::ASIDPoolAssign | L::ViewMap | L::HPTMapView => [K::VSpace; 3],
        L::ASIDControlMakePool => [K::Untyped, K::CNode, K::CNode],
        L::LPIDControlAssign | L::GPageTableMap => [K::GSpace; 3],
        L::HPTBind => [K::GSpace, K::HptGfns, K::HptGfns],
        L::VCPUBind => [K::Tcb, K::GSpace, K::GSpace],
        L::VCPUBindDispatchCounter => [K::View; 3],
        _ => [K::CNode; 3],
    };
    // The CSpace itself is the first of its CNodes.
    let mut pick = |kind: Kind| match kind {
        K::CNode if r.chance(4, 5) => layout::slots(K::CNode).0,
        _ if r.chance(1, 12) => any_slot(r),
        kind => slot_of(r, kind),
    };
    kinds.map(&mut pick)
}

/// An invocation of something by something.
fn invocation(r: &mut Random, call: &mut Call) {
    // Labels in turn, so that none is rare.
    let label = L::ALL[r.below(L::COUNT as u64) as usize];
    let (words, caps) = needs(label);
    call.label = label as u64;
    call.cptr = match layout::target(label) {
        // The CSpace's own CNode, mostly.
        Some(Kind::CNode) if r.chance(4, 5) => layout::slots(Kind::CNode).0,
        Some(kind) if r.chance(15, 16) => slot_of(r, kind),
        _ => any_slot(r),
    };
    call.length = words as u64;
    if matches!(label, L::TCBWriteRegisters | L::VCPUWriteRegisters) {
        call.length = 2 + r.below(MAX_WORDS as u64 - 1);
    }
    call.extra = caps as u64;
    sensible(r, label, &mut call.words);
    call.caps = sensible_caps(r, label, call.cptr);
    match r.below(40) {
        0 => call.length = r.below(call.length + 1),
        1 => call.extra = r.below(4),
        2 => call.length = r.below(128),
        3 => call.label = r.below(2 * L::COUNT as u64),
        4 => call.cptr = anything(r),
        5 => call.caps = core::array::from_fn(|_| any_slot(r)),
        _ => {}
    }
}

/// The next system call.
pub fn next(r: &mut Random) -> Call {
    let mut call = Call {
        number: syscall::CALL,
        cptr: 0,
        label: 0,
        length: 0,
        words: [0; MAX_WORDS],
        extra: 0,
        caps: [0; 3],
        reply: slot_of(r, Kind::Reply),
        dest: slot_of(r, Kind::Endpoint),
    };
    let pick = r.below(1000);
    if pick < 800 {
        invocation(r, &mut call);
        // Some without waiting for the answer.
        match pick {
            0..20 => call.number = syscall::SEND,
            20..40 => call.number = syscall::NB_SEND,
            _ => {}
        }
        return call;
    }
    call.label = r.below(1 << 20);
    call.length = if r.chance(1, 4) {
        r.below(128)
    } else {
        r.below(9)
    };
    call.extra = if r.chance(1, 4) { r.below(4) } else { 0 };
    call.caps = core::array::from_fn(|_| any_slot(r));
    for word in &mut call.words {
        *word = r.word();
    }
    call.cptr = match r.below(8) {
        0..4 => slot_of(r, Kind::Endpoint),
        4..6 => slot_of(r, Kind::Notification),
        6 => any_slot(r),
        _ => anything(r),
    };
    if r.chance(1, 16) {
        call.reply = anything(r);
        call.dest = anything(r);
    }
    call.number = match pick {
        800..830 => syscall::CALL,
        830..860 => syscall::SEND,
        860..890 => syscall::NB_SEND,
        890..905 => syscall::RECV,
        905..940 => syscall::NB_RECV,
        940..945 => syscall::WAIT,
        945..970 => syscall::NB_WAIT,
        970..980 => syscall::REPLY_RECV,
        980..986 => syscall::NB_SEND_RECV,
        986..990 => syscall::NB_SEND_WAIT,
        990..994 => syscall::YIELD,
        994..997 => r.below(40) as isize - 20,
        _ => r.word() as isize,
    };
    if pick >= 970 && call.number < 0 && r.chance(1, 4) {
        call.dest = slot_of(r, Kind::Notification);
    }
    call
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_and_system_call_comes_up() {
        let mut r = Random::new(1);
        let mut labels = [0u32; L::COUNT];
        let mut numbers = [0u32; (-syscall::LAST + 1) as usize];
        let mut extras = [0u32; 4];
        for _ in 0..200_000 {
            let call = next(&mut r);
            if let Some(count) = labels.get_mut(call.label as usize) {
                *count += 1;
            }
            if let Some(count) = numbers.get_mut(call.number.wrapping_neg() as usize) {
                *count += 1;
            }
            assert!(call.length < 128);
            extras[call.extra as usize] += 1;
        }
        assert!(labels.iter().all(|n| *n > 100), "{labels:?}");
        assert!(numbers[1..].iter().all(|n| *n > 100), "{numbers:?}");
        assert!(extras.iter().all(|n| *n > 100), "{extras:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_calls() {
        let (mut a, mut b) = (Random::new(9), Random::new(9));
        for _ in 0..1000 {
            assert_eq!(format!("{:?}", next(&mut a)), format!("{:?}", next(&mut b)));
        }
    }

    #[test]
    fn most_invocations_are_of_the_right_object() {
        let mut r = Random::new(3);
        let (mut right, mut all) = (0, 0);
        for _ in 0..20_000 {
            let call = next(&mut r);
            let label = L::from_number(call.label).and_then(layout::target);
            if let Some(kind) = label {
                all += 1;
                right += u32::from(layout::kind_of(call.cptr) == Some(kind));
            }
        }
        assert!(right * 10 > all * 8, "{right} of {all}");
    }
}
