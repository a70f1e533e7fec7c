// SPDX-License-Identifier: BSD-2-Clause
//! `DebugSnapshot`: who holds what, as it is. One line each, for a program that compares it with the
//! capability distribution (`cargo xtask test` does).
//!
//! ```text
//! SNAPSHOT|begin
//! SNAPSHOT|thread ADDRESS NAME key=value...     every thread that has a name
//! SNAPSHOT|slot ADDRESS SLOT CAPABILITY         of a thread
//! SNAPSHOT|cnode ADDRESS INDEX CAPABILITY       of each CNode that a thread's CSpace leads to
//! SNAPSHOT|page ADDRESS VADDR PAGE              of an address space, from its radix tree
//! SNAPSHOT|route ADDRESS NUMBER CAPABILITY      of a VCPU, whose address it is
//! SNAPSHOT|end
//! ```
//!
//! A capability is the name of its type, then `at=ADDRESS` of the object and what else is in it. Numbers
//! are hexadecimal.

use crate::arch::machine::Power;
use crate::debug::{Thread, named};
use crate::println;
use core::fmt;
use partita_abi::CapRights;
use partita_kernel_core::cap::{Cap, Mapping};
use partita_kernel_core::object::{Ref, Slot, Tcb, tcb_slot};
use partita_kernel_core::vcpu::Vcpu;
use partita_kernel_core::vspace::pages;

/// CNodes one behind the other that are followed: a CNode may hold a capability to itself.
const DEPTH: u32 = 4;
/// Bytes of a slot.
const SLOT: u64 = size_of::<Slot>() as u64;

const SLOTS: [(&str, usize); 5] = [
    ("cspace", tcb_slot::CSPACE),
    ("vspace", tcb_slot::VSPACE),
    ("buffer", tcb_slot::BUFFER),
    ("fault", tcb_slot::FAULT),
    ("timeout", tcb_slot::TIMEOUT),
];

/// Prints the snapshot.
pub fn print() {
    println!("SNAPSHOT|begin");
    named().for_each(thread);
    println!("SNAPSHOT|end");
}

fn thread(thread: Ref<Tcb>) {
    let tcb: &Tcb = Power::at(thread.addr());
    let at = thread.addr();
    let address = |o: Option<u64>| o.unwrap_or(0);
    println!(
        "SNAPSHOT|thread {at:#x} {} state={:#x} priority={:#x} mcp={:#x} core={:#x} pid={:#x} sc={:#x} bound={:#x} vcpu={:#x}",
        Thread(thread),
        tcb.state.get(),
        tcb.priority.get(),
        tcb.mcp.get(),
        tcb.core.get(),
        tcb.pid.get(),
        address(tcb.sched_context.get().map(Ref::addr)),
        address(tcb.bound_notification.get().map(Ref::addr)),
        tcb.vcpu.get(),
    );
    for (name, slot) in SLOTS {
        let cap = tcb.slots[slot].cap();
        if !cap.is_null() {
            println!("SNAPSHOT|slot {at:#x} {name} {}", Shown(&cap));
        }
    }
    contents(&tcb.slots[tcb_slot::CSPACE].cap(), DEPTH);
    if let Cap::VSpace { addr } = tcb.slots[tcb_slot::VSPACE].cap() {
        pages(&Power, addr, &mut |page| {
            println!(
                "SNAPSHOT|page {addr:#x} {:#x} frame at={:#x} bits={:#x} rights={}{} device={:#x}",
                page.vaddr,
                page.addr,
                page.bits,
                Rights(page.rights),
                if page.execute { "X" } else { "" },
                u64::from(page.device),
            );
        });
    }
    if let Some(vcpu) = Ref::<Vcpu>::new(tcb.vcpu.get()) {
        let at = vcpu.addr();
        let vcpu: &Vcpu = Power::at(at);
        for (number, slot) in vcpu.routes.iter().enumerate() {
            let cap = slot.cap();
            if !cap.is_null() {
                println!("SNAPSHOT|route {at:#x} {number:#x} {}", Shown(&cap));
            }
        }
    }
}

