// SPDX-License-Identifier: BSD-2-Clause
//! SPEC 2.6 and 3.9: interrupt presentation, by example and against a model.

use super::world::*;
use crate::icp::SourceWord;
use crate::*;
use partita_instance::atomic::Ordering;
use partita_papr::hcall::number::*;
use partita_papr::hcall::status::*;
use proptest::prelude::*;

fn xirr(platform: &mut TestPlatform, vcpu: VcpuId) -> (u8, u32) {
    let (status, words) = answer(platform, vcpu, H_XIRR, &[]);
    assert_eq!((status, words.len()), (H_SUCCESS, 1));
    assert_eq!(words[0] >> 32, 0);
    ((words[0] >> 24) as u8, words[0] as u32 & 0xff_ffff)
}

fn ok(platform: &mut TestPlatform, vcpu: VcpuId, number: u64, args: &[u64]) {
    assert_eq!(status(platform, vcpu, number, args), H_SUCCESS);
}

fn eoi(platform: &mut TestPlatform, vcpu: VcpuId, (cppr, xisr): (u8, u32)) {
    ok(
        platform,
        vcpu,
        H_EOI,
        &[u64::from(cppr) << 24 | u64::from(xisr)],
    );
}

fn route(platform: &mut TestPlatform, guest: &Guest, source: u32, server: u32, priority: u32) {
    let set = rtas(platform, guest, 0x200a, &[source, server, priority], 1);
    assert_eq!(set, (H_SUCCESS, vec![0]));
}

#[test]
fn reset_values() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    let icp = platform.icp(BOOT).unwrap();
    assert_eq!(
        (icp.cppr, icp.mfrr, icp.pending, icp.xisr),
        (0, 0xff, 0xff, 0)
    );
    assert_eq!(icp.to_word(), 0x0000_0000_ffff_0000);
    assert_eq!(xirr(&mut platform, BOOT), (0, 0));
    assert_eq!(platform.source_word(FIRST), Some(0xff << 32));
    assert_eq!(platform.source_word(FIRST + 2), Some(0xff << 32 | 1 << 40));
    assert_eq!(platform.source_word(FIRST - 1), None);
    assert_eq!(platform.source_word(FIRST + 4), None);
}

#[test]
fn an_ipi_from_end_to_end() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    ok(&mut platform, SECOND, H_IPI, &[0, 4]);
    assert!(!guest.vcpu(BOOT).line, "the bar is up");
    ok(&mut platform, BOOT, H_CPPR, &[0xff]);
    assert!(guest.vcpu(BOOT).line);
    let poll = answer(&mut platform, SECOND, H_IPOLL, &[0]);
    assert_eq!(poll, (H_SUCCESS, vec![0xff00_0002, 4]));
    let accepted = xirr(&mut platform, BOOT);
    assert_eq!(accepted, (0xff, 2));
    assert!(!guest.vcpu(BOOT).line);
    assert_eq!(platform.icp(BOOT).unwrap().cppr, 4);
    ok(&mut platform, BOOT, H_IPI, &[0, 0xff]);
    eoi(&mut platform, BOOT, accepted);
    assert!(!guest.vcpu(BOOT).line);
    assert_eq!(
        platform.icp(BOOT).unwrap(),
        Icp {
            cppr: 0xff,
            ..Icp::RESET
        }
    );
    // Without clearing MFRR it comes again.
    ok(&mut platform, SECOND, H_IPI, &[0, 4]);
    let accepted = xirr(&mut platform, BOOT);
    eoi(&mut platform, BOOT, accepted);
    assert!(guest.vcpu(BOOT).line);
}

#[test]
fn h_xirr_x_also_answers_the_timebase() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    ok(&mut platform, BOOT, H_CPPR, &[0xff]);
    ok(&mut platform, BOOT, H_IPI, &[0, 4]);
    let words = answer(&mut platform, BOOT, H_XIRR_X, &[0]);
    assert_eq!(words, (H_SUCCESS, vec![0xff00_0002, 0x7e57]));
}

#[test]
fn bad_servers_and_sources() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    for server in [3, u64::MAX, 1 << 32] {
        assert_eq!(
            status(&mut platform, BOOT, H_IPI, &[server, 4]),
            H_PARAMETER
        );
        assert_eq!(status(&mut platform, BOOT, H_IPOLL, &[server]), H_PARAMETER);
    }
    for source in [1, 3, 0x10ff, 0x1104, 0xff_ffff] {
        assert_eq!(
            status(&mut platform, BOOT, H_EOI, &[0xff00_0000 | source]),
            H_PARAMETER
        );
    }
    assert_eq!(
        platform.icp(BOOT).unwrap(),
        Icp::RESET,
        "a refused call has no effect"
    );
    // Spurious ones and IPIs are fine.
    eoi(&mut platform, BOOT, (0xff, 0));
    eoi(&mut platform, BOOT, (0xff, 2));
    assert!(!platform.trigger(FIRST + 4));
    assert!(!platform.trigger(FIRST + 2), "a level");
    assert!(!platform.set_level(FIRST, true), "a message");
}

