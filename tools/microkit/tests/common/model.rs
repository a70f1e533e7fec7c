// SPDX-License-Identifier: BSD-2-Clause
//! A model of the kernel, strict where the real one is: the initialiser runs against it. It knows
//! nothing of the tool: what it holds in the end was said by invocations only.
#![allow(dead_code, reason = "each test binary uses its own part")]

use initialiser::{Destination, Kernel, ThreadSpaces};
use partita_abi::bootinfo::{BOOTINFO_MAGIC, BootInfo, ImageFrames, ImageInfo};
use partita_abi::{CapRights, GuestExit, ObjectType, init_cnode, limits};
use partita_capdl::Trigger;
use partita_capdl::untyped::Untyped;
use std::collections::BTreeMap;
use std::fmt::Write;
use zerocopy::FromZeros;

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Untyped {
        start: u64,
        end: u64,
        next: u64,
        device: bool,
    },
    Plain(ObjectType),
    Frame {
        bits: u32,
        at: u64,
        device: bool,
        image: bool,
    },
    CNode {
        radix: u8,
        slots: BTreeMap<u64, Cap>,
    },
    VSpace {
        pid: Option<u64>,
        tables: Vec<(u32, u64)>,
        pages: BTreeMap<u64, Page>,
    },
    SchedContext {
        parameters: Option<(u64, u64, u64, u64)>,
    },
    Irq {
        irq: u64,
        trigger: Trigger,
        signals: Option<Cap>,
    },
    Tcb(Box<Thread>),
    Timer {
        signals: Option<Cap>,
    },
    GSpace {
        lpid: bool,
        hpt: Option<usize>,
    },
    Hpt {
        order: u8,
        bound: Option<(usize, usize, u8)>,
        views: Vec<(usize, u64)>,
    },
    HptGfns {
        bits: u8,
    },
    VCpu(Box<Processor>),
    Control(u64),
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Processor {
    id: u64,
    bound: Option<(usize, usize)>,
    routes: BTreeMap<u8, Cap>,
    hypercalls: BTreeMap<u64, u8>,
    exits: BTreeMap<&'static str, u8>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Thread {
    spaces: Option<(Cap, Cap, u64)>,
    priority: Option<(u8, u8)>,
    sc: Option<usize>,
    fault: Option<Cap>,
    bound: Option<usize>,
    registers: Option<(u64, u64)>,
    name: String,
    started: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
struct Page {
    object: usize,
    bits: u32,
    rights: CapRights,
    executable: bool,
    cached: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Cap {
    object: usize,
    rights: CapRights,
    badge: u64,
    mapped: Option<(usize, u64)>,
    /// A view of a GSpace.
    view: bool,
}

/// The model.
pub struct Model {
    objects: Vec<Kind>,
    boot: BootInfo,
    started: usize,
}

type Answer<T = ()> = Result<T, String>;

const ROOT: usize = 0;
const TOP_LEVEL: u32 = 39;

macro_rules! expect {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err(format!($($message)*));
        }
    };
}

impl Model {
    /// A machine that has started an image: `info` and `frames` as the tool wrote them.
    pub fn boot(info: &ImageInfo, frames: &[ImageFrames], untypeds: &[Untyped]) -> Model {
        let mut m = Model {
            objects: Vec::new(),
            boot: BootInfo::new_zeroed(),
            started: 0,
        };
        let radix = info.root_cnode_bits as u8;
        m.objects.push(Kind::CNode {
            radix,
            slots: BTreeMap::new(),
        });
        m.give(init_cnode::CNODE as u64, ROOT);
        for (slot, kind) in [
            (init_cnode::TCB, Kind::Tcb(Box::default())),
            (
                init_cnode::VSPACE,
                Kind::VSpace {
                    pid: Some(1),
                    tables: vec![],
                    pages: BTreeMap::new(),
                },
            ),
            (init_cnode::REPLY, Kind::Plain(ObjectType::Reply)),
            (
                init_cnode::SCHED_CONTEXT,
                Kind::SchedContext {
                    parameters: Some((0, 1, 1, 0)),
                },
            ),
        ] {
            m.create(slot as u64, kind);
        }
        for slot in [
            init_cnode::IRQ_CONTROL,
            init_cnode::ASID_CONTROL,
            init_cnode::ASID_POOL,
            init_cnode::PLATFORM_CONTROL,
            init_cnode::LPID_CONTROL,
            init_cnode::BOOT_INFO,
            init_cnode::IPC_BUFFER,
        ] {
            m.create(slot as u64, Kind::Control(slot as u64));
        }
        let mut next = init_cnode::FIRST_FREE as u64;
        let mut series = |m: &mut Model, kinds: Vec<Kind>| {
            let first = next;
            for kind in kinds {
                m.create(next, kind);
                next += 1;
            }
            [first, next]
        };
        m.boot.magic = BOOTINFO_MAGIC;
        m.boot.num_nodes = 4;
        m.boot.sched_control = series(
            &mut m,
            (0..4).map(|core| Kind::Control(0x100 + core)).collect(),
        );
        let mut images = Vec::new();
        for f in frames {
            assert_eq!(f.paddr % (1 << f.bits), 0, "image frames are aligned");
            for i in 0..f.count {
                let at = f.paddr + (i << f.bits);
                images.push(Kind::Frame {
                    bits: f.bits as u32,
                    at,
                    device: false,
                    image: true,
                });
            }
        }
        let rights = frames.iter().flat_map(|f| (0..f.count).map(|_| f.rights));
        m.boot.image_frames = series(&mut m, images);
        for (slot, rights) in (m.boot.image_frames[0]..).zip(rights) {
            m.own().get_mut(&slot).unwrap().rights = CapRights(rights);
        }
        assert!(untypeds.len() <= limits::MAX_UNTYPEDS);
        let kinds = untypeds.iter().map(|u| Kind::Untyped {
            start: u.paddr,
            end: u.paddr + (1 << u.size_bits),
            next: u.paddr,
            device: u.is_device,
        });
        m.boot.untyped = series(&mut m, kinds.collect());
        for (given, u) in m.boot.untypeds.iter_mut().zip(untypeds) {
            given.paddr = u.paddr;
            given.size_bits = u.size_bits.into();
            given.is_device = u.is_device.into();
        }
        m.boot.empty = [next, 1 << radix];
        m
    }

