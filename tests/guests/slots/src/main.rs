// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: uses pages of two slots behind its memory, of 1 MiB each, while `control-probe` makes them INVALID,
//! brings them back, moves and deletes them (S3). Each page has an entry of 64 KiB and one of 4 KiB in it. The
//! program knows what it wrote last: the first slot keeps it whatever happens, the second may come back empty.
//!
//! An access while its page is not there is a data storage interrupt with the protection bit, an H_ENTER then is
//! H_PARAMETER. Anything else ends the program.
//!
//! It is told what to show next by a word of its mailbox that becomes 0, and says that it has by the address of its
//! SLB shadow, 128 bytes further for each.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
guest_support::guest_program!(program::main);

#[cfg(target_arch = "powerpc64")]
mod program {
    use guest_support::console::line;
    use guest_support::hypercall::hypercall;
    use guest_support::machine::Trap;
    use guest_support::memory::{read, write, write_be32};
    use guest_support::mmu::{Mapping, execute_translated, map_identity, segment};
    use guest_support::papr::PageSize;
    use guest_support::papr::hcall::number::{
        H_ENTER, H_PROTECT, H_READ, H_REGISTER_VPA, H_REMOVE,
    };
    use guest_support::papr::hcall::status::{H_NOT_FOUND, H_PARAMETER, H_SUCCESS};
    use guest_support::papr::hpte::{C, PP, R, VALID};
    use guest_support::trap::vector;
    use guest_support::{Guest, machine};

    /// Bytes of a slot, and of a page of it.
    const SLOT: u64 = 1 << 20;
    const PAGE: u64 = 1 << 16;
    const PIECES: usize = 4 * (SLOT / PAGE) as usize;
    /// Program, stacks and traps.
    const IDENTITY: u64 = 4 << 20;
    /// DSISR: the access is not permitted.
    const PROTECTION: u64 = 0x0800_0000;
    /// PP: read and write.
    const READ_WRITE: u64 = 2;
    /// How often it must have been without a page, and with it again, before it says so.
    const ENOUGH: u64 = 200;
    /// Every so many turns each entry is looked after.
    const CARE: u64 = 7;

    /// A part of a page, and the entry for it.
    #[derive(Clone, Copy)]
    struct Piece {
        ea: u64,
        gpa: u64,
        size: PageSize,
        /// In the slot whose contents stay.
        kept: bool,
        /// Index, dw0 and dw1.
        entry: Option<[u64; 3]>,
        /// What was written last; 0: nothing yet.
        value: u64,
        /// The last access was refused.
        waiting: bool,
    }

    #[derive(Clone, Copy, Default)]
    struct Counts {
        /// Accesses, and H_ENTERs, that were refused.
        waits: u64,
        refused: u64,
        /// Accesses that succeeded after one that was refused.
        back: u64,
        /// Pages that were empty again.
        fresh: u64,
    }

    struct Program {
        guest: &'static Guest,
        segments: [Mapping; 2],
        pieces: [Piece; PIECES],
        kept: Counts,
        other: Counts,
        turn: u64,
    }

    fn wrong(what: &str, piece: &Piece, found: u64) -> ! {
        line(format_args!(
            "slots: {what} at {:#x}: {found:#x}, last {:#x}: WRONG",
            piece.gpa, piece.value
        ));
        guest_support::runner::end()
    }

    fn expect(what: &str, piece: &Piece, status: i64, right: i64) {
        if status != right {
            wrong(what, piece, status as u64);
        }
    }

    /// Whether the page is not there; any other trap is wrong.
    fn is_wait(piece: &Piece, trap: Trap) -> bool {
        let protection = trap.dsisr & PROTECTION != 0 && trap.dar == piece.ea;
        if trap.vector != vector::DATA_STORAGE || !protection {
            wrong("trap", piece, trap.vector << 32 | trap.dsisr);
        }
        true
    }

    /// ld r3, 0(r4); blr
    static LOAD: [u32; 2] = [0xe864_0000, 0x4e80_0020];
    /// std r3, 0(r4); blr
    static STORE: [u32; 2] = [0xf864_0000, 0x4e80_0020];