#[test]
fn something_better_displaces_and_the_displaced_comes_back() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    route(&mut platform, &guest, FIRST, 0, 5);
    route(&mut platform, &guest, FIRST + 1, 0, 3);
    ok(&mut platform, BOOT, H_CPPR, &[0xff]);
    assert!(platform.trigger(FIRST));
    assert!(platform.trigger(FIRST + 1));
    let first = xirr(&mut platform, BOOT);
    assert_eq!(first, (0xff, FIRST + 1));
    assert!(!guest.vcpu(BOOT).line, "5 is not better than 3");
    eoi(&mut platform, BOOT, first);
    let second = xirr(&mut platform, BOOT);
    assert_eq!(second, (0xff, FIRST));
    eoi(&mut platform, BOOT, second);
    assert_eq!(xirr(&mut platform, BOOT), (0xff, 0));
}

#[test]
fn raising_the_bar_sends_back_and_lowering_it_sends_again() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    route(&mut platform, &guest, FIRST, 0, 5);
    ok(&mut platform, BOOT, H_CPPR, &[0xff]);
    platform.trigger(FIRST);
    assert!(guest.vcpu(BOOT).line);
    ok(&mut platform, BOOT, H_CPPR, &[5]);
    assert!(!guest.vcpu(BOOT).line, "equal is not better");
    ok(&mut platform, BOOT, H_CPPR, &[6]);
    assert!(guest.vcpu(BOOT).line);
    // An IPI in its place goes back into MFRR.
    ok(&mut platform, BOOT, H_IPI, &[0, 2]);
    ok(&mut platform, BOOT, H_CPPR, &[1]);
    assert!(!guest.vcpu(BOOT).line);
    ok(&mut platform, BOOT, H_CPPR, &[0xff]);
    assert_eq!(xirr(&mut platform, BOOT), (0xff, 2));
}

#[test]
fn levels_fire_again_until_they_fall() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    route(&mut platform, &guest, FIRST + 2, 1, 5);
    ok(&mut platform, SECOND, H_CPPR, &[0xff]);
    assert!(platform.set_level(FIRST + 2, true));
    for _ in 0..2 {
        let accepted = xirr(&mut platform, SECOND);
        assert_eq!(accepted, (0xff, FIRST + 2));
        assert_eq!(xirr(&mut platform, SECOND), (5, 0));
        eoi(&mut platform, SECOND, accepted);
        assert!(guest.vcpu(SECOND).line);
    }
    let accepted = xirr(&mut platform, SECOND);
    assert!(platform.set_level(FIRST + 2, false));
    eoi(&mut platform, SECOND, accepted);
    assert!(!guest.vcpu(SECOND).line);
    // A level that waits and falls is forgotten.
    ok(&mut platform, SECOND, H_CPPR, &[0]);
    platform.set_level(FIRST + 2, true);
    platform.set_level(FIRST + 2, false);
    ok(&mut platform, SECOND, H_CPPR, &[0xff]);
    assert!(!guest.vcpu(SECOND).line);
}

#[test]
fn messages_are_kept_while_off_and_one_more_while_in_service() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    ok(&mut platform, BOOT, H_CPPR, &[0xff]);
    platform.trigger(FIRST); // priority 0xff: off
    assert!(!guest.vcpu(BOOT).line);
    route(&mut platform, &guest, FIRST, 0, 5);
    let accepted = xirr(&mut platform, BOOT);
    assert_eq!(accepted.1, FIRST);
    platform.trigger(FIRST);
    platform.trigger(FIRST);
    rtas(&mut platform, &guest, 0x200c, &[FIRST], 1);
    eoi(&mut platform, BOOT, accepted);
    assert!(!guest.vcpu(BOOT).line, "ibm,int-off");
    rtas(&mut platform, &guest, 0x200d, &[FIRST], 1);
    let accepted = xirr(&mut platform, BOOT);
    assert_eq!(accepted.1, FIRST);
    eoi(&mut platform, BOOT, accepted);
    assert_eq!(xirr(&mut platform, BOOT).1, 0, "two messages became one");
}

#[test]
fn a_waiting_source_follows_its_route() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    route(&mut platform, &guest, FIRST, 0, 5);
    platform.trigger(FIRST); // CPPR of 0 is 0
    ok(&mut platform, SECOND, H_CPPR, &[0xff]);
    route(&mut platform, &guest, FIRST, 1, 5);
    assert!(guest.vcpu(SECOND).line && !guest.vcpu(BOOT).line);
    assert_eq!(xirr(&mut platform, SECOND).1, FIRST);
}

