// SPDX-License-Identifier: BSD-2-Clause
//! Program images: static ppc64le ELFv2 executables.

use crate::error::Error;
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, Sym};
use object::{LittleEndian, SymbolIndex};
use partita_abi::address_space;
use std::collections::BTreeMap;
use thiserror::Error;

/// Bytes of a page.
pub const PAGE: u64 = 1 << address_space::PAGE_BITS;
/// Most bytes of a segment: those that a program can address.
const MAX_SEGMENT: u64 = address_space::USER_VSPACE_TOP as u64;

/// What is wrong with a program image.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "each variant's text says what it means")]
pub enum ElfProblem {
    #[error("not an ELF file")]
    NotElf,
    #[error("not a 64-bit little-endian ELF file")]
    Class,
    #[error("built for another machine (ELF machine {0}, ppc64 is {expected})", expected = elf::EM_PPC64)]
    Machine(u16),
    #[error("not ELFv2 (e_flags {0:#x})")]
    Abi(u32),
    #[error("not a static executable (ELF type {0})")]
    Type(u16),
    #[error("damaged: {0}")]
    Damaged(String),
    #[error("damaged: a segment of {1:#x} bytes at {0:#x}")]
    SegmentSize(u64, u64),
    #[error("nothing to load")]
    Empty,
    #[error("segments at {0:#x} and {1:#x} share a page (link with -z separate-loadable-segments)")]
    SharedPage(u64, u64),
    #[error("the entry point {0:#x} is in no executable segment")]
    Entry(u64),
    #[error("the entry point {0:#x} is not a multiple of 4")]
    EntryAlignment(u64),
    #[error("no symbol '{0}'")]
    NoSymbol(String),
    #[error("symbol '{symbol}' has {size} bytes, {expected} are needed")]
    SymbolSize {
        symbol: String,
        size: u64,
        expected: u64,
    },
    #[error("symbol '{0}' is in no segment")]
    SymbolAddress(String),
    #[error("one loadable segment at file offset 0 is needed, there are {0}")]
    KernelSegments(usize),
    #[error("symbol '{0}' is not in the file: it must be initialised data")]
    KernelSymbol(String),
}

/// A loadable segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Virtual address of the first byte.
    pub vaddr: u64,
    /// Offset of the first byte in the file.
    pub offset: u64,
    /// Bytes in memory.
    pub memsz: u64,
    /// First bytes; the rest are zeros.
    pub data: Vec<u8>,
    /// May be written.
    pub write: bool,
    /// May be executed.
    pub execute: bool,
}

impl Segment {
    /// First page.
    pub fn start(&self) -> u64 {
        self.vaddr & !(PAGE - 1)
    }

    /// End of the last page.
    pub fn end(&self) -> u64 {
        (self.vaddr + self.memsz).next_multiple_of(PAGE)
    }

    /// Pages with bytes from the file.
    pub fn file_pages(&self) -> u64 {
        if self.data.is_empty() {
            return 0;
        }
        ((self.vaddr + self.data.len() as u64).next_multiple_of(PAGE) - self.start()) / PAGE
    }

    /// Pages in all.
    pub fn pages(&self) -> u64 {
        (self.end() - self.start()) / PAGE
    }

    /// The file's bytes from the start of the first page on.
    pub fn page_data(&self) -> Vec<u8> {
        let mut data = vec![0; (self.vaddr - self.start()) as usize];
        data.extend_from_slice(&self.data);
        data
    }

    fn contains(&self, address: u64, size: u64) -> bool {
        address >= self.vaddr
            && address
                .checked_add(size)
                .is_some_and(|end| end <= self.vaddr + self.memsz)
    }
}

/// Address and size of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Virtual address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

/// A program image.
#[derive(Clone, Debug)]
pub struct Elf {
    /// The file, for messages.
    pub file: String,
    /// First instruction.
    pub entry: u64,
    /// Loadable segments by address.
    pub segments: Vec<Segment>,
    /// Defined symbols by name.
    pub symbols: BTreeMap<String, Symbol>,
}

