// SPDX-License-Identifier: BSD-2-Clause
//! Rules between elements that need nothing but the file.

use super::{GrantKind, Place, Problem, Route, SdfError, System, Target, VirtualMachine};
use partita_abi::limits;
use std::collections::{BTreeSet, HashMap};

fn error(place: &Place, problem: Problem) -> SdfError {
    SdfError {
        place: place.clone(),
        problem,
    }
}

/// Checks ids, interrupts and priorities.
///
/// # Errors
/// The first [`SdfError`].
pub fn check(system: &System) -> Result<(), SdfError> {
    child_ids(system)?;
    irqs(system)?;
    channels(system)?;
    ids(system)?;
    vcpu_ids(system)?;
    for vm in &system.vms {
        priorities(system, vm)?;
        routes(system, vm)?;
    }
    views(system)
}

fn child_ids(system: &System) -> Result<(), SdfError> {
    let mut seen = HashMap::new();
    for pd in &system.pds {
        let Some(parent) = pd.parent else { continue };
        if let Some(row) = seen.insert((parent.pd, parent.id), pd.place.row) {
            return Err(error(
                &pd.place,
                Problem::DuplicateChildId { id: parent.id, row },
            ));
        }
    }
    Ok(())
}

fn irqs(system: &System) -> Result<(), SdfError> {
    let mut seen = HashMap::new();
    for irq in system.pds.iter().flat_map(|pd| &pd.irqs) {
        if let Some(row) = seen.insert(irq.irq, irq.place.row) {
            return Err(error(
                &irq.place,
                Problem::DuplicateIrq { irq: irq.irq, row },
            ));
        }
        if seen.len() > limits::MAX_IRQS {
            return Err(error(&irq.place, Problem::TooManyIrqs(limits::MAX_IRQS)));
        }
    }
    Ok(())
}

fn channels(system: &System) -> Result<(), SdfError> {
    for [a, b] in &system.channels {
        if a.pd == b.pd {
            let name = system.pds[a.pd].name.clone();
            return Err(error(&b.place, Problem::ChannelToSelf(name)));
        }
        if a.pp && b.pp {
            return Err(error(&b.place, Problem::BothPp));
        }
        for (caller, callee) in [(a, b), (b, a)] {
            let (from, to) = (&system.pds[caller.pd], &system.pds[callee.pd]);
            if caller.pp && to.priority <= from.priority {
                return Err(error(
                    &caller.place,
                    Problem::PpPriority {
                        caller: from.name.clone(),
                        caller_priority: from.priority,
                        callee: to.name.clone(),
                        callee_priority: to.priority,
                    },
                ));
            }
        }
    }
    Ok(())
}

/// Channels, routes, timers and interrupts of a domain share one space of ids: the bits of its notification.
fn ids(system: &System) -> Result<(), SdfError> {
    let mut seen: HashMap<(usize, u8), &Place> = HashMap::new();
    let irqs = system
        .pds
        .iter()
        .enumerate()
        .flat_map(|(pd, p)| p.irqs.iter().map(move |irq| (pd, irq.id, &irq.place)));
    let ends = system
        .channels
        .iter()
        .flatten()
        .map(|end| (end.pd, end.id, &end.place));
    let timers = system.pds.iter().enumerate().flat_map(|(pd, p)| {
        p.grants.iter().filter_map(move |grant| match grant.kind {
            GrantKind::Timer { id } => Some((pd, id, &grant.place)),
            _ => None,
        })
    });
    let routes = system
        .vms
        .iter()
        .flat_map(|vm| &vm.routes)
        .filter_map(|route| Some((route.pd, route.id?, &route.place)));
    for (pd, id, place) in irqs.chain(ends).chain(timers).chain(routes) {
        if let Some(other) = seen.insert((pd, id), place) {
            let (element, row) = (other.element.to_string(), other.row);
            return Err(error(place, Problem::DuplicateId { id, element, row }));
        }
    }
    Ok(())
}

