// SPDX-License-Identifier: BSD-2-Clause
//! The system description: what the XML file says, checked as far as the file alone permits.
//!
//! [`parse`] reads the elements (grammar), [`check`] the rules between them.

mod attributes;
mod check;
mod error;
mod guest;
mod parse;
mod parse_guest;

pub use check::check;
pub use error::{Place, Problem, SdfError};
pub use guest::{Endpoint, Route, Target, Vcpu, VirtualMachine};
pub use parse::{parse, text};

use partita_abi::CapRights;
use partita_capdl::Trigger;
use std::sync::Arc;

/// A whole system; indices refer to the vectors here.
#[derive(Clone, Debug)]
pub struct System {
    /// Protection domains, parents before their children.
    pub pds: Vec<ProtectionDomain>,
    /// Memory regions.
    pub regions: Vec<MemoryRegion>,
    /// Channels.
    pub channels: Vec<[End; 2]>,
    /// Virtual machines.
    pub vms: Vec<VirtualMachine>,
}

/// `<protection_domain>`.
#[derive(Clone, Debug)]
pub struct ProtectionDomain {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// 0 to 254.
    pub priority: u8,
    /// Microseconds.
    pub budget: u64,
    /// Microseconds.
    pub period: u64,
    /// Gives its scheduling context away after `init`.
    pub passive: bool,
    /// Bytes.
    pub stack_size: u64,
    /// Core.
    pub cpu: u32,
    /// Its parent and its id there.
    pub parent: Option<Parent>,
    /// Where `<program_image>` stands.
    pub program_place: Place,
    /// `path` of `<program_image>`.
    pub program: String,
    /// `path_for_symbols` of `<program_image>`.
    pub program_for_symbols: Option<String>,
    /// `<map>`.
    pub maps: Vec<Map>,
    /// `<irq>`.
    pub irqs: Vec<Irq>,
    /// `<setvar>` and the `setvar_*` attributes.
    pub setvars: Vec<SetVar>,
    /// What `<cspace>` grants.
    pub grants: Vec<Grant>,
}

/// The parent of a protection domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Index of the parent.
    pub pd: usize,
    /// Id of the child, 0 to 61.
    pub id: u8,
}

/// `<map>`.
#[derive(Clone, Debug)]
pub struct Map {
    /// Where it stands.
    pub place: Place,
    /// Index of the region.
    pub region: usize,
    /// First virtual address.
    pub vaddr: u64,
    /// The domain may write.
    pub write: bool,
    /// The domain may execute.
    pub execute: bool,
}

/// `<irq>`.
#[derive(Clone, Debug)]
pub struct Irq {
    /// Where it stands.
    pub place: Place,
    /// Interrupt source.
    pub irq: u64,
    /// Id in the domain, 0 to 61.
    pub id: u8,
    /// How it signals.
    pub trigger: Trigger,
}

/// A variable of the program that the tool sets.
#[derive(Clone, Debug)]
pub struct SetVar {
    /// Where it stands.
    pub place: Place,
    /// Its symbol, eight bytes.
    pub symbol: String,
    /// What it becomes.
    pub value: SetVarValue,
}

/// Value of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetVarValue {
    /// A number known from the file: an address or an id.
    Number(u64),
    /// Bytes of a region.
    Size(usize),
    /// Bytes of the file that a region is filled from.
    PrefillSize(usize),
    /// Real address of a region.
    Paddr(usize),
    /// How many vCPUs a virtual machine has.
    Vcpus(usize),
}

