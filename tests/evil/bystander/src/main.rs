// SPDX-License-Identifier: BSD-2-Clause
//! Runs beside an attacker that has taken the place of a protection domain of a guest, and watches that
//! nothing happens to itself: its memory and its registers stay, its loop goes on, and the guest's real
//! hash page table, which it sees read-only, maps no memory but the guest's. In the debug configuration
//! it also asks the kernel to check that table against the guest's memory.
//!
//! It reports on a console of its own, for the attacker too, which has no console.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod registers;

#[cfg(target_arch = "powerpc64")]
mod pd {
    use crate::registers;
    use core::fmt::{self, Write};
    use evil::{Figures, GENTLE, OFFSET, Reports, TARGET};
    use partita_papr::hpte::{RPN_ISA30, SIZE, VALID};
    use partita_serial::{Client, Console};
    use sel4::{TIMEBASE_HZ, sel4_cfg};
    use sel4_microkit::{Channel, NullHandler, memory_region_symbol, protection_domain, var};
    use sel4_shared_memory::SharedMemoryRef;
    use testkit::{Random, checksum};

    /// Words of the region that nobody else has.
    const WORDS: usize = 0x1_0000 / 8;
    /// Entries of the table that are looked at in one round.
    const ENTRIES_A_ROUND: usize = 4096;
    /// Events of the guest that an attack needs in its first part, so that it hits a guest at work.
    const EVENTS: u64 = 300;
    /// Untyped capabilities of guest memory at most, and one more for smaller frames: each is one
    /// aligned block of real memory.
    const BLOCKS: usize = 8;
    /// Untyped capabilities that the memory is divided into (the system description's rule).
    const UNTYPED: u64 = 7;
    /// Rounds between two checks by the kernel.
    const AUDIT: u64 = 16;
    /// Ticks after which an attacker that makes no more calls has ended itself: 10 s.
    const ENDED: u64 = 10 * TIMEBASE_HZ;
    /// What an attack may take: 600 s, and 5 s for each thousand calls. The host may have other things to do.
    const PATIENCE: u64 = 600 * TIMEBASE_HZ + TARGET * (TIMEBASE_HZ / 200);
    /// Attackers at most.
    const REPORTS: usize = size_of::<Reports>() / size_of::<evil::Report>();

    /// What was wrong.
    enum Wrong {
        Memory { before: u64, after: u64 },
        Registers(u64),
        Table { entry: usize, real: u64 },
        Audit,
        Silent(Figures),
    }

