// SPDX-License-Identifier: BSD-2-Clause
//! Objects and capabilities of a system.

use crate::sdf::Target;
use partita_abi::{CapRights, ObjectType};
use partita_capdl::Trigger;
use std::collections::{BTreeMap, HashSet};

/// Index of an object in its model.
pub type ObjectId = usize;

/// All objects of a system, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The objects.
    pub objects: Vec<Named>,
    /// Threads in the order in which they start.
    pub start_order: Vec<ObjectId>,
}

/// An object and its name, which is unique.
#[derive(Clone, Debug)]
pub struct Named {
    /// `tcb_<pd>`, `cnode_<pd>`, `mr_<region>_<page>`…
    pub name: String,
    /// The object.
    pub object: Object,
}

/// A kernel object.
#[derive(Clone, Debug)]
pub enum Object {
    /// Endpoint.
    Endpoint,
    /// Notification.
    Notification,
    /// Reply object.
    Reply,
    /// Table of `1 << radix` capabilities.
    CNode {
        /// log2 of the slots.
        radix: u8,
        /// What is in them.
        slots: BTreeMap<u32, Cap>,
    },
    /// Thread.
    Tcb(Box<Tcb>),
    /// Scheduling context.
    SchedContext {
        /// Core.
        core: u32,
        /// Microseconds.
        budget_us: u64,
        /// Microseconds.
        period_us: u64,
        /// Word of a timeout fault.
        badge: u64,
    },
    /// Frame.
    Frame {
        /// log2 of its bytes.
        bits: u8,
        /// Where it comes from.
        backing: Backing,
    },
    /// Page table, or the root of an address space.
    PageTable {
        /// [`ROOT_LEVEL`] for the root, 1 for the table that holds the smallest pages.
        level: u8,
        /// First address that it serves.
        vaddr: u64,
        /// Tables and frames by index.
        slots: BTreeMap<u32, Cap>,
    },
    /// Interrupt handler.
    Irq {
        /// Interrupt source.
        number: u64,
        /// How it signals.
        trigger: Trigger,
        /// What it signals, with the badge of the signal.
        notification: Cap,
    },
    /// Untyped memory for a domain.
    Untyped {
        /// log2 of its bytes.
        bits: u8,
    },
    /// Timer.
    Timer {
        /// What it signals, with the badge of the signal.
        notification: Cap,
    },
    /// Power off, restart, clock: there is one, made by the kernel.
    Platform,
    /// Guest-physical address space. It has an LPID.
    GSpace,
    /// Hash page table, bound to a GSpace.
    Hpt {
        /// log2 of its bytes.
        order: u8,
        /// The GSpace.
        gspace: ObjectId,
        /// Its array of guest frame numbers.
        gfns: ObjectId,
        /// log2 of the page size of the virtual real mode area.
        vrma_bits: u8,
        /// Address spaces in which the real table is shown, and where.
        views: Vec<(ObjectId, u64)>,
    },
    /// Guest frame numbers of a hash page table.
    HptGfns {
        /// log2 of its bytes.
        bits: u8,
    },
    /// Thread of a guest's processor.
    GuestTcb(Box<GuestTcb>),
    /// A guest's processor.
    VCpu(Box<VCpu>),
}

/// Thread of a guest's processor: no spaces, no buffer.
#[derive(Clone, Debug)]
pub struct GuestTcb {
    /// Its scheduling context.
    pub sc: ObjectId,
    /// Where exits go that have no route.
    pub fault: Cap,
    /// Priority.
    pub priority: u8,
    /// Its name.
    pub name: String,
    /// The VCPU.
    pub vcpu: ObjectId,
}

/// A guest's processor.
#[derive(Clone, Debug)]
pub struct VCpu {
    /// Its id.
    pub id: u8,
    /// Its thread.
    pub tcb: ObjectId,
    /// Memory of the guest.
    pub gspace: ObjectId,
    /// Endpoints that it calls, and what goes there.
    pub routes: Vec<(Cap, Vec<Target>)>,
}

/// Where a frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Untyped memory: zeroed.
    Untyped,
    /// Memory at a real address: zeroed unless it is a device.
    At(u64),
    /// The boot image.
    Image {
        /// Number of the frame in the image's table.
        frame: u32,
        /// Real address.
        paddr: u64,
    },
}

