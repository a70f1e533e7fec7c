// SPDX-License-Identifier: BSD-2-Clause
//! Builds the model of a system. The steps follow the table of slots in `kernel-config/abi.toml`
//! (`[microkit]`).

use super::model::{Backing, Cap, GuestTcb, Model, Object, ObjectId, Page, ROOT_LEVEL, Tcb, VCpu};
use crate::board::Config;
use crate::elf::{Elf, PAGE};
use crate::image::Layout;
use crate::plan::Plan;
use crate::regions::Region;
use crate::sdf::{Grant, GrantKind, System, VirtualMachine};
use crate::spaces::Spaces;
use partita_abi::{CapRights, address_space, badge, microkit};
use std::collections::BTreeMap;

/// Name of the monitor's objects.
pub const MONITOR: &str = "monitor";
/// Stack of the monitor.
pub const MONITOR_STACK: u64 = 0x4000;
/// Its priority: above every protection domain.
pub const MONITOR_PRIORITY: u8 = address_space::MAX_PRIORITY as u8;
/// Its budget is its period: it runs whenever there is something to report.
const MONITOR_BUDGET_US: u64 = 1000;
/// Slots of the monitor's CNode.
const MONITOR_REPLY_SLOT: u32 = 2;
const MONITOR_TCB_BASE: u32 = microkit::OUTPUT_NOTIFICATION_BASE as u32;
const MONITOR_SC_BASE: u32 = microkit::IRQ_BASE as u32;
const MONITOR_NOTIFICATION_BASE: u32 = microkit::CHILD_TCB_BASE as u32;

/// An entry of a hash page table has 16 bytes, its guest frame number 4.
const HPTE_BYTES_PER_GFN_BYTE_BITS: u8 = 2;

/// Right to receive, and nothing else.
const RECEIVE: CapRights = CapRights::READ;
/// Right to signal, and nothing else.
const SIGNAL: CapRights = CapRights::WRITE;
/// Rights to call: send, and let the receiver answer.
const CALL: CapRights = CapRights::WRITE.union(CapRights::GRANT_REPLY);

/// Everything that the builder reads.
pub struct Input<'a> {
    /// The system description.
    pub system: &'a System,
    /// Kernel configuration.
    pub config: &'a Config,
    /// Its regions.
    pub regions: &'a [Region],
    /// Program of each domain.
    pub programs: &'a [Elf],
    /// Address space layout of each domain.
    pub spaces: &'a [Spaces],
    /// The monitor.
    pub monitor: &'a Elf,
    /// Which parts of programs and regions lie in the image.
    pub plan: &'a Plan,
    /// Where they lie.
    pub layout: &'a Layout,
}

/// A thread and what belongs to it.
struct Thread {
    tcb: ObjectId,
    sc: ObjectId,
    vspace: ObjectId,
}

/// A guest's objects.
struct Guest {
    gspace: ObjectId,
    hpt: ObjectId,
    vcpus: Vec<ObjectId>,
}

/// Who gets a grant.
struct Holder<'a> {
    name: &'a str,
    notification: ObjectId,
    vspace: ObjectId,
    /// The Microkit CNode.
    cnode: ObjectId,
    /// The root CNode.
    root: ObjectId,
}

struct Builder<'a> {
    input: Input<'a>,
    model: Model,
    /// Frames that lie in the image, by block and page: they may be mapped more than once.
    image_frames: BTreeMap<(usize, u64), ObjectId>,
}

