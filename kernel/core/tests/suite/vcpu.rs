// SPDX-License-Identifier: BSD-2-Clause
//! Guests' processors: pausing, stopping, sleeping, injected interrupts, `Entry` exits, the dispatch
//! counter.

mod life;
mod registers;

use crate::rig::{READ_WRITE, Rig, Thread, cases};
use partita_abi::{
    CapRights, ErrorCode as E, GuestExit, InvocationLabel as L, ObjectType, ReplyAction, badge,
    init_cnode, limits, vcpu_register as register,
};
use partita_kernel_core::cap::Cap;
use partita_kernel_core::machine::Machine;
use partita_kernel_core::object::{Ref, Tcb, ThreadState as S};
use partita_kernel_core::vcpu::{STOLEN_NOTE, Vcpu, lpcr, msr, segment};

const ID: u64 = 3;
const WRITE_REPLY: u64 = CapRights::WRITE.0 | CapRights::GRANT_REPLY.0;
const H_CEDE: u64 = 0xe0;
const PC: u64 = 0x1000;
const WINDOW: u64 = 0x100_8000;

/// A guest with one page of memory at 0 and one vCPU, whose exits all go to a passive server.
struct Guest {
    rig: Rig,
    gspace: u64,
    hpt: u64,
    page: u64,
    vcpu: u64,
    tcb: u64,
    sc: u64,
    t: Ref<Tcb>,
    server: Thread,
    ep: u64,
}

impl Guest {
    fn new() -> Guest {
        let rig = Rig::new();
        let gspace = rig.gspace();
        let (hpt, _) = rig.hpt(gspace);
        rig.gpage_tables(gspace);
        let page = rig.guest_page(gspace, 0);
        let ep = rig.make(ObjectType::Endpoint);
        let server = rig.passive_server(200, ep);
        let parent = rig.mint(ep, WRITE_REPLY, badge::FAULT | ID);
        let tcb = rig.make(ObjectType::Tcb);
        let sc = rig.make(ObjectType::SchedContext);
        rig.configure_sc(sc, 10_000, 10_000);
        let authority = init_cnode::TCB as u64;
        rig.ok(
            tcb,
            L::TCBSetSchedParams,
            &[0, 100],
            &[authority, sc, parent],
        );
        let vcpu = rig.make(ObjectType::VCpu);
        rig.ok(vcpu, L::VCPUBind, &[ID], &[tcb, gspace]);
        rig.ok(
            vcpu,
            L::VCPUWriteRegisters,
            &[register::PC as u64, 2, PC, msr::SF],
            &[],
        );
        let Cap::Thread(t) = rig.cap(tcb) else {
            panic!("not a thread")
        };
        Guest {
            rig,
            gspace,
            hpt,
            page,
            vcpu,
            tcb,
            sc,
            t,
            server,
            ep,
        }
    }

    /// One whose vCPU runs.
    fn running() -> Guest {
        let g = Guest::new();
        let expires = register::DEC_EXPIRES as u64;
        g.invoke(L::VCPUWriteRegisters, &[expires, 1, u64::MAX]);
        g.invoke(L::VCPUResume, &[]);
        g.run();
        g
    }

    fn expires(&self) -> &std::cell::Cell<u64> {
        &self.object().spr[register::DEC_EXPIRES - register::SRR0]
    }

    fn object(&self) -> &Vcpu {
        self.rig.m.object(self.rig.addr(self.vcpu))
    }

    #[track_caller]
    fn invoke(&self, label: L, words: &[u64]) -> Vec<u64> {
        self.rig.ok(self.vcpu, label, words, &[])
    }

    /// Lets the vCPU run on, up to its next exit.
    fn run(&self) {
        self.rig.run_as(self.t);
    }

    fn hypercall(&self, number: u64) {
        self.run();
        self.rig.set_gpr(self.t, 3, number);
        let k = self.rig.k();
        k.guest_hypercall();
        k.finish();
    }

    /// The server answers with `action` and waits for the next exit.
    fn answer(&self, action: ReplyAction, words: &[u64]) {
        let s = &self.server;
        self.rig.message(s.t, (action as u64) << 48, words, &[]);
        self.rig.set_gpr(s.t, 14, s.reply);
        self.rig
            .syscall(s.t, partita_abi::syscall::REPLY_RECV, self.ep);
    }

    #[track_caller]
    fn exit(&self, exit: GuestExit) {
        assert_eq!(self.rig.state(self.t), S::BlockedOnReply);
        assert_eq!(self.rig.badge(self.server.t), badge::FAULT | ID);
        assert_eq!(self.rig.info(self.server.t).label(), exit as u64);
    }

    fn state(&self) -> S {
        self.rig.state(self.t)
    }

    fn register_pc(&self) -> u64 {
        self.rig.tcb(self.t).context.pc.get()
    }

    fn register(&self, i: usize) -> u64 {
        self.invoke(L::VCPUReadRegisters, &[i as u64, 1])[0]
    }

    /// The guest sleeps.
    fn cede(&self) {
        self.hypercall(H_CEDE);
        self.answer(ReplyAction::Idle, &[]);
    }

    /// The server lets the guest go on, which it does.
    fn go_on(&self) {
        self.answer(ReplyAction::Resume, &[]);
        self.run();
    }

    /// The guest is paused in a call: after the answer comes the exit that tells it.
    fn pause_in_call(&self) {
        let done = self.serve(L::VCPUPause, &[]);
        assert_eq!(done, [0], "in a call: an exit follows");
        self.go_on();
        self.exit(GuestExit::Paused);
    }

