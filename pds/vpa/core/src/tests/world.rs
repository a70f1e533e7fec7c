// SPDX-License-Identifier: BSD-2-Clause
//! A guest of a few vCPUs and two instances of the server.

use crate::*;
use partita_instance::atomic::Ordering;
use partita_papr::hcall::number::H_REGISTER_VPA;
use partita_papr::{Gfn, GuestReal};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

pub const VCPUS: usize = 3;
pub const PAGES: u64 = 16;
pub const CALLER: VcpuId = VcpuId(0);
pub const OTHER: VcpuId = VcpuId(1);

/// What happens when a page is mapped: for interleavings.
pub type Hook = Box<dyn FnOnce()>;
pub type Shared = Rc<RefCell<World>>;

#[derive(Default)]
pub struct World {
    pub pages: BTreeMap<u64, Vec<u8>>,
    /// Pages whose slot is INVALID.
    pub invalid: BTreeSet<u64>,
    /// Pages that have a slot but no frame.
    pub frameless: BTreeSet<u64>,
    /// (instance, view key) -> page.
    pub mapped: BTreeMap<(u32, usize), u64>,
    pub in_guest: [bool; VCPUS],
    pub latched: [bool; VCPUS],
    pub every_dispatch: [bool; VCPUS],
    pub bound: [Option<u64>; VCPUS],
    pub dirty: BTreeSet<u64>,
    /// Guest real addresses of stores, in order.
    pub stores: Vec<u64>,
    pub bind_fails: bool,
    /// What happens between the kernel's answer to the next request for an entry and its use.
    pub on_request: Option<Hook>,
    /// What the kernel was asked.
    pub calls: Calls,
}

/// How often the kernel was asked for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    pub maps: u32,
    pub unmaps: u32,
    pub binds: u32,
    pub unbinds: u32,
    pub requests: u32,
}

impl World {
    pub fn new() -> Shared {
        let mut world = World::default();
        for page in 0..PAGES {
            world.pages.insert(page, vec![0; 4096]);
        }
        Rc::new(RefCell::new(world))
    }

    pub fn read(&self, gpa: u64, size: usize) -> u64 {
        let at = (gpa % 4096) as usize;
        let bytes = &self.pages[&(gpa / 4096)][at..at + size];
        bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    pub fn write(&mut self, gpa: u64, size: usize, value: u64) {
        let at = (gpa % 4096) as usize;
        let page = self.pages.get_mut(&(gpa / 4096)).unwrap();
        page[at..at + size].copy_from_slice(&value.to_be_bytes()[8 - size..]);
    }

    /// Pages that any instance has a view of.
    pub fn pins(&self) -> BTreeSet<u64> {
        self.mapped.values().copied().collect()
    }
}

fn key(view: View) -> usize {
    match view {
        View::Scratch => 1000,
        View::Area(vcpu, area) => vcpu.0 as usize * 3 + area as usize,
    }
}

pub struct Memory {
    pub world: Shared,
    instance: u32,
    pub on_map: Option<Hook>,
    pub on_every_map: Option<Box<dyn FnMut()>>,
}

impl Memory {
    fn gpa(&self, view: View, offset: u64, size: u64) -> u64 {
        assert!(
            offset + size <= 4096 && offset.is_multiple_of(size),
            "{view:?} {offset:#x}"
        );
        let world = self.world.borrow();
        let page = world.mapped.get(&(self.instance, key(view)));
        page.unwrap_or_else(|| panic!("{view:?} is used but not mapped")) * 4096 + offset
    }

    fn load(&self, view: View, offset: u64, size: usize) -> u64 {
        let gpa = self.gpa(view, offset, size as u64);
        self.world.borrow().read(gpa, size)
    }