/// A capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// To what.
    pub object: ObjectId,
    /// With what rights. Only for endpoints, notifications, frames, views and VCPUs.
    pub rights: CapRights,
    /// Badge of an endpoint or a notification, guard word of a CNode.
    pub badge: u64,
    /// How a frame is mapped.
    pub page: Option<Page>,
    /// Of a GSpace: only a view of it.
    pub view: bool,
}

/// How a frame is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Instructions may be fetched.
    pub execute: bool,
    /// Ordinary memory.
    pub cached: bool,
}

/// A thread.
#[derive(Clone, Debug)]
pub struct Tcb {
    /// Root of its CSpace, with guard.
    pub cspace: Cap,
    /// Its address space.
    pub vspace: ObjectId,
    /// Frame of its IPC buffer.
    pub ipc_buffer: ObjectId,
    /// Address of its IPC buffer.
    pub ipc_buffer_vaddr: u64,
    /// Its scheduling context.
    pub sc: ObjectId,
    /// Where its faults go.
    pub fault: Option<Cap>,
    /// Its bound notification.
    pub bound_notification: Option<ObjectId>,
    /// Priority.
    pub priority: u8,
    /// Maximum controlled priority.
    pub mcp: u8,
    /// First instruction.
    pub pc: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Its name.
    pub name: String,
}

/// Level of the root of an address space.
pub const ROOT_LEVEL: u8 = 4;

/// log2 of the bytes that one entry of a table of this level covers.
pub const fn entry_bits(level: u8) -> u8 {
    12 + 9 * (level - 1)
}

impl Cap {
    /// A capability with all rights and no badge.
    pub const fn full(object: ObjectId) -> Cap {
        Cap {
            object,
            rights: CapRights::ALL,
            badge: 0,
            page: None,
            view: false,
        }
    }

    /// With these rights and this badge.
    pub const fn minted(object: ObjectId, rights: CapRights, badge: u64) -> Cap {
        Cap {
            object,
            rights,
            badge,
            page: None,
            view: false,
        }
    }

    /// Of a frame, mapped like this.
    pub const fn mapped(object: ObjectId, rights: CapRights, page: Page) -> Cap {
        Cap {
            page: Some(page),
            ..Cap::minted(object, rights, 0)
        }
    }

    /// A view of a GSpace.
    pub const fn view(gspace: ObjectId, rights: CapRights) -> Cap {
        Cap {
            view: true,
            ..Cap::minted(gspace, rights, 0)
        }
    }
}

impl Object {
    /// Its type, size argument of `UntypedRetype`, and log2 of its bytes; `None` for what is not made
    /// by Retype.
    pub fn retype(&self) -> Option<(ObjectType, u8, u8)> {
        let fixed = |ty: ObjectType| Some((ty, ty.bits() as u8, ty.bits() as u8));
        match self {
            Object::Endpoint => fixed(ObjectType::Endpoint),
            Object::Notification => fixed(ObjectType::Notification),
            Object::Reply => fixed(ObjectType::Reply),
            Object::CNode { radix, .. } => Some((
                ObjectType::CNode,
                *radix,
                radix + ObjectType::CNode.bits() as u8,
            )),
            Object::Tcb(_) | Object::GuestTcb(_) => fixed(ObjectType::Tcb),
            Object::Untyped { bits } => Some((ObjectType::Untyped, *bits, *bits)),
            Object::Timer { .. } => fixed(ObjectType::Timer),
            Object::GSpace => fixed(ObjectType::GSpace),
            Object::Hpt { order, .. } => Some((ObjectType::Hpt, *order, *order)),
            Object::HptGfns { bits } => Some((ObjectType::HptGfns, *bits, *bits)),
            Object::VCpu(_) => fixed(ObjectType::VCpu),
            Object::SchedContext { .. } => fixed(ObjectType::SchedContext),
            Object::Frame {
                backing: Backing::Image { .. },
                ..
            }
            | Object::Irq { .. }
            | Object::Platform => None,
            Object::Frame { bits, .. } => fixed(match bits {
                21 => ObjectType::Frame2M,
                16 => ObjectType::Frame64K,
                _ => ObjectType::Frame4K,
            }),
            Object::PageTable {
                level: ROOT_LEVEL, ..
            } => fixed(ObjectType::VSpace),
            Object::PageTable { .. } => fixed(ObjectType::PageTable),
        }
    }

