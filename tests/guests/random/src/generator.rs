// SPDX-License-Identifier: BSD-2-Clause
//! Hypercalls by chance, many of them plausible.

use guest_support::memory::{write, write_be32};
use guest_support::papr::hcall::flags;
use guest_support::papr::hcall::number::*;
use guest_support::papr::hpte;
use guest_support::{Guest, Random};

/// A hypercall.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// r3.
    pub number: u64,
    /// r4 to r11.
    pub args: [u64; 8],
}

/// What is offered; the table's calls more often.
const NUMBERS: &[u64] = &[
    H_ENTER,
    H_ENTER,
    H_ENTER,
    H_ENTER,
    H_ENTER,
    H_ENTER,
    H_REMOVE,
    H_REMOVE,
    H_REMOVE,
    H_READ,
    H_CLEAR_MOD,
    H_CLEAR_REF,
    H_PROTECT,
    H_PROTECT,
    H_BULK_REMOVE,
    H_BULK_REMOVE,
    H_PAGE_INIT,
    H_CLEAR_HPT,
    H_REGISTER_PROC_TBL,
    H_REGISTER_VPA,
    H_REGISTER_VPA,
    H_CEDE,
    H_PROD,
    H_CONFER,
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
    H_RTAS,
    H_SET_MODE,
    H_JOIN,
    H_SIGNAL_SYS_RESET,
    H_GET_CPU_CHARACTERISTICS,
    H_SET_SPRG0,
    H_SET_DABR,
    H_SET_XDABR,
];

/// Bytes of a large page.
const LARGE: u64 = 16 << 20;
/// Flags of the table's calls.
const FLAGS: &[u64] = &[
    0,
    0,
    flags::EXACT,
    flags::AVPN,
    flags::ANDCOND,
    flags::READ_4,
    flags::R_XLATE,
    flags::ZERO_PAGE,
    flags::COPY_PAGE,
    flags::LOCAL,
    flags::LARGE_PAGE,
    flags::PAGE_STATE,
    flags::ICACHE_SYNCHRONIZE,
    3,
    0x3f07,
];

/// Services that end the guest or stop the vCPU.
const DEADLY: &[&str] = &["power-off", "system-reboot", "ibm,os-term", "stop-self"];

/// Makes calls.
pub struct Generator {
    random: Random,
    /// Memory that calls may name and change.
    play: [u64; 2],
    /// Memory that no call may change.
    canary: [u64; 2],
    memory: u64,
    entries: u64,
    vcpus: u64,
    deadly: [u32; 4],
}

impl Generator {
    /// Calls that depend on `seed`.
    pub fn new(guest: &Guest, seed: u64) -> Self {
        let canary = [guest.free[0], guest.free[0] + 0x2_0000];
        Generator {
            random: Random::new(seed),
            play: [canary[1], guest.free[1]],
            canary,
            memory: guest.memory,
            entries: guest.hpt.entries(),
            vcpus: guest.vcpus as u64,
            deadly: core::array::from_fn(|i| guest.token(DEADLY[i]).unwrap_or(0)),
        }
    }

    /// Memory that no call may change.
    pub fn canary(&self) -> [u64; 2] {
        self.canary
    }

    /// Whether several vCPUs make calls, so that each is hit by those of others at any time.
    fn shared(&self) -> bool {
        self.vcpus > 1
    }

    /// Whether an entry of the virtual real mode area can be at this index: in the first and the last
    /// groups, as many as there are pages of memory.
    fn may_be_own(&self, ptex: u64) -> bool {
        let pages = self.memory >> 16;
        let (group, groups) = (ptex / 8, self.entries / 8);
        group < groups && (group < pages || group >= groups.saturating_sub(pages))
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random.below(one_in) == 0
    }

    /// A number of any size: few or many bits.
    fn any(&mut self) -> u64 {
        let shift = self.random.below(64);
        match self.random.below(4) {
            0 => self.random.word() >> shift,
            1 => 1 << shift,
            2 => !(self.random.word() >> shift),
            _ => self.random.below(8),
        }
    }

    /// An address that may be written: to play with, or beyond memory.
    fn address(&mut self) -> u64 {
        let room = self.play[1] - self.play[0];
        let inside = self.play[0] + self.random.below(room);
        match self.random.below(8) {
            0 => self.memory + (self.any() & ((1 << 59) - 1)),
            1 => inside & !0x7f,
            2 => inside,
            3 => (inside & !0xfff) | 0xff0,
            _ => inside & !0xfff,
        }
    }

