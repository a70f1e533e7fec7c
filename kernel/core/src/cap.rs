// SPDX-License-Identifier: BSD-2-Clause
//! Capabilities: the two words of a slot and their meaning.
//!
//! First word: type 63:56, type-specific 55:48, object address 47:0; for frames and untyped memory,
//! which devices can be, address 55:6 or 55:12 and the rest below it. The fast path of the arch shell
//! tests endpoint, reply and CNode words directly, hence the public layout constants.

use crate::gspace::GSpace;
use crate::object::{Endpoint, Notification, Ref, Reply, SchedContext, Slot, Tcb, Timer};
use crate::vcpu::Vcpu;
use partita_abi::CapRights;

/// Capability types: seL4's numbers where seL4 has the type (even: generic, odd: arch).
pub mod tag {
    #![allow(missing_docs)]
    pub const FRAME: u64 = 1;
    pub const UNTYPED: u64 = 2;
    pub const PAGE_TABLE: u64 = 3;
    pub const ENDPOINT: u64 = 4;
    pub const NOTIFICATION: u64 = 6;
    pub const REPLY: u64 = 8;
    pub const VSPACE: u64 = 9;
    pub const CNODE: u64 = 10;
    pub const ASID_CONTROL: u64 = 11;
    pub const THREAD: u64 = 12;
    pub const ASID_POOL: u64 = 13;
    pub const IRQ_CONTROL: u64 = 14;
    pub const IRQ_HANDLER: u64 = 16;
    pub const ZOMBIE: u64 = 18;
    pub const SCHED_CONTEXT: u64 = 22;
    pub const SCHED_CONTROL: u64 = 24;
    pub const VCPU: u64 = 15;
    pub const GSPACE: u64 = 17;
    pub const GPAGE_TABLE: u64 = 19;
    pub const HPT: u64 = 21;
    pub const HPT_GFNS: u64 = 23;
    pub const GSPACE_VIEW: u64 = 25;
    pub const LPID_CONTROL: u64 = 27;
    pub const TIMER: u64 = 26;
    pub const PLATFORM_CONTROL: u64 = 28;
}

/// Bits 55:48 of an endpoint's or notification's first word: the rights of
/// [`CapRights`], and for an endpoint [`rights_bit::CAN_REPLY`].
pub mod rights_bit {
    #![allow(missing_docs)]
    pub const SEND: u64 = 1;
    pub const RECEIVE: u64 = 2;
    pub const GRANT: u64 = 4;
    pub const GRANT_REPLY: u64 = 8;
    /// Grant or GrantReply, so that the fast path tests one bit.
    pub const CAN_REPLY: u64 = 16;
}

/// Shift of the type in the first word.
pub const TYPE_SHIFT: u32 = 56;
/// Shift of the type-specific byte in the first word.
pub const EXTRA_SHIFT: u32 = 48;
/// Kernel objects lie in normal memory, below 2^48.
pub(crate) const ADDR_MASK: u64 = (1 << 48) - 1;
/// Frames and untyped memory can be devices, at any real address.
const LONG_ADDR_MASK: u64 = (1 << 56) - 1;
const MAX_UNTYPED_BYTES: u64 = 1 << 47;
/// Largest number that `Untyped::zeroed` keeps.
const ZEROED_MASK: u64 = (1 << 21) - 1;
/// Low bits of a page-aligned address.
const PAGE_MASK: u64 = 0xfff;
/// Bytes that one step of clearing handles; also the grain of `zeroed`.
pub const CLEAR_CHUNK: u64 = 1 << 16;

/// Where a frame or page table is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// PID of the address space, or LPID | [`Mapping::GUEST`] of a guest's.
    pub pid: u64,
    /// Virtual address, or guest real address.
    pub vaddr: u64,
}

impl Mapping {
    /// Bit of `pid`: the mapping is in a GSpace.
    pub const GUEST: u64 = 0x8000;

    /// LPID of a mapping in a GSpace.
    pub fn lpid(&self) -> Option<u64> {
        if self.pid & Self::GUEST != 0 {
            Some(self.pid & !Self::GUEST)
        } else {
            None
        }
    }
}

