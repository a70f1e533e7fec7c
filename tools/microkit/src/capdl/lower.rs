// SPDX-License-Identifier: BSD-2-Clause
//! From the model to the initialiser's commands.

use super::model::{Backing, Model, Object, ObjectId, Page, ROOT_LEVEL, entry_bits};
use crate::error::Error;
use crate::memory::SPLIT_SLOTS;
use crate::sdf::Target;
use partita_abi::init_cnode;
use partita_capdl::{CapRef, Command, Fault, Header, MAGIC, VERSION, encode};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Objects that are made by one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// Name of the first object.
    pub name: String,
    /// Slot of the first object.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Number of the object type.
    pub object: u8,
    /// Size argument of Retype.
    pub size_bits: u8,
    /// log2 of the bytes of one object.
    pub bytes_bits: u8,
    /// Real address, if it is given.
    pub paddr: Option<u64>,
}

/// The commands of a system and what the tool knows about them.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// Where each object's capability is.
    pub caps: Vec<CapRef>,
    /// Objects made from untyped memory, in order.
    pub creations: Vec<Creation>,
    /// Object at the head of each creation.
    pub heads: Vec<ObjectId>,
    /// Empty slots used.
    pub slots: u32,
    /// The specification, encoded.
    pub spec: Vec<u8>,
    /// Number of commands.
    pub commands: u32,
}

/// Frames mapped one behind the other.
struct Run {
    frame: CapRef,
    count: u32,
    bits: u8,
    vspace: CapRef,
    vaddr: u64,
    rights: u8,
    page: Page,
}

struct Lowering<'m> {
    model: &'m Model,
    caps: Vec<CapRef>,
    slots: u32,
    commands: Vec<Command<'m>>,
}

/// Turns a model into commands. `image_frames` is the number of frames in the image's table.
///
/// # Errors
/// [`Error::Encode`].
pub fn lower(model: &Model, image_frames: u32) -> Result<Lowered, Error> {
    let mut l = Lowering {
        model,
        caps: vec![CapRef::Boot(0); model.objects.len()],
        slots: 0,
        commands: Vec::new(),
    };
    let heads = l.create();
    let creations = l.creations();
    l.issue_irqs();
    l.sched_contexts();
    l.address_spaces();
    l.guest_spaces();
    l.notifications();
    l.cnodes();
    l.threads();
    l.vcpus();
    l.drop_and_start();

    let header = Header {
        magic: MAGIC,
        version: VERSION,
        slots: l.slots,
        split_slots: SPLIT_SLOTS,
        image_frames,
        commands: l.commands.len() as u32,
    };
    let mut spec = Vec::new();
    let mut scratch = [0; 1024];
    let mut append = |bytes: &[u8]| spec.extend_from_slice(bytes);
    let fail = |e| Error::Encode(format!("{e}"));
    encode(&header, &mut scratch, &mut append).map_err(fail)?;
    for command in &l.commands {
        encode(command, &mut scratch, &mut append).map_err(fail)?;
    }
    Ok(Lowered {
        caps: l.caps,
        creations,
        heads,
        slots: l.slots,
        spec,
        commands: header.commands,
    })
}

impl<'m> Lowering<'m> {
    fn take_slots(&mut self, count: u32) -> u32 {
        self.slots += count;
        self.slots - count
    }

    fn cap(&self, object: ObjectId) -> CapRef {
        self.caps[object]
    }

