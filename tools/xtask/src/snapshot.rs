// SPDX-License-Identifier: BSD-2-Clause
//! Compares what the kernel says of its capabilities (`DebugSnapshot`, in the debug configuration)
//! with the capability distribution that the image tool wrote: what is reviewed is what is there, and the
//! initialiser has nothing left but what would be undone or destroyed with its last capability.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The thread that built the system.
const INITIALISER: &str = "initialiser";
/// Bytes of a thread's name that the kernel keeps.
const NAME_BYTES: usize = 24;
/// Slots of a TCB in the distribution.
mod tcb {
    pub const CSPACE: u64 = 0;
    pub const VSPACE: u64 = 1;
    pub const BUFFER: u64 = 4;
    pub const FAULT: u64 = 5;
    pub const SC: u64 = 6;
    pub const BOUND: u64 = 8;
    pub const VCPU: u64 = 9;
}
/// log2 of the bytes that an entry of the root of an address space covers.
const ROOT_ENTRY_BITS: u64 = 39;
/// log2 of the bytes of the two sizes of entries that map memory.
const SMALL: u64 = 12;
const LARGE: u64 = 21;
/// Slot of a VCPU's first route.
const FIRST_ROUTE: u64 = 2;

/// A capability as the kernel prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Live {
    kind: String,
    fields: BTreeMap<String, String>,
}

impl Live {
    fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Self {
        let kind = words.next().unwrap_or_default().into();
        let field = |word: &str| word.split_once('=').map(|(k, v)| (k.into(), v.into()));
        let fields = words.filter_map(field).collect();
        Live { kind, fields }
    }

    fn number(&self, key: &str) -> Option<u64> {
        hex(self.fields.get(key)?)
    }

    fn at(&self) -> u64 {
        self.number("at").unwrap_or(0)
    }

    fn rights(&self) -> &str {
        self.fields.get("rights").map_or("", String::as_str)
    }
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[derive(Debug, Default)]
struct Thread {
    at: u64,
    about: Live,
    slots: BTreeMap<String, Live>,
}

/// Everything between `begin` and `end`.
#[derive(Debug, Default)]
struct Snapshot {
    threads: BTreeMap<String, Thread>,
    cnodes: BTreeMap<u64, BTreeMap<u64, Live>>,
    routes: BTreeMap<u64, BTreeMap<u64, Live>>,
    /// By root and virtual address.
    pages: BTreeMap<u64, BTreeMap<u64, Live>>,
}

impl Snapshot {
    /// Reads the last complete one in a console's text.
    fn parse(text: &str) -> Option<Self> {
        let start = text.rfind("SNAPSHOT|begin")?;
        let rest = &text[start..];
        let rest = &rest[..rest.find("SNAPSHOT|end")?];
        let mut snapshot = Snapshot::default();
        let mut names = BTreeMap::new();
        for line in rest.lines().skip(1) {
            let mut words = line.trim().strip_prefix("SNAPSHOT|")?.split(' ');
            let (what, at) = (words.next()?, hex(words.next()?)?);
            match what {
                "thread" => {
                    let name = words.next()?.to_string();
                    names.insert(at, name.clone());
                    let thread = Thread {
                        at,
                        about: Live::parse(std::iter::once("thread").chain(words)),
                        slots: BTreeMap::new(),
                    };
                    snapshot.threads.insert(name, thread);
                }
                "slot" => {
                    let slot = words.next()?.to_string();
                    let thread = snapshot.threads.get_mut(names.get(&at)?)?;
                    thread.slots.insert(slot, Live::parse(words));
                }
                "cnode" | "route" | "page" => {
                    let index = hex(words.next()?)?;
                    let map = match what {
                        "cnode" => &mut snapshot.cnodes,
                        "page" => &mut snapshot.pages,
                        _ => &mut snapshot.routes,
                    };
                    map.entry(at).or_default().insert(index, Live::parse(words));
                }
                _ => return None,
            }
        }
        Some(snapshot)
    }
}

/// A capability of the distribution.
#[derive(Clone, Debug)]
struct Cap<'a> {
    kind: &'a str,
    object: usize,
    body: &'a Value,
}