/// A view of guest memory: the right to map one 4 KiB piece of a GSpace into an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The GSpace.
    pub gspace: Ref<GSpace>,
    /// READ and WRITE.
    pub rights: CapRights,
    /// Where it is mapped (virtual address below 2^42) and which guest page (below 2^46).
    pub mapping: Option<(Mapping, u64)>,
}

impl Mapping {
    fn pack(m: Option<Mapping>) -> u64 {
        match m {
            None => 0,
            Some(m) => (m.pid << 48) | m.vaddr,
        }
    }

    fn unpack(w: u64) -> Option<Mapping> {
        if w >> 48 == 0 {
            None
        } else {
            Some(Mapping {
                pid: w >> 48,
                vaddr: w & ADDR_MASK,
            })
        }
    }
}

/// Untyped memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untyped {
    /// Real address.
    pub addr: u64,
    /// log2 of the size in bytes.
    pub bits: u32,
    /// Bytes handed out, a multiple of 64.
    pub free: u64,
    /// Chunks of [`CLEAR_CHUNK`] bytes from `free` on that are known to be zero (an interrupted
    /// Retype goes on there).
    pub zeroed: u64,
    /// Device memory: only frames can be made of it, and it is never cleared.
    pub device: bool,
}

/// A page of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Real address.
    pub addr: u64,
    /// log2 of the size: 12, 16 or 21.
    pub bits: u32,
    /// READ and WRITE.
    pub rights: CapRights,
    /// Device memory: mapped cache-inhibited and guarded.
    pub device: bool,
    /// Where it is mapped.
    pub mapping: Option<Mapping>,
}

/// What a dying CNode or TCB leaves in its slot until its own slots are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zombie {
    /// First slot.
    pub slots: u64,
    /// Object address.
    pub addr: u64,
    /// log2 of the slots of a CNode; [`Zombie::TCB`] for a TCB.
    pub kind: u32,
    /// Slots that may still hold something.
    pub remaining: u64,
}

impl Zombie {
    /// `kind` of a dead TCB.
    pub const TCB: u32 = 0xff;
}

/// A decoded capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Cap {
    Null,
    Untyped(Untyped),
    Endpoint {
        ep: Ref<Endpoint>,
        badge: u64,
        rights: CapRights,
    },
    Notification {
        ntfn: Ref<Notification>,
        badge: u64,
        rights: CapRights,
    },
    Reply {
        reply: Ref<Reply>,
        can_grant: bool,
    },
    CNode {
        addr: u64,
        radix: u32,
        guard: u64,
        guard_bits: u32,
    },
    Thread(Ref<Tcb>),
    IrqControl,
    IrqHandler {
        index: usize,
    },
    Zombie(Zombie),
    SchedContext(Ref<SchedContext>),
    SchedControl {
        core: usize,
    },
    Timer(Ref<Timer>),
    PlatformControl,
    Frame(Frame),
    PageTable {
        addr: u64,
        mapping: Option<Mapping>,
    },
    VSpace {
        addr: u64,
    },
    AsidControl,
    AsidPool {
        addr: u64,
        index: usize,
    },
    LpidControl,
    GSpace(Ref<GSpace>),
    GPageTable {
        addr: u64,
        mapping: Option<Mapping>,
    },
    View(View),
    Hpt {
        addr: u64,
        order: u32,
        lpid: u64,
    },
    HptGfns {
        addr: u64,
        bits: u32,
    },
    /// READ: registers and times; WRITE: all else but GRANT_REPLY: its own entry and the dispatch counter.
    VCpu {
        vcpu: Ref<Vcpu>,
        rights: CapRights,
    },
}

const fn word(tag: u64, extra: u64, addr: u64) -> u64 {
    (tag << TYPE_SHIFT) | (extra << EXTRA_SHIFT) | addr
}

fn rights_extra(rights: CapRights) -> u64 {
    let can_reply = rights.0 & (rights_bit::GRANT | rights_bit::GRANT_REPLY) != 0;
    rights.0 | if can_reply { rights_bit::CAN_REPLY } else { 0 }
}

