// SPDX-License-Identifier: BSD-2-Clause
//! Kernel objects as they lie in memory, and typed references to them.
//!
//! Every object is a `repr(C)` struct of cells of integers: any bytes are a valid value, and shared
//! references may alias. Zero is the state after retype.

use crate::queue::{Node, Queue, Queued};
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::num::NonZeroU64;

/// A kernel object in memory. Implementors are structs of cells of integers (see module docs), which
/// is what [`crate::machine::Machine::object`] relies on.
pub trait Object: 'static {}

/// The real address of an object of type `T`.
pub struct Ref<T>(NonZeroU64, PhantomData<fn() -> T>);

impl<T> Ref<T> {
    /// The object at `addr`; `None` for 0.
    #[inline(always)]
    pub const fn new(addr: u64) -> Option<Self> {
        match NonZeroU64::new(addr) {
            Some(a) => Some(Ref(a, PhantomData)),
            None => None,
        }
    }

    /// Its real address.
    #[inline(always)]
    pub const fn addr(self) -> u64 {
        self.0.get()
    }
}

impl<T> Clone for Ref<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Ref<T> {}
impl<T> PartialEq for Ref<T> {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Ref<T> {}
impl<T> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A cell that holds the address of an object, or none (0).
#[repr(transparent)]
pub struct Link<T>(Cell<u64>, PhantomData<fn() -> T>);

impl<T> Link<T> {
    /// No object.
    #[allow(clippy::declare_interior_mutable_const)]
    pub const NONE: Link<T> = Link(Cell::new(0), PhantomData);

    /// The object, if there is one.
    #[inline(always)]
    pub fn get(&self) -> Option<Ref<T>> {
        Ref::new(self.0.get())
    }

    /// Points to `target`.
    #[inline(always)]
    pub fn set(&self, target: Option<Ref<T>>) {
        self.0.set(match target {
            Some(r) => r.addr(),
            None => 0,
        });
    }

    /// Takes the object out.
    #[inline(always)]
    pub fn take(&self) -> Option<Ref<T>> {
        let r = self.get();
        self.0.set(0);
        r
    }

    /// Whether it points nowhere.
    #[inline(always)]
    pub fn is_none(&self) -> bool {
        self.0.get() == 0
    }