    /// Views of the page at 0, mapped into the root task at [`WINDOW`] and the pages behind it.
    fn views<const N: usize>(&self) -> [u64; N] {
        let vspace = init_cnode::VSPACE as u64;
        self.rig.own_page_tables(WINDOW);
        std::array::from_fn(|i| {
            let view = self.rig.view(self.gspace);
            let at = WINDOW + 0x1000 * i as u64;
            self.rig.ok(view, L::ViewMap, &[0, at, 0], &[vspace]);
            view
        })
    }

    /// As if the server ran now: it is in an exit.
    fn serve(&self, label: L, words: &[u64]) -> Vec<u64> {
        self.rig
            .invoke_as(self.server.t, self.vcpu, label, words, &[])
            .expect("the invocation succeeds")
    }
}

#[test]
fn vcpu0100_registers_are_written_during_the_paused_exit_and_resume_ends_it() {
    let g = Guest::running();
    assert_eq!(
        g.invoke(L::VCPUPause, &[]),
        [1],
        "out, with no call in flight"
    );
    g.invoke(L::VCPUResume, &[]);
    g.hypercall(0x60);
    g.exit(GuestExit::Hypercall);
    let write = [register::CIABR as u64, 1, 0x1001];
    let refused = g
        .rig
        .invoke_as(g.server.t, g.vcpu, L::VCPUWriteRegisters, &write, &[]);
    assert_eq!(refused.map_err(|(e, _)| e), Err(E::IllegalOperation));
    assert_eq!(
        g.serve(L::VCPUReadRegisters, &[register::PC as u64, 1]),
        [PC]
    );
    g.pause_in_call();
    // Message registers of the server's own invocations overwrite nothing of the guest.
    g.serve(L::VCPUWriteRegisters, &write);
    g.serve(L::VCPUResume, &[]);
    g.answer(ReplyAction::Resume, &[]);
    assert!(g.rig.can_run(g.t));
    g.run();
    assert_eq!(g.state(), S::Running);
    assert_eq!(
        g.object().spr[register::CIABR - register::SRR0].get(),
        0x1001
    );
    // No kick was left behind: the next sleep is one.
    g.cede();
    assert_eq!(g.state(), S::Inactive);
}

#[test]
fn vcpu0101_an_answer_to_the_paused_exit_ends_the_pause_unless_it_stops() {
    let g = Guest::running();
    for action in [ReplyAction::Resume, ReplyAction::Stop] {
        g.hypercall(0x60);
        g.pause_in_call();
        g.answer(action, &[]);
        if action == ReplyAction::Resume {
            g.run();
            assert_eq!(g.state(), S::Running);
        }
    }
    assert_eq!(g.state(), S::Inactive);
    assert_eq!(g.invoke(L::VCPUPause, &[]), [1]);
    // Resume ends the pause and the stop.
    g.invoke(L::VCPUResume, &[]);
    assert!(g.rig.can_run(g.t));
}

#[test]
fn vcpu0102_a_pause_wins_over_a_latched_kick_at_stop() {
    let g = Guest::running();
    for paused in [false, true] {
        g.hypercall(0x60);
        g.serve(L::VCPUKick, &[]);
        if paused {
            g.serve(L::VCPUPause, &[]);
        }
        g.answer(ReplyAction::Stop, &[]);
        assert_eq!(g.rig.can_run(g.t), !paused);
    }
    assert_eq!(g.state(), S::Inactive);
    // A resume while it is still in the call is latched.
    g.invoke(L::VCPUResume, &[]);
    g.hypercall(0x60);
    g.serve(L::VCPUPause, &[]);
    g.serve(L::VCPUResume, &[]);
    g.answer(ReplyAction::Stop, &[]);
    assert!(g.rig.can_run(g.t));
}

#[test]
fn vcpu0103_an_injected_interrupt_waits_for_the_entry_and_wakes() {
    let g = Guest::running();
    g.cede();
    assert_eq!(g.state(), S::Inactive);
    g.invoke(L::VCPUInject, &[0x100, 0, 0, 0]);
    assert!(g.rig.can_run(g.t));
    g.run();
    let context = &g.rig.tcb(g.t).context;
    assert_eq!(context.pc.get(), 0x100);
    assert_eq!(g.object().spr[0].get(), PC, "srr0");
    // In a call: it comes behind the answer, once.
    g.hypercall(0x60);
    g.serve(L::VCPUInject, &[0x100, 0, 0, 0]);
    let second = g
        .rig
        .invoke_as(g.server.t, g.vcpu, L::VCPUInject, &[0x300, 0, 0, 0], &[]);
    assert_eq!(second.map_err(|(e, _)| e), Err(E::IllegalOperation));
    context.pc.set(0x2000);
    g.answer(ReplyAction::Resume, &[7]);
    g.run();
    assert_eq!((context.pc.get(), g.object().spr[0].get()), (0x100, 0x2000));
    assert_eq!(g.rig.gpr(g.t, 4), 7);
    g.hypercall(0x60);
    context.pc.set(0x2004);
    g.go_on();
    assert_eq!(context.pc.get(), 0x2004);
    // What is wrong is refused at once.
    for words in [[0x101, 0, 0, 0], [0x2000, 0, 0, 0], [0x100, 1, 0, 0]] {
        let answer = g.rig.invoke(g.vcpu, L::VCPUInject, &words, &[]);
        assert_eq!(answer.map_err(|(e, _)| e), Err(E::InvalidArgument));
    }
}

