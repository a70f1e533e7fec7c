// SPDX-License-Identifier: BSD-2-Clause
//! What a PD can see and change of a guest's registers, by `VCPUReadRegisters` and `VCPUWriteRegisters` and by its
//! answers to exits, against a model: each register keeps what may be in it, and no other one changes.

use super::{Guest, PC};
use crate::rig::cases;
use partita_abi::{
    ErrorCode as E, GuestExit, InvocationLabel as L, IpcBufferLayout, ReplyAction,
    address_space as space, syscall, vcpu_register as register,
};
use partita_kernel_core::object::ThreadState as S;
use proptest::prelude::*;
use proptest::{collection::vec, sample::select};

const COUNT: usize = register::COUNT;
const WORDS: usize = space::MAX_MESSAGE_REGISTERS;
/// Bits of the MSR: SF, ME, LE, IR and DR; HV, TM and TS, S.
const SF_ME: u64 = 1 << 63 | 0x1000;
const LE: u64 = 1;
const IR_DR: u64 = 0x30;
const NEVER: u64 = 1 << 60 | 7 << 32 | 1 << 22;
/// What an interrupt itself puts into SRR1, so that it means nothing in an MSR.
const SRR1_BITS: u64 = 0x783f_0000;
/// ILE and AIL of the LPCR.
const ILE: u64 = 0x0200_0000;
const AIL: u64 = 0x0180_0000;

#[derive(Clone, Debug)]
enum Step {
    /// Writes `values` from `first` on; the message says `more` registers than it has.
    Write {
        first: usize,
        values: Vec<u64>,
        more: u64,
    },
    Read {
        first: u64,
        count: u64,
    },
    /// Runs, makes a hypercall (or leaves the guest otherwise), and gets answers until it goes on.
    Exit {
        hypercall: bool,
        answers: Vec<Reply>,
    },
}

#[derive(Clone, Debug)]
struct Reply {
    action: u64,
    status: u64,
    words: [u64; 8],
    length: usize,
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => any::<u64>(),
        1 => select(vec![0, u64::MAX]),
        2 => (0u32..64).prop_map(|bit| 1 << bit),
        1 => (0u32..64).prop_map(|bit| !(1 << bit)),
    ]
}

/// Those with rules of their own more often than the others.
fn index() -> impl Strategy<Value = usize> {
    let filtered = [
        register::PC,
        register::MSR,
        register::LPCR,
        register::CIABR,
        register::HFSCR,
        register::TB_OFFSET,
        register::SLB0_ESID,
        register::SLB31_VSID,
    ];
    prop_oneof![1 => 0..COUNT, 1 => select(filtered.to_vec())]
}

fn reply() -> impl Strategy<Value = Reply> {
    let actions = [
        ReplyAction::Resume as u64,
        ReplyAction::Resume as u64,
        ReplyAction::Inject as u64,
        ReplyAction::Inject as u64,
        15,
    ];
    let vector = prop_oneof![
        4 => select(vec![0x100, 0x300, 0x380, 0x500, 0x600, 0x700, 0xc00]),
        1 => 0u64..0x2100,
    ];
    let bits = prop_oneof![4 => Just(0x4004_0000), 1 => value()];
    let interrupt = (vector, bits, value(), value());
    (
        select(actions.to_vec()),
        0u64..1 << 48,
        vec(value(), 4),
        interrupt,
        prop_oneof![2 => Just(8), 1 => 0usize..10],
    )
        .prop_map(|(action, status, first, interrupt, length)| Reply {
            action,
            status,
            words: [
                first[0],
                first[1],
                first[2],
                first[3],
                interrupt.0,
                interrupt.1,
                interrupt.2,
                interrupt.3,
            ],
            length,
        })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (index(), vec(value(), 1..6), prop_oneof![5 => Just(0), 1 => 1u64..300])
            .prop_map(|(first, values, more)| Step::Write { first, values, more }),
        1 => (0..COUNT, vec(value(), 60..WORDS - 2))
            .prop_map(|(first, values)| Step::Write { first, values, more: 0 }),
        2 => (0..COUNT as u64 + 2, 0..COUNT as u64 + 2)
            .prop_map(|(first, count)| Step::Read { first, count }),
        3 => (any::<bool>(), vec(reply(), 0..4))
            .prop_map(|(hypercall, answers)| Step::Exit { hypercall, answers }),
    ]
}

