// SPDX-License-Identifier: BSD-2-Clause
//! Model check of what two instances do to one vCPU at the same time (S0.19, S0.13, S0.15, and the
//! check-then-act gap of S1). Run with `RUSTFLAGS="--cfg loom" cargo test --release --test loom`.
#![allow(unexpected_cfgs)]
#![cfg(loom)]

use partita_papr::hcall::number::H_REGISTER_VPA;
use partita_papr::{Gfn, GuestReal};
use partita_vpa::*;

const VPA: u64 = 0x3000;
const DTL: u64 = 0x5000;

/// The views of one instance; a guest page is as long as the area asks.
#[derive(Default)]
struct Memory {
    mapped: Vec<(View, Gfn)>,
    area_unmaps: usize,
}

impl Memory {
    fn check(&self, view: View) {
        assert!(
            self.mapped.iter().any(|(v, _)| *v == view),
            "{view:?} is used but not mapped"
        );
    }
}

impl GuestMemory for Memory {
    fn in_slot(&self, _: Gfn) -> bool {
        true
    }
    fn map(&mut self, view: View, page: Gfn) -> Result<(), MapError> {
        assert!(self.mapped.iter().all(|(v, _)| *v != view));
        self.mapped.push((view, page));
        Ok(())
    }
    fn unmap(&mut self, view: View) {
        self.area_unmaps += usize::from(view != View::Scratch);
        self.mapped.retain(|(v, _)| *v != view);
    }
    fn read_u8(&self, view: View, _: u64) -> u8 {
        self.check(view);
        0xff
    }
    fn read_u16(&self, view: View, _: u64) -> u16 {
        self.check(view);
        640
    }
    fn read_u32(&self, view: View, _: u64) -> u32 {
        self.check(view);
        480
    }
    fn read_u64(&self, view: View, _: u64) -> u64 {
        self.check(view);
        0
    }
    fn write_u8(&mut self, view: View, _: u64, _: u8) {
        self.check(view);
    }
    fn write_u32(&mut self, view: View, _: u64, _: u32) {
        self.check(view);
    }
    fn write_u64(&mut self, view: View, _: u64, _: u64) {
        self.check(view);
    }
    fn page_written(&mut self, _: Gfn) {}
}

/// The vCPU is in the guest whenever somebody else asks.
#[derive(Default)]
struct Inside {
    bound: Option<GuestReal>,
}

impl Kernel for Inside {
    fn request_entry(&mut self, _: VcpuId, _: bool) -> EntryState {
        EntryState::InGuestOrEntering
    }
    fn bind_dispatch_counter(&mut self, _: VcpuId, word: GuestReal) -> Result<(), MapError> {
        self.bound = Some(word);
        Ok(())
    }
    fn unbind_dispatch_counter(&mut self, _: VcpuId) {
        self.bound = None;
    }
}

type TestServer = Server<'static, Memory, Inside>;

const ENTRY: Entry = Entry {
    timebase: 1,
    pc: 2,
    msr: 3,
    stolen: 4,
    processor: 0,
    dispatch: Some(Dispatch::Preempted),
};

/// Two vCPUs; instance 0 serves vCPU 0, instance 1 vCPU 1.
fn pair() -> [TestServer; 2] {
    fn two<T: Default>() -> &'static [T] {
        Box::leak(Box::new([T::default(), T::default()]))
    }
    let shared = two();
    [0, 1].map(|n| {
        Server::new(
            shared,
            two(),
            Instance(n),
            Memory::default(),
            Inside::default(),
        )
    })
}

fn call(server: &mut TestServer, caller: u64, sub: u64, gpa: u64) -> i64 {
    let caller = server.vcpu(caller).unwrap();
    server.hypercall(caller, H_REGISTER_VPA, &[sub << 45, 1, gpa, 0, 0, 0, 0, 0])
}

fn check(body: fn()) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(body);
}

/// S0.19: whatever vCPU 0 does about vCPU 1's areas, only vCPU 1's instance touches its views.
#[test]
fn s0_19_deregistering_under_a_running_vcpu() {
    check(|| {
        let [mut a, mut b] = pair();
        let target = b.vcpu(1).unwrap();
        b.entry(target, &ENTRY);
        assert_eq!(call(&mut b, 1, 1, VPA), 0);
        b.entry(target, &ENTRY);
        assert!(b.kernel_mut().bound.is_some());
        let running = loom::thread::spawn(move || {
            b.entry(target, &ENTRY);
            b
        });
        assert_eq!(call(&mut a, 0, 5, 0), 0);
        assert_eq!(a.memory_mut().area_unmaps, 0);
        let mut b = running.join().unwrap();
        b.entry(target, &ENTRY);
        assert!(b.kernel_mut().bound.is_none());
        assert_eq!(b.unregister_all(target), Progress::Done);
        assert!(b.memory_mut().mapped.is_empty());
    });
}

/// S0.13, S0.15: a registration made while the target applies an older one is not lost.
#[test]
fn s0_15_registering_while_the_target_applies() {
    check(|| {
        let [mut a, mut b] = pair();
        let target = b.vcpu(1).unwrap();
        assert_eq!(call(&mut a, 0, 1, VPA), 0);
        let running = loom::thread::spawn(move || {
            b.entry(target, &ENTRY);
            b
        });
        assert_eq!(call(&mut a, 0, 2, DTL), 0);
        let mut b = running.join().unwrap();
        b.entry(target, &ENTRY);
        let mut pages: Vec<u64> = b.memory_mut().mapped.iter().map(|(_, p)| p.get()).collect();
        pages.sort();
        assert_eq!(pages, [VPA >> 12, DTL >> 12]);
    });
}

/// S1, gap: a DTL never outlives its VPA, also when the operator removes the VPA while the guest
/// registers the log.
#[test]
fn s1_7_removing_the_vpa_against_registering_a_log() {
    check(|| {
        let [mut a, mut b] = pair();
        assert_eq!(call(&mut b, 1, 1, VPA), 0);
        let guest = loom::thread::spawn(move || {
            let status = call(&mut b, 1, 2, DTL);
            (b, status)
        });
        let removed = a.set(1, Register::VpaAddr as u64, [0, 0]);
        let (b, status) = guest.join().unwrap();
        assert_ne!(removed.is_ok(), status == 0, "exactly one of them succeeds");
        let vpa = b.get(1, Register::VpaAddr as u64).unwrap()[0];
        let dtl = b.get(1, Register::VpaDtl as u64).unwrap()[0];
        assert!(dtl == 0 || vpa != 0);
    });
}