/// Builds the model.
pub fn build(input: Input<'_>) -> Model {
    let system = input.system;
    let mut b = Builder {
        input,
        model: Model::default(),
        image_frames: BTreeMap::new(),
    };

    // 1. What threads meet at: a notification for each domain, an endpoint where it is needed.
    let monitor_ep = b.model.add("ep_fault_monitor", Object::Endpoint);
    let mut notifications = Vec::new();
    let mut endpoints = Vec::new();
    for (pd, domain) in system.pds.iter().enumerate() {
        notifications.push(
            b.model
                .add(format!("ntfn_{}", domain.name), Object::Notification),
        );
        endpoints.push(
            system
                .needs_endpoint(pd)
                .then(|| b.model.add(format!("ep_{}", domain.name), Object::Endpoint)),
        );
    }
    let input_of = |pd: usize| endpoints[pd].unwrap_or(notifications[pd]);

    // 2. Frames of the memory regions.
    let regions: Vec<_> = (0..b.input.regions.len())
        .map(|r| b.region_frames(r))
        .collect();

    // 3. The monitor's thread.
    let monitor_cnode = b.cnode(MONITOR, microkit::CNODE_BITS as u8);
    let guard = 64 - microkit::CNODE_BITS as u64;
    let monitor = b.thread(
        MONITOR,
        b.input.monitor,
        Spaces::new(MONITOR_STACK),
        &b.input.plan.monitor_segments.clone(),
        ThreadParameters {
            cspace: Cap::minted(monitor_cnode, CapRights::ALL, guard),
            priority: MONITOR_PRIORITY,
            core: 0,
            budget_us: MONITOR_BUDGET_US,
            period_us: MONITOR_BUDGET_US,
            badge: 0,
            fault: None,
            bound_notification: None,
        },
    );

    // 4. The domains' threads: program, stack, IPC buffer, mappings, two-level CSpace.
    let mut threads = Vec::new();
    let mut cnodes = Vec::new();
    let mut roots = Vec::new();
    for (pd, domain) in system.pds.iter().enumerate() {
        let cnode = b.cnode(&domain.name, microkit::CNODE_BITS as u8);
        let root = b.cnode(
            &format!("{}_root", domain.name),
            microkit::ROOT_CNODE_BITS as u8,
        );
        b.model.place(
            root,
            0,
            Cap::minted(cnode, CapRights::ALL, microkit::GUARD_BITS as u64),
        );
        let fault = match domain.parent {
            None => Cap::minted(monitor_ep, CALL, pd as u64 + 1),
            Some(parent) => Cap::minted(
                input_of(parent.pd),
                CALL,
                badge::FAULT | u64::from(parent.id),
            ),
        };
        let thread = b.thread(
            &domain.name,
            &b.input.programs[pd],
            b.input.spaces[pd],
            &b.input.plan.segments[pd].clone(),
            ThreadParameters {
                cspace: Cap::minted(root, CapRights::ALL, 0),
                priority: domain.priority,
                core: domain.cpu,
                budget_us: domain.budget,
                period_us: domain.period,
                badge: pd as u64 + 1,
                fault: Some(fault),
                bound_notification: Some(notifications[pd]),
            },
        );
        for map in &domain.maps {
            let region = &b.input.regions[map.region];
            let mut rights = CapRights::READ;
            if map.write {
                rights = rights.union(CapRights::WRITE);
            }
            let page = Page {
                execute: map.execute,
                cached: !region.device,
            };
            for (i, &frame) in regions[map.region].iter().enumerate() {
                let vaddr = map.vaddr + ((i as u64) << region.page_bits);
                let cap = Cap::mapped(frame, rights, page);
                b.model
                    .map(thread.vspace, &domain.name, vaddr, region.page_bits, cap);
            }
        }
        threads.push(thread);
        cnodes.push(cnode);
        roots.push(root);
    }

    // 5. Each domain's own capabilities, guests and grants. Slot 2 (own fault endpoint) stays empty.
    for (pd, domain) in system.pds.iter().enumerate() {
        let cnode = cnodes[pd];
        let own = |slot: usize| slot as u32;
        b.model.place(
            cnode,
            own(microkit::INPUT_SLOT),
            Cap::minted(input_of(pd), RECEIVE, 0),
        );
        b.model.place(
            cnode,
            own(microkit::VSPACE_SLOT),
            Cap::full(threads[pd].vspace),
        );
        let reply = b.model.add(format!("reply_{}", domain.name), Object::Reply);
        b.model
            .place(cnode, own(microkit::REPLY_SLOT), Cap::full(reply));
        if domain.passive {
            let cap = Cap::minted(monitor_ep, SIGNAL, pd as u64 + 1);
            b.model.place(cnode, own(microkit::MONITOR_EP_SLOT), cap);
        }
        if b.input.config.benchmark {
            b.model
                .place(cnode, own(microkit::TCB_SLOT), Cap::full(threads[pd].tcb));
        }
        for irq in &domain.irqs {
            let notification = Cap::minted(notifications[pd], SIGNAL, 1 << irq.id);
            let handler = b.model.add(
                format!("irq_{}_{:#x}", domain.name, irq.irq),
                Object::Irq {
                    number: irq.irq,
                    trigger: irq.trigger,
                    notification,
                },
            );
            let slot = microkit::IRQ_BASE as u32 + u32::from(irq.id);
            b.model.place(cnode, slot, Cap::full(handler));
        }
        for (child, id) in system.children(pd) {
            let slot = microkit::CHILD_TCB_BASE as u32 + u32::from(id);
            b.model.place(cnode, slot, Cap::full(threads[child].tcb));
        }
    }
    let mut guests = Vec::new();
    for vm in &system.vms {
        guests.push(b.guest(vm, &endpoints, cnodes[vm.pd]));
    }
    for (pd, domain) in system.pds.iter().enumerate() {
        let holder = Holder {
            name: &domain.name,
            notification: notifications[pd],
            vspace: threads[pd].vspace,
            cnode: cnodes[pd],
            root: roots[pd],
        };
        for grant in &domain.grants {
            b.grant(&holder, grant, &threads, &guests);
        }
    }

    // 6. Channels.
    for c in system.notifications() {
        let slot = microkit::OUTPUT_NOTIFICATION_BASE as u32 + u32::from(c.from_id);
        let cap = Cap::minted(notifications[c.to], SIGNAL, 1 << c.to_id);
        b.model.place(cnodes[c.from], slot, cap);
    }
    for c in system.calls() {
        let slot = microkit::OUTPUT_ENDPOINT_BASE as u32 + u32::from(c.from_id);
        let cap = Cap::minted(input_of(c.to), CALL, badge::PPC | u64::from(c.to_id));
        b.model.place(cnodes[c.from], slot, cap);
    }

    // 7. The monitor's capabilities: the threads whose faults it gets, to read their registers; for
    //    passive domains thread, scheduling context and notification, to move one from the other.
    b.model.place(
        monitor_cnode,
        microkit::INPUT_SLOT as u32,
        Cap::minted(monitor_ep, RECEIVE, 0),
    );
    let reply = b.model.add(format!("reply_{MONITOR}"), Object::Reply);
    b.model
        .place(monitor_cnode, MONITOR_REPLY_SLOT, Cap::full(reply));
    for (pd, domain) in system.pds.iter().enumerate() {
        let index = pd as u32;
        if domain.parent.is_none() || domain.passive {
            let slot = MONITOR_TCB_BASE + index;
            b.model
                .place(monitor_cnode, slot, Cap::full(threads[pd].tcb));
        }
        if domain.passive {
            b.model.place(
                monitor_cnode,
                MONITOR_SC_BASE + index,
                Cap::full(threads[pd].sc),
            );
            let cap = Cap::minted(notifications[pd], RECEIVE, 0);
            b.model
                .place(monitor_cnode, MONITOR_NOTIFICATION_BASE + index, cap);
        }
    }

    // 8. Start: the monitor, then the highest priority first.
    let mut order: Vec<_> = (0..system.pds.len()).collect();
    order.sort_by_key(|&pd| std::cmp::Reverse(system.pds[pd].priority));
    b.model.start_order = vec![monitor.tcb];
    b.model
        .start_order
        .extend(order.into_iter().map(|pd| threads[pd].tcb));
    b.model
}