    /// What the root task is told.
    pub fn boot_info(&self) -> BootInfo {
        self.boot
    }

    fn own(&mut self) -> &mut BTreeMap<u64, Cap> {
        match &mut self.objects[ROOT] {
            Kind::CNode { slots, .. } => slots,
            _ => unreachable!("the root CNode is the first object"),
        }
    }

    fn give(&mut self, slot: u64, object: usize) {
        let cap = Cap {
            object,
            rights: CapRights::ALL,
            badge: 0,
            mapped: None,
            view: false,
        };
        assert!(self.own().insert(slot, cap).is_none());
    }

    fn create(&mut self, slot: u64, kind: Kind) {
        self.objects.push(kind);
        self.give(slot, self.objects.len() - 1);
    }

    fn cap(&self, slot: u64) -> Answer<Cap> {
        match &self.objects[ROOT] {
            Kind::CNode { slots, .. } => slots
                .get(&slot)
                .cloned()
                .ok_or(format!("slot {slot} is empty")),
            _ => Err("no root CNode".into()),
        }
    }

    fn empty_own(&self, slot: u64) -> Answer {
        let Kind::CNode { radix, slots } = &self.objects[ROOT] else {
            return Err("no root CNode".into());
        };
        expect!(slot < 1 << radix, "slot {slot} does not exist");
        expect!(!slots.contains_key(&slot), "slot {slot} is not empty");
        Ok(())
    }

    fn control(&self, slot: u64, first: u64, count: u64) -> Answer<u64> {
        match self.objects[self.cap(slot)?.object] {
            Kind::Control(n) if n >= first && n < first + count => Ok(n - first),
            _ => Err(format!("slot {slot} is not control {first:#x}")),
        }
    }

    fn thread(&mut self, slot: u64) -> Answer<&mut Thread> {
        let object = self.cap(slot)?.object;
        match &mut self.objects[object] {
            Kind::Tcb(thread) => Ok(thread),
            other => Err(format!("slot {slot} is no thread but {other:?}")),
        }
    }

    fn plain(&self, slot: u64, ty: ObjectType) -> Answer<Cap> {
        let cap = self.cap(slot)?;
        let found = &self.objects[cap.object];
        expect!(
            *found == Kind::Plain(ty),
            "slot {slot} is not {ty:?} but {found:?}"
        );
        Ok(cap)
    }

    /// Objects that some capability outside `except` names.
    fn holders(&self, object: usize) -> usize {
        let in_cnodes = self.objects.iter().flat_map(|o| match o {
            Kind::CNode { slots, .. } => slots
                .values()
                .filter(|c| !c.view)
                .map(|c| c.object)
                .collect(),
            Kind::Tcb(t) => t
                .spaces
                .iter()
                .flat_map(|(c, v, _)| [c.object, v.object])
                .chain(t.fault.iter().map(|f| f.object))
                .collect(),
            Kind::Irq { signals, .. } | Kind::Timer { signals } => {
                signals.iter().map(|s| s.object).collect()
            }
            Kind::VCpu(v) => v.routes.values().map(|r| r.object).collect(),
            _ => Vec::new(),
        });
        in_cnodes.filter(|&o| o == object).count()
    }

