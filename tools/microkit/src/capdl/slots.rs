// SPDX-License-Identifier: BSD-2-Clause
//! Capabilities in objects, by the slots that capDL gives them: what JSON and text have in common.

use super::model::{Cap, Model, Object, ObjectId};
use partita_abi::CapRights;
use partita_capdl::Trigger;

/// Slots of a TCB in capDL.
pub mod tcb {
    /// Root of the CSpace.
    pub const CSPACE: u32 = 0;
    /// Address space.
    pub const VSPACE: u32 = 1;
    /// Frame of the IPC buffer.
    pub const IPC_BUFFER: u32 = 4;
    /// Fault endpoint.
    pub const FAULT_EP: u32 = 5;
    /// Scheduling context.
    pub const SC: u32 = 6;
    /// Bound notification.
    pub const BOUND_NOTIFICATION: u32 = 8;
    /// Guest's processor.
    pub const VCPU: u32 = 9;
}

/// Slots of a VCPU: thread, memory, then the endpoints of its routes.
pub const FIRST_ROUTE_SLOT: u32 = 2;

/// Name of a trigger in capDL.
pub const fn trigger_name(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Level => "level",
        Trigger::Edge => "edge",
    }
}

impl Object {
    /// The capabilities in this object, by ascending slot.
    pub fn slots(&self) -> Vec<(u32, Cap)> {
        match self {
            Object::CNode { slots, .. } | Object::PageTable { slots, .. } => {
                slots.iter().map(|(&slot, &cap)| (slot, cap)).collect()
            }
            Object::Tcb(t) => {
                let data = CapRights::READ.union(CapRights::WRITE);
                let mut list = vec![
                    (tcb::CSPACE, t.cspace),
                    (tcb::VSPACE, Cap::full(t.vspace)),
                    (tcb::IPC_BUFFER, Cap::minted(t.ipc_buffer, data, 0)),
                ];
                list.extend(t.fault.map(|fault| (tcb::FAULT_EP, fault)));
                list.push((tcb::SC, Cap::full(t.sc)));
                let bound = t.bound_notification;
                let bound = bound.map(|n| Cap::minted(n, CapRights::READ, 0));
                list.extend(bound.map(|cap| (tcb::BOUND_NOTIFICATION, cap)));
                list
            }
            Object::GuestTcb(t) => {
                let both = CapRights::READ.union(CapRights::WRITE);
                let vcpu = Cap::minted(t.vcpu, both.union(CapRights::GRANT_REPLY), 0);
                vec![
                    (tcb::FAULT_EP, t.fault),
                    (tcb::SC, Cap::full(t.sc)),
                    (tcb::VCPU, vcpu),
                ]
            }
            Object::VCpu(v) => {
                let mut list = vec![(0, Cap::full(v.tcb)), (1, Cap::full(v.gspace))];
                let routes = v.routes.iter().map(|(endpoint, _)| *endpoint);
                list.extend((FIRST_ROUTE_SLOT..).zip(routes));
                list
            }
            Object::Irq { notification, .. } | Object::Timer { notification } => {
                vec![(0, *notification)]
            }
            Object::Hpt { gspace, gfns, .. } => {
                vec![(0, Cap::full(*gspace)), (1, Cap::full(*gfns))]
            }
            Object::Endpoint
            | Object::Notification
            | Object::Reply
            | Object::SchedContext { .. }
            | Object::Frame { .. }
            | Object::Untyped { .. }
            | Object::Platform
            | Object::GSpace
            | Object::HptGfns { .. } => Vec::new(),
        }
    }
}

impl Model {
    /// Core of a scheduling context.
    pub fn core(&self, sc: ObjectId) -> u32 {
        match self.objects[sc].object {
            Object::SchedContext { core, .. } => core,
            _ => 0,
        }
    }
}