impl Elf {
    /// Reads a program image. `file` is only used in messages.
    ///
    /// # Errors
    /// [`Error::Elf`].
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Elf, Error> {
        let fail = |problem| Error::Elf {
            place: None,
            file: file.into(),
            problem,
        };
        let damaged = |e: object::Error| fail(ElfProblem::Damaged(e.to_string()));
        if bytes.get(..4) != Some(&elf::ELFMAG[..]) {
            return Err(fail(ElfProblem::NotElf));
        }
        if bytes.get(4..6) != Some(&[elf::ELFCLASS64, elf::ELFDATA2LSB]) {
            return Err(fail(ElfProblem::Class));
        }
        let header = elf::FileHeader64::<LittleEndian>::parse(bytes).map_err(damaged)?;
        let endian = LittleEndian;
        let machine = header.e_machine(endian);
        if machine != elf::EM_PPC64 {
            return Err(fail(ElfProblem::Machine(machine)));
        }
        let flags = header.e_flags(endian);
        if flags & elf::EF_PPC64_ABI != 2 {
            return Err(fail(ElfProblem::Abi(flags)));
        }
        let kind = header.e_type(endian);
        if kind != elf::ET_EXEC {
            return Err(fail(ElfProblem::Type(kind)));
        }

        let mut segments = Vec::new();
        for p in header.program_headers(endian, bytes).map_err(damaged)? {
            if p.p_type(endian) != elf::PT_LOAD || p.p_memsz(endian) == 0 {
                continue;
            }
            let data = p
                .data(endian, bytes)
                .map_err(|()| fail(ElfProblem::Damaged("segment outside the file".into())))?;
            let (vaddr, memsz) = (p.p_vaddr(endian), p.p_memsz(endian));
            let fits = memsz <= MAX_SEGMENT && vaddr.checked_add(memsz + PAGE).is_some();
            if !fits || data.len() as u64 > memsz {
                return Err(fail(ElfProblem::SegmentSize(vaddr, memsz)));
            }
            segments.push(Segment {
                vaddr,
                offset: p.p_offset(endian),
                memsz,
                data: data.to_vec(),
                write: p.p_flags(endian) & elf::PF_W != 0,
                execute: p.p_flags(endian) & elf::PF_X != 0,
            });
        }
        segments.sort_by_key(|s| s.vaddr);
        if segments.is_empty() {
            return Err(fail(ElfProblem::Empty));
        }
        if let Some(w) = segments.windows(2).find(|w| w[0].end() > w[1].start()) {
            return Err(fail(ElfProblem::SharedPage(w[0].vaddr, w[1].vaddr)));
        }

        let mut symbols = BTreeMap::new();
        let sections = header.sections(endian, bytes).map_err(damaged)?;
        let table = sections
            .symbols(endian, bytes, elf::SHT_SYMTAB)
            .map_err(damaged)?;
        for index in 1..table.len() {
            let symbol = table.symbol(SymbolIndex(index)).map_err(damaged)?;
            if symbol.is_undefined(endian) {
                continue;
            }
            let name = table.symbol_name(endian, symbol).map_err(damaged)?;
            if let Ok(name) = std::str::from_utf8(name)
                && !name.is_empty()
            {
                let symbol = Symbol {
                    address: symbol.st_value(endian),
                    size: symbol.st_size(endian),
                };
                symbols.entry(name.into()).or_insert(symbol);
            }
        }
        let entry = header.e_entry(endian);
        if !segments.iter().any(|s| s.execute && s.contains(entry, 4)) {
            return Err(fail(ElfProblem::Entry(entry)));
        }
        if !entry.is_multiple_of(4) {
            return Err(fail(ElfProblem::EntryAlignment(entry)));
        }
        Ok(Elf {
            file: file.into(),
            entry,
            segments,
            symbols,
        })
    }

    /// This file's error.
    pub fn error(&self, problem: ElfProblem) -> Error {
        Error::Elf {
            place: None,
            file: self.file.clone(),
            problem,
        }
    }

    /// A symbol of exactly `size` bytes.
    ///
    /// # Errors
    /// [`ElfProblem::NoSymbol`], [`ElfProblem::SymbolSize`].
    pub fn symbol(&self, name: &str, size: u64) -> Result<Symbol, Error> {
        let symbol = *self
            .symbols
            .get(name)
            .ok_or_else(|| self.error(ElfProblem::NoSymbol(name.into())))?;
        if symbol.size != size {
            return Err(self.error(ElfProblem::SymbolSize {
                symbol: name.into(),
                size: symbol.size,
                expected: size,
            }));
        }
        Ok(symbol)
    }

    /// Index of the segment that a symbol lies in.
    ///
    /// # Errors
    /// [`ElfProblem::SymbolAddress`].
    pub fn segment_of(&self, name: &str, symbol: Symbol) -> Result<usize, Error> {
        self.segments
            .iter()
            .position(|s| s.contains(symbol.address, symbol.size))
            .ok_or_else(|| self.error(ElfProblem::SymbolAddress(name.into())))
    }

    /// Makes a segment's file part reach at least to the end of a symbol.
    ///
    /// # Errors
    /// As [`Elf::symbol`] and [`Elf::segment_of`].
    pub fn reserve(&mut self, name: &str, size: u64) -> Result<usize, Error> {
        let symbol = self.symbol(name, size)?;
        let index = self.segment_of(name, symbol)?;
        let segment = &mut self.segments[index];
        let end = (symbol.address - segment.vaddr + size) as usize;
        if segment.data.len() < end {
            segment.data.resize(end, 0);
        }
        Ok(index)
    }

    /// Writes the value of a symbol.
    ///
    /// # Errors
    /// As [`Elf::symbol`] and [`Elf::segment_of`].
    pub fn patch(&mut self, name: &str, value: &[u8]) -> Result<(), Error> {
        let index = self.reserve(name, value.len() as u64)?;
        let address = self.symbol(name, value.len() as u64)?.address;
        let segment = &mut self.segments[index];
        let at = (address - segment.vaddr) as usize;
        segment.data[at..at + value.len()].copy_from_slice(value);
        Ok(())
    }
}
