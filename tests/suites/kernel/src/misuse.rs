// SPDX-License-Identifier: BSD-2-Clause
//! MISUSE: every invocation with too few arguments, on every kind of capability that it is not for,
//! and with capabilities of the wrong kind: the right error, and nothing changed.

use partita_abi::{ErrorCode as E, InvocationLabel as L, ObjectType};
use sel4::init_thread::slot;
use sel4::{ObjectBlueprintArch, UserContext, VmAttributes, cap};
use testkit::kit::WINDOW;
use testkit::raw::{call, needs};
use testkit::{Answer, Case, Kit, Outcome, check, check_eq, fail, invoke};

pub const CASES: &[Case] = &[
    Case {
        name: "MISUSE0001 too few words or capabilities",
        body: truncated,
    },
    Case {
        name: "MISUSE0002 invocations of other objects",
        body: wrong_object,
    },
    Case {
        name: "MISUSE0003 labels that there are not",
        body: no_label,
    },
    Case {
        name: "MISUSE0004 empty slots and pointers to nothing",
        body: nothing,
    },
    Case {
        name: "MISUSE0005 extra capabilities that lead nowhere",
        body: bad_extra,
    },
    Case {
        name: "MISUSE0006 arguments of the wrong kind",
        body: wrong_kind,
    },
    Case {
        name: "MISUSE0007 numbers of every size",
        body: wild_numbers,
    },
];

/// Name of a kind, a capability of it, and which labels belong to it.
type Animal = (&'static str, u64, fn(L) -> bool);
/// Capability (by kind), label, words, extra capabilities, and the error expected.
type Row<'a> = (&'a str, L, &'a [u64], &'a [u64], E);

/// Capabilities that are misused.
const KINDS: usize = 24;

/// One capability of each kind, in a state where misuse would show.
struct Zoo {
    caps: [Animal; KINDS],
    tcb: cap::Tcb,
    first: usize,
    last: usize,
    page: usize,
}

/// Whether a label's name begins so.
fn of(label: L, prefix: &str) -> bool {
    label.name().starts_with(prefix)
}