#[test]
fn vcpu0104_a_paused_sleeper_sleeps_on_until_something_came() {
    let g = Guest::running();
    g.cede();
    assert_eq!(g.invoke(L::VCPUPause, &[]), [1]);
    g.invoke(L::VCPUResume, &[]);
    assert_eq!(g.state(), S::Inactive);
    g.invoke(L::VCPUPause, &[]);
    g.invoke(L::VCPUSetInterruptLine, &[1]);
    assert_eq!(g.state(), S::Inactive, "paused");
    g.invoke(L::VCPUResume, &[]);
    assert!(g.rig.can_run(g.t));
    g.run();
    assert_eq!(g.rig.tcb(g.t).context.pc.get(), 0x500);
    g.invoke(L::VCPUSetInterruptLine, &[0]);
    // A new program counter ends the sleep.
    g.cede();
    g.invoke(L::VCPUPause, &[]);
    g.invoke(L::VCPUInject, &[0x100, 0, 0, 0]);
    g.invoke(L::VCPUWriteRegisters, &[register::PC as u64, 1, 0x4000]);
    g.invoke(L::VCPUResume, &[]);
    g.run();
    assert_eq!(g.rig.tcb(g.t).context.pc.get(), 0x4000);
}

#[test]
fn vcpu0105_a_cede_with_an_expired_decrementer_or_a_kick_returns_with_ee() {
    let g = Guest::running();
    for (deadline, kick) in [(0, false), (u64::MAX, true)] {
        g.rig.tcb(g.t).context.msr.set(msr::SF);
        g.hypercall(H_CEDE);
        g.expires().set(deadline);
        if kick {
            g.serve(L::VCPUKick, &[]);
        }
        g.answer(ReplyAction::Idle, &[]);
        assert!(g.rig.can_run(g.t));
        assert_eq!(g.rig.tcb(g.t).context.msr.get() & msr::EE, msr::EE);
        g.run();
    }
}

#[test]
fn vcpu0106_entry_exits_come_when_asked_for_also_of_one_that_is_out() {
    let g = Guest::running();
    g.hypercall(0x60);
    assert_eq!(g.serve(L::VCPURequestEntry, &[0]), [0], "in a call");
    g.go_on();
    g.exit(GuestExit::Entry);
    assert_eq!(g.rig.mr(g.server.t, 0), PC);
    assert_eq!(g.rig.mr(g.server.t, 4), 0, "core");
    g.go_on();
    assert_eq!(g.state(), S::Running);
    assert_eq!(g.invoke(L::VCPURequestEntry, &[0]), [1], "on its way");
    g.run();
    g.exit(GuestExit::Entry);
    g.go_on();
    assert_eq!(g.state(), S::Running);
}

#[test]
fn vcpu0107_the_dispatch_counter_ends_with_its_own_view_only() {
    let g = Guest::running();
    let views = g.views::<2>();
    let wake = g.rig.make(ObjectType::Notification);
    let times = || g.invoke(L::VCPUGetTimes, &[])[2];
    assert_eq!(times(), u64::MAX, "no counter");
    g.rig
        .ok(g.vcpu, L::VCPUBindDispatchCounter, &[0x100], &[views[0]]);
    let before = times();
    assert_eq!(before & 1, 1, "the root task runs");
    let counter = || {
        u64::from(u32::from_be(
            g.rig.m.read_half(g.object().dispatch_counter.get()),
        ))
    };
    g.rig.wait(g.rig.root, wake);
    assert!(g.rig.current() == Some(g.t));
    assert_eq!(counter(), before + 1);
    // Its server has its time.
    g.hypercall(0x60);
    assert!(g.rig.current() == Some(g.server.t));
    assert_eq!(counter(), before + 1);
    g.rig.nb_send(g.server.t, wake, &[]);
    assert!(g.rig.current() == Some(g.rig.root));
    assert_eq!(times(), before + 2);
    g.rig.ok(views[1], L::ViewUnmap, &[], &[]);
    assert_eq!(times(), before + 2);
    // Time that it waited for is told.
    g.rig.m.now.set(g.rig.m.now.get() + STOLEN_NOTE);
    g.rig.wait(g.rig.root, wake);
    assert!(g.rig.current() == Some(g.server.t));
    g.answer(ReplyAction::Resume, &[]);
    g.exit(GuestExit::Entry);
    assert!(g.rig.mr(g.server.t, 2) >= STOLEN_NOTE);
    assert_eq!(g.rig.mr(g.server.t, 3), 2, "somebody else ran");
    g.answer(ReplyAction::Resume, &[]);
    assert_eq!(counter(), before + 3);
    // A guest that logs its dispatches is told of each, however short it waited.
    let lose_time = || {
        g.hypercall(0x60);
        g.rig.nb_send(g.server.t, wake, &[]);
        assert!(g.rig.current() == Some(g.rig.root));
    };
    lose_time();
    assert_eq!(g.invoke(L::VCPURequestEntry, &[1]), [0], "in a call");
    for _ in 0..3 {
        g.rig.wait(g.rig.root, wake);
        g.answer(ReplyAction::Resume, &[]);
        g.exit(GuestExit::Entry);
        assert_eq!(g.rig.mr(g.server.t, 3), 2, "somebody else ran");
        g.go_on();
        lose_time();
    }
    let refused = g.rig.invoke(g.vcpu, L::VCPURequestEntry, &[2], &[]);
    assert!(refused.is_err(), "0 or 1");
    assert_eq!(g.invoke(L::VCPURequestEntry, &[0]), [0], "in a call");
    g.rig.wait(g.rig.root, wake);
    g.answer(ReplyAction::Resume, &[]);
    g.exit(GuestExit::Entry);
    g.go_on();
    lose_time();
    g.rig.wait(g.rig.root, wake);
    g.go_on();
    assert_eq!(g.state(), S::Running, "a short wait is not told any more");
    g.hypercall(0x60);
    g.rig.nb_send(g.server.t, wake, &[]);
    g.rig.ok(views[0], L::ViewUnmap, &[], &[]);
    assert_eq!(times(), u64::MAX);
}

