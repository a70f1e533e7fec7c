// SPDX-License-Identifier: BSD-2-Clause
//! A model of what the server stands on: the kernel's side of the table, the GSpace, a processor
//! that sets R and C and caches translations, and `memslots`.
//!
//! It asserts what must hold at every call: a real entry is never written while it is valid or
//! cached, interception is on before an entry is narrowed, no lock bit is held across a call to
//! `memslots`.

use super::std::boxed::Box;
use super::std::collections::{BTreeMap, BTreeSet};
use super::std::vec::Vec;
use crate::chain;
use crate::*;
use core::cell::{Cell, RefCell};
use partita_instance::atomic::{AtomicU64, Ordering};
use partita_papr::hcall::{PROTECT_MASK, number};
use partita_papr::hpte::*;
use partita_papr::{Gfn, HptOrder, PageSize, Ptex, protection};
use partita_srcu::{EpochWord, Slot, SlotFlags, Writer};

/// Pages of the chain array.
pub const GFNS: u64 = 96;
/// Order of the table: the smallest.
pub const ORDER: u32 = 18;
/// Host pages begin here.
const HOST: u64 = 0x40_0000;

/// A page of the GSpace.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    pub host: u64,
    pub writable: bool,
    pub pins: u32,
}

/// How `memslots` answers for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    Ready,
    Busy,
    Refused,
}

#[derive(Clone, Copy, Debug)]
struct Cached {
    ptex: u64,
    host: u64,
    writable: bool,
}

/// Memory of a table and its slots.
pub struct Memory {
    pub rev: Vec<Rev>,
    pub rmap: Vec<AtomicU64>,
    pub real: Vec<RealHpte>,
    pub control: Control,
    pub slots: partita_srcu::Table,
    pub epoch: EpochWord,
}

impl Memory {
    pub fn new(gfns: u64) -> Self {
        let entries = HptOrder::new(ORDER).unwrap().entries();
        Memory {
            rev: (0..entries).map(|_| Rev::new()).collect(),
            rmap: (0..gfns).map(|_| AtomicU64::new(0)).collect(),
            real: (0..entries).map(|_| RealHpte::new(0, 0)).collect(),
            control: Control::default(),
            slots: partita_srcu::Table::new(),
            epoch: EpochWord::new(),
        }
    }

    pub fn hpt<'a>(&'a self, kernel: &'a Kernel<'a>) -> Hpt<'a, &'a Kernel<'a>, &'a Kernel<'a>> {
        let order = HptOrder::new(ORDER).unwrap();
        let state =
            State::new(order, &self.rev, &self.rmap, &self.real, &self.control).expect("sizes");
        let reader = partita_srcu::Reader::new(&self.slots, &self.epoch);
        Hpt::new(state, reader, kernel, kernel, PageSize::Size64K)
    }

    pub fn publish(&self, slots: &[Slot]) {
        Writer::new(&self.slots, &[&self.epoch])
            .publish(slots)
            .unwrap();
    }

    fn assert_unlocked(&self) {
        assert!(
            self.rev
                .iter()
                .all(|rev| rev.v.load(Ordering::Relaxed) & LOCK == 0)
        );
        assert!(
            self.rmap
                .iter()
                .all(|head| head.load(Ordering::Relaxed) & chain::LOCK == 0)
        );
    }
}

/// A slot of the model.
pub fn slot(id: u16, base: u64, npages: u64, flags: SlotFlags) -> Slot {
    Slot {
        base: Gfn::new(base).unwrap(),
        npages,
        flags,
        page_shift: 16,
        id,
    }
}

/// Kernel, processor and `memslots` in one.
pub struct Kernel<'m> {
    memory: &'m Memory,
    pub gspace: RefCell<BTreeMap<u64, Leaf>>,
    pub backing: RefCell<BTreeMap<u64, Backing>>,
    pub read_only: RefCell<BTreeSet<u64>>,
    cache: RefCell<Vec<Cached>>,
    pub intercept: Cell<bool>,
    pub poisoned: Cell<bool>,
    pub requests: Cell<u32>,
    pub mode_changes: Cell<u32>,
    /// Pages that a processor has referenced or changed and nobody has collected: the chain's
    /// page and the bits (I8).
    pub touched: RefCell<BTreeMap<u64, u64>>,
    pub zeroed: RefCell<Vec<(u64, u32)>>,
    pub copied: RefCell<Vec<(u64, u64)>>,
    /// `request` says Ready and does nothing.
    pub lies: Cell<bool>,
    /// Answers Rejected to the next Remove.
    pub reject: Cell<bool>,
}