#[test]
fn icp_words_from_outside() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    for word in [
        0xff00_0000_ff04_0000, // nothing presented, but a priority
        0xff00_0002_0504_0000, // an IPI at another priority than MFRR's
        0x0400_0002_0404_0000, // not better than the bar
        0xff00_1104_ff05_0000, // no such source
        0x0500_1100_ff05_0000, // not better than the bar
    ] {
        assert_eq!(platform.set_icp(BOOT, word), Err(InvalidState), "{word:#x}");
    }
    assert_eq!(platform.icp(VcpuId(9)), None);
    assert_eq!(platform.set_icp(VcpuId(9), 0), Err(InvalidState));
    assert_eq!(platform.set_source_word(FIRST, 1 << 45), Err(InvalidState));
    assert_eq!(platform.set_source_word(FIRST, 3), Err(InvalidState));
    assert_eq!(platform.set_source_word(FIRST + 4, 0), Err(InvalidState));
    platform.set_icp(BOOT, 0xff00_0002_0404_0000).unwrap();
    assert!(guest.vcpu(BOOT).line);
    assert_eq!(platform.icp(BOOT).unwrap().to_word(), 0xff00_0002_0404_0000);
}

#[test]
fn a_source_that_waits_survives_saving_and_restoring() {
    let guest = Guest::new();
    let mut platform = guest.instance(0);
    route(&mut platform, &guest, FIRST, 0, 5);
    route(&mut platform, &guest, FIRST + 2, 0, 6);
    platform.trigger(FIRST);
    platform.set_level(FIRST + 2, true);
    let sources: Vec<_> = (0..4)
        .map(|n| platform.source_word(FIRST + n).unwrap())
        .collect();
    let icp = platform.icp(BOOT).unwrap().to_word();
    let other = Guest::new();
    let mut restored = other.instance(0);
    for (word, number) in sources.into_iter().zip(FIRST..) {
        restored.set_source_word(number, word).unwrap();
    }
    restored.set_icp(BOOT, icp).unwrap();
    ok(&mut restored, BOOT, H_CPPR, &[0xff]);
    let first = xirr(&mut restored, BOOT);
    assert_eq!(first.1, FIRST);
    eoi(&mut restored, BOOT, first);
    assert_eq!(xirr(&mut restored, BOOT).1, FIRST + 2);
}