impl Cap {
    /// The words of this capability.
    pub fn pack(&self) -> (u64, u64) {
        match *self {
            Cap::Null => (0, 0),
            // At least 64 bytes, aligned: the low bits of the address hold the size.
            Cap::Untyped(u) => (
                (tag::UNTYPED << TYPE_SHIFT) | u.addr | u64::from(u.bits),
                (u64::from(u.device) << 63) | (u.free >> 6 << 21) | u.zeroed.min(ZEROED_MASK),
            ),
            Cap::Endpoint { ep, badge, rights } => {
                (word(tag::ENDPOINT, rights_extra(rights), ep.addr()), badge)
            }
            Cap::Notification {
                ntfn,
                badge,
                rights,
            } => (word(tag::NOTIFICATION, rights.0, ntfn.addr()), badge),
            Cap::Reply { reply, can_grant } => {
                (word(tag::REPLY, u64::from(can_grant), reply.addr()), 0)
            }
            Cap::CNode {
                addr,
                radix,
                guard,
                guard_bits,
            } => (
                word(tag::CNODE, u64::from(radix), addr),
                (guard << 6) | u64::from(guard_bits),
            ),
            Cap::Thread(t) => (word(tag::THREAD, 0, t.addr()), 0),
            Cap::IrqControl => (word(tag::IRQ_CONTROL, 0, 0), 0),
            Cap::IrqHandler { index } => (word(tag::IRQ_HANDLER, 0, index as u64), 0),
            Cap::Zombie(z) => (word(tag::ZOMBIE, u64::from(z.kind), z.addr), z.remaining),
            Cap::SchedContext(sc) => (word(tag::SCHED_CONTEXT, 0, sc.addr()), 0),
            Cap::SchedControl { core } => (word(tag::SCHED_CONTROL, 0, core as u64), 0),
            Cap::Timer(t) => (word(tag::TIMER, 0, t.addr()), 0),
            Cap::PlatformControl => (word(tag::PLATFORM_CONTROL, 0, 0), 0),
            Cap::Frame(f) => {
                let size = match f.bits {
                    12 => 0,
                    16 => 1,
                    _ => 2,
                };
                let extra = size | ((f.rights.0 & 3) << 2) | (u64::from(f.device) << 4);
                // Page aligned: the low bits of the address hold the rest.
                (
                    (tag::FRAME << TYPE_SHIFT) | f.addr | extra,
                    Mapping::pack(f.mapping),
                )
            }
            Cap::PageTable { addr, mapping } => {
                (word(tag::PAGE_TABLE, 0, addr), Mapping::pack(mapping))
            }
            Cap::VSpace { addr } => (word(tag::VSPACE, 0, addr), 0),
            Cap::AsidControl => (word(tag::ASID_CONTROL, 0, 0), 0),
            Cap::AsidPool { addr, index } => (word(tag::ASID_POOL, index as u64, addr), 0),
            Cap::LpidControl => (word(tag::LPID_CONTROL, 0, 0), 0),
            Cap::GSpace(g) => (word(tag::GSPACE, 0, g.addr()), 0),
            Cap::GPageTable { addr, mapping } => {
                (word(tag::GPAGE_TABLE, 0, addr), Mapping::pack(mapping))
            }
            // A GSpace is page aligned: the low bits of the address hold the PID.
            Cap::View(v) => {
                let (pid, w1) = match v.mapping {
                    None => (0, 0),
                    Some((m, gpa)) => (m.pid, (m.vaddr >> 12 << 34) | (gpa >> 12)),
                };
                (
                    word(tag::GSPACE_VIEW, v.rights.0 & 3, v.gspace.addr() | pid),
                    w1,
                )
            }
            Cap::Hpt { addr, order, lpid } => (word(tag::HPT, u64::from(order), addr), lpid),
            Cap::HptGfns { addr, bits } => (word(tag::HPT_GFNS, u64::from(bits), addr), 0),
            Cap::VCpu { vcpu, rights } => (word(tag::VCPU, rights.0, vcpu.addr()), 0),
        }
    }

