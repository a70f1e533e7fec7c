// SPDX-License-Identifier: BSD-2-Clause
//! Builds the model of a system. The steps follow the table of slots in `kernel-config/abi.toml`
//! (`[microkit]`).

use super::model::{Backing, Cap, Model, Object, ObjectId, Page, ROOT_LEVEL, Tcb};
use crate::board::Config;
use crate::elf::{Elf, PAGE};
use crate::image::Layout;
use crate::plan::Plan;
use crate::regions::Region;
use crate::sdf::{GrantKind, System};
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
                bound_notification: endpoints[pd].map(|_| notifications[pd]),
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
                cached: map.cached,
            };
            for (i, &frame) in regions[map.region].iter().enumerate() {
                let vaddr = map.vaddr + ((i as u64) << region.page_bits);
                let cap = Cap {
                    object: frame,
                    rights,
                    badge: 0,
                    page: Some(page),
                };
                b.model
                    .map(thread.vspace, &domain.name, vaddr, region.page_bits, cap);
            }
        }
        threads.push(thread);
        cnodes.push(cnode);
        roots.push(root);
    }

    // 5. Each domain's own capabilities. Slot 2 (own fault endpoint) stays empty.
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
        for grant in &domain.grants {
            let of = &threads[grant.pd];
            let object = match grant.kind {
                GrantKind::Tcb => of.tcb,
                GrantKind::SchedContext => of.sc,
                GrantKind::VSpace => of.vspace,
            };
            b.model.place(roots[pd], grant.slot, Cap::full(object));
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
                self.map_small(
                    vspace,
                    name,
                    vaddr,
                    Cap {
                        object,
                        rights,
                        badge: 0,
                        page: Some(page),
                    },
                );
            }
        }

        for i in 0..(spaces.stack_top - spaces.stack_bottom) / PAGE {
            let object = self.zeroed(format!("{name}_stack_{i:09}"));
            let cap = Cap {
                object,
                rights: both,
                badge: 0,
                page: Some(data),
            };
            self.map_small(vspace, name, spaces.stack_bottom + i * PAGE, cap);
        }
        let ipc_buffer = self.zeroed(format!("ipcbuf_{name}"));
        let cap = Cap {
            object: ipc_buffer,
            rights: both,
            badge: 0,
            page: Some(data),
        };
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
}