struct ThreadParameters {
    cspace: Cap,
    priority: u8,
    core: u32,
    budget_us: u64,
    period_us: u64,
    badge: u64,
    fault: Option<Cap>,
    bound_notification: Option<ObjectId>,
}

impl<'a> Builder<'a> {
    fn cnode(&mut self, name: &str, radix: u8) -> ObjectId {
        self.model.add(
            format!("cnode_{name}"),
            Object::CNode {
                radix,
                slots: BTreeMap::new(),
            },
        )
    }

    /// A frame of a block that lies in the image.
    fn image_frame(&mut self, block: usize, page: u64, name: impl Fn() -> String) -> ObjectId {
        if let Some(&id) = self.image_frames.get(&(block, page)) {
            return id;
        }
        let place = &self.input.layout.blocks[block];
        let bits = self.input.plan.blocks[block].bits;
        let backing = Backing::Image {
            frame: place.first_frame + page as u32,
            paddr: place.paddr + (page << bits),
        };
        let id = self.model.add(name(), Object::Frame { bits, backing });
        self.image_frames.insert((block, page), id);
        id
    }

    fn region_frames(&mut self, index: usize) -> Vec<ObjectId> {
        let region = &self.input.regions[index];
        if !region.used {
            return Vec::new();
        }
        let bits = region.page_bits;
        (0..region.pages())
            .map(|page| {
                let name = || format!("mr_{}_{page:09}", region.name);
                match self.input.plan.regions[index] {
                    Some(block) => self.image_frame(block, page, name),
                    None => {
                        let backing = region
                            .paddr
                            .map_or(Backing::Untyped, |p| Backing::At(p + (page << bits)));
                        self.model.add(name(), Object::Frame { bits, backing })
                    }
                }
            })
            .collect()
    }

