// SPDX-License-Identifier: BSD-2-Clause
//! The rows.

use crate::arch::{
    cede, miss, slb, slb_clear, store_translated, touch_vector_registers, use_vector_registers,
};
use crate::measure::{ROUNDS, begin, print, row, row_between, row_of};
use core::hint::black_box;
use guest_support::hypercall::{Answer, hypercall};
use guest_support::machine::timebase;
use guest_support::papr::hash::{SLB_ESID_V, Segment};
use guest_support::papr::hcall::{flags, number, status};
use guest_support::papr::hpte::{C, M, R, VALID};
use guest_support::papr::{PageSize, Ptex};
use guest_support::{Guest, runner};

/// Guest memory that the rows map: the first page of it.
const PAGES: u64 = 64 << 20;
/// Where it is mapped: the beginning of a segment.
const EA: u64 = 0x2000_0000_0000;
/// Bytes of a segment.
const SEGMENT: u64 = 256 << 20;
/// Its virtual segment.
const VSID: u64 = 0x12_3450;
/// The page whose entry bench-flush takes away.
const FLUSHED: u64 = 96 << 20;
/// Where nothing is mapped.
const UNMAPPED_EA: u64 = 0x3000_0000_0000;
/// Time that a cede waits, ticks.
const CEDE_TICKS: u32 = 0x4000;
/// PP of H_PROTECT: the supervisor and the user write; only the supervisor writes.
const PROTECTIONS: [u64; 2] = [2, 1];

/// Fails unless a hypercall has succeeded.
#[track_caller]
#[inline(always)]
fn good(answer: Answer) -> [u64; 8] {
    if answer.status != status::H_SUCCESS {
        bad(answer.status);
    }
    answer.words
}

#[cold]
#[inline(never)]
#[track_caller]
fn bad(status: i64) -> ! {
    let at = core::panic::Location::caller();
    runner::abort(format_args!("{at}: a hypercall answered {status}"))
}

/// An entry, ready to be passed.
#[derive(Clone, Copy, Default)]
struct Entry {
    ptex: u64,
    v: u64,
    r: u64,
}

/// The segment with pages of `size`, at [`EA`].
fn segment(size: PageSize) -> Segment {
    let word = VSID << 12 | size.slb_llp();
    Segment::new(word).expect("a segment of 256 MiB with a page size that exists")
}

impl Entry {
    /// Page `page` of [`PAGES`] at the same page of [`EA`].
    fn new(guest: &Guest, size: PageSize, page: u64) -> Self {
        Self::at(guest, size, PAGES, page)
    }

    /// Page `page` of the memory from `start` on, at the same page of [`EA`].
    fn at(guest: &Guest, size: PageSize, start: u64, page: u64) -> Self {
        let segment = segment(size);
        let offset = page << size.shift();
        let group = segment.primary_group(EA + offset, guest.hpt);
        Self {
            ptex: Ptex::in_group(group, 0, guest.hpt).get(),
            v: segment.avpn(EA + offset) | size.large() | VALID,
            r: (start + offset) | size.lp() | R | C | M | 2,
        }
    }

    /// H_ENTER: the index that it got.
    #[inline(always)]
    fn enter(&self) -> u64 {
        good(hypercall(number::H_ENTER, [0, self.ptex, self.v, self.r]))[0]
    }

    #[inline(always)]
    fn remove(&self, ptex: u64) {
        good(hypercall(
            number::H_REMOVE,
            [flags::AVPN, ptex, self.v & !0x7f],
        ));
    }

    #[inline(always)]
    fn protect(&self, ptex: u64, pp: u64) {
        good(hypercall(
            number::H_PROTECT,
            [flags::AVPN | pp, ptex, self.v & !0x7f],
        ));
    }
}

/// Measures everything.
pub fn all(guest: &Guest) {
    let random = |_| {
        good(hypercall(number::H_RANDOM, []));
    };
    row("h-random", random);
    for (name, entries) in [("h-random-slb-5", 5), ("h-random-slb-21", 21)] {
        for index in 0..entries {
            slb(
                1 + index,
                SLB_ESID_V | (0x40 + index) << 28,
                (0x777 + index) << 12,
            );
        }
        row(name, random);
        slb_clear();
    }
    enter(guest, PageSize::Size4K, "h-enter-4k", Some("h-remove"));
    enter(guest, PageSize::Size64K, "h-enter-64k", None);
    entry(guest);
    bulk(guest);
    row("vpa-register-deregister", |_| vpa());
    // Carriage returns do not show.
    row("h-put-term-char", |_| {
        good(hypercall(number::H_PUT_TERM_CHAR, [0, 1, 0x0d << 56, 0]));
    });
    misses("hash-miss-to-guest");
    first_touch(guest);
    // While the guest sleeps, bench-flush makes this entry ABSENT.
    Entry::at(guest, PageSize::Size4K, FLUSHED, 0).enter();
    row_of("cede-wake-dec", || cede(number::H_CEDE, CEDE_TICKS));
    misses("hash-miss-intercepted");
}

