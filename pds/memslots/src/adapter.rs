// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's objects behind the guest's memory.
//!
//! The untyped memory is cut into one untyped for each frame. A frame is made of its untyped when a
//! page is first needed, which zeroes it; when it has a new use, the untyped is revoked (the frame
//! and its mappings go) and the frame is made anew. So no content passes from one use to the next.
//!
//! To write or copy, this PD maps a second capability of the frame at a place of the frame's own in
//! a window of its address space, where it stays until the frame goes. It does not pin the page.
//!
//! The CNode in slot 8: tables first; then for each frame size its untypeds, its frames, its
//! capabilities for the window.

use core::fmt;
use partita_guest_protocol::layout::{self, CHUNK_BYTES, MEDIUM_FRAMES, SMALL_FRAMES, TABLES};
use partita_guest_protocol::symbol;
use partita_memslots::{Frame, FrameSize, Kernel, KernelFailed, UnmapError};
use partita_papr::Gfn;
use sel4::{
    AbsoluteCPtr, CapRights, Error, FrameObjectType, ObjectBlueprint, ObjectBlueprintArch,
    VmAttributes, cap, cap_type,
};
use sel4_microkit::{cspace_cap, own_vspace};

/// Where frames of each size are mapped in this PD: frame `i` at i times its size.
const WINDOWS: [usize; 3] = [0x1c0_0000_0000, 0x1d0_0000_0000, 0x200_0000_0000];
/// Objects that one Retype makes at most.
const FAN_OUT: usize = 256;

/// How many frames of which size there are.
#[derive(Clone, Copy)]
pub struct Counts {
    untypeds: usize,
    untyped_bytes: u64,
    frames: [usize; 3],
}

impl Counts {
    /// For `untypeds` untyped capabilities of `bytes` each.
    pub fn new(untypeds: usize, bytes: u64) -> Self {
        assert!(
            untypeds <= symbol::MAX_UNTYPED,
            "too many untyped capabilities"
        );
        let large = layout::chunks(bytes) as usize * untypeds;
        Counts {
            untypeds,
            untyped_bytes: bytes,
            frames: [SMALL_FRAMES as usize, MEDIUM_FRAMES as usize, large],
        }
    }

    /// Bytes of all of the guest's untyped memory.
    pub fn untyped_bytes(&self) -> u64 {
        self.untypeds as u64 * self.untyped_bytes
    }

    /// Frames of 4 KiB.
    pub fn small(&self) -> usize {
        self.frames[FrameSize::Small as usize]
    }

    /// Frames of 64 KiB.
    pub fn medium(&self) -> usize {
        self.frames[FrameSize::Medium as usize]
    }

    /// Frames of 2 MiB.
    pub fn large(&self) -> usize {
        self.frames[FrameSize::Large as usize]
    }

    /// Whether frames 8 n to 8 n + 7 of 2 MiB lie in a row, aligned to 16 MiB: whether that much is in one piece of
    /// untyped memory, which is aligned to its size and cut in order.
    pub fn in_a_row(&self) -> bool {
        self.untyped_bytes >= 16 << 20
    }

    /// Frames of all sizes.
    pub fn frames(&self) -> usize {
        self.frames.iter().sum()
    }

    /// Frames of smaller sizes.
    fn before(&self, size: FrameSize) -> usize {
        self.frames[..size as usize].iter().sum()
    }
}

/// What there is of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Made {
    /// Its untyped.
    Nothing,
    /// The frame.
    Frame,
    /// The frame and its mapping in the window.
    Window,
}

/// Which capability of a frame.
#[derive(Clone, Copy)]
enum Kind {
    Untyped = 0,
    Frame = 1,
    Window = 2,
}

/// Uses of a table, with the guest real address in the upper bits.
const IN_WINDOW: u64 = 1;
const UNUSED: u64 = 2;
const OF_GIB: u64 = 3;
const OF_2_MIB: u64 = 4;

