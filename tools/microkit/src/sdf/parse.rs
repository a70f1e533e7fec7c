// SPDX-License-Identifier: BSD-2-Clause
//! The grammar: elements, attributes and their own ranges.

use super::attributes::{Element, place};
use super::{
    End, Grant, GrantKind, Irq, Map, MemoryRegion, Parent, Place, Problem, ProtectionDomain,
    SdfError, SetVar, SetVarValue, System,
};
use crate::board::Board;
use crate::symbols;
use partita_abi::{address_space, microkit};
use partita_capdl::Trigger;
use roxmltree::{Document, Node, NodeId};
use std::collections::HashMap;
use std::sync::Arc;

/// Highest channel, interrupt or child id.
pub(super) const MAX_ID: u64 = microkit::MAX_CHANNELS as u64 - 1;
/// Priority of the monitor and the initialiser; protection domains stay below.
pub(super) const MAX_PRIORITY: u64 = address_space::MAX_PRIORITY as u64 - 1;
const DEFAULT_BUDGET_US: u64 = 1000;
/// Page sizes, log2.
pub(crate) const PAGE_BITS: [u8; 3] = [12, 16, 21];

pub(super) struct Parser<'b> {
    pub(super) file: Arc<str>,
    pub(super) board: &'b Board,
    regions: HashMap<String, usize>,
    pub(super) pd_names: HashMap<String, usize>,
    pub(super) vm_names: HashMap<String, usize>,
    pub(super) vm_nodes: HashMap<NodeId, usize>,
    pub(super) system: System,
}

/// The text of a system description. `file` is only used in messages.
///
/// # Errors
/// [`Problem::NotUtf8`], with the place of the first byte that is not.
pub fn text<'t>(file: &str, bytes: &'t [u8]) -> Result<&'t str, SdfError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let line = before.rsplit('\n').next().unwrap_or_default();
        SdfError {
            place: Place {
                file: file.into(),
                row: before.matches('\n').count() as u32 + 1,
                col: line.chars().count() as u32 + 1,
                element: "".into(),
            },
            problem: Problem::NotUtf8,
        }
    })
}

/// Reads a system description. `file` is only used in messages.
///
/// # Errors
/// The first [`SdfError`].
pub fn parse(file: &str, text: &str, board: &Board) -> Result<System, SdfError> {
    let file: Arc<str> = file.into();
    let document = Document::parse(text).map_err(|error| {
        let pos = error.pos();
        SdfError {
            place: Place {
                file: file.clone(),
                row: pos.row,
                col: pos.col,
                element: "".into(),
            },
            problem: Problem::Xml(error.to_string()),
        }
    })?;
    let mut parser = Parser {
        file,
        board,
        regions: HashMap::new(),
        pd_names: HashMap::new(),
        vm_names: HashMap::new(),
        vm_nodes: HashMap::new(),
        system: System {
            pds: Vec::new(),
            regions: Vec::new(),
            channels: Vec::new(),
            vms: Vec::new(),
        },
    };
    parser.system(document.root_element())?;
    Ok(parser.system)
}