    fn ptex(&mut self) -> u64 {
        if self.chance(16) {
            return self.any();
        }
        // Few groups, so that they fill and calls meet entries.
        let group = self.random.below(64) * 131;
        (group * 8 + self.random.below(8)) % self.entries
    }

    fn dw0(&mut self) -> u64 {
        if self.chance(16) {
            // Never an entry of the virtual real mode area: bit 27 of its segment number is clear.
            return self.any() | 1 << 51;
        }
        let b = self.random.pick(&[0, 0, 1, 1, 1, 2, 3u64]) << 62;
        let avpn = (0x7000 + self.random.below(16)) << 24 | self.random.below(64) << 7;
        b | avpn | self.random.below(128)
    }

    fn dw1(&mut self, writes: bool) -> u64 {
        let mut page = if writes || self.chance(2) {
            self.address() & !0xffff
        } else {
            self.random.below(self.memory)
        };
        let mut lp = self
            .random
            .pick(&[0x1000, 0x7000, 0, 0x8000, 0x3_8000, 0x3000]);
        // A page of 16 MiB that is written must not be that of the program; and it takes its time.
        if writes && [0, 0x8000, 0x3_8000].contains(&lp) {
            let first = self.play[0].next_multiple_of(LARGE);
            let pages = self.play[1].saturating_sub(first) / LARGE;
            if pages == 0 || !self.chance(32) {
                lp = 0x1000;
            } else {
                page = first + self.random.below(pages) * LARGE;
            }
        }
        let bits = self.random.word() & !hpte::RPN;
        // Mostly plain memory.
        let bits = if self.chance(4) {
            bits
        } else {
            hpte::M | bits & 3
        };
        (page & hpte::RPN & !0xf000) | lp | bits
    }

    fn flags(&mut self) -> u64 {
        let one = self.random.pick(FLAGS);
        let two = self.random.pick(FLAGS);
        match self.random.below(8) {
            0 => one | two,
            1 => self.any(),
            _ => one,
        }
    }

    /// The next call; what it needs in memory is there.
    pub fn next_call(&mut self) -> Call {
        let mut args = core::array::from_fn(|_| self.any());
        if self.chance(32) {
            let number = self.any();
            // Whatever it is: if it is one of those, it gets arguments for it.
            if !NUMBERS.contains(&number) {
                return Call { number, args };
            }
        }
        let number = match self.random.pick(NUMBERS) {
            // Only the other vCPU wakes it, and both are to be at work.
            H_JOIN if self.shared() && !self.chance(32) => H_PROD,
            number => number,
        };
        match number {
            H_ENTER => {
                args[0] = self.flags();
                args[1] = self.ptex();
                args[2] = self.dw0();
                args[3] = self.dw1(args[0] & flags::ZERO_PAGE != 0);
            }
            H_REMOVE | H_READ | H_CLEAR_MOD | H_CLEAR_REF | H_PROTECT => {
                args[0] = self.flags();
                args[1] = self.ptex();
                if number == H_PROTECT && self.shared() && self.may_be_own(args[1]) {
                    // Looking first would not do: the entry may be made in between.
                    args[1] = self.entries / 2;
                }
                args[2] = self.dw0();
            }
            H_BULK_REMOVE => {
                for pair in args.as_chunks_mut::<2>().0 {
                    let kind = self.random.pick(&[0, 1, 1, 1, 1, 1, 1, 2, 3u64]) << 62;
                    let condition = self.random.pick(&[0, 0, 1, 2, 3u64]) << 56;
                    *pair = [
                        kind | condition | (self.ptex() & ((1 << 56) - 1)),
                        self.dw0(),
                    ];
                }
            }
            H_PAGE_INIT => {
                args[0] = self.flags();
                args[1] = self.address();
                args[2] = (self.random.word() % (2 * self.memory)) & !0xfff;
            }
            H_REGISTER_VPA => {
                args[0] = self.random.below(8) << 45 | self.any() & 0xffff;
                let vcpu = self.random.below(self.vcpus);
                args[1] = if self.chance(4) { self.any() } else { vcpu };
                args[2] = self.address();
                if args[2] < self.memory && args[2] & 7 == 0 {
                    let length = self.random.pick(&[640, 1024, 48, 16, 7, 4096]);
                    write_be32(args[2] + 4, length << (16 * self.random.below(2)));
                }
            }
            H_RTAS => self.rtas(&mut args),
            H_SET_MODE => {
                args[0] = self.random.below(5);
                args[1] = self.random.below(7);
                args[2] = if self.chance(2) { 0 } else { self.any() };
                args[3] = if self.chance(2) { 0 } else { self.any() };
                if args[1] == 4 && self.shared() {
                    // Another vCPU may take an interrupt at once: in the program's byte order.
                    args[0] = 1;
                }
                if args[1] == 1 {
                    // A breakpoint of user state, of which there is none, or the hypervisor's.
                    args[2] = (args[2] & !3) | self.random.pick(&[0, 1, 3]);
                }
            }
            H_PUT_TERM_CHAR => {
                args[0] = if self.chance(2) { 0 } else { args[0] };
                // Nothing that would be read as a result.
                args[1] = if args[1] <= 16 { 0 } else { args[1] };
            }
            H_PROD | H_CONFER | H_IPI | H_IPOLL if self.chance(2) => {
                args[0] = self.random.below(self.vcpus);
            }
            H_SIGNAL_SYS_RESET if self.chance(2) => {
                args[0] = self.random.pick(&[self.vcpus - 1, 0, !0, !1]);
            }
            _ => {}
        }
        Call { number, args }
    }

