// SPDX-License-Identifier: BSD-2-Clause
//! Helper threads of a case. They share the root task's VSpace and, unless told otherwise, its CSpace.

use crate::kit::{Kit, ROOT_PRIORITY, microseconds};
use crate::timebase;
use checks::{Failure, Outcome};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use sel4::init_thread::slot;
use sel4::{CNodeCapData, IpcBuffer, ObjectBlueprint, UserContext, cap};

/// Threads of one case, and the guard.
pub const MAX_THREADS: usize = 24;
/// Bytes of a thread's stack.
pub const STACK_SIZE: usize = 0x4000;
/// Words that a thread gets.
pub const ARGS: usize = 6;
/// How long [`Thread::join`] waits, microseconds.
const JOIN_TIMEOUT_US: u64 = 15_000_000;
/// Time slice of a helper, microseconds.
pub const SLICE_US: u64 = 10_000;

/// A function that a helper runs; what it returns is the thread's result.
pub type Body = fn(&Env) -> u64;

/// What a thread is given.
#[derive(Clone, Copy)]
pub struct Env {
    /// Words for the thread.
    pub args: [u64; ARGS],
    buffer: usize,
}

impl Env {
    /// The thread's IPC buffer.
    pub fn buffer(&self) -> *mut IpcBuffer {
        core::ptr::with_exposed_provenance_mut(self.buffer)
    }

    /// Calls `f` with the thread's IPC buffer. `f` makes no system call that receives.
    pub fn with_buffer<T>(&self, f: impl FnOnce(&mut IpcBuffer) -> T) -> T {
        // SAFETY: mapped by `Helper::start` for this thread alone, which is in `f` now; the root
        // thread looks into it only while this one is blocked or finished.
        f(unsafe { &mut *self.buffer() })
    }
}

/// What root thread and helper share.
struct Record {
    body: AtomicPtr<()>,
    args: [AtomicU64; ARGS],
    buffer: AtomicU64,
    done: AtomicU64,
    park: AtomicU64,
    finished: AtomicU64,
    result: AtomicU64,
}

#[allow(
    clippy::declare_interior_mutable_const,
    reason = "only to initialise an array"
)]
const EMPTY: Record = Record {
    body: AtomicPtr::new(core::ptr::null_mut()),
    args: [const { AtomicU64::new(0) }; ARGS],
    buffer: AtomicU64::new(0),
    done: AtomicU64::new(0),
    park: AtomicU64::new(0),
    finished: AtomicU64::new(0),
    result: AtomicU64::new(0),
};
static RECORDS: [Record; MAX_THREADS] = [EMPTY; MAX_THREADS];

#[repr(C, align(16))]
struct Stacks(UnsafeCell<[[u8; STACK_SIZE]; MAX_THREADS]>);
// SAFETY: only the thread whose stack it is uses each element, through its stack pointer.
unsafe impl Sync for Stacks {}
static STACKS: Stacks = Stacks(UnsafeCell::new([[0; STACK_SIZE]; MAX_THREADS]));

/// First function of every helper.
extern "C" fn enter(index: u64) -> ! {
    let record = &RECORDS[index as usize];
    let body = record.body.load(Ordering::Acquire);
    // SAFETY: `Helper::start` stored a `Body` there before it started this thread.
    let body = unsafe { core::mem::transmute::<*mut (), Body>(body) };
    let env = Env {
        args: core::array::from_fn(|i| record.args[i].load(Ordering::Relaxed)),
        buffer: record.buffer.load(Ordering::Relaxed) as usize,
    };
    record.result.store(body(&env), Ordering::Relaxed);
    record.finished.store(1, Ordering::Release);
    let park = record.park.load(Ordering::Relaxed);
    if park != 0 {
        cap::Notification::from_bits(record.done.load(Ordering::Relaxed)).signal();
        cap::Notification::from_bits(park).wait();
    }
    sel4::arch::trap()
}