    /// Step 1: objects. Given addresses first, in ascending order; then the largest first, so that
    /// alignment loses no memory. Objects of one kind follow each other in the slots, which is what
    /// makes long runs of frames one command.
    fn create(&mut self) -> Vec<ObjectId> {
        let model = self.model;
        let mut fixed = Vec::new();
        let mut others = Vec::new();
        for (id, named) in model.objects.iter().enumerate() {
            if let Object::Frame {
                backing: Backing::Image { frame, .. },
                ..
            } = named.object
            {
                self.caps[id] = CapRef::ImageFrame(frame);
            }
            if let Object::Platform = named.object {
                self.caps[id] = CapRef::Boot(init_cnode::PLATFORM_CONTROL as u32);
            }
            let Some((ty, size_bits, bytes_bits)) = named.object.retype() else {
                continue;
            };
            match named.object {
                Object::Frame {
                    backing: Backing::At(paddr),
                    ..
                } => {
                    fixed.push((paddr, id, ty, size_bits, bytes_bits));
                }
                _ => others.push((Reverse(bytes_bits), ty, id, size_bits)),
            }
        }
        fixed.sort_unstable();
        others.sort_unstable();
        let mut heads = Vec::new();
        let mut next_paddr = None;
        for (paddr, id, ty, size_bits, bytes_bits) in fixed {
            let slot = self.take_slots(1);
            self.caps[id] = CapRef::Slot(slot);
            let follows = next_paddr == Some((paddr, bytes_bits));
            next_paddr = Some((paddr + (1 << bytes_bits), bytes_bits));
            match self.commands.last_mut() {
                Some(Command::CreateAt { count, .. }) if follows => *count += 1,
                _ => {
                    heads.push(id);
                    self.commands.push(Command::CreateAt {
                        first: slot,
                        count: 1,
                        object: ty as u8,
                        size_bits,
                        paddr,
                        name: model.name(id),
                    });
                }
            }
        }
        for (Reverse(bytes_bits), ty, id, size_bits) in others {
            let slot = self.take_slots(1);
            self.caps[id] = CapRef::Slot(slot);
            match self.commands.last_mut() {
                Some(Command::Create {
                    object,
                    size_bits: last,
                    count,
                    ..
                }) if *object == ty as u8 && *last == size_bits => {
                    *count += 1;
                }
                _ => {
                    heads.push(id);
                    self.commands.push(Command::Create {
                        first: slot,
                        count: 1,
                        object: ty as u8,
                        size_bits,
                        bytes_bits,
                        name: model.name(id),
                    });
                }
            }
        }
        heads
    }

    fn creations(&self) -> Vec<Creation> {
        self.commands
            .iter()
            .filter_map(|command| match *command {
                Command::Create {
                    first,
                    count,
                    object,
                    size_bits,
                    bytes_bits,
                    name,
                } => {
                    let (name, paddr) = (name.into(), None);
                    Some(Creation {
                        name,
                        first,
                        count,
                        object,
                        size_bits,
                        bytes_bits,
                        paddr,
                    })
                }
                Command::CreateAt {
                    first,
                    count,
                    object,
                    size_bits,
                    paddr,
                    name,
                } => Some(Creation {
                    name: name.into(),
                    first,
                    count,
                    object,
                    size_bits,
                    bytes_bits: size_bits,
                    paddr: Some(paddr),
                }),
                _ => None,
            })
            .collect()
    }

    /// Step 2: interrupt handlers.
    fn issue_irqs(&mut self) {
        for (id, named) in self.model.objects.iter().enumerate() {
            if let Object::Irq {
                number, trigger, ..
            } = named.object
            {
                let slot = self.take_slots(1);
                self.caps[id] = CapRef::Slot(slot);
                self.commands.push(Command::IssueIrqHandler {
                    slot,
                    irq: number,
                    trigger,
                });
            }
        }
    }

    /// Step 3: scheduling contexts.
    fn sched_contexts(&mut self) {
        for (id, named) in self.model.objects.iter().enumerate() {
            if let Object::SchedContext {
                core,
                budget_us,
                period_us,
                badge,
            } = named.object
            {
                let sc = self.cap(id);
                self.commands.push(Command::ConfigureSchedContext {
                    sc,
                    core,
                    budget_us,
                    period_us,
                    badge,
                });
            }
        }
    }

    /// Step 4: address spaces. The first mapping of a frame uses its own capability, each further
    /// one a copy.
    fn address_spaces(&mut self) {
        let mut mapped = BTreeSet::new();
        for (id, named) in self.model.objects.iter().enumerate() {
            if !matches!(
                named.object,
                Object::PageTable {
                    level: ROOT_LEVEL,
                    ..
                }
            ) {
                continue;
            }
            let vspace = self.cap(id);
            self.commands.push(Command::AssignAsid { vspace });
            let mut runs = Vec::new();
            self.walk(id, vspace, &mut mapped, &mut runs);
            for Run {
                frame,
                count,
                bits,
                vspace,
                vaddr,
                rights,
                page,
            } in runs
            {
                self.commands.push(Command::MapPages {
                    frame,
                    count,
                    page_bits: bits,
                    vspace,
                    vaddr,
                    rights,
                    executable: page.execute,
                    cached: page.cached,
                });
            }
        }
    }