/// What must hold after every step, whatever the guest did.
pub fn check(guest: &Guest) {
    let sources: Vec<_> = guest
        .shared
        .sources
        .iter()
        .map(|s| SourceWord(s.word.load(Ordering::Relaxed)))
        .collect();
    for (number, vcpu) in guest.shared.vcpus.iter().enumerate() {
        let icp = Icp::from_word(vcpu.icp.load(Ordering::Relaxed));
        assert_eq!(
            guest.world.borrow().vcpus[number].line,
            icp.xisr != 0,
            "the line"
        );
        assert!(if icp.xisr == 0 {
            icp.pending == 0xff
        } else {
            icp.pending < icp.cppr
        });
        // Nothing that waits is better than what is presented.
        let bar = icp.cppr.min(icp.pending);
        assert!(icp.mfrr >= bar || icp.mfrr >= icp.cppr, "{icp:?}");
        for source in sources.iter().filter(|s| s.server() == number as u32) {
            if source.is(SourceWord::REJECTED) {
                assert!(source.live_priority() >= bar, "{icp:?} {source:?}");
                assert!(icp.resend);
            }
        }
    }
    assert_eq!(guest.shared.vm.xics_lock.load(Ordering::Relaxed), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Trigger(u32),
    Level(u32, bool),
    Route {
        source: u32,
        server: u32,
        priority: u32,
    },
    Mask {
        source: u32,
        on: bool,
    },
    Cppr {
        vcpu: u32,
        cppr: u8,
    },
    Ipi {
        server: u32,
        mfrr: u8,
    },
    Accept(u32),
    End(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let sources = 0..SOURCES as u32;
    let vcpus = 0..VCPUS as u32;
    let priority = || prop_oneof![4 => 0..8u8, 1 => Just(0xffu8)];
    prop_oneof![
        sources.clone().prop_map(Step::Trigger),
        (sources.clone(), any::<bool>()).prop_map(|(s, up)| Step::Level(s, up)),
        (sources.clone(), vcpus.clone(), priority()).prop_map(|(source, server, p)| {
            Step::Route {
                source,
                server,
                priority: p.into(),
            }
        }),
        (sources, any::<bool>()).prop_map(|(source, on)| Step::Mask { source, on }),
        (vcpus.clone(), priority()).prop_map(|(vcpu, cppr)| Step::Cppr { vcpu, cppr }),
        (vcpus.clone(), priority()).prop_map(|(server, mfrr)| Step::Ipi { server, mfrr }),
        vcpus.clone().prop_map(Step::Accept),
        vcpus.prop_map(Step::End),
    ]
}

/// What a well-behaved guest and its devices know.
#[derive(Default)]
struct Model {
    /// Messages that the guest has not taken yet: at least one delivery is owed.
    owed: [bool; SOURCES],
    sent: [u32; SOURCES],
    taken: [u32; SOURCES],
    up: [bool; SOURCES],
    /// Interrupts in service, with the priority to go back to.
    service: [Vec<(u8, u32)>; VCPUS],
    /// A request stands in MFRR.
    ipi: [bool; VCPUS],
    /// A request came since the last one was taken. It may still be presented after MFRR was
    /// cleared.
    ipi_came: [bool; VCPUS],
}

impl Model {
    fn accept(&mut self, platform: &mut TestPlatform, vcpu: u32) -> u32 {
        let accepted = xirr(platform, VcpuId(vcpu));
        if accepted.1 == IPI_SOURCE {
            let came = core::mem::take(&mut self.ipi_came[vcpu as usize]);
            assert!(came || self.ipi[vcpu as usize], "nobody sent an IPI");
        } else if accepted.1 != 0 {
            let source = (accepted.1 - FIRST) as usize;
            self.owed[source] = false;
            self.taken[source] += 1;
        }
        if accepted.1 != 0 {
            self.service[vcpu as usize].push(accepted);
        }
        accepted.1
    }

    fn end(&mut self, platform: &mut TestPlatform, vcpu: u32) -> bool {
        let last = self.service[vcpu as usize].pop();
        if let Some(accepted) = last {
            if accepted.1 == IPI_SOURCE {
                ok(platform, VcpuId(vcpu), H_IPI, &[vcpu.into(), 0xff]);
                self.ipi[vcpu as usize] = false;
            }
            eoi(platform, VcpuId(vcpu), accepted);
        }
        last.is_some()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn no_interrupt_is_lost_or_invented(steps in prop::collection::vec(step(), 1..80)) {
        let guest = Guest::new();
        let mut platform = guest.instance(0);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Trigger(n) => if platform.trigger(FIRST + n) {
                    model.owed[n as usize] = true;
                    model.sent[n as usize] += 1;
                },
                Step::Level(n, up) => if platform.set_level(FIRST + n, up) {
                    model.up[n as usize] = up;
                },
                Step::Route { source, server, priority } => {
                    route(&mut platform, &guest, FIRST + source, server, priority);
                }
                Step::Mask { source, on } => {
                    let token = if on { 0x200d } else { 0x200c };
                    rtas(&mut platform, &guest, token, &[FIRST + source], 1);
                }
                // A guest moves the bar only while nothing is in service.
                Step::Cppr { vcpu, cppr } => if model.service[vcpu as usize].is_empty() {
                    ok(&mut platform, VcpuId(vcpu), H_CPPR, &[cppr.into()]);
                },
                Step::Ipi { server, mfrr } => {
                    model.ipi[server as usize] = mfrr != 0xff;
                    model.ipi_came[server as usize] |= mfrr != 0xff;
                    ok(&mut platform, BOOT, H_IPI, &[server.into(), mfrr.into()]);
                }
                Step::Accept(vcpu) => {
                    model.accept(&mut platform, vcpu);
                }
                Step::End(vcpu) => {
                    model.end(&mut platform, vcpu);
                }
            }
            check(&guest);
        }
        // Let everything in, take what comes until nothing does.
        for n in 0..SOURCES as u32 {
            route(&mut platform, &guest, FIRST + n, n % VCPUS as u32, 1 + n);
            rtas(&mut platform, &guest, 0x200d, &[FIRST + n], 1);
        }
        let mut seen = [false; SOURCES];
        for round in 0.. {
            prop_assert!(round < 50, "it does not end");
            let mut quiet = true;
            for vcpu in 0..VCPUS as u32 {
                while model.end(&mut platform, vcpu) {
                    quiet = false;
                }
                ok(&mut platform, VcpuId(vcpu), H_CPPR, &[0xff]);
                let taken = model.accept(&mut platform, vcpu);
                if let Some(source) = taken.checked_sub(FIRST) {
                    seen[source as usize] = true;
                    // The device is served.
                    platform.set_level(taken, false);
                }
                quiet &= taken == 0;
            }
            check(&guest);
            if quiet {
                break;
            }
        }
        prop_assert_eq!(model.ipi, [false; VCPUS], "an IPI was lost");
        for (n, seen) in seen.into_iter().enumerate() {
            prop_assert!(!model.owed[n], "a message of source {n} was lost");
            prop_assert!(is_level(n) || model.taken[n] <= model.sent[n], "invented");
            prop_assert!(!is_level(n) || !model.up[n] || seen, "level {n} was lost");
        }
    }
}