    /// The capability in two words; words that no capability packs to give `Null`.
    pub fn unpack(w0: u64, w1: u64) -> Cap {
        let extra = (w0 >> EXTRA_SHIFT) & 0xff;
        let addr = w0 & ADDR_MASK;
        match w0 >> TYPE_SHIFT {
            tag::UNTYPED => Cap::Untyped(Untyped {
                addr: w0 & LONG_ADDR_MASK & !0x3f,
                bits: (w0 & 0x3f) as u32,
                free: (w1 >> 21 << 6) & (MAX_UNTYPED_BYTES | (MAX_UNTYPED_BYTES - 1)),
                zeroed: w1 & ZEROED_MASK,
                device: w1 >> 63 != 0,
            }),
            tag::ENDPOINT => Ref::new(addr).map_or(Cap::Null, |ep| Cap::Endpoint {
                ep,
                badge: w1,
                rights: CapRights::from_word(extra),
            }),
            tag::NOTIFICATION => Ref::new(addr).map_or(Cap::Null, |ntfn| Cap::Notification {
                ntfn,
                badge: w1,
                rights: CapRights::from_word(extra),
            }),
            tag::REPLY => Ref::new(addr).map_or(Cap::Null, |reply| Cap::Reply {
                reply,
                can_grant: extra & 1 != 0,
            }),
            tag::CNODE => Cap::CNode {
                addr,
                radix: extra as u32,
                guard: w1 >> 6,
                guard_bits: (w1 & 0x3f) as u32,
            },
            tag::THREAD => Ref::new(addr).map_or(Cap::Null, Cap::Thread),
            tag::IRQ_CONTROL => Cap::IrqControl,
            tag::IRQ_HANDLER => Cap::IrqHandler {
                index: addr as usize,
            },
            tag::ZOMBIE => Cap::Zombie(Zombie {
                slots: if extra == u64::from(Zombie::TCB) {
                    addr + core::mem::offset_of!(Tcb, slots) as u64
                } else {
                    addr
                },
                addr,
                kind: extra as u32,
                remaining: w1,
            }),
            tag::SCHED_CONTEXT => Ref::new(addr).map_or(Cap::Null, Cap::SchedContext),
            tag::SCHED_CONTROL => Cap::SchedControl {
                core: addr as usize,
            },
            tag::TIMER => Ref::new(addr).map_or(Cap::Null, Cap::Timer),
            tag::PLATFORM_CONTROL => Cap::PlatformControl,
            tag::FRAME => Cap::Frame(Frame {
                addr: w0 & LONG_ADDR_MASK & !0xfff,
                bits: match w0 & 3 {
                    0 => 12,
                    1 => 16,
                    _ => 21,
                },
                rights: CapRights((w0 >> 2) & 3),
                device: w0 & 16 != 0,
                mapping: Mapping::unpack(w1),
            }),
            tag::PAGE_TABLE => Cap::PageTable {
                addr,
                mapping: Mapping::unpack(w1),
            },
            tag::VSPACE => Cap::VSpace { addr },
            tag::ASID_CONTROL => Cap::AsidControl,
            tag::ASID_POOL => Cap::AsidPool {
                addr,
                index: extra as usize,
            },
            tag::LPID_CONTROL => Cap::LpidControl,
            tag::GSPACE => Ref::new(addr).map_or(Cap::Null, Cap::GSpace),
            tag::GPAGE_TABLE => Cap::GPageTable {
                addr,
                mapping: Mapping::unpack(w1),
            },
            tag::GSPACE_VIEW => Ref::new(addr & !PAGE_MASK).map_or(Cap::Null, |gspace| {
                let mapping = match addr & PAGE_MASK {
                    0 => None,
                    pid => Some((
                        Mapping {
                            pid,
                            vaddr: w1 >> 34 << 12,
                        },
                        (w1 & ((1 << 34) - 1)) << 12,
                    )),
                };
                Cap::View(View {
                    gspace,
                    rights: CapRights(extra & 3),
                    mapping,
                })
            }),
            tag::HPT => Cap::Hpt {
                addr,
                order: extra as u32,
                lpid: w1,
            },
            tag::HPT_GFNS => Cap::HptGfns {
                addr,
                bits: extra as u32,
            },
            tag::VCPU => Ref::new(addr).map_or(Cap::Null, |vcpu| Cap::VCpu {
                vcpu,
                rights: CapRights::from_word(extra),
            }),
            _ => Cap::Null,
        }
    }

    /// Whether it is the null capability.
    pub fn is_null(&self) -> bool {
        matches!(self, Cap::Null)
    }