    /// Whether it points to `r`.
    #[inline(always)]
    pub fn is(&self, r: Ref<T>) -> bool {
        self.0.get() == r.addr()
    }
}

/// A capability slot: 32 bytes, aligned to 32 wherever it lies, since the low bits of its address
/// carry flags in [`Slot::next`].
#[repr(C, align(32))]
pub struct Slot {
    /// Capability, first word: type 63:56, type-specific 55:48, object address 47:0.
    pub w0: Cell<u64>,
    /// Capability, second word: type-specific.
    pub w1: Cell<u64>,
    /// Previous slot in the derivation list.
    pub prev: Link<Slot>,
    /// Next slot in the derivation list: address 63:5, flags 4:0.
    pub next: Cell<u64>,
}
impl Object for Slot {}

/// Number of capability slots in a TCB.
pub const TCB_SLOTS: usize = 5;

/// What runs on a core, saved: the registers of a thread.
#[repr(C)]
pub struct Context {
    /// r0..r31.
    pub gpr: [Cell<u64>; 32],
    /// Next instruction.
    pub pc: Cell<u64>,
    /// Machine state of the thread; PDs all have the same.
    pub msr: Cell<u64>,
    /// Condition register.
    pub cr: Cell<u64>,
    /// Link register.
    pub lr: Cell<u64>,
    /// Count register.
    pub ctr: Cell<u64>,
    /// Fixed-point exception register.
    pub xer: Cell<u64>,
}

/// Thread control block: 2 KiB.
#[repr(C)]
pub struct Tcb {
    /// 0x000: saved registers.
    pub context: Context,
    /// 0x130: [`ThreadState`] as a number.
    pub state: Cell<u64>,
    /// PID of the address space that the thread runs in, 0 if it has none.
    pub pid: Cell<u64>,
    /// First slot of the CNode that small capability pointers index, and how many it has (0: take
    /// the slow path); valid while `cspace_epoch` is the kernel's.
    pub fast_cnode: Cell<u64>,
    /// See `fast_cnode`.
    pub fast_cnode_slots: Cell<u64>,
    /// See `fast_cnode`.
    pub cspace_epoch: Cell<u64>,
    /// First slot of the CNode in which the last look-up of another pointer ended, 0: none; valid as
    /// `fast_cnode` is.
    pub near_cnode: Cell<u64>,
    /// Number of low bits of a pointer that are left over there.
    pub near_left: Cell<u64>,
    /// Number of bits above them that index it.
    pub near_radix: Cell<u64>,
    /// The other bits of all pointers that lead there.
    pub near_prefix: Cell<u64>,
    /// Scheduling context that the thread has (own or donated).
    pub sched_context: Link<SchedContext>,
    /// Reply object: of the caller's own call while blocked on reply; of the receiver while it
    /// waits with one.
    pub reply: Link<Reply>,
    /// Endpoint or notification that the thread is queued on.
    pub blocked_on: Cell<u64>,
    /// Next in the endpoint, notification or ready queue.
    pub queue_next: Link<Tcb>,
    /// Previous in that queue.
    pub queue_prev: Link<Tcb>,
    /// Of the last thread of its priority that waits at an endpoint or notification: the last of the next higher
    /// priority there. Means nothing for the highest one.
    pub queue_higher: Link<Tcb>,
    /// Badge of the capability that a blocked sender used.
    pub send_badge: Cell<u64>,
    /// Bits of a blocked sender: see [`send_flags`].
    pub send_flags: Cell<u64>,
    /// Priority, 0 to 255.
    pub priority: Cell<u64>,
    /// Highest priority that this thread may give.
    pub mcp: Cell<u64>,
    /// Core that the thread runs on.
    pub core: Cell<u64>,
    /// Notification bound to the thread.
    pub bound_notification: Link<Notification>,
    /// Pending fault: label, 0 for none.
    pub fault_label: Cell<u64>,
    /// Words of the pending fault.
    pub fault_words: [Cell<u64>; 8],
    /// Real address of the IPC buffer, 0 if there is none.
    pub ipc_buffer: Cell<u64>,
    /// Virtual address of the IPC buffer.
    pub ipc_buffer_vaddr: Cell<u64>,
    /// 1 while the thread is in a ready queue.
    pub queued: Cell<u64>,
    /// Flags of TCB_SetFlags.
    pub flags: Cell<u64>,
    /// Scheduling context that YieldTo of this thread waits for.
    pub yield_to: Link<SchedContext>,
    /// The thread's own scheduling context, also while it is lent through a call.
    pub own_context: Link<SchedContext>,
    /// The VCPU of a thread that is a guest's processor.
    pub vcpu: Cell<u64>,
    /// Kind of thread, see [`thread_kind`].
    pub kind: Cell<u64>,
    /// Capability slots: CSpace root, VSpace root, IPC buffer frame, fault endpoint, timeout
    /// endpoint.
    pub slots: [Slot; TCB_SLOTS],
}
impl Object for Tcb {}

/// Index of each capability slot of a TCB.
pub mod tcb_slot {
    /// CSpace root (CNode).
    pub const CSPACE: usize = 0;
    /// VSpace root.
    pub const VSPACE: usize = 1;
    /// Frame of the IPC buffer.
    pub const BUFFER: usize = 2;
    /// Fault endpoint.
    pub const FAULT: usize = 3;
    /// Timeout-fault endpoint.
    pub const TIMEOUT: usize = 4;
}

/// Bits of [`Tcb::send_flags`].
pub mod send_flags {
    /// The sender waits for a reply (Call).
    pub const CALL: u64 = 1;
    /// The capability had Grant.
    pub const GRANT: u64 = 2;
    /// The capability had Grant or GrantReply.
    pub const GRANT_REPLY: u64 = 4;
}

/// Values of [`Tcb::kind`].
pub mod thread_kind {
    /// A thread of a PD (user mode of the host).
    pub const USER: u64 = 0;
    /// A guest's processor.
    pub const VCPU: u64 = 1;
    /// A thread of a PD that waits behind the target of its YieldTo; [`USER`] again before it runs.
    pub const YIELDED: u64 = 2;
}

/// State of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum ThreadState {
    /// Never started or stopped.
    Inactive = 0,
    /// Can run if it has a scheduling context with budget.
    Running = 1,
    /// Must repeat its system call or instruction.
    Restart = 2,
    /// Waits in an endpoint's queue to receive.
    BlockedOnReceive = 3,
    /// Waits in an endpoint's queue to send.
    BlockedOnSend = 4,
    /// Waits for the reply to a call or a fault.
    BlockedOnReply = 5,
    /// Waits in a notification's queue.
    BlockedOnNotification = 6,
}

