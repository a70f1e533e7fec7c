// SPDX-License-Identifier: BSD-2-Clause
//! Guest memory through view capabilities.
//!
//! View n of the PD is in slot `VIEW_SLOT + n` and maps page n of the window. View 0 is the scratch
//! view, the others are three for each vCPU.

use core::ptr::NonNull;
use partita_guest_protocol::dirty::DirtyLog;
use partita_guest_protocol::{memslots, symbol};
use partita_papr::{Gfn, PAGE_SHIFT};
use partita_srcu::{Policy, ReadGuard, Reader, SlotFlags};
use partita_vpa::{GuestMemory, MapError, View};
use sel4::{CPtr, Cap, VmAttributes, cap};
use sel4_microkit::{Channel, MessageInfo, own_vspace};

/// Capability pointer of a slot of `<cspace>`.
pub(crate) const fn cptr(slot: usize) -> u64 {
    (slot as u64) << (64 - partita_abi::microkit::ROOT_CNODE_BITS)
}

fn number(view: View) -> usize {
    match view {
        View::Scratch => 0,
        View::Area(vcpu, area) => 1 + 3 * vcpu.number() as usize + area as usize,
    }
}

/// The capability of a view.
pub(crate) fn view_cap(view: View) -> cap::GSpaceView {
    Cap::from_cptr(CPtr::from_bits(cptr(symbol::VIEW_SLOT + number(view))))
}

/// Slot table, window of the views, dirty log, and the channel to `memslots`.
pub(crate) struct Views {
    reader: Reader<'static>,
    window: NonNull<u8>,
    log: Option<DirtyLog<'static>>,
    memslots: Channel,
}

impl Views {
    /// `window` is where the view capabilities map pages.
    pub(crate) fn new(
        reader: Reader<'static>,
        window: NonNull<u8>,
        log: Option<DirtyLog<'static>>,
        memslots: Channel,
    ) -> Self {
        Views {
            reader,
            window,
            log,
            memslots,
        }
    }

    /// Where a field of the page behind a view is.
    fn at<T>(&self, view: View, offset: u64) -> *mut T {
        let place =
            (number(view) << PAGE_SHIFT) + (offset as usize & 0xfff & !(size_of::<T>() - 1));
        self.window.as_ptr().wrapping_add(place).cast()
    }

    fn load<T>(&self, view: View, offset: u64) -> T {
        // SAFETY: the core library reads only through views that it has mapped (its own record says
        // so); the address is aligned and inside the view's page; any bits are a T (integers).
        unsafe { self.at::<T>(view, offset).read_volatile() }
    }

    fn store<T>(&mut self, view: View, offset: u64, value: T) {
        // SAFETY: as in `load`; the guest's memory is nobody's Rust object.
        unsafe { self.at::<T>(view, offset).write_volatile(value) }
    }
}

/// Whether the page may be used and written.
fn is_writable(slots: &ReadGuard<'_>, page: Gfn) -> bool {
    let slot = slots.lookup(page, Policy::Instantiate);
    slot.is_some_and(|slot| !slot.flags.contains(SlotFlags::READ_ONLY))
}

impl GuestMemory for Views {
    fn in_slot(&self, page: Gfn) -> bool {
        is_writable(&self.reader.read(), page)
    }

    fn map(&mut self, view: View, page: Gfn) -> Result<(), MapError> {
        // The slot may not be removed before the page is pinned: the read section lasts till then.
        let slots = self.reader.read();
        if !is_writable(&slots, page) {
            return Err(MapError::NoSlot);
        }
        let (vaddr, gpa) = (self.at::<u8>(view, 0).addr(), page.address().get());
        let map = || view_cap(view).view_map(own_vspace(), gpa, vaddr, VmAttributes::EXECUTE_NEVER);
        match map() {
            Ok(()) => return Ok(()),
            Err(sel4::Error::FailedLookup) => {}
            Err(_) => return Err(MapError::NoFrame),
        }
        let words = [page.get(), u64::from(PAGE_SHIFT) | memslots::WRITE];
        let request = MessageInfo::new(memslots::REQUEST, words.len());
        let (answer, _) = self.memslots.pp_call_mrs(request, words);
        if answer.label() != memslots::READY {
            return Err(MapError::NoFrame);
        }
        map().map_err(|_| MapError::NoFrame)
    }

    fn unmap(&mut self, view: View) {
        // It fails only if the guest is gone, and then nothing is mapped.
        let _ = view_cap(view).view_unmap();
    }

    fn read_u8(&self, view: View, offset: u64) -> u8 {
        self.load(view, offset)
    }

    fn read_u16(&self, view: View, offset: u64) -> u16 {
        u16::from_be(self.load(view, offset))
    }

    fn read_u32(&self, view: View, offset: u64) -> u32 {
        u32::from_be(self.load(view, offset))
    }

    fn read_u64(&self, view: View, offset: u64) -> u64 {
        u64::from_be(self.load(view, offset))
    }

    fn write_u8(&mut self, view: View, offset: u64, value: u8) {
        self.store(view, offset, value);
    }

    fn write_u32(&mut self, view: View, offset: u64, value: u32) {
        self.store(view, offset, value.to_be());
    }

    fn write_u64(&mut self, view: View, offset: u64, value: u64) {
        self.store(view, offset, value.to_be());
    }

    fn page_written(&mut self, page: Gfn) {
        if let Some(log) = self.log
            && self.reader.read().is_logged(page)
        {
            log.mark(page.get(), 1);
        }
    }
}