    /// What is wrong after the root task has finished, and what the system looks like.
    pub fn listing(&self) -> String {
        let mut out = String::new();
        let mut labels = BTreeMap::new();
        let mut threads: Vec<(usize, &Thread)> = self
            .objects
            .iter()
            .enumerate()
            .filter_map(|(i, o)| match o {
                Kind::Tcb(t) if t.started.is_some() => Some((i, &**t)),
                _ => None,
            })
            .collect();
        threads.sort_by_key(|(_, t)| t.started);
        for (i, t) in &threads {
            labels.insert(*i, format!("tcb {}", t.name));
            labels.insert(t.sc.unwrap(), format!("sc {}", t.name));
            labels.insert(
                t.spaces.as_ref().unwrap().1.object,
                format!("vspace {}", t.name),
            );
        }
        for (_, t) in &threads {
            let (cspace, vspace, buffer) = t.spaces.as_ref().unwrap();
            let (mcp, priority) = t.priority.unwrap();
            let (pc, sp) = t.registers.unwrap();
            writeln!(out, "{}: priority {priority} (up to {mcp})", t.name).unwrap();
            writeln!(out, "    pc {pc:#x} sp {sp:#x} ipc buffer {buffer:#x}").unwrap();
            let Kind::SchedContext {
                parameters: Some((core, budget, period, badge)),
            } = self.objects[t.sc.unwrap()]
            else {
                panic!("{} has no configured scheduling context", t.name);
            };
            writeln!(
                out,
                "    core {core}, {budget}/{period} us, timeout word {badge}"
            )
            .unwrap();
            if let Some(fault) = &t.fault {
                writeln!(out, "    faults: {}", self.describe(fault, &mut labels)).unwrap();
            }
            if let Some(bound) = t.bound {
                let cap = Cap {
                    object: bound,
                    rights: CapRights::NONE,
                    badge: 0,
                    mapped: None,
                    view: false,
                };
                writeln!(out, "    bound: {}", self.describe(&cap, &mut labels)).unwrap();
            }
            self.list_cspace(&mut out, cspace, 0, &mut labels);
            self.list_vspace(&mut out, vspace.object);
        }
        self.list_guests(&mut out, &mut labels);
        out
    }

    fn list_guests(&self, out: &mut String, labels: &mut BTreeMap<usize, String>) {
        for (object, kind) in self.objects.iter().enumerate() {
            if let Kind::Hpt {
                order,
                bound: Some((gspace, _, vrma_bits)),
                views,
            } = kind
            {
                let (hpt, gspace) = (self.label(object, labels), self.label(*gspace, labels));
                writeln!(out, "{hpt}: order {order}, {gspace}, VRMA {vrma_bits}").unwrap();
                for (vspace, vaddr) in views {
                    writeln!(out, "    {vaddr:#016x} {}", labels[vspace]).unwrap();
                }
            }
            let Kind::VCpu(v) = kind else { continue };
            let (tcb, gspace) = v.bound.expect("a VCPU is bound");
            let Kind::Tcb(t) = &self.objects[tcb] else {
                panic!("a VCPU has a thread");
            };
            let Kind::SchedContext {
                parameters: Some((core, budget, period, badge)),
            } = self.objects[t.sc.unwrap()]
            else {
                panic!("{} has no configured scheduling context", t.name);
            };
            let (vcpu, gspace) = (self.label(object, labels), self.label(gspace, labels));
            writeln!(out, "{vcpu}: {}, id {}, {gspace}", t.name, v.id).unwrap();
            let priority = t.priority.unwrap();
            writeln!(
                out,
                "    {priority:?}, core {core}, {budget}/{period} us, timeout word {badge}"
            )
            .unwrap();
            let fault = self.describe(t.fault.as_ref().unwrap(), labels);
            writeln!(out, "    parent: {fault}").unwrap();
            for (route, cap) in &v.routes {
                let to = |r: &u8| r == route;
                let calls: Vec<_> = v
                    .hypercalls
                    .iter()
                    .filter(|(_, r)| to(r))
                    .map(|(number, _)| format!("{number:#x}"))
                    .chain(
                        v.exits
                            .iter()
                            .filter(|(_, r)| to(r))
                            .map(|(n, _)| n.to_string()),
                    )
                    .collect();
                let cap = self.describe(cap, labels);
                writeln!(out, "    {route}: {cap}: {}", calls.join(" ")).unwrap();
            }
        }
    }

    fn label(&self, object: usize, labels: &mut BTreeMap<usize, String>) -> String {
        let kind = match &self.objects[object] {
            Kind::Plain(ty) => ty.name().to_lowercase(),
            Kind::Irq { irq, trigger, .. } => format!("irq {irq:#x} {trigger:?}"),
            Kind::Untyped { start, end, .. } => format!("untyped of {:#x} bytes", end - start),
            Kind::Timer { .. } => "timer".into(),
            Kind::GSpace { .. } => "gspace".into(),
            Kind::Hpt { .. } => "hpt".into(),
            Kind::HptGfns { .. } => "gfns".into(),
            Kind::VCpu(_) => "vcpu".into(),
            Kind::Tcb(t) => format!("tcb {}", t.name),
            Kind::Control(n) => format!("control {n}"),
            _ => "object".into(),
        };
        let count = labels
            .values()
            .filter(|l| l.starts_with(&format!("{kind} #")))
            .count();
        labels
            .entry(object)
            .or_insert(format!("{kind} #{count}"))
            .clone()
    }

    fn describe(&self, cap: &Cap, labels: &mut BTreeMap<usize, String>) -> String {
        let label = self.label(cap.object, labels);
        let rights = microkit_tool::report::rights(cap.rights);
        let mut text = match self.objects[cap.object] {
            Kind::Plain(ObjectType::Endpoint | ObjectType::Notification) => {
                format!("{label} {rights} {:#x}", cap.badge)
            }
            Kind::VCpu(_) => format!("{label} {rights}"),
            _ if cap.view => format!("view of {label} {rights}"),
            _ => label,
        };
        if let Kind::Irq { signals, .. } | Kind::Timer { signals } = &self.objects[cap.object] {
            let signals = self.describe(signals.as_ref().expect("connected"), labels);
            write!(text, " -> {signals}").unwrap();
        }
        text
    }