/// Registers of a thread that will run [`enter`].
fn entry_registers(index: usize) -> UserContext {
    let mut registers = UserContext::default();
    let top = STACKS.0.get() as usize + (index + 1) * STACK_SIZE;
    let entry = enter as extern "C" fn(u64) -> ! as usize as u64;
    *registers.pc_mut() = entry;
    // ELFv2: r12 holds the address of the function entered; 32 bytes of frame header.
    *registers.gpr_mut(12) = entry;
    *registers.sp_mut() = top as u64 - 64;
    *registers.c_param_mut(0) = index as u64;
    registers
}

/// How a helper is made.
pub struct Helper {
    body: Body,
    args: [u64; ARGS],
    priority: u64,
    mcp: u64,
    budget: u64,
    period: u64,
    core: usize,
    fault: cap::Endpoint,
    cspace: Option<cap::CNode>,
    vspace: cap::VSpace,
    buffer: bool,
    memory: Option<cap::Untyped>,
}

impl Helper {
    /// A thread one priority above the root thread, so that it runs as soon as it is started, with a
    /// time slice of its own and no fault handler.
    pub fn new(body: Body) -> Self {
        Helper {
            body,
            args: [0; ARGS],
            priority: ROOT_PRIORITY + 1,
            mcp: 0,
            budget: SLICE_US,
            period: SLICE_US,
            core: 0,
            fault: cap::Endpoint::from_bits(0),
            cspace: None,
            vspace: slot::VSPACE.cap(),
            buffer: true,
            memory: None,
        }
    }

    /// Words for the thread.
    pub fn args<const N: usize>(mut self, args: [u64; N]) -> Self {
        self.args[..N].copy_from_slice(&args);
        self
    }

    /// Its priority.
    pub fn priority(mut self, priority: u64) -> Self {
        self.priority = priority;
        self
    }

    /// Its maximum controlled priority.
    pub fn mcp(mut self, mcp: u64) -> Self {
        self.mcp = mcp;
        self
    }

    /// Its budget per period, microseconds.
    pub fn budget(mut self, budget: u64, period: u64) -> Self {
        (self.budget, self.period) = (budget, period);
        self
    }

    /// The core that it runs on.
    pub fn core(mut self, core: usize) -> Self {
        self.core = core;
        self
    }

    /// Its fault endpoint.
    pub fn fault(mut self, endpoint: cap::Endpoint) -> Self {
        self.fault = endpoint;
        self
    }

    /// Its CSpace, instead of the root task's. It must hold what the body uses. The thread ends with a
    /// trap and cannot signal its end, so that [`Thread::join`] needs [`Kit::settle`] first.
    pub fn cspace(mut self, cnode: cap::CNode) -> Self {
        self.cspace = Some(cnode);
        self
    }

    /// Its VSpace, instead of the root task's: a copy of the program must be there, made after the
    /// thread ([`crate::Space::clone_image`]). The thread ends with a trap.
    pub fn vspace(mut self, vspace: cap::VSpace) -> Self {
        self.vspace = vspace;
        self
    }

    /// Its TCB and scheduling context are made of this memory.
    pub fn memory(mut self, memory: cap::Untyped) -> Self {
        self.memory = Some(memory);
        self
    }

    /// It has no IPC buffer.
    pub fn without_buffer(mut self) -> Self {
        self.buffer = false;
        self
    }

