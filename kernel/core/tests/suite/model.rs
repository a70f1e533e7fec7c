// SPDX-License-Identifier: BSD-2-Clause
//! Random sequences of system calls against a simple model of the derivation forest.
//!
//! The model is the forest as it was before a call, and what seL4 says that the call does to it.
//! After each call: the forest is what the model says, a call that failed changed nothing, nobody
//! gained a right, and all invariants hold.

use crate::invariants::{self, explore, is_parent};
use crate::rig::{EMPTY, Rig, cases};
use partita_abi::{
    CapRights, FaultLabel, InvocationLabel as L, IpcBufferLayout, ObjectType, init_cnode, syscall,
};
use partita_kernel_core::cap::{Cap, Frame, Zombie};
use partita_kernel_core::object::{Ref, TCB_SLOTS, Tcb};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const ROOT: u64 = init_cnode::CNODE as u64;
const VSPACE: u64 = init_cnode::VSPACE as u64;
const POOL: u64 = init_cnode::ASID_POOL as u64;
/// The slots that the sequences play with.
const FIRST: u64 = 100;
const SLOTS: u64 = 44;

/// One step: what to do, and numbers to choose with.
#[derive(Clone, Copy, Debug)]
struct Step {
    what: u8,
    a: u8,
    b: u8,
    c: u8,
    d: u8,
}

fn step() -> impl Strategy<Value = Step> {
    (0u8..46, any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>())
        .prop_map(|(what, a, b, c, d)| Step { what, a, b, c, d })
}

/// A capability without what mappings and memory management write into it.
fn identity(cap: Cap) -> Cap {
    match cap {
        Cap::Frame(f) => Cap::Frame(Frame { mapping: None, ..f }),
        Cap::PageTable { addr, .. } => Cap::PageTable {
            addr,
            mapping: None,
        },
        Cap::Untyped(mut u) => {
            (u.free, u.zeroed) = (0, 0);
            Cap::Untyped(u)
        }
        Cap::Zombie(z) => Cap::Zombie(Zombie { remaining: 0, ..z }),
        other => other,
    }
}

fn rights(cap: &Cap) -> CapRights {
    match cap {
        Cap::Endpoint { rights, .. } | Cap::Notification { rights, .. } => *rights,
        Cap::Frame(f) => f.rights,
        Cap::Reply {
            can_grant: true, ..
        } => CapRights::GRANT,
        _ => CapRights::NONE,
    }
}

/// A node of the forest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    cap: Cap,
    parent: Option<u64>,
}

type Forest = BTreeMap<u64, Node>;

fn forest(rig: &Rig) -> Forest {
    let w = explore(rig);
    let mut nodes = Forest::new();
    for (&at, cap) in w.slots.iter().filter(|(_, c)| !c.is_null()) {
        let link = |a: u64| invariants::prev(rig, a);
        let mut parent = link(at);
        while let Some(p) = parent
            && !is_parent(rig, p, at)
        {
            parent = link(p);
        }
        nodes.insert(
            at,
            Node {
                cap: identity(*cap),
                parent,
            },
        );
    }
    nodes
}

fn descends(f: &Forest, mut node: u64, from: u64) -> bool {
    while let Some(p) = f[&node].parent {
        if p == from {
            return true;
        }
        node = p;
    }
    false
}

/// Slots inside the objects of these capabilities.
fn inside(caps: impl Iterator<Item = Cap>) -> Vec<(u64, u64)> {
    caps.filter_map(|cap| match cap {
        Cap::Thread(t) => {
            let first = t.addr() + core::mem::offset_of!(Tcb, slots) as u64;
            Some((first, first + 32 * TCB_SLOTS as u64))
        }
        Cap::CNode { .. } | Cap::Zombie(_) | Cap::Timer(_) => {
            cap.region().map(|(addr, size)| (addr, addr + size))
        }
        _ => None,
    })
    .collect()
}

struct Game {
    rig: Rig,
    /// Slot of the untyped memory above all that the steps make.
    memory: u64,
}

