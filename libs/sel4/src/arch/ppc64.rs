// SPDX-License-Identifier: BSD-2-Clause
//! System calls of powerpc64le: register assignment as in the documentation of `partita_abi`.

use super::{MessageIn, Received};
use core::arch::asm;
use partita_abi::syscall;

/// `sc` with everything that the kernel may change beside the named operands.
macro_rules! sc {
    ($($operand:tt)*) => {
        asm!(
            "sc",
            $($operand)*,
            lateout("lr") _, lateout("ctr") _, lateout("xer") _,
            lateout("cr0") _, lateout("cr1") _, lateout("cr5") _, lateout("cr6") _, lateout("cr7") _,
            options(nostack),
        )
    };
}

/// A receiving system call: message registers in and out.
macro_rules! sc_receive {
    ($number:expr, $r3:expr, $info:expr, $words:expr $(, $operand:ident($reg:tt) $value:expr)*) => {{
        let (badge, info): (u64, u64);
        let (m0, m1, m2, m3, m4, m5, m6, m7): (u64, u64, u64, u64, u64, u64, u64, u64);
        let words: MessageIn = $words;
        sc!(
            inlateout("r0") $number => _,
            inlateout("r3") $r3 => badge,
            inlateout("r4") words[0] => m0,
            inlateout("r5") words[1] => m1,
            inlateout("r6") words[2] => m2,
            inlateout("r7") words[3] => m3,
            inlateout("r8") words[4] => m4,
            inlateout("r9") words[5] => m5,
            inlateout("r10") words[6] => m6,
            inlateout("r11") words[7] => m7,
            inlateout("r12") $info => info
            $(, $operand($reg) $value)*
        );
        Received { badge, info, words: [m0, m1, m2, m3, m4, m5, m6, m7] }
    }};
}

/// `Send`, `NBSend`: `number` says which.
#[inline(always)]
pub fn send(number: isize, cptr: u64, info: u64, words: MessageIn) {
    // SAFETY: the operands name every register that the system call changes; it changes memory only
    // as a capability of this thread permits (the IPC buffer, which Rust knows as a raw pointer).
    unsafe {
        sc!(
            inlateout("r0") number => _,
            inlateout("r3") cptr => _,
            inlateout("r4") words[0] => _,
            inlateout("r5") words[1] => _,
            inlateout("r6") words[2] => _,
            inlateout("r7") words[3] => _,
            inlateout("r8") words[4] => _,
            inlateout("r9") words[5] => _,
            inlateout("r10") words[6] => _,
            inlateout("r11") words[7] => _,
            inlateout("r12") info => _
        );
    }
}

/// `Call`.
#[inline(always)]
pub fn call(cptr: u64, info: u64, words: MessageIn) -> Received {
    // SAFETY: as in `send`.
    unsafe { sc_receive!(syscall::CALL, cptr, info, words) }
}

/// `Recv`, `NBRecv`, `Wait`, `NBWait`: `number` says which. Waits ignore `reply`.
#[inline(always)]
pub fn recv(number: isize, cptr: u64, reply: u64) -> Received {
    let (badge, info): (u64, u64);
    let (m0, m1, m2, m3, m4, m5, m6, m7): (u64, u64, u64, u64, u64, u64, u64, u64);
    // SAFETY: as in `send`.
    unsafe {
        sc!(
            inlateout("r0") number => _,
            inlateout("r3") cptr => badge,
            lateout("r4") m0, lateout("r5") m1, lateout("r6") m2, lateout("r7") m3,
            lateout("r8") m4, lateout("r9") m5, lateout("r10") m6, lateout("r11") m7,
            lateout("r12") info,
            in("r14") reply
        );
    }
    Received {
        badge,
        info,
        words: [m0, m1, m2, m3, m4, m5, m6, m7],
    }
}

/// `ReplyRecv`.
#[inline(always)]
pub fn reply_recv(cptr: u64, info: u64, words: MessageIn, reply: u64) -> Received {
    // SAFETY: as in `send`.
    unsafe { sc_receive!(syscall::REPLY_RECV, cptr, info, words, in("r14") reply) }
}

/// `NBSendRecv`, `NBSendWait`: `number` says which; the latter ignores `reply`.
#[inline(always)]
pub fn nb_send_recv(
    number: isize,
    dest: u64,
    info: u64,
    words: MessageIn,
    src: u64,
    reply: u64,
) -> Received {
    // SAFETY: as in `send`.
    unsafe { sc_receive!(number, src, info, words, in("r14") reply, in("r15") dest) }
}

/// `Yield` and others without arguments.
#[inline(always)]
pub fn null(number: isize) {
    send(number, 0, 0, super::NO_WORDS);
}

/// Debug system calls: one argument in r3, one result there.
#[inline(always)]
pub fn debug(number: isize, argument: u64) -> u64 {
    call_shape(number, argument)
}

#[inline(always)]
fn call_shape(number: isize, argument: u64) -> u64 {
    recv(number, argument, 0).badge
}

/// The timebase: [`crate::TIMEBASE_HZ`] ticks per second since some time before boot.
#[inline]
pub fn timebase() -> u64 {
    let ticks;
    // SAFETY: reading the timebase (SPR 268) changes nothing.
    unsafe { asm!("mfspr {}, 268", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
    ticks
}

/// Ends the thread's work with a fault to its fault handler.
pub fn trap() -> ! {
    // SAFETY: the instruction changes nothing and is not returned from: the handler has no reason
    // to resume a thread there, and if it does, the thread traps again.
    unsafe { asm!("1:", "trap", "b 1b", options(noreturn, nostack)) }
}
