// SPDX-License-Identifier: BSD-2-Clause
//! Areas below 32 KiB of real memory, which code reaches without a base register.

/// Where the trap areas of the vCPUs are, [`TRAP_STRIDE`] bytes each.
pub const TRAP: usize = 0x3000;
/// Bytes of a trap area.
pub const TRAP_STRIDE: usize = 0x400;
/// vCPUs that a program can use.
pub const VCPUS: usize = 4;
/// Second copy of the interrupt vectors: where AIL = 3 delivers, at 0xc000_0000_0000_4000.
pub const VECTORS_AIL: usize = 0x4000;
/// Registers that are loaded before a piece of code runs ([`crate::registers`]).
pub const BEFORE: usize = 0x6000;
/// Registers as they were after it.
pub const AFTER: usize = 0x6800;
/// Where the code that loads and saves them keeps what it needs itself.
pub const KEPT: usize = 0x7000;

/// Registers at the entry: r0 to r31 but r10 and r11, CR, CTR, XER, SPRG0 to SPRG3, DAR, DSISR.
pub const ENTRY: usize = 0x7800;
/// Doublewords at [`ENTRY`].
pub const ENTRY_WORDS: usize = 41;

/// What a trap finds and leaves. SPRG3 of a vCPU is the address of its area.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TrapArea {
    /// r0 to r31 of the interrupted code; they are loaded from here on return.
    pub gpr: [u64; 32],
    /// Address of the interrupted instruction, or that after it (ISA).
    pub srr0: u64,
    /// MSR of the interrupted code and cause bits.
    pub srr1: u64,
    /// DAR.
    pub dar: u64,
    /// DSISR.
    pub dsisr: u64,
    /// CR.
    pub cr: u64,
    /// LR.
    pub lr: u64,
    /// CTR.
    pub ctr: u64,
    /// XER.
    pub xer: u64,
    /// Real address of the vector, as 0x300; 0: no trap since it was cleared.
    pub vector: u64,
    /// Where to go on after the next trap, without calling [`crate::trap`]; 0: call it.
    pub fixup: u64,
    /// MSR to go on with there.
    pub fixup_msr: u64,
    /// Where the trap returns to.
    pub next: u64,
    /// MSR that it returns with.
    pub next_msr: u64,
    /// Stack of the trap handler.
    pub stack: u64,
    /// r2 of the program.
    pub toc: u64,
    /// MSR in the trap.
    pub msr: u64,
    /// What a system reset starts, if it starts something anew ([`crate::trap::restart_on_reset`]).
    pub restart: u64,
    /// Stack for that.
    pub restart_stack: u64,
}

/// The trap area of a vCPU.
pub fn trap_area(vcpu: usize) -> *mut TrapArea {
    core::ptr::with_exposed_provenance_mut(TRAP + TRAP_STRIDE * (vcpu % VCPUS))
}

const _: () = assert!(size_of::<TrapArea>() <= TRAP_STRIDE);