    /// Name of its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Object::Endpoint => "Endpoint",
            Object::Notification => "Notification",
            Object::Reply => "Reply",
            Object::CNode { .. } => "CNode",
            Object::Tcb(_) | Object::GuestTcb(_) => "TCB",
            Object::SchedContext { .. } => "SchedContext",
            Object::Frame { bits: 21, .. } => "Frame2M",
            Object::Frame { bits: 16, .. } => "Frame64K",
            Object::Frame { .. } => "Frame4K",
            Object::PageTable {
                level: ROOT_LEVEL, ..
            } => "VSpace",
            Object::PageTable { .. } => "PageTable",
            Object::Irq { .. } => "IRQHandler",
            Object::Untyped { .. } => "Untyped",
            Object::Timer { .. } => "Timer",
            Object::Platform => "PlatformControl",
            Object::GSpace => "GSpace",
            Object::Hpt { .. } => "HPT",
            Object::HptGfns { .. } => "HPTGfns",
            Object::VCpu(_) => "VCPU",
        }
    }
}

impl Model {
    /// Adds an object.
    pub fn add(&mut self, name: impl Into<String>, object: Object) -> ObjectId {
        self.objects.push(Named {
            name: name.into(),
            object,
        });
        self.objects.len() - 1
    }

    /// Name of an object.
    pub fn name(&self, object: ObjectId) -> &str {
        &self.objects[object].name
    }

    /// A name that two objects have: names are made of those in the description, which can be chosen
    /// so that they meet (domains `a` and `a_root` have both a `cnode_a_root`).
    pub fn name_clash(&self) -> Option<&str> {
        let mut seen = HashSet::new();
        let mut names = self.objects.iter().map(|named| named.name.as_str());
        names.find(|name| !seen.insert(*name))
    }

    /// Puts a capability into a CNode.
    ///
    /// # Panics
    /// `cnode` is not a CNode or the slot is taken: a mistake of the builder.
    pub fn place(&mut self, cnode: ObjectId, slot: u32, cap: Cap) {
        let Named {
            name,
            object: Object::CNode { radix, slots },
        } = &mut self.objects[cnode]
        else {
            panic!("'{}' is not a CNode", self.objects[cnode].name);
        };
        assert!(slot < 1 << *radix, "slot {slot} of '{name}' does not exist");
        let old = slots.insert(slot, cap);
        assert!(old.is_none(), "slot {slot} of '{name}' is taken");
    }

    /// Maps a frame into an address space, with the tables on the way. `suffix` names the tables.
    ///
    /// # Panics
    /// `root` is not an address space, or something is mapped there: a mistake of the builder.
    pub fn map(&mut self, root: ObjectId, suffix: &str, vaddr: u64, bits: u8, cap: Cap) {
        let (table, index) = self.tables(root, suffix, vaddr, bits);
        let Object::PageTable { slots, .. } = &mut self.objects[table].object else {
            panic!("'{}' is not a page table", self.objects[table].name);
        };
        let old = slots.insert(index, cap);
        assert!(old.is_none(), "{vaddr:#x} is mapped twice for '{suffix}'");
    }

    /// Makes the tables on the way to a page of `1 << bits` bytes. Answers the last of them and the
    /// page's index in it.
    ///
    /// # Panics
    /// `root` is not an address space, or a page is in the way: a mistake of the builder.
    pub fn tables(
        &mut self,
        root: ObjectId,
        suffix: &str,
        vaddr: u64,
        bits: u8,
    ) -> (ObjectId, u32) {
        let leaf = if bits == 21 { 2 } else { 1 };
        let mut table = root;
        let mut level = ROOT_LEVEL;
        loop {
            let index_bits = entry_bits(level);
            let next = self.objects.len();
            let Object::PageTable {
                vaddr: base, slots, ..
            } = &mut self.objects[table].object
            else {
                panic!("'{}' is not a page table", self.objects[table].name);
            };
            let index = ((vaddr - *base) >> index_bits) as u32;
            if level == leaf {
                return (table, index);
            }
            table = slots.entry(index).or_insert(Cap::full(next)).object;
            if table == next {
                let base = vaddr >> index_bits << index_bits;
                self.add(
                    format!("pt_{suffix}_{}_{base:x}", level - 1),
                    Object::PageTable {
                        level: level - 1,
                        vaddr: base,
                        slots: BTreeMap::new(),
                    },
                );
            }
            level -= 1;
        }
    }
}
