// SPDX-License-Identifier: BSD-2-Clause
//! Address spaces of PDs: radix trees, page tables, frames, PIDs.
//!
//! Levels of 13, 9, 9 and 9 bits over 4 KiB pages. User addresses end at 2^46, so the upper part of
//! the root is never walked; its last entry keeps the PID (as an invalid entry). A 64 KiB frame takes
//! sixteen consecutive entries of a 4 KiB table.

use crate::cap::{Cap, Frame, Mapping};
use crate::error::{LookupFailure, Outcome, SysError};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Ref, Slot};
use crate::syscall::Args;
use partita_abi::{CapRights, InvocationLabel, address_space as space, limits};

const VALID: u64 = 1 << 63;
const LEAF: u64 = 1 << 62;
const ADDR: u64 = 0x01ff_ffff_ffff_f000;
const REFERENCED: u64 = 0x100;
const CHANGED: u64 = 0x80;
/// Non-idempotent I/O: cache-inhibited and guarded.
const DEVICE: u64 = 0x20;
const READ: u64 = 0x4;
const WRITE: u64 = 0x2;
const READ_WRITE: u64 = READ | WRITE;
const EXECUTE: u64 = 0x1;
/// Index bits of the next level.
const NEXT_LEVEL: u64 = 9;
const ROOT_SHIFT: u32 = 39;
/// Entry of the root that keeps the PID.
const PID_ENTRY: u64 = 8191 * 8;

/// An entry of `Global::asid_pools` below this is not a pool, but the number of address spaces that
/// still have a PID of a deleted one.
const MIN_POOL: u64 = 4096;

/// Attribute bits of `PageMap`.
pub mod attribute {
    /// No instruction is fetched from the page.
    pub const EXECUTE_NEVER: u64 = 1;
    /// Of no effect: device memory is always mapped cache-inhibited and guarded, other memory never (DESIGN: two mappings
    /// of one page that differ in that are an error of the program on POWER, which a PD must not be able to make).
    pub const CACHE_INHIBITED: u64 = 2;
}

/// Where a walk ended.
struct Walk {
    /// Real address of the entry.
    entry: u64,
    /// log2 of the bytes that the entry maps.
    shift: u32,
    value: u64,
}

/// An entry that maps memory, as hardware reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedPage {
    /// First virtual address.
    pub vaddr: u64,
    /// Real address.
    pub addr: u64,
    /// log2 of the bytes.
    pub bits: u32,
    /// READ and WRITE.
    pub rights: CapRights,
    /// Instructions are fetched.
    pub execute: bool,
    /// Cache-inhibited and guarded.
    pub device: bool,
}

/// Everything that the address space with root `root` maps, by ascending address: for debugging.
pub fn pages<M: Machine>(m: &M, root: u64, visit: &mut impl FnMut(MappedPage)) {
    let entries = 1 << (space::USER_VSPACE_TOP.ilog2() + 1 - ROOT_SHIFT);
    table_pages(m, root, (ROOT_SHIFT, entries), 0, visit);
}

fn table_pages<M: Machine>(
    m: &M,
    table: u64,
    (bits, entries): (u32, u64),
    base: u64,
    visit: &mut impl FnMut(MappedPage),
) {
    for index in 0..entries {
        let value = m.read_pte(table + 8 * index);
        let vaddr = base + (index << bits);
        if value & VALID == 0 {
            continue;
        }
        if value & LEAF == 0 {
            let next = (bits - NEXT_LEVEL as u32, 1 << NEXT_LEVEL);
            table_pages(m, value & ADDR & !0xff, next, vaddr, visit);
            continue;
        }
        let mut rights = CapRights::NONE;
        for (bit, right) in [(READ, CapRights::READ), (WRITE, CapRights::WRITE)] {
            if value & bit != 0 {
                rights = rights.union(right);
            }
        }
        visit(MappedPage {
            vaddr,
            addr: value & ADDR,
            bits,
            rights,
            execute: value & EXECUTE != 0,
            device: value & DEVICE != 0,
        });
    }
}