/// What is in a CNode and in those behind it.
fn contents(cnode: &Cap, depth: u32) {
    let (&Cap::CNode { addr, radix, .. }, 1..) = (cnode, depth) else {
        return;
    };
    for index in 0..1u64 << radix {
        let cap = Power::at::<Slot>(addr + SLOT * index).cap();
        if !cap.is_null() {
            println!("SNAPSHOT|cnode {addr:#x} {index:#x} {}", Shown(&cap));
            contents(&cap, depth - 1);
        }
    }
}

/// A capability as a line of the snapshot has it.
struct Shown<'a>(&'a Cap);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut object = |kind: &str, at: u64| write!(f, "{kind} at={at:#x}");
        match *self.0 {
            Cap::Null => write!(f, "null"),
            Cap::Untyped(u) => write!(f, "untyped at={:#x} bits={:#x}", u.addr, u.bits),
            Cap::Endpoint { ep, badge, rights } => message(f, "endpoint", ep.addr(), rights, badge),
            Cap::Notification {
                ntfn,
                badge,
                rights,
            } => message(f, "notification", ntfn.addr(), rights, badge),
            Cap::Reply { reply, .. } => object("reply", reply.addr()),
            Cap::CNode {
                addr,
                radix,
                guard,
                guard_bits,
            } => write!(
                f,
                "cnode at={addr:#x} bits={radix:#x} guard={guard:#x} guard_bits={guard_bits:#x}"
            ),
            Cap::Thread(t) => object("tcb", t.addr()),
            Cap::IrqControl => write!(f, "irq_control"),
            Cap::IrqHandler { index } => object("irq_handler", index as u64),
            Cap::Zombie(z) => object("zombie", z.addr),
            Cap::SchedContext(sc) => object("sched_context", sc.addr()),
            Cap::SchedControl { core } => object("sched_control", core as u64),
            Cap::Timer(t) => object("timer", t.addr()),
            Cap::PlatformControl => write!(f, "platform_control"),
            Cap::Frame(frame) => {
                write!(f, "frame at={:#x} bits={:#x}", frame.addr, frame.bits)?;
                mapped(f, frame.mapping)?;
                write!(f, " rights={}", Rights(frame.rights))
            }
            Cap::PageTable { addr, mapping } => {
                object("page_table", addr)?;
                mapped(f, mapping)
            }
            Cap::VSpace { addr } => object("vspace", addr),
            Cap::AsidControl => write!(f, "asid_control"),
            Cap::AsidPool { addr, .. } => object("asid_pool", addr),
            Cap::LpidControl => write!(f, "lpid_control"),
            Cap::GSpace(g) => object("gspace", g.addr()),
            Cap::GPageTable { addr, .. } => object("gpage_table", addr),
            Cap::View(v) => {
                let rights = Rights(v.rights);
                write!(f, "view at={:#x} rights={rights}", v.gspace.addr())
            }
            Cap::Hpt { addr, order, .. } => write!(f, "hpt at={addr:#x} bits={order:#x}"),
            Cap::HptGfns { addr, bits } => write!(f, "hpt_gfns at={addr:#x} bits={bits:#x}"),
            Cap::VCpu { vcpu, rights } => {
                object("vcpu", vcpu.addr())?;
                write!(f, " rights={}", Rights(rights))
            }
        }
    }
}

fn message(
    f: &mut fmt::Formatter<'_>,
    kind: &str,
    at: u64,
    rights: CapRights,
    badge: u64,
) -> fmt::Result {
    write!(
        f,
        "{kind} at={at:#x} rights={} badge={badge:#x}",
        Rights(rights)
    )
}

/// Where a frame or table is mapped, if it is.
fn mapped(f: &mut fmt::Formatter<'_>, mapping: Option<Mapping>) -> fmt::Result {
    match mapping {
        None => Ok(()),
        Some(m) => write!(f, " pid={:#x} vaddr={:#x}", m.pid, m.vaddr),
    }
}

/// Letters of the rights that are there, in the order of capDL.
struct Rights(CapRights);

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (right, letter) in [
            (CapRights::READ, 'R'),
            (CapRights::WRITE, 'W'),
            (CapRights::GRANT, 'G'),
            (CapRights::GRANT_REPLY, 'P'),
        ] {
            if self.0.contains(right) {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}