impl ThreadState {
    /// From the number in [`Tcb::state`]; unknown numbers are `Inactive`.
    #[inline(always)]
    pub fn from_number(n: u64) -> Self {
        match n {
            1 => ThreadState::Running,
            2 => ThreadState::Restart,
            3 => ThreadState::BlockedOnReceive,
            4 => ThreadState::BlockedOnSend,
            5 => ThreadState::BlockedOnReply,
            6 => ThreadState::BlockedOnNotification,
            _ => ThreadState::Inactive,
        }
    }
}

/// Endpoint: 64 bytes.
#[repr(C)]
pub struct Endpoint {
    /// First waiting thread.
    pub head: Link<Tcb>,
    /// Last waiting thread.
    pub tail: Link<Tcb>,
    /// [`EndpointState`] as a number in bits 7:0; above it the core whose fast path may use it: that of
    /// all its receivers.
    pub state: Cell<u64>,
    /// Where CancelBadgedSends stopped: no sender before this one has the badge `cancel_badge`. None: at
    /// the first.
    pub cancel_next: Link<Tcb>,
    /// Meaningful with `cancel_next`.
    pub cancel_badge: Cell<u64>,
}
impl Object for Endpoint {}
const _: () = assert!(size_of::<Endpoint>() <= 64);

impl Endpoint {
    /// Home of an endpoint whose receivers run on several cores.
    const NO_HOME: u64 = 0xffff;

    /// Whether it is in this state.
    #[inline(always)]
    pub fn is(&self, state: EndpointState) -> bool {
        self.state.get() & 0xff == state as u64
    }

    /// Changes the state; the home stays.
    #[inline(always)]
    pub fn enter(&self, state: EndpointState) {
        self.state.set(self.state.get() & !0xff | state as u64);
    }

    /// A thread of `core` is about to receive.
    #[inline(always)]
    pub fn receive_from(&self, core: u64) {
        let home = if self.is(EndpointState::Idle) || self.state.get() >> 8 == core {
            core
        } else {
            Self::NO_HOME
        };
        self.state.set(home << 8 | self.state.get() & 0xff);
    }
}

/// State of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum EndpointState {
    /// Nobody waits.
    Idle = 0,
    /// Senders wait.
    Send = 1,
    /// Receivers wait.
    Receive = 2,
}