    fn list_cspace(
        &self,
        out: &mut String,
        root: &Cap,
        depth: usize,
        labels: &mut BTreeMap<usize, String>,
    ) {
        let Kind::CNode { radix, slots } = &self.objects[root.object] else {
            panic!("a CSpace root is a CNode");
        };
        let indent = "    ".repeat(depth + 1);
        writeln!(
            out,
            "{indent}cnode of {radix} bits after {} guard bits",
            root.badge & 63
        )
        .unwrap();
        for (slot, cap) in slots {
            if matches!(self.objects[cap.object], Kind::CNode { .. }) {
                writeln!(out, "{indent}  {slot}:").unwrap();
                self.list_cspace(out, cap, depth + 1, labels);
            } else {
                writeln!(out, "{indent}  {slot}: {}", self.describe(cap, labels)).unwrap();
            }
        }
    }

    fn list_vspace(&self, out: &mut String, vspace: usize) {
        let Kind::VSpace { pages, .. } = &self.objects[vspace] else {
            panic!("an address space is a VSpace");
        };
        for (vaddr, page) in pages {
            let Kind::Frame {
                at, device, image, ..
            } = self.objects[page.object]
            else {
                panic!("only frames are mapped");
            };
            let rights = page.rights;
            let letter = |on, letter| if on { letter } else { '-' };
            writeln!(
                out,
                "    {vaddr:#016x} {:2} {}{}{}{} {}",
                page.bits,
                letter(rights.contains(CapRights::READ), 'r'),
                letter(rights.contains(CapRights::WRITE), 'w'),
                letter(page.executable, 'x'),
                letter(!page.cached, 'i'),
                match (image, device) {
                    (true, _) => format!("image {at:#x}"),
                    (_, true) => format!("device {at:#x}"),
                    _ => "memory".into(),
                }
            )
            .unwrap();
        }
    }

    /// Checks what must be true when the root task has finished: it holds nothing that lets anybody
    /// do something, and nothing that the system needs is gone.
    pub fn check_end(&self) {
        let Kind::CNode { slots, .. } = &self.objects[ROOT] else {
            unreachable!()
        };
        let kept = [
            init_cnode::TCB,
            init_cnode::SCHED_CONTEXT,
            init_cnode::ASID_POOL,
        ];
        for (slot, cap) in slots {
            let fine = match &self.objects[cap.object] {
                _ if kept.contains(&(*slot as usize)) => true,
                // A mapped frame, a table: their mappings would end with them.
                Kind::Frame { .. } => cap.mapped.is_some(),
                Kind::Plain(ObjectType::PageTable) => true,
                // Held by nobody else: it would be destroyed.
                Kind::Tcb(_)
                | Kind::SchedContext { .. }
                | Kind::GSpace { .. }
                | Kind::Hpt { .. }
                | Kind::HptGfns { .. }
                | Kind::Plain(ObjectType::Notification) => self.holders(cap.object) == 1,
                _ => false,
            };
            assert!(fine, "the root task still has {cap:?} in slot {slot}");
        }
        for object in &self.objects {
            if let Kind::Tcb(t) = object
                && t.started.is_some()
            {
                assert!(self.holders(t.sc.unwrap()) > 0, "{} lost its SC", t.name);
                for pair in t.spaces.iter().flat_map(|(c, v, _)| [c, v]) {
                    assert!(self.holders(pair.object) > 0);
                }
            }
        }
    }
}

impl Kernel for Model {
    type Error = &'static str;

    fn retype(
        &mut self,
        untyped: u64,
        object: ObjectType,
        size_bits: u8,
        first: u64,
        count: u32,
    ) -> Result<(), Self::Error> {
        leak(self.try_retype(untyped, object, size_bits, first, count))
    }

    fn copy(
        &mut self,
        to: Destination,
        from: u64,
        rights: CapRights,
        badge: Option<u64>,
    ) -> Result<(), Self::Error> {
        leak(self.try_copy(to, from, rights, badge))
    }

    fn delete(&mut self, slot: u64) -> Result<(), Self::Error> {
        if let Some(cap) = self.own().remove(&slot) {
            assert!(
                cap.mapped.is_none(),
                "slot {slot} is mapped: its page would go"
            );
            let pool = Kind::Control(init_cnode::ASID_POOL as u64);
            assert!(
                self.objects[cap.object] != pool,
                "every PID is in the ASID pool"
            );
            let dies = self.holders(cap.object) == 0;
            if dies && let Kind::Tcb(t) = &self.objects[cap.object] {
                panic!("thread {} would be destroyed", t.name);
            }
            let precious = matches!(
                self.objects[cap.object],
                Kind::SchedContext { .. }
                    | Kind::GSpace { .. }
                    | Kind::Hpt { .. }
                    | Kind::HptGfns { .. }
                    | Kind::VCpu(_)
                    | Kind::Timer { .. }
            );
            let kind = &self.objects[cap.object];
            assert!(
                !(dies && precious),
                "slot {slot}: {kind:?} would be destroyed"
            );
        }
        Ok(())
    }

