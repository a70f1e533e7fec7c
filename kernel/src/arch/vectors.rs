// SPDX-License-Identifier: BSD-2-Clause
//! The interrupt vectors and the way back to user mode.
//!
//! `.low` is position-independent and copied to real address 0. Every interrupt saves the thread's
//! registers in full into its TCB and calls Rust; `return_to_current` loads them again.
//!
//! Registers while a vector runs: HSPRG0 = this core's [`Core`], HSPRG1 = r13 of the thread.
//!
//! * From a PD: SRR1[HV]=1 and SRR1[PR]=1.
//! * From the idle loop (HV=1, PR=0, EE=1): nothing to save.
//! * From the kernel (HV=1, PR=0, EE=0): a machine check or a bug. The registers go to a context of
//!   their own and `kernel_crash` reports them.
//! * From a guest (HV=0): see `vector_c00_from_guest` and `exception_from_guest`.
//!
//! At a system call or hypercall CR0 is lost before anything is saved: both are calls, after which
//! CR0 is undefined (ELFv2, PAPR 14.5.1).

use super::spr;
use crate::percore::arch_word;
use core::mem::offset_of;
use partita_abi::syscall;
use partita_kernel_core::object::{Context, Core, Tcb};
use partita_kernel_core::quick::Local;
use partita_kernel_core::vcpu::Vcpu;

/// Real memory that the vectors and their common code occupy: `[0, LOW_END)`.
pub const LOW_END: u64 = 0x1_0000;

unsafe extern "C" {
    static __low_start: u8;
    static __low_end: u8;
}

/// Copies the vectors to real address 0.
pub fn install() {
    let start = &raw const __low_start;
    let size = &raw const __low_end as usize - start as usize;
    // SAFETY: real memory from 0x100 to LOW_END belongs to the kernel (PLATFORM 0); the linker script
    // defines the source. Address 0 itself is left out: it holds nothing.
    unsafe {
        core::ptr::copy_nonoverlapping(start.add(0x100), 0x100 as *mut u8, size - 0x100);
    }
    super::mmu::sync_instructions(0x100, size as u64 - 0x100);
}

/// Where the instruction that is linked at `addr` is executed: the low block was copied.
pub fn installed(addr: u64) -> u64 {
    let (start, end) = (&raw const __low_start as u64, &raw const __low_end as u64);
    if (start..end).contains(&addr) {
        addr - start
    } else {
        addr
    }
}