#[test]
fn vcpu0109_an_unbound_counter_stands_still_and_its_view_stays() {
    let g = Guest::running();
    let [view] = g.views();
    let wake = g.rig.make(ObjectType::Notification);
    // None is bound: that is what was asked for.
    g.invoke(L::VCPUUnbindDispatchCounter, &[]);
    g.rig
        .ok(g.vcpu, L::VCPUBindDispatchCounter, &[0x100], &[view]);
    let word = g.object().dispatch_counter.get();
    let counter = || u32::from_be(g.rig.m.read_half(word));
    let before = counter();
    g.invoke(L::VCPUUnbindDispatchCounter, &[]);
    assert_eq!(g.invoke(L::VCPUGetTimes, &[])[2], u64::MAX, "no counter");
    g.rig.wait(g.rig.root, wake);
    assert!(g.rig.current() == Some(g.t));
    assert_eq!(counter(), before, "the guest runs uncounted");
    g.hypercall(0x60);
    g.rig.nb_send(g.server.t, wake, &[]);
    // The mapping was not touched, so another binding needs no new one.
    g.rig
        .ok(g.vcpu, L::VCPUBindDispatchCounter, &[0x104], &[view]);
    assert_eq!(g.object().dispatch_counter.get(), word + 4);
}

#[test]
fn vcpu0112_a_vcpu_that_another_core_runs_is_told_at_once() {
    use crate::mock::Event;
    let g = Guest::running();
    let words = [10_000, 10_000, 0, 0, 0];
    let configure = L::SchedControlConfigureFlags;
    g.rig
        .ok(g.rig.sched_control + 1, configure, &words, &[g.sc]);
    let other = &g.rig.m.global().cores[1];
    let enter = || {
        let k = partita_kernel_core::Kernel::new(&*g.rig.m, g.rig.m.global(), other);
        k.finish();
    };
    let told = |label: L, words: &[u64]| {
        enter();
        assert!(other.current.is(g.t));
        g.object().attention.set(0);
        other.reschedule.set(0);
        g.rig.m.log.borrow_mut().clear();
        g.invoke(label, words);
        let kicked = g.rig.m.log.borrow().contains(&Event::Kick(1));
        assert!(kicked && other.reschedule.get() != 0, "{label:?}");
        assert!(g.object().attention.get() != 0, "{label:?}");
    };
    told(L::VCPUKick, &[]);
    assert_eq!(g.object().latch.get(), 1, "its next sleep is none");
    told(L::VCPUSetInterruptLine, &[1]);
    told(L::VCPUSetInterruptLine, &[0]);
    told(L::VCPUInject, &[0x100, 0, 0, 0]);
    told(L::VCPURequestEntry, &[0]);
    g.object().entry_wanted.set(0);
    told(L::VCPUPause, &[]);
    enter();
    g.exit(GuestExit::Paused);
    // One that is in a call is not disturbed.
    g.rig.m.log.borrow_mut().clear();
    g.invoke(L::VCPUKick, &[]);
    assert!(g.rig.m.log.borrow().is_empty());
}

#[test]
fn vcpu0113_what_a_system_call_leaves_beside_the_msr_is_not_shown() {
    let g = Guest::new();
    let cell = &g.rig.tcb(g.t).context.msr;
    let written = cell.get();
    cell.set(written | 0x10_0000);
    assert_eq!(g.register(register::MSR), written);
}

/// What a test does to a vCPU that runs or makes a hypercall.
#[derive(Clone, Copy, Debug)]
enum Step {
    Hypercall,
    Answer(ReplyAction),
    Kick,
    Pause,
    Resume,
    Line(u64),
}

/// What the vCPU does, as the design says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// Runs in the guest.
    Runs,
    /// Waits for the answer to a hypercall.
    Calls,
    /// Waits for the answer to its `Paused` exit.
    Reports,
    Idles,
    Stopped,
    /// Paused out of the guest, with no call in flight.
    Held,
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::*;
    use proptest::sample::select;
    let actions = [
        ReplyAction::Resume,
        ReplyAction::Yield,
        ReplyAction::Idle,
        ReplyAction::Stop,
    ];
    let step = prop_oneof![
        3 => Just(Step::Hypercall),
        4 => select(actions.to_vec()).prop_map(Step::Answer),
        1 => Just(Step::Kick),
        1 => Just(Step::Pause),
        1 => Just(Step::Resume),
        1 => (0u64..2).prop_map(Step::Line),
    ];
    prop::collection::vec(step, 1..40)
}