    fn walk(
        &mut self,
        table: ObjectId,
        vspace: CapRef,
        mapped: &mut BTreeSet<ObjectId>,
        runs: &mut Vec<Run>,
    ) {
        let Object::PageTable {
            level,
            vaddr: base,
            slots,
        } = &self.model.objects[table].object
        else {
            return;
        };
        for (&index, cap) in slots {
            let vaddr = base + (u64::from(index) << entry_bits(*level));
            let (bits, page) = match (&self.model.objects[cap.object].object, cap.page) {
                (Object::Frame { bits, .. }, Some(page)) => (*bits, page),
                _ => {
                    let table = self.cap(cap.object);
                    self.commands.push(Command::MapTable {
                        table,
                        vspace,
                        vaddr,
                    });
                    self.walk(cap.object, vspace, mapped, runs);
                    continue;
                }
            };
            let own = self.cap(cap.object);
            let frame = if mapped.insert(cap.object) {
                own
            } else {
                self.copy(own)
            };
            let rights = cap.rights.0 as u8;
            match runs.last_mut() {
                Some(run)
                    if run.frame.offset(run.count) == frame
                        && run.bits == bits
                        && run.vaddr + (u64::from(run.count) << bits) == vaddr
                        && run.rights == rights
                        && run.page == page =>
                {
                    run.count += 1;
                }
                _ => runs.push(Run {
                    frame,
                    count: 1,
                    bits,
                    vspace,
                    vaddr,
                    rights,
                    page,
                }),
            }
        }
    }

    fn copy(&mut self, of: CapRef) -> CapRef {
        let slot = self.take_slots(1);
        match self.commands.last_mut() {
            Some(Command::CopyCaps {
                first,
                source,
                count,
            }) if *first + *count == slot && source.offset(*count) == of => {
                *count += 1;
            }
            _ => self.commands.push(Command::CopyCaps {
                first: slot,
                source: of,
                count: 1,
            }),
        }
        CapRef::Slot(slot)
    }

    /// Step 5: guest-physical address spaces, hash page tables, and the views of both.
    fn guest_spaces(&mut self) {
        let model = self.model;
        for (id, named) in model.objects.iter().enumerate() {
            if matches!(named.object, Object::GSpace) {
                let gspace = self.cap(id);
                self.commands.push(Command::AssignLpid { gspace });
            }
        }
        for (id, named) in model.objects.iter().enumerate() {
            match &named.object {
                Object::Hpt {
                    gspace,
                    gfns,
                    vrma_bits,
                    views,
                    ..
                } => {
                    let hpt = self.cap(id);
                    self.commands.push(Command::BindHpt {
                        hpt,
                        gspace: self.cap(*gspace),
                        gfns: self.cap(*gfns),
                        vrma_bits: *vrma_bits,
                    });
                    for &(vspace, vaddr) in views {
                        let vspace = self.cap(vspace);
                        self.commands
                            .push(Command::MapHptView { hpt, vspace, vaddr });
                    }
                }
                Object::CNode { radix, slots } => {
                    for (&index, view) in slots.iter().filter(|(_, cap)| cap.view) {
                        self.commands.push(Command::MakeView {
                            gspace: self.cap(view.object),
                            cnode: self.cap(id),
                            index,
                            depth: *radix,
                            rights: view.rights.0 as u8,
                        });
                    }
                }
                _ => (),
            }
        }
    }

    /// Step 6: what interrupts and timers signal.
    fn notifications(&mut self) {
        for (id, named) in self.model.objects.iter().enumerate() {
            match &named.object {
                Object::Irq { notification, .. } => {
                    self.commands.push(Command::SetIrqNotification {
                        handler: self.cap(id),
                        notification: self.cap(notification.object),
                        badge: notification.badge,
                    });
                }
                Object::Timer { notification } => {
                    self.commands.push(Command::SetTimerNotification {
                        timer: self.cap(id),
                        notification: self.cap(notification.object),
                        badge: notification.badge,
                    });
                }
                _ => (),
            }
        }
    }

    /// Step 7: CSpaces. Rights and badge only where the object has them.
    fn cnodes(&mut self) {
        for (id, named) in self.model.objects.iter().enumerate() {
            let Object::CNode { radix, slots } = &named.object else {
                continue;
            };
            for (&index, cap) in slots.iter().filter(|(_, cap)| !cap.view) {
                let badge = match self.model.objects[cap.object].object {
                    Object::CNode { .. } => Some(cap.badge),
                    Object::Endpoint | Object::Notification if cap.badge != 0 => Some(cap.badge),
                    _ => None,
                };
                self.commands.push(Command::Place {
                    cnode: self.cap(id),
                    index,
                    depth: *radix,
                    source: self.cap(cap.object),
                    rights: cap.rights.0 as u8,
                    badge,
                });
            }
        }
    }

