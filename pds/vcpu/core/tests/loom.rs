// SPDX-License-Identifier: BSD-2-Clause
//! Model check of two instances that serve two vCPUs at the same time: no wake-up is lost between
//! H_CEDE and H_PROD, the interrupt line never disagrees with what is presented, and a vCPU is started
//! once and never while it is on its way out. Run with
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom`.
#![allow(unexpected_cfgs)]
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use partita_papr::Gfn;
use partita_papr::hcall::number::*;
use partita_vcpu::*;

/// What the kernel keeps of the two vCPUs.
#[derive(Default)]
struct Kernel {
    kicked: [AtomicBool; 2],
    resumes: [AtomicU64; 2],
    line: [AtomicBool; 2],
    /// The kernel has them out.
    out: [AtomicBool; 2],
}

#[derive(Clone)]
struct Fake(Arc<Kernel>);

impl Machine for Fake {
    fn read_register(&mut self, _: VcpuId, _: Register) -> Result<u64, Refused> {
        Ok(0)
    }
    fn write_register(&mut self, _: VcpuId, _: Register, _: u64) -> Result<(), Refused> {
        Ok(())
    }
    fn write_start_state(&mut self, _: VcpuId, _: StartState) -> Result<(), Refused> {
        Ok(())
    }
    fn pause(&mut self, vcpu: VcpuId) -> Pause {
        match self.0.out[vcpu.number() as usize].load(Ordering::Acquire) {
            true => Pause::Done,
            false => Pause::NotYet,
        }
    }
    fn resume(&mut self, vcpu: VcpuId) {
        self.0.resumes[vcpu.number() as usize].fetch_add(1, Ordering::AcqRel);
    }
    fn kick(&mut self, vcpu: VcpuId) {
        self.0.kicked[vcpu.number() as usize].fetch_or(true, Ordering::AcqRel);
    }
    fn set_external_line(&mut self, vcpu: VcpuId, raised: bool) {
        self.0.line[vcpu.number() as usize].store(raised, Ordering::Release);
    }
    fn inject(&mut self, _: VcpuId, _: Interrupt) -> Result<(), Refused> {
        Ok(())
    }
    fn set_partition_mode(&mut self, _: PartitionMode) -> Result<(), Refused> {
        Ok(())
    }
    fn timebase(&mut self) -> u64 {
        0
    }
    fn yield_count(&mut self, _: VcpuId) -> Option<u32> {
        None
    }
    fn random(&mut self) -> Option<u64> {
        None
    }
    fn real_time(&mut self) -> Option<RealTime> {
        None
    }
    fn power(&mut self, _: PowerEvent) {}
    fn put_chars(&mut self, _: usize, _: &[u8]) -> bool {
        true
    }
}

/// Arguments of an RTAS call at guest address 0, and the first word of its answer.
struct Block {
    words: Vec<u32>,
    status: Option<u32>,
}

/// start-cpu of vCPU 1.
const START: [u32; 6] = [0x2006, 3, 1, 1, 0x60, 1];
/// stop-self.
const STOP: [u32; 3] = [0x2007, 0, 0];
/// Answers of start-cpu.
const OK: u32 = 0;
const HARDWARE_ERROR: u32 = -1i32 as u32;
const BUSY: u32 = -2i32 as u32;

impl GuestMemory for Block {
    fn read(&mut self, _: Gfn, offset: usize, buffer: &mut [u8]) -> Result<(), NotBacked> {
        let bytes = self.words.iter().flat_map(|word| word.to_be_bytes());
        let block: Vec<u8> = bytes.chain([0; 64]).collect();
        buffer.copy_from_slice(&block[offset..offset + buffer.len()]);
        Ok(())
    }
    fn write(&mut self, _: Gfn, _: usize, bytes: &[u8]) -> Result<(), NotBacked> {
        let first = bytes.first_chunk().map(|word| u32::from_be_bytes(*word));
        self.status = self.status.or(first);
        Ok(())
    }
}

type TestPlatform = Platform<'static, Fake, Block>;

/// An RTAS call of `caller`; the reply and its status.
fn rtas(platform: &mut TestPlatform, caller: u64, words: &[u32]) -> (ReplyAction, Option<u32>) {
    *platform.memory_mut() = Block {
        words: words.into(),
        status: None,
    };
    let reply = call(platform, caller, H_RTAS, [0, 0]);
    (reply, platform.memory_mut().status)
}

/// Two vCPUs that run, each with an instance.
fn pair() -> ([TestPlatform; 2], Arc<Kernel>) {
    fn many<T: Default>(count: usize) -> &'static [T] {
        Box::leak((0..count).map(|_| T::default()).collect())
    }
    let kernel = Arc::new(Kernel::default());
    let vm = &many::<VmState>(1)[0];
    let shared = Shared {
        vm,
        vcpus: many(2),
        sources: many(1),
        input: &[],
    };
    let config = Config {
        memory_bytes: 0,
        first_source: 0x1100,
        terminals: &[],
        characteristics: [0; 2],
        facilities: 0,
    };
    let mut platforms = [0, 1].map(|n| {
        let block = Block {
            words: Vec::new(),
            status: None,
        };
        Platform::new(shared, config, Instance(n), Fake(kernel.clone()), block)
    });
    platforms[0].reset(|_| false);
    kernel.out[1].store(true, Ordering::Release);
    let started = rtas(&mut platforms[0], 0, &START);
    assert_eq!(started, (ReplyAction::RESUME, Some(OK)));
    assert_eq!(kernel.resumes[1].load(Ordering::Acquire), 1);
    kernel.out[1].store(false, Ordering::Release);
    (platforms, kernel)
}

fn call(platform: &mut TestPlatform, caller: u64, number: u64, args: [u64; 2]) -> ReplyAction {
    let caller = platform.vcpu(caller).unwrap();
    platform.hypercall(caller, number, &[args[0], args[1], 0, 0, 0, 0, 0, 0])
}

fn check(body: fn()) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(body);
}

/// A prod on one core, a cede on another: the vCPU either sleeps with a kick latched, or the prod
/// is kept for its next cede. It never sleeps with the prod gone.
#[test]
fn h_cede_against_h_prod_loses_no_wake_up() {
    check(|| {
        let ([mut here, mut there], kernel) = pair();
        let prodder = loom::thread::spawn(move || {
            call(&mut there, 1, H_PROD, [0, 0]);
        });
        assert_eq!(call(&mut here, 0, H_CEDE, [0, 0]), ReplyAction::Idle);
        prodder.join().unwrap();
        // The kernel wakes it from this sleep.
        assert!(kernel.kicked[0].load(Ordering::Acquire), "sleeps for ever");
    });
}

/// Two prods against two cedes: the second cede may sleep, but only once woken from the first.
#[test]
fn two_prodders_wake_at_least_once() {
    check(|| {
        let ([mut here, mut there], kernel) = pair();
        let prodder = loom::thread::spawn(move || {
            call(&mut there, 1, H_PROD, [0, 0]);
            call(&mut there, 1, H_PROD, [0, 0]);
        });
        call(&mut here, 0, H_CEDE, [0, 0]);
        let woken = kernel.kicked[0].swap(false, Ordering::AcqRel);
        prodder.join().unwrap();
        if !woken {
            assert!(kernel.kicked[0].load(Ordering::Acquire), "sleeps for ever");
        }
    });
}

/// An IPI is sent while the target takes an earlier one: the line is up at the end exactly if
/// something is presented, and the second request is not lost.
#[test]
fn the_line_follows_what_is_presented() {
    check(|| {
        let ([mut here, mut there], kernel) = pair();
        call(&mut here, 0, H_CPPR, [0xff, 0]);
        call(&mut here, 0, H_IPI, [0, 5]);
        let sender = loom::thread::spawn(move || {
            call(&mut there, 1, H_IPI, [0, 4]);
        });
        let accepted = call(&mut here, 0, H_XIRR, [0, 0]);
        assert_eq!(accepted, ReplyAction::words(Words::one(0xff00_0002)));
        sender.join().unwrap();
        let icp = here.icp(here.vcpu(0).unwrap()).unwrap();
        assert_eq!(kernel.line[0].load(Ordering::Acquire), icp.xisr != 0);
        // Accepted at 4, or at 5 and presented again because 4 is better.
        assert_eq!(icp.mfrr, 4);
        assert!(icp.cppr == 4 && icp.xisr == 0 || icp.cppr == 5 && icp.xisr == 2);
    });
}

/// H_JOIN against H_PROD: a joined vCPU is resumed, a prod before it is kept, and the two never
/// sleep both.
#[test]
fn h_join_against_h_prod() {
    check(|| {
        let ([mut here, mut there], kernel) = pair();
        let other = loom::thread::spawn(move || {
            call(&mut there, 1, H_PROD, [0, 0]);
            call(&mut there, 1, H_JOIN, [0, 0])
        });
        let reply = call(&mut here, 0, H_JOIN, [0, 0]);
        let other = other.join().unwrap();
        let resumed = kernel.resumes[0].load(Ordering::Acquire);
        assert_eq!(reply == ReplyAction::Stop, resumed == 1, "{reply:?}");
        let asleep = reply == ReplyAction::Stop && resumed == 0;
        assert!(!(asleep && other == ReplyAction::Stop));
    });
}

/// stop-self on one core, start-cpu of the same vCPU on another: it is started only once the kernel
/// has it out, and then runs; before that the caller hears that it runs or is about to stop.
#[test]
fn start_cpu_against_stop_self() {
    check(|| {
        let ([mut here, mut there], kernel) = pair();
        let kernel_there = kernel.clone();
        let stopper = loom::thread::spawn(move || {
            let (reply, _) = rtas(&mut there, 1, &STOP);
            assert_eq!(reply, ReplyAction::Stop);
            // The kernel has the answer.
            kernel_there.out[1].store(true, Ordering::Release);
        });
        let (_, status) = rtas(&mut here, 0, &START);
        stopper.join().unwrap();
        let resumes = kernel.resumes[1].load(Ordering::Acquire);
        match status {
            Some(OK) => assert_eq!(resumes, 2, "it is started again"),
            Some(HARDWARE_ERROR | BUSY) => {
                assert_eq!(resumes, 1);
                let (_, again) = rtas(&mut here, 0, &START);
                assert_eq!(again, Some(OK), "it is out by now");
            }
            other => panic!("status {other:?}"),
        }
    });
}

/// Two cores start the same stopped vCPU: one succeeds, and it is resumed once.
#[test]
fn two_instances_start_one_vcpu_once() {
    check(|| {
        let ([mut here, mut there], kernel) = pair();
        rtas(&mut there, 1, &STOP);
        kernel.out[1].store(true, Ordering::Release);
        let other = loom::thread::spawn(move || rtas(&mut there, 0, &START).1);
        let mine = rtas(&mut here, 0, &START).1;
        let statuses = [mine, other.join().unwrap()];
        let started = statuses.iter().filter(|s| **s == Some(OK)).count();
        assert_eq!(started, 1, "{statuses:?}");
        assert_eq!(kernel.resumes[1].load(Ordering::Acquire), 2);
    });
}
