// SPDX-License-Identifier: BSD-2-Clause
//! Who can do what: rules that hold for every capability of every system, and what they mean for
//! instances and for guests beside each other. Everything is read from the capDL text.

#[path = "common/cdl.rs"]
mod cdl;
mod common;

use common::Fixtures;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const PPC: u64 = 1 << 63;
const FAULT: u64 = 1 << 62;

fn fixtures(name: &str) -> Fixtures {
    let fixtures = Fixtures::new(&format!("distribution-{name}"));
    fixtures.put("short.bin", b"a short file");
    fixtures.put("large.bin", &[7; 0x30_0001]);
    fixtures
}

/// The objects of a system, by name.
struct System(Value);

impl System {
    fn new(fixtures: &Fixtures, path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        Self::of(fixtures, &path.display().to_string(), &text)
    }

    fn of(fixtures: &Fixtures, name: &str, text: &str) -> Self {
        let output = fixtures.build(name, text);
        let output = output.unwrap_or_else(|e| panic!("{name}: {e}"));
        System(cdl::parse(&output.capdl).json()["objects"].clone())
    }

    fn named(fixtures: &Fixtures, name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systems");
        Self::new(fixtures, &folder.join(format!("{name}.system")))
    }

    /// Type and contents of every object.
    fn objects(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        self.0.as_object().unwrap().iter().map(|(name, object)| {
            let (kind, body) = kind(object);
            (name.as_str(), kind, body)
        })
    }

    fn kind(&self, name: &str) -> &str {
        kind(&self.0[name]).0
    }

    /// The capabilities in an object.
    fn slots(&self, name: &str) -> Vec<(u64, Cap)> {
        let (_, body) = kind(&self.0[name]);
        let Some(slots) = body["slots"].as_array() else {
            return Vec::new();
        };
        slots
            .iter()
            .map(|slot| (slot[0].as_u64().unwrap(), Cap::new(&slot[1])))
            .collect()
    }

    fn slot(&self, name: &str, wanted: u64) -> Option<Cap> {
        let slots = self.slots(name);
        slots.into_iter().find(|s| s.0 == wanted).map(|s| s.1)
    }

    /// What a thread can name or touch itself: its CSpace and its address space.
    fn reach(&self, thread: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut left: Vec<_> = self.slots(thread).into_iter().collect();
        while let Some((_, cap)) = left.pop() {
            if found.insert(cap.object.clone())
                && matches!(self.kind(&cap.object), "CNode" | "PageTable")
            {
                left.extend(self.slots(&cap.object));
            }
        }
        found
    }
}

