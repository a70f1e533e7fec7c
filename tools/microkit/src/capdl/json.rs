// SPDX-License-Identifier: BSD-2-Clause
//! `--capdl-json`: the model in the shape of upstream's capDL `Spec`, with its naming of objects and
//! its slots of a TCB.

use super::model::{Backing, Cap, GuestTcb, Model, Object, ROOT_LEVEL, Tcb, VCpu};
use crate::sdf::Target;
use partita_abi::CapRights;
use partita_capdl::Trigger;
use serde_json::{Value, json};

/// Slots of a TCB in capDL.
mod tcb_slot {
    pub const CSPACE: u32 = 0;
    pub const VSPACE: u32 = 1;
    pub const IPC_BUFFER: u32 = 4;
    pub const FAULT_EP: u32 = 5;
    pub const SC: u32 = 6;
    pub const BOUND_NOTIFICATION: u32 = 8;
    pub const VCPU: u32 = 9;
}

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
        Object::VCpu(_) => simple("VCpu"),
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

fn slots<'a>(model: &Model, slots: impl Iterator<Item = (u32, &'a Cap)>) -> Value {
    slots
        .map(|(slot, c)| json!([slot, cap(model, c)]))
        .collect()
}

fn tcb(model: &Model, t: &Tcb) -> Value {
    let data = Cap::minted(t.ipc_buffer, CapRights::READ.union(CapRights::WRITE), 0);
    let mut list = vec![
        (tcb_slot::CSPACE, t.cspace),
        (tcb_slot::VSPACE, Cap::full(t.vspace)),
        (tcb_slot::IPC_BUFFER, data),
    ];
    list.extend(t.fault.map(|fault| (tcb_slot::FAULT_EP, fault)));
    list.push((tcb_slot::SC, Cap::full(t.sc)));
    list.extend(
        t.bound_notification
            .map(|n| (tcb_slot::BOUND_NOTIFICATION, Cap::full(n))),
    );
    let affinity = match model.objects[t.sc].object {
        Object::SchedContext { core, .. } => core,
        _ => 0,
    };
    json!({
        "Tcb": {
            "slots": slots(model, list.iter().map(|(slot, c)| (*slot, c))),
            "extra": {
                "ipc_buffer_addr": t.ipc_buffer_vaddr,
                "affinity": affinity,
                "prio": t.priority,
                "max_prio": t.mcp,
                "resume": true,
                "ip": t.pc,
                "sp": t.sp,
                "gprs": [],
            },
        }
    })
}

fn guest_tcb(model: &Model, t: &GuestTcb) -> Value {
    let list = [
        (tcb_slot::FAULT_EP, t.fault),
        (tcb_slot::SC, Cap::full(t.sc)),
        (tcb_slot::VCPU, Cap::full(t.vcpu)),
    ];
    let affinity = match model.objects[t.sc].object {
        Object::SchedContext { core, .. } => core,
        _ => 0,
    };
    json!({
        "Tcb": {
            "slots": slots(model, list.iter().map(|(slot, c)| (*slot, c))),
            "extra": {
                "affinity": affinity,
                "prio": t.priority,
                "max_prio": 0,
                "resume": false,
            },
        }
    })
}

/// Slots: thread, memory, then the endpoints of the routes.
fn vcpu(model: &Model, v: &VCpu) -> Value {
    let mut list = vec![Cap::full(v.tcb), Cap::full(v.gspace)];
    list.extend(v.routes.iter().map(|(endpoint, _)| *endpoint));
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
        "VCpu": {
            "id": v.id,
            "slots": slots(model, (0..).zip(&list)),
            "hypercalls": hypercalls,
            "exits": exits,
        }
    })
}

fn object(model: &Model, object: &Object) -> Value {
    match object {
        Object::Endpoint => json!("Endpoint"),
        Object::Notification => json!("Notification"),
        Object::Reply => json!("Reply"),
        Object::CNode { radix, slots: s } => json!({
            "CNode": { "size_bits": radix, "slots": slots(model, s.iter().map(|(k, v)| (*k, v))) }
        }),
        Object::Tcb(t) => tcb(model, t),
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
        Object::PageTable {
            level, slots: s, ..
        } => json!({
            "PageTable": {
                "is_root": *level == ROOT_LEVEL,
                "level": ROOT_LEVEL - level,
                "slots": slots(model, s.iter().map(|(k, v)| (*k, v))),
            }
        }),
        Object::Irq {
            number,
            trigger,
            notification,
        } => json!({
            "Irq": {
                "number": number,
                "trigger": match trigger { Trigger::Level => "level", Trigger::Edge => "edge" },
                "slots": [[0, cap(model, notification)]],
            }
        }),
        Object::Untyped { bits } => json!({ "Untyped": { "size_bits": bits } }),
        Object::Timer { notification } => json!({
            "Timer": { "slots": [[0, cap(model, notification)]] }
        }),
        Object::Platform => json!("PlatformControl"),
        Object::GSpace => json!("GSpace"),
        Object::Hpt {
            order,
            gspace,
            gfns,
            vrma_bits,
            views,
        } => json!({
            "Hpt": {
                "size_bits": order,
                "vrma_page_bits": vrma_bits,
                "slots": [
                    [0, cap(model, &Cap::full(*gspace))],
                    [1, cap(model, &Cap::full(*gfns))],
                ],
                "views": views
                    .iter()
                    .map(|(vspace, vaddr)| json!({ "object": vspace, "vaddr": vaddr }))
                    .collect::<Vec<_>>(),
            }
        }),
        Object::HptGfns { bits } => json!({ "HptGfns": { "size_bits": bits } }),
        Object::GuestTcb(t) => guest_tcb(model, t),
        Object::VCpu(v) => vcpu(model, v),
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