    fn load(ea: u64) -> Result<u64, Trap> {
        let done = execute_translated(LOAD.as_ptr() as u64, [0, ea, 0, 0]);
        done.trap.map_or(Ok(done.gpr[0]), Err)
    }

    fn store(ea: u64, value: u64) -> Result<(), Trap> {
        let done = execute_translated(STORE.as_ptr() as u64, [value, ea, 0, 0]);
        done.trap.map_or(Ok(()), Err)
    }

    impl Program {
        /// Enters what has no entry, or reads and writes: what the page has must be what was written.
        fn use_piece(&mut self, number: usize) {
            let mut piece = self.pieces[number];
            let mut counts = if piece.kept { self.kept } else { self.other };
            self.turn += 1;
            if piece.entry.is_none() {
                self.enter(&mut piece, &mut counts);
            } else if self.access(&mut piece, &mut counts) {
                counts.back += u64::from(piece.waiting);
                piece.waiting = false;
            } else {
                counts.waits += 1;
                piece.waiting = true;
            }
            if (self.turn / PIECES as u64 + number as u64).is_multiple_of(CARE) {
                self.look_after(&mut piece);
            }
            self.pieces[number] = piece;
            *(if piece.kept {
                &mut self.kept
            } else {
                &mut self.other
            }) = counts;
        }

        fn enter(&self, piece: &mut Piece, counts: &mut Counts) {
            let segment = &self.segments[usize::from(piece.size == PageSize::Size4K)];
            let (v, r) = segment.entry(piece.ea, piece.gpa, piece.size, READ_WRITE);
            let group = segment.group(self.guest, piece.ea);
            let answer = hypercall(H_ENTER, [0, group, v, r]);
            match answer.status {
                H_SUCCESS => piece.entry = Some([answer.words[0], v, r]),
                H_PARAMETER => counts.refused += 1,
                status => wrong("H_ENTER", piece, status as u64),
            }
        }

        /// False: the page is not there.
        fn access(&self, piece: &mut Piece, counts: &mut Counts) -> bool {
            match load(piece.ea) {
                Ok(found) if found == piece.value => {}
                Ok(0) if !piece.kept => counts.fresh += 1,
                Ok(found) => wrong("contents", piece, found),
                Err(trap) => return !is_wait(piece, trap),
            }
            match store(piece.ea, self.turn) {
                Ok(()) => piece.value = self.turn,
                Err(trap) => return !is_wait(piece, trap),
            }
            true
        }

        /// What needs no page: it can be done whatever state the slot is in (S3.6).
        fn look_after(&self, piece: &mut Piece) {
            let Some([ptex, v, r]) = piece.entry else {
                return;
            };
            let same = |words: &[u64]| words[0] == v && words[1] & !(R | C) == r;
            let seen = hypercall(H_READ, [0, ptex]);
            expect("H_READ", piece, seen.status, H_SUCCESS);
            if !same(&seen.words) || v & VALID == 0 {
                wrong("H_READ", piece, seen.words[0]);
            }
            let changed = hypercall(H_PROTECT, [r & PP, ptex, 0]);
            expect("H_PROTECT", piece, changed.status, H_SUCCESS);
            self.remove(piece);
        }

        fn remove(&self, piece: &mut Piece) {
            let Some([ptex, v, r]) = piece.entry.take() else {
                return;
            };
            let gone = hypercall(H_REMOVE, [0, ptex, 0]);
            expect("H_REMOVE", piece, gone.status, H_SUCCESS);
            if gone.words[0] != v || gone.words[1] & !(R | C) != r {
                wrong("H_REMOVE", piece, gone.words[0]);
            }
            let again = hypercall(H_REMOVE, [0, ptex, 0]);
            expect("H_REMOVE again", piece, again.status, H_NOT_FOUND);
        }