    /// The memory that the object of this capability occupies: (address, bytes). `None` for
    /// capabilities without memory of their own.
    pub fn region(&self) -> Option<(u64, u64)> {
        use partita_abi::ObjectType as T;
        let fixed = |addr: u64, t: T| Some((addr, 1u64 << t.bits()));
        match *self {
            Cap::Untyped(u) => Some((u.addr, 1 << u.bits)),
            Cap::Endpoint { ep, .. } => fixed(ep.addr(), T::Endpoint),
            Cap::Notification { ntfn, .. } => fixed(ntfn.addr(), T::Notification),
            Cap::Reply { reply, .. } => fixed(reply.addr(), T::Reply),
            Cap::CNode { addr, radix, .. } => Some((addr, 32 << radix)),
            Cap::Thread(t) => fixed(t.addr(), T::Tcb),
            Cap::Zombie(z) if z.kind == Zombie::TCB => fixed(z.addr, T::Tcb),
            Cap::Zombie(z) => Some((z.addr, 32 << z.kind)),
            Cap::SchedContext(sc) => fixed(sc.addr(), T::SchedContext),
            Cap::Timer(t) => fixed(t.addr(), T::Timer),
            Cap::Frame(f) => Some((f.addr, 1 << f.bits)),
            Cap::PageTable { addr, .. } => fixed(addr, T::PageTable),
            Cap::VSpace { addr } => fixed(addr, T::VSpace),
            Cap::Null
            | Cap::IrqControl
            | Cap::IrqHandler { .. }
            | Cap::SchedControl { .. }
            | Cap::PlatformControl
            | Cap::LpidControl
            | Cap::AsidControl => None,
            Cap::GSpace(g) | Cap::View(View { gspace: g, .. }) => fixed(g.addr(), T::GSpace),
            Cap::GPageTable { addr, .. } => fixed(addr, T::GPageTable),
            Cap::Hpt { addr, order, .. } => Some((addr, 1 << order)),
            Cap::HptGfns { addr, bits } => Some((addr, 1 << bits)),
            Cap::VCpu { vcpu, .. } => fixed(vcpu.addr(), T::VCpu),
            Cap::AsidPool { addr, .. } => Some((addr, 1 << 12)),
        }
    }

    /// Whether the two name the same object.
    pub fn same_object(&self, other: &Cap) -> bool {
        match (self, other) {
            // Two untypeds at one address may be parent and child; they are never "the same".
            (Cap::Untyped(_), _) | (_, Cap::Untyped(_)) => false,
            (Cap::IrqControl, Cap::IrqControl)
            | (Cap::PlatformControl, Cap::PlatformControl)
            | (Cap::LpidControl, Cap::LpidControl)
            | (Cap::AsidControl, Cap::AsidControl) => true,
            (Cap::IrqHandler { index: a }, Cap::IrqHandler { index: b })
            | (Cap::SchedControl { core: a }, Cap::SchedControl { core: b }) => a == b,
            _ => {
                core::mem::discriminant(self) == core::mem::discriminant(other)
                    && self.region().is_some()
                    && self.region() == other.region()
            }
        }
    }

    /// Whether the object lives as long as one of the two is there: the same object, or a GSpace and a view
    /// of it.
    pub fn shares_life(&self, other: &Cap) -> bool {
        match (self, other) {
            (Cap::GSpace(g), Cap::View(v)) | (Cap::View(v), Cap::GSpace(g)) => v.gspace == *g,
            _ => self.same_object(other),
        }
    }

    /// Whether `other` can have been derived from this one: its memory lies inside, or it is the
    /// same object.
    pub fn same_region(&self, other: &Cap) -> bool {
        match (self, other) {
            (Cap::Untyped(u), _) => match other.region() {
                Some((addr, size)) => addr >= u.addr && addr + size <= u.addr + (1 << u.bits),
                None => false,
            },
            (Cap::IrqControl, Cap::IrqHandler { .. }) => true,
            (Cap::GSpace(g), Cap::View(v)) => *g == v.gspace,
            _ => self.same_object(other),
        }
    }

    /// The badge, for types that have one.
    pub fn badge(&self) -> Option<u64> {
        match *self {
            Cap::Endpoint { badge, .. } | Cap::Notification { badge, .. } => Some(badge),
            _ => None,
        }
    }
}

impl Slot {
    /// The capability in this slot.
    #[inline]
    pub fn cap(&self) -> Cap {
        Cap::unpack(self.w0.get(), self.w1.get())
    }

    /// Whether the slot is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.w0.get() == 0
    }
}