/// Frames, and the tables that map them.
pub struct Frames {
    counts: Counts,
    cnode: cap::CNode,
    radix: usize,
    /// What each table in the CNode is used for; 0 if there is none yet.
    tables: &'static mut [u64],
    /// What there is of each frame, smaller sizes first.
    made: &'static mut [Made],
}

/// The kernel refused when the memory was cut.
#[derive(Debug)]
pub struct CutError {
    what: &'static str,
    error: Error,
}

impl fmt::Display for CutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

fn blueprint(size: FrameSize) -> FrameObjectType {
    match size {
        FrameSize::Small => FrameObjectType::_4k,
        FrameSize::Medium => FrameObjectType::_64k,
        FrameSize::Large => FrameObjectType::_2m,
    }
}

fn spare() -> cap::Untyped {
    cspace_cap(symbol::SPARE_SLOT)
}

fn gspace() -> cap::GSpace {
    cspace_cap(symbol::GSPACE_SLOT)
}

/// The capability in slot `index` of the CNode.
fn in_cnode<T: sel4::CapType>(index: usize) -> sel4::Cap<T> {
    let root: cap::Unspecified = cspace_cap(symbol::FRAMES_SLOT);
    sel4::Cap::from_bits(root.bits() | index as u64)
}

impl Frames {
    /// Cuts the untyped memory. `cnode` is the capability pointer of the CNode itself.
    pub fn new(
        counts: Counts,
        cnode: u64,
        tables: &'static mut [u64],
        made: &'static mut [Made],
    ) -> Result<Self, CutError> {
        let radix = layout::frames_radix(counts.untyped_bytes()) as usize;
        let frames = Frames {
            counts,
            cnode: cap::CNode::from_bits(cnode),
            radix,
            tables,
            made,
        };
        let chunks = (counts.untyped_bytes / CHUNK_BYTES) as usize;
        for i in 0..counts.untypeds {
            let untyped = cspace_cap(symbol::UNTYPED_SLOT + i);
            frames
                .cut(untyped, FrameSize::Large, i * chunks, chunks)
                .map_err(|error| CutError {
                    what: "guest memory",
                    error,
                })?;
        }
        for (size, count) in [
            (FrameSize::Medium, counts.medium()),
            (FrameSize::Small, counts.small()),
        ] {
            frames
                .cut(spare(), size, 0, count)
                .map_err(|error| CutError {
                    what: "spare memory",
                    error,
                })?;
        }
        Ok(frames)
    }

    /// Makes the untypeds of frames `first` to `first + count` out of `untyped`.
    fn cut(
        &self,
        untyped: cap::Untyped,
        size: FrameSize,
        first: usize,
        count: usize,
    ) -> sel4::Result<()> {
        let size_bits = size.shift() as usize;
        for done in (0..count).step_by(FAN_OUT) {
            untyped.untyped_retype(
                &ObjectBlueprint::Untyped { size_bits },
                &self.cnode.absolute_cptr_for_self(),
                self.index(size, first + done, Kind::Untyped),
                (count - done).min(FAN_OUT),
            )?;
        }
        Ok(())
    }

    /// Slot in the CNode.
    fn index(&self, size: FrameSize, number: usize, kind: Kind) -> usize {
        let count = self.counts.frames[size as usize];
        TABLES as usize + 3 * self.counts.before(size) + kind as usize * count + number
    }

    /// Slot in the CNode of a frame that exists.
    fn slot(&self, frame: Frame, kind: Kind) -> Result<usize, KernelFailed> {
        let number = frame.index as usize;
        if number < self.counts.frames[frame.size as usize] {
            Ok(self.index(frame.size, number, kind))
        } else {
            Err(KernelFailed)
        }
    }

    fn path(&self, slot: usize) -> AbsoluteCPtr {
        self.cnode
            .absolute_cptr_from_bits_with_depth(slot as u64, self.radix)
    }

