// SPDX-License-Identifier: BSD-2-Clause
//! Changes a system description for a guest of another size or another command line: sizes of
//! regions and capabilities follow from `partita_guest_protocol::layout`, the rest of the text stays
//! as it is.

use super::Additions;
use super::spread;
use super::xml::{Edits, enlarge, find, hex, machines, number, parse};
use partita_guest_protocol::layout;
use partita_papr::HptOrder;
use roxmltree::{Document, Node};
use std::collections::BTreeMap;

/// The unit of guest memory, bytes.
pub const MEMORY_UNIT: u64 = 16 << 20;

/// Untyped capabilities that `memslots` takes for guest memory, at most.
const UNTYPED_COUNT: u64 = 7;

/// What to change.
#[derive(Debug, Default)]
pub struct Changes {
    /// Guest memory, bytes; a multiple of [`MEMORY_UNIT`].
    pub memory: Option<u64>,
    /// Memory behind the guest's, bytes, if it is less: pages are found when they are touched.
    pub backing: Option<u64>,
    /// Where the addresses of its slots end, bytes, if not with its memory.
    pub max_memory: Option<u64>,
    /// Processors, at least 1.
    pub vcpus: Option<u32>,
    /// Cores that they are spread over, 1 if it is left out; each has an instance of the guest's servers.
    pub cores: Option<u32>,
    /// What to add to the command line.
    pub append: String,
    /// First file systems of guests that have one of their own.
    pub initrds: BTreeMap<String, String>,
}

/// A guest of a system.
#[derive(Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its name.
    pub name: String,
    /// The file of its first file system, if it has one.
    pub initrd: Option<String>,
    /// The number of its terminal, if the serial port shows one of several terminals at a time.
    pub terminal: Option<usize>,
}

/// The guests, in the order of the description.
pub fn guests(text: &str) -> Result<Vec<Guest>, String> {
    let document = parse(text)?;
    let guest = |vm: Node| Guest {
        name: vm.attribute("name").unwrap_or_default().into(),
        initrd: vm.attribute("initrd").map(String::from),
        terminal: terminal(&document, &vm),
    };
    Ok(machines(&document).map(guest).collect())
}

/// The number behind the symbol by which the serial driver finds the guest's rings, if it has a backlog of
/// that number too.
fn terminal(document: &Document, vm: &Node) -> Option<usize> {
    let parent = vm
        .ancestors()
        .find(|n| n.has_tag_name("protection_domain"))?;
    let rings = find(parent, "map", "setvar_vaddr", "console").ok()?;
    let rings = rings.attribute("mr")?;
    let number = |map: Node| -> Option<usize> {
        let symbol = map.attribute("setvar_vaddr")?;
        let number = symbol.strip_prefix("console_")?;
        let backlog = format!("backlog_{number}");
        let driver = map.parent()?;
        find(driver, "map", "setvar_vaddr", &backlog).ok()?;
        number.parse().ok()
    };
    let mut maps = document.descendants().filter(|n| n.has_tag_name("map"));
    maps.find_map(|map| {
        (map.attribute("mr") == Some(rings))
            .then(|| number(map))
            .flatten()
    })
}

/// Files that the guests of a system are started from.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Names of kernels.
    pub kernels: Vec<String>,
    /// Names of first file systems.
    pub initrds: Vec<String>,
}

/// Whether a description has a guest, and the files of all guests.
pub fn files(text: &str) -> Result<Option<Files>, String> {
    let document = parse(text)?;
    let values = |name: &str| -> Vec<String> {
        let mut values: Vec<String> = machines(&document)
            .filter_map(|vm| vm.attribute(name).map(String::from))
            .collect();
        values.sort();
        values.dedup();
        values
    };
    let files = Files {
        kernels: values("kernel"),
        initrds: values("initrd"),
    };
    Ok(machines(&document).next().map(|_| files))
}

/// Memory of each guest, bytes.
pub fn memory_sizes(text: &str) -> Result<Vec<u64>, String> {
    let document = parse(text)?;
    machines(&document)
        .map(|vm| number(vm.attribute("memory").unwrap_or_default()))
        .collect()
}