    fn configure_sched_context(
        &mut self,
        control: u64,
        sc: u64,
        budget_us: u64,
        period_us: u64,
        badge: u64,
    ) -> Result<(), Self::Error> {
        leak((|| {
            let core = self.control(control, 0x100, 4)?;
            let object = self.cap(sc)?.object;
            let Kind::SchedContext { parameters } = &mut self.objects[object] else {
                return Err(format!("slot {sc} is no scheduling context"));
            };
            expect!(parameters.is_none(), "configured twice");
            expect!(budget_us <= period_us, "budget over period");
            *parameters = Some((core, budget_us, period_us, badge));
            Ok(())
        })())
    }

    fn assign_asid(&mut self, pool: u64, vspace: u64) -> Result<(), Self::Error> {
        leak((|| {
            self.control(pool, init_cnode::ASID_POOL as u64, 1)?;
            let object = self.cap(vspace)?.object;
            let Kind::VSpace { pid, .. } = &mut self.objects[object] else {
                return Err(format!("slot {vspace} is no address space"));
            };
            expect!(pid.is_none(), "slot {vspace} has a PID");
            *pid = Some(object as u64);
            Ok(())
        })())
    }

    fn map_table(&mut self, table: u64, vspace: u64, vaddr: u64) -> Result<(), Self::Error> {
        leak(self.try_map_table(table, vspace, vaddr))
    }

    fn map_page(
        &mut self,
        frame: u64,
        vspace: u64,
        vaddr: u64,
        rights: CapRights,
        executable: bool,
        cached: bool,
    ) -> Result<(), Self::Error> {
        leak(self.try_map_page(frame, vspace, vaddr, rights, executable, cached))
    }

    fn issue_irq_handler(
        &mut self,
        control: u64,
        irq: u64,
        trigger: Trigger,
        slot: u64,
    ) -> Result<(), Self::Error> {
        leak((|| {
            self.control(control, init_cnode::IRQ_CONTROL as u64, 1)?;
            self.empty_own(slot)?;
            let taken = |o: &Kind| matches!(o, Kind::Irq { irq: other, .. } if *other == irq);
            expect!(
                !self.objects.iter().any(taken),
                "interrupt {irq} has a handler"
            );
            self.create(
                slot,
                Kind::Irq {
                    irq,
                    trigger,
                    signals: None,
                },
            );
            Ok(())
        })())
    }

    fn set_irq_notification(&mut self, handler: u64, notification: u64) -> Result<(), Self::Error> {
        leak((|| {
            let cap = self.plain(notification, ObjectType::Notification)?;
            expect!(cap.rights.contains(CapRights::WRITE), "no right to signal");
            let object = self.cap(handler)?.object;
            let Kind::Irq { signals, .. } = &mut self.objects[object] else {
                return Err(format!("slot {handler} is no interrupt handler"));
            };
            *signals = Some(cap);
            Ok(())
        })())
    }

    fn set_timer_notification(&mut self, timer: u64, notification: u64) -> Result<(), Self::Error> {
        leak((|| {
            let cap = self.plain(notification, ObjectType::Notification)?;
            expect!(cap.rights.contains(CapRights::WRITE), "no right to signal");
            let object = self.cap(timer)?.object;
            let Kind::Timer { signals } = &mut self.objects[object] else {
                return Err(format!("slot {timer} is no timer"));
            };
            *signals = Some(cap);
            Ok(())
        })())
    }

    fn configure_tcb(&mut self, tcb: u64, s: ThreadSpaces) -> Result<(), Self::Error> {
        leak((|| {
            let mut cspace = self.cap(s.cspace)?;
            let is_cnode = matches!(self.objects[cspace.object], Kind::CNode { .. });
            expect!(is_cnode, "no CNode in slot {}", s.cspace);
            if s.cspace_data != 0 {
                cspace.badge = s.cspace_data;
            }
            let vspace = self.cap(s.vspace)?;
            let Kind::VSpace {
                pid: Some(_),
                pages,
                ..
            } = &self.objects[vspace.object]
            else {
                return Err(format!("slot {} is no address space with a PID", s.vspace));
            };
            let buffer = self.cap(s.ipc_buffer)?.object;
            let page = pages.get(&(s.ipc_buffer_vaddr & !0xfff));
            let right =
                page.is_some_and(|p| p.object == buffer && p.rights.0 == 3 && !p.executable);
            expect!(right, "the IPC buffer is not mapped where it is said to be");
            self.thread(tcb)?.spaces = Some((cspace, vspace, s.ipc_buffer_vaddr));
            Ok(())
        })())
    }

