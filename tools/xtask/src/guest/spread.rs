// SPDX-License-Identifier: BSD-2-Clause
//! Processors of guests, and an instance of `hpt`, `vpa` and `vcpu` on each core that they are
//! spread over, as `systems/linux-smp` has by hand: the same programs over the same regions, with a
//! reader's page and views of their own.

use super::xml::{Edits, enlarge, find, hex, machines, number, parse};
use partita_abi::limits;
use partita_guest_protocol::{channel, layout, symbol};
use roxmltree::{Document, Node};
use std::fmt::Write;

/// Hypercalls of `vcpu` that need nothing but the shared state: the instance on the caller's core
/// answers them.
const LOCAL: [&str; 11] = [
    "H_CEDE", "H_PROD", "H_CONFER", "H_XIRR", "H_XIRR_X", "H_CPPR", "H_EOI", "H_IPI", "H_IPOLL",
    "H_RANDOM", "H_JOIN",
];
/// Distance of the pages of the slot table's readers in `memslots`, bytes.
const EPOCH_DISTANCE: u64 = 0x1_0000;

type Result<T> = std::result::Result<T, String>;

/// Gives every guest `count` processors, numbered from 0, on `cores` cores in turn. A guest whose
/// servers have instances already keeps these: its processors are on their cores.
pub(super) fn populate(text: &str, count: u64, cores: u64) -> Result<String> {
    let cores = cores.clamp(1, count.max(1));
    if cores > channel::INSTANCES as u64 {
        return Err(format!(
            "processors on more than {} cores",
            channel::INSTANCES
        ));
    }
    let document = parse(text)?;
    let mut edits = Edits::default();
    for vm in machines(&document) {
        let vcpus: Vec<Node> = vm.children().filter(|n| n.has_tag_name("vcpu")).collect();
        let (Some(first), Some(last)) = (vcpus.first(), vcpus.last()) else {
            return Err("a guest without processors".into());
        };
        let mut on = vcpus.iter().map(core_of).collect::<Result<Vec<_>>>()?;
        on.sort_unstable();
        on.dedup();
        if on.len() == 1 {
            on = (0..cores).collect();
            Servers::of(vm)?.instances(text, cores, &mut edits)?;
        }
        let most = most_processors(on.len() as u64);
        if count > most {
            let cores = on.len();
            return Err(format!(
                "{count} processors: at most {most} with servers on {cores} of the cores"
            ));
        }
        let mut elements = String::new();
        for (id, core) in (0..count).zip(on.iter().cycle()) {
            let _ = match core {
                0 => write!(elements, "<vcpu id=\"{id}\" />"),
                core => write!(elements, "<vcpu id=\"{id}\" cpu=\"{core}\" />"),
            };
        }
        edits.replace(first.range().start..last.range().end, elements);
        room(&document, &vm, count, &mut edits)?;
    }
    // Copies of elements have been made of the text as it was.
    widen_views(&edits.apply(text), count)
}

/// Processors that a guest can have whose servers have so many instances. An instance of `vpa` has a
/// view to look at an area and three for each processor, in slots below those of the VCPU objects; the
/// kernel has room for so many views of all instances and one of `vcpu`.
fn most_processors(instances: u64) -> u64 {
    let slots = (symbol::VCPU_SLOT - symbol::VIEW_SLOT) as u64;
    let views = (limits::GSPACE_VIEWS as u64 - 1) / instances.max(1);
    (slots.min(views).max(1) - 1) / 3
}

fn core_of(node: &Node) -> Result<u64> {
    match node.attribute("cpu") {
        None | Some("0") => Ok(0),
        Some(text) => number(text),
    }
}

fn name_of<'a>(node: &Node<'a, 'a>) -> &'a str {
    node.attribute("name").unwrap_or_default()
}