impl<'m> Kernel<'m> {
    pub fn new(memory: &'m Memory) -> Self {
        Kernel {
            memory,
            gspace: RefCell::default(),
            backing: RefCell::default(),
            read_only: RefCell::default(),
            cache: RefCell::default(),
            intercept: Cell::new(false),
            poisoned: Cell::new(false),
            requests: Cell::new(0),
            mode_changes: Cell::new(0),
            touched: RefCell::default(),
            zeroed: RefCell::default(),
            copied: RefCell::default(),
            lies: Cell::new(false),
            reject: Cell::new(false),
        }
    }

    fn real(&self, ptex: Ptex) -> (&RealHpte, GuestHpte) {
        let real = &self.memory.real[ptex.index() as usize];
        (
            real,
            Isa30Hpte {
                v: real.dw0(),
                r: real.dw1(),
            }
            .to_guest(),
        )
    }

    fn set(&self, ptex: Ptex, entry: GuestHpte) {
        let isa = entry.to_isa30();
        self.real(ptex).0.set(isa.v, isa.r);
    }

    fn live(&self) -> Result<(), TableError> {
        if self.poisoned.get() {
            Err(TableError::Poisoned)
        } else {
            Ok(())
        }
    }

    /// tlbie, with everything that belongs to it.
    fn tlbie(&self, ptex: Ptex) {
        self.cache.borrow_mut().retain(|c| c.ptex != ptex.get());
    }

    fn guest_pages(&self, ptex: Ptex) -> (u64, u64) {
        let rev = &self.memory.rev[ptex.index() as usize];
        let r = rev.r.load(Ordering::Relaxed);
        let (gfn, shift) = state::page_of(rev.v.load(Ordering::Relaxed), r).unwrap();
        (gfn.get(), 1 << (shift - 12))
    }

    fn pin(&self, ptex: Ptex, by: i32) {
        let (first, count) = self.guest_pages(ptex);
        for gfn in first..first + count {
            let mut gspace = self.gspace.borrow_mut();
            let leaf = gspace.get_mut(&gfn).expect("mapped while pinned");
            leaf.pins = leaf.pins.checked_add_signed(by).unwrap();
        }
    }

    /// Maps a page as `memslots` does.
    pub fn map(&self, gfn: u64) {
        let writable = !self.read_only.borrow().contains(&gfn);
        self.gspace.borrow_mut().entry(gfn).or_insert(Leaf {
            host: HOST + gfn,
            writable,
            pins: 0,
        });
    }

    /// `Page_Unmap`: fails while the page is pinned.
    pub fn unmap(&self, gfn: u64) -> Result<(), ()> {
        let mut gspace = self.gspace.borrow_mut();
        match gspace.get(&gfn) {
            Some(leaf) if leaf.pins > 0 => Err(()),
            _ => {
                gspace.remove(&gfn);
                Ok(())
            }
        }
    }

    /// A processor loads or stores through entry `index`, if it is valid and allows it.
    pub fn access(&self, index: u64, store: bool) -> bool {
        let ptex = Ptex::new(index, HptOrder::new(ORDER).unwrap()).unwrap();
        let (real, entry) = self.real(ptex);
        if entry.v & VALID == 0 || (store && !protection::is_writable(entry.r)) {
            return false;
        }
        let bits = if store { R | C } else { R };
        real.set(real.dw0(), real.dw1() | bits);
        let size = PageSize::decode(entry.v, entry.r).unwrap();
        self.cache.borrow_mut().push(Cached {
            ptex: index,
            host: size.real_address(entry.r) >> 12,
            writable: store,
        });
        let (gfn, _) = self.guest_pages(ptex);
        *self.touched.borrow_mut().entry(gfn).or_insert(0) |= bits;
        true
    }