impl Game {
    fn new(preempt_every: u64) -> Game {
        let mut rig = Rig::with_memory(1 << 20);
        let memory = rig.untyped;
        let most = rig.make_many(ObjectType::Untyped, 18, 1);
        rig.ok(ROOT, L::CNodeMove, &[FIRST, 64, most, 64], &[ROOT]);
        rig.untyped = FIRST;
        let mut next = FIRST + 1;
        let mut keep = |slot: u64| {
            rig.ok(ROOT, L::CNodeMove, &[next, 64, slot, 64], &[ROOT]);
            next += 1;
        };
        for priority in [255, 254, 255] {
            let th = rig.thread(priority);
            rig.set_receive_slot(th.t, FIRST + SLOTS - 1 - (priority & 1));
            for slot in [th.tcb, th.sc, th.reply] {
                keep(slot);
            }
        }
        keep(rig.make(ObjectType::Endpoint));
        keep(rig.make(ObjectType::Endpoint));
        keep(rig.make(ObjectType::Notification));
        keep(rig.make(ObjectType::SchedContext));
        keep(rig.make_many(ObjectType::CNode, 2, 1));
        keep(rig.make_many(ObjectType::CNode, 2, 1));
        let vspace = rig.make(ObjectType::VSpace);
        rig.ok(POOL, L::ASIDPoolAssign, &[], &[vspace]);
        for table in rig.page_tables(vspace, 0x4000_0000) {
            keep(table);
        }
        keep(vspace);
        for _ in 0..2 {
            keep(rig.make(ObjectType::Frame4K));
        }
        rig.m.preempt_every.set(preempt_every);
        Game { rig, memory }
    }

    fn addr(&self, slot: u64) -> u64 {
        std::ptr::from_ref(self.rig.slot(slot)) as u64
    }

    /// A slot of the window with such a capability; now and then any.
    fn pick(&self, n: u8, wanted: impl Fn(&Cap) -> bool) -> u64 {
        let found: Vec<u64> = (FIRST..FIRST + SLOTS)
            .filter(|&s| wanted(&self.rig.cap(s)))
            .collect();
        if n >= 245 || found.is_empty() {
            FIRST + u64::from(n) % SLOTS
        } else {
            found[n as usize % found.len()]
        }
    }

    /// A place for a capability: (CNode, index, depth, address of the slot), mostly in the window, else
    /// in a CNode that the window has.
    fn place(&self, n: u8, slot: u64) -> (u64, u64, u64, u64) {
        let cnode = self.pick(n, |c| matches!(c, Cap::CNode { .. }));
        match self.rig.cap(cnode) {
            Cap::CNode {
                addr,
                radix: 2,
                guard,
                guard_bits,
            } if n.is_multiple_of(4) && (guard_bits == 0 || guard_bits == 62) => {
                let i = u64::from(n / 4 % 4);
                let at = addr + 32 * i;
                if guard_bits == 0 {
                    (cnode, i, 2, at)
                } else {
                    (cnode, guard << 2 | i, 64, at)
                }
            }
            _ => (ROOT, slot, 64, self.addr(slot)),
        }
    }

    fn any(&self, n: u8) -> u64 {
        self.pick(n, |c| !c.is_null())
    }

    fn empty(&self, n: u8) -> u64 {
        self.pick(n, Cap::is_null)
    }

    fn tcb(&self, n: u8) -> u64 {
        self.pick(n, |c| matches!(c, Cap::Thread(_)))
    }

    fn ep(&self, n: u8) -> u64 {
        self.pick(n, |c| matches!(c, Cap::Endpoint { .. }))
    }

    fn ntfn(&self, n: u8) -> u64 {
        self.pick(n, |c| matches!(c, Cap::Notification { .. }))
    }

    fn context(&self, n: u8) -> u64 {
        self.pick(n, |c| matches!(c, Cap::SchedContext(_)))
    }

    fn reply(&self, n: u8) -> u64 {
        self.pick(n, |c| matches!(c, Cap::Reply { .. }))
    }

    fn frame(&self, n: u8) -> u64 {
        self.pick(n, |c| matches!(c, Cap::Frame(_)))
    }