/// The only member of a JSON object, or a string.
fn variant(value: &Value) -> (&str, &Value) {
    match value {
        Value::Object(map) => map.iter().next().map_or(("", value), |(k, v)| (k, v)),
        other => (other.as_str().unwrap_or_default(), other),
    }
}

impl<'a> Cap<'a> {
    fn new(value: &'a Value) -> Self {
        let (kind, body) = variant(value);
        let object = body["object"].as_u64().unwrap_or(u64::MAX) as usize;
        Cap { kind, object, body }
    }

    fn rights(&self) -> String {
        [
            ("read", 'R'),
            ("write", 'W'),
            ("grant", 'G'),
            ("grant_reply", 'P'),
        ]
        .iter()
        .filter(|(name, _)| self.body["rights"][name] == true)
        .map(|(_, letter)| letter)
        .collect()
    }

    /// What the kernel calls it.
    fn live_kind(&self) -> &'static str {
        match self.kind {
            "Endpoint" => "endpoint",
            "Notification" => "notification",
            "Reply" => "reply",
            "CNode" => "cnode",
            "Tcb" => "tcb",
            "SchedContext" => "sched_context",
            "Frame" => "frame",
            // Only the root of an address space is ever in a CNode or a TCB.
            "PageTable" => "vspace",
            "IrqHandler" => "irq_handler",
            "Untyped" => "untyped",
            "Timer" => "timer",
            "PlatformControl" => "platform_control",
            "GSpace" => "gspace",
            "GSpaceView" => "view",
            "Hpt" => "hpt",
            "HptGfns" => "hpt_gfns",
            "VCpu" => "vcpu",
            _ => "?",
        }
    }
}

