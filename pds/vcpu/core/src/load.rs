// SPDX-License-Identifier: BSD-2-Clause
//! Where kernel, initrd, RTAS and device tree go in guest memory (P4.1 to P4.5), as a list of
//! copies that `memslots` executes.
//!
//! The kernel is an ELF64 file of either endianness (ET_EXEC at its physical addresses, ET_DYN
//! 4 MiB higher), or a flat binary at 0. The rest lies from the top down, as a kernel's own needs
//! grow upwards: initrd, device tree, RTAS. All of it is below 768 MiB if it fits there, else below
//! 4 GiB, since RTAS is entered in 32-bit mode.

use heapless::Vec;

/// The five instructions of the RTAS entry (SPEC 4.4), big-endian: r4 = r3, r3 = H_RTAS, `sc 1`,
/// return.
pub const RTAS_BLOB: [u8; 20] = {
    let words: [u32; 5] = [
        0x7c64_1b78,
        0x3c60_0000,
        0x6063_f000,
        0x4400_0022,
        0x4e80_0020,
    ];
    let mut bytes = [0; 20];
    let mut i = 0;
    while i < 20 {
        bytes[i] = words[i / 4].to_be_bytes()[i % 4];
        i += 1;
    }
    bytes
};

/// Guest memory that RTAS occupies.
pub const RTAS_BYTES: u64 = 0x1000;
/// Guest memory that is kept for the device tree.
pub const TREE_BYTES: u64 = 0x1_0000;
/// Loadable segments of a kernel file at most.
pub const MAX_SEGMENTS: usize = 16;

/// Where an ET_DYN kernel goes.
const RELOCATABLE_BASE: u64 = 4 << 20;
/// End of the interrupt vectors (P4.4).
const VECTORS_END: u64 = 0x8000;
/// Everything is aligned to the larger page size of Linux, so that nothing shares a page.
const ALIGN: u64 = 0x1_0000;
const PREFERRED_TOP: u64 = 768 << 20;
const RTAS_TOP: u64 = 1 << 32;
/// Real mode ignores the top four bits.
const REAL_ADDRESS: u64 = (1 << 60) - 1;

const EM_PPC64: u16 = 21;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;

/// Where the bytes of a copy come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The kernel file.
    Kernel,
    /// The initrd file.
    Initrd,
    /// [`RTAS_BLOB`].
    Rtas,
    /// [`TREE_BYTES`] that begin with the device tree.
    Tree,
}

/// One copy: `bytes` from `offset` of the source to guest real address `gpa`, then `zeros` zero
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// From where.
    pub source: Source,
    /// Byte offset in the source.
    pub offset: u64,
    /// Guest real address.
    pub gpa: u64,
    /// Bytes to copy.
    pub bytes: u64,
    /// Bytes to clear behind them.
    pub zeros: u64,
}

/// A range of guest real memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// First byte behind it.
    pub end: u64,
}

impl Range {
    const fn overlaps(self, other: Range) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// What goes where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The copies, in ascending order of the sources above; no two overlap.
    pub copies: Vec<Copy, { MAX_SEGMENTS + 3 }>,
    /// Where vCPU 0 starts, with r3 = `tree`.
    pub entry: u64,
    /// The kernel with its zero-initialised memory.
    pub kernel: Range,
    /// The initrd, if there is one.
    pub initrd: Option<Range>,
    /// RTAS.
    pub rtas: Range,
    /// Where the device tree goes, and its room.
    pub tree: Range,
}

/// Why a guest cannot be laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// The kernel file is empty.
    NoKernel,
    /// The ELF file is cut off: a header or segment lies beyond its end.
    Truncated,
    /// ELF, but not 64-bit POWER, version 1.
    WrongMachine,
    /// ELF, but neither ET_EXEC nor ET_DYN.
    WrongType(u16),
    /// No loadable segment, or more than [`MAX_SEGMENTS`].
    SegmentCount,
    /// Segment (number among the loadable ones) that is larger in the file than in memory, or whose
    /// address overflows.
    BadSegment(usize),
    /// Two segments overlap.
    SegmentsOverlap,
    /// The kernel's entry point is in none of its segments.
    EntryOutside(u64),
    /// The guest's memory has no room for this part.
    NoRoom(Source),
}