    fn set_sched_params(
        &mut self,
        tcb: u64,
        mcp: u8,
        priority: u8,
        sc: u64,
        fault: u64,
    ) -> Result<(), Self::Error> {
        leak((|| {
            let sc = self.cap(sc)?.object;
            let configured = matches!(
                self.objects[sc],
                Kind::SchedContext {
                    parameters: Some(_)
                }
            );
            expect!(configured, "no configured scheduling context");
            let fault = match fault {
                0 => None,
                slot => Some(self.plain(slot, ObjectType::Endpoint)?),
            };
            if let Some(fault) = &fault {
                let enough = CapRights::WRITE.union(CapRights::GRANT_REPLY);
                expect!(
                    fault.rights == enough,
                    "rights of a fault endpoint: {:?}",
                    fault.rights
                );
            }
            let thread = self.thread(tcb)?;
            thread.priority = Some((mcp, priority));
            thread.sc = Some(sc);
            thread.fault = fault;
            Ok(())
        })())
    }

    fn bind_notification(&mut self, tcb: u64, notification: u64) -> Result<(), Self::Error> {
        leak((|| {
            let object = self.plain(notification, ObjectType::Notification)?.object;
            let bound = self
                .objects
                .iter()
                .any(|o| matches!(o, Kind::Tcb(t) if t.bound == Some(object)));
            expect!(!bound, "bound twice");
            self.thread(tcb)?.bound = Some(object);
            Ok(())
        })())
    }

    fn set_registers(&mut self, tcb: u64, pc: u64, sp: u64) -> Result<(), Self::Error> {
        leak((|| {
            let thread = self.thread(tcb)?;
            thread.registers = Some((pc, sp));
            let vspace = thread
                .spaces
                .as_ref()
                .ok_or("no address space yet")?
                .1
                .object;
            let Kind::VSpace { pages, .. } = &self.objects[vspace] else {
                return Err("no address space".into());
            };
            let page = |at: u64| pages.get(&(at & !0xfff));
            expect!(page(pc).is_some_and(|p| p.executable), "no code at {pc:#x}");
            expect!(
                page(sp - 1).is_some_and(|p| p.rights.0 == 3),
                "no stack below {sp:#x}"
            );
            expect!(page(sp).is_none(), "no guard above the stack");
            Ok(())
        })())
    }

    fn name_thread(&mut self, tcb: u64, name: &str) {
        self.thread(tcb).unwrap().name = name.into();
    }

    fn resume(&mut self, tcb: u64) -> Result<(), Self::Error> {
        let number = self.started;
        self.started += 1;
        leak((|| {
            let thread = self.thread(tcb)?;
            let complete = thread.spaces.is_some()
                && thread.registers.is_some()
                && thread.priority.is_some()
                && thread.started.is_none();
            expect!(complete, "thread {} cannot start", thread.name);
            thread.started = Some(number);
            Ok(())
        })())
    }

    fn assign_lpid(&mut self, control: u64, gspace: u64) -> Result<(), Self::Error> {
        leak((|| {
            self.control(control, init_cnode::LPID_CONTROL as u64, 1)?;
            let (_, lpid, _) = self.gspace(gspace)?;
            expect!(!*lpid, "slot {gspace} has an LPID");
            *lpid = true;
            Ok(())
        })())
    }

    fn bind_hpt(
        &mut self,
        hpt: u64,
        gspace: u64,
        gfns: u64,
        vrma_bits: u8,
    ) -> Result<(), Self::Error> {
        leak((|| {
            expect!([12, 16, 24].contains(&vrma_bits), "VRMA pages: {vrma_bits}");
            let (table, array) = (self.cap(hpt)?.object, self.cap(gfns)?.object);
            for object in [table, array] {
                expect!(self.holders(object) == 1, "not the last capability");
            }
            let Kind::HptGfns { bits } = self.objects[array] else {
                return Err(format!("slot {gfns} is no array of frame numbers"));
            };
            let (g, lpid, owned) = self.gspace(gspace)?;
            expect!(
                *lpid && owned.is_none(),
                "slot {gspace}: no LPID, or a table"
            );
            *owned = Some(table);
            let Kind::Hpt { order, bound, .. } = &mut self.objects[table] else {
                return Err(format!("slot {hpt} is no table"));
            };
            expect!(
                bits + 2 == *order,
                "{bits} bits for a table of order {order}"
            );
            expect!(bound.is_none(), "slot {hpt} is bound");
            *bound = Some((g, array, vrma_bits));
            Ok(())
        })())
    }

    fn map_hpt_view(&mut self, hpt: u64, vspace: u64, vaddr: u64) -> Result<(), Self::Error> {
        leak((|| {
            let (table, space) = (self.cap(hpt)?.object, self.cap(vspace)?.object);
            let Kind::Hpt {
                order,
                bound: Some(_),
                views,
            } = &mut self.objects[table]
            else {
                return Err(format!("slot {hpt} is no bound table"));
            };
            let order = *order;
            views.push((space, vaddr));
            expect!(order <= 30 && views.len() <= 8, "the kernel shows no more");
            let bits = if order < 21 { 12 } else { 21 };
            for at in (vaddr..vaddr + (1 << order)).step_by(1 << bits) {
                self.page_fits(vspace, at, bits)?;
            }
            Ok(())
        })())
    }