    /// A word of an argument block that may stand at `index` of it at any time: never a deadly token, never
    /// a buffer in the program's memory.
    fn rtas_word(&mut self, index: u64) -> u32 {
        match index {
            0 => {
                let token = 0x2000 + self.random.below(18) as u32;
                if self.deadly.contains(&token) {
                    0
                } else {
                    token
                }
            }
            1 | 2 => self.random.below(9) as u32,
            _ => match self.random.below(3) {
                0 => self.memory as u32 | self.any() as u32,
                _ => self.play[0] as u32 + self.random.below(self.play[1] - self.play[0]) as u32,
            },
        }
    }

    /// Changes some words of `call`'s memory, which another vCPU makes or has made.
    pub fn disturb(&mut self, number: u64, memory: u64) {
        let [start, end] = self.play;
        if memory < start || memory + 4096 > end || !memory.is_multiple_of(4) {
            return;
        }
        for _ in 0..self.random.below(16) {
            match number {
                H_RTAS => {
                    let index = self.random.below(24);
                    let word = self.rtas_word(index);
                    write_be32(memory + 4 * index, word);
                }
                // An area: its length, the words that the hypervisor writes, anything else. Should an
                // argument block be there by now, these do no harm either.
                _ => {
                    let (index, word) = match self.random.below(4) {
                        0 => (1, (self.random.below(1 << 12) as u32) << 16),
                        1 => (0x100 / 4, self.rtas_word(3)),
                        _ => (self.random.below(1024), self.rtas_word(3)),
                    };
                    write_be32(memory + 4 * index, word);
                }
            }
        }
    }

    fn rtas(&mut self, args: &mut [u64; 8]) {
        let block = self.address() & !3;
        args[0] = block | self.random.below(2) << 60;
        if block >= self.memory || block + 128 > self.play[1] {
            return;
        }
        let mut token = 0x2000 + self.random.below(18) as u32;
        if self.deadly.contains(&token) {
            token = 0x2001;
        }
        let count = |me: &mut Self| match me.random.below(4) {
            0 => me.any() as u32,
            _ => me.random.below(9) as u32,
        };
        let mut words = [0; 24];
        for word in &mut words {
            *word = self.any() as u32;
        }
        words[0] = token;
        words[1] = count(self);
        words[2] = count(self);
        // A buffer, if the service has one.
        words[4] = self.address() as u32;
        if u64::from(words[4]) < self.play[0] {
            words[4] = self.play[0] as u32;
        }
        // Nothing that would be read as a result.
        if token == 0x2008 {
            words[3] = u32::from(b' ');
        }
        let start = block & !7;
        write(start, 0);
        for (i, word) in words.into_iter().enumerate() {
            write_be32(block + 4 * i as u64, word);
        }
    }
}
