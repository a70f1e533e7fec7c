// SPDX-License-Identifier: BSD-2-Clause
//! `--capdl`: the model in the capDL language (revision 1.1 and what upstream's tool reads besides),
//! sorted by name, so that two versions of a system can be compared line by line.
//!
//! capDL does not know this architecture. What is added has the shape of what is there:
//!
//! * `arch ppc64`; the four levels of an address space are `pgd`, `pud`, `pd`, `pt`;
//! * object types `gspace`, `hpt`, `hpt_gfns`, `timer` and `platform`;
//! * parameters `core` (of `sc`), `trigger` (of `irq`), `id` and `route` (of `vcpu`), `vrma_bits` and
//!   `view` (of `hpt`), `view` (of a capability to a `gspace`) and the fill `BootImage n` (frame `n` of the
//!   boot image).

use super::model::{Backing, Cap, Model, Object, ObjectId, VCpu};
use super::slots::{FIRST_ROUTE_SLOT, tcb, trigger_name};
use partita_abi::CapRights;
use std::fmt::{Result, Write};

/// The model as capDL text.
pub fn write(model: &Model) -> String {
    let mut order: Vec<_> = (0..model.objects.len()).collect();
    order.sort_by_key(|&id| model.name(id));
    let mut out = String::new();
    module(&mut out, model, &order).map_or_else(|e| e.to_string(), |()| out)
}

fn module(out: &mut String, model: &Model, order: &[ObjectId]) -> Result {
    writeln!(out, "arch ppc64\n\nobjects {{\n")?;
    for &id in order {
        let object = object(model, &model.objects[id].object);
        writeln!(out, "{} = {object}", model.name(id))?;
    }
    writeln!(out, "\n}}\n\ncaps {{\n")?;
    for &id in order {
        let object = &model.objects[id].object;
        let slots = object.slots();
        if slots.is_empty() {
            continue;
        }
        writeln!(out, "{} {{", model.name(id))?;
        let thread = matches!(object, Object::Tcb(_) | Object::GuestTcb(_));
        for (slot, c) in &slots {
            writeln!(out, "  {}: {}", slot_name(thread, *slot), cap(model, c))?;
        }
        writeln!(out, "}}\n")?;
    }
    writeln!(out, "}}\n\nirq maps {{\n")?;
    for &id in order {
        if let Object::Irq { number, .. } = model.objects[id].object {
            writeln!(out, "{number:#x}: {}", model.name(id))?;
        }
    }
    writeln!(out, "\n}}")
}

fn slot_name(thread: bool, slot: u32) -> String {
    match slot {
        tcb::CSPACE if thread => "cspace".into(),
        tcb::VSPACE if thread => "vspace".into(),
        tcb::IPC_BUFFER if thread => "ipc_buffer_slot".into(),
        tcb::FAULT_EP if thread => "fault_ep_slot".into(),
        tcb::SC if thread => "sc_slot".into(),
        _ => format!("{slot:#x}"),
    }
}

/// `name (a, b)`, or only the name.
fn with(name: &str, parameters: &[String]) -> String {
    match parameters {
        [] => name.into(),
        _ => format!("{name} ({})", parameters.join(", ")),
    }
}