/// Notification: 64 bytes.
#[repr(C)]
pub struct Notification {
    /// First waiting thread.
    pub head: Link<Tcb>,
    /// Last waiting thread.
    pub tail: Link<Tcb>,
    /// [`NotificationState`] as a number.
    pub state: Cell<u64>,
    /// Badge bits that have arrived.
    pub badge: Cell<u64>,
    /// Thread that this notification is bound to.
    pub bound_tcb: Link<Tcb>,
    /// Scheduling context that a passive thread runs on when it is signalled.
    pub sched_context: Link<SchedContext>,
    /// Core whose fast path may use it: that of the thread that waited for it last, or received while it
    /// was bound to it.
    pub home: Cell<u64>,
}
impl Object for Notification {}
const _: () = assert!(size_of::<Notification>() <= 64);

/// State of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum NotificationState {
    /// Nothing.
    Idle = 0,
    /// Threads wait.
    Waiting = 1,
    /// Bits have arrived.
    Active = 2,
}

/// Reply object: 64 bytes.
#[repr(C)]
pub struct Reply {
    /// The thread that waits with it (as receiver) or for it (as caller).
    pub tcb: Link<Tcb>,
    /// Next-older call on the same scheduling context (towards its owner).
    pub prev: Link<Reply>,
    /// Next-younger call on the same scheduling context.
    pub next: Link<Reply>,
    /// The scheduling context whose call stack has this reply on top.
    pub sched_context: Link<SchedContext>,
    /// 1 if the answer may carry capabilities.
    pub can_grant: Cell<u64>,
    /// Core whose fast path may take it while it is nobody's: that of the thread that received with it last.
    pub home: Cell<u64>,
}
impl Object for Reply {}
const _: () = assert!(size_of::<Reply>() <= 64);

/// Scheduling context: 256 bytes.
#[repr(C)]
pub struct SchedContext {
    /// Thread that runs on it.
    pub tcb: Link<Tcb>,
    /// Thread whose own it is: it returns there in the end. None for that of a notification.
    pub owner: Link<Tcb>,
    /// Youngest call that it was donated through.
    pub reply: Link<Reply>,
    /// Notification that it is bound to.
    pub notification: Link<Notification>,
    /// Core, 0..; which SchedControl configured it.
    pub core: Cell<u64>,
    /// Timebase ticks per period; 0: not configured.
    pub period: Cell<u64>,
    /// Timebase ticks of budget per period.
    pub budget: Cell<u64>,
    /// Ticks left in this period, as a signed number (an overrun is negative).
    pub remaining: Cell<i64>,
    /// Timebase at which the budget comes back.
    pub replenish_at: Cell<u64>,
    /// Ticks that were used beyond the budget while it was lent, and are not paid for yet.
    pub overrun: Cell<u64>,
    /// Ticks used since the last Consumed.
    pub consumed: Cell<u64>,
    /// Badge of timeout faults.
    pub badge: Cell<u64>,
    /// Thread that yielded to it.
    pub yield_from: Link<Tcb>,
    /// Its place in the core's release queue.
    pub release: Node<SchedContext>,
    /// 1 while in the release queue.
    pub in_release_queue: Cell<u64>,
    /// Flags of ConfigureFlags.
    pub flags: Cell<u64>,
    /// What takes effect when it is back with its owner.
    pub pending: PendingParameters,
    /// The VCPU whose thread it belongs to: its dispatch counter follows this scheduling context.
    pub vcpu: Link<crate::vcpu::Vcpu>,
}
impl Object for SchedContext {}
impl Queued for SchedContext {
    #[inline(always)]
    fn node(&self) -> &Node<Self> {
        &self.release
    }
}

const _: () = assert!(size_of::<SchedContext>() <= 256);

/// Parameters that SchedControl gave a scheduling context while it was lent.
#[repr(C)]
pub struct PendingParameters {
    /// 1 if there are any.
    pub valid: Cell<u64>,
    /// See [`SchedContext::core`].
    pub core: Cell<u64>,
    /// See [`SchedContext::budget`].
    pub budget: Cell<u64>,
    /// See [`SchedContext::period`].
    pub period: Cell<u64>,
    /// See [`SchedContext::badge`].
    pub badge: Cell<u64>,
    /// See [`SchedContext::flags`].
    pub flags: Cell<u64>,
}