    fn made(&mut self, frame: Frame) -> Result<&mut Made, KernelFailed> {
        let index = self.counts.before(frame.size) + frame.index as usize;
        self.made.get_mut(index).ok_or(KernelFailed)
    }

    /// A table, from the spare memory; its number.
    fn new_table(&mut self, object: ObjectBlueprintArch) -> Result<usize, KernelFailed> {
        let number = self
            .tables
            .iter()
            .position(|used| *used == 0)
            .ok_or(KernelFailed)?;
        spare()
            .untyped_retype(
                &object.into(),
                &self.cnode.absolute_cptr_for_self(),
                number,
                1,
            )
            .map_err(|_| KernelFailed)?;
        self.tables[number] = UNUSED;
        Ok(number)
    }

    /// Puts another table over `gpa`.
    fn add_guest_table(&mut self, gpa: u64) -> Result<(), KernelFailed> {
        let unused = self.tables.iter().position(|used| *used == UNUSED);
        let number = match unused {
            Some(number) => number,
            None => self.new_table(ObjectBlueprintArch::GPageTable)?,
        };
        let of_gib = gpa >> 30 << 30 | OF_GIB;
        let use_ = if self.tables.contains(&of_gib) {
            gpa >> 21 << 21 | OF_2_MIB
        } else {
            of_gib
        };
        in_cnode::<cap_type::GPageTable>(number)
            .gpage_table_map(gspace(), gpa, VmAttributes::default())
            .map_err(|_| KernelFailed)?;
        self.tables[number] = use_;
        Ok(())
    }

    /// Takes the empty table of small pages away that an earlier slot has left at `gpa`.
    fn remove_guest_table(&mut self, gpa: u64) -> Result<(), KernelFailed> {
        let use_ = gpa >> 21 << 21 | OF_2_MIB;
        let number = self
            .tables
            .iter()
            .position(|used| *used == use_)
            .ok_or(KernelFailed)?;
        in_cnode::<cap_type::GPageTable>(number)
            .gpage_table_unmap()
            .map_err(|_| KernelFailed)?;
        self.tables[number] = UNUSED;
        Ok(())
    }

    /// The address of byte `offset` of a frame in the window; the frame is mapped there if it is not.
    fn window(&mut self, frame: Frame, offset: u64) -> Result<*mut u8, KernelFailed> {
        let base = WINDOWS[frame.size as usize] + ((frame.index as usize) << frame.size.shift());
        match *self.made(frame)? {
            Made::Window => {}
            Made::Nothing => return Err(KernelFailed),
            Made::Frame => {
                self.map_window(frame, base)?;
                *self.made(frame)? = Made::Window;
            }
        }
        Ok(core::ptr::with_exposed_provenance_mut(
            base + offset as usize,
        ))
    }

    fn map_window(&mut self, frame: Frame, base: usize) -> Result<(), KernelFailed> {
        let slot = self.slot(frame, Kind::Window)?;
        let from = self.path(self.slot(frame, Kind::Frame)?);
        let rights = CapRights::read_write();
        match self.path(slot).copy(&from, rights) {
            // It is there, if an earlier attempt came no further.
            Ok(()) | Err(Error::DeleteFirst) => {}
            Err(_) => return Err(KernelFailed),
        }
        let copy = in_cnode::<cap_type::UnspecifiedFrame>(slot);
        loop {
            match copy.frame_map(own_vspace(), base, rights, VmAttributes::EXECUTE_NEVER) {
                Ok(()) => return Ok(()),
                // Each table takes it a level further.
                Err(Error::FailedLookup) => {
                    let number = self.new_table(ObjectBlueprintArch::PT)?;
                    self.tables[number] = IN_WINDOW;
                    in_cnode::<cap_type::PT>(number)
                        .page_table_map(own_vspace(), base, VmAttributes::default())
                        .map_err(|_| KernelFailed)?;
                }
                Err(_) => return Err(KernelFailed),
            }
        }
    }
}