    fn thread(
        &mut self,
        name: &str,
        elf: &'a Elf,
        spaces: Spaces,
        blocks: &[Option<usize>],
        p: ThreadParameters,
    ) -> Thread {
        let root = Object::PageTable {
            level: ROOT_LEVEL,
            vaddr: 0,
            slots: BTreeMap::new(),
        };
        let vspace = self.model.add(format!("vspace_{name}"), root);
        let data = Page {
            execute: false,
            cached: true,
        };
        let both = CapRights::READ.union(CapRights::WRITE);

        let mut sequence = 0u64;
        for (segment, block) in elf.segments.iter().zip(blocks) {
            let rights = if segment.write { both } else { CapRights::READ };
            let page = Page {
                execute: segment.execute,
                cached: true,
            };
            for i in 0..segment.pages() {
                let frame_name = || format!("elf_{name}_{sequence:09}");
                let object = match block {
                    Some(block) if i < segment.file_pages() => {
                        self.image_frame(*block, i, frame_name)
                    }
                    _ => {
                        let backing = Backing::Untyped;
                        let frame = Object::Frame {
                            bits: address_space::PAGE_BITS as u8,
                            backing,
                        };
                        self.model.add(frame_name(), frame)
                    }
                };
                sequence += 1;
                let vaddr = segment.start() + i * PAGE;
                self.map_small(vspace, name, vaddr, Cap::mapped(object, rights, page));
            }
        }

        for i in 0..(spaces.stack_top - spaces.stack_bottom) / PAGE {
            let object = self.zeroed(format!("stack_{name}_{i:09}"));
            let cap = Cap::mapped(object, both, data);
            self.map_small(vspace, name, spaces.stack_bottom + i * PAGE, cap);
        }
        let ipc_buffer = self.zeroed(format!("ipcbuf_{name}"));
        let cap = Cap::mapped(ipc_buffer, both, data);
        self.map_small(vspace, name, spaces.ipc_buffer, cap);

        let sc = self.model.add(
            format!("sc_{name}"),
            Object::SchedContext {
                core: p.core,
                budget_us: p.budget_us,
                period_us: p.period_us,
                badge: p.badge,
            },
        );
        let tcb = Tcb {
            cspace: p.cspace,
            vspace,
            ipc_buffer,
            ipc_buffer_vaddr: spaces.ipc_buffer,
            sc,
            fault: p.fault,
            bound_notification: p.bound_notification,
            priority: p.priority,
            mcp: p.priority,
            pc: elf.entry,
            sp: spaces.stack_top,
            name: name.into(),
        };
        let tcb = self
            .model
            .add(format!("tcb_{name}"), Object::Tcb(Box::new(tcb)));
        Thread { tcb, sc, vspace }
    }

