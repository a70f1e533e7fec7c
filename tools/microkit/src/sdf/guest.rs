// SPDX-License-Identifier: BSD-2-Clause
//! Virtual machines: what their elements say, and which route a vCPU's exits take.

use super::{Place, System};
use partita_abi::{GuestExit, limits};
use partita_papr::hcall;
use std::fmt;

/// `<virtual_machine>`.
#[derive(Clone, Debug)]
pub struct VirtualMachine {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// The parent: index of the domain it stands in.
    pub pd: usize,
    /// Of its vCPUs, 0 to 254.
    pub priority: u8,
    /// Of each vCPU, microseconds.
    pub budget: u64,
    /// Of each vCPU, microseconds.
    pub period: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Where the guest real addresses end that slots can have, bytes: at least `memory`.
    pub max_memory: u64,
    /// log2 of the bytes of the hash page table.
    pub hpt_order: u8,
    /// log2 of the page size of the virtual real mode area.
    pub vrma_bits: u8,
    /// Region with the kernel's file.
    pub kernel: usize,
    /// Region with the file of the initial RAM disk.
    pub initrd: Option<usize>,
    /// Region with the command line.
    pub cmdline: Option<usize>,
    /// `<vcpu>`.
    pub vcpus: Vec<Vcpu>,
    /// `<route>`.
    pub routes: Vec<Route>,
}

/// `<vcpu>`.
#[derive(Clone, Debug)]
pub struct Vcpu {
    /// Where it stands.
    pub place: Place,
    /// Id at the parent, 0 to 61.
    pub id: u8,
    /// Core.
    pub cpu: u32,
}

/// `<route>`.
#[derive(Clone, Debug)]
pub struct Route {
    /// Where it stands.
    pub place: Place,
    /// Index of the domain that serves it.
    pub pd: usize,
    /// Channel id in that domain, 0 to 61.
    pub id: Option<u8>,
    /// What takes this route.
    pub targets: Vec<Target>,
}

/// Something that leaves a guest and can be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A hypercall with this number.
    Hypercall(u64),
    /// Another exit, `GuestExit` by number.
    Exit(u8),
}

/// One endpoint of a vCPU: an entry of its table of routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Index of the domain that serves it.
    pub pd: usize,
    /// Channel id in that domain.
    pub id: u8,
    /// What goes there.
    pub targets: Vec<Target>,
}

/// Numbers of hypercalls that the kernel can route.
fn routable() -> impl Iterator<Item = u64> {
    let vendor = limits::ROUTED_VENDOR_HYPERCALLS..limits::ROUTED_VENDOR_HYPERCALLS_END;
    (0..limits::ROUTED_HYPERCALLS_END)
        .chain(vendor)
        .step_by(4)
        .map(|n| n as u64)
}

impl Target {
    /// The hypercall with this name or number.
    pub fn hypercall(text: &str) -> Option<Target> {
        let number = super::attributes::number(text);
        routable()
            .find(|&n| Some(n) == number || hcall::number::name(n) == Some(text))
            .map(Target::Hypercall)
    }

    /// The exit with this name. Hypercalls without a route and bad replies go to the parent.
    pub fn exit(text: &str) -> Option<Target> {
        GuestExit::ALL
            .into_iter()
            .filter(|e| {
                !matches!(
                    e,
                    GuestExit::None | GuestExit::Hypercall | GuestExit::BadReply
                )
            })
            .find(|e| e.name() == text)
            .map(|e| Target::Exit(e as u8))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Target::Hypercall(n) => match hcall::number::name(n) {
                Some(name) => f.write_str(name),
                None => write!(f, "{n:#x}"),
            },
            Target::Exit(n) => {
                f.write_str(GuestExit::from_number(n.into()).map_or("?", GuestExit::name))
            }
        }
    }
}

impl VirtualMachine {
    /// Whether a domain gets exits of this machine.
    pub fn concerns(&self, pd: usize) -> bool {
        self.pd == pd || self.routes.iter().any(|r| r.pd == pd)
    }

    /// Routes of a target.
    pub fn routes_of(&self, target: Target) -> impl Iterator<Item = (usize, &Route)> {
        self.routes
            .iter()
            .enumerate()
            .filter(move |(_, r)| r.targets.contains(&target))
    }

    /// The route whose endpoint a route uses: its own, or the machine's first to that domain.
    fn owner(&self, route: usize) -> usize {
        let Route { pd, id, .. } = self.routes[route];
        let to = |with_id: bool| {
            self.routes
                .iter()
                .position(|r| r.pd == pd && r.id.is_some() == with_id)
        };
        match id {
            Some(_) => route,
            None => to(true).or(to(false)).unwrap_or(route),
        }
    }
}

impl System {
    /// The route of a target for a vCPU on `core`: the only one, or the one whose domain is there.
    pub fn route_on(&self, vm: &VirtualMachine, target: Target, core: u32) -> Option<usize> {
        let mut candidates = vm.routes_of(target);
        let first = candidates.next()?.0;
        if candidates.next().is_none() {
            return Some(first);
        }
        vm.routes_of(target)
            .find(|(_, r)| self.pds[r.pd].cpu == core)
            .map(|(i, _)| i)
    }

    /// The endpoints of a vCPU on `core`, in the order of the file, and what goes to each.
    pub fn endpoints(&self, vm: &VirtualMachine, core: u32) -> Vec<Endpoint> {
        let mut list: Vec<(usize, Endpoint)> = Vec::new();
        for (index, route) in vm.routes.iter().enumerate() {
            let targets: Vec<_> = route
                .targets
                .iter()
                .copied()
                .filter(|&t| self.route_on(vm, t, core) == Some(index))
                .collect();
            if targets.is_empty() {
                continue;
            }
            let owner = vm.owner(index);
            match list.iter_mut().find(|(o, _)| *o == owner) {
                Some((_, endpoint)) => endpoint.targets.extend(targets),
                None => {
                    let endpoint = Endpoint {
                        pd: route.pd,
                        id: vm.routes[owner].id.unwrap_or(0),
                        targets,
                    };
                    list.push((owner, endpoint));
                }
            }
        }
        list.into_iter().map(|(_, endpoint)| endpoint).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_names_and_numbers() {
        for text in ["H_ENTER", "0x8", "8"] {
            assert_eq!(Target::hypercall(text), Some(Target::Hypercall(8)));
        }
        let rtas = Target::hypercall("H_RTAS").unwrap();
        assert_eq!(rtas, Target::Hypercall(0xf000));
        assert_eq!(rtas.to_string(), "H_RTAS");
        assert_eq!(Target::Hypercall(0x7fc).to_string(), "0x7fc");
        for text in ["H_NOTHING", "h_enter", "6", "0x800", "0xf040", "-8", ""] {
            assert_eq!(Target::hypercall(text), None, "{text}");
        }
        let storage = Target::exit("DataStorage").unwrap();
        assert_eq!(storage, Target::Exit(GuestExit::DataStorage as u8));
        assert_eq!(storage.to_string(), "DataStorage");
        for text in ["None", "Hypercall", "BadReply", "datastorage"] {
            assert_eq!(Target::exit(text), None, "{text}");
        }
    }
}