    /// Everything that must hold between two calls.
    pub fn assert_sound(&self) {
        self.memory.assert_unlocked();
        let order = HptOrder::new(ORDER).unwrap();
        let gspace = self.gspace.borrow();
        let mut pins = BTreeMap::new();
        let mut live = BTreeMap::new();
        for index in 0..self.memory.real.len() as u64 {
            let ptex = Ptex::new(index, order).unwrap();
            let (_, entry) = self.real(ptex);
            if entry.v & VALID == 0 {
                continue;
            }
            // The entry points into memory that the slot's owner gave, with no more rights.
            let size = PageSize::decode(entry.v, entry.r).unwrap();
            let host = size.real_address(entry.r) >> 12;
            let (first, count) = self.guest_pages(ptex);
            for i in 0..count {
                let leaf = gspace
                    .get(&(first + i))
                    .expect("entry of a page that is not there");
                assert_eq!(leaf.host, host + i);
                assert!(leaf.writable || !protection::is_writable(entry.r));
                *pins.entry(first + i).or_insert(0) += 1;
            }
            *live.entry(first).or_insert(0) |= entry.r & (R | C);
            let rev = &self.memory.rev[index as usize];
            let guest = rev.r.load(Ordering::Relaxed);
            if protection::is_writable(guest) && !protection::is_writable(entry.r) {
                assert!(self.intercept.get(), "narrowed entry without interception");
            } else {
                assert_eq!(guest & PROTECT_MASK, entry.r & PROTECT_MASK);
            }
        }
        for (gfn, leaf) in gspace.iter() {
            assert_eq!(
                leaf.pins,
                pins.get(gfn).copied().unwrap_or(0),
                "pins of {gfn}"
            );
        }
        for rev in &self.memory.rev {
            if rev.v.load(Ordering::Relaxed) & ABSENT != 0 {
                assert!(self.intercept.get(), "ABSENT entry without interception");
            }
        }
        // No processor holds a translation that the table does not have.
        for cached in self.cache.borrow().iter() {
            let (_, entry) = self.real(Ptex::new(cached.ptex, order).unwrap());
            let size = PageSize::decode(entry.v, entry.r).unwrap();
            assert!(
                entry.v & VALID != 0,
                "stale translation of {:#x}",
                cached.ptex
            );
            assert_eq!(size.real_address(entry.r) >> 12, cached.host);
            assert!(!cached.writable || protection::is_writable(entry.r));
            assert!(
                !cached.writable || entry.r & C != 0,
                "C cleared under a cached store"
            );
        }
        // I8: what hardware has set is still somewhere.
        for (gfn, bits) in self.touched.borrow().iter() {
            let head = self.memory.rmap[*gfn as usize].load(Ordering::Relaxed);
            let kept = (head >> chain::RC_SHIFT) | live.get(gfn).copied().unwrap_or(0);
            assert_eq!(bits & !kept, 0, "lost R or C of page {gfn}");
        }
    }

    /// Page of the chain and bits that have been reported, so need not be kept any more.
    pub fn forget_touched(&self, gfn: u64, bits: u64) {
        if let Some(word) = self.touched.borrow_mut().get_mut(&gfn) {
            *word &= !bits;
        }
    }
}

impl Table for &Kernel<'_> {
    fn insert(&self, ptex: Ptex, v: u64, r: u64) -> Result<(), TableError> {
        self.live()?;
        assert_eq!(self.real(ptex).1.v & VALID, 0, "entry is in use");
        assert!(
            self.cache.borrow().iter().all(|c| c.ptex != ptex.get()),
            "reuse before tlbie"
        );
        assert!(v & VALID != 0 && v >> 63 == 0 && v & (ABSENT | LOCK) == 0);
        assert_eq!(r & (W | I | G | M), M);
        let size = PageSize::decode(v, r).expect("page size was checked");
        let first = size.real_address(r) >> 12;
        let mut writable = true;
        let mut host = None;
        for i in 0..size.bytes() >> 12 {
            let Some(leaf) = self.gspace.borrow().get(&(first + i)).copied() else {
                return Err(TableError::NotMapped);
            };
            writable &= leaf.writable;
            let host = *host.get_or_insert(leaf.host);
            assert_eq!(leaf.host, host + i);
        }
        let mut real = (r & !RPN) | (r & RPN & (size.bytes() - 1)) | host.unwrap() << 12;
        if !writable && protection::is_writable(r) {
            assert!(self.intercept.get(), "narrowed before interception");
            real = protection::read_only(real);
        }
        // The guest's dw1 is stored and linked before the real entry is valid (S4.9).
        let rev = &self.memory.rev[ptex.index() as usize];
        assert_eq!(rev.r.load(Ordering::Relaxed) & RPN & !(15 << 56), r & RPN);
        assert!(self.memory.rmap[first as usize].load(Ordering::Relaxed) & chain::PRESENT != 0);
        self.set(ptex, GuestHpte { v, r: real });
        for gfn in first..first + (size.bytes() >> 12) {
            self.gspace.borrow_mut().get_mut(&gfn).unwrap().pins += 1;
        }
        Ok(())
    }

    fn remove(&self, ptex: Ptex) -> Result<u64, TableError> {
        self.live()?;
        if self.reject.take() {
            return Err(TableError::Rejected);
        }
        let (real, entry) = self.real(ptex);
        assert!(entry.v & VALID != 0);
        real.set(0, 0);
        self.tlbie(ptex);
        self.pin(ptex, -1);
        Ok(entry.r & (R | C))
    }

    fn remove_batch(&self, entries: &[Ptex]) -> Result<[u64; 4], TableError> {
        self.live()?;
        assert!((1..=4).contains(&entries.len()));
        let mut rcs = [0; 4];
        for (rc, ptex) in rcs.iter_mut().zip(entries) {
            *rc = self.remove(*ptex)?;
        }
        Ok(rcs)
    }

    fn update(&self, ptex: Ptex, r: u64) -> Result<(), TableError> {
        self.live()?;
        let (_, entry) = self.real(ptex);
        assert!(entry.v & VALID != 0);
        let (first, count) = self.guest_pages(ptex);
        let mut new = (entry.r & !PROTECT_MASK) | (r & PROTECT_MASK);
        let writable = (first..first + count).all(|g| self.gspace.borrow()[&g].writable);
        if !writable && protection::is_writable(new) {
            assert!(self.intercept.get(), "narrowed before interception");
            new = protection::read_only(new);
        }
        self.tlbie(ptex);
        self.set(ptex, GuestHpte { v: entry.v, r: new });
        Ok(())
    }

    fn clear_rc(&self, ptex: Ptex, rc: u64) -> Result<u64, TableError> {
        self.live()?;
        let (_, entry) = self.real(ptex);
        assert!(entry.v & VALID != 0 && rc & !(R | C) == 0);
        self.tlbie(ptex);
        self.set(
            ptex,
            GuestHpte {
                v: entry.v,
                r: entry.r & !rc,
            },
        );
        Ok(entry.r & (R | C))
    }

    fn clear(&self) -> Result<(), TableError> {
        for real in &self.memory.real {
            real.set(0, 0);
        }
        self.cache.borrow_mut().clear();
        for leaf in self.gspace.borrow_mut().values_mut() {
            leaf.pins = 0;
        }
        self.poisoned.set(false);
        Ok(())
    }

    fn set_fault_mode(&self, intercept: bool) -> Result<(), TableError> {
        self.live()?;
        assert_ne!(self.intercept.get(), intercept, "no needless change");
        self.intercept.set(intercept);
        self.mode_changes.set(self.mode_changes.get() + 1);
        Ok(())
    }
}