/// What is in a register after a PD has written `value`.
fn kept(register: usize, value: u64) -> u64 {
    match register {
        register::MSR => value & !NEVER | 0x1000,
        register::LPCR => {
            let ail = if value & AIL == AIL { AIL } else { 0 };
            value & (ILE | 0x200 | 7 << 52) | ail
        }
        register::CIABR if value & 3 == 3 => 0,
        register::HFSCR => value & 0x11f,
        register::TB_OFFSET => value.wrapping_add(0xff_ffff) >> 24 << 24,
        _ => value,
    }
}

/// A vCPU and what should be in its registers.
struct Game {
    guest: Guest,
    model: Vec<u64>,
}

impl Game {
    fn new() -> Game {
        let guest = Guest::new();
        let mut model = vec![0; COUNT];
        model[register::PC] = PC;
        model[register::MSR] = SF_ME;
        model[register::HFSCR] = 0x117;
        model[register::MMCR0] = 0x8000_0000;
        Game { guest, model }
    }

    fn shown(&self, first: usize, count: usize) -> Vec<u64> {
        let all = first..first + count;
        all.map(|i| match i {
            register::MSR => self.model[i] & !SRR1_BITS,
            _ => self.model[i],
        })
        .collect()
    }

    /// Reads as the root task: the words, or the error. Nothing is written behind its message.
    fn read(&self, first: u64, count: u64) -> Result<Vec<u64>, E> {
        let rig = &self.guest.rig;
        let behind = IpcBufferLayout::MSG + WORDS..512;
        for i in behind.clone() {
            rig.set_buffer_word(rig.root, i, i as u64);
        }
        let answer = rig.invoke(self.guest.vcpu, L::VCPUReadRegisters, &[first, count], &[]);
        assert!(
            { behind }.all(|i| rig.buffer_word(rig.root, i) == i as u64),
            "{first} {count}: more than a message"
        );
        answer.map_err(|(error, _)| error)
    }

    fn check(&self, what: &dyn std::fmt::Debug) {
        for first in (0..COUNT).step_by(100) {
            let count = (COUNT - first).min(100);
            let words = self.read(first as u64, count as u64);
            let expected = self.shown(first, count);
            let words = words.expect("readable");
            for (i, (got, wanted)) in words.iter().zip(&expected).enumerate() {
                let name = register::NAMES[first + i];
                assert_eq!(got, wanted, "{name} after {what:?}");
            }
            assert_eq!(words.len(), count);
        }
        let v = self.guest.object();
        let unused = v.slb.iter().skip(2 * v.slb_used.get() as usize);
        assert!({ unused }.all(|word| word.get() == 0), "{what:?}");
    }

    fn write(&mut self, first: usize, values: &[u64], more: u64) {
        let count = values.len() as u64 + more;
        let mut words = vec![first as u64, count];
        words.extend(values);
        let answer = self
            .guest
            .rig
            .invoke(self.guest.vcpu, L::VCPUWriteRegisters, &words, &[]);
        let error = match () {
            () if first as u64 + count > COUNT as u64 => Some(E::RangeError),
            () if more != 0 => Some(E::TruncatedMessage),
            () => None,
        };
        assert_eq!(answer.map_err(|(e, _)| e).err(), error);
        if error.is_none() {
            for (i, value) in values.iter().enumerate() {
                self.model[first + i] = kept(first + i, *value);
            }
        }
    }