impl Zoo {
    fn new(kit: &mut Kit) -> Outcome<Zoo> {
        let (_, first) = kit.case_slots();
        let page = WINDOW + 0x4000;
        let frame = kit.page_at(page)?;
        // SAFETY: mapped just now.
        unsafe { (page as *mut u64).write_volatile(0x600d) };
        let tcb = kit.tcb()?;
        let mut context = UserContext::default();
        for (i, word) in context.inner_mut().iter_mut().enumerate() {
            *word = 0xa000 + i as u64;
        }
        tcb.tcb_write_all_registers(false, &context)?;
        let sc = kit.sched_context(1000, 2000)?;
        let untyped = kit.untyped(12)?;
        let cnode = kit.new_cnode(4)?;
        let table: cap::PT = kit.object(ObjectBlueprintArch::PT.into())?;
        table.page_table_map(
            slot::VSPACE.cap(),
            testkit::kit::UNMAPPED,
            VmAttributes::NONE,
        )?;
        let timer: cap::Timer = kit.object(ObjectBlueprintArch::Timer.into())?;
        let dest = kit.slot();
        let irq: cap::IrqHandler = dest.cast();
        slot::IRQ_CONTROL
            .cap()
            .irq_control_get(crate::interrupt::UART_IRQ, &kit.absolute(dest))?;
        let vspace: cap::VSpace = kit.object(ObjectBlueprintArch::VSpace.into())?;
        let gspace: cap::GSpace = kit.object(ObjectBlueprintArch::GSpace.into())?;
        let lpids = slot::LPID_CONTROL.cptr().bits();
        done(lpids, L::LPIDControlAssign, &[], &[gspace.bits()])?;
        let gtable: cap::GPageTable = kit.object(ObjectBlueprintArch::GPageTable.into())?;
        done(gtable.bits(), L::GPageTableMap, &[0, 0], &[gspace.bits()])?;
        let hpt: cap::Hpt = kit.object(ObjectBlueprintArch::Hpt { size_bits: 18 }.into())?;
        let gfns: cap::HptGfns =
            kit.object(ObjectBlueprintArch::HptGfns { size_bits: 16 }.into())?;
        done(hpt.bits(), L::HPTBind, &[12], &[gspace.bits(), gfns.bits()])?;
        let vcpu: cap::VCpu = kit.object(ObjectBlueprintArch::VCpu.into())?;
        let thread = kit.tcb()?;
        done(
            vcpu.bits(),
            L::VCPUBind,
            &[1],
            &[thread.bits(), gspace.bits()],
        )?;
        let view = kit.slot().bits();
        let root = slot::CNODE.cptr().bits();
        done(gspace.bits(), L::GSpaceMakeView, &[view, 64, 3], &[root])?;
        let (_, last) = kit.case_slots();
        let caps: [Animal; KINDS] = [
            ("Untyped", untyped.bits(), |l| of(l, "Untyped")),
            ("TCB", tcb.bits(), |l| of(l, "TCB")),
            ("CNode", cnode.bits(), |l| of(l, "CNode")),
            ("SchedContext", sc.bits(), |l| of(l, "SchedContext")),
            ("SchedControl", kit.sched_control().bits(), |l| {
                of(l, "SchedControl")
            }),
            ("Frame", frame.bits(), |l| {
                of(l, "Page") && !of(l, "PageTable")
            }),
            ("PageTable", table.bits(), |l| of(l, "PageTable")),
            ("Timer", timer.bits(), |l| of(l, "Timer")),
            ("IRQHandler", irq.bits(), |l| {
                matches!(
                    l,
                    L::IRQAckIRQ | L::IRQSetIRQHandler | L::IRQClearIRQHandler
                )
            }),
            ("IRQControl", slot::IRQ_CONTROL.cptr().bits(), |l| {
                of(l, "IRQIssue")
            }),
            ("ASIDControl", slot::ASID_CONTROL.cptr().bits(), |l| {
                of(l, "ASIDControl")
            }),
            ("ASIDPool", slot::ASID_POOL.cptr().bits(), |l| {
                of(l, "ASIDPool")
            }),
            ("VSpace", vspace.bits(), |_| false),
            ("root VSpace", slot::VSPACE.cptr().bits(), |_| false),
            ("root CNode", slot::CNODE.cptr().bits(), |l| of(l, "CNode")),
            ("root TCB", slot::TCB.cptr().bits(), |l| of(l, "TCB")),
            (
                "PlatformControl",
                slot::PLATFORM_CONTROL.cptr().bits(),
                |l| of(l, "Platform"),
            ),
            ("LPIDControl", lpids, |l| of(l, "LPIDControl")),
            ("GSpace", gspace.bits(), |l| of(l, "GSpace")),
            ("GPageTable", gtable.bits(), |l| of(l, "GPageTable")),
            ("HPT", hpt.bits(), |l| of(l, "HPT")),
            ("HptGfns", gfns.bits(), |_| false),
            ("VCPU", vcpu.bits(), |l| of(l, "VCPU")),
            ("View", view, |l| of(l, "View")),
        ];
        Ok(Zoo {
            caps,
            tcb,
            first,
            last,
            page,
        })
    }

    /// What can be seen of the objects: which slots are used, the thread's registers, the page's word.
    fn look(&self, kit: &Kit) -> Outcome<u64> {
        let slots = (self.first..self.last).map(|i| u64::from(kit.is_empty(i as u64)));
        let context = self.tcb.tcb_read_all_registers(false)?;
        // SAFETY: the page was mapped by `new`, and nothing here unmaps it.
        let word = unsafe { (self.page as *const u64).read_volatile() };
        check_eq!(word, 0x600d);
        Ok(testkit::checksum(
            slots.chain(context.inner().iter().copied()),
        ))
    }
}

/// An invocation that must succeed.
fn done(cptr: u64, label: L, args: &[u64], caps: &[u64]) -> Outcome {
    let answer = invoke(cptr, label, args, caps);
    expect(answer, E::NoError, "set-up", label)
}

