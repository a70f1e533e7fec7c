// SPDX-License-Identifier: BSD-2-Clause
//! What a vCPU is made of comes and goes in any order: VCPU, thread, time, guest, views and pages. Whatever happens, nothing
//! remembers what is gone (`invariants`).

use super::{WINDOW, WRITE_REPLY};
use crate::invariants::check;
use crate::rig::{HPT_ORDER, READ_WRITE, Rig, Thread, cases};
use partita_abi::{InvocationLabel as L, ObjectType, ReplyAction, badge, init_cnode, syscall};
use partita_kernel_core::cap::Cap;
use partita_kernel_core::object::thread_kind;
use proptest::prelude::*;
use proptest::sample::select;

const ROOT: u64 = init_cnode::CNODE as u64;
const VSPACE: u64 = init_cnode::VSPACE as u64;
const AUTHORITY: u64 = init_cnode::TCB as u64;

/// Two of each kind; every number is 0 or 1.
macro_rules! kinds {
    ($($kind:ident)*) => {
        #[derive(Clone, Copy, Debug, PartialEq)]
        enum Kind { $($kind),* }
        use Kind::*;
        const KINDS: &[Kind] = &[$($kind),*];
    };
}
kinds!(Gspace Hpt Gfns Frame View Tcb Vcpu Sc Notification Server);

#[derive(Clone, Debug)]
enum Step {
    /// One goes, and another takes its place.
    Replace(Kind, usize),
    /// An invocation of one on others, whatever it answers.
    Invoke(Kind, usize, L, Vec<u64>, Vec<(Kind, usize)>),
    Hypercall(usize),
    Answer(ReplyAction),
    Time(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..2usize;
    let invoke = |kind, label: L, words: Vec<u64>, others: Vec<Kind>| {
        let count = others.len();
        (0..2usize, prop::collection::vec(0..2usize, count)).prop_map(move |(n, which)| {
            let others = others.iter().copied().zip(which).collect();
            Step::Invoke(kind, n, label, words.clone(), others)
        })
    };
    let actions = [
        ReplyAction::Resume,
        ReplyAction::Idle,
        ReplyAction::Stop,
        ReplyAction::Yield,
    ];
    prop_oneof![
        6 => (select(KINDS.to_vec()), n.clone()).prop_map(|(kind, n)| Step::Replace(kind, n)),
        6 => invoke(Vcpu, L::VCPUBind, vec![3], vec![Tcb, Gspace]),
        4 => invoke(Vcpu, L::VCPUResume, vec![], vec![]),
        1 => invoke(Vcpu, L::VCPUPause, vec![], vec![]),
        1 => invoke(Vcpu, L::VCPUKick, vec![], vec![]),
        3 => invoke(Vcpu, L::VCPUBindDispatchCounter, vec![0x40], vec![View]),
        1 => invoke(Vcpu, L::VCPURequestEntry, vec![1], vec![]),
        2 => invoke(Hpt, L::HPTBind, vec![12], vec![Gspace, Gfns]),
        2 => invoke(Hpt, L::HPTInsert, vec![1, 0x1001, 0x12], vec![]),
        1 => invoke(Hpt, L::HPTClear, vec![], vec![]),
        2 => invoke(Frame, L::PageMap, vec![0, READ_WRITE, 0], vec![Gspace]),
        1 => invoke(Frame, L::PageUnmap, vec![], vec![]),
        3 => (0u64..2).prop_flat_map(move |i| {
            invoke(View, L::ViewMap, vec![0, WINDOW + (i << 12), 0], vec![])
        }),
        1 => invoke(View, L::ViewUnmap, vec![], vec![]),
        4 => invoke(Sc, L::SchedContextBind, vec![], vec![Tcb]),
        1 => invoke(Sc, L::SchedContextBind, vec![], vec![Notification]),
        1 => invoke(Sc, L::SchedContextUnbind, vec![], vec![]),
        1 => invoke(Sc, L::SchedContextUnbindObject, vec![], vec![Tcb]),
        1 => invoke(Tcb, L::TCBSuspend, vec![], vec![]),
        1 => invoke(Tcb, L::TCBResume, vec![], vec![]),
        1 => invoke(Tcb, L::TCBBindNotification, vec![], vec![Notification]),
        6 => n.prop_map(Step::Hypercall),
        5 => select(actions.to_vec()).prop_map(Step::Answer),
        2 => select(vec![10, 5_000, 30_000]).prop_map(Step::Time),
    ]
}

struct Game {
    rig: Rig,
    ep: u64,
    servers: [Thread; 2],
    /// Slots, by kind and number.
    slots: Vec<[u64; 2]>,
}

impl Game {
    fn new() -> Game {
        let rig = Rig::with_memory(32 << 20);
        rig.own_page_tables(WINDOW);
        let ep = rig.make(ObjectType::Endpoint);
        let servers = [0; 2].map(|_| rig.passive_server(200, ep));
        let mut game = Game {
            slots: vec![[0; 2]; KINDS.len()],
            rig,
            ep,
            servers,
        };
        for &kind in KINDS {
            for n in 0..2 {
                game.make(kind, n);
            }
        }
        for n in 0..2 {
            let slot = |kind| game.slot(kind, n);
            let ok = |kind, label, words: &[u64], caps: &[u64]| {
                game.rig.ok(slot(kind), label, words, caps);
            };
            ok(Hpt, L::HPTBind, &[12], &[slot(Gspace), slot(Gfns)]);
            ok(Frame, L::PageMap, &[0, READ_WRITE, 0], &[slot(Gspace)]);
            ok(
                View,
                L::ViewMap,
                &[0, WINDOW + ((n as u64) << 12), 0],
                &[VSPACE],
            );
            ok(Sc, L::SchedContextBind, &[], &[slot(Tcb)]);
            ok(Vcpu, L::VCPUBind, &[3], &[slot(Tcb), slot(Gspace)]);
            ok(Vcpu, L::VCPUBindDispatchCounter, &[0x40], &[slot(View)]);
            ok(Vcpu, L::VCPUResume, &[], &[]);
        }
        game
    }

