// SPDX-License-Identifier: BSD-2-Clause
//! Assembler macros of the low block, for each `global_asm!` that uses them: the compiler emits those
//! blocks in no particular order, so none may count on what another defines.

use partita_kernel_core::cap::{rights_bit, tag};

/// Text that defines `SAVE` and `JUMP`, once. Operands: HSPRG1, S0 to S2, GPR, CR, LR, CTR, XER, PC,
/// MSR, STACK, TOC.
macro_rules! low_macros {
    () => {
        r#"
.ifndef low_macros
.set low_macros, 1
// Saves everything into the context at r11. In: r13 = Core, scratch 0 = r12, scratch 1 = r11,
// scratch 2 = CR, HSPRG1 = r13. Out: r3 = Core, r4 = r12 as it comes in, r5 = [H]SRR1; stack and TOC
// are the kernel's.
.macro SAVE srr0, srr1
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std \n, {GPR} + 8*\n(11)
    .endr
    ld 0, {S1}(13)
    std 0, {GPR} + 8*11(11)
    ld 0, {S0}(13)
    std 0, {GPR} + 8*12(11)
    mfspr 0, {HSPRG1}
    std 0, {GPR} + 8*13(11)
    ld 0, {S2}(13)
    std 0, {CR}(11)
    mflr 0
    std 0, {LR}(11)
    mfctr 0
    std 0, {CTR}(11)
    mfxer 0
    std 0, {XER}(11)
    mfspr 0, \srr0
    std 0, {PC}(11)
    mfspr 5, \srr1
    std 5, {MSR}(11)
    mr 3, 13
    mr 4, 12
    ld 1, {STACK}(13)
    ld 2, {TOC}(13)
.endm

// The same for a system call; r14 to r31 are saved later, if at all.
.macro SAVE_CALL
    .irp n, 0,1,2,3,4,5,6,7,8,9,10
    std \n, {GPR} + 8*\n(11)
    .endr
    ld 3, {S1}(13)
    ld 4, {S0}(13)
    mfspr 5, {HSPRG1}
    ld 6, {S2}(13)
    mfspr 7, {SRR0}
    std 3, {GPR} + 8*11(11)
    std 4, {GPR} + 8*12(11)
    std 5, {GPR} + 8*13(11)
    std 6, {CR}(11)
    std 7, {PC}(11)
    mflr 3
    mfctr 4
    mfxer 5
    std 3, {LR}(11)
    std 4, {CTR}(11)
    std 5, {XER}(11)
    mr 3, 13
    ld 1, {STACK}(13)
    ld 2, {TOC}(13)
.endm

// Jumps from the low block into the kernel's text.
.macro JUMP target
    lis 12, \target@high
    ori 12, 12, \target@l
    mtctr 12
    bctr
.endm
.endif
"#
    };
}
pub(super) use low_macros;