    fn vspace(&self, n: u8) -> u64 {
        self.pick(n, |c| matches!(c, Cap::VSpace { .. }))
    }

    /// A thread other than the root task that can run now.
    fn actor(&self, n: u8) -> Option<Ref<Tcb>> {
        let threads: Vec<_> = explore(&self.rig)
            .threads
            .into_iter()
            .filter_map(Ref::new)
            .filter(|&t| t != self.rig.root && self.rig.can_run(t))
            .collect();
        threads.get(n as usize % threads.len().max(1)).copied()
    }

    /// An invocation by the root task; `model` says what it does to the forest if it succeeds.
    fn invoke(
        &self,
        cptr: u64,
        label: L,
        words: &[u64],
        caps: &[u64],
        model: impl FnOnce(&Forest, &Forest),
    ) {
        let rig = &self.rig;
        if matches!(
            rig.cap(cptr),
            Cap::Endpoint { .. } | Cap::Notification { .. } | Cap::Reply { .. }
        ) {
            // These take any message for a send, and the root task does not wait.
            return;
        }
        rig.run_as(rig.root);
        rig.nb_send(rig.root, EMPTY, &[]);
        rig.message(rig.root, label as u64, words, caps);
        let before = forest(rig);
        let memory = rig.note(rig.root);
        let preempted = rig.m.preemptions.get();
        rig.syscall(rig.root, syscall::CALL, cptr);
        invariants::check(rig);
        let after = forest(rig);
        match rig.answer(rig.root) {
            Ok(_) => model(&before, &after),
            Err(_) if rig.m.preemptions.get() == preempted => {
                rig.assert_unchanged(&memory, rig.root);
            }
            Err(_) => {}
        }
        let makes = matches!(label, L::UntypedRetype | L::ASIDControlMakePool);
        no_more_authority(&before, &after, makes);
    }

    /// A system call of another thread.
    fn act(&self, t: Ref<Tcb>, number: isize, cptr: u64) {
        let rig = &self.rig;
        rig.run_as(t);
        let before = forest(rig);
        rig.syscall(t, number, cptr);
        invariants::check(rig);
        let after = forest(rig);
        // At most one capability travelled in each half, as a copy.
        let halves = match number {
            syscall::REPLY_RECV | syscall::NB_SEND_RECV | syscall::NB_SEND_WAIT => 2,
            _ => 1,
        };
        let new: Vec<_> = after
            .iter()
            .filter(|(at, _)| !before.contains_key(at))
            .collect();
        assert!(new.len() <= halves, "{new:?}");
        for (at, node) in &before {
            assert_eq!(after.get(at), Some(node), "IPC changed slot {at:#x}");
        }
        no_more_authority(&before, &after, false);
    }

