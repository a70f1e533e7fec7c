// SPDX-License-Identifier: BSD-2-Clause
//! A booted kernel and hands to work it: system calls are made by filling a thread's registers.

mod memory;

pub use memory::{HPT_ORDER, READ_WRITE};

use crate::mock::Mock;
use partita_abi::bootinfo::ImageInfo;
use partita_abi::{
    CapRights, ErrorCode, InvocationLabel, IpcBufferLayout, MessageInfo, ObjectType, init_cnode,
    limits, syscall,
};
use partita_kernel_core::boot::BootParameters;
use partita_kernel_core::cap::Cap;
use partita_kernel_core::kernel::Kernel;
use partita_kernel_core::machine::Machine;
use partita_kernel_core::object::{Core, Ref, Reply, SchedContext, Slot, Tcb, ThreadState};
use partita_kernel_core::quick::Local;
use proptest::prelude::ProptestConfig;
use std::cell::Cell;

/// Slots of the root CNode: 2^this.
pub const ROOT_BITS: u64 = 10;
/// A capability pointer that names an empty slot.
pub const EMPTY: u64 = 1000;
/// Real address of the device region that the root task gets (64 KiB).
pub const DEVICE: u64 = 0x6_0300_d001_0000;
/// All rights, as an argument.
pub const ALL: u64 = CapRights::ALL.0;
/// Answer of an invocation: the message words, or error and detail words.
pub type Answer = Result<Vec<u64>, (ErrorCode, Vec<u64>)>;

/// A thread with everything that it needs; numbers are slots of the root CNode.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    pub tcb: u64,
    pub sc: u64,
    pub reply: u64,
    pub t: Ref<Tcb>,
}

/// So many cases, and no file that remembers failures.
pub fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A booted kernel with its root task.
pub struct Rig {
    pub m: Box<Mock>,
    pub root: Ref<Tcb>,
    /// Slot of the largest untyped capability.
    pub untyped: u64,
    pub device: u64,
    pub sched_control: u64,
    boot_end: u64,
    next: Cell<u64>,
    next_vaddr: Cell<u64>,
}

impl Rig {
    /// Boots with 8 MiB.
    pub fn new() -> Rig {
        Rig::with_memory(8 << 20)
    }

    /// Boots with a power of two of memory, half of which is the largest untyped.
    pub fn with_memory(size: usize) -> Rig {
        let m = Box::new(Mock::new(size));
        let g = m.global();
        g.num_cores.set(2);
        for (i, core) in g.cores.iter().enumerate() {
            core.id.set(i as u64);
        }
        let image = ImageInfo {
            root_entry: 0x10_0000,
            root_cnode_bits: ROOT_BITS,
            ..Default::default()
        };
        let k = Kernel::new(&*m, g, &g.cores[0]);
        k.create_root_task(&BootParameters {
            memory: &[(m.base(), m.end())],
            devices: &[(DEVICE, 16)],
            image: &image,
            frames: &[],
            boot_timebase: 7,
        })
        .expect("the root task boots");
        k.finish();
        let root = g.cores[0].current.get().expect("the root task runs");
        let mut rig = Rig {
            root,
            untyped: 0,
            boot_end: u64::MAX,
            device: 0,
            sched_control: init_cnode::FIRST_FREE as u64,
            next: Cell::new(200),
            next_vaddr: Cell::new(0x100_0000),
            m,
        };
        let mut most = 0;
        for i in init_cnode::FIRST_FREE as u64..200 {
            match rig.cap(i) {
                Cap::Untyped(u) if u.device => rig.device = i,
                Cap::Untyped(u) => {
                    rig.boot_end = rig.boot_end.min(u.addr);
                    if u.bits > most {
                        most = u.bits;
                        rig.untyped = i;
                    }
                }
                _ => {}
            }
        }
        rig
    }