/// `global_asm!` of a fast path: its text, and the operands that only it has. What the fast paths share comes before: macros,
/// defined once, and these operands, named in a comment so that a path need not use each.
macro_rules! fast_path {
    ($text:literal, $($operand:tt)*) => {
        core::arch::global_asm!(
            r#"
.ifndef fast_macros
.set fast_macros, 1
// r23..r31 become scratch, r31 = the running thread. CTR is lost.
.macro TAKE_SCRATCH
    mtctr 31
    ld 31, {CURRENT}(13)
    std 23, {GPR} + 8*23(31)
    std 24, {GPR} + 8*24(31)
    std 25, {GPR} + 8*25(31)
    std 26, {GPR} + 8*26(31)
    std 27, {GPR} + 8*27(31)
    std 28, {GPR} + 8*28(31)
    std 29, {GPR} + 8*29(31)
    std 30, {GPR} + 8*30(31)
    mfctr 30
    std 30, {GPR} + 8*31(31)
.endm

// The thread's decoded CNode is current; r30 = its address, r29 = its number of slots.
.macro CHECK_CSPACE
    ld 24, {TCB_EPOCH}(31)
    ld 25, {CORE_EPOCH}(13)
    cmpd 24, 25
    ld 29, {FAST_SLOTS}(31)
    ld 30, {FAST_CNODE}(31)
    bne- fast_refused
.endm

// \slot = address of the slot that capability pointer \cptr names.
.macro LOOK_UP slot, cptr, otherwise=fast_refused
    cmpld \cptr, 29
    sldi \slot, \cptr, 5
    add \slot, \slot, 30
    bge- \otherwise
.endm
.endif
// {HSPRG1} {SRR0} {CURRENT} {CORE_ID} {CORE_EPOCH} {READY_TOP} {GPR} {PC} {CR} {TCB_STATE}
// {TCB_PID} {TCB_EPOCH} {FAST_CNODE} {FAST_SLOTS} {TCB_SC} {TCB_REPLY} {TCB_BLOCKED_ON}
// {TCB_NEXT} {TCB_PREV} {TCB_PRIORITY} {TCB_CORE} {TCB_NOTIFICATION} {TCB_FAULT}
// {TCB_KIND} {V_ATTENTION} {W0} {W1} {EP_HEAD} {EP_TAIL} {EP_STATE} {EP_RECEIVE_HERE}
// {EP_IDLE_HERE} {REPLY_TCB} {REPLY_PREV} {REPLY_NEXT} {NTFN_STATE} {SEND} {RECEIVE}
// {RECEIVABLE} {REPLY_TAG} {TYPE_SHIFT} {ACTIVE} {RUNNING} {BLOCKED_ON_REPLY}
// {BLOCKED_ON_RECEIVE}
"#,
            $text,
            HSPRG1 = const spr::HSPRG1,
            SRR0 = const spr::SRR0,
            CURRENT = const offset_of!(Core, current),
            CORE_ID = const offset_of!(Core, id),
            CORE_EPOCH = const offset_of!(Core, cspace_epoch),
            READY_TOP = const offset_of!(Core, ready_top),
            GPR = const offset_of!(Context, gpr),
            PC = const offset_of!(Context, pc),
            CR = const offset_of!(Context, cr),
            TCB_STATE = const offset_of!(Tcb, state),
            TCB_PID = const offset_of!(Tcb, pid),
            TCB_EPOCH = const offset_of!(Tcb, cspace_epoch),
            FAST_CNODE = const offset_of!(Tcb, fast_cnode),
            FAST_SLOTS = const offset_of!(Tcb, fast_cnode_slots),
            TCB_SC = const offset_of!(Tcb, sched_context),
            TCB_REPLY = const offset_of!(Tcb, reply),
            TCB_BLOCKED_ON = const offset_of!(Tcb, blocked_on),
            TCB_NEXT = const offset_of!(Tcb, queue_next),
            TCB_PREV = const offset_of!(Tcb, queue_prev),
            TCB_PRIORITY = const offset_of!(Tcb, priority),
            TCB_CORE = const offset_of!(Tcb, core),
            TCB_NOTIFICATION = const offset_of!(Tcb, bound_notification),
            TCB_FAULT = const offset_of!(Tcb, fault_label),
            TCB_KIND = const offset_of!(Tcb, kind),
            V_ATTENTION = const offset_of!(Vcpu, attention),
            W0 = const offset_of!(Slot, w0),
            W1 = const offset_of!(Slot, w1),
            EP_HEAD = const offset_of!(Endpoint, head),
            EP_TAIL = const offset_of!(Endpoint, tail),
            EP_STATE = const offset_of!(Endpoint, state),
            EP_RECEIVE_HERE = const offset_of!(Core, arch) + 8 * arch_word::EP_RECEIVE,
            EP_IDLE_HERE = const offset_of!(Core, arch) + 8 * arch_word::EP_IDLE,
            REPLY_TCB = const offset_of!(Reply, tcb),
            REPLY_PREV = const offset_of!(Reply, prev),
            REPLY_NEXT = const offset_of!(Reply, next),
            NTFN_STATE = const offset_of!(Notification, state),
            SEND = const rights_bit::SEND,
            RECEIVE = const rights_bit::RECEIVE,
            RECEIVABLE = const $crate::arch::low::RECEIVABLE,
            REPLY_TAG = const tag::REPLY,
            TYPE_SHIFT = const partita_kernel_core::cap::TYPE_SHIFT,
            ACTIVE = const NotificationState::Active as u64,
            RUNNING = const ThreadState::Running as u64,
            BLOCKED_ON_REPLY = const ThreadState::BlockedOnReply as u64,
            BLOCKED_ON_RECEIVE = const ThreadState::BlockedOnReceive as u64,
            $($operand)*
        );
    };
}
pub(super) use fast_path;

/// Type byte and rights of an endpoint capability that may be received from.
pub(super) const RECEIVABLE: u64 = tag::ENDPOINT << 8 | rights_bit::RECEIVE;
