// SPDX-License-Identifier: BSD-2-Clause
//! Which capabilities a protection domain has, and where.

use partita_abi::InvocationLabel as L;
use partita_abi::microkit as slots;

/// What a capability is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory.
    Untyped,
    /// A capability table.
    CNode,
    /// A frame.
    Frame,
    /// A table of the host's address spaces.
    PageTable,
    /// The address space.
    VSpace,
    /// The end of a channel on which it may call.
    Endpoint,
    /// The end of a channel on which it may notify.
    Notification,
    /// The endpoint on which it receives.
    Input,
    /// Its reply object.
    Reply,
    /// The monitor's endpoint.
    Monitor,
    /// The thread of a guest's processor.
    Tcb,
    /// A guest's processor.
    VCpu,
    /// A view of guest pages.
    View,
    /// A guest-physical address space.
    GSpace,
    /// A table of guest pages.
    GPageTable,
    /// A hash page table.
    Hpt,
    /// A timer.
    Timer,
    /// The platform.
    Platform,
}

/// Capabilities of one kind at consecutive pointers.
#[derive(Clone, Copy, Debug)]
pub struct Holding {
    /// What they are.
    pub kind: Kind,
    /// Pointer of the first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// From one to the next.
    pub step: u64,
}

/// Slots of `<cspace>` are this far apart.
const ROOT_STEP: u64 = 1 << (64 - slots::ROOT_CNODE_BITS);

impl Holding {
    /// In the Microkit CNode, from slot `slot` on.
    pub const fn own(kind: Kind, slot: usize, count: u64) -> Self {
        Holding {
            kind,
            first: slot as u64,
            count,
            step: 1,
        }
    }

    /// In `<cspace>`, from slot `slot` on.
    pub const fn root(kind: Kind, slot: usize, count: u64) -> Self {
        Holding {
            kind,
            first: slot as u64 * ROOT_STEP,
            count,
            step: ROOT_STEP,
        }
    }

    /// In the CNode in slot `slot` of `<cspace>`, from `index` on.
    pub const fn inside(kind: Kind, slot: usize, index: u64, count: u64) -> Self {
        Holding {
            kind,
            first: (slot as u64 * ROOT_STEP) | index,
            count,
            step: 1,
        }
    }

    /// A channel's end on which it may call the other.
    pub const fn calls(id: usize) -> Self {
        Self::own(Kind::Endpoint, slots::OUTPUT_ENDPOINT_BASE + id, 1)
    }

    /// A channel's end on which it may notify the other.
    pub const fn notifies(id: usize) -> Self {
        Self::own(Kind::Notification, slots::OUTPUT_NOTIFICATION_BASE + id, 1)
    }

    /// What every passive protection domain has.
    pub const COMMON: [Holding; 4] = [
        Self::own(Kind::Input, slots::INPUT_SLOT, 1),
        Self::own(Kind::VSpace, slots::VSPACE_SLOT, 1),
        Self::own(Kind::Reply, slots::REPLY_SLOT, 1),
        Self::own(Kind::Monitor, slots::MONITOR_EP_SLOT, 1),
    ];

    /// Pointer number `i`.
    pub const fn pointer(&self, i: u64) -> u64 {
        self.first + i * self.step
    }
}

/// Where a program attacks from: its capabilities, and figures that make arguments plausible.
#[derive(Clone, Debug)]
pub struct Place {
    /// All of its capabilities.
    pub holdings: &'static [Holding],
    /// Labels that the first part leaves out.
    pub fatal: &'static [L],
    /// Bytes of guest memory.
    pub guest_memory: u64,
    /// log2 of the bytes of the hash page table.
    pub hpt_order: u32,
    /// log2 of the slots of its own CNode, and the first that it does not need itself; 0 if it has none.
    pub cnode: (u32, u64),
    /// An entry of the hash page table that the first part leaves alone.
    pub keeps: fn(u64) -> bool,
}

impl Place {
    /// All holdings of a kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &'static Holding> + use<> {
        self.holdings.iter().filter(move |h| h.kind == kind)
    }
}

/// The kind of capability that a label is for; `None` if no protection domain of a guest has one.
pub fn target(label: L) -> Option<Kind> {
    const PREFIXES: [(&str, Kind); 14] = [
        ("Untyped", Kind::Untyped),
        ("TCB", Kind::Tcb),
        ("CNode", Kind::CNode),
        ("PageTable", Kind::PageTable),
        ("Page", Kind::Frame),
        ("Timer", Kind::Timer),
        ("Platform", Kind::Platform),
        ("GPageTable", Kind::GPageTable),
        ("GSpace", Kind::GSpace),
        ("View", Kind::View),
        ("HPT", Kind::Hpt),
        ("VCPU", Kind::VCpu),
        ("Endpoint", Kind::Endpoint),
        ("Notification", Kind::Notification),
    ];
    let name = label.name();
    let found = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
    found.map(|(_, kind)| *kind)
}
