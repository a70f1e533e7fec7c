// SPDX-License-Identifier: BSD-2-Clause
//! Second address spaces.

use crate::check::{Failure, Outcome};
use crate::kit::{Kit, WINDOW};
use sel4::init_thread::slot;
use sel4::{
    Cap, CapRights, CapTypeForFrameObject, Error, FrameObjectType, ObjectBlueprintArch,
    VmAttributes, cap,
};

const PAGE: usize = FrameObjectType::GRANULE.bytes();
/// Where a page is mapped while it is filled: the last of [`WINDOW`].
const SCRATCH: usize = WINDOW + 0x20_0000 - PAGE;

/// Pages of the largest program that can be copied.
const MAX_PAGES: usize = 384;

/// An address space with a PID.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// Its root.
    pub root: cap::VSpace,
}

impl Space {
    /// An empty address space.
    pub fn new(kit: &mut Kit) -> Outcome<Space> {
        let root: cap::VSpace = kit.object(ObjectBlueprintArch::VSpace.into())?;
        slot::ASID_POOL.cap().asid_pool_assign(root)?;
        Ok(Space { root })
    }

    /// Maps a frame, adding page tables as needed.
    pub fn map<T: CapTypeForFrameObject>(
        &self,
        kit: &mut Kit,
        frame: Cap<T>,
        vaddr: usize,
        rights: CapRights,
        attributes: VmAttributes,
    ) -> Outcome {
        for _ in 0..4 {
            match frame.frame_map(self.root, vaddr, rights, attributes) {
                Err(Error::FailedLookup) => {}
                other => return Ok(other?),
            }
            let table: cap::PT = kit.object(ObjectBlueprintArch::PT.into())?;
            table.page_table_map(self.root, vaddr, VmAttributes::NONE)?;
        }
        Err(Failure::new(format_args!("page tables without end")))
    }

    /// Maps a new page whose first bytes are those at `from` of the root task; the rest is zero.
    /// Returns the frame capability that is mapped.
    pub fn map_copy(
        &self,
        kit: &mut Kit,
        vaddr: usize,
        from: &[u8],
        rights: CapRights,
        attributes: VmAttributes,
    ) -> Outcome<cap::Granule> {
        let frame: cap::Granule = kit.object(FrameObjectType::GRANULE.blueprint())?;
        let own = kit.copy(frame, CapRights::read_write())?;
        own.frame_map(
            slot::VSPACE.cap(),
            SCRATCH,
            CapRights::read_write(),
            VmAttributes::EXECUTE_NEVER,
        )?;
        let to: *mut u8 = core::ptr::with_exposed_provenance_mut(SCRATCH);
        for (i, byte) in from.iter().take(PAGE).enumerate() {
            // SAFETY: the page was mapped at SCRATCH just now, where nothing else is; volatile
            // because `from` may be the program's own data, which has aliases.
            unsafe { to.add(i).write_volatile((&raw const *byte).read_volatile()) };
        }
        kit.delete(own)?;
        kit.forget_slot(own);
        self.map(kit, frame, vaddr, rights, attributes)?;
        Ok(frame)
    }

    /// Maps a copy of the running program, each page at its own address: code and constants as they
    /// are, data as they are now. Pointers and functions mean the same there.
    pub fn clone_image(&self, kit: &mut Kit) -> Outcome<Image> {
        let (start, end) = image();
        let start = start & !(PAGE - 1);
        let mut copy = Image {
            start,
            frames: [0; MAX_PAGES],
        };
        for (i, at) in (start..end).step_by(PAGE).enumerate() {
            let Some(place) = copy.frames.get_mut(i) else {
                return Err(Failure::new(format_args!(
                    "the program is too large to copy"
                )));
            };
            // SAFETY: the linker's symbols say that the program lies there; the kernel maps it in
            // whole pages. Other threads of the program do not run meanwhile.
            let bytes = unsafe { core::slice::from_raw_parts(at as *const u8, PAGE) };
            let rights = CapRights::read_write();
            let frame = self.map_copy(kit, at, bytes, rights, VmAttributes::NONE)?;
            *place = frame.bits() as u32;
        }
        Ok(copy)
    }
}

/// A copy of the program in another address space.
pub struct Image {
    start: usize,
    /// Slots of its frames.
    frames: [u32; MAX_PAGES],
}

impl Image {
    /// The frame of the page at `vaddr`.
    pub fn frame_at(&self, vaddr: usize) -> Outcome<cap::Granule> {
        let page = vaddr.checked_sub(self.start).map(|offset| offset / PAGE);
        match page.and_then(|page| self.frames.get(page)) {
            Some(&slot) if slot != 0 => Ok(cap::Granule::from_bits(slot.into())),
            _ => Err(Failure::new(format_args!(
                "{vaddr:#x} is not in the program"
            ))),
        }
    }
}

/// First address of the program and the one after its last.
#[cfg(target_os = "none")]
pub fn image() -> (usize, usize) {
    unsafe extern "C" {
        static __executable_start: u8;
        static _end: u8;
    }
    (
        &raw const __executable_start as usize,
        &raw const _end as usize,
    )
}

/// First address of the program and the one after its last (not known on a host).
#[cfg(not(target_os = "none"))]
pub fn image() -> (usize, usize) {
    (0, 0)
}
