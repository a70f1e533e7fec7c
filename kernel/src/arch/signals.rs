// SPDX-License-Identifier: BSD-2-Clause
//! The fast paths of signals and receives: NBSend and Send to a notification, Recv on an endpoint or on the bound
//! notification, NBSendRecv, which is both, and the answer to a VM fault.
//!
//! As in `fastpath.rs`: everything is checked before anything is changed, and whatever is unusual is left to the
//! slow path, which comes to the same result. They serve threads of PDs with time of their own, on this core.
//!
//! A notification may be used here by the core of the thread that is bound to it, or that waits for it. With several
//! cores it, and a reply object, must be at home here, which `locks.rs` adds: each macro that looks at one takes the
//! name of the instruction that becomes a branch then.
//!
//! In: as at `vector_c00_from_pd`. A signal's message words mean nothing, so r4..r12 are scratch as soon as the
//! capability is known to be a notification's; LR, CTR and XER are lost.

use super::low::fast_path;
use super::spr;
use crate::percore::arch_word;
use core::mem::offset_of;
use partita_abi::{FaultLabel, syscall};
use partita_kernel_core::cap::{rights_bit, tag};
use partita_kernel_core::object::{
    Context, Core, Endpoint, Notification, NotificationState, Reply, SchedContext, Slot, Tcb,
    ThreadState, Timer,
};
use partita_kernel_core::vcpu::{STOLEN_NOTE, Vcpu, dispatch, pause, rest};

/// Type byte and rights of a notification capability that may be signalled.
const SIGNALLABLE: u64 = tag::NOTIFICATION << 8 | rights_bit::SEND;
/// Type byte and rights of a notification capability that may be waited for.
const WAITABLE: u64 = tag::NOTIFICATION << 8 | rights_bit::RECEIVE;