/// Makes the regions whose sizes depend on it large enough for `count` processors.
fn room(document: &Document, vm: &Node, count: u64, edits: &mut Edits) -> Result<()> {
    let servers = Servers::of(*vm)?;
    let areas = region(&servers.vpa, "vpa_areas")?;
    enlarge(document, areas, layout::vpa_areas_bytes(count), edits)?;
    let state = region(&servers.vcpu, "vm_state")?;
    enlarge(document, state, layout::vm_state_bytes(count), edits)
}

/// The same for what each instance of `vpa` has of its own: one view to look at an area, and three
/// for each processor.
fn widen_views(text: &str, count: u64) -> Result<String> {
    let document = parse(text)?;
    let mut edits = Edits::default();
    for views in document
        .descendants()
        .filter(|n| n.has_tag_name("cap_gspace_view"))
    {
        let pd = domain(&views)?;
        if find(pd, "map", "setvar_vaddr", "vpa_views").is_ok() {
            edits.set(&views, "count", &(1 + 3 * count).to_string());
            let name = region(&pd, "vpa_views")?;
            enlarge(&document, name, layout::vpa_views_bytes(count), &mut edits)?;
        }
    }
    Ok(edits.apply(text))
}

/// The region that a protection domain finds through a symbol.
fn region<'a>(pd: &Node<'a, 'a>, symbol: &str) -> Result<&'a str> {
    let map = find(*pd, "map", "setvar_vaddr", symbol)?;
    map.attribute("mr")
        .ok_or_else(|| format!("no region behind {symbol}"))
}

/// The protection domain that an element stands in.
fn domain<'a>(node: &Node<'a, 'a>) -> Result<Node<'a, 'a>> {
    node.ancestors()
        .find(|n| n.has_tag_name("protection_domain"))
        .ok_or_else(|| {
            format!(
                "<{}> outside of a protection domain",
                node.tag_name().name()
            )
        })
}

/// A guest's protection domains; of `hpt` and `vpa` the first instances.
struct Servers<'a> {
    vm: Node<'a, 'a>,
    memslots: Node<'a, 'a>,
    hpt: Node<'a, 'a>,
    vpa: Node<'a, 'a>,
    vcpu: Node<'a, 'a>,
}

impl<'a> Servers<'a> {
    fn of(vm: Node<'a, 'a>) -> Result<Self> {
        let root = vm.document().root();
        let owner = |tag| domain(&find(root, tag, "vm", name_of(&vm))?);
        Ok(Self {
            vm,
            memslots: owner("cap_gspace")?,
            hpt: owner("cap_hpt")?,
            vpa: owner("cap_vcpu")?,
            vcpu: domain(&vm)?,
        })
    }

    /// Adds the instances on the cores from 1 on, with their routes and channels.
    fn instances(&self, text: &str, cores: u64, edits: &mut Edits) -> Result<()> {
        let mut added = String::new();
        let mut routes = String::new();
        let mut epochs = String::new();
        let readers = self.memslots.children().filter(|n| {
            let symbol = n.attribute("setvar_vaddr").unwrap_or_default();
            n.has_tag_name("map") && symbol.starts_with("epoch_")
        });
        let readers: Vec<Node> = readers.collect();
        let last = readers.last().ok_or("memslots knows no readers")?;
        let mut vaddr = number(last.attribute("vaddr").unwrap_or_default())?;
        let mut reader = readers.len();
        for core in 1..cores {
            added += &self.hpt_instance(text, core)?;
            added += &self.vpa_instance(text, core)?;
            added += &self.vcpu_instance(core)?;
            for server in [&self.hpt, &self.vpa] {
                vaddr += EPOCH_DISTANCE;
                let (epoch, at) = (region(server, "epoch")?, hex(vaddr));
                epochs += &format!(
                    r#"<map mr="{epoch}_{core}" vaddr="{at}" perms="r" setvar_vaddr="epoch_{reader}" />"#
                );
                reader += 1;
            }
            routes += &self.routes(text, core)?;
        }
        edits.insert(last.range().end, epochs);
        edits.insert(self.vm.range().end - "</virtual_machine>".len(), routes);
        let system = self.vm.document().root_element();
        edits.insert(system.range().end - "</system>".len(), added);
        Ok(())
    }

