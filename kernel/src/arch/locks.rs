// SPDX-License-Identifier: BSD-2-Clause
//! The fast paths with several cores: under this core's own lock.
//!
//! The code of `fastpath.rs` has no locks. Boot puts branches to here over single instructions of it
//! ([`sites`]); what stood there is executed here, before the branch back. A fast path takes the lock only if
//! it is free, so that it never waits: else the slow path does, in line with the others.
//!
//! Signals and receives on notifications take the slow path: a notification belongs to no core.

use crate::percore::arch_word;
use core::mem::offset_of;
use partita_abi::syscall;
use partita_kernel_core::object::{Context, Core, Tcb};
use partita_kernel_lock::TicketLock;

core::arch::global_asm!(
    r#"
    .section .low.locks, "ax", @progbits

// Takes this core's lock (its address in r\a afterwards), or goes on at \busy. Clobbers r\b, r\c and CR0. That
// nobody has come since `serving` was read is what the reservation says; isync: nothing of what follows is done
// before.
.macro TRY_LOCK a, b, c, busy
    ld \a, {LOCK}(13)
    lwz \b, {SERVING}(\a)
    lwarx \c, 0, \a, 1
    cmpw \c, \b
    addi \c, \c, 1
    bne- \busy
    stwcx. \c, 0, \a
    bne- \busy
    isync
.endm

// Gives it back. lwsync: everything before is done before.
.macro UNLOCK a, b
    ld \a, {LOCK}(13)
    lwz \b, {SERVING}(\a)
    addi \b, \b, 1
    lwsync
    stw \b, {SERVING}(\a)
.endm

locked_system_call:
    cmpdi 0, {CALL}
    beq fast_call
    cmpdi 0, {REPLY_RECV}
    beq fast_reply_recv
    b syscall_slow

locked_call:
    TRY_LOCK 24, 25, 26, busy
    andi. 24, 12, 0xfff           // first instruction of CHECK_MESSAGE
    b fast_call_taken + 4
locked_reply_recv:
    TRY_LOCK 24, 25, 26, busy
    andi. 24, 12, 0xfff
    b fast_reply_recv_taken + 4
// As at fast_refused, and at fast_call_elsewhere, which puts back less.
unlock_refused:
    UNLOCK 24, 25
busy:
    ld 23, {GPR} + 8*23(31)       // first instruction of fast_refused
    b fast_refused + 4
// As at fast_answered.
unlock_answered:
    UNLOCK 24, 25
    lis 12, return_to_current@high
    b fast_answered + 4

// r27 = the thread that runs next. It may have been called from another core the last time.
unlock_switched:
    ld 24, {CORE_ID}(13)
    std 24, {TCB_CORE}(27)
    UNLOCK 24, 25
    mtspr {PIDR}, 29
    b fast_switched + 4

// As at fast_exit.
locked_exit:
    TRY_LOCK 24, 25, 26, exit_busy
    ld 22, {GPR} + 8*3(11)
    b fast_exit + 4
unlock_exit:
    UNLOCK 24, 25
exit_busy:
    b guest_exit_slow
unlock_to_guest:
    UNLOCK 14, 15
    mr 12, 27
    b fast_to_guest + 4
"#,
    LOCK = const offset_of!(Core, arch) + 8 * arch_word::LOCK,
    SERVING = const TicketLock::SERVING,
    CALL = const syscall::CALL,
    REPLY_RECV = const syscall::REPLY_RECV,
    CORE_ID = const offset_of!(Core, id),
    TCB_CORE = const offset_of!(Tcb, core),
    GPR = const offset_of!(Context, gpr),
    PIDR = const super::spr::PIDR,
);

/// The reservation is on the first word of a lock.
const _: () = assert!(TicketLock::NEXT == 0);

unsafe extern "C" {
    static vector_c00_from_pd: u8;
    static fast_call_taken: u8;
    static fast_reply_recv_taken: u8;
    static fast_refused: u8;
    static fast_call_elsewhere: u8;
    static fast_answered: u8;
    static fast_switched: u8;
    static fast_exit: u8;
    static fast_exit_refused: u8;
    static fast_to_guest: u8;
    static locked_system_call: u8;
    static locked_call: u8;
    static locked_reply_recv: u8;
    static unlock_refused: u8;
    static unlock_answered: u8;
    static unlock_switched: u8;
    static locked_exit: u8;
    static unlock_exit: u8;
    static unlock_to_guest: u8;
}

/// Instructions of the low block that become branches when there is more than one core, and where they go
/// then. Linked addresses.
pub fn sites() -> [(u64, u64); 10] {
    [
        (&raw const vector_c00_from_pd, &raw const locked_system_call),
        (&raw const fast_call_taken, &raw const locked_call),
        (
            &raw const fast_reply_recv_taken,
            &raw const locked_reply_recv,
        ),
        (&raw const fast_refused, &raw const unlock_refused),
        (&raw const fast_call_elsewhere, &raw const unlock_refused),
        (&raw const fast_answered, &raw const unlock_answered),
        (&raw const fast_switched, &raw const unlock_switched),
        (&raw const fast_exit, &raw const locked_exit),
        (&raw const fast_exit_refused, &raw const unlock_exit),
        (&raw const fast_to_guest, &raw const unlock_to_guest),
    ]
    .map(|(site, target)| (site as u64, target as u64))
}