/// Timer: 64 bytes.
#[repr(C)]
pub struct Timer {
    /// Its place in a core's timer queue; the time is the deadline.
    pub node: Node<Timer>,
    /// Number of the core whose queue it is in, plus one; 0 while it is not set.
    pub armed: Cell<u64>,
    /// Notification that it signals (a badged capability).
    pub notification: Slot,
}
impl Object for Timer {}
const _: () = assert!(size_of::<Timer>() <= 64);
impl Queued for Timer {
    #[inline(always)]
    fn node(&self) -> &Node<Self> {
        &self.node
    }
}

/// Radix root. The table itself is the whole object; this is its identity only.
#[repr(C)]
pub struct VSpace {
    /// Entry 0 of the root, big-endian.
    pub first: Cell<u64>,
}
impl Object for VSpace {}

/// Values of [`Core::reschedule`].
pub mod reschedule {
    /// The running thread may go on if it is still the best.
    pub const CHOOSE: u64 = 1;
    /// The running thread goes to the tail of its priority.
    pub const ROTATE: u64 = 2;
}

/// Values of [`Core::entry`].
pub mod entry {
    /// Nothing that the thread did.
    pub const NONE: u64 = 0;
    /// A fault or exit: it happens again if the thread just goes on.
    pub const FAULT: u64 = 1;
    /// A system call or hypercall: the program counter is behind it.
    pub const CALL: u64 = 2;
}

/// Priorities of a core.
pub const PRIORITIES: usize = 256;

/// What belongs to one core, in cache lines of its own. The first fields are known to the assembly of the arch shell.
#[repr(C, align(128))]
pub struct Core {
    /// Scratch of the vectors.
    pub scratch: [Cell<u64>; 8],
    /// Thread that runs; none while idle.
    pub current: Link<Tcb>,
    /// Top of this core's kernel stack.
    pub stack_top: Cell<u64>,
    /// TOC pointer of the kernel.
    pub toc: Cell<u64>,
    /// Number of CSpace changes: see [`Tcb::fast_cnode`].
    pub cspace_epoch: Cell<u64>,
    /// Highest priority in the ready queue plus one; 0 if it is empty.
    pub ready_top: Cell<u64>,
    /// Number of this core.
    pub id: Cell<u64>,
    /// PID in PIDR.
    pub active_pid: Cell<u64>,
    /// Scheduling context that time is charged to.
    pub current_sc: Link<SchedContext>,
    /// Timebase since which it is.
    pub charged_from: Cell<u64>,
    /// Timebase of the next timer interrupt asked for.
    pub deadline: Cell<u64>,
    /// Not 0 if the scheduler must choose anew at the end of this kernel entry
    /// ([`reschedule`]).
    pub reschedule: Cell<u64>,
    /// Bit p of word p/64: the queue of priority p is not empty.
    pub ready_bits: [Cell<u64>; PRIORITIES / 64],
    /// First ready thread of each priority.
    pub ready_head: [Link<Tcb>; PRIORITIES],
    /// Last ready thread of each priority.
    pub ready_tail: [Link<Tcb>; PRIORITIES],
    /// Scheduling contexts that wait for their replenishment.
    pub release: Queue<SchedContext>,
    /// Armed timers.
    pub timers: Queue<Timer>,
    /// 1 once the core runs.
    pub online: Cell<u64>,
    /// Processor number of the hardware (PIR).
    pub pir: Cell<u64>,
    /// Machine-dependent words of the arch shell.
    pub arch: [Cell<u64>; 16],
    /// Thread that became ready in this kernel entry and may be switched to directly.
    pub candidate: Link<Tcb>,
    /// What the running thread came into the kernel for, while the core waits for the locks ([`entry`]).
    /// Whoever takes the thread away meanwhile resets it.
    pub entry: Cell<u64>,
}
impl Object for Core {}
