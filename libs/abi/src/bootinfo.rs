// SPDX-License-Identifier: BSD-2-Clause
//! What the image tool tells the kernel, and what the kernel tells the root task.

use crate::limits;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Frames that lie ready in the boot image: `count` of 2^`bits` bytes from real address `paddr`.
/// The root task gets one frame cap for each, in order, without retype and without zeroing.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ImageFrames {
    /// Real address, aligned to the frame size.
    pub paddr: u64,
    /// Number of frames.
    pub count: u64,
    /// log2 of the frame size: 12, 16 or 21.
    pub bits: u64,
    /// Rights that the caps get ([`crate::CapRights`]): a frame shared by several regions is
    /// read-only.
    pub rights: u64,
}

/// A loadable segment of the root task, page aligned in the image.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RootSegment {
    /// Real address of its first byte in the image, page aligned.
    pub paddr: u64,
    /// Virtual address, page aligned.
    pub vaddr: u64,
    /// Bytes, a multiple of 4096; zero-filled parts are zeros in the image.
    pub size: u64,
    /// 1 write, 2 read, 4 execute.
    pub flags: u64,
}

/// Tables in [`ImageInfo`] have at most this many entries each.
pub const MAX_IMAGE_FRAMES: usize = 1024;
/// Segments of the root task.
pub const MAX_ROOT_SEGMENTS: usize = 8;
/// First word of an [`ImageInfo`] that the tool has filled in ("PARTITA1").
pub const IMAGE_MAGIC: u64 = u64::from_be_bytes(*b"PARTITA1");

/// The kernel's ELF has a symbol `partita_image_info` with the real address (u64) of this header;
/// the tool appends the header to the image and patches the symbol. All addresses are real.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ImageInfo {
    /// [`IMAGE_MAGIC`].
    pub magic: u64,
    /// First real address after the image, page aligned: free memory from there on.
    pub image_end: u64,
    /// Entry point of the root task (virtual).
    pub root_entry: u64,
    /// Number of entries in `segments`.
    pub segment_count: u64,
    /// Segments of the root task.
    pub segments: [RootSegment; MAX_ROOT_SEGMENTS],
    /// The embedded specification: real address (page aligned) and bytes; mapped read-only for the
    /// root task.
    pub spec_paddr: u64,
    /// Bytes of the specification.
    pub spec_size: u64,
    /// Real address of an array of [`ImageFrames`].
    pub frames_paddr: u64,
    /// Entries of that array, at most [`MAX_IMAGE_FRAMES`].
    pub frames_count: u64,
    /// log2 of the slots of the root task's CNode.
    pub root_cnode_bits: u64,
}

/// An untyped capability of the root task.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UntypedDesc {
    /// Real address.
    pub paddr: u64,
    /// log2 of the size in bytes.
    pub size_bits: u32,
    /// 1 for device memory.
    pub is_device: u32,
}

/// First word of a [`BootInfo`].
pub const BOOTINFO_MAGIC: u64 = u64::from_be_bytes(*b"PARTBOOT");

/// What the root task finds in the page that r3 points to at its start.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootInfo {
    /// [`BOOTINFO_MAGIC`].
    pub magic: u64,
    /// Cores that run.
    pub num_nodes: u64,
    /// Virtual address of the IPC buffer.
    pub ipc_buffer: u64,
    /// log2 of the slots of the root task's CNode.
    pub cnode_bits: u64,
    /// First and last+1 empty slot.
    pub empty: [u64; 2],
    /// SchedControl caps, one a core: first and last+1 slot.
    pub sched_control: [u64; 2],
    /// Frame caps of the image, in the order of the tool's table: first and last+1 slot.
    pub image_frames: [u64; 2],
    /// Untyped caps: first and last+1 slot; described in `untypeds`.
    pub untyped: [u64; 2],
    /// Virtual address of the specification, 0 if there is none.
    pub spec_vaddr: u64,
    /// Its bytes.
    pub spec_size: u64,
    /// Timebase ticks per second.
    pub timebase_hz: u64,
    /// Timebase at kernel entry.
    pub boot_timebase: u64,
    /// Untyped memory, in slot order.
    pub untypeds: [UntypedDesc; limits::MAX_UNTYPEDS],
}