impl Parser<'_> {
    pub(super) fn element<'a, 'i>(
        &self,
        node: Node<'a, 'i>,
        allowed: &[&str],
    ) -> Result<Element<'a, 'i>, SdfError> {
        Element::new(&self.file, node, allowed)
    }

    pub(super) fn error(&self, node: Node<'_, '_>, problem: Problem) -> SdfError {
        SdfError {
            place: place(&self.file, node),
            problem,
        }
    }

    /// Domains may refer to regions and virtual machines and, in `<cspace>`, `<channel>` and
    /// `<route>`, to domains that stand further down: so regions and the attributes of virtual
    /// machines first, then domains, then what needs their names.
    fn system(&mut self, root: Node<'_, '_>) -> Result<(), SdfError> {
        if root.tag_name().name() != "system" {
            return Err(self.error(root, Problem::Root));
        }
        let system = self.element(root, &[])?;
        let children = system.children()?;
        for &child in &children {
            match child.tag_name().name() {
                "protection_domain" | "channel" => (),
                "memory_region" => self.memory_region(child)?,
                "io_address_space" => {
                    return Err(self.error(child, Problem::Unsupported("an I/O address space")));
                }
                "domains" => {
                    return Err(self.error(child, Problem::Unsupported("the domain scheduler")));
                }
                "virtual_machine" => return Err(self.virtual_machine(child)),
                _ => return Err(self.error(child, Problem::UnknownElement)),
            }
        }
        self.declare_virtual_machines(root)?;
        let named = |name: &'static str| {
            children
                .iter()
                .copied()
                .filter(move |c| c.tag_name().name() == name)
        };
        let mut cspaces = Vec::new();
        for child in named("protection_domain") {
            self.protection_domain(child, None, &mut cspaces)?;
        }
        if self.system.pds.is_empty() {
            return Err(system.error(Problem::NoPds));
        }
        self.routes(root)?;
        for (pd, node) in cspaces {
            self.cspace(node, pd)?;
        }
        for child in named("channel") {
            self.channel(child)?;
        }
        Ok(())
    }

    fn virtual_machine(&self, node: Node<'_, '_>) -> SdfError {
        self.error(node, Problem::Unsupported("a virtual machine here"))
    }

    pub(super) fn name(&self, element: &Element<'_, '_>) -> Result<String, SdfError> {
        let name = element.required_text("name")?.to_string();
        let max = microkit::MAX_NAME - 1;
        if name.len() > max {
            return Err(element.error(Problem::NameTooLong { name, max }));
        }
        if !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        {
            return Err(element.error(Problem::NameCharacters(name)));
        }
        Ok(name)
    }

    fn memory_region(&mut self, node: Node<'_, '_>) -> Result<(), SdfError> {
        let element = self.element(
            node,
            &[
                "name",
                "size",
                "page_size",
                "phys_addr",
                "prefill_path",
                "prefill_bootinfo",
            ],
        )?;
        element.no_children()?;
        if element.has("prefill_bootinfo") {
            return Err(element.error(Problem::Unsupported("prefill_bootinfo")));
        }
        let name = self.name(&element)?;
        if let Some(&other) = self.regions.get(&name) {
            let row = self.system.regions[other].place.row;
            return Err(element.error(Problem::DuplicateRegion { name, row }));
        }
        let page_bits = match element.number("page_size")? {
            None => None,
            Some(size) => {
                let bits = PAGE_BITS.into_iter().find(|&bits| 1 << bits == size);
                Some(bits.ok_or_else(|| {
                    element.error(Problem::NotOneOf {
                        attribute: "page_size",
                        value: format!("{size:#x}"),
                        known: "0x1000, 0x10000, 0x200000",
                    })
                })?)
            }
        };
        let page = 1 << page_bits.unwrap_or(PAGE_BITS[0]);
        let prefill_path = element.text("prefill_path")?.map(str::to_string);
        let size = match element.number_in("size", 1, 1 << 46)? {
            Some(size) => Some(element.aligned("size", size, page)?),
            None if prefill_path.is_some() => None,
            None => return Err(element.error(Problem::MissingSize)),
        };
        let phys_addr = match element.number_in("phys_addr", 0, 1 << 52)? {
            Some(_) if prefill_path.is_some() => {
                return Err(element.error(Problem::PrefillAtAddress));
            }
            Some(paddr) => Some(element.aligned("phys_addr", paddr, page)?),
            None => None,
        };
        self.regions.insert(name.clone(), self.system.regions.len());
        self.system.regions.push(MemoryRegion {
            place: element.place(),
            name,
            size,
            page_bits,
            phys_addr,
            prefill_path,
            text: None,
            guest_image: false,
        });
        Ok(())
    }

    fn protection_domain<'a, 'i>(
        &mut self,
        node: Node<'a, 'i>,
        parent: Option<usize>,
        cspaces: &mut Vec<(usize, Node<'a, 'i>)>,
    ) -> Result<(), SdfError> {
        let element = self.element(
            node,
            &[
                "name",
                "priority",
                "budget",
                "period",
                "passive",
                "stack_size",
                "cpu",
                "fpu",
                "id",
                "setvar_id",
                "domain",
                "smc",
            ],
        )?;
        if element.has("domain") {
            return Err(element.error(Problem::Unsupported("attribute 'domain'")));
        }
        if element.has("smc") {
            return Err(element.error(Problem::Unsupported("attribute 'smc'")));
        }
        let name = self.name(&element)?;
        if name == "monitor" {
            return Err(element.error(Problem::ReservedName));
        }
        if let Some(&other) = self.pd_names.get(&name) {
            let row = self.system.pds[other].place.row;
            return Err(element.error(Problem::DuplicatePd { name, row }));
        }
        let index = self.system.pds.len();
        if index == microkit::MAX_PDS {
            return Err(element.error(Problem::TooManyPds(microkit::MAX_PDS)));
        }
        let parent = match parent {
            None if element.has("id") || element.has("setvar_id") => {
                return Err(element.error(Problem::IdWithoutParent));
            }
            None => None,
            Some(pd) => Some(Parent {
                pd,
                id: element.required_number_in("id", 0, MAX_ID)? as u8,
            }),
        };
        if element.bool_or("fpu", false)? {
            return Err(element.error(Problem::Fpu));
        }
        let (budget, period) = self.budget(&element, DEFAULT_BUDGET_US)?;
        let stack_size = element
            .number_in(
                "stack_size",
                microkit::MIN_STACK as u64,
                microkit::MAX_STACK as u64,
            )?
            .unwrap_or(microkit::DEFAULT_STACK as u64);
        let stack_size =
            element.aligned("stack_size", stack_size, 1 << address_space::PAGE_BITS)?;
        let cpus = u64::from(self.board.max_cores) - 1;
        let pd = ProtectionDomain {
            place: element.place(),
            priority: element.number_in("priority", 0, MAX_PRIORITY)?.unwrap_or(0) as u8,
            budget,
            period,
            passive: element.bool_or("passive", false)?,
            stack_size,
            cpu: element.number_in("cpu", 0, cpus)?.unwrap_or(0) as u32,
            parent,
            program_place: element.place(),
            program: String::new(),
            program_for_symbols: None,
            maps: Vec::new(),
            irqs: Vec::new(),
            setvars: Vec::new(),
            grants: Vec::new(),
            name: name.clone(),
        };
        let child_setvar = element.text("setvar_id")?;
        self.pd_names.insert(name, index);
        self.system.pds.push(pd);
        if let (Some(parent), Some(symbol)) = (parent, child_setvar) {
            let value = SetVarValue::Number(parent.id.into());
            self.setvar(parent.pd, &element, symbol, value)?;
        }

        let mut programs = 0;
        let mut has_cspace = false;
        let mut has_vm = false;
        for child in element.children()? {
            match child.tag_name().name() {
                "program_image" => {
                    programs += 1;
                    self.program_image(child, index)?;
                }
                "map" => self.map(child, index)?,
                "irq" => self.irq(child, index)?,
                "setvar" => self.setvar_element(child, index)?,
                "protection_domain" => self.protection_domain(child, Some(index), cspaces)?,
                "cspace" if has_cspace => return Err(self.error(child, Problem::SecondCspace)),
                "cspace" => {
                    has_cspace = true;
                    cspaces.push((index, child));
                }
                "virtual_machine" if has_vm => return Err(self.error(child, Problem::SecondVm)),
                "virtual_machine" => {
                    has_vm = true;
                    self.vcpus(child, index)?;
                }
                "ioport" => return Err(self.error(child, Problem::Unsupported("an I/O port"))),
                _ => return Err(self.error(child, Problem::UnknownElement)),
            }
        }
        if programs != 1 {
            return Err(element.error(Problem::ProgramImages(programs)));
        }
        Ok(())
    }

    fn program_image(&mut self, node: Node<'_, '_>, pd: usize) -> Result<(), SdfError> {
        let element = self.element(node, &["path", "path_for_symbols"])?;
        element.no_children()?;
        let pd = &mut self.system.pds[pd];
        pd.program_place = element.place();
        pd.program = element.required_text("path")?.into();
        pd.program_for_symbols = element.text("path_for_symbols")?.map(str::to_string);
        Ok(())
    }

    fn region(
        &self,
        element: &Element<'_, '_>,
        attribute: &'static str,
    ) -> Result<usize, SdfError> {
        let name = element.required_text(attribute)?;
        self.regions
            .get(name)
            .copied()
            .ok_or_else(|| element.error(Problem::UnknownRegion(name.into())))
    }

    fn map(&mut self, node: Node<'_, '_>, pd: usize) -> Result<(), SdfError> {
        if node.has_attribute("vm_image") {
            return self.map_image(node, pd);
        }
        let element = self.element(
            node,
            &[
                "mr",
                "vaddr",
                "perms",
                "cached",
                "setvar_vaddr",
                "setvar_size",
                "setvar_prefill_size",
            ],
        )?;
        element.no_children()?;
        let region = self.region(&element, "mr")?;
        let vaddr = element.required_number("vaddr")?;
        let vaddr = element.aligned("vaddr", vaddr, 1 << address_space::PAGE_BITS)?;
        let perms = element.text("perms")?.unwrap_or("rw");
        let count = |letter| perms.matches(letter).count();
        let (r, w, x) = (count('r'), count('w'), count('x'));
        if r != 1 || w > 1 || x > 1 || r + w + x != perms.len() {
            return Err(element.error(Problem::Perms(perms.into())));
        }
        let map = Map {
            place: element.place(),
            region,
            vaddr,
            write: w == 1,
            execute: x == 1,
        };
        // Only looked at: what it maps decides (DIFFERENCES.md).
        element.bool_or("cached", true)?;
        if element.has("setvar_prefill_size") && self.system.regions[region].prefill_path.is_none()
        {
            let name = self.system.regions[region].name.clone();
            return Err(element.error(Problem::NotPrefilled(name)));
        }
        self.system.pds[pd].maps.push(map);
        for (attribute, value) in [
            ("setvar_vaddr", SetVarValue::Number(vaddr)),
            ("setvar_size", SetVarValue::Size(region)),
            ("setvar_prefill_size", SetVarValue::PrefillSize(region)),
        ] {
            if let Some(symbol) = element.text(attribute)? {
                self.setvar(pd, &element, symbol, value)?;
            }
        }
        Ok(())
    }

    fn irq(&mut self, node: Node<'_, '_>, pd: usize) -> Result<(), SdfError> {
        for name in ["pin", "vector", "ioapic", "polarity", "pcidev", "handle"] {
            if node.has_attribute(name) {
                return Err(self.error(node, Problem::Unsupported("an x86 interrupt")));
            }
        }
        let element = self.element(node, &["irq", "id", "trigger", "setvar_id"])?;
        element.no_children()?;
        let trigger = match element.text("trigger")? {
            None | Some("level") => Trigger::Level,
            Some("edge") => Trigger::Edge,
            Some(other) => {
                return Err(element.error(Problem::NotOneOf {
                    attribute: "trigger",
                    value: other.into(),
                    known: "level, edge",
                }));
            }
        };
        let id = element.required_number_in("id", 0, MAX_ID)? as u8;
        let irq = element.required_number_in("irq", 0, u64::from(u32::MAX))?;
        self.system.pds[pd].irqs.push(Irq {
            place: element.place(),
            irq,
            id,
            trigger,
        });
        if let Some(symbol) = element.text("setvar_id")? {
            self.setvar(pd, &element, symbol, SetVarValue::Number(id.into()))?;
        }
        Ok(())
    }

    fn setvar_element(&mut self, node: Node<'_, '_>, pd: usize) -> Result<(), SdfError> {
        if node.has_attribute("vm") {
            return self.setvar_of_vm(node, pd);
        }
        let element = self.element(node, &["symbol", "region_paddr"])?;
        element.no_children()?;
        let symbol = element.required_text("symbol")?;
        let region = self.region(&element, "region_paddr")?;
        self.setvar(pd, &element, symbol, SetVarValue::Paddr(region))
    }

    pub(super) fn setvar(
        &mut self,
        pd: usize,
        element: &Element<'_, '_>,
        symbol: &str,
        value: SetVarValue,
    ) -> Result<(), SdfError> {
        if symbols::OWN.contains(&symbol) {
            return Err(element.error(Problem::OwnSymbol(symbol.into())));
        }
        let setvars = &mut self.system.pds[pd].setvars;
        if let Some(other) = setvars.iter().find(|s| s.symbol == symbol) {
            let (symbol, row) = (symbol.to_string(), other.place.row);
            return Err(element.error(Problem::DuplicateSetVar { symbol, row }));
        }
        setvars.push(SetVar {
            place: element.place(),
            symbol: symbol.into(),
            value,
        });
        Ok(())
    }

    pub(super) fn pd(&self, element: &Element<'_, '_>) -> Result<usize, SdfError> {
        let name = element.required_text("pd")?;
        self.pd_names
            .get(name)
            .copied()
            .ok_or_else(|| element.error(Problem::UnknownPd(name.into())))
    }

    fn cspace(&mut self, node: Node<'_, '_>, pd: usize) -> Result<(), SdfError> {
        for child in self.element(node, &[])?.children()? {
            let (element, kind) = match child.tag_name().name() {
                name @ ("cap_tcb" | "cap_sc" | "cap_vspace") => {
                    let element = self.element(child, &["slot", "pd"])?;
                    let of = self.pd(&element)?;
                    let kind = match name {
                        "cap_tcb" => GrantKind::Tcb(of),
                        "cap_sc" => GrantKind::SchedContext(of),
                        _ => GrantKind::VSpace(of),
                    };
                    (element, kind)
                }
                _ => self.guest_grant(child, pd)?,
            };
            element.no_children()?;
            let max = (1 << microkit::ROOT_CNODE_BITS) - 1;
            let slot = element.required_number_in("slot", 1, max)? as u32;
            let grant = Grant {
                place: element.place(),
                kind,
                slot,
            };
            let (slots, max) = (grant.slots(), max as u32);
            if slots.end - 1 > max {
                return Err(element.error(Problem::SlotsBeyond {
                    first: slot,
                    last: slots.end - 1,
                    max,
                }));
            }
            let grants = &mut self.system.pds[pd].grants;
            for slot in slots {
                if let Some(other) = grants.iter().find(|g| g.slots().contains(&slot)) {
                    let row = other.place.row;
                    return Err(element.error(Problem::DuplicateSlot { slot, row }));
                }
            }
            grants.push(grant);
        }
        Ok(())
    }

    fn channel(&mut self, node: Node<'_, '_>) -> Result<(), SdfError> {
        let element = self.element(node, &[])?;
        let mut ends = Vec::new();
        for child in element.children()? {
            if child.tag_name().name() != "end" {
                return Err(self.error(child, Problem::UnknownElement));
            }
            let end = self.element(child, &["pd", "id", "pp", "notify", "setvar_id"])?;
            end.no_children()?;
            let pd = self.pd(&end)?;
            let id = end.required_number_in("id", 0, MAX_ID)? as u8;
            if let Some(symbol) = end.text("setvar_id")? {
                self.setvar(pd, &end, symbol, SetVarValue::Number(id.into()))?;
            }
            ends.push(End {
                place: end.place(),
                pd,
                id,
                pp: end.bool_or("pp", false)?,
                notify: end.bool_or("notify", true)?,
            });
        }
        let count = ends.len();
        let ends = ends
            .try_into()
            .map_err(|_| element.error(Problem::Ends(count)))?;
        self.system.channels.push(ends);
        Ok(())
    }
}