    fn exit(&mut self, hypercall: bool, answers: &[Reply]) {
        let g = &self.guest;
        g.invoke(L::VCPUResume, &[]);
        g.run();
        assert_eq!(self.read(0, 1), Err(E::IllegalOperation), "it runs");
        g.run();
        let mut outstanding = hypercall;
        if hypercall {
            g.hypercall(0x60);
            self.model[register::R3] = 0x60;
        } else {
            let k = g.rig.k();
            k.guest_exit(GuestExit::EmulationAssist, &[1, 2, 3]);
            k.finish();
        }
        let last = Reply {
            action: ReplyAction::Resume as u64,
            status: 0x8000_0000_0007,
            words: [!0; 8],
            length: 1,
        };
        for reply in answers.iter().chain([&last]) {
            let g = &self.guest;
            assert_eq!(g.state(), S::BlockedOnReply);
            let write = [register::R5 as u64, 1, 77];
            let refused = g.rig.invoke(g.vcpu, L::VCPUWriteRegisters, &write, &[]);
            assert_eq!(refused.map_err(|(e, _)| e), Err(E::IllegalOperation));
            self.check(reply);
            // Its other registers are its own.
            for (i, word) in reply.words.iter().enumerate() {
                g.rig.set_mr(g.server.t, i, *word);
            }
            let label = reply.action << 48 | reply.status;
            let words: Vec<u64> = reply.words.into_iter().cycle().take(reply.length).collect();
            g.rig.message(g.server.t, label, &words, &[]);
            g.rig.set_gpr(g.server.t, 14, g.server.reply);
            g.rig.syscall(g.server.t, syscall::REPLY_RECV, g.ep);
            if self.answered(reply, &mut outstanding) {
                break;
            }
            self.guest.exit(GuestExit::BadReply);
        }
        let g = &self.guest;
        g.run();
        assert_eq!(g.state(), S::Running);
        assert_eq!(g.invoke(L::VCPUPause, &[]), [1]);
    }

    /// What an answer does; whether the guest goes on.
    fn answered(&mut self, reply: &Reply, hypercall: &mut bool) -> bool {
        let inject = reply.action == ReplyAction::Inject as u64;
        if reply.action == 15 || reply.length > 8 || inject && reply.length != 8 {
            return false;
        }
        if std::mem::take(hypercall) {
            let status = reply.status << 16;
            self.model[register::R3] = (status as i64 >> 16) as u64;
            let results = if inject { 4 } else { reply.length };
            self.model[register::R4..][..results].copy_from_slice(&reply.words[..results]);
        }
        if !inject {
            return true;
        }
        let [.., vector, bits, dar, dsisr] = reply.words;
        if !(0x100..0x2000).contains(&vector) || vector % 32 != 0 || bits & !SRR1_BITS != 0 {
            return false;
        }
        let m = &mut self.model;
        let old = m[register::MSR];
        m[register::SRR0] = m[register::PC];
        m[register::SRR1] = old & !SRR1_BITS | bits;
        if [0x200, 0x300, 0x380, 0x600].contains(&vector) {
            (m[register::DAR], m[register::DSISR]) = (dar, dsisr);
        }
        let translated = old & IR_DR == IR_DR
            && m[register::LPCR] & AIL == AIL
            && vector != 0x100
            && vector != 0x200;
        let endian = if m[register::LPCR] & ILE != 0 { LE } else { 0 };
        (m[register::PC], m[register::MSR]) = if translated {
            (0xc000_0000_0000_4000 + vector, SF_ME | endian | IR_DR)
        } else {
            (vector, SF_ME | endian)
        };
        true
    }
}

/// Behind the last kilobyte of a frame, where a buffer may be, is another object's memory.
#[test]
fn vcpu0133_no_more_registers_are_read_than_a_message_has() {
    let game = Game::new();
    let all = game.read(0, COUNT as u64);
    assert_eq!(all, Ok(game.shown(0, WORDS)));
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn vcpu0132_registers_change_and_show_as_their_filters_say(steps in vec(step(), 1..16)) {
        let mut game = Game::new();
        game.check(&"begin");
        for step in &steps {
            match step {
                Step::Write { first, values, more } => game.write(*first, values, *more),
                Step::Read { first, count } => {
                    let good = (1..=(COUNT as u64).saturating_sub(*first)).contains(count);
                    let expected = if good {
                        // As many as a message has.
                        Ok(game.shown(*first as usize, (*count as usize).min(WORDS)))
                    } else {
                        Err(E::RangeError)
                    };
                    prop_assert_eq!(game.read(*first, *count), expected);
                }
                Step::Exit { hypercall, answers } => game.exit(*hypercall, answers),
            }
            game.check(step);
        }
        crate::invariants::check(&game.guest.rig);
    }
}