    fn zeroed(&mut self, name: String) -> ObjectId {
        let bits = address_space::PAGE_BITS as u8;
        self.model.add(
            name,
            Object::Frame {
                bits,
                backing: Backing::Untyped,
            },
        )
    }

    fn map_small(&mut self, vspace: ObjectId, name: &str, vaddr: u64, cap: Cap) {
        self.model
            .map(vspace, name, vaddr, address_space::PAGE_BITS as u8, cap);
    }

    /// Memory, hash page table and processors of a guest; the parent gets the processors and their
    /// threads.
    fn guest(
        &mut self,
        vm: &VirtualMachine,
        endpoints: &[Option<ObjectId>],
        parent: ObjectId,
    ) -> Guest {
        let system = self.input.system;
        let name = &vm.name;
        // Whoever gets exits waits on an endpoint: `System::needs_endpoint`.
        let endpoint = |pd: usize, badge| {
            let object = endpoints[pd].expect("a domain with exits has an endpoint");
            Cap::minted(object, CALL, badge)
        };
        let gspace = self.model.add(format!("gspace_{name}"), Object::GSpace);
        let bits = vm.hpt_order - HPTE_BYTES_PER_GFN_BYTE_BITS;
        let gfns = self
            .model
            .add(format!("hptgfns_{name}"), Object::HptGfns { bits });
        let hpt = Object::Hpt {
            order: vm.hpt_order,
            gspace,
            gfns,
            vrma_bits: vm.vrma_bits,
            views: Vec::new(),
        };
        let hpt = self.model.add(format!("hpt_{name}"), hpt);
        let mut vcpus = Vec::new();
        for vcpu in &vm.vcpus {
            let id = u64::from(vcpu.id);
            let thread = format!("{name}_{id}");
            let sc = Object::SchedContext {
                core: vcpu.cpu,
                budget_us: vm.budget,
                period_us: vm.period,
                badge: id,
            };
            let sc = self.model.add(format!("sc_{thread}"), sc);
            let tcb = GuestTcb {
                sc,
                fault: endpoint(vm.pd, badge::FAULT | id),
                priority: vm.priority,
                name: thread.clone(),
                vcpu: self.model.objects.len() + 1,
            };
            let tcb = self
                .model
                .add(format!("tcb_{thread}"), Object::GuestTcb(Box::new(tcb)));
            let routes = system.endpoints(vm, vcpu.cpu).into_iter().map(|to| {
                let badge = badge::PPC | id << badge::VCPU_ID_SHIFT | u64::from(to.id);
                (endpoint(to.pd, badge), to.targets)
            });
            let object = VCpu {
                id: vcpu.id,
                tcb,
                gspace,
                routes: routes.collect(),
            };
            let object = self
                .model
                .add(format!("vcpu_{thread}"), Object::VCpu(Box::new(object)));
            let slot = |base: usize| base as u32 + u32::from(vcpu.id);
            // It controls and reads it; its entries and its dispatch counter are somebody else's.
            let own = CapRights::READ.union(CapRights::WRITE);
            self.model
                .place(parent, slot(microkit::VCPU_TCB_BASE), Cap::full(tcb));
            self.model.place(
                parent,
                slot(microkit::VCPU_BASE),
                Cap::minted(object, own, 0),
            );
            vcpus.push(object);
        }
        Guest { gspace, hpt, vcpus }
    }

