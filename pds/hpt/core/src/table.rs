// SPDX-License-Identifier: BSD-2-Clause
//! What the server needs from others.

use partita_papr::{Gfn, Ptex};

/// Why the kernel refused an invocation on the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// The GSpace has no page there, or a smaller one (Insert only).
    NotMapped,
    /// The table is poisoned: no vCPU runs until it is cleared.
    Poisoned,
    /// Anything else: the request itself was wrong.
    Rejected,
}

/// Invocations on the hash page table object. Entries are in the guest's format (B in dw0) with
/// guest real addresses. Every change of a valid entry includes the tlbie sequence (S4.11, 5.7):
/// when the call returns, no processor uses the old translation and R and C are final.
pub trait Table {
    /// Writes a free entry: `v` has VALID set; R and C of `r` are written as they are, the rights
    /// are narrowed by those of the page in the GSpace, WIMG is M.
    fn insert(&self, ptex: Ptex, v: u64, r: u64) -> Result<(), TableError>;
    /// Empties a valid entry; returns its final R and C, in place (0x180).
    fn remove(&self, ptex: Ptex) -> Result<u64, TableError>;
    /// Empties up to four valid, different entries with one synchronisation; element `i` of the
    /// result is R and C of `entries[i]`. It fails before the first effect or not at all.
    fn remove_batch(&self, entries: &[Ptex]) -> Result<[u64; 4], TableError>;
    /// Gives a valid entry the protection in `r` ([`partita_papr::hcall::PROTECT_MASK`]), narrowed
    /// as in `insert`. R and C stay.
    fn update(&self, ptex: Ptex, r: u64) -> Result<(), TableError>;
    /// Clears the bits `rc` (a part of 0x180) of a valid entry and returns both bits as they were.
    fn clear_rc(&self, ptex: Ptex, rc: u64) -> Result<u64, TableError>;
    /// Empties the whole table and ends a poisoned state.
    fn clear(&self) -> Result<(), TableError>;
    /// Whether translated faults come to the server (true) or go to the guest. Returns when no
    /// vCPU runs in the old mode.
    fn set_fault_mode(&self, intercept: bool) -> Result<(), TableError>;
}

/// Answer of `memslots`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageAnswer {
    /// Done; the page is mapped in the GSpace.
    Ready,
    /// The page is being reclaimed: try later.
    Busy,
    /// No such page, no memory for it, or not allowed.
    Refused,
}

/// Calls to `memslots`. No lock bit is held while one runs; a read section may be.
pub trait Pages {
    /// Makes the 2^`shift` bytes from `gfn` present in the GSpace.
    fn request(&self, gfn: Gfn, shift: u32, write: bool) -> PageAnswer;
    /// Zeroes 2^`shift` bytes from `gfn`, which become present.
    fn zero(&self, gfn: Gfn, shift: u32) -> PageAnswer;
    /// Copies 4 KiB; both pages become present.
    fn copy(&self, to: Gfn, from: Gfn) -> PageAnswer;
}