    fn play(&self, s: Step) {
        let rig = &self.rig;
        let Step { what, a, b, c, d } = s;
        match what {
            0..=4 => {
                let kinds = [
                    (ObjectType::Endpoint, 0),
                    (ObjectType::Notification, 0),
                    (ObjectType::Tcb, 0),
                    (ObjectType::CNode, 2),
                    (ObjectType::Reply, 0),
                    (ObjectType::SchedContext, 0),
                    (ObjectType::Frame4K, 0),
                    (ObjectType::PageTable, 0),
                    (ObjectType::VSpace, 0),
                    (ObjectType::Timer, 0),
                    (ObjectType::Untyped, 12),
                    (ObjectType::Untyped, 13),
                ];
                let (kind, size) = kinds[b as usize % kinds.len()];
                let from = self.pick(a, |c| matches!(c, Cap::Untyped(_)));
                let count = 1 + u64::from(d % 8 == 0);
                let dest = self.empty(c);
                let parent = self.addr(from);
                let args = [kind as u64, size, 0, 0, dest, count];
                self.invoke(from, L::UntypedRetype, &args, &[ROOT], |old, new| {
                    let mut expected = old.clone();
                    for i in 0..count {
                        let at = self.addr(dest + i);
                        assert_eq!(new[&at].parent, Some(parent));
                        expected.insert(at, new[&at]);
                    }
                    assert_eq!(&expected, new);
                });
            }
            5..=8 => self.copy(s),
            9 | 10 => {
                let (cnode, index, depth, to) = self.place(d, self.empty(b));
                let (from_cnode, src, from_depth, from) = self.place(c, self.any(a));
                let (label, args) = match what {
                    9 => (L::CNodeMove, vec![index, depth, src, from_depth]),
                    _ => {
                        let data = u64::from(c) << 6 | 62;
                        (L::CNodeMutate, vec![index, depth, src, from_depth, data])
                    }
                };
                self.invoke(cnode, label, &args, &[from_cnode], |old, new| {
                    moved(old, new, &[(from, to)], label == L::CNodeMutate);
                });
            }
            11 => {
                let (src, pivot) = (self.any(a), self.any(b));
                let dest = if c % 2 == 0 { src } else { self.empty(c) };
                let args = [dest, 64, 0, pivot, 64, 0, src, 64];
                self.invoke(ROOT, L::CNodeRotate, &args, &[ROOT, ROOT], |old, new| {
                    let at = |slot| self.addr(slot);
                    moved(
                        old,
                        new,
                        &[(at(src), at(pivot)), (at(pivot), at(dest))],
                        true,
                    );
                });
            }
            12..=14 => {
                let (cnode, index, depth, at) = self.place(b, self.any(a));
                self.invoke(cnode, L::CNodeDelete, &[index, depth], &[], |old, new| {
                    assert!(!new.contains_key(&at));
                    removed(old, new, |n| n == at);
                });
            }
            15 => {
                // The large untyped less often: little is left after it.
                let target = if a == 0 {
                    FIRST
                } else {
                    self.pick(b, |c| !c.is_null() && !big(c))
                };
                self.invoke(ROOT, L::CNodeRevoke, &[target, 64], &[], |old, new| {
                    let at = self.addr(target);
                    if old.contains_key(&at) {
                        for &n in new.keys() {
                            assert!(!descends(new, n, at), "{n:#x} outlived its revocation");
                        }
                        removed(old, new, |n| descends(old, n, at));
                    }
                });
            }
            16 => self.invoke_plain(ROOT, L::CNodeCancelBadgedSends, &[self.ep(a), 64], &[]),
            17 => self.invoke_plain(self.tcb(a), L::TCBSuspend, &[], &[]),
            18 | 19 => self.invoke_plain(self.tcb(a), L::TCBResume, &[], &[]),
            20 => self.invoke_plain(self.tcb(a), L::TCBBindNotification, &[], &[self.ntfn(b)]),
            21 => self.invoke_plain(self.tcb(a), L::TCBUnbindNotification, &[], &[]),
            22 => {
                let args = [u64::from(b % 4) + 252];
                self.invoke_plain(self.tcb(a), L::TCBSetPriority, &args, &[1]);
            }
            23 => {
                let object = if c % 2 == 0 {
                    self.tcb(b)
                } else {
                    self.ntfn(b)
                };
                self.invoke_plain(self.context(a), L::SchedContextBind, &[], &[object]);
            }
            24 => {
                let object = if c % 2 == 0 {
                    self.tcb(b)
                } else {
                    self.ntfn(b)
                };
                if d % 2 == 0 {
                    self.invoke_plain(self.context(a), L::SchedContextUnbind, &[], &[]);
                } else {
                    self.invoke_plain(self.context(a), L::SchedContextUnbindObject, &[], &[object]);
                }
            }
            25 => {
                let budget = 100 + 10 * u64::from(b);
                let args = [budget, budget + 20 * u64::from(c % 2 * d), 0, 7, 0];
                let label = L::SchedControlConfigureFlags;
                self.invoke_plain(rig.sched_control, label, &args, &[self.context(a)]);
            }
            26 => self.set_space(s),
            27 => {
                let frame = self.frame(b);
                let vaddr = if c % 4 == 0 { 0 } else { 0x7000_0000 };
                self.invoke_tcb(self.tcb(a), L::TCBSetIPCBuffer, &[vaddr], &[frame]);
            }
            28 => {
                let label = L::TCBSetSchedParams;
                let context = if c % 4 == 0 { EMPTY } else { self.context(b) };
                let handler = if c % 8 < 4 { self.ep(d) } else { EMPTY };
                let caps = [1, context, handler];
                self.invoke_tcb(self.tcb(a), label, &[255, 252 + u64::from(d % 4)], &caps);
            }
            29 => {
                let vspace = self.vspace(a);
                let args = [0x4000_0000 + (u64::from(b % 3) << 21), 0];
                let table = self.pick(c, |c| matches!(c, Cap::PageTable { .. }));
                if d % 4 == 0 {
                    self.invoke_plain(table, L::PageTableUnmap, &[], &[]);
                } else {
                    self.invoke_plain(table, L::PageTableMap, &args, &[vspace]);
                }
            }
            30 => {
                let args = [
                    0x4000_0000 + (u64::from(b % 2) << 21) + (u64::from(b % 5) << 12),
                    u64::from(c % 4),
                    0,
                ];
                if d % 4 == 0 {
                    self.invoke_plain(self.frame(a), L::PageUnmap, &[], &[]);
                } else {
                    self.invoke_plain(self.frame(a), L::PageMap, &args, &[self.vspace(d)]);
                }
            }
            31 => {
                let pool = if b % 2 == 0 {
                    POOL
                } else {
                    self.pick(c, |c| matches!(c, Cap::AsidPool { .. }))
                };
                self.invoke_plain(pool, L::ASIDPoolAssign, &[], &[self.vspace(a)]);
            }
            32 => {
                let memory = self.pick(a, |c| matches!(c, Cap::Untyped(u) if u.bits == 12));
                let control = init_cnode::ASID_CONTROL as u64;
                let args = [self.empty(b), 64];
                self.invoke(
                    control,
                    L::ASIDControlMakePool,
                    &args,
                    &[memory, ROOT],
                    |_, _| (),
                );
            }
            33 => {
                let timer = self.pick(a, |c| matches!(c, Cap::Timer(_)));
                if b % 2 == 0 {
                    let label = L::TimerSetNotification;
                    self.invoke_tcb(timer, label, &[], &[self.ntfn(c)]);
                } else {
                    let at = rig.m.now.get() + 100 * u64::from(d);
                    self.invoke_plain(timer, L::TimerSet, &[at], &[]);
                }
            }
            34 => {
                if let Some(t) = self.actor(a) {
                    rig.run_as(t);
                    let k = rig.k();
                    k.fault(FaultLabel::VMFault, &[1, 2, 0, 3]);
                    k.finish();
                    invariants::check(rig);
                }
            }
            35 => {
                rig.advance_us(u64::from(a) * 20);
                invariants::check(rig);
            }
            36 => {
                rig.run_as(rig.root);
                rig.nb_send(rig.root, self.ntfn(a), &[]);
                invariants::check(rig);
            }
            _ => self.ipc(s),
        }
        // The root task can always go on: nothing takes its time.
        assert!(rig.can_run(rig.root));
    }

