// SPDX-License-Identifier: BSD-2-Clause
//! `report.txt`: for people. Not for machines: those read the capDL JSON.

use crate::capdl::lower::Lowered;
use crate::capdl::model::{Backing, Cap, Model, Object, ObjectId};
use partita_abi::CapRights;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Figures of an image.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Bytes of the image.
    pub image_size: u64,
    /// First address behind it.
    pub image_end: u64,
    /// Bytes that are free at boot.
    pub free_at_boot: u64,
    /// Bytes of untyped memory that are left.
    pub left: u64,
    /// log2 of the slots of the root task's CNode.
    pub root_cnode_bits: u8,
    /// Real address of the first object of each creation.
    pub addresses: Vec<u64>,
}

/// `rwgp`: read, write, grant, grant-reply.
pub fn rights(rights: CapRights) -> String {
    [
        (CapRights::READ, 'r'),
        (CapRights::WRITE, 'w'),
        (CapRights::GRANT, 'g'),
        (CapRights::GRANT_REPLY, 'p'),
    ]
    .into_iter()
    .map(|(right, letter)| if rights.contains(right) { letter } else { '-' })
    .collect()
}

fn cap(model: &Model, cap: &Cap) -> String {
    let name = model.name(cap.object);
    match model.objects[cap.object].object {
        Object::Endpoint | Object::Notification => {
            let badge = if cap.badge == 0 {
                String::new()
            } else {
                format!(", badge {:#x}", cap.badge)
            };
            format!("{name} ({}{badge})", rights(cap.rights))
        }
        Object::CNode { .. } => format!("{name} (guard bits {})", cap.badge & 63),
        Object::VCpu(_) => format!("{name} ({})", rights(cap.rights)),
        Object::GSpace if cap.view => format!("view of {name} ({})", rights(cap.rights)),
        _ => name.into(),
    }
}

/// Writes the report.
pub fn write(model: &Model, lowered: &Lowered, figures: &Figures) -> String {
    let mut out = String::new();
    sections(&mut out, model, lowered, figures).map_or_else(|e| e.to_string(), |()| out)
}

fn sched_context(out: &mut String, model: &Model, sc: ObjectId) -> std::fmt::Result {
    if let Object::SchedContext {
        core,
        budget_us,
        period_us,
        ..
    } = model.objects[sc].object
    {
        let sc = model.name(sc);
        writeln!(out, "    {sc}: core {core}, {budget_us} of {period_us} us")?;
    }
    Ok(())
}

/// Guests and timers, if there are any.
fn guests(out: &mut String, model: &Model) -> std::fmt::Result {
    let mut title = "\n# Guest Details\n";
    for named in &model.objects {
        match &named.object {
            Object::Hpt {
                order,
                gspace,
                vrma_bits,
                views,
                ..
            } => {
                let gspace = model.name(*gspace);
                writeln!(
                    out,
                    "{title}{}: order {order}, of {gspace}, VRMA pages of {:#x} bytes",
                    named.name,
                    1u64 << vrma_bits
                )?;
                for &(vspace, vaddr) in views {
                    let vspace = model.name(vspace);
                    writeln!(out, "    shown in {vspace} from {vaddr:#x}")?;
                }
            }
            Object::VCpu(v) => {
                writeln!(out, "{title}{}: id {}", named.name, v.id)?;
                if let Object::GuestTcb(t) = &model.objects[v.tcb].object {
                    writeln!(out, "    {}: priority {}", model.name(v.tcb), t.priority)?;
                    sched_context(out, model, t.sc)?;
                    writeln!(out, "    exits go to {}", cap(model, &t.fault))?;
                }
                for (endpoint, targets) in &v.routes {
                    let names: Vec<_> = targets.iter().map(ToString::to_string).collect();
                    let endpoint = cap(model, endpoint);
                    writeln!(out, "    to {endpoint}: {}", names.join(" "))?;
                }
            }
            Object::Timer { notification } => {
                let signals = cap(model, notification);
                writeln!(out, "{title}{}: signals {signals}", named.name)?;
            }
            _ => continue,
        }
        title = "";
    }
    Ok(())
}

