// SPDX-License-Identifier: BSD-2-Clause
//! What lies where in the fuzz thread's CSpace when it is filled.

use partita_abi::InvocationLabel as L;

/// Kind of a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory.
    Untyped,
    /// A thread.
    Tcb,
    /// A capability table.
    CNode,
    /// An endpoint.
    Endpoint,
    /// A notification.
    Notification,
    /// A reply object.
    Reply,
    /// A scheduling context.
    SchedContext,
    /// Authority over processor time.
    SchedControl,
    /// A frame of 4 KiB.
    Frame,
    /// A page table.
    PageTable,
    /// An address space.
    VSpace,
    /// A pool of identifiers.
    AsidPool,
    /// Authority to make pools.
    AsidControl,
    /// An interrupt.
    IrqHandler,
    /// Authority over interrupts.
    IrqControl,
    /// A timer.
    Timer,
    /// Authority over LPIDs.
    LpidControl,
    /// A guest-physical address space.
    GSpace,
    /// A table of guest pages.
    GPageTable,
    /// A hash page table.
    Hpt,
    /// Its guest frame numbers.
    HptGfns,
    /// A guest's processor.
    VCpu,
    /// A view of a guest's pages.
    View,
}

/// How many slots of each kind, in the order of the slots from 1 on.
pub const LAYOUT: &[(Kind, u64)] = &[
    (Kind::Untyped, 6),
    (Kind::Tcb, 5),
    (Kind::CNode, 3),
    (Kind::Endpoint, 6),
    (Kind::Notification, 5),
    (Kind::Reply, 4),
    (Kind::SchedContext, 4),
    (Kind::SchedControl, 1),
    (Kind::Frame, 6),
    (Kind::PageTable, 4),
    (Kind::VSpace, 3),
    (Kind::AsidPool, 1),
    (Kind::AsidControl, 1),
    (Kind::IrqHandler, 1),
    (Kind::IrqControl, 1),
    (Kind::Timer, 3),
    (Kind::LpidControl, 1),
    (Kind::GSpace, 2),
    (Kind::GPageTable, 4),
    (Kind::Hpt, 1),
    (Kind::HptGfns, 1),
    (Kind::VCpu, 2),
    (Kind::View, 2),
];

/// log2 of the slots of the CSpace.
pub const CSPACE_BITS: usize = 8;

/// First slot of a kind and how many there are.
pub fn slots(kind: Kind) -> (u64, u64) {
    let mut first = 1;
    for (k, count) in LAYOUT {
        if *k == kind {
            return (first, *count);
        }
        first += count;
    }
    (0, 1)
}

/// Slots in use when everything is filled, from 1 on.
pub fn filled() -> u64 {
    LAYOUT.iter().map(|(_, count)| count).sum()
}

/// Kind of the capability that a slot is filled with.
pub fn kind_of(slot: u64) -> Option<Kind> {
    let mut first = 1;
    for (kind, count) in LAYOUT {
        if (first..first + count).contains(&slot) {
            return Some(*kind);
        }
        first += count;
    }
    None
}

/// The kind of capability that an invocation is for; none for those of the platform, which the fuzz
/// thread has no capability to.
pub fn target(label: L) -> Option<Kind> {
    const PREFIXES: [(&str, Kind); 22] = [
        ("Untyped", Kind::Untyped),
        ("TCB", Kind::Tcb),
        ("CNode", Kind::CNode),
        ("SchedControl", Kind::SchedControl),
        ("SchedContext", Kind::SchedContext),
        ("PageTable", Kind::PageTable),
        ("Page", Kind::Frame),
        ("ASIDControl", Kind::AsidControl),
        ("ASIDPool", Kind::AsidPool),
        ("IRQIssue", Kind::IrqControl),
        ("IRQ", Kind::IrqHandler),
        ("Timer", Kind::Timer),
        ("LPIDControl", Kind::LpidControl),
        ("GPageTable", Kind::GPageTable),
        ("GSpace", Kind::GSpace),
        ("View", Kind::View),
        ("HPT", Kind::Hpt),
        ("VCPU", Kind::VCpu),
        // Not labels of today, but names that one could begin with.
        ("Frame", Kind::Frame),
        ("Notification", Kind::Notification),
        ("Endpoint", Kind::Endpoint),
        ("Reply", Kind::Reply),
    ];
    let name = label.name();
    let found = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
    found.map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_kinds_agree() {
        assert!(filled() + 1 < 1 << CSPACE_BITS);
        let mut seen = 0;
        for (kind, count) in LAYOUT {
            let (first, n) = slots(*kind);
            assert_eq!(n, *count);
            assert!((first..first + n).all(|slot| kind_of(slot) == Some(*kind)));
            seen += n;
        }
        assert_eq!(seen, filled());
        assert_eq!(kind_of(0), None);
        assert_eq!(kind_of(filled() + 1), None);
    }

    #[test]
    fn every_label_but_the_platforms_has_a_target() {
        for label in L::ALL {
            let name = label.name();
            let none = name.starts_with("Platform") || label == L::InvalidInvocation;
            assert_eq!(target(label).is_none(), none, "{name}");
            if let Some(kind) = target(label) {
                assert!(slots(kind).0 != 0, "{name} has no slot");
            }
        }
    }
}