    /// An invocation that leaves the forest as it is.
    fn invoke_plain(&self, cptr: u64, label: L, words: &[u64], caps: &[u64]) {
        self.invoke(cptr, label, words, caps, |old, new| {
            assert_eq!(old, new, "{label:?}")
        });
    }

    /// An invocation that may change capabilities inside a thread or timer.
    fn invoke_tcb(&self, cptr: u64, label: L, words: &[u64], caps: &[u64]) {
        let own = inside([self.rig.cap(cptr)].into_iter());
        self.invoke(cptr, label, words, caps, |old, new| {
            // What is in its slots may have been the last of its kind.
            let mine = |n: u64| own.iter().any(|(from, to)| n >= *from && n < *to);
            let kept: Forest = new
                .iter()
                .filter(|(n, _)| !mine(**n))
                .map(|(n, v)| (*n, *v))
                .collect();
            removed(old, &kept, mine);
        });
    }

    fn copy(&self, s: Step) {
        let src = self.any(s.a);
        let (cnode, index, depth, to) = self.place(s.d, self.empty(s.b));
        let mask = CapRights(u64::from(s.c % 16));
        let badge = u64::from(s.d % 4);
        let label = if s.what < 7 {
            L::CNodeCopy
        } else {
            L::CNodeMint
        };
        let data = match self.rig.cap(src) {
            Cap::CNode { .. } => badge << 6 | 62,
            _ => badge,
        };
        let args = [index, depth, src, 64, mask.0, data];
        self.invoke(cnode, label, &args, &[ROOT], |old, new| {
            let from = self.addr(src);
            let (source, copy) = (old[&from], new[&to]);
            assert!(source.cap.same_object(&copy.cap) || source.cap == copy.cap);
            let allowed = rights(&source.cap).intersection(mask);
            assert_eq!(rights(&copy.cap), allowed);
            match source.cap.badge() {
                Some(0) if label == L::CNodeMint => assert_eq!(copy.cap.badge(), Some(badge)),
                other => assert_eq!(copy.cap.badge(), other),
            }
            // Copies of an original hang below it, copies of a copy beside it.
            let below = copy.parent == Some(from);
            assert!(below || copy.parent == source.parent);
            if matches!(source.cap, Cap::Untyped(_)) {
                assert!(below);
            }
            let mut expected = old.clone();
            expected.insert(to, copy);
            assert_eq!(&expected, new);
        });
    }