struct Comparison<'a> {
    objects: &'a [Value],
    live: Snapshot,
    /// Address of each object that was met, and back.
    addresses: BTreeMap<usize, (&'static str, u64)>,
    names: BTreeMap<(&'static str, u64), usize>,
    /// CNodes whose contents were compared.
    done: BTreeSet<usize>,
    compared: usize,
    wrong: Vec<String>,
}

/// Compares the snapshot in a console's text with the distribution in `json`. Answers the number of
/// capabilities that are as they should be.
///
/// # Errors
/// What differs; at most some of it.
pub fn compare(console: &str, json: &str) -> Result<usize, String> {
    let spec: Value = serde_json::from_str(json).map_err(|e| e.to_string())?;
    let objects = spec["objects"].as_array().ok_or("no objects")?;
    let live = Snapshot::parse(console).ok_or("no complete snapshot in the output")?;
    let mut c = Comparison {
        objects,
        live,
        addresses: BTreeMap::new(),
        names: BTreeMap::new(),
        done: BTreeSet::new(),
        compared: 0,
        wrong: Vec::new(),
    };
    c.threads();
    c.initialiser();
    c.mappings();
    match c.wrong.len() {
        0 => Ok(c.compared),
        n => {
            c.wrong.truncate(10);
            Err(format!("{n} differences: {}", c.wrong.join("; ")))
        }
    }
}

impl<'a> Comparison<'a> {
    fn name(&self, object: usize) -> &'a str {
        self.objects
            .get(object)
            .and_then(|o| o["name"].as_str())
            .unwrap_or("?")
    }

    fn body(&self, object: usize) -> (&'a str, &'a Value) {
        self.objects
            .get(object)
            .map_or(("?", &Value::Null), |o| variant(&o["object"]))
    }

    fn slots(&self, object: usize) -> Vec<(u64, Cap<'a>)> {
        let slots = self.body(object).1["slots"].as_array();
        let slots = slots.into_iter().flatten();
        slots
            .filter_map(|slot| Some((slot[0].as_u64()?, Cap::new(&slot[1]))))
            .collect()
    }

    fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// The object is always at the same address, and nothing else of its kind is there.
    fn identify(&mut self, place: &str, object: usize, kind: &'static str, at: u64) {
        // A view is a view of a GSpace.
        let kind = if kind == "view" { "gspace" } else { kind };
        let before = *self.addresses.entry(object).or_insert((kind, at));
        let other = *self.names.entry((kind, at)).or_insert(object);
        if before != (kind, at) || other != object {
            let (name, other) = (self.name(object), self.name(other));
            let (_, old) = before;
            self.wrong(format!(
                "{place}: {name} is at {old:#x}, and at {at:#x} is {other}"
            ));
        }
    }

    fn compare(&mut self, place: &str, cap: &Cap<'a>, live: &Live) {
        let kind = cap.live_kind();
        if live.kind != kind {
            let name = self.name(cap.object);
            return self.wrong(format!("{place}: {} instead of {kind} {name}", live.kind));
        }
        self.identify(place, cap.object, kind, live.at());
        let number = |key: &str| cap.body[key].as_u64();
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        match kind {
            "endpoint" | "notification" => {
                expected.push((cap.rights(), number("badge")));
                found.push((live.rights().to_string(), live.number("badge")));
            }
            "view" | "frame" | "vcpu" => {
                expected.push((cap.rights(), None));
                found.push((live.rights().to_string(), None));
            }
            "cnode" => {
                for (spec, key) in [("guard", "guard"), ("guard_size", "guard_bits")] {
                    expected.push((key.into(), number(spec)));
                    found.push((key.into(), live.number(key)));
                }
            }
            _ => (),
        }
        let (of, body) = self.body(cap.object);
        if matches!(of, "CNode" | "Untyped" | "Frame" | "Hpt" | "HptGfns") {
            expected.push(("bits".into(), body["size_bits"].as_u64()));
            found.push(("bits".into(), live.number("bits")));
        }
        if expected != found {
            let name = self.name(cap.object);
            return self.wrong(format!(
                "{place}: {name}: {found:?} instead of {expected:?}"
            ));
        }
        self.compared += 1;
        if kind == "cnode" && self.done.insert(cap.object) {
            self.cnode(cap.object, live.at());
        }
    }

    /// Every slot holds what it should, and no other slot holds anything.
    fn cnode(&mut self, object: usize, at: u64) {
        let name = self.name(object);
        let mut live = self.live.cnodes.get(&at).cloned().unwrap_or_default();
        for (slot, cap) in self.slots(object) {
            let place = format!("{name} slot {slot}");
            match live.remove(&slot) {
                Some(found) => self.compare(&place, &cap, &found),
                None => self.wrong(format!("{place}: empty")),
            }
        }
        for (slot, extra) in live {
            self.wrong(format!(
                "{name} slot {slot}: {extra:?} that nobody knows of"
            ));
        }
    }

    fn threads(&mut self) {
        let mut known = BTreeSet::from([INITIALISER.to_string()]);
        for object in 0..self.objects.len() {
            let (kind, body) = self.body(object);
            if kind != "Tcb" {
                continue;
            }
            let name = self.name(object);
            let name = name.strip_prefix("tcb_").unwrap_or(name);
            let name = &name[..name.len().min(NAME_BYTES)];
            known.insert(name.into());
            match self.live.threads.remove(name) {
                Some(thread) => self.thread(name, object, body, thread),
                None => self.wrong(format!("no thread {name}")),
            }
        }
        let unknown = self.live.threads.keys().filter(|n| !known.contains(*n));
        let unknown: Vec<_> = unknown.cloned().collect();
        if !unknown.is_empty() {
            self.wrong(format!("threads that nobody knows of: {unknown:?}"));
        }
    }

    fn thread(&mut self, name: &str, object: usize, body: &Value, mut thread: Thread) {
        self.identify(name, object, "tcb", thread.at);
        for (spec, key) in [
            ("prio", "priority"),
            ("max_prio", "mcp"),
            ("affinity", "core"),
        ] {
            let (expected, found) = (body["extra"][spec].as_u64(), thread.about.number(key));
            if expected != found {
                self.wrong(format!("{name}: {key} {found:?} instead of {expected:?}"));
            }
        }
        let slots = self.slots(object);
        for (slot, cap) in &slots {
            let place = format!("{name} slot {slot}");
            // What a TCB refers to without a capability of its own.
            let field = |key: &str| Some(thread.about.number(key).unwrap_or(0));
            let (slot_name, reference) = match *slot {
                tcb::CSPACE => ("cspace", None),
                tcb::VSPACE => ("vspace", None),
                tcb::BUFFER => ("buffer", None),
                tcb::FAULT => ("fault", None),
                tcb::SC => ("sc", field("sc")),
                tcb::BOUND => ("bound", field("bound")),
                tcb::VCPU => ("vcpu", field("vcpu")),
                _ => ("?", None),
            };
            match (reference, thread.slots.remove(slot_name)) {
                (Some(at), _) if at != 0 => self.identify(&place, cap.object, cap.live_kind(), at),
                (None, Some(live)) => self.compare(&place, cap, &live),
                _ => self.wrong(format!("{place} ({slot_name}): empty")),
            }
            if *slot == tcb::VCPU {
                self.routes(cap.object, thread.about.number("vcpu").unwrap_or(0));
            }
        }
        for (slot, extra) in &thread.slots {
            self.wrong(format!("{name} {slot}: {extra:?} that nobody knows of"));
        }
        for (key, slot) in [("bound", tcb::BOUND), ("vcpu", tcb::VCPU)] {
            let expected = slots.iter().any(|(s, _)| *s == slot);
            if !expected && thread.about.number(key) != Some(0) {
                self.wrong(format!("{name}: {key} that nobody knows of"));
            }
        }
    }

    fn routes(&mut self, object: usize, at: u64) {
        let name = self.name(object);
        let mut live = self.live.routes.get(&at).cloned().unwrap_or_default();
        for (slot, cap) in self.slots(object) {
            let Some(route) = slot.checked_sub(FIRST_ROUTE) else {
                continue;
            };
            match live.remove(&route) {
                Some(found) => self.compare(&format!("{name} route {route}"), &cap, &found),
                None => self.wrong(format!("{name} route {route}: empty")),
            }
        }
        for (route, extra) in live {
            self.wrong(format!(
                "{name} route {route}: {extra:?} that nobody knows of"
            ));
        }
    }

    /// It is stopped, nobody can start it, and it has nothing of use left: mappings, which would end
    /// with their capabilities, and objects that nobody else holds.
    fn initialiser(&mut self) {
        let Some(thread) = self.live.threads.remove(INITIALISER) else {
            return self.wrong("no thread of the initialiser".into());
        };
        if thread.about.number("state") != Some(0) {
            self.wrong("the initialiser is not stopped".into());
        }
        if self.names.contains_key(&("tcb", thread.at)) {
            self.wrong("somebody holds the initialiser's thread".into());
        }
        let held: BTreeSet<usize> = (0..self.objects.len())
            .filter(|&object| self.body(object).0 == "CNode")
            .flat_map(|object| self.slots(object))
            .map(|(_, cap)| cap.object)
            .collect();
        let cspace = thread.slots.get("cspace").map_or(0, Live::at);
        let left = self.live.cnodes.get(&cspace).cloned().unwrap_or_default();
        let mut met = BTreeMap::new();
        for (slot, cap) in left {
            let at = cap.at();
            let known = |kind| self.names.get(&(kind, at));
            let nobodys = |kind| known(kind).is_some_and(|object| !held.contains(object));
            // Some are never met: each such capability is for one that nobody holds.
            let mut unmet = |kind: &'static str, of: &str| match known(kind) {
                Some(object) => !held.contains(object),
                None => {
                    let all = (0..self.objects.len()).filter(|&o| self.body(o).0 == of);
                    let left = met.entry(kind).or_insert_with(|| {
                        all.filter(|o| !held.contains(o) && !self.addresses.contains_key(o))
                            .count()
                    });
                    left.checked_sub(1).map(|n| *left = n).is_some()
                }
            };
            let fine = match cap.kind.as_str() {
                "frame" | "page_table" => cap.number("pid").is_some(),
                "asid_pool" => true,
                "tcb" => at == thread.at || nobodys("tcb"),
                "sched_context" => {
                    Some(at) == thread.about.number("sc") || nobodys("sched_context")
                }
                "notification" => nobodys("notification"),
                "gspace" => unmet("gspace", "GSpace"),
                "hpt" => unmet("hpt", "Hpt"),
                "hpt_gfns" => unmet("hpt_gfns", "HptGfns"),
                _ => false,
            };
            if !fine {
                self.wrong(format!("the initialiser still has {cap:?} in slot {slot}"));
            }
        }
    }

    /// Every frame is mapped where it should be with the rights that it should have, and nothing else
    /// is mapped.
    fn mappings(&mut self) {
        for vspace in 0..self.objects.len() {
            let (kind, body) = self.body(vspace);
            if kind != "PageTable" || body["is_root"] != true {
                continue;
            }
            let place = self.name(vspace);
            let Some(&(_, at)) = self.addresses.get(&vspace) else {
                self.wrong(format!("{place}: no thread has it"));
                continue;
            };
            let mut live = self.live.pages.remove(&at).unwrap_or_default();
            self.table(place, vspace, 0, &mut live);
            self.views(place, vspace, &mut live);
            for (vaddr, page) in live {
                self.wrong(format!("{place} {vaddr:#x}: {page:?} that nobody knows of"));
            }
        }
    }

    fn table(&mut self, place: &str, table: usize, base: u64, live: &mut BTreeMap<u64, Live>) {
        let level = self.body(table).1["level"].as_u64().unwrap_or(0);
        for (index, cap) in self.slots(table) {
            let vaddr = base + (index << (ROOT_ENTRY_BITS - 9 * level));
            match cap.kind {
                "PageTable" => self.table(place, cap.object, vaddr, live),
                _ => self.frame(&format!("{place} {vaddr:#x}"), vaddr, &cap, live),
            }
        }
    }

    fn frame(&mut self, place: &str, vaddr: u64, cap: &Cap<'a>, live: &mut BTreeMap<u64, Live>) {
        let frame = self.body(cap.object).1;
        let Some(at) = live.get(&vaddr).map(Live::at) else {
            return self.wrong(format!("{place}: not mapped"));
        };
        self.identify(place, cap.object, "frame", at);
        if frame["paddr"].as_u64().is_some_and(|paddr| paddr != at) {
            self.wrong(format!("{place}: at {at:#x}, not {}", frame["paddr"]));
        }
        let execute = if cap.body["executable"] == true {
            "X"
        } else {
            ""
        };
        let window = Window {
            vaddr,
            at,
            bits: frame["size_bits"].as_u64().unwrap_or(0),
            rights: cap.rights() + execute,
            device: u64::from(cap.body["cached"] == false),
        };
        self.window(place, &window, live);
        self.compared += 1;
    }

    /// Where real hash page tables are shown in this address space.
    fn views(&mut self, place: &str, vspace: usize, live: &mut BTreeMap<u64, Live>) {
        for object in 0..self.objects.len() {
            let (kind, body) = self.body(object);
            let views = body["views"].as_array().filter(|_| kind == "Hpt");
            for view in views.into_iter().flatten() {
                if view["object"].as_u64() != Some(vspace as u64) {
                    continue;
                }
                let Some(&(_, at)) = self.addresses.get(&object) else {
                    self.wrong(format!("{place}: shows a table that nobody has"));
                    continue;
                };
                let window = Window {
                    vaddr: view["vaddr"].as_u64().unwrap_or(0),
                    at,
                    bits: body["size_bits"].as_u64().unwrap_or(0),
                    rights: "R".into(),
                    device: 0,
                };
                self.window(place, &window, live);
                self.compared += 1;
            }
        }
    }

    /// The entries of a window are there: of 2 MiB if it has so much, else of 4 KiB.
    fn window(&mut self, place: &str, window: &Window, live: &mut BTreeMap<u64, Live>) {
        let entry = if window.bits >= LARGE { LARGE } else { SMALL };
        for offset in (0..1u64 << window.bits).step_by(1 << entry) {
            let expected = [
                ("at", window.at + offset),
                ("bits", entry),
                ("device", window.device),
            ];
            let fine = live.remove(&(window.vaddr + offset)).is_some_and(|page| {
                let number = |&(key, n): &(&str, u64)| page.number(key) == Some(n);
                page.rights() == window.rights && expected.iter().all(number)
            });
            if !fine {
                self.wrong(format!("{place} + {offset:#x}: not as in {window:?}"));
            }
        }
    }
}

