// SPDX-License-Identifier: BSD-2-Clause
//! The memory that the system description maps.

use core::mem::align_of;
use partita_guest_protocol::layout::{SOURCES, TERMINALS};
use partita_vcpu::{InputRing, Shared, SourceState, VcpuState, VmState};
use sel4_microkit::{memory_region_symbol, var};

/// Files and figures of the guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest {
    pub(crate) kernel: &'static [u8],
    pub(crate) initrd_bytes: u64,
    pub(crate) cmdline: &'static [u8],
    pub(crate) memory_bytes: u64,
    pub(crate) hpt_order: u32,
    pub(crate) vcpus: u32,
}

/// `len` elements at `at`, which is moved behind them.
///
/// # Safety
///
/// There are so many there, valid for any bytes and for all of the program's life, which nobody
/// accesses but through shared references.
unsafe fn take<T>(at: &mut usize, len: usize) -> &'static [T] {
    let start = core::ptr::with_exposed_provenance::<T>(*at);
    debug_assert!(at.is_multiple_of(align_of::<T>()));
    *at += len * size_of::<T>();
    // SAFETY: as the caller says.
    unsafe { core::slice::from_raw_parts(start, len) }
}

/// The state of the guest: `layout::vm_state_bytes` says how it lies in its region.
pub(crate) fn shared(vcpus: u32) -> Shared<'static> {
    let mut at = memory_region_symbol!(vm_state: *mut VmState).addr().get();
    // SAFETY: the region is zero at first, stays mapped, and holds atomics only; the system
    // description gives it room for all of these.
    unsafe {
        Shared {
            vm: &take::<VmState>(&mut at, 1)[0],
            vcpus: take::<VcpuState>(&mut at, vcpus as usize),
            input: take::<InputRing>(&mut at, TERMINALS as usize),
            sources: take::<SourceState>(&mut at, SOURCES as usize),
        }
    }
}

/// A read-only file; nothing if it is not mapped.
fn file(vaddr: usize, bytes: usize) -> &'static [u8] {
    if vaddr == 0 || bytes == 0 {
        return &[];
    }
    // SAFETY: the image tool maps a file of so many bytes there, read-only for all.
    unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(vaddr), bytes) }
}

/// What the system description says of the guest.
pub(crate) fn guest() -> Guest {
    Guest {
        kernel: file(
            *var!(kernel_start: usize = 0),
            *var!(kernel_size: usize = 0),
        ),
        initrd_bytes: *var!(initrd_size: u64 = 0),
        cmdline: file(*var!(cmdline: usize = 0), *var!(cmdline_size: usize = 0)),
        memory_bytes: *var!(guest_memory: u64 = 0),
        hpt_order: *var!(hpt_order: u64 = 0) as u32,
        vcpus: *var!(vcpu_count: u64 = 0) as u32,
    }
}