    /// Step 8: threads.
    fn threads(&mut self) {
        for (id, named) in self.model.objects.iter().enumerate() {
            let Object::Tcb(t) = &named.object else {
                continue;
            };
            let tcb = self.cap(id);
            let fault = t.fault.map(|f| Fault {
                endpoint: self.cap(f.object),
                badge: f.badge,
            });
            self.commands.push(Command::ConfigureTcb {
                tcb,
                cspace: self.cap(t.cspace.object),
                cspace_data: t.cspace.badge,
                vspace: self.cap(t.vspace),
                ipc_buffer: self.cap(t.ipc_buffer),
                ipc_buffer_vaddr: t.ipc_buffer_vaddr,
            });
            self.commands.push(Command::SetSchedParams {
                tcb,
                mcp: t.mcp,
                priority: t.priority,
                sc: self.cap(t.sc),
                fault,
            });
            if let Some(notification) = t.bound_notification {
                let notification = self.cap(notification);
                self.commands
                    .push(Command::BindNotification { tcb, notification });
            }
            self.commands.push(Command::SetRegisters {
                tcb,
                pc: t.pc,
                sp: t.sp,
            });
            self.commands
                .push(Command::NameThread { tcb, name: &t.name });
        }
    }

    /// Step 9: processors of guests: threads with a scheduling context and exits, and no more. They are
    /// started by their parents.
    fn vcpus(&mut self) {
        let model = self.model;
        for (id, named) in model.objects.iter().enumerate() {
            let Object::VCpu(v) = &named.object else {
                continue;
            };
            let (vcpu, tcb) = (self.cap(id), self.cap(v.tcb));
            if let Object::GuestTcb(t) = &model.objects[v.tcb].object {
                self.commands.push(Command::SetSchedParams {
                    tcb,
                    mcp: 0,
                    priority: t.priority,
                    sc: self.cap(t.sc),
                    fault: Some(Fault {
                        endpoint: self.cap(t.fault.object),
                        badge: t.fault.badge,
                    }),
                });
                let name = &t.name;
                self.commands.push(Command::NameThread { tcb, name });
            }
            self.commands.push(Command::BindVcpu {
                vcpu,
                id: v.id.into(),
                tcb,
                gspace: self.cap(v.gspace),
            });
            for (route, (endpoint, targets)) in (0..).zip(&v.routes) {
                self.commands.push(Command::SetVcpuRoute {
                    vcpu,
                    route,
                    endpoint: self.cap(endpoint.object),
                    badge: endpoint.badge,
                });
                self.commands
                    .extend(targets.iter().map(|target| match *target {
                        Target::Hypercall(number) => Command::RouteHypercall {
                            vcpu,
                            number,
                            route,
                        },
                        Target::Exit(exit) => Command::RouteExit { vcpu, exit, route },
                    }));
            }
        }
    }

    /// Step 10: authority goes before the first thread starts. What stays in the root task's CNode
    /// is what would be undone or destroyed with its last capability: mapped frames and their
    /// tables, and threads, scheduling contexts, bound notifications and parts of guests that nobody
    /// else holds.
    fn drop_and_start(&mut self) {
        let (mut held, mut mapped) = (BTreeSet::new(), BTreeSet::new());
        for named in &self.model.objects {
            match &named.object {
                Object::PageTable { slots, .. } => mapped.extend(slots.values().map(|c| c.object)),
                Object::CNode { slots, .. } => {
                    held.extend(slots.values().filter(|c| !c.view).map(|c| c.object));
                }
                Object::Tcb(t) => held.extend([t.cspace.object, t.vspace]),
                Object::Irq { notification, .. } => held.extend([notification.object]),
                _ => (),
            }
        }
        // A region that only its address is wanted of.
        let frame = |id: &ObjectId| matches!(self.model.objects[*id].object, Object::Frame { .. });
        let unmapped: Vec<_> = (0..self.model.objects.len())
            .filter(|id| frame(id) && !mapped.contains(id))
            .collect();
        let (mut now, mut after_start) = (BTreeSet::new(), BTreeSet::new());
        for &id in &held {
            match self.model.objects[id].object {
                Object::Frame { .. }
                | Object::PageTable {
                    level: 1..ROOT_LEVEL,
                    ..
                }
                | Object::Platform => false,
                Object::Tcb(_) => after_start.insert(self.cap(id)),
                _ => now.insert(self.cap(id)),
            };
        }
        now.extend(unmapped.into_iter().map(|id| self.cap(id)));
        self.commands.push(Command::DropBootCaps);
        self.delete(now);
        for &id in &self.model.start_order {
            self.commands.push(Command::Resume { tcb: self.cap(id) });
        }
        self.delete(after_start);
    }

    fn delete(&mut self, caps: BTreeSet<CapRef>) {
        let mut run: Option<(CapRef, u32)> = None;
        for cap in caps {
            match &mut run {
                Some((first, count)) if first.offset(*count) == cap => *count += 1,
                _ => {
                    let done = run.replace((cap, 1));
                    self.commands
                        .extend(done.map(|(first, count)| Command::Delete { first, count }));
                }
            }
        }
        self.commands
            .extend(run.map(|(first, count)| Command::Delete { first, count }));
    }
}