    fn make_view(
        &mut self,
        gspace: u64,
        to: Destination,
        rights: CapRights,
    ) -> Result<(), Self::Error> {
        leak((|| {
            let (g, lpid, _) = self.gspace(gspace)?;
            expect!(*lpid, "slot {gspace} has no LPID");
            expect!(self.holders(g) == 1, "views are made before copies");
            expect!(rights.contains(CapRights::READ), "views are read");
            let view = Cap {
                object: g,
                rights,
                badge: 0,
                mapped: None,
                view: true,
            };
            self.put(to, view)
        })())
    }

    fn bind_vcpu(&mut self, vcpu: u64, id: u64, tcb: u64, gspace: u64) -> Result<(), Self::Error> {
        leak((|| {
            let thread = self.thread(tcb)?;
            let ready = thread.sc.is_some()
                && thread.fault.is_some()
                && thread.spaces.is_none()
                && thread.started.is_none();
            expect!(ready, "thread {} is no thread of a guest", thread.name);
            let tcb = self.cap(tcb)?.object;
            let (g, lpid, _) = self.gspace(gspace)?;
            expect!(*lpid, "slot {gspace} has no LPID");
            let v = self.vcpu(vcpu)?;
            expect!(v.bound.is_none(), "slot {vcpu} is bound");
            (v.id, v.bound) = (id, Some((tcb, g)));
            Ok(())
        })())
    }

    fn set_vcpu_route(&mut self, vcpu: u64, route: u8, endpoint: u64) -> Result<(), Self::Error> {
        leak((|| {
            let cap = self.plain(endpoint, ObjectType::Endpoint)?;
            let enough = CapRights::WRITE.union(CapRights::GRANT_REPLY);
            expect!(cap.rights == enough, "rights of a route: {:?}", cap.rights);
            let v = self.vcpu(vcpu)?;
            expect!(v.bound.is_some() && route < 8, "route {route}");
            expect!(v.routes.insert(route, cap).is_none(), "route {route} again");
            Ok(())
        })())
    }

    fn route_hypercall(&mut self, vcpu: u64, number: u64, route: u8) -> Result<(), Self::Error> {
        leak((|| {
            let known =
                number.is_multiple_of(4) && (number < 0x800 || (0xf000..0xf040).contains(&number));
            expect!(known, "hypercall {number:#x}");
            let v = self.vcpu(vcpu)?;
            expect!(v.routes.contains_key(&route), "no route {route}");
            let old = v.hypercalls.insert(number, route);
            expect!(old.is_none(), "hypercall {number:#x} again");
            Ok(())
        })())
    }

    fn route_exit(&mut self, vcpu: u64, exit: GuestExit, route: u8) -> Result<(), Self::Error> {
        leak((|| {
            let v = self.vcpu(vcpu)?;
            expect!(v.routes.contains_key(&route), "no route {route}");
            let old = v.exits.insert(exit.name(), route);
            expect!(old.is_none(), "exit {} again", exit.name());
            Ok(())
        })())
    }
}

/// The trait wants `Copy` errors; a test that fails may leak its message.
fn leak(answer: Answer) -> Result<(), &'static str> {
    answer.map_err(|message| &*message.leak())
}

impl Model {
    fn gspace(&mut self, slot: u64) -> Answer<(usize, &mut bool, &mut Option<usize>)> {
        let cap = self.cap(slot)?;
        expect!(!cap.view, "slot {slot} is only a view");
        match &mut self.objects[cap.object] {
            Kind::GSpace { lpid, hpt } => Ok((cap.object, lpid, hpt)),
            other => Err(format!("slot {slot} is no GSpace but {other:?}")),
        }
    }

    fn vcpu(&mut self, slot: u64) -> Answer<&mut Processor> {
        let object = self.cap(slot)?.object;
        match &mut self.objects[object] {
            Kind::VCpu(v) => Ok(v),
            other => Err(format!("slot {slot} is no VCPU but {other:?}")),
        }
    }

    fn put(&mut self, to: Destination, cap: Cap) -> Answer {
        let node = self.cap(to.cnode)?.object;
        let Kind::CNode { radix, slots } = &mut self.objects[node] else {
            return Err(format!("slot {} is no CNode", to.cnode));
        };
        expect!(
            node == ROOT || to.depth == *radix,
            "depth {} of {radix} bits",
            to.depth
        );
        expect!(to.index < 1 << *radix, "slot {} does not exist", to.index);
        expect!(
            slots.insert(to.index, cap).is_none(),
            "slot {} is not empty",
            to.index
        );
        Ok(())
    }

    /// Whether a page of `1 << bits` bytes can be mapped: its tables are there and nothing else.
    fn page_fits(&self, vspace: u64, vaddr: u64, bits: u32) -> Answer {
        let Kind::VSpace { tables, pages, .. } = &self.objects[self.cap(vspace)?.object] else {
            return Err(format!("slot {vspace} is no address space"));
        };
        let lowest = if bits == 21 { 30 } else { 21 };
        for level in [39, 30, 21].into_iter().filter(|&l| l >= lowest) {
            let there = tables.contains(&(level, vaddr >> level));
            expect!(there, "no table of level {level} for {vaddr:#x}");
        }
        let end = vaddr + (1 << bits);
        let clear = pages
            .iter()
            .all(|(v, p)| end <= *v || v + (1 << p.bits) <= vaddr);
        expect!(clear, "{vaddr:#x} is taken");
        Ok(())
    }

