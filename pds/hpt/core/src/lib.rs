// SPDX-License-Identifier: BSD-2-Clause
//! The hash page table server: H_ENTER and its family, and the storage faults of one guest.
//!
//! The real table holds host real addresses, so only the kernel writes it ([`Table`]). This
//! library keeps what the guest sees: its two doublewords of each entry, and for each guest page
//! a chain of the entries that map it. It asks `memslots` ([`Pages`]) for pages that are not there
//! yet, and reads the memory slots ([`partita_srcu::Reader`]).
//!
//! * Several instances, one for each core, work on the same memory at the same time. So all state
//!   lies in regions that the caller provides ([`State`]), and the only mutual exclusion is the
//!   lock bits in them (S4.8): that of an entry outside, that of a chain inside it, that of the
//!   fault mode innermost. Who holds a chain may only try an entry's lock.
//! * No lock bit is ever held across a call to `memslots`; across a kernel invocation it is.
//! * A read section of the slot table lasts from the look-up until the entry is on its chain, so
//!   a slot that has drained has all its entries on chains.
//! * An entry that the guest owns but hardware may not use is ABSENT: it is on no chain, and while
//!   there is one, or one that is more restrictive than the guest's view, faults are intercepted
//!   ([`FaultMode`]).
//! * Nothing here allocates, and no input makes it panic: the guest controls every argument, and
//!   memory outside the regions is never touched.
//!
//! The server never grants the guest anything: what an entry may map, and with what rights, the
//! kernel decides from the GSpace.
#![no_std]
#![forbid(unsafe_code)]

mod bulk;
mod calls;
mod chain;
mod clear;
mod dirty;
mod enter;
mod fault;
mod fault_mode;
mod flush;
mod hypercall;
mod loop_guard;
mod page_init;
mod protect;
mod rc;
mod read;
mod remove;
mod state;
mod table;
mod verify;
mod vrma;

pub use fault::{Fault, FaultAction, cause};
pub use fault_mode::FaultMode;
pub use hypercall::{Outcome, Reply, Words};
pub use loop_guard::{LOOP, LoopGuard, Looping, WATCHED};
pub use state::{Control, RealHpte, Rev, State};
pub use table::{PageAnswer, Pages, Table, TableError};
pub use verify::{Checked, Violation};
pub use vrma::VrmaError;

use partita_guest_protocol::hpt as protocol;
use partita_papr::PageSize;
use partita_srcu::Reader;

/// Entries that one call of a long operation changes at most.
pub const BATCH: usize = protocol::BATCH as usize;
/// Words that one call of a long operation looks at at most.
pub const SCAN: u64 = protocol::SCAN;

/// One instance of the server.
#[derive(Debug)]
pub struct Hpt<'a, T, P> {
    state: State<'a>,
    slots: Reader<'a>,
    table: T,
    pages: P,
    vrma: PageSize,
}

/// How far a long operation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Complete.
    Done,
    /// Call again with the same cursor.
    More,
}

/// A range of guest pages that a long operation works through; it advances `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GfnRange {
    /// Next page to look at.
    pub next: u64,
    /// First page after the range.
    pub end: u64,
}

impl<'a, T: Table, P: Pages> Hpt<'a, T, P> {
    /// An instance over `state`. `vrma` is the page size of the virtual real mode area, the same
    /// that the kernel was given for this table.
    pub fn new(state: State<'a>, slots: Reader<'a>, table: T, pages: P, vrma: PageSize) -> Self {
        Hpt {
            state,
            slots,
            table,
            pages,
            vrma,
        }
    }

    /// The shared state, for statistics and the verification walker.
    pub fn state(&self) -> &State<'a> {
        &self.state
    }
}

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;
