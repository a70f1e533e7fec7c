// SPDX-License-Identifier: BSD-2-Clause
//! The boot image: one ELF file that firmware runs in place, so that file offset X is real address
//! `image_base + X`.
//!
//! ```text
//! kernel.elf (zeros for .bss) | ImageInfo, frame table | root task's segments | specification |
//! 4 KiB frames | 64 KiB frames | 2 MiB frames
//! ```

use crate::board::Board;
use crate::elf::{Elf, ElfProblem, PAGE};
use crate::error::Error;
use partita_abi::bootinfo::{
    IMAGE_MAGIC, ImageFrames, ImageInfo, MAX_IMAGE_FRAMES, MAX_ROOT_SEGMENTS, RootSegment,
};
use partita_abi::{CapRights, init_cnode, limits};
use zerocopy::IntoBytes;

/// The variable of the kernel that gets the real address of the [`ImageInfo`].
const IMAGE_INFO_SYMBOL: &str = "partita_image_info";

/// Frames of one size that lie one behind the other in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// log2 of the frame size: 12, 16 or 21.
    pub bits: u8,
    /// Number of frames.
    pub pages: u64,
    /// Rights of the frame capabilities.
    pub rights: CapRights,
}

/// Where a block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlace {
    /// Real address.
    pub paddr: u64,
    /// Number of its first frame in the image's table.
    pub first_frame: u32,
}

/// Where everything lies in an image. Offsets from its start.
#[derive(Clone, Debug)]
pub struct Layout {
    base: u64,
    info: u64,
    segments: Vec<u64>,
    /// Places of the blocks.
    pub blocks: Vec<BlockPlace>,
    frames: Vec<ImageFrames>,
    spec: u64,
    spec_size: u64,
    /// Bytes of the image.
    pub size: u64,
}

/// The kernel's only segment, which begins with its ELF header.
fn kernel_segment(kernel: &Elf) -> Result<&crate::elf::Segment, Error> {
    match kernel.segments.as_slice() {
        [segment] if segment.offset == 0 => Ok(segment),
        other => Err(kernel.error(ElfProblem::KernelSegments(other.len()))),
    }
}

impl Layout {
    /// Lays an image out. Places of blocks do not depend on `spec_size`.
    ///
    /// # Errors
    /// Too large, or more of something than the kernel's tables hold.
    pub fn new(
        board: &Board,
        kernel: &Elf,
        root: &Elf,
        blocks: &[Block],
        spec_size: u64,
    ) -> Result<Layout, Error> {
        if root.segments.len() > MAX_ROOT_SEGMENTS {
            return Err(Error::TooManySegments {
                file: root.file.clone(),
                count: root.segments.len(),
                limit: MAX_ROOT_SEGMENTS,
            });
        }
        let info = kernel_segment(kernel)?.memsz.next_multiple_of(PAGE);
        let tables = size_of::<ImageInfo>() + MAX_IMAGE_FRAMES * size_of::<ImageFrames>();
        let mut at = (info + tables as u64).next_multiple_of(PAGE);
        let mut segments = Vec::new();
        for segment in &root.segments {
            segments.push(at);
            at += segment.pages() * PAGE;
        }

        let mut order: Vec<usize> = (0..blocks.len()).collect();
        order.sort_by_key(|&i| blocks[i].bits);
        let mut places = vec![
            BlockPlace {
                paddr: 0,
                first_frame: 0
            };
            blocks.len()
        ];
        let mut frames: Vec<ImageFrames> = Vec::new();
        let mut first_frame = 0;
        for i in order {
            let Block {
                bits,
                pages,
                rights,
            } = blocks[i];
            at = at.next_multiple_of(1 << bits);
            let paddr = board.image_base + at;
            places[i] = BlockPlace { paddr, first_frame };
            match frames.last_mut() {
                Some(run)
                    if run.bits == u64::from(bits)
                        && run.rights == rights.0
                        && run.paddr + (run.count << bits) == paddr =>
                {
                    run.count += pages;
                }
                _ => frames.push(ImageFrames {
                    paddr,
                    count: pages,
                    bits: bits.into(),
                    rights: rights.0,
                }),
            }
            at += pages << bits;
            first_frame += pages as u32;
        }
        if frames.len() > MAX_IMAGE_FRAMES {
            let (count, limit) = (frames.len(), MAX_IMAGE_FRAMES);
            return Err(Error::TooManyFrameRuns { count, limit });
        }
        let spec = at;
        let size = (spec + spec_size).next_multiple_of(PAGE);
        if size > board.image_limit {
            return Err(Error::ImageTooLarge {
                size,
                limit: board.image_limit,
            });
        }
        Ok(Layout {
            base: board.image_base,
            info,
            segments,
            blocks: places,
            frames,
            spec,
            spec_size,
            size,
        })
    }

    /// Frames in the image's table.
    pub fn frame_count(&self) -> u32 {
        self.frames.iter().map(|f| f.count as u32).sum()
    }

    /// First real address behind the image.
    pub fn end(&self) -> u64 {
        self.base + self.size
    }