    /// Makes the thread but does not start it.
    pub fn make(self, kit: &mut Kit) -> Outcome<Thread> {
        let index = kit.threads;
        let Some(record) = RECORDS.get(index) else {
            return Err(Failure::new(format_args!("too many threads")));
        };
        kit.threads += 1;
        let memory = self.memory.unwrap_or(kit.memory());
        let tcb: cap::Tcb = kit.retype(memory, ObjectBlueprint::Tcb)?;
        let sc: cap::SchedContext = kit.retype(memory, ObjectBlueprint::SchedContext)?;
        kit.sched_control_of(self.core)
            .sched_control_configure_flags(sc, self.budget, self.period, 0, 0, 0)?;
        let buffer = if self.buffer {
            Some(kit.ipc_buffer()?)
        } else {
            None
        };
        let (frame, vaddr) = buffer.unwrap_or((cap::Granule::from_bits(0), 0));
        tcb.tcb_configure(
            self.cspace.unwrap_or(kit.cnode()),
            CNodeCapData::new(0, 0),
            self.vspace,
            vaddr as u64,
            frame,
        )?;
        let authority = slot::TCB.cap();
        tcb.tcb_set_sched_params(authority, self.mcp, self.priority, sc, self.fault)?;
        record
            .body
            .store(self.body as *const () as *mut (), Ordering::Relaxed);
        for (to, from) in record.args.iter().zip(self.args) {
            to.store(from, Ordering::Relaxed);
        }
        record.buffer.store(vaddr as u64, Ordering::Relaxed);
        // In another CSpace these names mean something else; in another VSpace the signal would say
        // that a record here was written.
        let here = self.cspace.is_none() && self.vspace == slot::VSPACE.cap();
        let (done, park) = match here {
            true => (kit.wake().bits(), kit.park().bits()),
            false => (0, 0),
        };
        record.done.store(done, Ordering::Relaxed);
        record.park.store(park, Ordering::Relaxed);
        record.result.store(0, Ordering::Relaxed);
        record.finished.store(0, Ordering::Release);
        tcb.tcb_write_all_registers(false, &entry_registers(index))?;
        Ok(Thread {
            tcb,
            sc,
            index,
            frame,
            buffer: vaddr,
        })
    }

    /// Makes and starts the thread.
    pub fn start(self, kit: &mut Kit) -> Outcome<Thread> {
        let thread = self.make(kit)?;
        thread.tcb.tcb_resume()?;
        Ok(thread)
    }

    /// Makes and starts the thread, waits until it blocks and takes its scheduling context away: a
    /// passive server.
    pub fn start_passive(self, kit: &mut Kit) -> Outcome<Thread> {
        let thread = self.start(kit)?;
        kit.settle()?;
        thread.sc.sched_context_unbind()?;
        Ok(thread)
    }
}

/// A helper thread.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// The thread.
    pub tcb: cap::Tcb,
    /// The scheduling context that it was made with.
    pub sc: cap::SchedContext,
    /// Frame of its IPC buffer.
    pub frame: cap::Granule,
    index: usize,
    buffer: usize,
}

impl Thread {
    /// Whether the body has returned.
    pub fn finished(&self) -> bool {
        RECORDS[self.index].finished.load(Ordering::Acquire) != 0
    }

    /// What the body returned; `None` if it has not.
    pub fn result(&self) -> Option<u64> {
        self.finished()
            .then(|| RECORDS[self.index].result.load(Ordering::Relaxed))
    }

    /// Waits for the end of the body (15 s at most) and returns its result.
    #[track_caller]
    pub fn join(&self, kit: &Kit) -> Outcome<u64> {
        let late = Failure::new(format_args!("the thread does not finish"));
        let deadline = timebase() + microseconds(JOIN_TIMEOUT_US);
        loop {
            if let Some(result) = self.result() {
                return Ok(result);
            }
            if !kit.sleep_until(deadline)? {
                return Err(late);
            }
        }
    }

    /// Changes what the thread is given, before it is started.
    pub fn set_args<const N: usize>(&self, args: [u64; N]) {
        for (to, from) in RECORDS[self.index].args.iter().zip(args) {
            to.store(from, Ordering::Relaxed);
        }
    }

    /// Where the result lies in the program, for threads that run in a copy of it.
    pub fn result_address(&self) -> usize {
        &raw const RECORDS[self.index].result as usize
    }

    /// Where its IPC buffer is mapped.
    pub fn buffer(&self) -> *mut IpcBuffer {
        core::ptr::with_exposed_provenance_mut(self.buffer)
    }

    /// Ends the thread and gives back what it was made of, so that a case can have any number of
    /// threads one after the other.
    pub fn discard(self, kit: &mut Kit) -> Outcome {
        kit.delete(self.tcb)?;
        kit.delete(self.sc)?;
        if self.frame.bits() != 0 {
            kit.delete(self.frame)?;
        }
        kit.forget_thread(self.index, self.buffer);
        Ok(())
    }

    /// Starts the body again from the beginning.
    pub fn restart(&self) -> Outcome {
        RECORDS[self.index].finished.store(0, Ordering::Release);
        self.tcb
            .tcb_write_all_registers(true, &entry_registers(self.index))?;
        Ok(())
    }
}