/// Two guests on one core that give it to each other; both use all registers.
pub fn pair() {
    use_vector_registers();
    let switch = |_| {
        hypercall(number::H_CONFER, [u64::MAX, 0]);
        touch_vector_registers();
    };
    // The other one is there before anything counts.
    (0..ROUNDS).for_each(switch);
    const NAME: &str = "vcpu-switch";
    begin(NAME);
    let mut best = u64::MAX;
    for _ in 0..16 {
        let start = timebase();
        (0..ROUNDS).for_each(switch);
        best = best.min(timebase() - start);
    }
    // A round has two switches, there and back.
    print(NAME, best, 2 * ROUNDS, 16 * ROUNDS);
    // The other one may still be counting.
    (0..64 * ROUNDS).for_each(switch);
}

/// H_ENTER of pages that are there, and H_REMOVE of their entries.
fn enter(guest: &Guest, size: PageSize, name: &str, remove: Option<&str>) {
    let mut entries = [Entry::default(); ROUNDS as usize];
    for (page, entry) in entries.iter_mut().enumerate() {
        *entry = Entry::new(guest, size, page as u64);
        let address = (PAGES + ((page as u64) << size.shift())) as usize;
        // SAFETY: nothing else is in this memory.
        unsafe { core::ptr::with_exposed_provenance_mut::<u64>(address).write_volatile(1) };
    }
    let mut indices = [0; ROUNDS as usize];
    let cells = core::cell::Cell::from_mut(&mut indices[..]).as_slice_of_cells();
    let enter = |i: u64| cells[i as usize].set(entries[i as usize].enter());
    let take = |i: u64| entries[i as usize].remove(cells[i as usize].get());
    row_between(name, || {}, enter, || (0..ROUNDS).for_each(take));
    if let Some(name) = remove {
        row_between(name, || (0..ROUNDS).for_each(enter), take, || {});
    }
}

/// H_READ and H_PROTECT of one entry.
fn entry(guest: &Guest) {
    let entry = Entry::new(guest, PageSize::Size4K, 0);
    let ptex = entry.enter();
    row("h-read", |_| {
        black_box(good(hypercall(number::H_READ, [0, ptex])));
    });
    row("h-protect", |i| {
        entry.protect(ptex, PROTECTIONS[i as usize % PROTECTIONS.len()]);
    });
    entry.remove(ptex);
}

/// H_BULK_REMOVE of four entries.
fn bulk(guest: &Guest) {
    const ALL: usize = 4 * ROUNDS as usize;
    let mut entries = [Entry::default(); ALL];
    for (page, entry) in entries.iter_mut().enumerate() {
        *entry = Entry::new(guest, PageSize::Size4K, page as u64);
    }
    let mut pairs = [[0u64; 8]; ROUNDS as usize];
    let cells = core::cell::Cell::from_mut(&mut pairs[..]).as_slice_of_cells();
    let enter = || {
        for (four, cell) in entries.chunks_exact(4).zip(cells) {
            let mut words = [0; 8];
            for (entry, pair) in four.iter().zip(words.chunks_exact_mut(2)) {
                // Absolute index, with the AVPN to compare.
                pair[0] = 1 << 62 | 2 << 56 | entry.enter();
                pair[1] = entry.v & !0x7f;
            }
            cell.set(words);
        }
    };
    let remove = |i: u64| {
        good(hypercall(number::H_BULK_REMOVE, cells[i as usize].get()));
    };
    row_between("h-bulk-remove-4", enter, remove, || {});
}

/// A virtual processor area, where no page ends in it.
#[repr(align(1024))]
struct Area([u8; 640]);

static AREA: Area = {
    let mut area = Area([0; 640]);
    // The size, as H_REGISTER_VPA wants it.
    area.0[4] = (640 >> 8) as u8;
    area.0[5] = (640 & 0xff) as u8;
    area
};

fn vpa() {
    let address = core::ptr::from_ref(&AREA).expose_provenance() as u64;
    good(hypercall(number::H_REGISTER_VPA, [1 << 45, 0, address]));
    good(hypercall(number::H_REGISTER_VPA, [5 << 45, 0, 0]));
}

/// Accesses that no entry translates.
fn misses(name: &str) {
    slb(1, SLB_ESID_V | UNMAPPED_EA, 0x5_5555 << 12);
    begin(name);
    let best = (0..8).map(|_| miss(UNMAPPED_EA, ROUNDS)).min();
    print(name, best.unwrap_or(0), ROUNDS, 8 * ROUNDS);
    slb_clear();
}

/// H_ENTER of pages that nobody has touched, and the first store to each: a mean, since there is no
/// second first time.
fn first_touch(guest: &Guest) {
    const NAME: &str = "first-touch";
    let size = PageSize::Size64K;
    // The second quarter of memory, at most a segment: initrd and device tree are at the end or below
    // 768 MiB, the rest at the start.
    let start = guest.memory / 4;
    let pages = start.min(SEGMENT) >> size.shift();
    slb(1, SLB_ESID_V | EA, segment(size).word());
    begin(NAME);
    let before = timebase();
    for page in 0..pages {
        Entry::at(guest, size, start, page).enter();
        // SAFETY: the entry maps a page that nothing else is in.
        unsafe { store_translated(EA + (page << size.shift()), page) };
    }
    let ticks = timebase() - before;
    print(NAME, ticks, pages, pages);
    slb_clear();
}
