// SPDX-License-Identifier: BSD-2-Clause
//! The grammar of what has to do with guests.

use super::attributes::Element;
use super::guest::{Route, Target, Vcpu, VirtualMachine};
use super::parse::{MAX_ID, MAX_PRIORITY, Parser};
use super::{GrantKind, Map, MemoryRegion, Problem, SdfError, SetVarValue};
use partita_abi::{CapRights, address_space, limits, microkit};
use partita_papr::HptOrder;
use roxmltree::Node;
use std::sync::Arc;

const DEFAULT_BUDGET_US: u64 = 10_000;
/// Granule of a guest's memory.
const MEMORY_STEP: u64 = 16 << 20;
/// What a GSpace can address.
const MAX_MEMORY: u64 = (limits::GSPACE_GIB as u64) << 30;
const MIN_ORDER: u8 = HptOrder::MIN as u8;
const MAX_ORDER: u8 = HptOrder::MAX as u8;
/// Largest table that the kernel shows to a domain.
const MAX_VIEW_ORDER: u8 = limits::HPT_VIEW_MAX_ORDER as u8;
const DEFAULT_VRMA_BITS: u8 = 16;
const MAX_CNODE_RADIX: u64 = 20;
const MAX_UNTYPED_BITS: u64 = 47;
/// Slots of a root CNode that a domain can use.
const MAX_COUNT: u64 = 63;
const VM_ATTRIBUTES: [&str; 11] = [
    "name",
    "priority",
    "budget",
    "period",
    "memory",
    "max_memory",
    "hpt_order",
    "vrma_page",
    "kernel",
    "initrd",
    "cmdline",
];
/// The parts of a guest that a domain can map.
const KINDS: [&str; 3] = ["kernel", "initrd", "cmdline"];

fn virtual_machines<'a, 'i>(root: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    root.descendants().filter(|n| {
        n.has_tag_name("virtual_machine")
            && n.parent()
                .is_some_and(|p| p.has_tag_name("protection_domain"))
    })
}