/// The description with the changes made.
pub fn change(text: &str, changes: &Changes) -> Result<String, String> {
    let document = parse(text)?;
    let mut edits = Edits::default();
    if !changes.append.is_empty() {
        for vm in machines(&document) {
            let line = vm.attribute("cmdline").unwrap_or_default();
            edits.set(&vm, "cmdline", format!("{line} {}", changes.append).trim());
        }
    }
    for (guest, file) in &changes.initrds {
        let vm = find(document.root(), "virtual_machine", "name", guest)?;
        edits.set(&vm, "initrd", file);
    }
    if let Some(memory) = changes.memory {
        let backing = changes.backing.unwrap_or(memory);
        let end = changes.max_memory.unwrap_or(memory);
        resize(&document, memory, backing, end, &mut edits)?;
    }
    let text = edits.apply(text);
    match changes.vcpus {
        Some(vcpus) => {
            let cores = u64::from(changes.cores.unwrap_or(1).max(1));
            spread::populate(&text, u64::from(vcpus), cores)
        }
        None => Ok(text),
    }
}

/// The description with a test's additions.
pub fn add(text: &str, additions: &Additions) -> Result<String, String> {
    let document = parse(text)?;
    let mut edits = Edits::default();
    for (old, new) in &additions.replace {
        let (old, new) = (format!("{old}.elf"), format!("{new}.elf"));
        let mut found = document
            .descendants()
            .filter(|n| n.has_tag_name("program_image") && n.attribute("path") == Some(&old))
            .peekable();
        if found.peek().is_none() {
            return Err(format!("no program image {old}"));
        }
        found.for_each(|node| edits.set(&node, "path", &new));
    }
    let mut changed = edits.apply(text);
    for addition in &additions.texts {
        changed = insert(&changed, addition)?;
    }
    Ok(changed)
}

/// Puts the elements of one addition where they belong.
fn insert(text: &str, addition: &str) -> Result<String, String> {
    let (document, addition_document) = (parse(text)?, parse(addition)?);
    let mut edits = Edits::default();
    for node in addition_document.root_element().children() {
        let (place, from) = if node.has_tag_name("into") {
            let pd = node.attribute("pd").unwrap_or_default();
            let place = find(document.root(), "protection_domain", "name", pd)?;
            (place, node.children().filter(Node::is_element).collect())
        } else if node.is_element() {
            (document.root_element(), vec![node])
        } else {
            continue;
        };
        let end = place.range().end - format!("</{}>", place.tag_name().name()).len();
        for node in from {
            let element = format!("{}\n", &addition[node.range()]);
            edits.insert(end, element);
        }
    }
    Ok(edits.apply(text))
}

/// The one guest.
fn machine<'a>(document: &'a Document<'a>) -> Result<Node<'a, 'a>, String> {
    let mut vms = machines(document);
    match (vms.next(), vms.next()) {
        (Some(vm), None) => Ok(vm),
        _ => Err("memory can be chosen where there is one guest".into()),
    }
}

/// A guest of `memory` bytes with `backing` bytes behind them, whose slots can lie below `end`; the table suits
/// what is behind it.
fn resize(
    document: &Document,
    memory: u64,
    backing: u64,
    end: u64,
    edits: &mut Edits,
) -> Result<(), String> {
    if memory == 0 || !(memory | end).is_multiple_of(MEMORY_UNIT) || end < memory {
        return Err(format!(
            "guest memory {memory:#x} up to {end:#x}: no multiples of 16 MiB"
        ));
    }
    let vm = machine(document)?;
    let name = vm.attribute("name").unwrap_or_default();
    let order = layout::hpt_order(backing);
    let table =
        HptOrder::new(order).ok_or_else(|| format!("guest memory {memory:#x}: too much"))?;
    let (size, count) = untyped(backing);
    edits.set(&vm, "memory", &hex(memory));
    if end != memory || vm.has_attribute("max_memory") {
        edits.set(&vm, "max_memory", &hex(end));
    }
    edits.set(&vm, "hpt_order", &order.to_string());
    let regions = [
        (
            "page_state",
            layout::page_state_bytes_of(size * count, memory),
        ),
        ("rev", layout::rev_bytes(table)),
        ("rmap", layout::rmap_bytes(end)),
        ("dirty_log", layout::dirty_log_bytes(end)),
    ];
    for (name, bytes) in regions {
        enlarge(document, name, bytes, edits)?;
    }
    // The domain with the guest's memory is the one that has its address space.
    let space = find(document.root(), "cap_gspace", "vm", name)?;
    let caps = space.parent().unwrap_or(space);
    let memory_cap = find(caps, "cap_untyped", "slot", "1")?;
    edits.set(&memory_cap, "size", &hex(size));
    edits.set(&memory_cap, "count", &count.to_string());
    let frames = find(caps, "cap_cnode", "slot", "8")?;
    let radix = layout::frames_radix(size * count);
    edits.set(&frames, "radix", &radix.to_string());
    Ok(())
}