/// What a `<cap_*>` grants. Domains and virtual machines are indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantKind {
    /// The thread of another domain.
    Tcb(usize),
    /// The scheduling context of another domain.
    SchedContext(usize),
    /// The address space of another domain.
    VSpace(usize),
    /// `count` pieces of `1 << bits` bytes of untyped memory.
    Untyped {
        /// log2 of the bytes of one.
        bits: u8,
        /// How many.
        count: u32,
    },
    /// An empty CNode of `1 << radix` slots.
    CNode {
        /// log2 of the slots.
        radix: u8,
    },
    /// The guest-physical address space of a virtual machine.
    GSpace(usize),
    /// Views of it.
    View {
        /// The virtual machine.
        vm: usize,
        /// The views can be written.
        write: bool,
        /// How many.
        count: u32,
        /// Where page tables are wanted, one page a view.
        vaddr: Option<u64>,
    },
    /// The hash page table of a virtual machine.
    Hpt {
        /// The virtual machine.
        vm: usize,
        /// Where the real table is shown.
        vaddr: Option<u64>,
    },
    /// The VCPU objects of a virtual machine.
    VCpu {
        /// The virtual machine.
        vm: usize,
        /// With these rights.
        rights: CapRights,
        /// How many it has.
        count: u32,
    },
    /// A timer that signals `1 << id`.
    Timer {
        /// Channel id, 0 to 61.
        id: u8,
    },
    /// Power off, restart, clock.
    Platform,
}

/// `<cap_*>`.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Where it stands.
    pub place: Place,
    /// What.
    pub kind: GrantKind,
    /// First slot of the root CNode, 1 to 63.
    pub slot: u32,
}

impl Grant {
    /// Slots of the root CNode that it takes.
    pub fn slots(&self) -> std::ops::Range<u32> {
        let count = match self.kind {
            GrantKind::Untyped { count, .. }
            | GrantKind::View { count, .. }
            | GrantKind::VCpu { count, .. } => count,
            _ => 1,
        };
        self.slot..self.slot + count
    }
}

/// `<memory_region>`.
#[derive(Clone, Debug)]
pub struct MemoryRegion {
    /// Where it stands.
    pub place: Place,
    /// Its name.
    pub name: String,
    /// Bytes; `None`: those of the prefill file, rounded up.
    pub size: Option<u64>,
    /// log2 of the page size, if the file says so.
    pub page_bits: Option<u8>,
    /// Real address.
    pub phys_addr: Option<u64>,
    /// File with its first contents.
    pub prefill_path: Option<String>,
    /// First contents that are no file: a guest's command line.
    pub text: Option<Arc<Vec<u8>>>,
    /// What a guest is started from: its page size follows from its length.
    pub guest_image: bool,
}

/// `<end>` of a channel.
#[derive(Clone, Debug)]
pub struct End {
    /// Where it stands.
    pub place: Place,
    /// Index of the domain.
    pub pd: usize,
    /// Id in the domain, 0 to 61.
    pub id: u8,
    /// May make protected procedure calls to the other end.
    pub pp: bool,
    /// May notify the other end.
    pub notify: bool,
}

/// A capability of one end of a channel: who holds it, who receives.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// Domain that sends.
    pub from: usize,
    /// Its channel id.
    pub from_id: u8,
    /// Domain that receives.
    pub to: usize,
    /// Its channel id.
    pub to_id: u8,
}

impl System {
    fn outgoing(&self, wanted: impl Fn(&End) -> bool) -> Vec<Outgoing> {
        let mut list = Vec::new();
        for [a, b] in &self.channels {
            for (from, to) in [(a, b), (b, a)] {
                if wanted(from) {
                    list.push(Outgoing {
                        from: from.pd,
                        from_id: from.id,
                        to: to.pd,
                        to_id: to.id,
                    });
                }
            }
        }
        list
    }

    /// Who may notify whom, in the order of the file.
    pub fn notifications(&self) -> Vec<Outgoing> {
        self.outgoing(|end| end.notify)
    }

    /// Who may call whom, in the order of the file.
    pub fn calls(&self) -> Vec<Outgoing> {
        self.outgoing(|end| end.pp)
    }

    /// Children of a domain: index and id.
    pub fn children(&self, pd: usize) -> impl Iterator<Item = (usize, u8)> + '_ {
        self.pds
            .iter()
            .enumerate()
            .filter_map(move |(i, child)| child.parent.filter(|p| p.pd == pd).map(|p| (i, p.id)))
    }

    /// Whether a domain waits on an endpoint: it has children or vCPUs, or receives calls.
    pub fn needs_endpoint(&self, pd: usize) -> bool {
        self.children(pd).next().is_some()
            || self.calls().iter().any(|c| c.to == pd)
            || self.vms.iter().any(|vm| vm.concerns(pd))
    }
}