impl core::fmt::Display for PlanError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            PlanError::NoKernel => write!(f, "the kernel file is empty"),
            PlanError::Truncated => write!(f, "the kernel file is cut off"),
            PlanError::WrongMachine => write!(f, "the kernel is not an ELF file for 64-bit POWER"),
            PlanError::WrongType(t) => write!(f, "the kernel's ELF type {t} is not EXEC or DYN"),
            PlanError::SegmentCount => {
                write!(
                    f,
                    "the kernel has no loadable segment or more than {MAX_SEGMENTS}"
                )
            }
            PlanError::BadSegment(n) => {
                write!(f, "loadable segment {n} of the kernel is malformed")
            }
            PlanError::SegmentsOverlap => write!(f, "loadable segments of the kernel overlap"),
            PlanError::EntryOutside(entry) => {
                write!(
                    f,
                    "the kernel's entry {entry:#x} is in none of its segments"
                )
            }
            PlanError::NoRoom(part) => write!(f, "guest memory has no room for {part:?}"),
        }
    }
}

impl core::error::Error for PlanError {}

/// Lays out a guest with `memory_bytes` of memory from address 0.
pub fn plan(kernel: &[u8], initrd_bytes: u64, memory_bytes: u64) -> Result<Plan, PlanError> {
    let mut copies = Vec::new();
    let entry = match kernel {
        [] => return Err(PlanError::NoKernel),
        [0x7f, b'E', b'L', b'F', ..] => elf(kernel, &mut copies)?,
        _ => {
            let bytes = kernel.len() as u64;
            let copy = Copy {
                source: Source::Kernel,
                offset: 0,
                gpa: 0,
                bytes,
                zeros: 0,
            };
            let _ = copies.push(copy);
            0
        }
    };
    let start = copies.iter().map(|c| c.gpa).min().unwrap_or(0);
    let end = copies
        .iter()
        .map(|c| c.gpa + c.bytes + c.zeros)
        .max()
        .unwrap_or(0);
    if end > memory_bytes {
        return Err(PlanError::NoRoom(Source::Kernel));
    }
    let low = end.max(VECTORS_END);
    let place = |top: u64| place(low, top.min(memory_bytes), initrd_bytes);
    let (initrd, tree, rtas) = place(PREFERRED_TOP).or_else(|_| place(RTAS_TOP))?;
    if initrd_bytes != 0 {
        let source = Source::Initrd;
        let copy = Copy {
            source,
            offset: 0,
            gpa: initrd.start,
            bytes: initrd_bytes,
            zeros: 0,
        };
        let _ = copies.push(copy);
    }
    let blob = RTAS_BLOB.len() as u64;
    let zeros = RTAS_BYTES - blob;
    let _ = copies.push(Copy {
        source: Source::Rtas,
        offset: 0,
        gpa: rtas.start,
        bytes: blob,
        zeros,
    });
    let (gpa, bytes) = (tree.start, TREE_BYTES);
    let _ = copies.push(Copy {
        source: Source::Tree,
        offset: 0,
        gpa,
        bytes,
        zeros: 0,
    });
    let initrd = (initrd_bytes != 0).then_some(initrd);
    Ok(Plan {
        copies,
        entry,
        kernel: Range { start, end },
        initrd,
        rtas,
        tree,
    })
}

/// Initrd, tree and RTAS between `low` and `top`, from the top down.
fn place(low: u64, top: u64, initrd_bytes: u64) -> Result<(Range, Range, Range), PlanError> {
    let below = |top: u64, bytes: u64, source: Source| {
        let start = top.checked_sub(bytes).map(|start| start & !(ALIGN - 1));
        match start {
            Some(start) if start >= low => Ok(Range {
                start,
                end: start + bytes,
            }),
            _ => Err(PlanError::NoRoom(source)),
        }
    };
    let initrd = below(top, initrd_bytes, Source::Initrd)?;
    let tree = below(initrd.start, TREE_BYTES, Source::Tree)?;
    let rtas = below(tree.start, RTAS_BYTES, Source::Rtas)?;
    Ok((initrd, tree, rtas))
}