    fn store(&mut self, view: View, offset: u64, size: usize, value: u64) {
        let gpa = self.gpa(view, offset, size as u64);
        let mut world = self.world.borrow_mut();
        // A guest that registers one page for two vCPUs mixes them up itself.
        if let View::Area(vcpu, _) = view {
            let bound = world.bound[vcpu.0 as usize];
            assert_ne!(bound, Some(gpa), "the bound word is the kernel's");
        }
        world.stores.push(gpa);
        world.write(gpa, size, value);
    }
}

impl GuestMemory for Memory {
    fn in_slot(&self, page: Gfn) -> bool {
        let world = self.world.borrow();
        world.pages.contains_key(&page.get()) && !world.invalid.contains(&page.get())
    }
    fn map(&mut self, view: View, page: Gfn) -> Result<(), MapError> {
        if let (View::Area(..), Some(hook)) = (view, self.on_map.take()) {
            hook();
        }
        if let (View::Area(..), Some(hook)) = (view, self.on_every_map.as_mut()) {
            hook();
        }
        if !self.in_slot(page) {
            return Err(MapError::NoSlot);
        }
        let mut world = self.world.borrow_mut();
        world.calls.maps += 1;
        if world.frameless.contains(&page.get()) {
            return Err(MapError::NoFrame);
        }
        let old = world.mapped.insert((self.instance, key(view)), page.get());
        assert_eq!(old, None, "{view:?} is mapped twice");
        Ok(())
    }
    fn unmap(&mut self, view: View) {
        let mut world = self.world.borrow_mut();
        let page = world.mapped.remove(&(self.instance, key(view)));
        world.calls.unmaps += 1;
        if let (View::Area(vcpu, Area::Vpa), Some(page)) = (view, page)
            && let Some(word) = world.bound[vcpu.0 as usize]
            && !world
                .mapped
                .iter()
                .any(|((_, k), p)| *k == key(view) && *p == page)
        {
            assert_ne!(word / 4096, page, "unmapped while the kernel counts in it");
        }
    }
    fn read_u8(&self, view: View, offset: u64) -> u8 {
        self.load(view, offset, 1) as u8
    }
    fn read_u16(&self, view: View, offset: u64) -> u16 {
        self.load(view, offset, 2) as u16
    }
    fn read_u32(&self, view: View, offset: u64) -> u32 {
        self.load(view, offset, 4) as u32
    }
    fn read_u64(&self, view: View, offset: u64) -> u64 {
        self.load(view, offset, 8)
    }
    fn write_u8(&mut self, view: View, offset: u64, value: u8) {
        self.store(view, offset, 1, value.into());
    }
    fn write_u32(&mut self, view: View, offset: u64, value: u32) {
        self.store(view, offset, 4, value.into());
    }
    fn write_u64(&mut self, view: View, offset: u64, value: u64) {
        self.store(view, offset, 8, value);
    }
    fn page_written(&mut self, page: Gfn) {
        self.world.borrow_mut().dirty.insert(page.get());
    }
}

pub struct FakeKernel(Shared);

impl Kernel for FakeKernel {
    fn request_entry(&mut self, vcpu: VcpuId, every_dispatch: bool) -> EntryState {
        let mut world = self.0.borrow_mut();
        world.every_dispatch[vcpu.0 as usize] = every_dispatch;
        world.calls.requests += 1;
        world.latched[vcpu.0 as usize] = true;
        let state = match world.in_guest[vcpu.0 as usize] {
            true => EntryState::InGuestOrEntering,
            false => EntryState::Out,
        };
        let hook = world.on_request.take();
        drop(world);
        if let Some(hook) = hook {
            hook();
        }
        state
    }
    fn bind_dispatch_counter(&mut self, vcpu: VcpuId, word: GuestReal) -> Result<(), MapError> {
        let mut world = self.0.borrow_mut();
        world.calls.binds += 1;
        if world.bind_fails {
            return Err(MapError::NoSlot);
        }
        world.bound[vcpu.0 as usize] = Some(word.get());
        // The vCPU's scheduling context has a processor: the count becomes even.
        let count = world.read(word.get(), 4);
        world.write(word.get(), 4, count + (count & 1));
        Ok(())
    }
    fn unbind_dispatch_counter(&mut self, vcpu: VcpuId) {
        let mut world = self.0.borrow_mut();
        world.calls.unbinds += 1;
        world.bound[vcpu.0 as usize] = None;
    }
}

pub type TestServer = Server<'static, Memory, FakeKernel>;

/// The slices are leaked, so that a hook can use the machine as well.
#[derive(Clone)]
pub struct Machine {
    pub world: Shared,
    pub shared: &'static [VcpuAreas],
    pub views: [&'static [InstanceViews]; 2],
}

impl Machine {
    pub fn new() -> Self {
        fn many<T: Default>() -> &'static [T] {
            Box::leak((0..VCPUS).map(|_| T::default()).collect())
        }
        Machine {
            world: World::new(),
            shared: many(),
            views: [many(), many()],
        }
    }

    pub fn instance(&self, number: u32) -> TestServer {
        let world = &self.world;
        Server::new(
            self.shared,
            self.views[number as usize],
            Instance(number),
            Memory {
                world: world.clone(),
                instance: number,
                on_map: None,
                on_every_map: None,
            },
            FakeKernel(world.clone()),
        )
    }

    /// An area header as a guest writes it, for all three kinds of length field.
    pub fn header(&self, gpa: u64, vpa: bool, len: u64) {
        self.world
            .borrow_mut()
            .write(gpa + 4, if vpa { 2 } else { 4 }, len);
    }

    pub fn read(&self, gpa: u64, size: usize) -> u64 {
        self.world.borrow().read(gpa, size)
    }

    pub fn write(&self, gpa: u64, size: usize, value: u64) {
        self.world.borrow_mut().write(gpa, size, value);
    }

    /// The pages that the vCPU's areas use.
    pub fn pinned(&self, vcpu: VcpuId) -> Vec<u64> {
        let areas = &self.shared[vcpu.0 as usize];
        Area::ALL
            .into_iter()
            .map(|area| areas.area(area).pinned.load(Ordering::Relaxed))
            .filter(|gpa| *gpa != 0)
            .map(|gpa| gpa / 4096)
            .collect()
    }

    pub fn set_in_guest(&self, vcpu: VcpuId, inside: bool) {
        self.world.borrow_mut().in_guest[vcpu.0 as usize] = inside;
    }
}

pub const ENTRY: Entry = Entry {
    timebase: 0x1111,
    pc: 0xc000_0000_0000_2222,
    msr: 0x8000_0000_0000_3333,
    stolen: 0,
    processor: 5,
    dispatch: None,
};

pub fn call(server: &mut TestServer, caller: VcpuId, sub: u64, vcpu: u64, gpa: u64) -> i64 {
    server.hypercall(
        caller,
        H_REGISTER_VPA,
        &[sub << 45, vcpu, gpa, 0, 0, 0, 0, 0],
    )
}

pub const VPA: u64 = 0x3000;
pub const SLB: u64 = 0x3400;
pub const DTL: u64 = 0x5000;

/// Registers all three for `vcpu` by itself.
pub fn register_all(machine: &Machine, server: &mut TestServer, vcpu: VcpuId) {
    machine.header(VPA, true, 1024);
    machine.header(SLB, false, 128);
    machine.header(DTL, false, 4096);
    for (sub, gpa) in [(1, VPA), (3, SLB), (2, DTL)] {
        assert_eq!(call(server, vcpu, sub, u64::from(vcpu.0), gpa), 0);
    }
}