fn object(model: &Model, object: &Object) -> String {
    let bits = |bits: u8| format!("{bits} bits");
    match object {
        Object::Endpoint => "ep".into(),
        Object::Notification => "notification".into(),
        Object::Reply => "rtreply".into(),
        Object::CNode { radix, .. } => with("cnode", &[bits(*radix)]),
        Object::Tcb(t) => with(
            "tcb",
            &[
                format!("addr: {:#x}", t.ipc_buffer_vaddr),
                format!("ip: {:#x}", t.pc),
                format!("sp: {:#x}", t.sp),
                format!("prio: {}", t.priority),
                format!("max_prio: {}", t.mcp),
                format!("affinity: {}", model.core(t.sc)),
                "resume: true".into(),
            ],
        ),
        Object::GuestTcb(t) => with(
            "tcb",
            &[
                format!("prio: {}", t.priority),
                "max_prio: 0".into(),
                format!("affinity: {}", model.core(t.sc)),
                "resume: false".into(),
            ],
        ),
        Object::SchedContext {
            core,
            budget_us,
            period_us,
            badge,
        } => with(
            "sc",
            &[
                format!("period: {period_us}"),
                format!("budget: {budget_us}"),
                format!("data: {badge:#x}"),
                bits(partita_abi::ObjectType::SchedContext.bits() as u8),
                format!("core: {core}"),
            ],
        ),
        Object::Frame { bits, backing } => with("frame", &frame(*bits, *backing)),
        Object::PageTable { level, .. } => {
            ["pt", "pd", "pud", "pgd"][usize::from(*level) - 1].into()
        }
        Object::Irq { trigger, .. } => {
            with("irq", &[format!("trigger: {}", trigger_name(*trigger))])
        }
        Object::Untyped { bits: n } => with("ut", &[bits(*n)]),
        Object::Timer { .. } => "timer".into(),
        Object::Platform => "platform".into(),
        Object::GSpace => "gspace".into(),
        Object::Hpt {
            order,
            vrma_bits,
            views,
            ..
        } => {
            let mut list = vec![bits(*order), format!("vrma_bits: {vrma_bits}")];
            let view = |(vspace, vaddr)| format!("view: ({}, {vaddr:#x})", model.name(vspace));
            list.extend(views.iter().copied().map(view));
            with("hpt", &list)
        }
        Object::HptGfns { bits: n } => with("hpt_gfns", &[bits(*n)]),
        Object::VCpu(v) => with("vcpu", &vcpu(v)),
    }
}

/// Bytes in the units of capDL.
fn size(bits: u8) -> String {
    match bits {
        20.. => format!("{}M", 1 << (bits - 20)),
        _ => format!("{}k", 1 << (bits - 10)),
    }
}

fn frame(bits: u8, backing: Backing) -> Vec<String> {
    let mut list = vec![size(bits)];
    match backing {
        Backing::Untyped => (),
        Backing::At(paddr) => list.push(format!("paddr: {paddr:#x}")),
        Backing::Image { frame, paddr } => {
            list.push(format!("paddr: {paddr:#x}"));
            list.push(format!("fill: {{BootImage {frame}}}"));
        }
    }
    list
}

/// A route names the slot of its endpoint and what goes there.
fn vcpu(v: &VCpu) -> Vec<String> {
    let mut list = vec![format!("id: {}", v.id)];
    for (slot, (_, targets)) in (FIRST_ROUTE_SLOT..).zip(&v.routes) {
        let names: Vec<_> = targets.iter().map(ToString::to_string).collect();
        list.push(format!("route: ({slot:#x}, {})", names.join(", ")));
    }
    list
}

/// `RWGP`: read, write, grant, grant reply. Of a frame, `X` is to fetch instructions.
fn rights(rights: CapRights, execute: bool) -> String {
    let letters = [
        (rights.contains(CapRights::READ), 'R'),
        (rights.contains(CapRights::WRITE), 'W'),
        (rights.contains(CapRights::GRANT), 'G'),
        (rights.contains(CapRights::GRANT_REPLY), 'P'),
        (execute, 'X'),
    ];
    letters.iter().filter(|l| l.0).map(|l| l.1).collect()
}

fn cap(model: &Model, c: &Cap) -> String {
    let mut list = Vec::new();
    match model.objects[c.object].object {
        Object::Endpoint | Object::Notification => {
            list.push(rights(c.rights, false));
            if c.badge != 0 {
                list.push(format!("badge: {:#x}", c.badge));
            }
        }
        Object::CNode { .. } => {
            list.push(format!("guard: {:#x}", c.badge >> 6));
            list.push(format!("guard_size: {}", c.badge & 63));
        }
        Object::VCpu(_) => list.push(rights(c.rights, false)),
        Object::GSpace if c.view => {
            list.push(rights(c.rights, false));
            list.push("view".into());
        }
        Object::Frame { .. } => {
            list.push(rights(c.rights, c.page.is_some_and(|p| p.execute)));
            if c.page.is_some_and(|p| !p.cached) {
                list.push("uncached".into());
            }
        }
        _ => (),
    }
    with(model.name(c.object), &list)
}