/// Labels that end the machine when they are misused in the wrong place, that is on their own object.
fn ends_the_machine(label: L) -> bool {
    matches!(label, L::PlatformPowerOff | L::PlatformReboot)
}

fn expect(answer: Answer, error: E, object: &str, label: L) -> Outcome {
    if !answer.is(error) {
        fail!(
            "{object}, {}: answer {}, not {}",
            label.name(),
            answer.label,
            error.name()
        );
    }
    Ok(())
}

fn truncated(kit: &mut Kit) -> Outcome {
    let zoo = Zoo::new(kit)?;
    let before = zoo.look(kit)?;
    let root = slot::CNODE.cptr().bits();
    for label in L::ALL {
        let (words, caps) = needs(label);
        for (object, cptr, accepts) in zoo.caps {
            if !accepts(label) || object.starts_with("root") {
                continue;
            }
            // Values that pass every check which comes before the missing one.
            let args = [0; 16];
            let extra = [root; 3];
            for w in 0..words {
                let answer = call(cptr, label as u64, &args[..w], &extra[..caps]);
                // An earlier argument may be refused first, but then by its own value.
                if !answer.is(E::TruncatedMessage) && answer.label == 0 {
                    fail!("{object}, {}: {w} words suffice", label.name());
                }
            }
            if words > 0 {
                let answer = call(cptr, label as u64, &[], &[]);
                expect(answer, E::TruncatedMessage, object, label)?;
                check_eq!(answer.length, 0);
            }
            for c in 0..caps {
                let answer = call(cptr, label as u64, &args[..words], &extra[..c]);
                if answer.label == 0 {
                    fail!("{object}, {}: {c} capabilities suffice", label.name());
                }
            }
            if caps > 0 && words == 0 {
                let answer = call(cptr, label as u64, &[], &[]);
                expect(answer, E::TruncatedMessage, object, label)?;
            }
        }
    }
    check_eq!(zoo.look(kit)?, before);
    Ok(())
}

fn wrong_object(kit: &mut Kit) -> Outcome {
    let zoo = Zoo::new(kit)?;
    let before = zoo.look(kit)?;
    let root = slot::CNODE.cptr().bits();
    for label in L::ALL {
        for (object, cptr, accepts) in zoo.caps {
            if accepts(label) || ends_the_machine(label) && object == "PlatformControl" {
                continue;
            }
            for words in [0, 8] {
                let answer = call(cptr, label as u64, &[0; 8][..words], &[root; 3]);
                expect(answer, E::IllegalOperation, object, label)?;
                check_eq!(answer.length, 0);
            }
        }
    }
    check_eq!(zoo.look(kit)?, before);
    Ok(())
}

fn no_label(kit: &mut Kit) -> Outcome {
    let zoo = Zoo::new(kit)?;
    let before = zoo.look(kit)?;
    let count = L::COUNT as u64;
    for label in [0, count, count + 1, 1 << 20, (1 << 52) - 1] {
        for (object, cptr, _) in zoo.caps {
            let answer = call(cptr, label, &[0; 8], &[slot::CNODE.cptr().bits(); 3]);
            expect(answer, E::IllegalOperation, object, L::InvalidInvocation)?;
        }
    }
    check_eq!(zoo.look(kit)?, before);
    Ok(())
}

fn nothing(kit: &mut Kit) -> Outcome {
    let empty = kit.slot().bits();
    for label in L::ALL {
        let answer = invoke(empty, label, &[0; 8], &[]);
        expect(answer, E::InvalidCapability, "nothing", label)?;
        check_eq!((answer.length, answer.words[0]), (1, 0));
        // Not a call: dropped.
        testkit::raw::send(empty, label as u64, &[0; 8], &[]);
    }
    Ok(())
}

/// Calls with extra capabilities that lead nowhere: a fault of the caller. Words: object, label.
fn call_with_bad_cap(env: &testkit::Env) -> u64 {
    env.with_buffer(|b| b.caps_or_badges_mut()[0] = 1 << 45);
    let info = partita_abi::MessageInfo::new(env.args[1], 0, 1, 8);
    let got = sel4::arch::call(env.args[0], info.0, sel4::arch::message([0; 8]));
    partita_abi::MessageInfo(got.info).label()
}