    fn try_retype(
        &mut self,
        untyped: u64,
        ty: ObjectType,
        size_bits: u8,
        first: u64,
        count: u32,
    ) -> Answer {
        expect!(
            count as usize <= limits::RETYPE_FAN_OUT,
            "too many objects at a time"
        );
        let object = self.cap(untyped)?.object;
        for i in 0..u64::from(count) {
            self.empty_own(first + i)?;
            let Kind::Untyped {
                next, end, device, ..
            } = &mut self.objects[object]
            else {
                return Err(format!("slot {untyped} is not untyped memory"));
            };
            let bits = match ty {
                ObjectType::CNode => u32::from(size_bits) + ty.bits(),
                ObjectType::Untyped | ObjectType::Hpt | ObjectType::HptGfns => size_bits.into(),
                _ => ty.bits(),
            };
            let at = next.next_multiple_of(1 << bits);
            expect!(
                at + (1 << bits) <= *end,
                "untyped memory in slot {untyped} is used up"
            );
            *next = at + (1 << bits);
            let device = *device;
            let kind = match ty {
                ObjectType::Untyped => Kind::Untyped {
                    start: at,
                    end: at + (1 << bits),
                    next: at,
                    device,
                },
                ObjectType::Frame4K | ObjectType::Frame64K | ObjectType::Frame2M => Kind::Frame {
                    bits,
                    at,
                    device,
                    image: false,
                },
                _ if device => return Err("device memory is only for frames".into()),
                ObjectType::CNode => Kind::CNode {
                    radix: size_bits,
                    slots: BTreeMap::new(),
                },
                ObjectType::VSpace => Kind::VSpace {
                    pid: None,
                    tables: Vec::new(),
                    pages: BTreeMap::new(),
                },
                ObjectType::SchedContext => Kind::SchedContext { parameters: None },
                ObjectType::Tcb => Kind::Tcb(Box::default()),
                ObjectType::Timer => Kind::Timer { signals: None },
                ObjectType::GSpace => Kind::GSpace {
                    lpid: false,
                    hpt: None,
                },
                ObjectType::Hpt => Kind::Hpt {
                    order: size_bits,
                    bound: None,
                    views: Vec::new(),
                },
                ObjectType::HptGfns => Kind::HptGfns { bits: size_bits },
                ObjectType::VCpu => Kind::VCpu(Box::default()),
                other => Kind::Plain(other),
            };
            self.create(first + i, kind);
        }
        Ok(())
    }

    fn try_copy(
        &mut self,
        to: Destination,
        from: u64,
        rights: CapRights,
        badge: Option<u64>,
    ) -> Answer {
        let mut cap = self.cap(from)?;
        cap.rights = cap.rights.intersection(rights);
        cap.mapped = None;
        if let Some(badge) = badge {
            let badged = matches!(
                self.objects[cap.object],
                Kind::Plain(ObjectType::Endpoint | ObjectType::Notification) | Kind::CNode { .. }
            );
            expect!(badged && cap.badge == 0, "slot {from} cannot get a badge");
            cap.badge = badge;
        }
        self.put(to, cap)
    }

    fn try_map_table(&mut self, table: u64, vspace: u64, vaddr: u64) -> Answer {
        let cap = self.plain(table, ObjectType::PageTable)?;
        expect!(cap.mapped.is_none(), "slot {table} is mapped");
        let object = self.cap(vspace)?.object;
        let Kind::VSpace {
            pid: Some(_),
            tables,
            ..
        } = &mut self.objects[object]
        else {
            return Err(format!("slot {vspace} is no address space with a PID"));
        };
        let level = (1..=3)
            .map(|i| TOP_LEVEL - 9 * (i - 1))
            .find(|&level| !tables.contains(&(level, vaddr >> level)))
            .ok_or(format!("all tables for {vaddr:#x} are there"))?;
        tables.push((level, vaddr >> level));
        self.own().get_mut(&table).unwrap().mapped = None;
        Ok(())
    }

    fn try_map_page(
        &mut self,
        frame: u64,
        vspace: u64,
        vaddr: u64,
        rights: CapRights,
        executable: bool,
        cached: bool,
    ) -> Answer {
        let cap = self.cap(frame)?;
        let Kind::Frame { bits, device, .. } = self.objects[cap.object] else {
            return Err(format!("slot {frame} is no frame"));
        };
        expect!(cap.mapped.is_none(), "slot {frame} is mapped");
        expect!(vaddr.is_multiple_of(1 << bits), "{vaddr:#x} is not aligned");
        expect!(!(device && cached), "device memory is not cached");
        expect!(cap.rights.contains(rights), "slot {frame} has fewer rights");
        self.page_fits(vspace, vaddr, bits)?;
        let object = self.cap(vspace)?.object;
        let Kind::VSpace { pages, .. } = &mut self.objects[object] else {
            return Err(format!("slot {vspace} is no address space"));
        };
        let page = Page {
            object: cap.object,
            bits,
            rights,
            executable,
            cached,
        };
        pages.insert(vaddr, page);
        self.own().get_mut(&frame).unwrap().mapped = Some((object, vaddr));
        Ok(())
    }
}