impl Pages for &Kernel<'_> {
    fn request(&self, gfn: Gfn, shift: u32, _write: bool) -> PageAnswer {
        self.memory.assert_unlocked();
        self.requests.set(self.requests.get() + 1);
        let pages = gfn.get()..gfn.get() + (1 << (shift - 12));
        if self.lies.get() {
            return PageAnswer::Ready;
        }
        for page in pages.clone() {
            match self.backing.borrow().get(&page) {
                Some(Backing::Busy) => return PageAnswer::Busy,
                // A page that it has put there it does not refuse.
                Some(Backing::Refused) if !self.gspace.borrow().contains_key(&page) => {
                    return PageAnswer::Refused;
                }
                _ => {}
            }
        }
        pages.for_each(|page| self.map(page));
        PageAnswer::Ready
    }

    fn zero(&self, gfn: Gfn, shift: u32) -> PageAnswer {
        let answer = self.request(gfn, shift, true);
        if answer == PageAnswer::Ready {
            self.zeroed.borrow_mut().push((gfn.get(), shift));
        }
        answer
    }

    fn copy(&self, to: Gfn, from: Gfn) -> PageAnswer {
        if self.request(from, 12, false) != PageAnswer::Ready {
            return PageAnswer::Refused;
        }
        let answer = self.request(to, 12, true);
        if answer == PageAnswer::Ready {
            self.copied.borrow_mut().push((to.get(), from.get()));
        }
        answer
    }
}

/// Runs `test` on an empty machine with one slot of [`GFNS`] pages.
pub fn with(test: impl FnOnce(&Memory, &Kernel<'_>, &Hpt<'_, &Kernel<'_>, &Kernel<'_>>)) {
    let memory = Box::new(Memory::new(GFNS));
    let kernel = Kernel::new(&memory);
    memory.publish(&[slot(0, 0, GFNS, SlotFlags::NONE)]);
    let hpt = memory.hpt(&kernel);
    test(&memory, &kernel, &hpt);
    kernel.assert_sound();
    hpt.verify_all().unwrap();
}

/// H_ENTER of a plain 4 KiB page.
pub fn enter(hpt: &Hpt<'_, &Kernel<'_>, &Kernel<'_>>, index: u64, v: u64, r: u64) -> Reply {
    hpt.hypercall(number::H_ENTER, [0, index, v, r, 0, 0, 0, 0])
}

/// A dw0 of segment 0x42.
pub const V: u64 = B_1T | 0x42 << 24;
