// SPDX-License-Identifier: BSD-2-Clause
//! Guest memory through the view capability: a page is mapped only while it is used.

use crate::servers::request;
use core::ptr::NonNull;
use partita_guest_protocol::symbol::VIEW_SLOT;
use partita_papr::Gfn;
use partita_vcpu::{GuestMemory, NotBacked};
use sel4::{VmAttributes, cap_type};
use sel4_microkit::{cspace_cap, own_vspace};

const VIEW: sel4::cap::GSpaceView = cspace_cap::<cap_type::GSpaceView>(VIEW_SLOT);

/// The view's page of address space.
pub(crate) struct Memory {
    /// None: this instance does not touch guest memory.
    pub(crate) window: Option<NonNull<u8>>,
}

impl Memory {
    fn mapped(&self, page: Gfn) -> Result<Mapped, NotBacked> {
        let window = self.window.ok_or(NotBacked)?;
        let (gpa, vaddr) = (page.address().get(), window.addr().get());
        let map = || VIEW.view_map(own_vspace(), gpa, vaddr, VmAttributes::EXECUTE_NEVER);
        match map() {
            Ok(()) => return Ok(Mapped(window)),
            Err(sel4::Error::FailedLookup) => {}
            Err(_) => return Err(NotBacked),
        }
        if !request(page) {
            return Err(NotBacked);
        }
        map().map(|()| Mapped(window)).map_err(|_| NotBacked)
    }
}

/// The page is mapped here until this goes.
struct Mapped(NonNull<u8>);

impl Mapped {
    /// Byte `index` of the page; the callers' ranges end at 4096.
    fn byte(&self, index: usize) -> *mut u8 {
        self.0.as_ptr().wrapping_add(index & 0xfff)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // It fails only if the guest's memory is gone, and then nothing is mapped.
        let _ = VIEW.view_unmap();
    }
}

impl GuestMemory for Memory {
    fn read(&mut self, page: Gfn, offset: usize, buffer: &mut [u8]) -> Result<(), NotBacked> {
        let mapped = self.mapped(page)?;
        for (to, index) in buffer.iter_mut().zip(offset..) {
            // SAFETY: inside the page that is mapped now; the guest changes it at any time, so each
            // byte is read once.
            *to = unsafe { mapped.byte(index).read_volatile() };
        }
        Ok(())
    }

    fn write(&mut self, page: Gfn, offset: usize, bytes: &[u8]) -> Result<(), NotBacked> {
        let mapped = self.mapped(page)?;
        for (from, index) in bytes.iter().zip(offset..) {
            // SAFETY: as in `read`; the guest's memory is nobody's Rust object.
            unsafe { mapped.byte(index).write_volatile(*from) };
        }
        Ok(())
    }
}
