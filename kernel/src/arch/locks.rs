// SPDX-License-Identifier: BSD-2-Clause
//! The fast paths with several cores: under this core's own lock.
//!
//! The code of `fastpath.rs` has no locks. Boot puts branches to here over single instructions of it
//! ([`sites`]); what stood there is executed here, before the branch back. A fast path takes the lock only if
//! it is free, so that it never waits: else the slow path does, in line with the others.
//!
//! A notification, or a reply object that is nobody's, must be at home on this core: its `home` is.

use crate::percore::arch_word;
use core::mem::offset_of;
use partita_kernel_core::object::{Context, Core, Endpoint, Notification, Reply, Tcb};
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

// An entry: \instruction is what stood at \site.
.macro LOCKED name, site, instruction:vararg
\name:
    TRY_LOCK 24, 25, 26, busy
    \instruction
    b \site + 4
.endm

    LOCKED locked_call, fast_call_taken, andi. 24, 12, 0xfff
    LOCKED locked_reply_recv, fast_reply_recv_taken, andi. 24, 12, 0xfff
    LOCKED locked_send, fast_send_taken, ld 24, {TCB_EPOCH}(31)
    LOCKED locked_recv, fast_recv_taken, ld 24, {TCB_EPOCH}(31)
    LOCKED locked_send_recv, fast_send_recv_taken, ld 24, {TCB_EPOCH}(31)

// Goes back to \site, executing \instruction, if what r\object points to is at home here. Clobbers r\a, r\b and CR0.
.macro AT_HOME name, site, object, home, a, b, instruction:vararg
\name:
    ld \a, \home(\object)
    ld \b, {CORE_ID}(13)
    cmpd \a, \b
    bne- unlock_refused
    \instruction
    b \site + 4
.endm

    AT_HOME home_send, fast_send_home, 26, {NTFN_HOME}, 4, 6, ld 4, {NTFN_STATE}(26)
    AT_HOME home_send_recv, fast_send_recv_home, 26, {NTFN_HOME}, 4, 6, ld 4, {NTFN_STATE}(26)
    AT_HOME home_recv_bound, fast_recv_bound, 26, {NTFN_HOME}, 4, 6, ld 4, {NTFN_SC}(26)
    AT_HOME home_send_recv_bound, fast_send_recv_bound, 11, {NTFN_HOME}, 4, 6, ld 4, {NTFN_SC}(11)
    AT_HOME home_reply_recv_bound, fast_reply_recv_bound, 24, {NTFN_HOME}, 27, 30, ld 24, {NTFN_STATE}(24)
    AT_HOME home_recv_reply, fast_recv_reply, 28, {REPLY_HOME}, 6, 7, ld 6, {REPLY_TCB}(28)
    AT_HOME home_send_recv_reply, fast_send_recv_reply, 28, {REPLY_HOME}, 6, 7, ld 6, {REPLY_TCB}(28)

// The thread that a signal wakes (r27) waits at the notification (cr1[eq]), or at an endpoint of this core. Clobbers r6,
// r7, r11 and CR0.
.macro ALONE_HERE name, site
\name:
    beq- 1, 1f
    ld 11, {TCB_BLOCKED_ON}(27)
    ld 7, {EP_RECEIVE_HERE}(13)
    ld 6, {EP_STATE}(11)
    cmpd 6, 7
    bne- unlock_refused
1:  ld 6, {TCB_NEXT}(27)
    b \site + 4
.endm

    ALONE_HERE alone_send, fast_send_alone
    ALONE_HERE alone_send_recv, fast_send_recv_alone

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

unlock_received:
    UNLOCK 24, 25
    lis 12, return_to_current@high
    b fast_received + 4
unlock_signalled:
    UNLOCK 24, 25
    ld 23, {GPR} + 8*23(31)
    b fast_signalled_done + 4

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
    mfspr 14, {HDEC}              // 56 bits
    lis 15, {GUEST_TURN}@h
    sldi 14, 14, 8
    sradi 14, 14, 8
    ori 15, 15, {GUEST_TURN}@l
    cmpd 14, 15
    ble+ 1f
    mtspr {HDEC}, 15
1:
    mr 12, 27
    b fast_to_guest + 4
"#,
    LOCK = const offset_of!(Core, arch) + 8 * arch_word::LOCK,
    SERVING = const TicketLock::SERVING,
    EP_RECEIVE_HERE = const offset_of!(Core, arch) + 8 * arch_word::EP_RECEIVE,
    CORE_ID = const offset_of!(Core, id),
    TCB_CORE = const offset_of!(Tcb, core),
    TCB_EPOCH = const offset_of!(Tcb, cspace_epoch),
    TCB_BLOCKED_ON = const offset_of!(Tcb, blocked_on),
    TCB_NEXT = const offset_of!(Tcb, queue_next),
    EP_STATE = const offset_of!(Endpoint, state),
    NTFN_HOME = const offset_of!(Notification, home),
    NTFN_STATE = const offset_of!(Notification, state),
    NTFN_SC = const offset_of!(Notification, sched_context),
    REPLY_HOME = const offset_of!(Reply, home),
    REPLY_TCB = const offset_of!(Reply, tcb),
    GPR = const offset_of!(Context, gpr),
    PIDR = const super::spr::PIDR,
    HDEC = const super::spr::HDEC,
    GUEST_TURN = const crate::smp::GUEST_TURN,
);

/// The reservation is on the first word of a lock.
const _: () = assert!(TicketLock::NEXT == 0);

/// Defines [`sites`].
macro_rules! sites {
    ($($site:ident => $target:ident,)*) => {
        /// Instructions of the low block that become branches when there is more than one core, and where they go
        /// then. Linked addresses.
        pub fn sites() -> [(u64, u64); [$(stringify!($site)),*].len()] {
            unsafe extern "C" {
                $(static $site: u8;)*
            }
            /// Where they go: some go to the same place.
            mod target {
                unsafe extern "C" {
                    $(#[link_name = stringify!($target)] pub static $site: u8;)*
                }
            }
            [$((&raw const $site as u64, &raw const target::$site as u64)),*]
        }
    };
}

sites! {
    fast_call_taken => locked_call,
    fast_reply_recv_taken => locked_reply_recv,
    fast_send_taken => locked_send,
    fast_recv_taken => locked_recv,
    fast_send_recv_taken => locked_send_recv,
    fast_send_home => home_send,
    fast_send_recv_home => home_send_recv,
    fast_recv_bound => home_recv_bound,
    fast_send_recv_bound => home_send_recv_bound,
    fast_reply_recv_bound => home_reply_recv_bound,
    fast_recv_reply => home_recv_reply,
    fast_send_recv_reply => home_send_recv_reply,
    fast_send_alone => alone_send,
    fast_send_recv_alone => alone_send_recv,
    fast_refused => unlock_refused,
    fast_call_elsewhere => unlock_refused,
    fast_answered => unlock_answered,
    fast_received => unlock_received,
    fast_signalled_done => unlock_signalled,
    fast_switched => unlock_switched,
    fast_exit => locked_exit,
    fast_exit_refused => unlock_exit,
    fast_to_guest => unlock_to_guest,
}