    fn hpt_instance(&self, text: &str, core: u64) -> Result<String> {
        let copy = instance(text, &self.hpt, core, &["epoch"], "")?;
        let name = format!("{}_{core}", name_of(&self.hpt));
        let memslots = (name_of(&self.memslots), channel::HPT + core as usize);
        Ok(copy + &channel_of((&name, channel::MEMSLOTS), "", memslots))
    }

    fn vpa_instance(&self, text: &str, core: u64) -> Result<String> {
        let vm = name_of(&self.vm);
        let more = format!(r#"<setvar symbol="instance" vm="{vm}" value="cpu" />"#);
        let mut added = instance(text, &self.vpa, core, &["epoch", "vpa_views"], &more)?;
        let name = format!("{}_{core}", name_of(&self.vpa));
        let id = channel::VPA + core as usize;
        let memslots = (name_of(&self.memslots), id);
        added += &channel_of((&name, channel::MEMSLOTS), "", memslots);
        // Whoever resets the guest asks every instance.
        let symbol = format!(r#"setvar_id="vpa_{core}""#);
        added += &channel_of((name_of(&self.vcpu), id), &symbol, (&name, channel::VCPU));
        Ok(added)
    }

    fn vcpu_instance(&self, core: u64) -> Result<String> {
        let (name, vm) = (name_of(&self.vcpu), name_of(&self.vm));
        let image = self
            .vcpu
            .children()
            .find(|n| n.has_tag_name("program_image"));
        let image = image.and_then(|n| n.attribute("path")).unwrap_or_default();
        let mut attributes = String::new();
        for name in ["priority", "passive", "budget", "period", "stack_size"] {
            if let Some(value) = self.vcpu.attribute(name) {
                let _ = write!(attributes, r#" {name}="{value}""#);
            }
        }
        let state = find(self.vcpu, "map", "setvar_vaddr", "vm_state")?;
        let (mr, vaddr) = (state.attribute("mr"), state.attribute("vaddr"));
        let (mr, vaddr) = (mr.unwrap_or_default(), vaddr.unwrap_or_default());
        let slot = symbol::VCPU_SLOT;
        Ok(format!(
            r#"<protection_domain name="{name}_{core}" cpu="{core}"{attributes}>
               <program_image path="{image}" />
               <map mr="{mr}" vaddr="{vaddr}" perms="rw" setvar_vaddr="vm_state" />
               <setvar symbol="vcpu_count" vm="{vm}" value="vcpus" />
               <setvar symbol="instance" vm="{vm}" value="cpu" />
               <cspace><cap_vcpu slot="{slot}" vm="{vm}" rights="rw" /></cspace>
               </protection_domain>"#
        ))
    }

    /// The routes of the instances on a core.
    fn routes(&self, text: &str, core: u64) -> Result<String> {
        let mut routes = String::new();
        for route in self.vm.children().filter(|n| n.has_tag_name("route")) {
            let pd = route.attribute("pd").unwrap_or_default();
            let own = |server: &Node| name_of(server) == pd;
            if ![&self.hpt, &self.vpa, &self.vcpu].into_iter().any(own) {
                continue;
            }
            let piece = &text[route.range()];
            let document = parse(piece)?;
            let mut edits = Edits::default();
            let root = document.root_element();
            edits.set(&root, "pd", &format!("{pd}_{core}"));
            if own(&self.vcpu) {
                let all = route.attribute("hypercalls").unwrap_or_default();
                let local = all.split_whitespace().filter(|name| LOCAL.contains(name));
                let local: Vec<&str> = local.collect();
                edits.set(&root, "hypercalls", &local.join(" "));
            }
            routes += &edits.apply(piece);
        }
        Ok(routes)
    }
}

/// A copy of a protection domain for a core, with regions of its own behind the symbols `own`; `more` is added
/// to it. The regions come first.
fn instance(text: &str, pd: &Node, core: u64, own: &[&str], more: &str) -> Result<String> {
    let mut added = String::new();
    let piece = &text[pd.range()];
    let document = parse(piece)?;
    let root = document.root_element();
    let mut edits = Edits::default();
    edits.set(&root, "name", &format!("{}_{core}", name_of(&root)));
    edits.set(&root, "cpu", &core.to_string());
    for symbol in own {
        let name = region(&root, symbol)?;
        let element = find(pd.document().root(), "memory_region", "name", name)?;
        let region_text = &text[element.range()];
        let region_document = parse(region_text)?;
        let mut rename = Edits::default();
        let name = format!("{name}_{core}");
        rename.set(&region_document.root_element(), "name", &name);
        added += &rename.apply(region_text);
        edits.set(&find(root, "map", "setvar_vaddr", symbol)?, "mr", &name);
    }
    edits.insert(root.range().end - "</protection_domain>".len(), more.into());
    Ok(added + &edits.apply(piece))
}

/// A channel for calls from `from` (a name and an id) to `to`.
fn channel_of((from, id): (&str, usize), symbol: &str, (to, to_id): (&str, usize)) -> String {
    format!(
        r#"<channel><end pd="{from}" id="{id}" pp="true" notify="false" {symbol} /><end pd="{to}" id="{to_id}" notify="false" /></channel>"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: &str = include_str!("../../../../system.xml");
    const BY_HAND: &str = include_str!("../../../../systems/linux-smp/linux-smp.system");
    const TWO: &str = include_str!("../../../../systems/two-guests/two-guests.system");

    /// Number and core of each processor of the first guest.
    fn placed(text: &str) -> Vec<(u64, u64)> {
        let document = parse(text).unwrap();
        let vm = machines(&document).next().unwrap();
        let vcpus = vm.children().filter(|n| n.has_tag_name("vcpu"));
        let id = |n: &Node| n.attribute("id").unwrap().parse().unwrap();
        vcpus.map(|n| (id(&n), core_of(&n).unwrap())).collect()
    }

    fn names(text: &str, tag: &str) -> Vec<String> {
        let document = parse(text).unwrap();
        let nodes = document.descendants().filter(|n| n.has_tag_name(tag));
        let mut names: Vec<String> = nodes.map(|n| name_of(&n).to_string()).collect();
        names.sort();
        names
    }

    /// What a protection domain has, without its name, its regions' names and other servers' names.
    fn shape(text: &str, pd: &str) -> Vec<String> {
        let document = parse(text).unwrap();
        let pd = find(document.root(), "protection_domain", "name", pd).unwrap();
        let vm = |n: &Node| n.ancestors().any(|n| n.has_tag_name("virtual_machine"));
        let elements = pd.descendants().filter(|n| n.is_element() && !vm(n));
        let mut lines: Vec<String> = elements
            .map(|n| {
                let mut words: Vec<String> = n
                    .attributes()
                    .filter(|a| !["name", "mr", "budget", "period"].contains(&a.name()))
                    .map(|a| match a.name() {
                        // Some numbers have underscores.
                        "vaddr" => format!("vaddr={}", a.value().replace('_', "")),
                        name => format!("{name}={}", a.value()),
                    })
                    .collect();
                words.sort();
                format!("{} {}", n.tag_name().name(), words.join(" "))
            })
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn processors_on_one_core() {
        let text = populate(LINUX, 3, 1).unwrap();
        assert_eq!(placed(&text), [(0, 0), (1, 0), (2, 0)]);
        assert_eq!(
            names(&text, "protection_domain"),
            names(LINUX, "protection_domain")
        );
        let document = parse(&text).unwrap();
        let views = find(document.root(), "cap_gspace_view", "vaddr", "0x1_0000_0000").unwrap();
        assert_eq!(views.attribute("count"), Some("10"));
    }

    /// The system that is made is the one that was written by hand.
    #[test]
    fn instances_are_those_of_linux_smp() {
        let text = populate(LINUX, 2, 2).unwrap();
        assert_eq!(placed(&text), placed(BY_HAND));
        for (made, by_hand) in [
            ("serial", "serial"),
            ("memslots", "memslots"),
            ("hpt_1", "hpt_1"),
            ("vpa_1", "vpa_1"),
            ("vcpu_1", "vcpu_1"),
        ] {
            assert_eq!(shape(&text, made), shape(BY_HAND, by_hand), "{made}");
        }
        let routes = |text: &str| {
            let document = parse(text).unwrap();
            let nodes = document.descendants().filter(|n| n.has_tag_name("route"));
            let mut all: Vec<(String, Vec<String>)> = nodes
                .map(|n| {
                    let pd = n.attribute("pd").unwrap().trim_end_matches("_0");
                    let calls = n.attribute("hypercalls").unwrap().split_whitespace();
                    let mut calls: Vec<String> = calls.map(String::from).collect();
                    calls.sort();
                    (pd.to_string(), calls)
                })
                .collect();
            all.sort();
            all
        };
        assert_eq!(routes(&text), routes(BY_HAND));
        let ends = |text: &str| {
            let document = parse(text).unwrap();
            let nodes = document.descendants().filter(|n| n.has_tag_name("end"));
            let mut all: Vec<String> = nodes
                .map(|n| {
                    let pd = n.attribute("pd").unwrap().trim_end_matches("_0");
                    let setvar = n.attribute("setvar_id").unwrap_or_default();
                    format!("{pd} {} {setvar}", n.attribute("id").unwrap())
                })
                .collect();
            all.sort();
            all
        };
        assert_eq!(ends(&text), ends(BY_HAND));
    }

    #[test]
    fn instances_that_are_there_are_kept() {
        let text = populate(BY_HAND, 4, 1).unwrap();
        assert_eq!(placed(&text), [(0, 0), (1, 1), (2, 0), (3, 1)]);
        assert_eq!(
            names(&text, "memory_region"),
            names(BY_HAND, "memory_region")
        );
        let document = parse(&text).unwrap();
        let views = document
            .descendants()
            .filter(|n| n.has_tag_name("cap_gspace_view") && n.attribute("count") == Some("13"));
        assert_eq!(views.count(), 2);
    }

    #[test]
    fn each_of_several_guests() {
        let text = populate(TWO, 3, 2).unwrap();
        let domains = names(&text, "protection_domain");
        for name in ["hpt_a_1", "vpa_b_1", "vcpu_b_1"] {
            assert!(domains.iter().any(|n| n == name), "{name}");
        }
        let all = names(&text, "memory_region");
        let mut once = all.clone();
        once.dedup();
        assert_eq!(all, once);
    }

    #[test]
    fn what_can_not_be_done_is_said() {
        assert!(populate(LINUX, 8, 5).unwrap_err().contains("4 cores"));
        assert!(populate("<system><virtual_machine/></system>", 1, 1).is_err());
        for (cores, most) in [(1, 14), (2, 10), (3, 6), (4, 4)] {
            let text = populate(LINUX, most, cores).unwrap();
            let document = parse(&text).unwrap();
            let counts = document
                .descendants()
                .filter(|n| n.has_tag_name("cap_gspace_view"))
                .map(|n| {
                    n.attribute("count")
                        .map_or(1, |count| number(count).unwrap())
                });
            let counts: Vec<u64> = counts.collect();
            assert_eq!(counts.len() as u64, cores + 1);
            let (largest, sum) = (counts.iter().max().unwrap(), counts.iter().sum::<u64>());
            let fits = |more| {
                let slots = symbol::VIEW_SLOT as u64 + largest + more <= symbol::VCPU_SLOT as u64;
                slots && sum + cores * more <= limits::GSPACE_VIEWS as u64
            };
            // One processor more has three views at each instance.
            assert!(fits(0) && !fits(3), "{counts:?}");
            let error = populate(LINUX, most + 1, cores).unwrap_err();
            assert!(error.contains(&format!("at most {most} ")), "{error}");
        }
    }
}