fast_path!(
    r#"
    .section .low.fastpath, "ax", @progbits

// r26 = notification and r23 = badge of the capability at r25; r4..r12 are scratch then.
.macro TAKE_NOTIFICATION otherwise
    ld 26, {W0}(25)
    ld 23, {W1}(25)
    srdi 27, 26, 48
    andi. 28, 27, 0xff00 | {SEND}
    cmpldi 28, {SIGNALLABLE}
    bne- \otherwise
    clrldi 26, 26, 16
.endm

// r27 = the only thread that a signal to r26 wakes. cr1[eq]: it waits for the notification itself. Else it is bound and
// receives on an endpoint. Nobody: to \nobody, with r4 = state, r27 = bound thread of this core.
.macro FIND_WAITER nobody, site
    .globl \site
\site:
    ld 4, {NTFN_STATE}(26)
    ld 27, {NTFN_HEAD}(26)
    cmpdi 1, 4, {WAITING}
    beq- 1, .L1\@
    ld 27, {NTFN_BOUND}(26)
    ld 6, {CORE_ID}(13)
    cmpdi 27, 0
    beq- fast_refused
    ld 7, {TCB_CORE}(27)
    ld 5, {TCB_STATE}(27)
    cmpd 6, 7
    bne- fast_refused
    cmpdi 4, {ACTIVE}
    beq- \nobody
    cmpdi 5, {BLOCKED_ON_RECEIVE}
    bne- \nobody
.L1\@:
.endm

// Thread r27 is alone in its queue.
.macro CHECK_ALONE site
    .globl \site
\site:
    ld 6, {TCB_NEXT}(27)
    ld 7, {TCB_PREV}(27)
    or. 6, 6, 7
    bne- fast_refused
.endm

// Thread r27 can run now, on this core and on time of its own. r5 = its scheduling context, r8 = its budget, r9 = the
// current scheduling context, r10 = now.
.macro CHECK_TIME
    ld 5, {TCB_SC}(27)
    ld 9, {CURRENT_SC}(13)
    cmpdi 5, 0
    cmpdi 1, 9, 0
    beq- fast_refused
    beq- 1, fast_refused
    ld 6, {TCB_CORE}(27)
    ld 7, {CORE_ID}(13)
    ld 8, {TCB_KIND}(27)
    xor 6, 6, 7
    ld 7, {SC_IN_RELEASE}(5)
    or 6, 6, 8
    ld 8, {RESCHEDULE}(13)
    or 6, 6, 7
    or. 6, 6, 8
    bne- fast_refused
    mfspr 10, {TB}
    ld 7, {SC_REPLENISH}(5)
    ld 8, {SC_REMAINING}(5)
    cmpld 10, 7
    cmpdi 1, 8, 0
    bge- fast_refused
    ble- 1, fast_refused
.endm

// Time is charged to r5 from now on: as CHECK_TIME leaves the registers. After SAVE_THREAD.
.macro SWITCH_TIME
    ld 14, {SC_VCPU}(9)
    ld 15, {SC_VCPU}(5)
    ld 4, {CHARGED_FROM}(13)
    ld 6, {SC_REMAINING}(9)
    ld 7, {SC_CONSUMED}(9)
    or. 16, 14, 15
    subf 4, 4, 10
    subf 6, 4, 6
    add 7, 7, 4
    bnel- note_dispatch
    std 6, {SC_REMAINING}(9)
    std 7, {SC_CONSUMED}(9)
    ld 4, {RELEASE_HEAD}(13)
    ld 7, {TIMER_HEAD}(13)
    add 6, 10, 8
    cmpdi 4, 0
    cmpdi 1, 7, 0
    std 10, {CHARGED_FROM}(13)
    std 5, {CURRENT_SC}(13)
    beq+ .L1\@
    ld 4, {SC_REPLENISH}(4)
    MINIMUM 6, 4
.L1\@:  beq+ 1, .L2\@
    ld 7, {TIMER_DEADLINE}(7)
    MINIMUM 6, 7
.L2\@:  subf. 8, 10, 6
    std 6, {DEADLINE}(13)
    bgt+ .L3\@
    li 8, 1                       // HDEC interrupts when it passes from 0 to -1
.L3\@:  mtspr {HDEC}, 8
.endm

// r\a = the smaller one of r\a and r\b.
.macro MINIMUM a, b
    cmpld \a, \b
    ble+ .L9\@
    mr \a, \b
.L9\@:
.endm

// The rest of what a blocked or preempted thread needs again: its system call, and what calls preserve.
.macro SAVE_THREAD
    std 0, {GPR} + 8*0(31)
    std 1, {GPR} + 8*1(31)
    std 2, {GPR} + 8*2(31)
    std 3, {GPR} + 8*3(31)
    .irp n, 14,15,16,17,18,19,20,21,22
    std \n, {GPR} + 8*\n(31)
    .endr
    mfspr 4, {HSPRG1}
    mfcr 6
    mfspr 7, {SRR0}
    std 4, {GPR} + 8*13(31)
    std 6, {CR}(31)
    std 7, {PC}(31)
    li 0, 0
.endm

// Thread r27 leaves what it waited at, as FIND_WAITER told in cr1 (kept in cr5 here).
.macro WAKE
    bne- 5, .L1\@
    std 0, {NTFN_HEAD}(26)
    std 0, {NTFN_TAIL}(26)
    std 0, {NTFN_STATE}(26)
    b .L2\@
.L1\@:  ld 11, {TCB_BLOCKED_ON}(27)
    ld 6, {TCB_REPLY}(27)
    ld 4, {EP_STATE}(11)
    cmpdi 6, 0
    clrrdi 4, 4, 8                // idle; its core stays
    std 0, {EP_HEAD}(11)
    std 0, {EP_TAIL}(11)
    std 4, {EP_STATE}(11)
    beq- .L2\@
    std 0, {REPLY_TCB}(6)
    std 0, {TCB_REPLY}(27)
.L2\@:  li 4, {RUNNING}
    std 0, {TCB_BLOCKED_ON}(27)
    std 4, {TCB_STATE}(27)
.endm

// The thread can wait at what r3 names: an endpoint (r24), with the reply object (r28) that r14 names, or, if
// cr6[eq], the notification (r24) that is bound to it. r29, r30 as CHECK_CSPACE leaves them.
.macro TAKE_SOURCE site
    LOOK_UP 25, 3
    ld 24, {W0}(25)
    srdi 6, 24, 48
    clrldi 24, 24, 16
    andi. 6, 6, 0xff00 | {RECEIVE}
    cmpldi 6, 6, {WAITABLE}
    cmpldi 6, {RECEIVABLE}
    beq- 6, .L1\@
    bne- fast_refused
    LOOK_UP 28, 14
    ld 28, {W0}(28)
    ld 7, {EP_STATE}(24)
    srdi 6, 28, {TYPE_SHIFT}
    ld 8, {EP_IDLE_HERE}(13)
    cmpdi 6, {REPLY_TAG}
    cmpd 1, 7, 8
    bne- fast_refused
    bne- 1, fast_refused
    clrldi 28, 28, 16
    .globl \site
\site:
    ld 6, {REPLY_TCB}(28)
    cmpdi 6, 0
    bne- fast_refused
    b .L2\@
.L1\@:  ld 6, {NTFN_BOUND}(24)
    cmpd 6, 31
    bne- fast_refused
.L2\@:
.endm

// Of what the running thread has bound: r\ntfn = notification, cr0[eq]: none, cr1[eq]: a signal has come to it.
.macro CHECK_BOUND ntfn, site
    ld \ntfn, {TCB_NOTIFICATION}(31)
    cmpdi \ntfn, 0
    crclr 6
    beq- .L1\@
    .globl \site
\site:
    ld 4, {NTFN_SC}(\ntfn)
    ld 6, {NTFN_STATE}(\ntfn)
    cmpdi 4, 0
    cmpdi 1, 6, {ACTIVE}
    bne- fast_refused
.L1\@:
.endm

// The running thread waits as TAKE_SOURCE says. r0 = 0.
.macro BLOCK
    std 24, {TCB_BLOCKED_ON}(31)
    beq- 6, .L1\@
    li 4, {BLOCKED_ON_RECEIVE}
    ld 6, {EP_RECEIVE_HERE}(13)
    std 4, {TCB_STATE}(31)
    std 28, {TCB_REPLY}(31)
    std 0, {TCB_SEND_FLAGS}(31)
    std 31, {REPLY_TCB}(28)
    std 31, {EP_HEAD}(24)
    std 31, {EP_TAIL}(24)
    std 6, {EP_STATE}(24)
    b .L2\@
.L1\@:  li 4, {BLOCKED_ON_NOTIFICATION}
    li 6, {WAITING}
    std 4, {TCB_STATE}(31)
    std 31, {NTFN_HEAD}(24)
    std 31, {NTFN_TAIL}(24)
    std 6, {NTFN_STATE}(24)
.L2\@:
.endm

// A guest's processor time begins or ends (Kernel::note_dispatch): r14 = VCPU of the time that ends, r15 = of the time
// that begins, 0: none; r10 = now, r0 = 0. r14 and r16 to r19 are scratch.
note_dispatch:
    cmpdi 14, 0
    beq- 2f
    ld 16, {V_REST}(14)
    ld 17, {V_PAUSE}(14)
    ld 18, {V_COUNTER}(14)
    cmpdi 16, {REST_NONE}
    cmpdi 1, 17, {PAUSED}
    bne- 1f
    beq- 1, 1f
    std 10, {V_READY_SINCE}(14)
1:  cmpdi 18, 0
    beq- 2f
    lwbrx 16, 0, 18
    addi 16, 16, 1
    stwbrx 16, 0, 18
2:  cmpdi 15, 0
    beqlr
    ld 16, {V_DISPATCHES}(15)
    ld 17, {V_READY_SINCE}(15)
    ld 18, {V_READY_TICKS}(15)
    addi 16, 16, 1
    cmpdi 17, 0
    std 16, {V_DISPATCHES}(15)
    beq- 3f
    subf 17, 17, 10
    add 18, 18, 17
    std 0, {V_READY_SINCE}(15)
    std 18, {V_READY_TICKS}(15)
3:  ld 16, {V_SLEPT}(15)
    ld 19, {V_COUNTER}(15)
    li 17, {PREEMPTED}
    cmpdi 16, 0
    beq+ 4f
    li 17, {CEDED}
    std 0, {V_SLEPT}(15)
4:  cmpdi 19, 0
    std 17, {V_DISPATCH_REASON}(15)
    beqlr
    lwbrx 16, 0, 19
    ld 17, {V_TOLD_TICKS}(15)
    ld 14, {V_EVERY_DISPATCH}(15)
    addi 16, 16, 1
    subf 18, 17, 18
    cmpdi 14, 0
    cmpldi 1, 18, {STOLEN_NOTE}
    stwbrx 16, 0, 19
    bne- 5f
    bltlr+ 1
5:  li 16, 1
    std 16, {V_ENTRY_WANTED}(15)
    std 16, {V_ATTENTION}(15)
    blr

    .globl fast_send
fast_send:
    TAKE_SCRATCH
    .globl fast_send_taken
fast_send_taken:
    CHECK_CSPACE
    LOOK_UP 25, 3
    TAKE_NOTIFICATION 8f
    FIND_WAITER 5f, fast_send_home
    mcrf 5, 1
    CHECK_ALONE fast_send_alone
    CHECK_TIME
    ld 11, {TCB_PRIORITY}(31)
    ld 7, {TCB_PRIORITY}(27)
    cmpld 11, 7
    bge- fast_refused             // it is made ready, no more
    ld 29, {TCB_PID}(27)

// Nothing fails from here on. The running thread goes to the head of its priority.
    SAVE_THREAD
    sldi 6, 11, 3
    add 6, 6, 13
    li 7, 1
    ld 12, {READY_HEAD}(6)
    std 0, {TCB_PREV}(31)
    std 12, {TCB_NEXT}(31)
    std 7, {QUEUED}(31)
    std 31, {READY_HEAD}(6)
    cmpdi 12, 0
    bne- 3f
    std 31, {READY_TAIL}(6)
    srdi 6, 11, 6
    sldi 6, 6, 3
    add 6, 6, 13
    clrldi 12, 11, 58
    sld 7, 7, 12
    ld 12, {READY_BITS}(6)
    addi 11, 11, 1
    or 12, 12, 7
    std 12, {READY_BITS}(6)
    std 11, {READY_TOP}(13)
4:  SWITCH_TIME
    WAKE
    mr 3, 23
    li 12, 0
    b fast_switch
3:  std 31, {TCB_PREV}(12)
    b 4b

// Nobody waits: the bits stay for later.
5:  ld 6, {NTFN_BADGE}(26)
    cmpdi 4, {ACTIVE}
    li 7, {ACTIVE}
    beq- 6f
    li 6, 0
    std 7, {NTFN_STATE}(26)
6:  or 6, 6, 23
    std 6, {NTFN_BADGE}(26)
    b fast_done
// A send that does not block does nothing if there is nothing.
8:  cmpdi 26, 0
    cmpdi 1, 0, {NB_SEND}
    bne- fast_refused
    bne- 1, fast_refused
// The thread goes on. r0 and r3..r12 mean nothing; r24..r31 are put back.
fast_done:
    li 0, 0
    li 3, 0
    li 12, 0
// The same with results in r0, r3 and r12, and no message.
fast_signalled:
    li 4, 0
    li 5, 0
    li 6, 0
    li 7, 0
    li 8, 0
    li 9, 0
    li 10, 0
    li 11, 0
    mtctr 0
    .globl fast_signalled_done
fast_signalled_done:
    .irp n, 23,24,25,26,27,28,29,30
    ld \n, {GPR} + 8*\n(31)
    .endr
    ld 31, {GPR} + 8*31(31)
    mfspr 13, {HSPRG1}
    rfid

    .globl fast_recv
fast_recv:
    TAKE_SCRATCH
    .globl fast_recv_taken
fast_recv_taken:
    CHECK_CSPACE
    TAKE_SOURCE fast_recv_reply
    CHECK_BOUND 26, fast_recv_bound
    beq- 1, 3f
    ld 11, {READY_TOP}(13)
    cmpdi 11, 0
    sldi 25, 11, 3
    add 25, 25, 13
    beq- fast_refused
    ld 27, {READY_HEAD} - 8(25)
    ld 4, {TCB_STATE}(27)
    addi 4, 4, -{RUNNING}
    cmpldi 4, {RESTART} - {RUNNING}
    bgt- fast_refused
    CHECK_TIME

// Nothing fails from here on.
    SAVE_THREAD
    BLOCK
    SWITCH_TIME
// The next thread leaves the head of its queue.
    ld 6, {TCB_NEXT}(27)
    std 0, {TCB_NEXT}(27)
    std 0, {QUEUED}(27)
    std 6, {READY_HEAD} - 8(25)
    cmpdi 6, 0
    beq+ 4f
    std 0, {TCB_PREV}(6)
2:  std 27, {CURRENT}(13)
    .globl fast_received
fast_received:
    lis 12, return_to_current@high
    ori 12, 12, return_to_current@l
    mtctr 12
    bctr
// A signal has come meanwhile.
3:  ld 3, {NTFN_BADGE}(26)
    li 0, 0
    li 12, 0
    std 0, {NTFN_BADGE}(26)
    std 0, {NTFN_STATE}(26)
    b fast_signalled
// It was the last of its priority: find the next one that has threads. r11 = priority + 1.
4:  std 0, {READY_TAIL} - 8(25)
    addi 11, 11, -1
    srdi 7, 11, 6
    clrldi 8, 11, 58
    li 9, 1
    sld 9, 9, 8
5:  sldi 8, 7, 3
    add 8, 8, 13
    ld 10, {READY_BITS}(8)
    andc. 10, 10, 9
    std 10, {READY_BITS}(8)
    cntlzd 12, 10
    bne- 6f
    li 9, 0
    addic. 7, 7, -1
    bge+ 5b
    std 0, {READY_TOP}(13)
    b 2b
6:  sldi 7, 7, 6
    addi 7, 7, 64
    subf 7, 12, 7
    std 7, {READY_TOP}(13)
    b 2b

    .globl fast_send_recv
fast_send_recv:
    TAKE_SCRATCH
    .globl fast_send_recv_taken
fast_send_recv_taken:
    CHECK_CSPACE
    LOOK_UP 25, 15
    TAKE_NOTIFICATION fast_refused
    FIND_WAITER fast_refused, fast_send_recv_home
    mcrf 5, 1
    CHECK_ALONE fast_send_recv_alone
    TAKE_SOURCE fast_send_recv_reply
    CHECK_BOUND 11, fast_send_recv_bound
    beq- 1, fast_refused          // a signal has come: it does not wait
    ld 4, {TCB_PRIORITY}(27)
    ld 6, {READY_TOP}(13)
    addi 4, 4, 1
    cmpld 4, 6
    blt- fast_refused             // somebody better is ready
    CHECK_TIME
    ld 29, {TCB_PID}(27)

// Nothing fails from here on.
    std 12, {GPR} + 8*12(31)
    SAVE_THREAD
    SWITCH_TIME
    WAKE
    BLOCK
    mr 3, 23
    li 12, 0
    b fast_switch

// ReplyRecv that answers a VM fault, whatever the answer says: the faulting thread goes on, on time of its own. In: from
// fast_reply_recv, which has checked the receiving half; r24 = scheduling context of the reply object (r28), r26 = endpoint,
// r27 = thread of the reply object or 0.
    .globl fast_answer_fault
fast_answer_fault:
    cmpdi 24, 0
    cmpdi 1, 27, 0
    bne- fast_refused
    beq- 1, fast_refused
    ld 24, {TCB_FAULT}(27)
    ld 25, {TCB_STATE}(27)
    cmpdi 24, {VM_FAULT}
    cmpdi 1, 25, {BLOCKED_ON_REPLY}
    bne- fast_refused
    bne- 1, fast_refused
    ld 25, {TCB_NOTIFICATION}(31)
    cmpdi 25, 0
    beq+ 1f
    ld 25, {NTFN_SC}(25)
    cmpdi 25, 0
    bne- fast_refused             // its time may be the notification's, and goes back
1:  ld 23, {REPLY_PREV}(28)
    ld 24, {REPLY_NEXT}(28)
    ld 25, {TCB_PRIORITY}(27)
    ld 29, {READY_TOP}(13)
    or 23, 23, 24
    addi 25, 25, 1
    cmpdi 23, 0
    cmpld 1, 25, 29
    bne- fast_refused
    blt- 1, fast_refused          // somebody better is ready
    CHECK_TIME                    // the answer's words mean nothing

// Nothing fails from here on.
    SAVE_THREAD
    mr 24, 26
    crclr 26                      // cr6: it waits at an endpoint
    SWITCH_TIME
    BLOCK
    li 4, {RESTART}
    std 0, {TCB_FAULT}(27)
    std 0, {TCB_REPLY}(27)
    std 4, {TCB_STATE}(27)
    std 27, {CURRENT}(13)
    .globl fast_answered
fast_answered:
    lis 12, return_to_current@high
    ori 12, 12, return_to_current@l
    mtctr 12
    bctr
"#,
    HDEC = const spr::HDEC,
    TB = const spr::TB,
    CURRENT_SC = const offset_of!(Core, current_sc),
    CHARGED_FROM = const offset_of!(Core, charged_from),
    DEADLINE = const offset_of!(Core, deadline),
    RESCHEDULE = const offset_of!(Core, reschedule),
    RELEASE_HEAD = const offset_of!(Core, release.first),
    TIMER_HEAD = const offset_of!(Core, timers.first),
    READY_BITS = const offset_of!(Core, ready_bits),
    READY_HEAD = const offset_of!(Core, ready_head),
    READY_TAIL = const offset_of!(Core, ready_tail),
    TCB_SEND_FLAGS = const offset_of!(Tcb, send_flags),
    QUEUED = const offset_of!(Tcb, queued),
    NTFN_HEAD = const offset_of!(Notification, head),
    NTFN_TAIL = const offset_of!(Notification, tail),
    NTFN_BADGE = const offset_of!(Notification, badge),
    NTFN_BOUND = const offset_of!(Notification, bound_tcb),
    NTFN_SC = const offset_of!(Notification, sched_context),
    SC_IN_RELEASE = const offset_of!(SchedContext, in_release_queue),
    V_REST = const offset_of!(Vcpu, rest),
    V_PAUSE = const offset_of!(Vcpu, pause),
    V_EVERY_DISPATCH = const offset_of!(Vcpu, every_dispatch),
    V_COUNTER = const offset_of!(Vcpu, dispatch_counter),
    V_READY_SINCE = const offset_of!(Vcpu, ready_since),
    V_READY_TICKS = const offset_of!(Vcpu, ready_ticks),
    V_TOLD_TICKS = const offset_of!(Vcpu, told_ticks),
    V_DISPATCHES = const offset_of!(Vcpu, dispatches),
    V_DISPATCH_REASON = const offset_of!(Vcpu, dispatch_reason),
    V_SLEPT = const offset_of!(Vcpu, slept),
    V_ENTRY_WANTED = const offset_of!(Vcpu, entry_wanted),
    REST_NONE = const rest::NONE,
    PAUSED = const pause::PAUSED,
    PREEMPTED = const dispatch::PREEMPTED,
    CEDED = const dispatch::CEDED,
    STOLEN_NOTE = const STOLEN_NOTE,
    SC_VCPU = const offset_of!(SchedContext, vcpu),
    SC_REPLENISH = const offset_of!(SchedContext, replenish_at),
    SC_REMAINING = const offset_of!(SchedContext, remaining),
    SC_CONSUMED = const offset_of!(SchedContext, consumed),
    TIMER_DEADLINE = const offset_of!(Timer, node.time),
    SIGNALLABLE = const SIGNALLABLE,
    WAITABLE = const WAITABLE,
    WAITING = const NotificationState::Waiting as u64,
    RESTART = const ThreadState::Restart as u64,
    VM_FAULT = const FaultLabel::VMFault as u64,
    BLOCKED_ON_NOTIFICATION = const ThreadState::BlockedOnNotification as u64,
    NB_SEND = const syscall::NB_SEND,
);

/// What the code above relies on.
const _: () = assert!(NotificationState::Idle as u64 == 0);