        /// Goes on until it is told, and has seen enough.
        fn until(&mut self, mailbox: u64, step: u64, enough: impl Fn(&Program) -> bool) {
            loop {
                for number in 0..PIECES {
                    self.use_piece(number);
                }
                if read(mailbox + 8 * step) == 0 && enough(self) {
                    return;
                }
            }
        }

        /// Both slots are gone for good: nothing can be reached or made, everything can be removed.
        fn leave(&mut self) {
            for number in 0..PIECES {
                let mut piece = self.pieces[number];
                if piece.entry.is_some() {
                    match load(piece.ea) {
                        Ok(found) => wrong("a page of no slot", &piece, found),
                        Err(trap) => is_wait(&piece, trap),
                    };
                }
                self.remove(&mut piece);
                let mut counts = Counts::default();
                self.enter(&mut piece, &mut counts);
                if counts.refused != 1 {
                    wrong("H_ENTER without a slot", &piece, 0);
                }
            }
        }
    }

    /// Registers an area of vCPU 0.
    fn register(function: u64, address: u64) {
        let status = hypercall(H_REGISTER_VPA, [function << 45, 0, address]).status;
        if status != H_SUCCESS {
            line(format_args!("slots: H_REGISTER_VPA {status}: WRONG"));
            guest_support::runner::end()
        }
    }

    fn say(mailbox: u64, step: u64) {
        register(3, mailbox + 0x800 + 128 * step);
    }

    pub fn main(guest: &'static Guest) -> ! {
        let mailbox = guest.free[0];
        let vpa = mailbox + 0x1_0000;
        for word in 0..16 {
            write(mailbox + 8 * word, 1);
            write_be32(mailbox + 0x804 + 128 * word, 128);
        }
        // Bytes 4 and 5: 640.
        write_be32(vpa + 4, 640 << 16);
        if !map_identity(guest, IDENTITY) {
            line(format_args!("slots: no identity mapping: WRONG"));
            guest_support::runner::end()
        }
        let segments = [
            segment(1 << 40, 0x6001, PageSize::Size64K),
            segment(2 << 40, 0x6002, PageSize::Size4K),
        ];
        segments[0].load(1);
        segments[1].load(2);
        let pieces = core::array::from_fn(|i| {
            let small = i % 2 == 1;
            let within = (i as u64 / 2) * PAGE + if small { 0x3000 } else { 0 };
            Piece {
                ea: segments[usize::from(small)].base + within,
                gpa: guest.memory + within,
                size: if small {
                    PageSize::Size4K
                } else {
                    PageSize::Size64K
                },
                kept: within < SLOT,
                entry: None,
                value: 0,
                waiting: false,
            }
        });
        let mut program = Program {
            guest,
            segments,
            pieces,
            kept: Counts::default(),
            other: Counts::default(),
            turn: 0,
        };
        register(1, vpa);
        say(mailbox, 0);
        program.until(mailbox, 1, |p| {
            p.pieces.iter().all(|piece| piece.value != 0)
        });
        line(format_args!("slots: both are there"));
        say(mailbox, 1);
        let counts = |p: &Program| (p.kept.waits, p.kept.refused, p.kept.back);
        let (waits, refused, back) = counts(&program);
        program.until(mailbox, 2, |p| {
            p.kept.waits > waits + ENOUGH && p.kept.refused > refused && p.kept.back > back + ENOUGH
        });
        let (waits, refused, back) = counts(&program);
        line(format_args!(
            "slots: kept: {waits} accesses and {refused} entries refused, {back} pages back with their contents"
        ));
        say(mailbox, 2);
        program.until(mailbox, 3, |p| {
            p.other.fresh > ENOUGH && p.other.refused > 0
        });
        let Counts { waits, fresh, .. } = program.other;
        line(format_args!(
            "slots: deleted: {waits} accesses refused, {fresh} pages came back empty"
        ));
        say(mailbox, 3);
        program.until(mailbox, 4, |_| true);
        program.leave();
        line(format_args!("slots: nothing is left of them"));
        say(mailbox, 4);
        loop {
            machine::sleep(1 << 24);
        }
    }
}
