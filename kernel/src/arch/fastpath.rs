// SPDX-License-Identifier: BSD-2-Clause
//! The fast path of Call and ReplyRecv to and from a passive server on the same core, with up to
//! eight message words, which stay in r4..r11 all the way.
//!
//! Everything is checked before anything is changed; a check that fails restores the few scratch
//! registers and leaves the system call to the slow path, which comes to the same result
//! ([`partita_kernel_core`], `ipc.rs` and `reply.rs`). The conditions are seL4's (docs/KERNEL.md).
//!
//! In: as at `vector_c00_from_pd`. A blocked caller keeps its argument registers, so that it can repeat
//! its call when it is suspended and resumed; LR, CTR and XER are lost to it.

use super::guest::vcpu_spr;
use super::low::fast_path;
use super::spr;
use crate::percore::arch_word;
use core::mem::offset_of;
use partita_abi::{GuestExit, ReplyAction, badge, syscall, vcpu_register as register};
use partita_kernel_core::cap::{rights_bit, tag};
use partita_kernel_core::object::{
    Context, Core, Endpoint, EndpointState, Notification, NotificationState, Reply, SchedContext,
    Slot, Tcb, ThreadState, thread_kind,
};
use partita_kernel_core::vcpu::{Vcpu, lpcr, msr, outstanding};

/// Type byte and rights of an endpoint capability that may be called through.
const CALLABLE: u64 = tag::ENDPOINT << 8 | rights_bit::SEND | rights_bit::CAN_REPLY;