    impl fmt::Display for Wrong {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Wrong::Memory { before, after } => {
                    write!(f, "TOUCHED: memory, {before:#x} is {after:#x}")
                }
                Wrong::Registers(difference) => write!(f, "TOUCHED: registers, {difference:#x}"),
                Wrong::Table { entry, real } => {
                    write!(
                        f,
                        "TOUCHED: entry {entry:#x} maps {real:#x}, no memory of the guest"
                    )
                }
                Wrong::Audit => write!(f, "TOUCHED: the kernel has found an entry, see its line"),
                Wrong::Silent(figures) => {
                    write!(
                        f,
                        "FAILED: {} calls, {} events",
                        figures.calls, figures.events
                    )
                }
            }
        }
    }

    /// The guest's real table, mapped read-only.
    struct Table {
        at: *const [u64; 2],
        entries: usize,
        next: usize,
        block_shift: u32,
        blocks: [Option<u64>; BLOCKS],
        allowed: usize,
        valid: u64,
    }

    impl Table {
        fn new() -> Self {
            let order = *var!(hpt_order: u64 = 0);
            let memory = *var!(guest_memory: u64 = 0);
            let block = memory.div_ceil(UNTYPED).next_power_of_two();
            let table = memory_region_symbol!(real_table: *mut [u64; 2]);
            Table {
                at: table.as_ptr(),
                entries: (1usize << order) / SIZE,
                next: 0,
                block_shift: block.trailing_zeros(),
                blocks: [None; BLOCKS],
                allowed: memory.div_ceil(block) as usize + 1,
                valid: 0,
            }
        }

        /// Looks at the next entries: all memory that entries ever map lies in as few blocks as the
        /// guest has.
        fn look(&mut self) -> Result<(), Wrong> {
            for _ in 0..ENTRIES_A_ROUND {
                // SAFETY: the image tool maps the table of so many entries there, read-only; the kernel
                // and hardware change it at any time.
                let [v, r] = unsafe { self.at.add(self.next).read_volatile() };
                let entry = self.next;
                self.next = (self.next + 1) % self.entries;
                if u64::from_be(v) & VALID == 0 {
                    continue;
                }
                self.valid += 1;
                let real = u64::from_be(r) & RPN_ISA30;
                let block = Some(real >> self.block_shift);
                let known = self.blocks.iter().take(self.allowed);
                if known.clone().any(|b| *b == block) {
                    continue;
                }
                let free = known.clone().position(|b| b.is_none());
                match free.and_then(|i| self.blocks.get_mut(i)) {
                    Some(free) => *free = block,
                    None => return Err(Wrong::Table { entry, real }),
                }
            }
            Ok(())
        }
    }

    /// Whether the kernel finds nothing wrong; it looks in the debug configuration only.
    #[sel4_cfg(PRINTING)]
    fn audit() -> bool {
        sel4::debug_audit_guests().is_some()
    }

    #[sel4_cfg(not(PRINTING))]
    fn audit() -> bool {
        true
    }

    struct Watch<F> {
        out: Client<F>,
        memory: &'static mut [u64],
        sum: u64,
        table: Table,
        reports: &'static Reports,
        attackers: usize,
        rounds: u64,
    }

    impl<F: Fn()> Watch<F> {
        fn round(&mut self) -> Result<(), Wrong> {
            self.rounds += 1;
            match registers::difference(self.rounds.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
                0 => {}
                difference => return Err(Wrong::Registers(difference)),
            }
            // The compiler must not take the contents for known.
            let memory = core::hint::black_box(&*self.memory);
            let after = checksum(memory.iter().copied());
            if after != self.sum {
                let before = self.sum;
                return Err(Wrong::Memory { before, after });
            }
            self.table.look()?;
            if self.rounds.is_multiple_of(AUDIT) && !audit() {
                return Err(Wrong::Audit);
            }
            Ok(())
        }

        fn line(&mut self, line: fmt::Arguments<'_>) {
            // Without its console nobody hears it, and the test fails.
            let _ = writeln!(self.out, "bystander: {line}");
        }

        /// The figures of all attackers.
        fn figures(&self) -> impl Iterator<Item = Figures> + use<F> {
            let reports = self.reports.iter().take(self.attackers);
            reports.map(evil::Report::get)
        }

        fn watch(&mut self) -> Result<(), Wrong> {
            let start = sel4::arch::timebase();
            let (mut shown, mut after_end) = (start, 0);
            let mut last = [(0, start); REPORTS];
            loop {
                self.round()?;
                let now = sel4::arch::timebase();
                if now - shown > 2 * TIMEBASE_HZ {
                    shown = now;
                    let rounds = self.rounds;
                    for i in 0..self.attackers {
                        let f = self.reports[i].get();
                        self.line(format_args!(
                            "{rounds} rounds, attacker {i}: {} calls, {} events",
                            f.calls, f.events
                        ));
                    }
                }
                let mut over = true;
                for (figures, last) in self.figures().zip(&mut last) {
                    // In its second part an attacker may end itself.
                    if figures.calls != last.0 {
                        *last = (figures.calls, now);
                    }
                    over &= figures.done || figures.calls >= GENTLE && now - last.1 > ENDED;
                }
                if now - start > PATIENCE {
                    let least = self.figures().min_by_key(|f| f.calls);
                    return Err(Wrong::Silent(least.unwrap_or_default()));
                }
                // Once around the table and the kernel's checks after the last call.
                if over {
                    after_end += 1;
                }
                if after_end > (self.table.entries / ENTRIES_A_ROUND) as u64 + AUDIT {
                    let few = |f: &Figures| f.calls < GENTLE || f.gentle_events < EVENTS;
                    return match self.figures().find(few) {
                        Some(figures) => Err(Wrong::Silent(figures)),
                        None => Ok(()),
                    };
                }
            }
        }
    }

    #[protection_domain]
    fn init() -> NullHandler {
        let console = memory_region_symbol!(console: *mut Console);
        // SAFETY: the system description maps a zeroed page there that only the serial server shares;
        // both access it with volatile and atomic accesses only.
        let console = unsafe { SharedMemoryRef::new(console) };
        let channel = Channel::new(*var!(serial: usize = 0));
        let mut memory = memory_region_symbol!(memory: *mut [u64], n = WORDS);
        // SAFETY: the system description maps a region of this size there, for this program alone.
        let memory: &'static mut [u64] = unsafe { memory.as_mut() };
        let mut random = Random::new(evil::SEED ^ 1);
        memory.fill_with(|| random.word());
        let reports = *var!(report: usize = 0);
        // SAFETY: the system description maps the attacker's page there, read-only, which lasts and of
        // which everybody accesses this part with atomic operations.
        let reports: &'static Reports =
            unsafe { &*core::ptr::with_exposed_provenance(reports + OFFSET) };
        let mut watch = Watch {
            out: Client::new(console, || channel.notify()),
            sum: checksum(memory.iter().copied()),
            memory,
            table: Table::new(),
            reports,
            attackers: (*var!(attackers: u64 = 1) as usize).min(REPORTS),
            rounds: 0,
        };
        match watch.watch() {
            Ok(()) => {
                let (rounds, valid) = (watch.rounds, watch.table.valid);
                for f in watch.figures() {
                    watch.line(format_args!(
                        "seed {:#x}: {} calls, {} carried out, {} events ({} in the first part), {} lies",
                        f.seed, f.calls, f.accepted, f.events, f.gentle_events, f.lies
                    ));
                }
                watch.line(format_args!(
                    "{rounds} rounds, {valid} valid entries seen: nothing was touched"
                ));
            }
            Err(wrong) => watch.line(format_args!("{wrong}")),
        }
        NullHandler::new()
    }
}