impl Parser<'_> {
    /// The attributes of all virtual machines, so that any domain can refer to them.
    pub(super) fn declare_virtual_machines(&mut self, root: Node<'_, '_>) -> Result<(), SdfError> {
        virtual_machines(root).try_for_each(|node| self.declare(node))
    }

    fn declare(&mut self, node: Node<'_, '_>) -> Result<(), SdfError> {
        let element = self.element(node, &VM_ATTRIBUTES)?;
        element.children()?;
        let name = self.name(&element)?;
        if let Some(&other) = self.vm_names.get(&name) {
            let row = self.system.vms[other].place.row;
            return Err(element.error(Problem::DuplicateVm { name, row }));
        }
        let (budget, period) = self.budget(&element, DEFAULT_BUDGET_US)?;
        let memory = element.required_number_in("memory", MEMORY_STEP, MAX_MEMORY)?;
        let memory = element.aligned("memory", memory, MEMORY_STEP)?;
        let max_memory = match element.number_in("max_memory", memory, MAX_MEMORY)? {
            Some(end) => element.aligned("max_memory", end, MEMORY_STEP)?,
            None => memory,
        };
        let natural = (memory / 64).next_power_of_two().ilog2() as u8;
        let hpt_order = element
            .number_in("hpt_order", MIN_ORDER.into(), MAX_ORDER.into())?
            .map_or(natural.max(MIN_ORDER), |order| order as u8);
        let vrma_bits = match element.number("vrma_page")? {
            None => DEFAULT_VRMA_BITS,
            Some(0x1000) => 12,
            Some(0x1_0000) => 16,
            Some(0x100_0000) => 24,
            Some(other) => {
                return Err(element.error(Problem::NotOneOf {
                    attribute: "vrma_page",
                    value: format!("{other:#x}"),
                    known: "0x1000, 0x10000, 0x1000000",
                }));
            }
        };
        let kernel = element.required_text("kernel")?;
        let image = |kind: &str, path: Option<&str>, text: Option<&str>| MemoryRegion {
            place: element.place(),
            name: format!("{name}@{kind}"),
            size: None,
            page_bits: None,
            phys_addr: None,
            prefill_path: path.map(str::to_string),
            text: text.map(|t| Arc::new(t.as_bytes().to_vec())),
            guest_image: true,
        };
        let regions = &mut self.system.regions;
        let mut add = |region| {
            regions.push(region);
            regions.len() - 1
        };
        let kernel = add(image("kernel", Some(kernel), None));
        let initrd = element
            .text("initrd")?
            .map(|path| add(image("initrd", Some(path), None)));
        let cmdline = element
            .text("cmdline")?
            .map(|text| add(image("cmdline", None, Some(text))));
        let vm = VirtualMachine {
            place: element.place(),
            pd: 0,
            priority: element.number_in("priority", 0, MAX_PRIORITY)?.unwrap_or(0) as u8,
            budget,
            period,
            memory,
            max_memory,
            hpt_order,
            vrma_bits,
            kernel,
            initrd,
            cmdline,
            vcpus: Vec::new(),
            routes: Vec::new(),
            name: name.clone(),
        };
        let index = self.system.vms.len();
        self.vm_names.insert(name, index);
        self.vm_nodes.insert(node.id(), index);
        self.system.vms.push(vm);
        Ok(())
    }

    /// `budget` and `period`, microseconds.
    pub(super) fn budget(
        &self,
        element: &Element<'_, '_>,
        default: u64,
    ) -> Result<(u64, u64), SdfError> {
        let (least, most) = (limits::MIN_BUDGET_US as u64, u64::from(u32::MAX));
        let budget = element.number_in("budget", least, most)?.unwrap_or(default);
        let period = element.number_in("period", least, most)?.unwrap_or(budget);
        if budget > period {
            return Err(element.error(Problem::BudgetOverPeriod { budget, period }));
        }
        Ok((budget, period))
    }

    /// The children of a virtual machine in domain `pd`, but for the routes.
    pub(super) fn vcpus(&mut self, node: Node<'_, '_>, pd: usize) -> Result<(), SdfError> {
        let vm = self.vm_nodes[&node.id()];
        self.system.vms[vm].pd = pd;
        for child in node.children().filter(Node::is_element) {
            match child.tag_name().name() {
                "vcpu" => self.vcpu(child, pd, vm)?,
                "route" => (),
                "map" => return Err(self.error(child, Problem::MapInVm)),
                _ => return Err(self.error(child, Problem::UnknownElement)),
            }
        }
        match self.system.vms[vm].vcpus.is_empty() {
            true => Err(self.error(node, Problem::NoVcpus)),
            false => Ok(()),
        }
    }

    fn vcpu(&mut self, node: Node<'_, '_>, pd: usize, vm: usize) -> Result<(), SdfError> {
        let element = self.element(node, &["id", "cpu", "setvar_id"])?;
        element.no_children()?;
        let id = element.required_number_in("id", 0, MAX_ID)? as u8;
        let cpus = u64::from(self.board.max_cores) - 1;
        let cpu = element
            .number_in("cpu", 0, cpus)?
            .map_or(self.system.pds[pd].cpu, |cpu| cpu as u32);
        if let Some(symbol) = element.text("setvar_id")? {
            self.setvar(pd, &element, symbol, SetVarValue::Number(id.into()))?;
        }
        let place = element.place();
        self.system.vms[vm].vcpus.push(Vcpu { place, id, cpu });
        Ok(())
    }

    /// All routes, when the domains are known.
    pub(super) fn routes(&mut self, root: Node<'_, '_>) -> Result<(), SdfError> {
        for node in virtual_machines(root) {
            let vm = self.vm_nodes[&node.id()];
            for child in node.children().filter(|c| c.has_tag_name("route")) {
                let route = self.route(child)?;
                self.system.vms[vm].routes.push(route);
            }
        }
        Ok(())
    }

    fn route(&self, node: Node<'_, '_>) -> Result<Route, SdfError> {
        let element = self.element(node, &["pd", "id", "hypercalls", "exits"])?;
        element.no_children()?;
        let pd = self.pd(&element)?;
        let mut targets = Vec::new();
        for word in element.text("hypercalls")?.unwrap_or("").split_whitespace() {
            let target = Target::hypercall(word);
            let unknown = || element.error(Problem::UnknownHypercall(word.into()));
            targets.push(target.ok_or_else(unknown)?);
        }
        let id = match targets.is_empty() {
            true => element.number_in("id", 0, MAX_ID)?,
            false => Some(element.required_number_in("id", 0, MAX_ID)?),
        };
        for word in element.text("exits")?.unwrap_or("").split_whitespace() {
            let unknown = || element.error(Problem::UnknownExit(word.into()));
            targets.push(Target::exit(word).ok_or_else(unknown)?);
        }
        if targets.is_empty() {
            return Err(element.error(Problem::EmptyRoute));
        }
        Ok(Route {
            place: element.place(),
            pd,
            id: id.map(|id| id as u8),
            targets,
        })
    }

    fn vm(&self, element: &Element<'_, '_>, attribute: &'static str) -> Result<usize, SdfError> {
        let name = element.required_text(attribute)?;
        self.vm_names
            .get(name)
            .copied()
            .ok_or_else(|| element.error(Problem::UnknownVm(name.into())))
    }

    fn vm_part(&self, vm: usize, kind: &str) -> Option<usize> {
        let vm = &self.system.vms[vm];
        match kind {
            "kernel" => Some(vm.kernel),
            "initrd" => vm.initrd,
            _ => vm.cmdline,
        }
    }

    /// `<map vm_image …>`.
    pub(super) fn map_image(&mut self, node: Node<'_, '_>, pd: usize) -> Result<(), SdfError> {
        let element = self.element(
            node,
            &["vm_image", "kind", "vaddr", "setvar_vaddr", "setvar_size"],
        )?;
        element.no_children()?;
        let vm = self.vm(&element, "vm_image")?;
        let kind = element.required_text("kind")?;
        let Some(kind) = KINDS.into_iter().find(|k| *k == kind) else {
            return Err(element.error(Problem::NotOneOf {
                attribute: "kind",
                value: kind.into(),
                known: "kernel, initrd, cmdline",
            }));
        };
        let region = self.vm_part(vm, kind).ok_or_else(|| {
            let vm = self.system.vms[vm].name.clone();
            element.error(Problem::NoImage { vm, kind })
        })?;
        let vaddr = element.required_number("vaddr")?;
        let vaddr = element.aligned("vaddr", vaddr, 1 << address_space::PAGE_BITS)?;
        self.system.pds[pd].maps.push(Map {
            place: element.place(),
            region,
            vaddr,
            write: false,
            execute: false,
        });
        for (attribute, value) in [
            ("setvar_vaddr", SetVarValue::Number(vaddr)),
            ("setvar_size", SetVarValue::PrefillSize(region)),
        ] {
            if let Some(symbol) = element.text(attribute)? {
                self.setvar(pd, &element, symbol, value)?;
            }
        }
        Ok(())
    }

    /// `<setvar vm …>`.
    pub(super) fn setvar_of_vm(&mut self, node: Node<'_, '_>, pd: usize) -> Result<(), SdfError> {
        let element = self.element(node, &["symbol", "vm", "value"])?;
        element.no_children()?;
        let symbol = element.required_text("symbol")?;
        let index = self.vm(&element, "vm")?;
        let what = element.required_text("value")?;
        let vm = &self.system.vms[index];
        let number = SetVarValue::Number;
        let value = match what {
            "memory" => number(vm.memory),
            "max_memory" => number(vm.max_memory),
            "hpt_order" => number(vm.hpt_order.into()),
            "vrma_page" => number(1 << vm.vrma_bits),
            "cpu" => number(self.system.pds[pd].cpu.into()),
            "name" => {
                let mut text = [0; 8];
                let bytes = vm.name.bytes().take(text.len());
                text.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
                number(u64::from_le_bytes(text))
            }
            // Not all vCPUs are known yet.
            "vcpus" => SetVarValue::Vcpus(index),
            _ => match what.strip_suffix("_size").filter(|k| KINDS.contains(k)) {
                Some(kind) => self
                    .vm_part(index, kind)
                    .map_or(number(0), SetVarValue::PrefillSize),
                None => {
                    return Err(element.error(Problem::NotOneOf {
                        attribute: "value",
                        value: what.into(),
                        known: "memory, max_memory, hpt_order, vrma_page, vcpus, cpu, name, \
                                kernel_size, initrd_size, cmdline_size",
                    }));
                }
            },
        };
        self.setvar(pd, &element, symbol, value)
    }

    /// What is granted besides threads and address spaces.
    pub(super) fn guest_grant<'a, 'i>(
        &mut self,
        node: Node<'a, 'i>,
        pd: usize,
    ) -> Result<(Element<'a, 'i>, GrantKind), SdfError> {
        let allowed: &[&str] = match node.tag_name().name() {
            "cap_untyped" => &["slot", "size", "count", "setvar_size", "setvar_count"],
            "cap_cnode" => &["slot", "radix", "setvar_root"],
            "cap_gspace" => &["slot", "vm"],
            "cap_vcpu" => &["slot", "vm", "rights"],
            "cap_gspace_view" => &[
                "slot",
                "vm",
                "rights",
                "count",
                "vaddr",
                "setvar_vaddr",
                "setvar_count",
            ],
            "cap_hpt" => &["slot", "vm", "vaddr", "setvar_vaddr"],
            "cap_timer" => &["slot", "id", "setvar_id"],
            "cap_platform" => &["slot"],
            _ => return Err(self.error(node, Problem::UnknownElement)),
        };
        let element = self.element(node, allowed)?;
        let slot = element.required_number_in("slot", 1, MAX_COUNT)?;
        let mut variables = Vec::new();
        let kind = match node.tag_name().name() {
            "cap_untyped" => {
                let page = 1 << address_space::PAGE_BITS;
                let size = element.required_number_in("size", page, 1 << MAX_UNTYPED_BITS)?;
                if !size.is_power_of_two() {
                    return Err(element.error(Problem::NotAPowerOfTwo {
                        attribute: "size",
                        value: size,
                    }));
                }
                let count = element.number_in("count", 1, MAX_COUNT)?.unwrap_or(1);
                variables = vec![("setvar_size", Some(size)), ("setvar_count", Some(count))];
                GrantKind::Untyped {
                    bits: size.ilog2() as u8,
                    count: count as u32,
                }
            }
            "cap_cnode" => {
                let radix = element.required_number_in("radix", 1, MAX_CNODE_RADIX)? as u8;
                variables = vec![("setvar_root", Some(microkit::CAP_CNODE_BASE as u64 + slot))];
                GrantKind::CNode { radix }
            }
            "cap_gspace" => GrantKind::GSpace(self.vm(&element, "vm")?),
            "cap_vcpu" => {
                let vm = self.vm(&element, "vm")?;
                let count = self.system.vms[vm].vcpus.len() as u32;
                let letters = element.required_text("rights")?;
                let Some(rights) = vcpu_rights(letters) else {
                    return Err(element.error(Problem::VcpuRights(letters.into())));
                };
                GrantKind::VCpu { vm, rights, count }
            }
            "cap_gspace_view" => {
                let vm = self.vm(&element, "vm")?;
                let write = match element.text("rights")? {
                    None | Some("rw") => true,
                    Some("r") => false,
                    Some(other) => return Err(element.error(Problem::ViewRights(other.into()))),
                };
                let count = element.number_in("count", 1, MAX_COUNT)?.unwrap_or(1);
                let vaddr = self.window(&element, 1 << address_space::PAGE_BITS)?;
                variables = vec![("setvar_vaddr", vaddr), ("setvar_count", Some(count))];
                GrantKind::View {
                    vm,
                    write,
                    count: count as u32,
                    vaddr,
                }
            }
            "cap_hpt" => {
                let vm = self.vm(&element, "vm")?;
                let order = self.system.vms[vm].hpt_order;
                let page = if order < 21 { 12 } else { 21 };
                let vaddr = self.window(&element, 1 << page)?;
                if vaddr.is_some() && order > MAX_VIEW_ORDER {
                    let max = MAX_VIEW_ORDER;
                    return Err(element.error(Problem::TableTooLarge { order, max }));
                }
                variables = vec![("setvar_vaddr", vaddr)];
                GrantKind::Hpt { vm, vaddr }
            }
            "cap_timer" => {
                let id = element.required_number_in("id", 0, MAX_ID)?;
                variables = vec![("setvar_id", Some(id))];
                GrantKind::Timer { id: id as u8 }
            }
            _ => GrantKind::Platform,
        };
        for (attribute, value) in variables {
            match (element.text(attribute)?, value) {
                (Some(symbol), Some(value)) => {
                    self.setvar(pd, &element, symbol, SetVarValue::Number(value))?;
                }
                (Some(_), None) => return Err(element.error(Problem::MissingAttribute("vaddr"))),
                (None, _) => (),
            }
        }
        Ok((element, kind))
    }

    fn window(&self, element: &Element<'_, '_>, page: u64) -> Result<Option<u64>, SdfError> {
        element
            .number("vaddr")?
            .map(|vaddr| element.aligned("vaddr", vaddr, page))
            .transpose()
    }
}

/// Rights to a VCPU: read it, control it (write), its entry and dispatch counter (grant reply).
fn vcpu_rights(letters: &str) -> Option<CapRights> {
    let mut rights = CapRights::NONE;
    for letter in letters.chars() {
        let right = match letter {
            'r' => CapRights::READ,
            'w' => CapRights::WRITE,
            'e' => CapRights::GRANT_REPLY,
            _ => return None,
        };
        if rights.contains(right) {
            return None;
        }
        rights = rights.union(right);
    }
    (rights != CapRights::NONE).then_some(rights)
}