proptest::proptest! {
    #![proptest_config(cases(64))]

    /// Kick and Resume are latched, a pause is told once and nothing runs in it, an event wakes: against a model.
    #[test]
    fn vcpu0114_latches_pauses_and_sleeps_are_as_designed(steps in steps()) {
        let g = Guest::running();
        let (mut does, mut wanted, mut paused) = (Does::Runs, false, false);
        let (mut latch, mut line) = (false, 0);
        for step in steps {
            // Somebody who rests does so until something comes.
            let wakes = |latch: &mut bool, line: u64| std::mem::take(latch) || line != 0;
            match step {
                Step::Hypercall if does == Does::Runs => {
                    g.hypercall(0x60);
                    does = Does::Calls;
                }
                Step::Answer(action) if matches!(does, Does::Calls | Does::Reports) => {
                    g.answer(action, &[]);
                    if paused && action != ReplyAction::Stop {
                        paused = false;
                    }
                    does = match action {
                        ReplyAction::Idle if wakes(&mut latch, line) => Does::Runs,
                        ReplyAction::Idle => Does::Idles,
                        ReplyAction::Stop if !wanted && std::mem::take(&mut latch) => Does::Runs,
                        ReplyAction::Stop => Does::Stopped,
                        _ => Does::Runs,
                    };
                    if matches!(does, Does::Idles | Does::Stopped) && std::mem::take(&mut wanted) {
                        paused = true;
                    }
                }
                Step::Kick => {
                    g.invoke(L::VCPUKick, &[]);
                    match does {
                        Does::Idles | Does::Stopped if !paused => does = Does::Runs,
                        _ => latch = true,
                    }
                }
                Step::Pause => {
                    let done = g.invoke(L::VCPUPause, &[])[0] == 1;
                    let out = !matches!(does, Does::Calls | Does::Reports);
                    proptest::prop_assert_eq!(done, paused || out);
                    match does {
                        _ if paused => {}
                        Does::Calls | Does::Reports => wanted = true,
                        Does::Runs => (does, paused) = (Does::Held, true),
                        _ => paused = true,
                    }
                }
                Step::Resume => {
                    g.invoke(L::VCPUResume, &[]);
                    let was = std::mem::take(&mut paused);
                    wanted = false;
                    match does {
                        Does::Idles if !was => latch = true,
                        Does::Idles if !wakes(&mut latch, line) => {}
                        Does::Idles => does = Does::Runs,
                        Does::Stopped | Does::Held => does = Does::Runs,
                        _ if !was => latch = true,
                        _ => {}
                    }
                }
                Step::Line(asserted) => {
                    g.invoke(L::VCPUSetInterruptLine, &[asserted]);
                    line = asserted;
                    if does == Does::Idles && asserted != 0 && !paused {
                        does = Does::Runs;
                    }
                }
                _ => continue,
            }
            if does == Does::Runs {
                proptest::prop_assert!(g.rig.can_run(g.t), "{:?}", step);
                g.run();
                if std::mem::take(&mut wanted) {
                    g.exit(GuestExit::Paused);
                    (does, paused) = (Does::Reports, true);
                }
            }
            let state = match does {
                Does::Runs => S::Running,
                Does::Calls | Does::Reports => S::BlockedOnReply,
                Does::Idles | Does::Stopped | Does::Held => S::Inactive,
            };
            proptest::prop_assert_eq!(g.state(), state, "{:?}: {:?}", step, does);
            crate::invariants::check(&g.rig);
        }
    }
}

#[test]
fn vcpu0108_facilities_whose_state_is_not_saved_stay_closed() {
    let g = Guest::new();
    assert_eq!(g.register(register::HFSCR), 0x117);
    g.invoke(
        L::VCPUWriteRegisters,
        &[register::HFSCR as u64, 1, u64::MAX],
    );
    // And the performance monitor.
    assert_eq!(g.register(register::HFSCR), 0x11f);
    g.invoke(L::VCPUWriteRegisters, &[register::HFSCR as u64, 1, 3]);
    assert_eq!(g.register(register::HFSCR), 3);
}

/// SPEC 5.3, 3.9: only the slow ways in and out change the timebase, breakpoints and counters that run, so the fast ones
/// find nothing to do.
#[test]
fn vcpu0136_a_guest_with_ways_of_its_own_has_no_fast_ones() {
    let g = Guest::new();
    g.invoke(L::VCPURouteHypercall, &[0x64, 0]);
    g.invoke(L::VCPURouteExit, &[GuestExit::DataStorage as u64, 0]);
    let v = g.object();
    let shown = || {
        let bytes = v.fast_hypercall_routes.iter().chain(&v.fast_exit_routes);
        bytes.map(core::cell::Cell::get).collect::<Vec<_>>()
    };
    let all = v.hypercall_routes.iter().chain(&v.exit_routes);
    let routes: Vec<u8> = all.map(core::cell::Cell::get).collect();
    assert!(routes.iter().any(|route| *route != 0));
    assert_eq!(shown(), routes);
    let set = |offset: u64| {
        g.invoke(
            L::VCPUWriteRegisters,
            &[register::TB_OFFSET as u64, 1, offset],
        );
        g.register(register::TB_OFFSET)
    };
    assert_eq!(set(1), 1 << 24, "rounded up");
    assert_eq!(set(u64::MAX), 0);
    assert_eq!(shown(), routes);
    assert_eq!(set(3 << 40), 3 << 40);
    assert!(shown().iter().all(|route| *route == 0));
    // A route that is set meanwhile shows when the timebase is the machine's again.
    g.invoke(L::VCPURouteHypercall, &[0x64, u64::MAX]);
    assert!(shown().iter().all(|route| *route == 0));
    g.invoke(L::VCPUResume, &[]);
    g.run();
    assert_eq!(g.state(), S::Running);
    assert_eq!(v.attention.get(), 1, "also with nothing else to do");
    g.invoke(L::VCPURequestEntry, &[0]);
    g.run();
    g.exit(GuestExit::Entry);
    assert_eq!(g.rig.mr(g.server.t, 5), 3 << 40, "vpa is told");
    g.answer(ReplyAction::Stop, &[]);
    assert_eq!(set(0), 0);
    let all = v.hypercall_routes.iter().chain(&v.exit_routes);
    assert_eq!(shown(), all.map(core::cell::Cell::get).collect::<Vec<_>>());
    assert_ne!(shown(), routes);
    // A breakpoint, and the performance monitor.
    for (register, value) in [(register::CIABR, 0x1002), (register::HFSCR, 0x11f)] {
        let before = g.register(register);
        let write = |value| g.invoke(L::VCPUWriteRegisters, &[register as u64, 1, value]);
        write(value);
        assert!(shown().iter().all(|route| *route == 0), "{register}");
        write(before);
        assert_ne!(shown(), routes);
        assert!(shown().iter().any(|route| *route != 0), "{register}");
    }
}

