// SPDX-License-Identifier: BSD-2-Clause
//! Second address spaces.

use crate::kit::{Kit, WINDOW};
use checks::{Failure, Outcome};
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

    /// Ends the address space: threads keep capabilities to it, which go first.
    pub fn destroy(&self, kit: &Kit) -> Outcome {
        kit.revoke(self.root)?;
        kit.delete(self.root)?;
        Ok(())
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
        let mut copy = Image {
            pages: [(0, 0); MAX_PAGES],
        };
        let mut places = copy.pages.iter_mut();
        for (start, end) in segments() {
            for at in (start & !(PAGE - 1)..end).step_by(PAGE) {
                let Some(place) = places.next() else {
                    return Err(Failure::new(format_args!(
                        "the program is too large to copy"
                    )));
                };
                // SAFETY: the program's headers say that it lies there; the kernel maps it in whole
                // pages. Other threads of the program do not run meanwhile.
                let bytes = unsafe { core::slice::from_raw_parts(at as *const u8, PAGE) };
                let rights = CapRights::read_write();
                let frame = self.map_copy(kit, at, bytes, rights, VmAttributes::NONE)?;
                *place = (at, frame.bits());
            }
        }
        Ok(copy)
    }
}

/// A copy of the program in another address space.
pub struct Image {
    /// Address and frame capability of each page.
    pages: [(usize, u64); MAX_PAGES],
}

impl Image {
    /// The frame of the page at `vaddr`.
    pub fn frame_at(&self, vaddr: usize) -> Outcome<cap::Granule> {
        let page = vaddr & !(PAGE - 1);
        match self.pages.iter().find(|(at, _)| *at == page) {
            Some(&(_, frame)) if frame != 0 => Ok(cap::Granule::from_bits(frame)),
            _ => Err(Failure::new(format_args!(
                "{vaddr:#x} is not in the program"
            ))),
        }
    }
}

/// An ELF64 program header.
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
    align: u64,
}

/// Program header of a part that is loaded.
const PT_LOAD: u32 = 1;

/// First address and end of each part of the program, from its own headers.
#[cfg(target_os = "none")]
fn segments() -> impl Iterator<Item = (usize, usize)> {
    unsafe extern "C" {
        static __ehdr_start: [u8; 64];
    }
    // SAFETY: the linker puts the ELF header into the first part that is loaded, and the symbol there.
    let header = unsafe { &__ehdr_start };
    let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let offset = u32::from_le_bytes([header[32], header[33], header[34], header[35]]) as usize;
    let count = word(56) as usize;
    // SAFETY: the program headers follow in the same part; e_phoff and e_phnum say where.
    let headers = unsafe {
        let first = header.as_ptr().add(offset).cast::<ProgramHeader>();
        core::slice::from_raw_parts(first, count)
    };
    let loaded = headers.iter().filter(|h| h.kind == PT_LOAD);
    loaded.map(|h| (h.vaddr as usize, (h.vaddr + h.memsz) as usize))
}

/// A program on a host does not know its parts.
#[cfg(not(target_os = "none"))]
fn segments() -> impl Iterator<Item = (usize, usize)> {
    let none: [ProgramHeader; 0] = [];
    none.into_iter()
        .filter(|h| h.kind == PT_LOAD)
        .map(|h| (h.vaddr as usize, (h.vaddr + h.memsz) as usize))
}