fast_path!(
    r#"
    .section .low.fastpath, "ax", @progbits

// The message has no capabilities, none unwrapped, and at most eight words. Clobbers r24.
.macro CHECK_MESSAGE
    andi. 24, 12, 0xfff
    cmpldi 24, 8
    bgt- fast_refused
.endm

// The scheduling context goes back to the caller, and the server waits. r26 = endpoint, r27 = caller, r28 = reply
// object, r30 = scheduling context, r31 = server. r14 to r22 are scratch, r0 becomes 0.
.macro COMMIT_REPLY
    std 1, {GPR} + 8*1(31)
    std 2, {GPR} + 8*2(31)
    std 3, {GPR} + 8*3(31)
    .irp n, 14,15,16,17,18,19,20,21,22
    std \n, {GPR} + 8*\n(31)
    .endr
    mfspr 14, {HSPRG1}
    mfcr 15
    mfspr 16, {SRR0}
    std 14, {GPR} + 8*13(31)
    std 15, {CR}(31)
    std 16, {PC}(31)
    li 0, 0
    ld 16, {REPLY_PREV}(28)
    cmpdi 16, 0
    std 16, {SC_REPLY}(30)
    std 0, {REPLY_PREV}(28)
    std 0, {REPLY_SC}(28)
    beq+ 1f
    std 0, {REPLY_NEXT}(16)       // the caller itself runs on a donated scheduling context
    std 30, {REPLY_SC}(16)
1:  li 18, {RUNNING}
    li 19, {BLOCKED_ON_RECEIVE}
    ld 20, {EP_RECEIVE_HERE}(13)
    ld 21, {CORE_ID}(13)
    std 30, {TCB_SC}(27)
    std 27, {SC_TCB}(30)
    std 18, {TCB_STATE}(27)
    std 21, {TCB_CORE}(27)        // where its time is
    std 0, {TCB_SC}(31)
    std 19, {TCB_STATE}(31)
    std 26, {TCB_BLOCKED_ON}(31)
    std 28, {TCB_REPLY}(31)
    std 31, {REPLY_TCB}(28)
    std 31, {EP_HEAD}(26)
    std 31, {EP_TAIL}(26)
    std 20, {EP_STATE}(26)
.endm

    .globl fast_call
fast_call:
    TAKE_SCRATCH
    .globl fast_call_taken
fast_call_taken:
    CHECK_MESSAGE
    CHECK_CSPACE
    LOOK_UP 25, 3, 5f
    ld 26, {W0}(25)
    ld 30, {W1}(25)
    srdi 27, 26, 48
    andi. 28, 27, 0xff00 | {SEND} | {CAN_REPLY}
    cmpldi 28, {CALLABLE}
    bne- fast_refused
    clrldi 26, 26, 16             // r26 = endpoint, r27 = type and rights, r30 = badge
    ld 24, {EP_STATE}(26)
    ld 25, {EP_RECEIVE_HERE}(13)
    cmpd 24, 25
    mr 25, 27                     // r25 = type and rights
    bne- fast_refused             // nobody waits to receive, or not on this core
    ld 27, {EP_HEAD}(26)          // r27 = server
    ld 24, {TCB_SC}(27)
    ld 28, {TCB_REPLY}(27)        // r28 = reply object
    cmpdi 24, 0
    cmpdi 1, 28, 0
    bne- fast_refused             // it is not passive
    beq- 1, fast_refused
    ld 29, {TCB_PID}(27)          // r29 = its PID
    ld 24, {TCB_PRIORITY}(27)
    ld 23, {TCB_PRIORITY}(31)
    cmpld 24, 23
    blt- fast_refused

// Nothing fails from here on. The caller's registers; r14..r22 are scratch then.
    std 1, {GPR} + 8*1(31)
    std 2, {GPR} + 8*2(31)
    .irp n, 3,4,5,6,7,8,9,10,11,12,14,15,16,17,18,19,20,21,22
    std \n, {GPR} + 8*\n(31)
    .endr
    mfspr 14, {HSPRG1}
    mfcr 15
    mfspr 16, {SRR0}
    std 14, {GPR} + 8*13(31)
    std 15, {CR}(31)
    std 16, {PC}(31)
    li 0, 0
// r25 = type and rights, r26 = endpoint, r27 = server, r28 = its reply object, r29 = its PID, r30 = badge,
// r31 = caller, r0 = 0. The server leaves the endpoint's queue.
fast_donate:
    ld 14, {TCB_NEXT}(27)
    std 14, {EP_HEAD}(26)
    cmpdi 14, 0
    bne- 2f
    ld 15, {EP_IDLE_HERE}(13)
    std 15, {EP_STATE}(26)        // the tail means nothing then
1:
// The reply object goes on top of the scheduling context's call stack.
    ld 15, {TCB_SC}(31)           // r15 = scheduling context
    ld 16, {SC_REPLY}(15)
    rldicl 17, 25, 62, 63         // Grant
    cmpdi 16, 0
    std 16, {REPLY_PREV}(28)
    std 15, {REPLY_SC}(28)
    std 31, {REPLY_TCB}(28)
    std 17, {REPLY_GRANT}(28)
    std 28, {SC_REPLY}(15)
    bne- 3f
4:
    li 18, {BLOCKED_ON_REPLY}
    li 19, {RUNNING}
    std 28, {TCB_REPLY}(31)
    std 18, {TCB_STATE}(31)
    std 0, {TCB_SC}(31)
    std 15, {TCB_SC}(27)
    std 27, {SC_TCB}(15)
    std 19, {TCB_STATE}(27)
    mr 3, 30
    b fast_switch
// A capability in another CNode, most likely one to invoke.
    .globl fast_call_elsewhere
fast_call_elsewhere:
5:  .irp n, 24,25,29,30
    ld \n, {GPR} + 8*\n(31)
    .endr
    ld 31, {GPR} + 8*31(31)
    b syscall_slow
// More receivers wait.
2:  std 0, {TCB_PREV}(14)
    std 0, {TCB_NEXT}(27)
    b 1b
// The caller itself runs on a donated scheduling context.
3:  std 28, {REPLY_NEXT}(16)
    std 0, {REPLY_SC}(16)
    b 4b

// The route whose number plus one is r15: r26 = endpoint, r27 = server, r28 = its reply object, r29 = its PID, r30 = badge. r14 =
// VCPU.
.macro FIND_SERVER
    cmpdi 15, 0
    sldi 15, 15, 5
    add 15, 15, 14
    beq- fast_exit_refused
    ld 26, {V_ROUTES} - 32 + {W0}(15)
    ld 30, {V_ROUTES} - 32 + {W1}(15)
    srdi 27, 26, 48
    andi. 28, 27, 0xff00 | {SEND} | {CAN_REPLY}
    cmpldi 28, {CALLABLE}
    bne- fast_exit_refused
    clrldi 26, 26, 16
    ld 24, {EP_STATE}(26)
    ld 25, {EP_RECEIVE_HERE}(13)
    cmpd 24, 25
    bne- fast_exit_refused
    ld 27, {EP_HEAD}(26)
    ld 24, {TCB_SC}(27)
    ld 28, {TCB_REPLY}(27)
    cmpdi 24, 0
    cmpdi 1, 28, 0
    bne- fast_exit_refused
    beq- 1, fast_exit_refused
    ld 29, {TCB_PID}(27)
    ld 24, {TCB_PRIORITY}(27)
    ld 23, {TCB_PRIORITY}(11)
    cmpld 24, 23
    blt- fast_exit_refused
.endm

// An exit becomes a Call, without capabilities in the answer.
.macro COMMIT_EXIT kind
    ld 16, {PD_MSR}(13)
    li 15, \kind
    mr 31, 11
    mtspr {SRR1}, 16
    std 15, {V_EXIT}(14)
    li 25, 0
    li 0, 0
.endm

// A guest's hypercall (or system call with LEV=1) or storage fault becomes a Call to the server that its route names. In:
// r4 = vector, r14 = VCPU, r11 = TCB, with all registers in both, r13 = Core, r5 = [H]SRR1; r3 to r5 are the slow path's
// arguments. r6..r10 are the guest's still.
    .globl fast_exit
fast_exit:
    ld 22, {GPR} + 8*3(11)        // a hypercall's number
    cmpdi 4, 0xc00
    bne- 6f
    andi. 15, 5, {PR}
    bne- 5f                       // of user mode
    andi. 15, 22, 3
    bne- 5f
    cmpldi 22, 4 * 511
    srdi 15, 22, 2
    bgt- 4f
1:  add 15, 15, 14
    lbz 15, {V_HYPERCALL_ROUTES}(15)
    FIND_SERVER

// Nothing fails from here on.
    COMMIT_EXIT {HYPERCALL}
    sldi 12, 22, 12
    ori 12, 12, 8
    ld 4, {GPR} + 8*4(31)
    ld 5, {GPR} + 8*5(31)
    ld 11, {GPR} + 8*11(31)
    b fast_donate
// 0xf000 to 0xf03c.
4:  addis 15, 22, -1
    addi 15, 15, 0x1000
    cmpldi 15, 0x3c
    srdi 15, 15, 2
    addi 15, 15, 512
    ble+ 1b
    .globl fast_exit_refused
fast_exit_refused:
5:  b guest_exit_slow

// A storage fault: of data, or (cr5[eq]) of instructions.
6:  cmpdi 5, 4, 0xe20
    li 22, {DATA_STORAGE}
    lbz 15, {V_EXIT_ROUTES} + {DATA_STORAGE}(14)
    bne+ 5, 7f
    li 22, {INSTRUCTION_STORAGE}
    lbz 15, {V_EXIT_ROUTES} + {INSTRUCTION_STORAGE}(14)
7:  FIND_SERVER

// Nothing fails from here on. Words: pc, msr, address, cause, ASDR, AMR, IAMR.
    COMMIT_EXIT {OTHER}
    li 16, 1
    rldicl 30, 30, 32, 48         // the vCPU's id
    sldi 16, 16, {BADGE_FAULT_BIT}
    or 30, 30, 16
    sldi 12, 22, 12
    ori 12, 12, 7
    mr 7, 5
    ld 4, {PC}(31)
    mr 6, 4
    beq- 5, 8f
    mfspr 6, {HDAR}
    mfspr 7, {HDSISR}
8:  mfspr 8, {ASDR}
    ld 9, {V_AMR}(14)
    ld 10, {V_IAMR}(14)
    b fast_donate

    .globl fast_reply_recv
fast_reply_recv:
    TAKE_SCRATCH
    .globl fast_reply_recv_taken
fast_reply_recv_taken:
    CHECK_MESSAGE
    CHECK_CSPACE
    LOOK_UP 25, 3
    LOOK_UP 28, 14
    ld 26, {W0}(25)
    ld 28, {W0}(28)
    srdi 27, 26, 48
    srdi 25, 28, {TYPE_SHIFT}
    andi. 27, 27, 0xff00 | {RECEIVE}
    cmpldi 27, {RECEIVABLE}
    cmpdi 1, 25, {REPLY_TAG}
    bne- fast_refused
    bne- 1, fast_refused
    clrldi 26, 26, 16             // r26 = endpoint
    clrldi 28, 28, 16             // r28 = reply object
    ld 24, {TCB_NOTIFICATION}(31)
    ld 25, {EP_STATE}(26)
    ld 29, {EP_IDLE_HERE}(13)
    cmpdi 24, 0
    cmpd 1, 25, 29
    bne- 6f                       // a notification is bound
5:  bne- 1, fast_refused          // somebody waits at the endpoint, or it is not this core's
    ld 30, {TCB_SC}(31)           // r30 = scheduling context
    ld 24, {REPLY_SC}(28)
    ld 27, {REPLY_TCB}(28)        // r27 = caller
    cmpd 24, 30
    bne- fast_answer_fault        // not the top of the call stack of this time: then it has a caller
    ld 24, {TCB_FAULT}(27)
    ld 25, {TCB_SC}(27)
    ld 23, {TCB_KIND}(27)
    or 25, 24, 25
    or. 24, 25, 23
    bne- 9f                       // a fault, or it has time of its own, or is a vCPU
    ld 25, {TCB_PRIORITY}(27)
    ld 24, {READY_TOP}(13)
    addi 25, 25, 1
    ld 29, {TCB_PID}(27)          // r29 = its PID
    cmpld 25, 24
    blt- fast_refused             // somebody better is ready

// Nothing fails from here on.
    COMMIT_REPLY
    li 3, 0

// Runs thread r27 with PID r29 (0: it will fault). SRR1 is the MSR of every PD. r0 = 0, r3 = badge, r12 = message info, r4..r11 = message.
    .globl fast_switch
fast_switch:
    std 27, {CURRENT}(13)
    std 29, {ACTIVE_PID}(13)
    .globl fast_switched
fast_switched:
    mtspr {PIDR}, 29              // rfid synchronises
    .long 0x7c00068c              // cp_abort
    ld 24, {PPR_HOST}(13)         // what user mode can write and read without a facility bit
    mtspr {VRSAVE}, 0
    mtspr {PPR}, 24
    stdcx. 0, 0, 13               // into scratch 0: a reservation of the last thread must not serve this one
    ld 25, {PC}(27)
    ld 28, {CR}(27)
    mtspr {SRR0}, 25
    mtcr 28
    mtlr 0
    mtxer 0
    clrldi 24, 12, 57
    sldi 24, 24, 2
    addi 24, 24, fast_clear_low@l
    mtctr 24
    ld 1, {GPR} + 8*1(27)
    ld 2, {GPR} + 8*2(27)
    ld 13, {GPR} + 8*13(27)
    .irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,28,29,30,31
    ld \n, {GPR} + 8*\n(27)
    .endr
    ld 27, {GPR} + 8*27(27)
    bctr
// What is beyond the message's length is the sender's own.
    .globl fast_clear
fast_clear:
    li 4, 0
    li 5, 0
    li 6, 0
    li 7, 0
    li 8, 0
    li 9, 0
    li 10, 0
    li 11, 0
    mtctr 0
    rfid

// The notification must have nothing to deliver, and the thread must not run on its time (that is in
// the check of the call stack).
6:
    .globl fast_reply_recv_bound
fast_reply_recv_bound:
    ld 24, {NTFN_STATE}(24)
    cmpdi 24, {ACTIVE}
    bne+ 5b
    b fast_refused

// The answer to a vCPU's exit: it goes on in the guest, with a storage interrupt if that is the answer, and if nothing is to
// be looked at before. cr5[eq]: the exit was a hypercall.
9:  cmpdi 25, 0
    cmpdi 1, 23, {VCPU_KIND}
    bne- fast_refused
    bne- 1, fast_refused
    ld 24, {TCB_VCPU}(27)
    srdi 23, 12, 60               // action
    ld 25, {V_ATTENTION}(24)
    ld 29, {V_EXIT}(24)
    cmpdi 1, 25, 0
    cmpdi 23, {RESUME}
    cmpdi 5, 29, {HYPERCALL}
    bne- 1, fast_refused
    bne- 3f
    ld 25, {TCB_PRIORITY}(27)
    ld 23, {READY_TOP}(13)
    addi 25, 25, 1
    cmpld 25, 23
    blt- fast_refused
    COMMIT_REPLY
    std 27, {CURRENT}(13)
    std 0, {V_EXIT}(24)
    bne- 5, 1f
    sldi 14, 12, 4                // r3 = low 48 bits of the label, sign-extended
    sradi 14, 14, 16
    andi. 15, 12, 0xf
    std 14, {GPR} + 8*3(27)
    bne- 2f
    .globl fast_to_guest
fast_to_guest:
1:  mr 12, 27
    mr 11, 24
    b enter_guest
// Kernel::inject. r8 = vector (cr6[eq]: 0x300), r9 = bits of SRR1, r10 = DAR, r11 = DSISR.
3:  andi. 25, 12, 0xf
    cmpdi 1, 23, {INJECT}
    cmpdi 25, 8
    bne- 1, fast_refused
    bne- fast_refused
    beq- 5, fast_refused          // with result words beside it
    lis 25, {SRR1_DEFINED} >> 16
    cmpldi 6, 8, 0x300
    andc. 25, 9, 25
    cmpldi 1, 8, 0x400
    cror 2 + 4*1, 2 + 4*1, 2 + 4*6
    bne- fast_refused
    bne- 1, fast_refused          // another vector
    ld 25, {TCB_PRIORITY}(27)
    ld 23, {READY_TOP}(13)
    addi 25, 25, 1
    cmpld 25, 23
    blt- fast_refused
    COMMIT_REPLY
    std 27, {CURRENT}(13)
    std 0, {V_EXIT}(24)
    ld 14, {MSR}(27)
    ld 15, {PC}(27)
    lis 16, {SRR1_DEFINED} >> 16
    ld 17, {V_LPCR}(24)
    andc 16, 14, 16
    or 16, 16, 9
    std 15, {V_SRR0}(24)
    std 16, {V_SRR1}(24)
    bne- 6, 4f
    std 10, {V_DAR}(24)
    std 11, {V_DSISR}(24)
4:  li 18, 1
    andis. 16, 17, {ILE} >> 16
    sldi 18, 18, 63
    ori 18, 18, {ME}
    beq- 5f
    ori 18, 18, {LE}
5:  andis. 16, 17, {AIL} >> 16
    andi. 15, 14, {TRANSLATION}
    xoris 16, 16, {AIL} >> 16
    xori 15, 15, {TRANSLATION}
    or. 16, 16, 15
    bne- 6f
    li 16, 3                      // AIL = 3: 0xc000000000004000
    sldi 16, 16, 62
    ori 16, 16, 0x4000
    or 8, 8, 16
    ori 18, 18, {TRANSLATION}
6:  std 8, {PC}(27)
    std 18, {MSR}(27)
    b fast_to_guest
// Result words.
2:  subfic 15, 15, 8
    sldi 15, 15, 2
    addi 15, 15, fast_results_low@l
    mtctr 15
    bctr
    .globl fast_results
fast_results:
    .irp n, 11,10,9,8,7,6,5,4
    std \n, {GPR} + 8*\n(27)
    .endr
    b fast_to_guest

// Leaves the call to the slow path.
    .globl fast_refused
fast_refused:
    .irp n, 23,24,25,26,27,28,29,30
    ld \n, {GPR} + 8*\n(31)
    .endr
    ld 31, {GPR} + 8*31(31)
    b syscall_slow
"#,
    SRR1 = const spr::SRR1,
    PR = const spr::MSR_PR,
    PD_MSR = const offset_of!(Core, arch) + 8 * arch_word::PD_MSR,
    PIDR = const spr::PIDR,
    ACTIVE_PID = const offset_of!(Core, active_pid),
    PPR_HOST = const offset_of!(Core, arch) + 8 * arch_word::PPR_HOST,
    VRSAVE = const spr::VRSAVE,
    PPR = const spr::PPR,
    MSR = const offset_of!(Context, msr),
    TCB_VCPU = const offset_of!(Tcb, vcpu),
    V_EXIT = const offset_of!(Vcpu, exit),
    V_EXIT_ROUTES = const offset_of!(Vcpu, fast_exit_routes),
    V_AMR = const vcpu_spr(register::AMR),
    V_IAMR = const vcpu_spr(register::IAMR),
    V_SRR0 = const vcpu_spr(register::SRR0),
    V_SRR1 = const vcpu_spr(register::SRR1),
    V_DAR = const vcpu_spr(register::DAR),
    V_DSISR = const vcpu_spr(register::DSISR),
    V_LPCR = const vcpu_spr(register::LPCR),
    V_HYPERCALL_ROUTES = const offset_of!(Vcpu, fast_hypercall_routes),
    V_ROUTES = const offset_of!(Vcpu, routes),
    HYPERCALL = const outstanding::HYPERCALL,
    OTHER = const outstanding::OTHER,
    DATA_STORAGE = const GuestExit::DataStorage as u64,
    INSTRUCTION_STORAGE = const GuestExit::InstructionStorage as u64,
    BADGE_FAULT_BIT = const badge::FAULT.trailing_zeros(),
    HDAR = const spr::HDAR,
    HDSISR = const spr::HDSISR,
    ASDR = const spr::ASDR,
    SRR1_DEFINED = const msr::SRR1_DEFINED,
    ILE = const lpcr::ILE,
    AIL = const lpcr::AIL,
    ME = const msr::ME,
    LE = const msr::LE,
    TRANSLATION = const msr::IR | msr::DR,
    INJECT = const ReplyAction::Inject as u64,
    RESUME = const ReplyAction::Resume as u64,
    VCPU_KIND = const thread_kind::VCPU,
    REPLY_SC = const offset_of!(Reply, sched_context),
    REPLY_GRANT = const offset_of!(Reply, can_grant),
    SC_TCB = const offset_of!(SchedContext, tcb),
    SC_REPLY = const offset_of!(SchedContext, reply),
    CAN_REPLY = const rights_bit::CAN_REPLY,
    CALLABLE = const CALLABLE,
);

const _: () = assert!(offset_of!(Core, scratch) == 0);

/// The numbers that `vectors.rs` compares with, and what the code above relies on.
const _: () = {
    assert!(syscall::CALL == -1 && syscall::REPLY_RECV == -2);
    assert!(EndpointState::Idle as u64 == 0);
    assert!(thread_kind::USER == 0);
    assert!(1 << 2 == rights_bit::GRANT);
};