    fn set_space(&self, s: Step) {
        let handler = if s.b.is_multiple_of(2) {
            EMPTY
        } else {
            self.ep(s.b)
        };
        // Mostly the root task's CSpace, so that the thread can do something.
        let cspace = match s.c % 8 {
            0 => self.pick(s.c, |c| matches!(c, Cap::CNode { .. })),
            _ => ROOT,
        };
        let vspace = if s.d.is_multiple_of(2) {
            VSPACE
        } else {
            self.vspace(s.d)
        };
        let args = [if cspace == ROOT { 0 } else { 62 }, 0];
        self.invoke_tcb(
            self.tcb(s.a),
            L::TCBSetSpace,
            &args,
            &[handler, cspace, vspace],
        );
    }

    fn ipc(&self, s: Step) {
        let rig = &self.rig;
        let Some(t) = self.actor(s.a) else {
            return;
        };
        let target = match s.d % 4 {
            0 => self.ntfn(s.b),
            _ => self.ep(s.b),
        };
        let has_buffer = rig.tcb(t).ipc_buffer.get() != 0;
        let caps: Vec<u64> = match s.d % 3 {
            0 if has_buffer => vec![self.any(s.c)],
            1 if has_buffer => vec![self.ep(s.c), self.any(s.d)],
            _ => vec![],
        };
        rig.message(t, 0, &[1, 2, 3], &caps);
        if has_buffer {
            let dest = self.empty(s.c);
            rig.set_buffer_word(t, IpcBufferLayout::RECEIVE_CNODE, ROOT);
            rig.set_buffer_word(t, IpcBufferLayout::RECEIVE_INDEX, dest);
            rig.set_buffer_word(t, IpcBufferLayout::RECEIVE_DEPTH, 64);
        }
        rig.set_gpr(t, 14, self.reply(s.c));
        rig.set_gpr(t, 15, self.ep(s.d));
        let (number, target) = match s.what {
            37 => (syscall::SEND, target),
            38 => (syscall::CALL, self.ep(s.b)),
            39 => (syscall::RECV, target),
            40 => (syscall::REPLY_RECV, self.ep(s.b)),
            41 => (syscall::NB_SEND_RECV, self.ep(s.b)),
            42 => match s.d % 4 {
                0 => (syscall::NB_SEND, target),
                1 => (syscall::NB_RECV, target),
                2 => (syscall::NB_WAIT, target),
                _ => (syscall::NB_SEND_WAIT, self.ntfn(s.b)),
            },
            43 => (syscall::SEND, self.reply(s.b)),
            44 => (syscall::WAIT, target),
            _ => (syscall::YIELD, 0),
        };
        self.act(t, number, target);
    }
}

fn big(cap: &Cap) -> bool {
    matches!(cap, Cap::Untyped(u) if u.bits > 13)
}

