// SPDX-License-Identifier: BSD-2-Clause
//! What an instance needs from its surroundings.

use crate::{Area, VcpuId};
use partita_papr::{Gfn, GuestReal};

/// One of the view capabilities an instance has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// For reading the header of an area that is being registered.
    Scratch,
    /// For one area of one vCPU.
    Area(VcpuId, Area),
}

/// Why a guest page cannot be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No slot has the page, or it is being deleted, or it is read-only.
    NoSlot,
    /// The slot has it, but there is no frame for it, or it is being reclaimed.
    NoFrame,
}

/// Guest memory, one 4 KiB piece a view.
///
/// Reads and writes are single volatile accesses of big-endian memory; values are numbers. `offset`
/// is below 4096 and a multiple of the access size. An access through a view that is not mapped is
/// a bug of the caller: reads answer 0, writes do nothing.
pub trait GuestMemory {
    /// Whether a valid, writable slot has the 4 KiB page. Calls nobody.
    fn in_slot(&self, page: Gfn) -> bool;
    /// Maps the page through the view, which is unmapped; asks `memslots` for a frame if there is
    /// none yet. A mapped view pins the page.
    fn map(&mut self, view: View, page: Gfn) -> Result<(), MapError>;
    /// Unmaps the view; nothing happens if it is not mapped.
    fn unmap(&mut self, view: View);
    /// One byte.
    fn read_u8(&self, view: View, offset: u64) -> u8;
    /// Two bytes.
    fn read_u16(&self, view: View, offset: u64) -> u16;
    /// Four bytes.
    fn read_u32(&self, view: View, offset: u64) -> u32;
    /// Eight bytes.
    fn read_u64(&self, view: View, offset: u64) -> u64;
    /// One byte.
    fn write_u8(&mut self, view: View, offset: u64, value: u8);
    /// Four bytes.
    fn write_u32(&mut self, view: View, offset: u64, value: u32);
    /// Eight bytes.
    fn write_u64(&mut self, view: View, offset: u64, value: u64);
    /// Puts the page into the dirty log of its slot, if it still has one.
    fn page_written(&mut self, page: Gfn);
}

/// Where a vCPU is when its entry is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// In the guest or on its way: it makes an `Entry` exit before it is there again.
    InGuestOrEntering,
    /// Idle, stopped, paused or in a call. It also makes an `Entry` exit before it enters.
    Out,
}

/// What `vpa` may ask of the kernel for a vCPU.
pub trait Kernel {
    /// `VCPU_RequestEntry`: latches an `Entry` exit, kicks the vCPU, says where it is. `every_dispatch`:
    /// whether from now on every dispatch makes such an exit.
    fn request_entry(&mut self, vcpu: VcpuId, every_dispatch: bool) -> EntryState;
    /// `VCPU_BindDispatchCounter` to the aligned word at guest real address `word`, through the view
    /// of the VPA, which is mapped. Gives the word the parity of the present state and replaces an
    /// earlier binding.
    fn bind_dispatch_counter(&mut self, vcpu: VcpuId, word: GuestReal) -> Result<(), MapError>;
    /// Ends the binding; nothing happens if there is none.
    fn unbind_dispatch_counter(&mut self, vcpu: VcpuId);
}