    /// The boot image. `contents` are those of the blocks, cut off after their last byte that is not
    /// zero or longer.
    ///
    /// # Errors
    /// The kernel has no usable `partita_image_info`.
    pub fn pack(
        &self,
        kernel: &Elf,
        root: &Elf,
        root_cnode_bits: u8,
        spec: &[u8],
        blocks: &[Block],
        contents: &[Vec<u8>],
    ) -> Result<Vec<u8>, Error> {
        let mut image = vec![0; self.size as usize];
        let mut put = |offset: u64, bytes: &[u8]| {
            image[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
        };
        let mut kernel = kernel.clone();
        let symbol = kernel.symbol(IMAGE_INFO_SYMBOL, 8)?;
        let segment = &kernel.segments[kernel.segment_of(IMAGE_INFO_SYMBOL, symbol)?];
        if segment.data.len() as u64 <= symbol.address - segment.vaddr {
            return Err(kernel.error(ElfProblem::KernelSymbol(IMAGE_INFO_SYMBOL.into())));
        }
        kernel.patch(IMAGE_INFO_SYMBOL, &(self.base + self.info).to_le_bytes())?;
        put(0, &kernel_segment(&kernel)?.data);

        let mut info = ImageInfo {
            magic: IMAGE_MAGIC,
            image_end: self.end(),
            root_entry: root.entry,
            segment_count: root.segments.len() as u64,
            frames_paddr: self.base + self.info + size_of::<ImageInfo>() as u64,
            frames_count: self.frames.len() as u64,
            root_cnode_bits: root_cnode_bits.into(),
            ..ImageInfo::default()
        };
        if !spec.is_empty() {
            info.spec_paddr = self.base + self.spec;
            info.spec_size = self.spec_size;
        }
        for (i, (segment, &offset)) in root.segments.iter().zip(&self.segments).enumerate() {
            info.segments[i] = RootSegment {
                paddr: self.base + offset,
                vaddr: segment.start(),
                size: segment.pages() * PAGE,
                flags: 2 | u64::from(segment.write) | u64::from(segment.execute) << 2,
            };
            put(offset, &segment.page_data());
        }
        put(self.info, info.as_bytes());
        put(
            self.info + size_of::<ImageInfo>() as u64,
            self.frames.as_bytes(),
        );
        for ((place, block), data) in self.blocks.iter().zip(blocks).zip(contents) {
            let room = (block.pages << block.bits) as usize;
            put(place.paddr - self.base, &data[..data.len().min(room)]);
        }
        put(self.spec, spec);
        self.fix_header(&mut image);
        Ok(image)
    }

    /// Makes the kernel's ELF header describe the image: one segment with all of it, no sections.
    fn fix_header(&self, image: &mut [u8]) {
        const E_PHOFF: usize = 0x20;
        const E_SHOFF: usize = 0x28;
        const E_PHENTSIZE: usize = 0x36;
        const E_PHNUM: usize = 0x38;
        const E_SHNUM: usize = 0x3c;
        const E_SHSTRNDX: usize = 0x3e;
        const P_FILESZ: usize = 0x20;
        const P_MEMSZ: usize = 0x28;
        const PT_LOAD: u32 = 1;
        let half =
            |image: &[u8], at: usize| usize::from(u16::from_le_bytes([image[at], image[at + 1]]));
        image[E_SHOFF..E_SHOFF + 8].fill(0);
        image[E_SHNUM..E_SHNUM + 2].fill(0);
        image[E_SHSTRNDX..E_SHSTRNDX + 2].fill(0);
        let phoff = half(image, E_PHOFF);
        for i in 0..half(image, E_PHNUM) {
            let at = phoff + i * half(image, E_PHENTSIZE);
            if image[at..at + 4] == PT_LOAD.to_le_bytes() {
                image[at + P_FILESZ..][..8].copy_from_slice(&self.size.to_le_bytes());
                image[at + P_MEMSZ..][..8].copy_from_slice(&self.size.to_le_bytes());
            }
        }
    }
}

/// log2 of the slots of the smallest and the largest CNode that the kernel makes for a root task.
pub const MIN_ROOT_CNODE_BITS: u8 = 10;
/// See [`MIN_ROOT_CNODE_BITS`].
pub const MAX_ROOT_CNODE_BITS: u8 = 20;

/// log2 of the slots of the root task's CNode when the tool's commands need `slots` empty ones.
///
/// # Errors
/// [`Error::TooManySlots`].
pub fn root_cnode_bits(board: &Board, image_frames: u32, slots: u32) -> Result<u8, Error> {
    let boot = init_cnode::FIRST_FREE + board.max_cores as usize + limits::MAX_UNTYPEDS;
    let all = boot as u64 + u64::from(image_frames) + u64::from(slots);
    let bits = (all.next_power_of_two().ilog2() as u8).max(MIN_ROOT_CNODE_BITS);
    if bits > MAX_ROOT_CNODE_BITS {
        return Err(Error::TooManySlots {
            slots: all,
            limit: 1 << MAX_ROOT_CNODE_BITS,
        });
    }
    Ok(bits)
}