core::arch::global_asm!(
    super::low::low_macros!(),
    r#"
    .section .low, "ax", @progbits
    .globl low
low:

// An interrupt that leaves r12's and r13's thread values in scratch 0 and HSPRG1.
.macro VECTOR number, common
    .org low + \number
    mtspr {HSPRG1}, 13
    mfspr 13, {HSPRG0}
    std 12, {S0}(13)
    li 12, \number
    b \common
.endm

    VECTOR 0x100, common_srr      // system reset
    VECTOR 0x200, common_srr      // machine check
    VECTOR 0x300, common_srr      // data storage
    VECTOR 0x380, common_srr      // data segment
    VECTOR 0x400, common_srr      // instruction storage
    VECTOR 0x480, common_srr      // instruction segment
    VECTOR 0x500, common_srr      // external (LPES0 = 1)
    VECTOR 0x600, common_srr      // alignment
    VECTOR 0x700, common_srr      // program
    VECTOR 0x800, common_srr      // floating point unavailable
    VECTOR 0x900, common_srr      // decrementer
    VECTOR 0x980, common_hsrr     // hypervisor decrementer
    VECTOR 0xa00, common_srr      // privileged doorbell

// System call. SRR1[HV] tells a PD from a guest.
    .org low + 0xc00
    mtspr {HSPRG1}, 13
    mfspr 13, {HSPRG0}
    std 12, {S0}(13)
    mfcr 12
    std 12, {S2}(13)
    mfspr 12, {SRR1}
    rldicl. 12, 12, 4, 63
    beq- guest_system_call
    ld 12, {S0}(13)
// From a PD: r13 = Core, the thread's r13 in HSPRG1, CR0 lost, all else as the thread left it.
vector_c00_from_pd:
    cmpdi 0, {CALL}
    beq fast_call
    cmpdi 0, {REPLY_RECV}
    beq fast_reply_recv
    cmpdi 0, {NB_SEND}
    beq fast_send
    cmpdi 0, {RECV}
    beq fast_recv
    cmpdi 0, {NB_SEND_RECV}
    beq fast_send_recv
    cmpdi 0, {SEND}
    beq fast_send
    b syscall_slow

    VECTOR 0xd00, common_srr      // trace
    VECTOR 0xe00, common_hsrr     // hypervisor data storage
    VECTOR 0xe20, common_hsrr     // hypervisor instruction storage
    VECTOR 0xe40, common_hsrr     // hypervisor emulation assistance
    VECTOR 0xe60, common_hsrr     // hypervisor maintenance
    VECTOR 0xe80, common_hsrr     // directed hypervisor doorbell
    VECTOR 0xea0, common_hsrr     // hypervisor virtualization (external, XIVE)
    VECTOR 0xf00, common_srr      // performance monitor
    VECTOR 0xf20, common_srr      // vector unavailable
    VECTOR 0xf40, common_srr      // VSX unavailable
    VECTOR 0xf60, common_srr      // facility unavailable
    VECTOR 0xf80, common_hsrr     // hypervisor facility unavailable
    VECTOR 0x1300, common_srr     // instruction breakpoint
    VECTOR 0x1500, common_hsrr    // soft patch
    VECTOR 0x1600, common_srr
    VECTOR 0x1700, common_srr
    VECTOR 0x1800, common_srr
    .org low + 0x1900

// r13 = Core, r12 = vector, scratch 0 = r12, HSPRG1 = r13.
.macro COMMON srr0, srr1, guest
    std 11, {S1}(13)
    mfcr 11
    std 11, {S2}(13)
    mfspr 11, \srr1
    rldicl. 11, 11, 4, 63
    beq- \guest
    mfspr 11, \srr1
    andi. 11, 11, {PR}
    beq- 2f
    ld 11, {CURRENT}(13)
    SAVE \srr0, \srr1
    JUMP exception_from_pd
// From hypervisor mode. Only the idle loop has EE=1; it has nothing to save.
2:  mfspr 5, \srr1
    andi. 11, 5, {EE}
    beq- 1f
    mr 3, 13
    mr 4, 12
    ld 1, {STACK}(13)
    ld 2, {TOC}(13)
    JUMP exception_from_idle
1:  ld 11, {CRASH_CONTEXT}(13)
    SAVE \srr0, \srr1
    ld 1, {CRASH_STACK}(13)
    JUMP exception_in_kernel
.endm

common_srr:
    COMMON {SRR0}, {SRR1}, guest_exit_srr
common_hsrr:
    COMMON {HSRR0}, {HSRR1}, guest_exit_hsrr

// A system call that the fast path does not take. In: as at vector_c00_from_pd.
    .globl syscall_slow
syscall_slow:
    std 12, {S0}(13)
    std 11, {S1}(13)
    mfcr 11
    std 11, {S2}(13)
    ld 11, {CURRENT}(13)
    SAVE_CALL
    JUMP syscall_from_pd

    .section .text.vectors, "ax", @progbits
    .p2align 2
exception_in_kernel:
    bl {kernel_crash}
    trap
    .globl syscall_from_pd
syscall_from_pd:
    bl {kernel_local_syscall}
    cmpdi 3, {SETTLED}
    cmpdi 5, 3, {UNSETTLED}
    beq+ 5f
    mfspr 3, {HSPRG0}
    ld 11, {CURRENT}(3)
    cmpdi 11, 0
    beq- 6f
    .irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std \n, {GPR} + 8*\n(11)
    .endr
    beq- 5, 6f
    bl {kernel_syscall}
    b return_to_current
6:  bl {kernel_go_on}
    b return_to_current
// The same thread goes on: r14 to r31 are as it left them, by the calling convention; LR, CTR, XER and r0 are 0.
    .globl same_thread_goes_on
same_thread_goes_on:
5:  mfspr 13, {HSPRG0}
    ld 12, {CURRENT}(13)
    li 0, 0
    ld 3, {CR}(12)
    mtlr 0
    mtctr 0
    mtxer 0
    mtcr 3
    .irp n, 1,2,3,4,5,6,7,8,9,10,11,13
    ld \n, {GPR} + 8*\n(12)
    .endr
    ld 12, {GPR} + 8*12(12)
    rfid
    .globl exception_from_pd
exception_from_pd:
    bl {kernel_exception}

// Runs the thread that Core.current names, or waits until there is one. HSPRG0 = Core; no other
// register is needed.
    .globl return_to_current
return_to_current:
    mfspr 13, {HSPRG0}
    ld 12, {CURRENT}(13)
    cmpdi 12, 0
    beq- 3f
    ld 10, {KIND}(12)
    ld 11, {VCPU}(12)
    cmpdi 10, 0
    bne- 9f
    ld 11, {PID}(12)
    ld 10, {ACTIVE_PID}(13)
    cmpd 11, 10
    beq+ 1f
    std 11, {ACTIVE_PID}(13)
    mtspr {PIDR}, 11
    isync
    .long 0x7c00068c              // cp_abort: no copy-paste from one address space to another
    li 9, 0                       // what user mode can write and read without a facility bit
    ld 10, {PPR_HOST}(13)
    mtspr {VRSAVE}, 9
    mtspr {PPR}, 10
1:  // A reservation of the last thread must not serve this one.
    addi 9, 13, {S7}
    stdcx. 9, 0, 9
    ld 0, {PC}(12)
    mtspr {SRR0}, 0
    ld 0, {PD_MSR}(13)
    mtspr {SRR1}, 0
    ld 0, {CR}(12)
    mtcr 0
    ld 0, {LR}(12)
    mtlr 0
    ld 0, {CTR}(12)
    mtctr 0
    ld 0, {XER}(12)
    mtxer 0
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld \n, {GPR} + 8*\n(12)
    .endr
    ld 12, {GPR} + 8*12(12)
    rfid
9:  ld 10, {V_OWN_WAYS}(11)
    cmpdi 10, 0
    bne- guest_own_way
    .globl guest_enters
guest_enters:
    li 10, enter_guest_low@l
    mtctr 10
    bctr
// Idle: wait with interrupts on. PSSCR = 0, whatever a guest left there: nothing is lost, and the interrupt is taken at
// once.
3:  li 0, 0
    mtspr {PSSCR}, 0
    mfmsr 0
    ori 0, 0, {EE}
    mtmsrd 0, 1
4:  .long 0x4c0002e4              // stop
    b 4b

    .globl exception_from_idle
exception_from_idle:
    bl {kernel_idle_exception}
    b return_to_current
"#,
    CALL = const syscall::CALL,
    REPLY_RECV = const syscall::REPLY_RECV,
    NB_SEND = const syscall::NB_SEND,
    SEND = const syscall::SEND,
    RECV = const syscall::RECV,
    NB_SEND_RECV = const syscall::NB_SEND_RECV,
    HSPRG0 = const spr::HSPRG0,
    HSPRG1 = const spr::HSPRG1,
    SRR0 = const spr::SRR0,
    SRR1 = const spr::SRR1,
    HSRR0 = const spr::HSRR0,
    HSRR1 = const spr::HSRR1,
    PIDR = const spr::PIDR,
    PSSCR = const spr::PSSCR,
    PR = const spr::MSR_PR,
    EE = const spr::MSR_EE,
    S0 = const offset_of!(Core, scratch),
    S1 = const offset_of!(Core, scratch) + 8,
    S2 = const offset_of!(Core, scratch) + 16,
    S7 = const offset_of!(Core, scratch) + 56,
    CURRENT = const offset_of!(Core, current),
    STACK = const offset_of!(Core, stack_top),
    TOC = const offset_of!(Core, toc),
    ACTIVE_PID = const offset_of!(Core, active_pid),
    PPR_HOST = const offset_of!(Core, arch) + 8 * arch_word::PPR_HOST,
    VRSAVE = const spr::VRSAVE,
    PPR = const spr::PPR,
    PD_MSR = const offset_of!(Core, arch) + 8 * arch_word::PD_MSR,
    CRASH_CONTEXT = const offset_of!(Core, arch) + 8 * arch_word::CRASH_CONTEXT,
    CRASH_STACK = const offset_of!(Core, arch) + 8 * arch_word::CRASH_STACK,
    PID = const offset_of!(Tcb, pid),
    KIND = const offset_of!(Tcb, kind),
    VCPU = const offset_of!(Tcb, vcpu),
    V_OWN_WAYS = const offset_of!(Vcpu, own_ways),
    GPR = const offset_of!(Context, gpr),
    PC = const offset_of!(Context, pc),
    MSR = const offset_of!(Context, msr),
    CR = const offset_of!(Context, cr),
    LR = const offset_of!(Context, lr),
    CTR = const offset_of!(Context, ctr),
    XER = const offset_of!(Context, xer),
    kernel_crash = sym crate::panic::kernel_crash,
    kernel_local_syscall = sym crate::entry::kernel_local_syscall,
    kernel_syscall = sym crate::entry::kernel_syscall,
    kernel_go_on = sym crate::entry::go_on,
    SETTLED = const Local::Settled as u64,
    UNSETTLED = const Local::Unsettled as u64,
    kernel_exception = sym crate::entry::kernel_exception,
    kernel_idle_exception = sym crate::entry::kernel_idle_exception,
);

/// A context stands at the start of its TCB, so that one base register serves for both.
const _: () = assert!(offset_of!(Tcb, context) == 0);