    /// The kernel on core 0.
    pub fn k(&self) -> Kernel<'_, Mock> {
        Kernel::new(&*self.m, self.m.global(), self.core())
    }

    /// Core 0.
    pub fn core(&self) -> &Core {
        &self.m.global().cores[0]
    }

    pub fn tcb(&self, t: Ref<Tcb>) -> &Tcb {
        self.m.object(t.addr())
    }

    pub fn state(&self, t: Ref<Tcb>) -> ThreadState {
        ThreadState::from_number(self.tcb(t).state.get())
    }

    pub fn current(&self) -> Option<Ref<Tcb>> {
        self.core().current.get()
    }

    /// Address of the root CNode: the first thing that boot allocates.
    pub fn root_cnode_addr(&self) -> u64 {
        self.m.base()
    }

    /// Whether an object was made at boot rather than by Retype.
    pub fn is_boot_object(&self, addr: u64) -> bool {
        addr < self.boot_end
    }

    /// Root of the address space that has this PID.
    pub fn root_of(&self, pid: u64) -> Option<u64> {
        let per_pool = limits::ASIDS_PER_POOL as u64;
        match self.m.global().asid_pools[(pid / per_pool) as usize].get() {
            gone if gone < 4096 => None,
            pool => Some(self.m.read_word(pool + 8 * (pid % per_pool))).filter(|&root| root != 0),
        }
    }

    /// Slot `i` of the root CNode.
    pub fn slot(&self, i: u64) -> &Slot {
        assert!(i < 1 << ROOT_BITS);
        self.m.object(self.root_cnode_addr() + 32 * i)
    }

    /// The capability in slot `i` of the root CNode.
    pub fn cap(&self, i: u64) -> Cap {
        self.slot(i).cap()
    }

    /// The object's address of the capability in slot `i`.
    pub fn addr(&self, i: u64) -> u64 {
        self.cap(i).region().expect("an object").0
    }

    pub fn sc(&self, i: u64) -> &SchedContext {
        self.m.object(self.addr(i))
    }

    pub fn reply(&self, i: u64) -> &Reply {
        self.m.object(self.addr(i))
    }

    /// A slot of the root CNode that was not used yet.
    pub fn fresh(&self) -> u64 {
        let i = self.next.get();
        assert!(i < EMPTY);
        self.next.set(i + 1);
        i
    }

    /// Slots of the root CNode that tests may have filled.
    pub fn used_slots(&self) -> u64 {
        self.next.get().max(200)
    }

    /// Makes `t` the running thread, as if the scheduler had chosen it: what ran goes to the front of
    /// its queue.
    pub fn run_as(&self, t: Ref<Tcb>) {
        let core = self.core();
        if core.current.is(t) {
            return;
        }
        let tcb = self.tcb(t);
        assert!(
            tcb.queued.get() == 1,
            "thread {t:?} cannot run: {:?}",
            self.state(t)
        );
        let p = tcb.priority.get() as usize;
        let (prev, next) = (tcb.queue_prev.take(), tcb.queue_next.take());
        match prev {
            Some(prev) => self.tcb(prev).queue_next.set(next),
            None => core.ready_head[p].set(next),
        }
        match next {
            Some(next) => self.tcb(next).queue_prev.set(prev),
            None => core.ready_tail[p].set(prev),
        }
        tcb.queued.set(0);
        if let Some(sc) = tcb.yield_to.take() {
            let sc: &SchedContext = self.m.object(sc.addr());
            sc.yield_from.set(None);
            tcb.kind.set(0);
        }
        if core.ready_head[p].is_none() {
            let word = &core.ready_bits[p / 64];
            word.set(word.get() & !(1 << (p % 64)));
        }
        if let Some(old) = core.current.get() {
            let o = self.tcb(old);
            let q = o.priority.get() as usize;
            let first = core.ready_head[q].get();
            o.queued.set(1);
            o.queue_prev.set(None);
            o.queue_next.set(first);
            match first {
                Some(first) => self.tcb(first).queue_prev.set(Some(old)),
                None => core.ready_tail[q].set(Some(old)),
            }
            core.ready_head[q].set(Some(old));
            let word = &core.ready_bits[q / 64];
            word.set(word.get() | 1 << (q % 64));
        }
        let top = (0..256).rev().find(|&p| !core.ready_head[p].is_none());
        core.ready_top.set(top.map_or(0, |p| p as u64 + 1));
        core.current.set(Some(t));
        core.current_sc.set(tcb.sched_context.get());
        core.charged_from.set(self.m.now());
        core.deadline.set(0);
        self.k().finish();
    }

    /// Whether `t` can be made to run with `run_as`.
    pub fn can_run(&self, t: Ref<Tcb>) -> bool {
        self.core().current.is(t) || self.tcb(t).queued.get() == 1
    }

    pub fn set_gpr(&self, t: Ref<Tcb>, i: usize, value: u64) {
        self.tcb(t).context.gpr[i].set(value);
    }

    pub fn gpr(&self, t: Ref<Tcb>, i: usize) -> u64 {
        self.tcb(t).context.gpr[i].get()
    }

    /// The badge or capability pointer register.
    pub fn badge(&self, t: Ref<Tcb>) -> u64 {
        self.gpr(t, 3)
    }

    pub fn info(&self, t: Ref<Tcb>) -> MessageInfo {
        MessageInfo(self.gpr(t, 12))
    }

    /// Message register `i`.
    pub fn mr(&self, t: Ref<Tcb>, i: usize) -> u64 {
        if i < 8 {
            self.gpr(t, 4 + i)
        } else {
            self.buffer_word(t, IpcBufferLayout::MSG + i)
        }
    }

    pub fn set_mr(&self, t: Ref<Tcb>, i: usize, value: u64) {
        if i < 8 {
            self.set_gpr(t, 4 + i, value);
        } else {
            self.set_buffer_word(t, IpcBufferLayout::MSG + i, value);
        }
    }

    pub fn buffer_word(&self, t: Ref<Tcb>, i: usize) -> u64 {
        self.m
            .read_word(self.tcb(t).ipc_buffer.get() + 8 * i as u64)
    }

    pub fn set_buffer_word(&self, t: Ref<Tcb>, i: usize, value: u64) {
        self.m
            .write_word(self.tcb(t).ipc_buffer.get() + 8 * i as u64, value);
    }

    /// Where `t` takes a capability: slot `index` of the root CNode.
    pub fn set_receive_slot(&self, t: Ref<Tcb>, index: u64) {
        self.set_buffer_word(t, IpcBufferLayout::RECEIVE_CNODE, init_cnode::CNODE as u64);
        self.set_buffer_word(t, IpcBufferLayout::RECEIVE_INDEX, index);
        self.set_buffer_word(t, IpcBufferLayout::RECEIVE_DEPTH, 64);
    }

    /// Fills the message of `t`.
    pub fn message(&self, t: Ref<Tcb>, label: u64, words: &[u64], caps: &[u64]) {
        for (i, w) in words.iter().enumerate() {
            self.set_mr(t, i, *w);
        }
        for (i, c) in caps.iter().enumerate() {
            self.set_buffer_word(t, IpcBufferLayout::CAPS_OR_BADGES + i, *c);
        }
        let info = MessageInfo::new(label, 0, caps.len() as u64, words.len() as u64);
        self.set_gpr(t, 12, info.0);
    }

    /// One kernel entry of `t` with the registers as they are.
    pub fn enter(&self, t: Ref<Tcb>) {
        self.run_as(t);
        let pc = &self.tcb(t).context.pc;
        pc.set(pc.get() + 4);
        let k = self.k();
        // As the arch shell does it.
        match k.local_syscall() {
            Local::Settled => return,
            Local::Unsettled => {}
            Local::Refused => k.syscall(),
        }
        k.finish();
    }

    /// `t` makes system call `number` on `cptr`; the message is set before. Repeated as long as it is
    /// preempted.
    pub fn syscall(&self, t: Ref<Tcb>, number: isize, cptr: u64) {
        self.set_gpr(t, 0, number as u64);
        self.set_gpr(t, 3, cptr);
        for _ in 0..100_000 {
            let pc = self.tcb(t).context.pc.get();
            let seen = self.m.preemptions.get();
            self.enter(t);
            let again = self.m.preemptions.get() != seen
                && self.tcb(t).context.pc.get() == pc
                && self.can_run(t);
            if !again {
                return;
            }
        }
        panic!("system call {number} on {cptr} does not end");
    }

    pub fn send(&self, t: Ref<Tcb>, cptr: u64, words: &[u64]) {
        self.message(t, 0, words, &[]);
        self.syscall(t, syscall::SEND, cptr);
    }

    pub fn nb_send(&self, t: Ref<Tcb>, cptr: u64, words: &[u64]) {
        self.message(t, 0, words, &[]);
        self.syscall(t, syscall::NB_SEND, cptr);
    }

    /// An IPC call (the answer may come later).
    pub fn call_ep(&self, t: Ref<Tcb>, cptr: u64, words: &[u64]) {
        self.message(t, 0, words, &[]);
        self.syscall(t, syscall::CALL, cptr);
    }

    pub fn recv(&self, t: Ref<Tcb>, cptr: u64, reply: u64) {
        self.set_gpr(t, 14, reply);
        self.syscall(t, syscall::RECV, cptr);
    }

    pub fn nb_recv(&self, t: Ref<Tcb>, cptr: u64, reply: u64) {
        self.set_gpr(t, 14, reply);
        self.syscall(t, syscall::NB_RECV, cptr);
    }

    pub fn reply_recv(&self, t: Ref<Tcb>, cptr: u64, reply: u64, words: &[u64]) {
        self.message(t, 0, words, &[]);
        self.set_gpr(t, 14, reply);
        self.syscall(t, syscall::REPLY_RECV, cptr);
    }

    pub fn wait(&self, t: Ref<Tcb>, cptr: u64) {
        self.syscall(t, syscall::WAIT, cptr);
    }

    /// Invokes `cptr` as `t`.
    pub fn invoke_as(
        &self,
        t: Ref<Tcb>,
        cptr: u64,
        label: InvocationLabel,
        words: &[u64],
        caps: &[u64],
    ) -> Answer {
        self.message(t, label as u64, words, caps);
        self.syscall(t, syscall::CALL, cptr);
        self.answer(t)
    }

    /// The answer that `t` just got.
    pub fn answer(&self, t: Ref<Tcb>) -> Answer {
        let info = self.info(t);
        let words = (0..info.length() as usize).map(|i| self.mr(t, i)).collect();
        match ErrorCode::from_number(info.label()) {
            Some(ErrorCode::NoError) => Ok(words),
            Some(error) => Err((error, words)),
            None => panic!("answer with label {:#x}", info.label()),
        }
    }

    /// Invokes `cptr` as the root task.
    pub fn invoke(&self, cptr: u64, label: InvocationLabel, words: &[u64], caps: &[u64]) -> Answer {
        self.invoke_as(self.root, cptr, label, words, caps)
    }

    /// Invokes as the root task and expects success.
    #[track_caller]
    pub fn ok(&self, cptr: u64, label: InvocationLabel, words: &[u64], caps: &[u64]) -> Vec<u64> {
        match self.invoke(cptr, label, words, caps) {
            Ok(words) => words,
            Err(e) => panic!("{label:?} on slot {cptr} failed: {e:?}"),
        }
    }

    /// Invokes as the root task, expects this error with these details, and that nothing changed.
    #[track_caller]
    pub fn refused(
        &self,
        cptr: u64,
        label: InvocationLabel,
        words: &[u64],
        caps: &[u64],
        error: ErrorCode,
        details: &[u64],
    ) {
        self.refused_raw(cptr, label as u64, words, caps, error, details);
    }

    /// `refused` with a label that need not exist.
    #[track_caller]
    pub fn refused_raw(
        &self,
        cptr: u64,
        label: u64,
        words: &[u64],
        caps: &[u64],
        error: ErrorCode,
        details: &[u64],
    ) {
        let t = self.root;
        // The look-up cache of the thread is brought up to date before the state is noted.
        self.nb_send(t, EMPTY, &[]);
        self.message(t, label, words, caps);
        let events = self.m.log.borrow().len();
        let before = self.note(t);
        self.syscall(t, syscall::CALL, cptr);
        let what = InvocationLabel::from_number(label);
        assert_eq!(
            self.answer(t),
            Err((error, details.to_vec())),
            "{what:?} on slot {cptr}"
        );
        self.assert_unchanged(&before, t);
        assert_eq!(
            self.m.log.borrow().len(),
            events,
            "{what:?} touched the machine"
        );
    }

    /// All memory, without the registers of `t`.
    pub fn note(&self, t: Ref<Tcb>) -> Vec<u8> {
        let mut copy = self.m.snapshot();
        let at = (t.addr() - self.m.base()) as usize;
        let context = size_of::<partita_kernel_core::object::Context>();
        copy[at..at + context].fill(0);
        copy
    }

    #[track_caller]
    pub fn assert_unchanged(&self, before: &[u8], t: Ref<Tcb>) {
        let after = self.note(t);
        if before != after.as_slice() {
            let at = before.iter().zip(&after).position(|(a, b)| a != b);
            panic!("memory changed at offset {:#x}", at.unwrap_or(0));
        }
    }

    /// Retypes into fresh slots; returns the first.
    #[track_caller]
    pub fn make_many(&self, kind: ObjectType, size_bits: u64, count: u64) -> u64 {
        let first = self.fresh();
        for _ in 1..count {
            self.fresh();
        }
        self.ok(
            self.untyped,
            InvocationLabel::UntypedRetype,
            &[kind as u64, size_bits, 0, 0, first, count],
            &[init_cnode::CNODE as u64],
        );
        first
    }

    #[track_caller]
    pub fn make(&self, kind: ObjectType) -> u64 {
        self.make_many(kind, 0, 1)
    }

    /// Copies slot `src` of the root CNode to a fresh one.
    #[track_caller]
    pub fn mint(&self, src: u64, rights: u64, badge: u64) -> u64 {
        let dest = self.fresh();
        let root = init_cnode::CNODE as u64;
        self.ok(
            root,
            InvocationLabel::CNodeMint,
            &[dest, 64, src, 64, rights, badge],
            &[root],
        );
        dest
    }

    #[track_caller]
    pub fn copy(&self, src: u64) -> u64 {
        let dest = self.fresh();
        let root = init_cnode::CNODE as u64;
        self.ok(
            root,
            InvocationLabel::CNodeCopy,
            &[dest, 64, src, 64, ALL],
            &[root],
        );
        dest
    }

    #[track_caller]
    pub fn delete(&self, slot: u64) {
        self.ok(
            init_cnode::CNODE as u64,
            InvocationLabel::CNodeDelete,
            &[slot, 64],
            &[],
        );
    }

    #[track_caller]
    pub fn revoke(&self, slot: u64) {
        self.ok(
            init_cnode::CNODE as u64,
            InvocationLabel::CNodeRevoke,
            &[slot, 64],
            &[],
        );
    }

    /// A thread in the root task's spaces, resumed, with a scheduling context (10 ms of 10 ms).
    #[track_caller]
    pub fn thread(&self, priority: u64) -> Thread {
        let thread = self.passive_thread(priority);
        self.ok(
            thread.sc,
            InvocationLabel::SchedContextBind,
            &[],
            &[thread.tcb],
        );
        thread
    }

    /// `thread` whose scheduling context is not bound.
    #[track_caller]
    pub fn passive_thread(&self, priority: u64) -> Thread {
        use InvocationLabel as L;
        let (cnode, vspace) = (init_cnode::CNODE as u64, init_cnode::VSPACE as u64);
        let tcb = self.make(ObjectType::Tcb);
        let sc = self.make(ObjectType::SchedContext);
        let reply = self.make(ObjectType::Reply);
        let buffer = self.make(ObjectType::Frame4K);
        let vaddr = self.next_vaddr.get();
        self.next_vaddr.set(vaddr + 0x1000);
        self.configure_sc(sc, 10_000, 10_000);
        self.ok(
            tcb,
            L::TCBConfigure,
            &[0, 0, vaddr],
            &[cnode, vspace, buffer],
        );
        let authority = init_cnode::TCB as u64;
        self.ok(tcb, L::TCBSetMCPriority, &[255], &[authority]);
        self.ok(tcb, L::TCBSetPriority, &[priority], &[authority]);
        self.ok(tcb, L::TCBWriteRegisters, &[0, 1, 0x20_0000], &[]);
        self.ok(tcb, L::TCBResume, &[], &[]);
        let Cap::Thread(t) = self.cap(tcb) else {
            panic!("not a thread")
        };
        Thread { tcb, sc, reply, t }
    }

    /// A passive server that waits at an endpoint: its scheduling context is unbound then.
    #[track_caller]
    pub fn passive_server(&self, priority: u64, ep: u64) -> Thread {
        let server = self.thread(priority);
        self.recv(server.t, ep, server.reply);
        self.ok(server.sc, InvocationLabel::SchedContextUnbind, &[], &[]);
        server
    }

    #[track_caller]
    pub fn configure_sc(&self, sc: u64, budget_us: u64, period_us: u64) {
        self.ok(
            self.sched_control,
            InvocationLabel::SchedControlConfigureFlags,
            &[budget_us, period_us, 0, 0, 0],
            &[sc],
        );
    }

    /// Time passes; the timer interrupt comes if it was asked for.
    pub fn advance_us(&self, us: u64) {
        let target = self.m.now() + us * crate::mock::TICKS_PER_US;
        for _ in 0..10_000 {
            if self.m.deadline.get() > target {
                break;
            }
            self.m.now.set(self.m.deadline.get().max(self.m.now()));
            self.m.deadline.set(u64::MAX);
            let k = self.k();
            k.timer_interrupt();
            k.finish();
        }
        self.m.now.set(target);
    }
}