    /// Puts what a `<cap_*>` grants into the holder's CSpace.
    fn grant(&mut self, to: &Holder<'_>, grant: &Grant, threads: &[Thread], guests: &[Guest]) {
        let mut slots = grant.slots();
        let name = format!("{}_{}", to.name, grant.slot);
        let page = address_space::PAGE_BITS as u8;
        let cap = match grant.kind {
            GrantKind::Tcb(pd) => Cap::full(threads[pd].tcb),
            GrantKind::SchedContext(pd) => Cap::full(threads[pd].sc),
            GrantKind::VSpace(pd) => Cap::full(threads[pd].vspace),
            GrantKind::GSpace(vm) => Cap::full(guests[vm].gspace),
            GrantKind::Platform => Cap::full(self.platform()),
            GrantKind::Timer { id } => {
                let notification = Cap::minted(to.notification, SIGNAL, 1 << id);
                let timer = Object::Timer { notification };
                Cap::full(self.model.add(format!("timer_{name}"), timer))
            }
            GrantKind::Untyped { bits, .. } => {
                for slot in slots {
                    let name = format!("untyped_{}_{slot}", to.name);
                    let object = self.model.add(name, Object::Untyped { bits });
                    self.model.place(to.root, slot, Cap::full(object));
                }
                return;
            }
            GrantKind::CNode { radix } => {
                let object = self.cnode(&name, radix);
                let own = microkit::CAP_CNODE_BASE as u32 + grant.slot;
                self.model
                    .place(to.cnode, own, Cap::minted(object, CapRights::ALL, 0));
                let guard = address_space::WORD_BITS - microkit::ROOT_CNODE_BITS;
                let guard = guard as u64 - u64::from(radix);
                Cap::minted(object, CapRights::ALL, guard)
            }
            GrantKind::View {
                vm, write, vaddr, ..
            } => {
                for (i, slot) in (0..).zip(slots) {
                    let mut rights = CapRights::READ;
                    if write {
                        rights = rights.union(CapRights::WRITE);
                    }
                    let cap = Cap::view(guests[vm].gspace, rights);
                    self.model.place(to.root, slot, cap);
                    if let Some(vaddr) = vaddr {
                        let vaddr = vaddr + (i << page);
                        self.model.tables(to.vspace, to.name, vaddr, page);
                    }
                }
                return;
            }
            GrantKind::Hpt { vm, vaddr } => {
                let hpt = guests[vm].hpt;
                if let Some(vaddr) = vaddr {
                    self.show_table(hpt, to, vaddr);
                }
                Cap::full(hpt)
            }
            GrantKind::VCpu { vm, rights, .. } => {
                for (slot, &vcpu) in slots.zip(&guests[vm].vcpus) {
                    let cap = Cap::minted(vcpu, rights, 0);
                    self.model.place(to.root, slot, cap);
                }
                return;
            }
        };
        let slot = slots.next().unwrap_or(grant.slot);
        self.model.place(to.root, slot, cap);
    }

    /// The kernel's only PlatformControl.
    fn platform(&mut self) -> ObjectId {
        let found = self
            .model
            .objects
            .iter()
            .position(|named| matches!(named.object, Object::Platform));
        found.unwrap_or_else(|| self.model.add("platform", Object::Platform))
    }

    /// The kernel shows the table in pages of 2 MiB, or of 4 KiB if it is smaller.
    fn show_table(&mut self, hpt: ObjectId, to: &Holder<'_>, vaddr: u64) {
        let Object::Hpt { order, views, .. } = &mut self.model.objects[hpt].object else {
            unreachable!("a guest's table is a table");
        };
        views.push((to.vspace, vaddr));
        let size = 1u64 << *order;
        let page = if *order < 21 { 12 } else { 21 };
        for offset in (0..size).step_by(1 << page) {
            self.model.tables(to.vspace, to.name, vaddr + offset, page);
        }
    }
}