impl Kernel for Frames {
    fn prepare(&mut self, frame: Frame) -> Result<(), KernelFailed> {
        let untyped = self.slot(frame, Kind::Untyped)?;
        let to = self.slot(frame, Kind::Frame)?;
        if *self.made(frame)? != Made::Nothing {
            self.path(untyped).revoke().map_err(|_| KernelFailed)?;
            *self.made(frame)? = Made::Nothing;
        }
        in_cnode::<cap_type::Untyped>(untyped)
            .untyped_retype(
                &blueprint(frame.size).blueprint(),
                &self.cnode.absolute_cptr_for_self(),
                to,
                1,
            )
            .map_err(|_| KernelFailed)?;
        *self.made(frame)? = Made::Frame;
        Ok(())
    }

    fn map(&mut self, gfn: Gfn, frame: Frame, writable: bool) -> Result<(), KernelFailed> {
        let cap = in_cnode::<cap_type::UnspecifiedFrame>(self.slot(frame, Kind::Frame)?);
        let gpa = gfn.get() << partita_papr::PAGE_SHIFT;
        let rights = if writable {
            CapRights::read_write()
        } else {
            CapRights::read_only()
        };
        // A table of a GiB and one of 2 MiB may be missing, or one be in the way.
        for _ in 0..3 {
            match cap.frame_map_guest(gspace(), gpa, rights, VmAttributes::default()) {
                Ok(()) => return Ok(()),
                Err(Error::FailedLookup) => self.add_guest_table(gpa)?,
                Err(Error::DeleteFirst) if frame.size == FrameSize::Large => {
                    self.remove_guest_table(gpa)?;
                }
                Err(_) => return Err(KernelFailed),
            }
        }
        Err(KernelFailed)
    }

    fn unmap(&mut self, _gfn: Gfn, frame: Frame) -> Result<(), UnmapError> {
        let slot = self
            .slot(frame, Kind::Frame)
            .map_err(|_| UnmapError::Failed)?;
        match in_cnode::<cap_type::UnspecifiedFrame>(slot).frame_unmap() {
            Ok(()) => Ok(()),
            Err(Error::RevokeFirst) => Err(UnmapError::Pinned),
            Err(_) => Err(UnmapError::Failed),
        }
    }

    fn destroy(&mut self, frame: Frame) -> Result<(), KernelFailed> {
        let untyped = self.slot(frame, Kind::Untyped)?;
        self.path(untyped).revoke().map_err(|_| KernelFailed)?;
        *self.made(frame)? = Made::Nothing;
        Ok(())
    }

    fn zero(&mut self, frame: Frame, offset: u64, length: u64) -> Result<(), KernelFailed> {
        let at = self.window(frame, offset)?.cast::<u64>();
        for i in 0..length as usize / size_of::<u64>() {
            // SAFETY: the frame is mapped from `at - offset` on and `offset + length` lies in it. The
            // guest may access it too, hence volatile.
            unsafe { at.add(i).write_volatile(0) };
        }
        Ok(())
    }

    fn copy(&mut self, to: (Frame, u64), from: (Frame, u64)) -> Result<(), KernelFailed> {
        let source = self.window(from.0, from.1)?.cast::<u64>();
        let target = self.window(to.0, to.1)?.cast::<u64>();
        for i in 0..4096 / size_of::<u64>() {
            // SAFETY: both are 4096 bytes of frames that are mapped there; the guest may access them
            // too, hence volatile.
            unsafe { target.add(i).write_volatile(source.add(i).read_volatile()) };
        }
        Ok(())
    }

    fn write(&mut self, frame: Frame, offset: u64, bytes: &[u8]) -> Result<(), KernelFailed> {
        let at = self.window(frame, offset)?;
        // SAFETY: the frame is mapped from `at - offset` on, the bytes lie in it, and it is no memory
        // that this program has references to. Nothing depends on what the guest does to it meanwhile.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
        Ok(())
    }
}
