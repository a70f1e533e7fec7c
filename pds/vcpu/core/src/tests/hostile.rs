// SPDX-License-Identifier: BSD-2-Clause
//! A guest that passes anything anywhere.

use super::world::*;
use super::xics::check;
use crate::*;
use partita_instance::atomic::Ordering;
use partita_papr::hcall::number::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Call {
        caller: u32,
        number: u64,
        args: [u64; 8],
    },
    Exit {
        vcpu: u32,
        exit: Exit,
    },
    Block {
        words: [u32; 12],
    },
    Input {
        terminal: usize,
        byte: u8,
    },
    Level {
        source: u32,
        up: bool,
    },
    Words {
        vcpu: u32,
        source: u32,
        icp: u64,
        word: u64,
    },
    Operator {
        vcpu: u32,
        pause: bool,
    },
    Out {
        vcpu: u32,
        out: bool,
    },
    Memory {
        page: u64,
        there: bool,
    },
}

fn number() -> impl Strategy<Value = u64> {
    let known = prop::sample::select(vec![
        H_CEDE,
        H_PROD,
        H_CONFER,
        H_JOIN,
        H_XIRR,
        H_XIRR_X,
        H_CPPR,
        H_EOI,
        H_IPI,
        H_IPOLL,
        H_RANDOM,
        H_PUT_TERM_CHAR,
        H_GET_TERM_CHAR,
        H_RTAS,
        H_SET_MODE,
        H_SIGNAL_SYS_RESET,
        H_SET_DABR,
        H_SET_XDABR,
        H_SET_SPRG0,
        H_GET_CPU_CHARACTERISTICS,
    ]);
    prop_oneof![20 => known, 1 => any::<u64>()]
}

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..8u64,
        2 => (FIRST as u64 - 1)..(FIRST as u64 + 6),
        2 => any::<u64>(),
        1 => (0..256u64, 0..6u64).prop_map(|(p, n)| p << 24 | (u64::from(FIRST) + n)),
        1 => 0..(MEMORY_PAGES + 1) * 4096,
        1 => Just(u64::MAX),
        1 => Just(0x7100_0000),
    ]
}

fn block() -> impl Strategy<Value = [u32; 12]> {
    let args = prop::array::uniform12(prop_oneof![
        3 => 0..8u32,
        2 => (FIRST - 1)..(FIRST + 6),
        1 => any::<u32>(),
    ]);
    let token = prop_oneof![9 => 0x2000..0x2012u32, 1 => any::<u32>()];
    (token, 0..SERVICES.len(), any::<bool>(), args).prop_map(
        |(token, service, right, mut block)| {
            block[0] = token;
            if right {
                block[..3].copy_from_slice(&[
                    SERVICES[service].token,
                    SERVICES[service].nargs,
                    SERVICES[service].nret,
                ]);
            }
            block
        },
    )
}

fn exit() -> impl Strategy<Value = Exit> {
    prop_oneof![
        Just(Exit::EmulationAssistance),
        any::<u8>().prop_map(|cause| Exit::FacilityUnavailable { cause }),
        any::<[u64; 3]>().prop_map(|[srr1, dar, dsisr]| Exit::MachineCheck { srr1, dar, dsisr }),
        any::<u64>().prop_map(|number| Exit::UnroutedHypercall { number }),
        Just(Exit::Paused),
        Just(Exit::HptDead),
        Just(Exit::MalformedReply),
        Just(Exit::Host),
        Just(Exit::Other),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let vcpu = || 0..VCPUS as u32;
    let source = || (FIRST - 1)..(FIRST + 6);
    prop_oneof![
        20 => (vcpu(), number(), prop::array::uniform8(word()))
            .prop_map(|(caller, number, args)| Step::Call { caller, number, args }),
        3 => (vcpu(), exit()).prop_map(|(vcpu, exit)| Step::Exit { vcpu, exit }),
        6 => block().prop_map(|words| Step::Block { words }),
        2 => (0..3usize, any::<u8>()).prop_map(|(terminal, byte)| Step::Input { terminal, byte }),
        2 => (source(), any::<bool>()).prop_map(|(source, up)| Step::Level { source, up }),
        1 => (vcpu(), source(), any::<u64>(), any::<u64>())
            .prop_map(|(vcpu, source, icp, word)| Step::Words { vcpu, source, icp, word }),
        1 => (vcpu(), any::<bool>()).prop_map(|(vcpu, pause)| Step::Operator { vcpu, pause }),
        2 => (vcpu(), any::<bool>()).prop_map(|(vcpu, out)| Step::Out { vcpu, out }),
        1 => (0..MEMORY_PAGES, any::<bool>()).prop_map(|(page, there)| Step::Memory { page, there }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn nothing_panics_and_the_state_stays_whole(steps in prop::collection::vec(step(), 1..80)) {
        let guest = Guest::new();
        let mut platforms = [guest.instance(0), guest.instance(1)];
        for (n, step) in steps.into_iter().enumerate() {
            let platform = &mut platforms[n % 2];
            match step {
                Step::Call { caller, number, args } => {
                    if let ReplyAction::Resume { words, .. } =
                        platform.hypercall(VcpuId(caller), number, &args)
                    {
                        prop_assert!(words.as_slice().len() <= 3);
                    }
                }
                Step::Exit { vcpu, exit } => {
                    platform.exit(VcpuId(vcpu), exit);
                }
                Step::Block { words } => {
                    if (0..2).all(|page| guest.world.borrow().pages.contains_key(&page)) {
                        guest.poke(0xff0, &words);
                    }
                    platform.hypercall(BOOT, H_RTAS, &[0xff0, 0, 0, 0, 0, 0, 0, 0]);
                }
                Step::Input { terminal, byte } => {
                    platform.input(terminal, byte);
                }
                Step::Level { source, up } => {
                    platform.set_level(source, up);
                }
                Step::Words { vcpu, source, icp, word } => {
                    let _ = platform.set_source_word(source, word);
                    let _ = platform.set_icp(VcpuId(vcpu), icp);
                }
                Step::Operator { vcpu, pause: true } => {
                    platform.pause(VcpuId(vcpu));
                }
                Step::Operator { vcpu, pause: false } => platform.resume(VcpuId(vcpu)),
                Step::Out { vcpu, out } => guest.with_vcpu(VcpuId(vcpu), |v| v.out = out),
                Step::Memory { page, there } => {
                    let mut world = guest.world.borrow_mut();
                    if there {
                        world.pages.entry(page).or_insert_with(|| vec![0; 4096]);
                    } else {
                        world.pages.remove(&page);
                    }
                }
            }
            check(&guest);
            for vcpu in guest.shared.vcpus {
                prop_assert!(vcpu.run.load(Ordering::Relaxed) < 3, "no start is left half done");
            }
        }
    }
}