#[test]
fn vcpu0120_the_end_of_its_budget_is_a_timeout_fault() {
    let g = Guest::running();
    let handler = g.rig.thread(210);
    let timeouts = g.rig.make(ObjectType::Endpoint);
    g.rig.ok(g.tcb, L::TCBSetTimeoutEndpoint, &[], &[timeouts]);
    g.rig.recv(handler.t, timeouts, handler.reply);
    let control = g.rig.sched_control;
    let configure = L::SchedControlConfigureFlags;
    g.rig
        .ok(control, configure, &[1_000, 50_000, 0, 0x77, 0], &[g.sc]);
    g.run();
    let n = g.rig.make(ObjectType::Notification);
    g.rig.wait(g.rig.root, n);
    let r3 = g.rig.gpr(g.t, 3);
    for label in [0, 1] {
        g.rig.advance_us(1_001);
        assert_eq!(g.rig.current(), Some(handler.t));
        let info = g.rig.info(handler.t);
        assert_eq!(info.label(), partita_abi::FaultLabel::Timeout as u64);
        assert_eq!((info.length(), g.rig.mr(handler.t, 0)), (2, 0x77));
        assert_eq!(g.state(), S::BlockedOnReply);
        crate::invariants::check(&g.rig);
        // The answer is none of an exit's: no register changes. With a label it stays where it is.
        g.rig.message(handler.t, label, &[5, 6], &[]);
        g.rig.set_gpr(handler.t, 14, handler.reply);
        g.rig
            .syscall(handler.t, partita_abi::syscall::REPLY_RECV, timeouts);
        assert_eq!((g.rig.gpr(g.t, 3), g.register_pc()), (r3, PC));
        assert_eq!(g.rig.current(), None);
        g.rig.advance_us(49_500);
        assert_eq!(g.rig.can_run(g.t), label == 0);
        crate::invariants::check(&g.rig);
    }
    assert_eq!(g.state(), S::Inactive);
}

#[test]
fn vcpu0121_its_budget_bounds_guest_and_servers_together() {
    let g = Guest::running();
    g.rig.configure_sc(g.sc, 2_000, 20_000);
    g.run();
    let idle = g.rig.thread(1);
    let n = g.rig.make(ObjectType::Notification);
    g.rig.wait(g.rig.root, n);
    let mut run = [0u64; 3];
    for _ in 0..4_000 {
        g.rig.advance_us(50);
        let at = match g.rig.current() {
            Some(t) if t == g.t => 0,
            Some(t) if t == g.server.t => 1,
            _ => 2,
        };
        run[at] += 50;
        // A call every now and then, that takes about as long as the guest's own work.
        if at == 0 && run[0] % 200 == 0 {
            g.hypercall(0x60);
        } else if at == 1 && run[1] % 200 == 0 {
            g.answer(ReplyAction::Resume, &[]);
        }
    }
    assert!(run[0] > 5_000 && run[1] > 5_000, "{run:?}");
    // A tenth of 200 ms, and what a server overran is paid for.
    assert!(run[0] + run[1] < 24_000, "{run:?}");
    assert!(g.rig.sc(idle.sc).period.get() != 0);
    crate::invariants::check(&g.rig);
}

#[test]
fn vcpu0122_suspended_in_a_call_it_gets_its_time_back() {
    let g = Guest::running();
    g.hypercall(0x60);
    g.exit(GuestExit::Hypercall);
    g.rig.ok(g.tcb, L::TCBSuspend, &[], &[]);
    crate::invariants::check(&g.rig);
    assert!(g.rig.can_run(g.server.t), "the server finishes");
    g.answer(ReplyAction::Resume, &[]);
    assert!(g.rig.tcb(g.server.t).sched_context.is_none());
    let own = Ref::new(g.rig.addr(g.sc));
    assert_eq!(g.rig.tcb(g.t).sched_context.get(), own);
    assert!(!g.rig.can_run(g.t));
    g.rig.ok(g.tcb, L::TCBResume, &[], &[]);
    assert!(g.rig.can_run(g.t));
    crate::invariants::check(&g.rig);
}

#[test]
fn vcpu0110_vectors_and_segments_are_registers_too() {
    let g = Guest::new();
    for index in [
        register::VS0_0,
        register::VS31_0,
        register::VS63_1,
        register::FPSCR,
        register::VSCR,
        register::SLB0_ESID,
        register::SLB31_VSID,
    ] {
        let before = [g.register(index - 1), g.register(index)];
        assert_eq!(before[1], 0);
        let value = 0x1234_0000 + index as u64;
        g.invoke(L::VCPUWriteRegisters, &[index as u64, 1, value]);
        assert_eq!(g.register(index), value);
        assert_eq!(g.register(index - 1), before[0], "only this one");
        g.invoke(L::VCPUWriteRegisters, &[index as u64, 1, 0]);
    }
}