/// Size and count of the untyped capabilities for guest memory: the smallest power of two of which
/// few enough are needed.
fn untyped(memory: u64) -> (u64, u64) {
    let size = memory
        .div_ceil(UNTYPED_COUNT)
        .next_power_of_two()
        .max(layout::CHUNK_BYTES);
    (size, memory.div_ceil(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: &str = include_str!("../../../../system.xml");

    fn attribute(text: &str, tag: &str, key: (&str, &str), name: &str) -> String {
        let document = Document::parse(text).unwrap();
        let node = find(document.root(), tag, key.0, key.1).unwrap();
        node.attribute(name).unwrap_or("none").to_string()
    }

    #[test]
    fn the_size_in_the_file_is_what_is_computed_for_it() {
        let changes = Changes {
            memory: Some(1 << 30),
            vcpus: Some(1),
            ..Changes::default()
        };
        let changed = change(LINUX, &changes).unwrap();
        let pairs = |text: &str| -> Vec<(String, String)> {
            let document = Document::parse(text).unwrap();
            let attributes = document.descendants().flat_map(|n| n.attributes());
            attributes
                .map(|a| (a.name().to_string(), a.value().to_string()))
                .collect()
        };
        for ((name, old), (_, new)) in pairs(LINUX).iter().zip(pairs(&changed)) {
            if old != &new {
                assert_eq!(number(old).unwrap(), number(&new).unwrap(), "{name}");
            }
        }
    }

    #[test]
    fn guests_have_terminals_if_there_are_several() {
        let two = include_str!("../../../../systems/two-guests/two-guests.system");
        let terminals = |text| -> Vec<(String, Option<usize>)> {
            let guests = guests(text).unwrap();
            guests.into_iter().map(|g| (g.name, g.terminal)).collect()
        };
        let expected = [("a".to_string(), Some(0)), ("b".to_string(), Some(1))];
        assert_eq!(terminals(two), expected);
        assert_eq!(terminals(LINUX), [("linux".to_string(), None)]);
        let changes = Changes {
            initrds: [("b".to_string(), "other.cpio".to_string())].into(),
            ..Changes::default()
        };
        let changed = change(two, &changes).unwrap();
        let initrds = guests(&changed).unwrap().into_iter().map(|g| g.initrd);
        let expected = ["initrd.cpio", "other.cpio"].map(|file| Some(file.to_string()));
        assert_eq!(initrds.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_smaller_guest() {
        let changes = Changes {
            memory: Some(256 << 20),
            ..Changes::default()
        };
        let text = change(LINUX, &changes).unwrap();
        let vm = ("name", "linux");
        assert_eq!(
            attribute(&text, "virtual_machine", vm, "memory"),
            "0x10000000"
        );
        assert_eq!(attribute(&text, "virtual_machine", vm, "hpt_order"), "22");
        let region = |name| attribute(&text, "memory_region", ("name", name), "size");
        // 2^18 entries of 24 bytes.
        assert_eq!(region("rev"), "0x600000");
        // 0x80000 bytes, in pages of 2 MiB.
        assert_eq!(region("rmap"), "0x200000");
        assert_eq!(region("dirty_log"), "0x2000");
        let cap = |name| attribute(&text, "cap_untyped", ("count", "4"), name);
        assert_eq!(cap("size"), "0x4000000");
    }

    #[test]
    fn less_behind_a_guest_than_it_has() {
        let changes = Changes {
            memory: Some(64 << 30),
            backing: Some(256 << 20),
            ..Changes::default()
        };
        let text = change(LINUX, &changes).unwrap();
        let vm = ("name", "linux");
        let of_guest = |name| attribute(&text, "virtual_machine", vm, name);
        assert_eq!(of_guest("memory"), "0x1000000000");
        assert_eq!(of_guest("hpt_order"), "22");
        let rmap = attribute(&text, "memory_region", ("name", "rmap"), "size");
        assert_eq!(rmap, "0x8000000");
        let cap = |name| attribute(&text, "cap_untyped", ("count", "4"), name);
        assert_eq!(cap("size"), "0x4000000");
    }

    #[test]
    fn addresses_for_more_slots() {
        let changes = Changes {
            memory: Some(64 << 20),
            max_memory: Some(4 << 30),
            ..Changes::default()
        };
        let text = change(LINUX, &changes).unwrap();
        let vm = ("name", "linux");
        assert_eq!(
            attribute(&text, "virtual_machine", vm, "memory"),
            "0x4000000"
        );
        let end = attribute(&text, "virtual_machine", vm, "max_memory");
        assert_eq!(end, "0x100000000");
        let region = |name| attribute(&text, "memory_region", ("name", name), "size");
        assert_eq!(region("rmap"), "0x800000");
        assert_eq!(region("dirty_log"), "0x20000");
        let less = Changes {
            memory: Some(64 << 20),
            max_memory: Some(32 << 20),
            ..Changes::default()
        };
        assert!(change(LINUX, &less).is_err());
    }

    #[test]
    fn untyped_holds_the_memory() {
        for units in 1..300 {
            let memory = units * MEMORY_UNIT;
            let (size, count) = untyped(memory);
            assert!(size.is_power_of_two() && count <= UNTYPED_COUNT);
            assert!(size * count >= memory && size * (count - 1) < memory);
        }
    }

    #[test]
    fn the_command_line_grows() {
        let changes = Changes {
            append: "a=\"b\" c<d&e".into(),
            ..Changes::default()
        };
        let text = change(LINUX, &changes).unwrap();
        let line = attribute(&text, "virtual_machine", ("name", "linux"), "cmdline");
        assert_eq!(line, "console=hvc0 a=\"b\" c<d&e");
        let bare = r#"<system><virtual_machine name="x" kernel="k"/></system>"#;
        let text = change(bare, &changes).unwrap();
        let line = attribute(&text, "virtual_machine", ("name", "x"), "cmdline");
        assert_eq!(line, "a=\"b\" c<d&e");
    }

    #[test]
    fn what_can_not_be_done_is_said() {
        let memory = |bytes, text: &str| {
            let changes = Changes {
                memory: Some(bytes),
                ..Changes::default()
            };
            change(text, &changes).unwrap_err()
        };
        assert!(memory(1 << 20, LINUX).contains("multiples of 16 MiB"));
        assert!(memory(1 << 30, "<system/>").contains("one guest"));
        let bare = r#"<system><virtual_machine name="x" kernel="k"/></system>"#;
        assert_eq!(
            memory(1 << 30, bare),
            "no <memory_region name=\"page_state\">"
        );
    }

    #[test]
    fn tests_replace_programs_and_add_elements() {
        let text = r#"<system><protection_domain name="a"><program_image path="x.elf"/>
            </protection_domain></system>"#;
        let additions = Additions {
            replace: [("x".to_string(), "y".to_string())].into(),
            texts: vec![
                r#"<additions><memory_region name="m" size="1"/><memory_region name="n" size="1"/>
                   <into pd="a"><map mr="m" vaddr="1"/><irq id="1"/></into></additions>"#
                    .into(),
            ],
            ..Additions::default()
        };
        let changed = add(text, &additions).unwrap();
        let document = Document::parse(&changed).unwrap();
        let names = |node: Node| -> Vec<String> {
            let elements = node.children().filter(Node::is_element);
            elements.map(|n| n.tag_name().name().to_string()).collect()
        };
        assert_eq!(
            names(document.root_element()),
            ["protection_domain", "memory_region", "memory_region"]
        );
        let pd = find(document.root(), "protection_domain", "name", "a").unwrap();
        assert_eq!(names(pd), ["program_image", "map", "irq"]);
        find(pd, "program_image", "path", "y.elf").unwrap();
        let unknown = Additions {
            replace: [("z".to_string(), "y".to_string())].into(),
            ..Additions::default()
        };
        assert_eq!(add(text, &unknown).unwrap_err(), "no program image z.elf");
    }

    #[test]
    fn files_are_those_of_the_guests() {
        let expected = Files {
            kernels: vec!["vmlinux".into()],
            initrds: vec!["initrd.cpio".into()],
        };
        assert_eq!(files(LINUX).unwrap(), Some(expected));
        assert_eq!(files("<system/>").unwrap(), None);
        assert!(files("<system>").is_err());
    }
}