/// Fields of an ELF file in its own byte order.
struct Elf<'a> {
    file: &'a [u8],
    little: bool,
}

impl Elf<'_> {
    fn bytes<const N: usize>(&self, offset: u64) -> Result<[u8; N], PlanError> {
        let offset = usize::try_from(offset).map_err(|_| PlanError::Truncated)?;
        let field = self
            .file
            .get(offset..)
            .and_then(|rest| rest.first_chunk::<N>());
        let mut field = *field.ok_or(PlanError::Truncated)?;
        if self.little {
            field.reverse();
        }
        Ok(field)
    }

    fn half(&self, offset: u64) -> Result<u16, PlanError> {
        self.bytes(offset).map(u16::from_be_bytes)
    }

    fn word(&self, offset: u64) -> Result<u32, PlanError> {
        self.bytes(offset).map(u32::from_be_bytes)
    }

    fn long(&self, offset: u64) -> Result<u64, PlanError> {
        self.bytes(offset).map(u64::from_be_bytes)
    }
}

/// Adds the segments of an ELF kernel; answers its entry point.
fn elf(file: &[u8], copies: &mut Vec<Copy, { MAX_SEGMENTS + 3 }>) -> Result<u64, PlanError> {
    let ident = file.get(..HEADER as usize).ok_or(PlanError::Truncated)?;
    let little = match (ident[4], ident[5], ident[6]) {
        (2, 1, 1) => true,
        (2, 2, 1) => false,
        _ => return Err(PlanError::WrongMachine),
    };
    let elf = Elf { file, little };
    if elf.half(18)? != EM_PPC64 {
        return Err(PlanError::WrongMachine);
    }
    let base = match elf.half(16)? {
        ET_EXEC => 0,
        ET_DYN => RELOCATABLE_BASE,
        other => return Err(PlanError::WrongType(other)),
    };
    let table = elf.long(32)?;
    let (size, count) = (u64::from(elf.half(54)?), u64::from(elf.half(56)?));
    if size < PROGRAM_HEADER {
        return Err(PlanError::Truncated);
    }
    for number in 0..count {
        let at = table
            .checked_add(number * size)
            .ok_or(PlanError::Truncated)?;
        at.checked_add(PROGRAM_HEADER).ok_or(PlanError::Truncated)?;
        if elf.word(at)? != PT_LOAD || elf.long(at + 40)? == 0 {
            continue;
        }
        let number = copies.len();
        let copy = segment(&elf, at, base, number)?;
        let range = |c: &Copy| Range {
            start: c.gpa,
            end: c.gpa + c.bytes + c.zeros,
        };
        if copies
            .iter()
            .any(|other| range(other).overlaps(range(&copy)))
        {
            return Err(PlanError::SegmentsOverlap);
        }
        if number >= MAX_SEGMENTS || copies.push(copy).is_err() {
            return Err(PlanError::SegmentCount);
        }
    }
    if copies.is_empty() {
        return Err(PlanError::SegmentCount);
    }
    let entry = (elf.long(24)? & REAL_ADDRESS) + base;
    let inside = |c: &Copy| entry >= c.gpa && entry - c.gpa < c.bytes;
    if copies.iter().any(inside) {
        Ok(entry)
    } else {
        Err(PlanError::EntryOutside(entry))
    }
}

fn segment(elf: &Elf<'_>, at: u64, base: u64, number: usize) -> Result<Copy, PlanError> {
    let (offset, address) = (elf.long(at + 8)?, elf.long(at + 24)? & REAL_ADDRESS);
    let (bytes, memory) = (elf.long(at + 32)?, elf.long(at + 40)?);
    let end = offset.checked_add(bytes).ok_or(PlanError::Truncated)?;
    if end > elf.file.len() as u64 {
        return Err(PlanError::Truncated);
    }
    let zeros = memory
        .checked_sub(bytes)
        .ok_or(PlanError::BadSegment(number))?;
    let gpa = address + base;
    gpa.checked_add(memory)
        .ok_or(PlanError::BadSegment(number))?;
    Ok(Copy {
        source: Source::Kernel,
        offset,
        gpa,
        bytes,
        zeros,
    })
}