fn kind(value: &Value) -> (&str, &Value) {
    match value {
        Value::Object(map) => map.iter().next().map(|(k, v)| (k.as_str(), v)).unwrap(),
        other => (other.as_str().unwrap(), other),
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Cap {
    kind: String,
    object: String,
    rights: String,
    badge: u64,
}

impl Cap {
    fn new(value: &Value) -> Self {
        let (kind, body) = kind(value);
        let letter = |right: &str, letter| match body["rights"][right].as_bool() {
            Some(true) => letter,
            _ => "",
        };
        Cap {
            kind: kind.into(),
            object: body["object"].as_str().unwrap().into(),
            rights: [
                ("read", "r"),
                ("write", "w"),
                ("grant", "g"),
                ("grant_reply", "p"),
            ]
            .map(|(right, l)| letter(right, l))
            .concat(),
            badge: body["badge"].as_u64().unwrap_or(0),
        }
    }

    /// Kind, rights and badge.
    fn shape(&self) -> (&str, &str, u64) {
        (&self.kind, &self.rights, self.badge)
    }
}

/// All systems that tests build.
fn systems(fixtures: &Fixtures) -> Vec<(String, System)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut list = Vec::new();
    for folder in ["tests/systems", "../../tests/sdf/valid"] {
        for entry in std::fs::read_dir(here.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            list.push((path.display().to_string(), System::new(fixtures, &path)));
        }
    }
    assert!(list.len() > 12, "only {} systems", list.len());
    list
}

/// DESIGN section 6: write for notifications, write and grant reply for calls, receive for one's own
/// input, no fault capability of one's own, and grant for nobody.
#[test]
fn every_capability_has_the_rights_of_its_place() {
    for (name, system) in systems(&fixtures("rights")) {
        for (object, kind, _) in system.objects() {
            for (slot, cap) in system.slots(object) {
                let place = format!("{name}: {object} {slot}: {cap:?}");
                assert!(!cap.rights.contains('g'), "{place}");
                let message = matches!(cap.kind.as_str(), "Endpoint" | "Notification");
                let monitor = object == "cnode_monitor";
                let microkit = kind == "CNode" && !object.ends_with("_root");
                match (kind, slot, cap.kind.as_str()) {
                    ("CNode", 1, _) if microkit => {
                        assert_eq!((cap.rights.as_str(), cap.badge), ("r", 0), "{place}");
                    }
                    ("CNode", 5, _) if microkit => {
                        assert_eq!(
                            (cap.rights.as_str(), cap.badge != 0),
                            ("w", true),
                            "{place}"
                        );
                    }
                    ("CNode", 202.., "Notification") if monitor => {
                        assert_eq!((cap.rights.as_str(), cap.badge), ("r", 0), "{place}");
                    }
                    ("CNode", 10..74, "Notification") => {
                        let one = cap.badge.is_power_of_two() && cap.badge < 1 << 62;
                        assert_eq!((cap.rights.as_str(), one), ("w", true), "{place}");
                    }
                    ("CNode", 74..138, "Endpoint") => {
                        let channel = cap.badge & !PPC < 62 && cap.badge & PPC != 0;
                        assert_eq!((cap.rights.as_str(), channel), ("wp", true), "{place}");
                    }
                    ("CNode", 330..394, "VCpu") if microkit => {
                        assert_eq!(cap.rights, "rw", "{place}");
                    }
                    ("Tcb", 5, "Endpoint") => {
                        // The monitor's badges are 1 + number; a parent's have the fault bit.
                        let fault = cap.badge & FAULT != 0 || cap.object == "ep_fault_monitor";
                        let shape = (cap.rights.as_str(), fault && cap.badge != 0);
                        assert_eq!(shape, ("wp", true), "{place}");
                    }
                    ("Tcb", 8, "Notification") => assert_eq!(cap.rights, "r", "{place}"),
                    ("VCpu", 2.., "Endpoint") => {
                        assert_eq!(
                            (cap.rights.as_str(), cap.badge & PPC),
                            ("wp", PPC),
                            "{place}"
                        );
                    }
                    ("Irq" | "Timer", 0, "Notification") => {
                        let one = cap.badge.is_power_of_two() && cap.badge < 1 << 62;
                        assert_eq!((cap.rights.as_str(), one), ("w", true), "{place}");
                    }
                    _ => assert!(!message, "a message capability in no known place: {place}"),
                }
                assert!(
                    !(microkit && slot == 2 && !monitor),
                    "own fault endpoint: {place}"
                );
            }
        }
    }
}

/// What is mapped more than once is a region, or read-only everywhere.
#[test]
fn memory_is_shared_only_by_regions_and_read_only_images() {
    for (name, system) in systems(&fixtures("memory")) {
        let mut mapped: Vec<(String, String)> = Vec::new();
        for (object, kind, _) in system.objects() {
            if kind != "PageTable" {
                continue;
            }
            for (_, cap) in system.slots(object) {
                if cap.kind == "Frame" {
                    mapped.push((cap.object, cap.rights));
                }
            }
        }
        mapped.sort();
        for pair in mapped.windows(2) {
            let [(first, a), (second, b)] = pair else {
                unreachable!()
            };
            let region = first.starts_with("mr_");
            let read_only = a == "r" && b == "r";
            assert!(first != second || region || read_only, "{name}: {first}");
        }
    }
}

/// Regions of one file are one copy only if nobody writes any of them.
#[test]
fn prefilled_regions_share_frames_only_if_nobody_writes_them() {
    let fixtures = fixtures("prefill");
    for (perms, frames) in [(["r", "r"], 2), (["r", "rw"], 4), (["rw", "r"], 4)] {
        let text = format!(
            r#"<system>
                <memory_region name="one" prefill_path="file.bin" />
                <memory_region name="two" prefill_path="file.bin" />
                <protection_domain name="p">
                    <program_image path="a.elf" />
                    <map mr="one" vaddr="0x10000000" perms="{}" />
                </protection_domain>
                <protection_domain name="q">
                    <program_image path="a.elf" />
                    <map mr="two" vaddr="0x20000000" perms="{}" />
                </protection_domain>
            </system>"#,
            perms[0], perms[1]
        );
        let system = System::of(&fixtures, "p.system", &text);
        let names = system.objects().filter(|o| o.0.starts_with("mr_"));
        assert_eq!(names.count(), frames, "{perms:?}");
    }
}

/// Two cores, one guest: each vCPU calls the instances of its core; the instances have the same
/// program and the same state, and nothing of each other.
#[test]
fn instances_serve_the_vcpus_of_their_core() {
    let system = System::named(&fixtures("instances"), "instances");
    for id in 0..2u64 {
        let vcpu = format!("vcpu_linux_{id}");
        let affinity = system.0[format!("tcb_linux_{id}")]["Tcb"]["extra"]["affinity"].as_u64();
        assert_eq!(affinity, Some(id));
        let badge = |route: u64| PPC | id << 32 | route;
        let routes: Vec<_> = system
            .slots(&vcpu)
            .into_iter()
            .skip(2)
            .map(|s| s.1)
            .collect();
        let found: Vec<_> = routes
            .iter()
            .map(|c| (c.object.as_str(), c.badge))
            .collect();
        let own = |server: &str| format!("ep_{server}_{id}");
        assert_eq!(
            found,
            [
                (own("hpt").as_str(), badge(5)),
                (own("vpa").as_str(), badge(5)),
                (own("vcpu").as_str(), badge(6)),
                ("ep_vcpu_0", badge(7)),
            ],
            "{vcpu}"
        );
        let exits = system.0[&vcpu]["VCpu"]["exits"].as_array().unwrap();
        let to = |exit: &str| {
            let found = exits.iter().find(|e| e["name"] == exit).unwrap();
            routes[found["route"].as_u64().unwrap() as usize]
                .object
                .clone()
        };
        assert_eq!(to("DataStorage"), own("hpt"));
        assert_eq!(to("Entry"), own("vpa"));
        // What no route names goes to the parent, wherever the vCPU runs.
        let parent = system.slot(&format!("tcb_linux_{id}"), 5).unwrap();
        assert_eq!(parent.object, "ep_vcpu_0");
        assert_eq!(parent.badge, FAULT | id);
    }
    for server in ["hpt", "vpa", "vcpu"] {
        let [first, second] = [0, 1].map(|i| system.reach(&format!("tcb_{server}_{i}")));
        let shared: Vec<_> = first.intersection(&second).map(String::as_str).collect();
        let common: &[&str] = match server {
            "hpt" => &[
                "elf_memslots_",
                "ep_memslots",
                "hpt_linux",
                "mr_hpt_control_000000000",
                "mr_rev_000000000",
                "mr_slot_table_000000000",
            ],
            "vpa" => &["ep_memslots", "gspace_linux", "mr_vpa_areas_000000000"],
            _ => &["mr_vm_state_000000000"],
        };
        for object in &shared {
            let text = object.starts_with("elf_") && !object.ends_with("2");
            let known = common.iter().any(|c| object.starts_with(c));
            let monitor = *object == "ep_fault_monitor";
            let vcpus = object.starts_with("vcpu_linux_") && server != "hpt";
            assert!(text || known || monitor || vcpus, "{server}: {object}");
        }
        let state = common.iter().filter(|c| c.starts_with("mr_"));
        for object in state {
            assert!(shared.contains(object), "{server}: {object} is not shared");
        }
    }
}

/// Two guests have nothing in common but the driver of the serial port, which each can only notify.
#[test]
fn guests_have_nothing_of_each_other() {
    let system = System::named(&fixtures("guests"), "guests");
    let of = |guest: &str| -> BTreeSet<String> {
        ["memslots", "hpt", "vcpu"]
            .iter()
            .flat_map(|pd| system.reach(&format!("tcb_{pd}_{guest}")))
            .collect()
    };
    let (red, blue) = (of("red"), of("blue"));
    for (mine, guest, other) in [(&red, "red", "blue"), (&blue, "blue", "red")] {
        for object in ["gspace", "hpt", "untyped_memslots", "mr_console", "ep_hpt"] {
            let own = |name: &String| name.starts_with(&format!("{object}_{guest}"));
            assert!(mine.iter().any(own), "{guest} has its {object}");
        }
        // Read-only pages of a program or file that both use are one copy, named after the first.
        let image = |o: &&String| o.starts_with("elf_") || o.contains("@kernel_");
        let foreign = mine.iter().filter(|o| o.contains(other) && !image(o));
        let foreign: Vec<_> = foreign.collect();
        assert!(foreign.is_empty(), "{guest} reaches {foreign:?}");
    }
    let mut shared: Vec<_> = red.intersection(&blue).map(String::as_str).collect();
    shared.retain(|o| !o.starts_with("elf_") && !o.contains("@kernel_"));
    assert_eq!(shared, ["ep_fault_monitor", "ntfn_serial"]);
    for (guest, badge) in [("red", 1 << 1), ("blue", 1 << 2)] {
        let serial = system.slot(&format!("cnode_vcpu_{guest}"), 12).unwrap();
        assert_eq!(serial.shape(), ("Notification", "w", badge));
    }
    let consoles: Vec<_> = system
        .reach("tcb_serial")
        .into_iter()
        .filter(|o| o.contains("red") || o.contains("blue"))
        .collect();
    let expected = [
        "mr_console_blue_000000000",
        "mr_console_red_000000000",
        "ntfn_vcpu_blue",
        "ntfn_vcpu_red",
    ];
    assert_eq!(consoles, expected, "serial reaches consoles and no guest");
    let gspaces = system.objects().filter(|o| o.1 == "GSpace").count();
    assert_eq!(gspaces, 2);
}