/// Memory that is mapped in one piece.
#[derive(Debug)]
struct Window {
    vaddr: u64,
    at: u64,
    /// log2 of the bytes.
    bits: u64,
    rights: String,
    /// 1: cache-inhibited.
    device: u64,
}

#[cfg(test)]
mod tests {
    use super::compare;

    const CONSOLE: &str = "\
boot
SNAPSHOT|begin
SNAPSHOT|thread 0x100 initialiser state=0x0 priority=0xff mcp=0xff core=0x0 pid=0x1 sc=0x900 bound=0x0 vcpu=0x0
SNAPSHOT|slot 0x100 cspace cnode at=0x1000 bits=0x2 guard=0x0 guard_bits=0x3e
SNAPSHOT|cnode 0x1000 0x0 tcb at=0x100
SNAPSHOT|cnode 0x1000 0x1 frame at=0x5000 bits=0xc pid=0x2 vaddr=0x200000 rights=RW
SNAPSHOT|thread 0x200 pd state=0x3 priority=0x5 mcp=0x5 core=0x0 pid=0x2 sc=0xa00 bound=0x0 vcpu=0x0
SNAPSHOT|slot 0x200 cspace cnode at=0x2000 bits=0x2 guard=0x0 guard_bits=0x3e
SNAPSHOT|slot 0x200 vspace vspace at=0x3000
SNAPSHOT|slot 0x200 buffer frame at=0x5000 bits=0xc pid=0x2 vaddr=0x200000 rights=RW
SNAPSHOT|slot 0x200 fault endpoint at=0x4000 rights=WP badge=0x1
SNAPSHOT|cnode 0x2000 0x1 endpoint at=0x4000 rights=R badge=0x0
SNAPSHOT|page 0x3000 0x200000 frame at=0x5000 bits=0xc rights=RW device=0x0
SNAPSHOT|end
";
    const JSON: &str = r#"{ "objects": [
        { "name": "ep_pd", "object": "Endpoint" },
        { "name": "cnode_pd", "object": { "CNode": { "size_bits": 2, "slots": [
            [1, { "Endpoint": { "object": 0, "badge": 0, "rights": { "read": true } } }] ] } } },
        { "name": "vspace_pd", "object": { "PageTable": { "is_root": true, "level": 0, "slots": [
            [0, { "PageTable": { "object": 3 } }] ] } } },
        { "name": "pt_pd_3", "object": { "PageTable": { "is_root": false, "level": 1, "slots": [
            [0, { "PageTable": { "object": 4 } }] ] } } },
        { "name": "pt_pd_2", "object": { "PageTable": { "is_root": false, "level": 2, "slots": [
            [1, { "PageTable": { "object": 5 } }] ] } } },
        { "name": "pt_pd_1", "object": { "PageTable": { "is_root": false, "level": 3, "slots": [
            [0, { "Frame": { "object": 6, "rights": { "read": true, "write": true },
                             "cached": true, "executable": false } }] ] } } },
        { "name": "ipcbuf_pd", "object": { "Frame": { "size_bits": 12, "paddr": null } } },
        { "name": "sc_pd", "object": { "SchedContext": { "size_bits": 8 } } },
        { "name": "tcb_pd", "object": { "Tcb": {
            "extra": { "prio": 5, "max_prio": 5, "affinity": 0 },
            "slots": [
                [0, { "CNode": { "object": 1, "guard": 0, "guard_size": 62 } }],
                [1, { "PageTable": { "object": 2 } }],
                [4, { "Frame": { "object": 6, "rights": { "read": true, "write": true },
                                 "cached": true, "executable": false } }],
                [5, { "Endpoint": { "object": 0, "badge": 1,
                                    "rights": { "write": true, "grant_reply": true } } }],
                [6, { "SchedContext": { "object": 7 } }]
            ] } } }
    ] }"#;

    #[test]
    fn what_is_there_is_what_was_meant() {
        assert_eq!(compare(CONSOLE, JSON), Ok(6));
        assert!(compare("SNAPSHOT|begin\n", JSON).is_err(), "half of one");
    }

    /// Each change of the snapshot is found, and named.
    #[test]
    fn every_difference_is_found() {
        for (from, to, message) in [
            (
                "rights=R badge=0x0",
                "rights=RW badge=0x0",
                "cnode_pd slot 1: ep_pd",
            ),
            (
                "rights=R badge=0x0",
                "rights=R badge=0x1",
                "cnode_pd slot 1: ep_pd",
            ),
            (
                "0x2000 0x1 endpoint at=0x4000",
                "0x2000 0x1 endpoint at=0x4040",
                "ep_pd is at",
            ),
            (
                "0x2000 0x1 endpoint",
                "0x2000 0x2 endpoint",
                "cnode_pd slot 1: empty",
            ),
            (
                "0x2000 0x1 endpoint",
                "0x2000 0x1 tcb",
                "tcb instead of endpoint",
            ),
            (
                "guard=0x0 guard_bits=0x3e\nSNAPSHOT|slot 0x200 v",
                "guard=0x0 guard_bits=0x3d\nSNAPSHOT|slot 0x200 v",
                "guard_bits",
            ),
            (
                "SNAPSHOT|page",
                "SNAPSHOT|cnode 0x2000 0x3 tcb at=0x100\nSNAPSHOT|page",
                "cnode_pd slot 3",
            ),
            (
                "SNAPSHOT|page",
                "SNAPSHOT|page 0x3000 0x300000 frame at=0x7000\nSNAPSHOT|page",
                "vspace_pd 0x300000",
            ),
            (
                "frame at=0x5000 bits=0xc rights=RW d",
                "frame at=0x5000 bits=0xc rights=RWX d",
                "vspace_pd 0x200000",
            ),
            ("device=0x0", "device=0x1", "vspace_pd 0x200000"),
            (
                "SNAPSHOT|page 0x3000 0x200000",
                "SNAPSHOT|page 0x3000 0x201000",
                "not mapped",
            ),
            (
                "fault endpoint at=0x4000 rights=WP badge=0x1\n",
                "fault endpoint at=0x4000 rights=WP badge=0x2\n",
                "pd slot 5",
            ),
            ("priority=0x5", "priority=0x6", "pd: priority"),
            (
                "pd state=0x3 priority=0x5 mcp=0x5 core=0x0 pid=0x2 sc=0xa00",
                "pd state=0x3 priority=0x5 mcp=0x5 core=0x0 pid=0x2 sc=0x0",
                "(sc): empty",
            ),
            ("sc=0xa00 bound=0x0", "sc=0xa00 bound=0x4000", "pd: bound"),
            (
                "initialiser state=0x0",
                "initialiser state=0x1",
                "not stopped",
            ),
            (
                "0x1000 0x1 frame at=0x5000 bits=0xc pid=0x2 vaddr=0x200000",
                "0x1000 0x1 frame at=0x5000 bits=0xc",
                "still has",
            ),
            (
                "0x1000 0x1 frame",
                "0x1000 0x2 untyped at=0x0 bits=0x10\nSNAPSHOT|cnode 0x1000 0x1 frame",
                "still has",
            ),
            (
                "0x1000 0x1 frame",
                "0x1000 0x2 endpoint at=0x4000\nSNAPSHOT|cnode 0x1000 0x1 frame",
                "still has",
            ),
            (
                "0x1000 0x1 frame",
                "0x1000 0x2 tcb at=0x300\nSNAPSHOT|cnode 0x1000 0x1 frame",
                "still has",
            ),
            (
                "SNAPSHOT|end",
                "SNAPSHOT|thread 0x300 ghost state=0x0\nSNAPSHOT|end",
                "ghost",
            ),
            (" pd state", " dp state", "no thread pd"),
        ] {
            assert_eq!(CONSOLE.matches(from).count(), 1, "{from}");
            let found = compare(&CONSOLE.replace(from, to), JSON);
            let found = found.expect_err(to);
            assert!(found.contains(message), "{to}: {found}");
        }
    }
}
