// SPDX-License-Identifier: BSD-2-Clause
//! `--capdl-json`: the model in the shape of upstream's capDL `Spec`, with its naming of objects and
//! its slots of a TCB.

use super::model::{Backing, Cap, Model, Object, ROOT_LEVEL, VCpu};
use crate::sdf::Target;
use partita_abi::CapRights;
use serde_json::{Value, json};

fn rights(r: CapRights) -> Value {
    json!({
        "read": r.contains(CapRights::READ),
        "write": r.contains(CapRights::WRITE),
        "grant": r.contains(CapRights::GRANT),
        "grant_reply": r.contains(CapRights::GRANT_REPLY),
    })
}

fn cap(model: &Model, c: &Cap) -> Value {
    let object = c.object;
    let simple = |kind: &str| json!({ kind: { "object": object } });
    match &model.objects[object].object {
        Object::Endpoint => json!({
            "Endpoint": { "object": object, "badge": c.badge, "rights": rights(c.rights) }
        }),
        Object::Notification => json!({
            "Notification": { "object": object, "badge": c.badge, "rights": rights(c.rights) }
        }),
        Object::Reply => simple("Reply"),
        Object::CNode { .. } => json!({
            "CNode": { "object": object, "guard": c.badge >> 6, "guard_size": c.badge & 63 }
        }),
        Object::Tcb(_) | Object::GuestTcb(_) => simple("Tcb"),
        Object::GSpace if c.view => json!({
            "GSpaceView": { "object": object, "rights": rights(c.rights) }
        }),
        Object::GSpace => simple("GSpace"),
        Object::Hpt { .. } => simple("Hpt"),
        Object::HptGfns { .. } => simple("HptGfns"),
        Object::VCpu(_) => json!({
            "VCpu": { "object": object, "rights": rights(c.rights) }
        }),
        Object::Untyped { .. } => simple("Untyped"),
        Object::Timer { .. } => simple("Timer"),
        Object::Platform => simple("PlatformControl"),
        Object::SchedContext { .. } => simple("SchedContext"),
        Object::Frame { .. } => json!({
            "Frame": {
                "object": object,
                "rights": rights(c.rights),
                "cached": c.page.is_none_or(|p| p.cached),
                "executable": c.page.is_some_and(|p| p.execute),
            }
        }),
        Object::PageTable { .. } => simple("PageTable"),
        Object::Irq { .. } => simple("IrqHandler"),
    }
}

fn slots(model: &Model, object: &Object) -> Value {
    let slots = object.slots();
    slots
        .iter()
        .map(|(slot, c)| json!([slot, cap(model, c)]))
        .collect()
}

fn vcpu(v: &VCpu, slots: Value) -> Value {
    let mut hypercalls = Vec::new();
    let mut exits = Vec::new();
    for (route, (_, targets)) in v.routes.iter().enumerate() {
        for target in targets {
            let entry = json!({ "name": target.to_string(), "route": route });
            match target {
                Target::Hypercall(_) => hypercalls.push(entry),
                Target::Exit(_) => exits.push(entry),
            }
        }
    }
    json!({
        "VCpu": { "id": v.id, "slots": slots, "hypercalls": hypercalls, "exits": exits }
    })
}

fn object(model: &Model, object: &Object) -> Value {
    match object {
        Object::Endpoint => json!("Endpoint"),
        Object::Notification => json!("Notification"),
        Object::Reply => json!("Reply"),
        Object::CNode { radix, .. } => json!({
            "CNode": { "size_bits": radix, "slots": slots(model, object) }
        }),
        Object::Tcb(t) => json!({
            "Tcb": {
                "slots": slots(model, object),
                "extra": {
                    "ipc_buffer_addr": t.ipc_buffer_vaddr,
                    "affinity": model.core(t.sc),
                    "prio": t.priority,
                    "max_prio": t.mcp,
                    "resume": true,
                    "ip": t.pc,
                    "sp": t.sp,
                    "gprs": [],
                },
            }
        }),
        Object::SchedContext {
            core,
            budget_us,
            period_us,
            badge,
        } => json!({
            "SchedContext": {
                "size_bits": partita_abi::ObjectType::SchedContext.bits(),
                "extra": {
                    "core": core, "budget": budget_us, "period": period_us, "badge": badge,
                },
            }
        }),
        Object::Frame { bits, backing } => {
            let (paddr, in_image) = match *backing {
                Backing::Untyped => (None, None),
                Backing::At(paddr) => (Some(paddr), None),
                Backing::Image { frame, paddr } => (Some(paddr), Some(frame)),
            };
            json!({ "Frame": { "size_bits": bits, "paddr": paddr, "image_frame": in_image } })
        }
        Object::PageTable { level, .. } => json!({
            "PageTable": {
                "is_root": *level == ROOT_LEVEL,
                "level": ROOT_LEVEL - level,
                "slots": slots(model, object),
            }
        }),
        Object::Irq {
            number, trigger, ..
        } => json!({
            "Irq": {
                "number": number,
                "trigger": super::slots::trigger_name(*trigger),
                "slots": slots(model, object),
            }
        }),
        Object::Untyped { bits } => json!({ "Untyped": { "size_bits": bits } }),
        Object::Timer { .. } => json!({ "Timer": { "slots": slots(model, object) } }),
        Object::Platform => json!("PlatformControl"),
        Object::GSpace => json!("GSpace"),
        Object::Hpt {
            order,
            vrma_bits,
            views,
            ..
        } => json!({
            "Hpt": {
                "size_bits": order,
                "vrma_page_bits": vrma_bits,
                "slots": slots(model, object),
                "views": views
                    .iter()
                    .map(|(vspace, vaddr)| json!({ "object": vspace, "vaddr": vaddr }))
                    .collect::<Vec<_>>(),
            }
        }),
        Object::HptGfns { bits } => json!({ "HptGfns": { "size_bits": bits } }),
        Object::GuestTcb(t) => json!({
            "Tcb": {
                "slots": slots(model, object),
                "extra": {
                    "affinity": model.core(t.sc),
                    "prio": t.priority,
                    "max_prio": 0,
                    "resume": false,
                },
            }
        }),
        Object::VCpu(v) => vcpu(v, slots(model, object)),
    }
}

/// The model as JSON, indented, with a final newline.
pub fn write(model: &Model) -> String {
    let objects: Vec<_> = model
        .objects
        .iter()
        .map(|named| json!({ "name": named.name, "object": object(model, &named.object) }))
        .collect();
    let irqs: Vec<_> = model
        .objects
        .iter()
        .enumerate()
        .filter_map(|(id, named)| match named.object {
            Object::Irq { number, .. } => Some(json!({ "irq": number, "handler": id })),
            _ => None,
        })
        .collect();
    let asids: Vec<_> = model
        .objects
        .iter()
        .enumerate()
        .filter(|(_, n)| {
            matches!(
                n.object,
                Object::PageTable {
                    level: ROOT_LEVEL,
                    ..
                }
            )
        })
        .map(|(id, _)| id)
        .collect();
    let spec = json!({
        "objects": objects,
        "irqs": irqs,
        "asid_slots": asids,
        "root_objects": { "start": 0, "end": model.objects.len() },
        "untyped_covers": [],
    });
    format!("{spec:#}\n")
}