fn bad_extra(kit: &mut Kit) -> Outcome {
    let zoo = Zoo::new(kit)?;
    let before = zoo.look(kit)?;
    let faults = kit.endpoint()?;
    for label in [
        L::UntypedRetype,
        L::TCBSetPriority,
        L::CNodeCopy,
        L::PageMap,
    ] {
        for (_, cptr, accepts) in zoo.caps {
            if !accepts(label) {
                continue;
            }
            let thread = testkit::Helper::new(call_with_bad_cap)
                .args([cptr, label as u64])
                .fault(faults)
                .start(kit)?;
            let got = faults.recv_with_mrs(cap::Reply::from_bits(0));
            check_eq!(got.info.label(), partita_abi::FaultLabel::CapFault as u64);
            check_eq!((got.msg[1], got.msg[2]), (1 << 45, 0));
            check!(!thread.finished());
            thread.discard(kit)?;
        }
    }
    check_eq!(zoo.look(kit)?, before);
    Ok(())
}

fn wrong_kind(kit: &mut Kit) -> Outcome {
    let zoo = Zoo::new(kit)?;
    let endpoint = kit.endpoint()?.bits();
    let null = 0;
    let before = zoo.look(kit)?;
    let object = |name: &str| {
        let found = zoo.caps.iter().find(|(n, ..)| *n == name);
        found.map_or(0, |(_, cptr, _)| *cptr)
    };
    let root = slot::CNODE.cptr().bits();
    let free = kit.slot().bits();
    let rows: [Row<'_>; 28] = [
        (
            "TCB",
            L::TCBConfigure,
            &[0, 0, 0],
            &[endpoint, object("VSpace"), 0],
            E::IllegalOperation,
        ),
        (
            "TCB",
            L::TCBConfigure,
            &[0, 0, 0],
            &[root, endpoint, 0],
            E::IllegalOperation,
        ),
        (
            "TCB",
            L::TCBConfigure,
            &[0, 0, 0x1000],
            &[root, object("root VSpace"), endpoint],
            E::IllegalOperation,
        ),
        (
            "TCB",
            L::TCBSetPriority,
            &[1],
            &[endpoint],
            E::InvalidCapability,
        ),
        (
            "TCB",
            L::TCBSetMCPriority,
            &[1],
            &[null],
            E::InvalidCapability,
        ),
        (
            "TCB",
            L::TCBSetSchedParams,
            &[1, 1],
            &[endpoint, 0, 0],
            E::InvalidCapability,
        ),
        (
            "TCB",
            L::TCBSetSchedParams,
            &[1, 1],
            &[object("root TCB"), endpoint, 0],
            E::InvalidCapability,
        ),
        (
            "TCB",
            L::TCBSetIPCBuffer,
            &[0x1000],
            &[endpoint],
            E::IllegalOperation,
        ),
        (
            "TCB",
            L::TCBBindNotification,
            &[],
            &[endpoint],
            E::IllegalOperation,
        ),
        (
            "TCB",
            L::TCBUnbindNotification,
            &[],
            &[],
            E::IllegalOperation,
        ),
        (
            "TCB",
            L::TCBCopyRegisters,
            &[12],
            &[endpoint],
            E::InvalidCapability,
        ),
        ("TCB", L::TCBReadRegisters, &[0, 0], &[], E::RangeError),
        (
            "Untyped",
            L::UntypedRetype,
            &[ObjectType::Tcb as u64, 0, 0, 0, free, 3],
            &[root],
            E::NotEnoughMemory,
        ),
        (
            "Untyped",
            L::UntypedRetype,
            &[ObjectType::Tcb as u64, 0, 0, 0, free, 1],
            &[endpoint],
            E::FailedLookup,
        ),
        (
            "CNode",
            L::CNodeCopy,
            &[0, 64, 0, 64, 15],
            &[endpoint],
            E::FailedLookup,
        ),
        (
            "CNode",
            L::CNodeMint,
            &[0, 64, endpoint, 64, 15, 1],
            &[null],
            E::FailedLookup,
        ),
        (
            "CNode",
            L::CNodeCancelBadgedSends,
            &[0, 64],
            &[],
            E::IllegalOperation,
        ),
        (
            "SchedControl",
            L::SchedControlConfigureFlags,
            &[1000, 1000, 0, 0, 0],
            &[endpoint],
            E::InvalidCapability,
        ),
        (
            "SchedContext",
            L::SchedContextBind,
            &[],
            &[endpoint],
            E::InvalidCapability,
        ),
        (
            "SchedContext",
            L::SchedContextUnbindObject,
            &[],
            &[endpoint],
            E::InvalidCapability,
        ),
        (
            "SchedContext",
            L::SchedContextYieldTo,
            &[],
            &[],
            E::IllegalOperation,
        ),
        (
            "Frame",
            L::PageMap,
            &[0x1000, 3, 0],
            &[endpoint],
            E::InvalidCapability,
        ),
        (
            "PageTable",
            L::PageTableMap,
            &[0x1000, 0],
            &[endpoint],
            E::InvalidCapability,
        ),
        (
            "Timer",
            L::TimerSetNotification,
            &[],
            &[endpoint],
            E::InvalidCapability,
        ),
        (
            "IRQHandler",
            L::IRQSetIRQHandler,
            &[],
            &[endpoint],
            E::InvalidCapability,
        ),
        (
            "ASIDControl",
            L::ASIDControlMakePool,
            &[free, 64],
            &[endpoint, root],
            E::InvalidCapability,
        ),
        (
            "ASIDPool",
            L::ASIDPoolAssign,
            &[],
            &[endpoint],
            E::InvalidCapability,
        ),
        (
            "IRQControl",
            L::IRQIssueIRQHandler,
            &[1, free, 64],
            &[endpoint],
            E::FailedLookup,
        ),
    ];
    for (name, label, args, caps, error) in rows {
        let answer = call(object(name), label as u64, args, caps);
        expect(answer, error, name, label)?;
    }
    check_eq!(zoo.look(kit)?, before);
    Ok(())
}