fn sections(
    out: &mut String,
    model: &Model,
    lowered: &Lowered,
    figures: &Figures,
) -> std::fmt::Result {
    writeln!(out, "# Memory")?;
    writeln!(
        out,
        "image                {:#x} bytes, up to {:#x}",
        figures.image_size, figures.image_end
    )?;
    writeln!(
        out,
        "free at boot         {:#x} bytes",
        figures.free_at_boot
    )?;
    writeln!(out, "left for nobody      {:#x} bytes", figures.left)?;
    writeln!(
        out,
        "root task's CNode    {} slots, {} used by {} commands",
        1u64 << figures.root_cnode_bits,
        lowered.slots,
        lowered.commands
    )?;

    writeln!(out, "\n# IRQ Details")?;
    for named in &model.objects {
        if let Object::Irq {
            number,
            trigger,
            notification,
        } = &named.object
        {
            writeln!(
                out,
                "{}: {number:#x}, {trigger:?}, signals {}",
                named.name,
                cap(model, notification)
            )?;
        }
    }

    writeln!(out, "\n# TCB Details")?;
    for named in &model.objects {
        let Object::Tcb(t) = &named.object else {
            continue;
        };
        writeln!(out, "{}:", named.name)?;
        writeln!(
            out,
            "    ip {:#x}, sp {:#x}, IPC buffer {:#x}",
            t.pc, t.sp, t.ipc_buffer_vaddr
        )?;
        writeln!(
            out,
            "    priority {}, maximum controlled priority {}",
            t.priority, t.mcp
        )?;
        sched_context(out, model, t.sc)?;
        if let Some(fault) = &t.fault {
            writeln!(out, "    faults go to {}", cap(model, fault))?;
        }
        if let Some(notification) = t.bound_notification {
            writeln!(out, "    bound to {}", model.name(notification))?;
        }
    }

    guests(out, model)?;

    writeln!(out, "\n# CNode Details")?;
    for named in &model.objects {
        let Object::CNode { radix, slots } = &named.object else {
            continue;
        };
        writeln!(out, "{} ({} slots):", named.name, 1 << radix)?;
        for (slot, c) in slots {
            writeln!(out, "    {slot:3}: {}", cap(model, c))?;
        }
    }

    writeln!(out, "\n# Architecture Specific Details")?;
    for named in &model.objects {
        let Object::PageTable {
            level,
            vaddr,
            slots,
        } = &named.object
        else {
            continue;
        };
        writeln!(
            out,
            "{}: level {level}, from {vaddr:#x}, {} entries",
            named.name,
            slots.len()
        )?;
    }

    writeln!(out, "\n# Kernel Objects Details")?;
    let mut kinds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for named in &model.objects {
        if let Some((.., bits)) = named.object.retype() {
            let (count, bytes) = kinds.entry(named.object.type_name()).or_default();
            *count += 1;
            *bytes += 1 << bits;
        }
    }
    for (kind, (count, bytes)) in kinds {
        writeln!(out, "{kind:12} {count:6} objects {bytes:#10x} bytes")?;
    }
    writeln!(out, "\nfirst object of each retype, physical address:")?;
    for ((creation, &head), paddr) in lowered
        .creations
        .iter()
        .zip(&lowered.heads)
        .zip(&figures.addresses)
    {
        let kind = model.objects[head].object.type_name();
        writeln!(
            out,
            "{kind:12} {:6} from {:32} {paddr:#x}",
            creation.count, creation.name
        )?;
    }
    let frames = model.objects.iter().filter_map(|named| match named.object {
        Object::Frame {
            bits,
            backing: Backing::Image { paddr, .. },
        } => Some((named.name.as_str(), bits, paddr)),
        _ => None,
    });
    writeln!(out, "\nframes in the image:")?;
    for (name, bits, paddr) in frames {
        writeln!(out, "{name:40} {:#x} bytes at {paddr:#x}", 1u64 << bits)?;
    }
    Ok(())
}
