// SPDX-License-Identifier: BSD-2-Clause
//! Segments, page table entries and translation (SPEC 3.4 to 3.6).

use crate::hypercall::{Answer, hypercall};
use crate::machine::{Executed, Trap, execute, execute_at, mfmsr, msr, mtmsrd};
use crate::platform::Guest;
use core::arch::asm;
use partita_papr::hash::{SLB_ESID_V, Segment};
use partita_papr::hcall::number::{H_CLEAR_HPT, H_ENTER};
use partita_papr::hcall::status::{H_CONTINUE, H_PTEG_FULL, H_SUCCESS};
use partita_papr::hpte::{B_1T, BOLTED, C, M, R, SECONDARY, VALID};
use partita_papr::{PageSize, Ptex};

/// A segment of 1 TiB.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// The segment.
    pub segment: Segment,
    /// Its first effective address.
    pub base: u64,
}

/// A segment of 1 TiB at effective address `base` with this virtual segment number.
pub fn segment(base: u64, vsid: u64, pages: PageSize) -> Mapping {
    let word = B_1T | vsid << 24 | pages.slb_llp();
    let Some(segment) = Segment::new(word) else {
        crate::runner::abort(format_args!("no segment {word:#x}"))
    };
    Mapping { segment, base }
}

impl Mapping {
    /// Puts the segment into SLB entry `index`.
    pub fn load(&self, index: u64) {
        slbmte(index, self.base, self.segment.word());
    }

    /// The entry of guest format that maps `ea` to `gpa`: dw0 and dw1. `bits` are those of dw1 beside
    /// the address: PP, N, keys; M is added.
    pub fn entry(&self, ea: u64, gpa: u64, size: PageSize, bits: u64) -> (u64, u64) {
        let v = self.segment.avpn(ea) | size.large() | VALID;
        let r = (gpa & !(size.bytes() - 1)) | size.lp() | M | bits;
        (v, r)
    }

    /// Primary group's first index for `ea`.
    pub fn group(&self, guest: &Guest, ea: u64) -> u64 {
        let group = self.segment.primary_group(ea, guest.hpt);
        Ptex::in_group(group, 0, guest.hpt).get()
    }

    /// Secondary group's first index for `ea`.
    pub fn second_group(&self, guest: &Guest, ea: u64) -> u64 {
        let group = self.segment.secondary_group(ea, guest.hpt);
        Ptex::in_group(group, 0, guest.hpt).get()
    }

    /// H_ENTER for `ea`, in the secondary group if the primary one is full. r4 is the index.
    pub fn enter(&self, guest: &Guest, ea: u64, gpa: u64, size: PageSize, bits: u64) -> Answer {
        let (v, r) = self.entry(ea, gpa, size, bits);
        let answer = hypercall(H_ENTER, [0, self.group(guest, ea), v, r]);
        if answer.status != H_PTEG_FULL {
            return answer;
        }
        hypercall(H_ENTER, [0, self.second_group(guest, ea), v | SECONDARY, r])
    }
}

/// Effective address 0 on.
pub const IDENTITY_VSID: u64 = 0x5001;

/// Empties the page table, but for the virtual real mode area.
pub fn clear_table() -> bool {
    loop {
        match hypercall(H_CLEAR_HPT, []).status {
            H_CONTINUE => {}
            status => return status == H_SUCCESS,
        }
    }
}

/// Empties the table, then maps the first `bytes` of memory at the same effective addresses, by 64 KiB pages, in SLB entry 0:
/// then the program runs with translation on ([`translated`]). False: an entry was refused.
pub fn map_identity(guest: &Guest, bytes: u64) -> bool {
    if !clear_table() {
        return false;
    }
    slbia();
    let low = segment(0, IDENTITY_VSID, PageSize::Size64K);
    low.load(0);
    (0..bytes).step_by(0x1_0000).all(|address| {
        let (v, r) = low.entry(address, address, PageSize::Size64K, R | C);
        let v = v | BOLTED;
        let answer = hypercall(H_ENTER, [0, low.group(guest, address), v, r]);
        if answer.status != H_PTEG_FULL {
            return answer.status == H_SUCCESS;
        }
        let group = low.second_group(guest, address);
        hypercall(H_ENTER, [0, group, v | SECONDARY, r]).status == H_SUCCESS
    })
}

/// Runs `f` with translation on.
pub fn translated<R>(f: impl FnOnce() -> R) -> R {
    let before = mfmsr();
    // SAFETY: the program's memory is mapped at its real addresses (`map_identity`).
    unsafe { mtmsrd(before | msr::IR | msr::DR) };
    let result = f();
    // SAFETY: as before.
    unsafe { mtmsrd(before) };
    result
}

/// B of slbie's operand: a segment of 1 TiB.
const SLBIE_1T: u64 = 1 << 25;

/// Writes SLB entry `index`: the segment of 1 TiB at `ea`, whose former entry becomes invalid first.
pub fn slbmte(index: u64, ea: u64, vsid_word: u64) {
    let first = ea & !((1 << 40) - 1);
    let esid = first | SLB_ESID_V | index;
    // SAFETY: a segment of the program; what it maps is its own memory.
    unsafe {
        asm!("isync", "slbie {0}", "isync", in(reg) first | SLBIE_1T, options(nostack, preserves_flags));
        asm!("slbmte {0}, {1}", "isync", in(reg) vsid_word, in(reg) esid, options(nostack, preserves_flags));
    }
}

/// Makes every SLB entry invalid, entry 0 too. Translation is off.
pub fn slbia() {
    // SAFETY: with translation off no segment is in use.
    unsafe {
        asm!("isync", "slbmte {0}, {0}", "slbia", "isync", in(reg) 0u64, options(nostack, preserves_flags));
    }
}

/// The trap of a load, or a store of 0, with data translation on, if there is one.
pub fn access(ea: u64, store: bool) -> Option<Trap> {
    // ld r3, 0(r4); std r3, 0(r4)
    let code = if store { 0xf864_0000 } else { 0xe864_0000 };
    with_translation(&[code], [0, ea, 0, 0])
}

/// The trap of a jump to `ea` with translation on, if there is one.
pub fn jump(ea: u64) -> Option<Trap> {
    // mtctr r3; bctr
    with_translation(&[0x7c69_03a6, 0x4e80_0420], [ea, 0, 0, 0])
}

/// Runs the code at `code`, which ends with `blr`, with translation on.
pub fn execute_translated(code: u64, gpr: [u64; 4]) -> Executed {
    let before = mfmsr();
    // SAFETY: the program is mapped where it is (`map_identity`).
    unsafe { mtmsrd(before | msr::IR | msr::DR) };
    let done = execute_at(code, gpr);
    // SAFETY: as it was.
    unsafe { mtmsrd(before) };
    done
}

/// Runs instructions with translation on.
pub fn with_translation(code: &[u32], gpr: [u64; 4]) -> Option<Trap> {
    let before = mfmsr();
    // SAFETY: the program is mapped where it is (`map_identity`).
    unsafe { mtmsrd(before | msr::IR | msr::DR) };
    let done = execute(code, gpr);
    // SAFETY: as it was.
    unsafe { mtmsrd(before) };
    done.trap
}