#[test]
fn vcpu0111_segments_that_hardware_would_refuse_are_not_loaded() {
    const V: u64 = 0x0800_0000;
    // Valid ones of all page sizes and both segment sizes; what is reserved goes.
    for llp in [0, 0x100, 0x110, 0x120] {
        for b in [0, 1 << 62] {
            let vsid = b | 0x1234_5000 | 0xc00 | llp;
            let found = segment(0xc000_0000_0000_0000 | V | 0x7ff_ffff, vsid | 0x4f);
            assert_eq!(found, Some((0xc000_0000_0000_0000 | V, vsid)));
        }
    }
    assert_eq!(segment(0xc000_0000_0000_0000, 0x1000), None, "not valid");
    assert_eq!(segment(V, 2 << 62), None, "reserved B");
    assert_eq!(segment(V, 3 << 62), None, "reserved B");
    for llp in [0x10, 0x20, 0x30, 0x130] {
        assert_eq!(segment(V, llp), None, "no page size {llp:#x}");
    }
}

#[test]
fn vcpu0130_each_invocation_needs_its_right() {
    const COPY: u64 = CapRights::READ.0 | CapRights::WRITE.0 | CapRights::GRANT_REPLY.0;
    let labels = [
        (L::VCPUReadRegisters, CapRights::READ),
        (L::VCPUGetTimes, CapRights::READ),
        (L::VCPURequestEntry, CapRights::GRANT_REPLY),
        (L::VCPUBindDispatchCounter, CapRights::GRANT_REPLY),
        (L::VCPUUnbindDispatchCounter, CapRights::GRANT_REPLY),
        (L::VCPUBind, CapRights::WRITE),
        (L::VCPUSetRoute, CapRights::WRITE),
        (L::VCPURouteHypercall, CapRights::WRITE),
        (L::VCPURouteExit, CapRights::WRITE),
        (L::VCPUWriteRegisters, CapRights::WRITE),
        (L::VCPUPause, CapRights::WRITE),
        (L::VCPUResume, CapRights::WRITE),
        (L::VCPUKick, CapRights::WRITE),
        (L::VCPUInject, CapRights::WRITE),
        (L::VCPUSetInterruptLine, CapRights::WRITE),
        (L::VCPUSetMode, CapRights::WRITE),
    ];
    let g = Guest::new();
    for rights in (0..16).map(CapRights) {
        let cap = g.rig.mint(g.vcpu, rights.0, 0);
        for (label, needed) in labels {
            if rights.contains(needed) {
                // No argument: what it says is about these, or it is done.
                let answer = g.rig.invoke(cap, label, &[], &[]);
                if let Err((error, details)) = answer {
                    let own = error == E::InvalidCapability && details[0] == 0;
                    assert!(!own, "{label:?} with {rights:?}");
                }
            } else {
                g.rig
                    .refused(cap, label, &[0, 1, 0, 0], &[], E::InvalidCapability, &[0]);
            }
        }
    }
    // What is gone does not come back.
    let entry = g.rig.mint(g.vcpu, CapRights::GRANT_REPLY.0, 0);
    let again = g.rig.mint(entry, COPY, 0);
    g.rig
        .refused(again, L::VCPUPause, &[], &[], E::InvalidCapability, &[0]);
    g.rig.ok(again, L::VCPURequestEntry, &[0], &[]);
}

#[test]
fn a_guest_has_a_limited_number_of_vcpus() {
    // What concerns all of them (a mode, poisoning) takes so long as they are many.
    let g = Guest::new();
    let rig = &g.rig;
    let most = limits::GSPACE_VCPUS as u64;
    let (tcbs, vcpus) = (
        rig.make_many(ObjectType::Tcb, 0, most),
        rig.make_many(ObjectType::VCpu, 0, most),
    );
    for i in 1..most {
        rig.ok(vcpus + i, L::VCPUBind, &[i], &[tcbs + i, g.gspace]);
    }
    let caps = [tcbs, g.gspace];
    rig.refused(vcpus, L::VCPUBind, &[0], &caps, E::NotEnoughMemory, &[0]);
    rig.delete(vcpus + 7);
    rig.ok(vcpus, L::VCPUBind, &[0], &caps);
}

#[test]
fn a_mode_is_one_that_exists() {
    let g = Guest::new();
    let mode = || g.object().spr[register::LPCR - register::SRR0].get();
    g.invoke(L::VCPUSetMode, &[lpcr::ILE | lpcr::AIL, 0]);
    assert_eq!(mode(), lpcr::ILE | lpcr::AIL);
    // AIL = 1 and 2 are reserved: relocation is off.
    g.invoke(L::VCPUSetMode, &[0, 0x80_0000]);
    assert_eq!(mode(), lpcr::ILE);
    g.invoke(L::VCPUSetMode, &[0x100_0000, lpcr::ILE]);
    assert_eq!(mode(), 0);
}