    fn slot(&self, kind: Kind, n: usize) -> u64 {
        self.slots[kind as usize][n]
    }

    fn make(&mut self, kind: Kind, n: usize) {
        let rig = &self.rig;
        self.slots[kind as usize][n] = match kind {
            Gspace => {
                let gspace = rig.gspace();
                rig.gpage_tables(gspace);
                gspace
            }
            Hpt => rig.make_many(ObjectType::Hpt, HPT_ORDER, 1),
            Gfns => rig.make_many(ObjectType::HptGfns, HPT_ORDER - 2, 1),
            Frame => rig.make(ObjectType::Frame4K),
            View => {
                let view = rig.fresh();
                let gspace = self.slot(Gspace, n);
                // It may be gone.
                let _ = rig.invoke(gspace, L::GSpaceMakeView, &[view, 64, READ_WRITE], &[ROOT]);
                view
            }
            Tcb => {
                let tcb = rig.make(ObjectType::Tcb);
                let parent = rig.mint(self.ep, WRITE_REPLY, badge::FAULT | 3);
                let empty = rig.fresh();
                let caps = [AUTHORITY, empty, parent];
                rig.ok(tcb, L::TCBSetSchedParams, &[0, 100], &caps);
                tcb
            }
            Vcpu => rig.make(ObjectType::VCpu),
            Sc => {
                let sc = rig.make(ObjectType::SchedContext);
                rig.configure_sc(sc, 10_000, 20_000);
                sc
            }
            Notification => rig.make(ObjectType::Notification),
            Server => {
                self.servers[n] = rig.passive_server(200, self.ep);
                self.servers[n].tcb
            }
        };
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Replace(kind, n) => {
                self.rig.delete(self.slot(*kind, *n));
                check(&self.rig);
                self.make(*kind, *n);
            }
            Step::Invoke(kind, n, label, words, others) => {
                let mut caps: Vec<u64> = others.iter().map(|&(k, n)| self.slot(k, n)).collect();
                if *kind == View && *label == L::ViewMap {
                    caps.push(VSPACE);
                }
                let _ = self.rig.invoke(self.slot(*kind, *n), *label, words, &caps);
            }
            Step::Hypercall(n) => {
                let Cap::Thread(t) = self.rig.cap(self.slot(Tcb, *n)) else {
                    return;
                };
                let is_vcpu = self.rig.tcb(t).kind.get() == thread_kind::VCPU;
                if is_vcpu && self.rig.can_run(t) {
                    self.rig.run_as(t);
                    if self.rig.current() == Some(t) {
                        self.rig.set_gpr(t, 3, 0x60);
                        let k = self.rig.k();
                        k.guest_hypercall();
                        k.finish();
                    }
                }
            }
            Step::Answer(action) => {
                for s in self.servers {
                    if self.rig.can_run(s.t) {
                        self.rig.message(s.t, (*action as u64) << 48, &[], &[]);
                        self.rig.set_gpr(s.t, 14, s.reply);
                        self.rig.syscall(s.t, syscall::REPLY_RECV, self.ep);
                        return;
                    }
                }
            }
            Step::Time(us) => self.rig.advance_us(*us),
        }
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn vcpu0140_nothing_remembers_what_is_gone(steps in prop::collection::vec(step(), 10..60)) {
        let mut game = Game::new();
        for step in &steps {
            game.play(step);
            check(&game.rig);
        }
        game.rig.revoke(game.rig.untyped);
        check(&game.rig);
    }
}