impl<M: Machine> Kernel<'_, M> {
    /// PID of the address space with root `root`, 0 if it has none or its pool is gone.
    pub(crate) fn pid_of(&self, root: u64) -> u64 {
        let pid = self.m.read_pte(root + PID_ENTRY);
        if pid != 0 && self.root_of(pid) == Some(root) {
            pid
        } else {
            0
        }
    }

    /// Root of the address space with this PID.
    pub(crate) fn root_of(&self, pid: u64) -> Option<u64> {
        let per_pool = limits::ASIDS_PER_POOL as u64;
        let pool = self.g.asid_pools.get((pid / per_pool) as usize)?.get();
        if pool < MIN_POOL {
            return None;
        }
        match self.m.read_word(pool + 8 * (pid % per_pool)) {
            0 => None,
            root => Some(root),
        }
    }

    /// Walks to the entry for `vaddr` that maps 2^`shift` bytes, or to where the tree ends.
    fn walk(&self, root: u64, vaddr: u64, shift: u32) -> Walk {
        let mut table = root;
        let mut level = ROOT_SHIFT;
        loop {
            let index = (vaddr >> level) & if level == ROOT_SHIFT { 0x1fff } else { 0x1ff };
            let entry = table + 8 * index;
            let value = self.m.read_pte(entry);
            if level == shift || value & VALID == 0 || value & LEAF != 0 {
                return Walk {
                    entry,
                    shift: level,
                    value,
                };
            }
            table = value & ADDR & !0xff;
            level -= 9;
        }
    }

    /// The empty entry of a page of 2^`shift` bytes (12 or 21) at `vaddr`, whose tables are there.
    pub(crate) fn empty_entry(&self, root: u64, vaddr: u64, shift: u32) -> Outcome<u64> {
        let found = self.walk(root, vaddr, shift);
        if found.value & VALID != 0 {
            return Err(SysError::DeleteFirst.into());
        }
        if found.shift != shift {
            let failure = LookupFailure::MissingCapability {
                bits_left: u64::from(found.shift),
            };
            return Err(SysError::FailedLookup(false, failure).into());
        }
        Ok(found.entry)
    }

    /// Makes an empty entry a page of data.
    pub(crate) fn write_page(&self, entry: u64, page: u64, rights: CapRights, device: bool) {
        let access = if rights.contains(CapRights::WRITE) {
            READ_WRITE
        } else {
            READ
        };
        let io = if device { DEVICE } else { 0 };
        self.m.write_pte(
            entry,
            page | VALID | LEAF | REFERENCED | CHANGED | access | io,
        );
        self.m.sync_ptes();
    }

    /// Removes the page of 2^`shift` bytes at `vaddr` of `pid`, if it is still the one at real address `page`
    /// (another address space may have the PID by now).
    pub(crate) fn clear_entry(&self, pid: u64, vaddr: u64, shift: u32, page: u64) {
        let Some(root) = self.root_of(pid) else {
            return;
        };
        let found = self.walk(root, vaddr, shift);
        if found.shift == shift && found.value & VALID != 0 && found.value & ADDR == page {
            self.m.write_pte(found.entry, 0);
            self.m.flush_range(pid, vaddr, shift);
        }
    }

    /// Makes the 4 KiB page at `vaddr` of `pid` show other memory, with the same rights, if it is still the one at real
    /// address `old`. In one store: a thread on another core finds the one or the other, and is not refused.
    pub(crate) fn replace_page(&self, pid: u64, vaddr: u64, old: u64, new: u64) {
        let Some(root) = self.root_of(pid) else {
            return;
        };
        let found = self.walk(root, vaddr, 12);
        if found.shift == 12 && found.value & VALID != 0 && found.value & ADDR == old {
            self.m
                .write_pte(found.entry, found.value & !(ADDR | DEVICE) | new);
            self.m.flush_range(pid, vaddr, 12);
        }
    }

    pub(crate) fn invoke_frame(&self, slot: Ref<Slot>, f: Frame, args: &Args) -> Outcome<usize> {
        match args.label {
            InvocationLabel::PageMap => {
                let vaddr = self.arg(args, 0)?;
                let rights = CapRights::from_word(self.arg(args, 1)?);
                let attr = self.arg(args, 2)?;
                let space = self.cap_arg(args, 0)?.1;
                if let Cap::GSpace(g) = space {
                    self.map_guest_frame(slot, f, g, vaddr, rights)?;
                    return Ok(0);
                }
                let Cap::VSpace { addr: root } = space else {
                    return Err(SysError::InvalidCapability(1).into());
                };
                let pid = self.pid_of(root);
                if pid == 0 {
                    return Err(SysError::FailedLookup(false, LookupFailure::InvalidRoot).into());
                }
                self.map_frame(slot, f, root, pid, vaddr, rights, attr)?;
            }
            InvocationLabel::PageUnmap => {
                if let Some(mapping) = f.mapping {
                    if self.guest_frame_pinned(&f, &mapping) {
                        return Err(SysError::RevokeFirst.into());
                    }
                    self.unmap_frame(&f, mapping);
                    self.set_cap(slot, &Cap::Frame(Frame { mapping: None, ..f }));
                }
            }
            InvocationLabel::PageGetAddress => {
                self.set_message_register(args.thread, 0, f.addr);
                return Ok(1);
            }
            _ => return Err(SysError::IllegalOperation.into()),
        }
        Ok(0)
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn map_frame(
        &self,
        slot: Ref<Slot>,
        f: Frame,
        root: u64,
        pid: u64,
        vaddr: u64,
        rights: CapRights,
        attr: u64,
    ) -> Outcome {
        let size = 1u64 << f.bits;
        if !vaddr.is_multiple_of(size) {
            return Err(SysError::Alignment.into());
        }
        let top = space::USER_VSPACE_TOP as u64;
        if vaddr > top || size - 1 > top - vaddr {
            return Err(SysError::InvalidArgument(0).into());
        }
        let entry_shift = if f.bits == 21 { 21 } else { 12 };
        let found = self.walk(root, vaddr, entry_shift);
        if found.shift != entry_shift {
            // No table there, or a larger page in the way.
            let failure = LookupFailure::MissingCapability {
                bits_left: u64::from(found.shift),
            };
            return Err(if found.value & VALID != 0 {
                SysError::DeleteFirst.into()
            } else {
                SysError::FailedLookup(false, failure).into()
            });
        }
        let count = if f.bits == 16 { 16 } else { 1 };
        let remap = match f.mapping {
            Some(m) if m.pid == pid && m.vaddr == vaddr => true,
            // Mapped elsewhere: as in seL4, unmap it first.
            Some(m) if self.mapping_lives(&m) => {
                return Err(SysError::InvalidCapability(0).into());
            }
            _ => false,
        };
        for i in 0..count {
            let old = self.m.read_pte(found.entry + 8 * i);
            if old & VALID != 0 && !(remap && old & ADDR == f.addr + (i << 12)) {
                return Err(SysError::DeleteFirst.into());
            }
        }
        let rights = f.rights.intersection(rights);
        let mut bits = VALID | LEAF | REFERENCED | CHANGED;
        if rights.contains(CapRights::WRITE) {
            bits |= READ_WRITE;
        } else if rights.contains(CapRights::READ) {
            bits |= READ;
        }
        if attr & attribute::EXECUTE_NEVER == 0 && !f.device && bits & READ != 0 {
            bits |= EXECUTE;
        }
        if f.device {
            bits |= DEVICE;
        }
        if remap {
            // Break before make: hardware may hold the old entry.
            for i in 0..count {
                self.m.write_pte(found.entry + 8 * i, 0);
            }
            self.m.flush_range(pid, vaddr, f.bits);
        }
        for i in 0..count {
            self.m
                .write_pte(found.entry + 8 * i, (f.addr + (i << 12)) | bits);
        }
        self.m.sync_ptes();
        if bits & EXECUTE != 0 {
            self.m.sync_instructions(f.addr, size);
        }
        self.set_cap(
            slot,
            &Cap::Frame(Frame {
                mapping: Some(Mapping { pid, vaddr }),
                ..f
            }),
        );
        Ok(())
    }

    /// Removes a frame's mapping if it is still the one that the capability remembers.
    pub(crate) fn unmap_frame(&self, f: &Frame, mapping: Mapping) {
        if mapping.lpid().is_some() {
            return self.unmap_guest_frame(f, &mapping);
        }
        let Some(root) = self.root_of(mapping.pid) else {
            return;
        };
        let entry_shift = if f.bits == 21 { 21 } else { 12 };
        let found = self.walk(root, mapping.vaddr, entry_shift);
        if found.shift != entry_shift {
            return;
        }
        let count = if f.bits == 16 { 16 } else { 1 };
        let mut removed = false;
        for i in 0..count {
            let value = self.m.read_pte(found.entry + 8 * i);
            if value & VALID != 0 && value & LEAF != 0 && value & ADDR == f.addr + (i << 12) {
                self.m.write_pte(found.entry + 8 * i, 0);
                removed = true;
            }
        }
        if removed {
            self.m.flush_range(mapping.pid, mapping.vaddr, f.bits);
        }
    }

    pub(crate) fn invoke_page_table(
        &self,
        slot: Ref<Slot>,
        addr: u64,
        mapping: Option<Mapping>,
        args: &Args,
    ) -> Outcome<usize> {
        match args.label {
            InvocationLabel::PageTableMap => {
                let vaddr = self.arg(args, 0)?;
                let _attr = self.arg(args, 1)?;
                let Cap::VSpace { addr: root } = self.cap_arg(args, 0)?.1 else {
                    return Err(SysError::InvalidCapability(1).into());
                };
                let pid = self.pid_of(root);
                if pid == 0 {
                    return Err(SysError::FailedLookup(false, LookupFailure::InvalidRoot).into());
                }
                // Also if that address space is gone: the table has old entries until it is unmapped.
                if mapping.is_some() {
                    return Err(SysError::InvalidCapability(0).into());
                }
                self.map_table(slot, addr, root, pid, vaddr)?;
            }
            InvocationLabel::PageTableUnmap => {
                if !self.is_final(slot) {
                    return Err(SysError::RevokeFirst.into());
                }
                if let Some(mapping) = mapping {
                    self.unmap_table(addr, mapping);
                    self.set_cap(
                        slot,
                        &Cap::PageTable {
                            addr,
                            mapping: None,
                        },
                    );
                    self.m.clear(addr, 4096);
                }
            }
            _ => return Err(SysError::IllegalOperation.into()),
        }
        Ok(0)
    }

    pub(crate) fn map_table(
        &self,
        slot: Ref<Slot>,
        addr: u64,
        root: u64,
        pid: u64,
        vaddr: u64,
    ) -> Outcome {
        if vaddr > space::USER_VSPACE_TOP as u64 {
            return Err(SysError::InvalidArgument(0).into());
        }
        let found = self.walk(root, vaddr, 12);
        if found.value & VALID != 0 || found.shift == 12 {
            return Err(SysError::DeleteFirst.into());
        }
        let vaddr = vaddr & !((1 << found.shift) - 1);
        self.m.write_pte(found.entry, VALID | addr | NEXT_LEVEL);
        self.m.sync_ptes();
        self.set_cap(
            slot,
            &Cap::PageTable {
                addr,
                mapping: Some(Mapping { pid, vaddr }),
            },
        );
        Ok(())
    }

    /// Takes a page table out of its tree.
    pub(crate) fn unmap_table(&self, addr: u64, mapping: Mapping) {
        let Some(root) = self.root_of(mapping.pid) else {
            return;
        };
        for shift in [39, 30, 21] {
            let found = self.walk(root, mapping.vaddr, shift);
            if found.shift == shift
                && found.value & VALID != 0
                && found.value & LEAF == 0
                && found.value & ADDR == addr
            {
                self.m.write_pte(found.entry, 0);
                self.m.flush_range(mapping.pid, mapping.vaddr, shift);
                return;
            }
        }
    }

    pub(crate) fn invoke_asid_control(&self, args: &Args) -> Outcome<usize> {
        if args.label != InvocationLabel::ASIDControlMakePool {
            return Err(SysError::IllegalOperation.into());
        }
        let (index, depth) = (self.arg(args, 0)?, self.arg(args, 1)?);
        let (untyped_slot, untyped) = self.cap_arg(args, 0)?;
        let (_, root) = self.cap_arg(args, 1)?;
        let Some(pool) = self.g.asid_pools.iter().position(|p| p.get() == 0) else {
            return Err(SysError::DeleteFirst.into());
        };
        let Cap::Untyped(u) = untyped else {
            return Err(SysError::InvalidCapability(1).into());
        };
        if u.bits != 12 || u.device {
            return Err(SysError::InvalidCapability(1).into());
        }
        self.ensure_no_children(untyped_slot)?;
        let dest = self.lookup_target(root, index, depth, false)?;
        self.ensure_empty(dest)?;

        self.m.clear(u.addr, 4096);
        self.set_cap(
            untyped_slot,
            &Cap::Untyped(crate::cap::Untyped { free: 4096, ..u }),
        );
        self.g.asid_pools[pool].set(u.addr);
        self.insert_child(
            &Cap::AsidPool {
                addr: u.addr,
                index: pool,
            },
            untyped_slot,
            dest,
        );
        Ok(0)
    }

    pub(crate) fn invoke_asid_pool(&self, addr: u64, index: usize, args: &Args) -> Outcome<usize> {
        if args.label != InvocationLabel::ASIDPoolAssign {
            return Err(SysError::IllegalOperation.into());
        }
        let Cap::VSpace { addr: root } = self.cap_arg(args, 0)?.1 else {
            return Err(SysError::InvalidCapability(1).into());
        };
        // Also if its PID died with a pool: what was unmapped since is still in its tables.
        if self.m.read_pte(root + PID_ENTRY) != 0 {
            return Err(SysError::InvalidCapability(1).into());
        }
        self.assign_pid(addr, index, root)?;
        Ok(0)
    }

    pub(crate) fn assign_pid(&self, pool: u64, index: usize, root: u64) -> Outcome {
        let per_pool = limits::ASIDS_PER_POOL as u64;
        // PID 0 is never handed out.
        let first = u64::from(index == 0);
        let Some(free) = (first..per_pool).find(|i| self.m.read_word(pool + 8 * i) == 0) else {
            return Err(SysError::DeleteFirst.into());
        };
        let pid = index as u64 * per_pool + free;
        self.m.write_word(pool + 8 * free, root);
        self.m.write_pte(root + PID_ENTRY, pid);
        self.m.set_pid_root(pid, root);
        Ok(())
    }

    /// An address space ends: its PID is free again.
    pub(crate) fn release_pid(&self, root: u64) {
        let pid = self.m.read_pte(root + PID_ENTRY);
        if pid == 0 {
            return;
        }
        let per_pool = limits::ASIDS_PER_POOL as u64;
        self.m.write_pte(root + PID_ENTRY, 0);
        let Some(pool) = self.g.asid_pools.get((pid / per_pool) as usize) else {
            return;
        };
        if pool.get() >= MIN_POOL {
            self.m.set_pid_root(pid, 0);
            self.m.write_word(pool.get() + 8 * (pid % per_pool), 0);
        } else {
            pool.set(pool.get().saturating_sub(1));
        }
    }

    /// An ASID pool ends: its address spaces cannot be used any more. Threads still carry their PIDs,
    /// so the PIDs are not handed out again before those address spaces are gone.
    pub(crate) fn release_pool(&self, addr: u64, index: usize) {
        let mut left = 0;
        for i in 0..limits::ASIDS_PER_POOL as u64 {
            if self.m.read_word(addr + 8 * i) != 0 {
                self.m
                    .set_pid_root(index as u64 * limits::ASIDS_PER_POOL as u64 + i, 0);
                left += 1;
            }
        }
        if let Some(pool) = self.g.asid_pools.get(index) {
            pool.set(left);
        }
    }
}