/// A view capability remembers its mapping after the kernel has ended it; nothing is bound through that.
#[test]
fn vcpu0131_no_counter_through_a_view_that_was_taken_away() {
    let g = Guest::new();
    let [view] = g.views();
    let bind = |error| match error {
        None => drop(
            g.rig
                .ok(g.vcpu, L::VCPUBindDispatchCounter, &[0x100], &[view]),
        ),
        Some((error, details)) => {
            g.rig.refused(
                g.vcpu,
                L::VCPUBindDispatchCounter,
                &[0x100],
                &[view],
                error,
                details,
            );
        }
    };
    bind(None);
    // The page behind it goes: poisoned.
    g.rig.delete(g.page);
    assert_eq!(g.object().dispatch_counter.get(), 0);
    const STALE: Option<(E, &[u64])> = Some((E::InvalidCapability, &[1]));
    bind(STALE);
    // The table is emptied and another page stands there, which nothing pins.
    g.rig.ok(g.hpt, L::HPTClear, &[], &[]);
    let page = g.rig.make(ObjectType::Frame4K);
    g.rig.ok(page, L::PageMap, &[0, READ_WRITE, 0], &[g.gspace]);
    bind(STALE);
    assert_eq!(g.object().dispatch_counter.get(), 0);
    g.rig.ok(page, L::PageUnmap, &[], &[]);
    g.rig.ok(page, L::PageMap, &[0, READ_WRITE, 0], &[g.gspace]);
    // Unmapped and mapped anew it is one again.
    g.rig.ok(view, L::ViewUnmap, &[], &[]);
    bind(STALE);
    g.rig.ok(
        view,
        L::ViewMap,
        &[0, WINDOW, 0],
        &[init_cnode::VSPACE as u64],
    );
    bind(None);
    assert_eq!(
        g.rig
            .invoke(page, L::PageUnmap, &[], &[])
            .map_err(|(e, _)| e),
        Err(E::RevokeFirst)
    );
}

/// Time remembers the vCPU whose dispatches it counts: not longer than there is one, whoever has the time when it goes.
#[test]
fn vcpu0132_time_forgets_a_vcpu_that_is_gone() {
    type End = fn(&Guest);
    let ends: [End; 6] = [
        |g| g.rig.delete(g.vcpu),
        |g| g.rig.delete(g.tcb),
        |g| g.rig.delete(g.gspace),
        |g| drop(g.rig.ok(g.sc, L::SchedContextUnbind, &[], &[])),
        |g| {
            let object = [g.server.tcb];
            let unbound = L::SchedContextUnbindObject;
            let _ = g.rig.invoke(g.sc, unbound, &[], &object);
            drop(g.rig.invoke(g.sc, unbound, &[], &[g.tcb]));
        },
        |g| g.rig.delete(g.server.tcb),
    ];
    for end in ends {
        for in_call in [false, true] {
            let g = Guest::running();
            if in_call {
                g.hypercall(0x60);
            }
            end(&g);
            crate::invariants::check(&g.rig);
            g.rig.delete(g.vcpu);
            crate::invariants::check(&g.rig);
            // Whoever has the time next.
            let ntfn = g.rig.make(ObjectType::Notification);
            let _ = g.rig.invoke(g.sc, L::SchedContextUnbind, &[], &[]);
            g.rig.ok(g.sc, L::SchedContextBind, &[], &[ntfn]);
            crate::invariants::check(&g.rig);
        }
    }
}

/// Its decrementer may be set while it is paused.
#[test]
fn vcpu0135_a_sleeper_wakes_by_the_decrementer_that_it_has() {
    for (before, after) in [(u64::MAX, 1_000), (1_000, u64::MAX)] {
        let g = Guest::running();
        let start = g.rig.m.now();
        g.expires().set(start.saturating_add(before));
        g.cede();
        assert_eq!(g.invoke(L::VCPUPause, &[]), [1]);
        let expires = start.saturating_add(after);
        let words = [register::DEC_EXPIRES as u64, 1, expires];
        g.invoke(L::VCPUWriteRegisters, &words);
        g.invoke(L::VCPUResume, &[]);
        assert_eq!(g.state(), S::Inactive);
        g.rig.advance_us(100);
        assert_eq!(g.state() == S::Inactive, after == u64::MAX);
        crate::invariants::check(&g.rig);
    }
}

/// Else a guest that is taken down while it sleeps would wake by itself.
#[test]
fn vcpu0134_a_suspended_sleeper_does_not_wake() {
    let g = Guest::running();
    g.expires().set(g.rig.m.now() + 1_000_000);
    g.cede();
    assert_eq!(g.state(), S::Inactive);
    g.rig.ok(g.tcb, L::TCBSuspend, &[], &[]);
    g.rig.advance_us(10_000);
    g.invoke(L::VCPUSetInterruptLine, &[1]);
    assert_eq!(g.state(), S::Inactive);
    crate::invariants::check(&g.rig);
    // Its registers can be written, and it goes on there when it is resumed.
    g.invoke(L::VCPUSetInterruptLine, &[0]);
    g.invoke(L::VCPUWriteRegisters, &[register::PC as u64, 1, 0x4000]);
    g.rig.ok(g.tcb, L::TCBResume, &[], &[]);
    g.run();
    assert_eq!((g.state(), g.register_pc()), (S::Restart, 0x4000));
}

/// The kernel counts with ordinary loads and stores, which a device need not bear.
#[test]
fn vcpu0133_no_counter_in_a_device() {
    let g = Guest::new();
    let [view] = g.views();
    let (root, vspace) = (init_cnode::CNODE as u64, init_cnode::VSPACE as u64);
    let device = g.rig.fresh();
    g.rig.ok(
        g.rig.device,
        L::UntypedRetype,
        &[ObjectType::Frame4K as u64, 0, 0, 0, device, 1],
        &[root],
    );
    g.rig
        .ok(device, L::PageMap, &[0x1000, READ_WRITE, 0], &[g.gspace]);
    g.rig.ok(view, L::ViewUnmap, &[], &[]);
    g.rig.ok(view, L::ViewMap, &[0x1000, WINDOW, 0], &[vspace]);
    g.rig.refused(
        g.vcpu,
        L::VCPUBindDispatchCounter,
        &[0x1100],
        &[view],
        E::InvalidCapability,
        &[1],
    );
}