/// Capabilities changed places and nothing else.
fn moved(old: &Forest, new: &Forest, moves: &[(u64, u64)], data: bool) {
    let place = |n: u64| {
        moves
            .iter()
            .find(|(from, _)| *from == n)
            .map_or(n, |(_, to)| *to)
    };
    assert_eq!(old.len(), new.len());
    for (&at, node) in old {
        let now = new[&place(at)];
        assert_eq!(now.parent, node.parent.map(place));
        match (node.cap, now.cap) {
            // The guard may be new.
            (
                Cap::CNode { addr, radix, .. },
                Cap::CNode {
                    addr: a, radix: r, ..
                },
            ) if data => {
                assert_eq!((addr, radix), (a, r));
            }
            (before, after) => assert_eq!(before, after),
        }
    }
}

/// Exactly the capabilities that `gone` names went, and those in containers that died with them;
/// what hung below one of them hangs below what was above it.
fn removed(old: &Forest, new: &Forest, gone: impl Fn(u64) -> bool) {
    let died = inside(
        old.values()
            .map(|n| n.cap)
            .filter(|cap| !new.values().any(|n| n.cap.same_object(cap))),
    );
    let zombies = inside(
        new.values()
            .map(|n| n.cap)
            .filter(|c| matches!(c, Cap::Zombie(_))),
    );
    let contained = |n: u64| {
        died.iter()
            .chain(&zombies)
            .any(|(from, to)| n >= *from && n < *to)
    };
    for (&at, node) in old {
        let left = new.get(&at);
        if gone(at) {
            // A zombie may have taken the place inside of a container that dies.
            let zombie = left.is_some_and(|n| matches!(n.cap, Cap::Zombie(_)));
            assert!(
                left.is_none() || zombie && contained(at),
                "{at:#x} was not removed"
            );
            continue;
        }
        let Some(left) = left else {
            assert!(contained(at), "{at:#x} {:?} was removed", node.cap);
            continue;
        };
        if left.cap != node.cap {
            assert!(
                contained(at),
                "{at:#x} changed from {:?} to {:?}",
                node.cap,
                left.cap
            );
            continue;
        }
        let mut parent = node.parent;
        while let Some(p) = parent
            && new.get(&p).is_none_or(|n| n.cap != old[&p].cap)
        {
            parent = old[&p].parent;
        }
        assert_eq!(left.parent, parent, "{at:#x} hangs elsewhere");
    }
    let fresh: BTreeSet<_> = new.keys().filter(|n| !old.contains_key(n)).collect();
    assert!(fresh.iter().all(|n| contained(**n)), "{fresh:?} appeared");
}

/// Whatever is there now to an object that was there before gives no more than something did before.
fn no_more_authority(old: &Forest, new: &Forest, makes: bool) {
    for (at, node) in new {
        if old.get(at).is_some_and(|n| n == node) || matches!(node.cap, Cap::Zombie(_)) {
            continue;
        }
        let source = old.values().any(|n| {
            (n.cap.same_object(&node.cap) || n.cap == node.cap)
                && rights(&n.cap).contains(rights(&node.cap))
                && (n.cap.badge() == node.cap.badge() || n.cap.badge() == Some(0))
        });
        let known = old.values().any(|n| n.cap.same_object(&node.cap));
        assert!(
            source || makes && !known,
            "{:?} came from nowhere",
            node.cap
        );
    }
}

fn wanted_cases() -> u32 {
    std::env::var("KERNEL_MODEL_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(30)
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 600,
        ..cases(wanted_cases())
    })]

    #[test]
    fn random_calls_keep_to_the_model(
        preempt in prop_oneof![Just(0u64), 1u64..6],
        steps in proptest::collection::vec(step(), 20..100),
    ) {
        let game = Game::new(preempt);
        for s in steps {
            game.play(s);
        }
        // Everything comes back.
        let rig = &game.rig;
        rig.run_as(rig.root);
        rig.revoke(game.memory);
        invariants::check(rig);
        let memory = rig.cap(game.memory);
        let left = explore(rig).slots.values().filter(|c| memory.same_region(c)).count();
        prop_assert_eq!(left, 1);
    }
}
