// SPDX-License-Identifier: BSD-2-Clause
//! Random calls of a hostile guest and a busy operator, against what must always hold.

use super::world::*;
use crate::*;
use partita_instance::atomic::Ordering;
use partita_papr::hcall::status::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Call {
        instance: u32,
        caller: u32,
        flags: u64,
        vcpu: u64,
        gpa: u64,
    },
    Set {
        instance: u32,
        vcpu: u64,
        id: u64,
        value: [u64; 2],
    },
    Entry {
        instance: u32,
        vcpu: u32,
        entry: Entry,
    },
    Release {
        first: u64,
        count: u64,
    },
    Inside {
        vcpu: u32,
        inside: bool,
    },
    Guest {
        gpa: u64,
        value: u64,
    },
    Slot {
        page: u64,
        valid: bool,
    },
    Frame {
        page: u64,
        there: bool,
    },
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0..PAGES * 32).prop_map(|line| line * 128),
        1 => any::<u64>(),
        1 => Just(0),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (any::<[u64; 4]>(), any::<u16>(), 0..3u8).prop_map(|(words, processor, dispatch)| Entry {
        timebase: words[0],
        pc: words[1],
        msr: words[2],
        stolen: words[3],
        processor,
        dispatch: match dispatch {
            0 => None,
            1 => Some(Dispatch::Ceded),
            _ => Some(Dispatch::Preempted),
        },
    })
}

fn step() -> impl Strategy<Value = Step> {
    let vcpu = || prop_oneof![9 => 0..VCPUS as u64, 1 => any::<u64>()];
    let id = prop_oneof![
        Just(Register::VpaAddr as u64),
        Just(Register::VpaSlb as u64),
        Just(Register::VpaDtl as u64),
    ];
    let flags = prop_oneof![9 => (0..8u64).prop_map(|sub| sub << 45), 1 => any::<u64>()];
    let len = prop_oneof![0..5000u64, any::<u64>()];
    prop_oneof![
        6 => (0..2u32, 0..VCPUS as u32, flags, vcpu(), address())
            .prop_map(|(instance, caller, flags, vcpu, gpa)| {
                Step::Call { instance, caller, flags, vcpu, gpa }
            }),
        4 => (0..2u32, vcpu(), id, address(), len)
            .prop_map(|(instance, vcpu, id, gpa, len)| {
                Step::Set { instance, vcpu, id, value: [gpa, len] }
            }),
        5 => (0..2u32, 0..VCPUS as u32, entry())
            .prop_map(|(instance, vcpu, entry)| Step::Entry { instance, vcpu, entry }),
        1 => (0..PAGES, 0..4u64).prop_map(|(first, count)| Step::Release { first, count }),
        2 => (0..VCPUS as u32, any::<bool>())
            .prop_map(|(vcpu, inside)| Step::Inside { vcpu, inside }),
        4 => (0..PAGES * 512, any::<u64>())
            .prop_map(|(word, value)| Step::Guest { gpa: word * 8, value }),
        4 => (0..PAGES * 32, 640..1025u64)
            .prop_map(|(line, len)| Step::Guest { gpa: line * 128, value: len << 16 }),
        1 => (0..PAGES, any::<bool>()).prop_map(|(page, valid)| Step::Slot { page, valid }),
        1 => (0..PAGES, any::<bool>()).prop_map(|(page, there)| Step::Frame { page, there }),
    ]
}

fn check(machine: &Machine) {
    let world = machine.world.borrow();
    for (number, areas) in machine.shared.iter().enumerate() {
        assert_eq!(areas.lock.load(Ordering::Relaxed), 0);
        assert_eq!(areas.applying.load(Ordering::Relaxed), 0);
        let wanted = |area| areas.area(area).wanted.load(Ordering::Relaxed);
        let pinned = |area| areas.area(area).pinned.load(Ordering::Relaxed);
        for area in [Area::Dtl, Area::SlbShadow] {
            assert!(wanted(area) == 0 || wanted(Area::Vpa) != 0, "needs a VPA");
        }
        let home = areas.home.load(Ordering::Relaxed);
        for area in Area::ALL {
            let (gpa, len) = (
                pinned(area),
                areas.area(area).pinned_len.load(Ordering::Relaxed),
            );
            if gpa != 0 {
                assert!(gpa % 4096 + len <= 4096);
                let key = (home as u32 - 1, number * 3 + area as usize);
                assert_eq!(
                    world.mapped.get(&key),
                    Some(&(gpa / 4096)),
                    "pinned means mapped"
                );
            }
            let pending = areas.pending.load(Ordering::Relaxed) & area.bit() != 0;
            assert!(pending || wanted(area) == pinned(area));
            assert!(
                !pending || world.latched[number],
                "what is pending has been latched"
            );
        }
        let word = (pinned(Area::Vpa) != 0).then(|| pinned(Area::Vpa) + 0x100);
        assert_eq!(world.bound[number], word);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn nothing_panics_and_the_state_stays_whole(steps in prop::collection::vec(step(), 1..60)) {
        let machine = Machine::new();
        let mut servers = [machine.instance(0), machine.instance(1)];
        for step in steps {
            match step {
                Step::Call { instance, caller, flags, vcpu, gpa } => {
                    let args = [flags, vcpu, gpa, 1, 2, 3, 4, 5];
                    let caller = VcpuId(caller);
                    // A vCPU in a call is not in the guest.
                    machine.set_in_guest(caller, false);
                    let server = &mut servers[instance as usize];
                    let status = server.hypercall(caller, 0xdc, &args);
                    prop_assert!([H_SUCCESS, H_PARAMETER, H_RESOURCE].contains(&status));
                }
                Step::Set { instance, vcpu, id, value } => {
                    if servers[instance as usize].set(vcpu, id, value).is_ok() && value[0] != 0 {
                        prop_assert_eq!(servers[0].get(vcpu, id).unwrap()[0], value[0]);
                    }
                }
                Step::Entry { instance, vcpu, entry } => {
                    machine.set_in_guest(VcpuId(vcpu), false);
                    servers[instance as usize].entry(VcpuId(vcpu), &entry);
                }
                Step::Release { first, count } => {
                    let pages = Pages { first, count };
                    let all = (0..2).all(|i| servers[i].release(pages, 0) == Progress::Done);
                    if all {
                        let world = machine.world.borrow();
                        prop_assert!(!world.pins().iter().any(|p| (first..first + count).contains(p)));
                    }
                }
                Step::Inside { vcpu, inside } => machine.set_in_guest(VcpuId(vcpu), inside),
                Step::Guest { gpa, value } => {
                    // Not the kernel's words.
                    if !machine.world.borrow().bound.iter().flatten().any(|w| *w / 8 == gpa / 8) {
                        machine.write(gpa, 8, value);
                    }
                }
                Step::Slot { page, valid } => {
                    let mut world = machine.world.borrow_mut();
                    if valid { world.invalid.remove(&page); } else { world.invalid.insert(page); }
                }
                Step::Frame { page, there } => {
                    let mut world = machine.world.borrow_mut();
                    if there { world.frameless.remove(&page); } else { world.frameless.insert(page); }
                }
            }
            check(&machine);
        }
    }
}