fn wild_numbers(kit: &mut Kit) -> Outcome {
    // Every argument of every invocation in turn takes extreme values while capability arguments are
    // of a wrong kind: nothing may succeed but what has no capability argument.
    let zoo = Zoo::new(kit)?;
    // No invocation takes a reply object.
    let wrong = kit.reply()?.bits();
    let before = zoo.look(kit)?;
    let extremes = [
        0,
        1,
        63,
        64,
        65,
        0xfff,
        0x1000,
        1 << 31,
        1 << 32,
        1 << 46,
        1 << 47,
        1 << 52,
        1 << 63,
        u64::MAX - 1,
        u64::MAX,
    ];
    for label in L::ALL {
        let (words, caps) = needs(label);
        if caps == 0 || ends_the_machine(label) {
            continue;
        }
        for (object, cptr, accepts) in zoo.caps {
            if !accepts(label) || object.starts_with("root") {
                continue;
            }
            for place in 0..words {
                for value in extremes {
                    let mut args = [0; 8];
                    args[place.min(7)] = value;
                    let answer = call(
                        cptr,
                        label as u64,
                        &args[..words.min(8)],
                        &[wrong; 3][..caps],
                    );
                    // Address 0 is no buffer, whatever the capability.
                    if label == L::TCBSetIPCBuffer && value == 0 {
                        continue;
                    }
                    if answer.label == 0 || answer.error().is_none() {
                        fail!(
                            "{object}, {}({place} = {value:#x}): answer {}",
                            label.name(),
                            answer.label
                        );
                    }
                }
            }
        }
    }
    check_eq!(zoo.look(kit)?, before);
    // The untyped is as it was: it can be used in full.
    let untyped = zoo.caps[0].1;
    let dest = kit.slot().bits();
    let kind = ObjectType::Frame4K as u64;
    let args = [kind, 0, 0, 0, dest, 1];
    check_eq!(
        invoke(
            untyped,
            L::UntypedRetype,
            &args,
            &[slot::CNODE.cptr().bits()]
        )
        .label,
        0
    );
    Ok(())
}