/// The badge of a fault or an exit says only the id of child or vCPU: so they are unique at every
/// domain that gets them.
fn vcpu_ids(system: &System) -> Result<(), SdfError> {
    for pd in 0..system.pds.len() {
        let mut seen: HashMap<u8, &Place> = HashMap::new();
        for (child, id) in system.children(pd) {
            seen.insert(id, &system.pds[child].place);
        }
        let machines = system.vms.iter().filter(|vm| vm.concerns(pd));
        for vcpu in machines.flat_map(|vm| &vm.vcpus) {
            if let Some(other) = seen.insert(vcpu.id, &vcpu.place) {
                return Err(error(
                    &vcpu.place,
                    Problem::DuplicateVcpuId {
                        id: vcpu.id,
                        element: other.element.to_string(),
                        row: other.row,
                        pd: system.pds[pd].name.clone(),
                    },
                ));
            }
        }
    }
    Ok(())
}

/// Servers run on the time of the vCPUs: above them, so that they are not interrupted by them.
fn priorities(system: &System, vm: &VirtualMachine) -> Result<(), SdfError> {
    let servers = vm.routes.iter().map(|r| (&r.place, r.pd));
    for (place, pd) in [(&vm.place, vm.pd)].into_iter().chain(servers) {
        let pd = &system.pds[pd];
        if pd.priority <= vm.priority {
            return Err(error(
                place,
                Problem::VcpuPriority {
                    pd: pd.name.clone(),
                    pd_priority: pd.priority,
                    vm: vm.name.clone(),
                    vm_priority: vm.priority,
                },
            ));
        }
    }
    Ok(())
}

fn routes(system: &System, vm: &VirtualMachine) -> Result<(), SdfError> {
    let mut seen: HashMap<(Target, u32), (usize, u32)> = HashMap::new();
    for route in &vm.routes {
        for &target in &route.targets {
            let here = (route.pd, route.place.row);
            if let Some((pd, row)) = seen.insert((target, system.pds[route.pd].cpu), here) {
                let (what, pd) = (target.to_string(), system.pds[pd].name.clone());
                return Err(error(&route.place, Problem::RoutedTwice { what, pd, row }));
            }
        }
    }
    for route in &vm.routes {
        for &target in &route.targets {
            instance_priorities(system, vm, route, target)?;
        }
    }
    let targets: BTreeSet<_> = seen.keys().map(|(target, _)| *target).collect();
    for vcpu in &vm.vcpus {
        for &target in &targets {
            if system.route_on(vm, target, vcpu.cpu).is_none() {
                let (what, core) = (target.to_string(), vcpu.cpu);
                return Err(error(&vcpu.place, Problem::NoRouteOnCore { what, core }));
            }
        }
        if system.endpoints(vm, vcpu.cpu).len() > limits::VCPU_ROUTES {
            return Err(error(
                &vm.place,
                Problem::TooManyRoutes(limits::VCPU_ROUTES),
            ));
        }
    }
    Ok(())
}

/// Instances of a server may meet on one core, and take each other's lock bits: a lower one that holds
/// one would not run while a higher one waits for it.
fn instance_priorities(
    system: &System,
    vm: &VirtualMachine,
    route: &Route,
    target: Target,
) -> Result<(), SdfError> {
    let pd = &system.pds[route.pd];
    for (_, first) in vm.routes_of(target) {
        let other = &system.pds[first.pd];
        if pd.priority != other.priority {
            return Err(error(
                &route.place,
                Problem::InstancePriority {
                    pd: pd.name.clone(),
                    priority: pd.priority,
                    other: other.name.clone(),
                    other_priority: other.priority,
                    what: target.to_string(),
                },
            ));
        }
    }
    Ok(())
}

/// The kernel has room for so many mapped views of a guest.
fn views(system: &System) -> Result<(), SdfError> {
    let mut counts: HashMap<(usize, &str), usize> = HashMap::new();
    for grant in system.pds.iter().flat_map(|pd| &pd.grants) {
        let (vm, what, max, more) = match grant.kind {
            GrantKind::View { vm, count, .. } => {
                (vm, "views", limits::GSPACE_VIEWS, count as usize)
            }
            GrantKind::Hpt { vm, vaddr: Some(_) } => {
                (vm, "windows to the table", limits::HPT_VIEWS, 1)
            }
            _ => continue,
        };
        let count = counts.entry((vm, what)).or_default();
        *count += more;
        if *count > max {
            let vm = system.vms[vm].name.clone();
            return Err(error(&grant.place, Problem::TooManyViews { what, max, vm }));
        }
    }
    Ok(())
}
