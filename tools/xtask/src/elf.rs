// SPDX-License-Identifier: BSD-2-Clause
//! What the checks and measurements need of an ELF file.

use crate::error::{Error, Result, read_bytes};
use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol, SectionFlags, SectionKind, elf};
use std::path::{Path, PathBuf};

/// An ELF file.
pub struct Elf {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its entry point.
    pub entry: u64,
    /// Whether it may be loaded anywhere.
    pub is_relocatable: bool,
    /// Sections that are loaded.
    pub sections: Vec<Section>,
    symbols: Vec<Symbol>,
    segments: Vec<(u64, Vec<u8>)>,
}

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Instructions.
    Text,
    /// Read-only data.
    Rodata,
    /// Writable data with contents in the file.
    Data,
    /// Zeros.
    Bss,
}

/// A section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: Kind,
    /// Its first address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

/// A symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Symbol {
    address: u64,
    size: u64,
    name: String,
}

impl Elf {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_bytes(path)?;
        Self::parse(path, &bytes).map_err(|e| Error::Content {
            path: path.into(),
            why: e.to_string(),
        })
    }

    fn parse(path: &Path, bytes: &[u8]) -> object::Result<Self> {
        let file = object::File::parse(bytes)?;
        let sections = file.sections().filter_map(|s| section(&s)).collect();
        let mut symbols: Vec<Symbol> = file
            .symbols()
            .filter(|s| s.is_definition() || (s.address() != 0 && !s.is_undefined()))
            .filter_map(|s| {
                let name = s
                    .name()
                    .ok()
                    .filter(|n| !n.is_empty() && !n.starts_with('.'))?;
                let name = format!("{:#}", rustc_demangle::demangle(name));
                Some(Symbol {
                    address: s.address(),
                    size: s.size(),
                    name,
                })
            })
            .collect();
        symbols.sort_by(|a, b| (a.address, a.size, &a.name).cmp(&(b.address, b.size, &b.name)));
        let mut segments = Vec::new();
        for segment in file.segments() {
            segments.push((segment.address(), segment.data()?.to_vec()));
        }
        Ok(Self {
            path: path.into(),
            entry: file.entry(),
            is_relocatable: file.kind() == object::ObjectKind::Dynamic,
            sections,
            symbols,
            segments,
        })
    }

    /// Bytes of all sections of a kind.
    pub fn size(&self, kind: Kind) -> u64 {
        self.sections
            .iter()
            .filter(|s| s.kind == kind)
            .map(|s| s.size)
            .sum()
    }

    /// The address of a symbol.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        self.symbols
            .iter()
            .find(|s| s.name == name)
            .map(|s| s.address)
    }

    /// Address and size of the symbol whose name contains this.
    pub fn symbol_with(&self, part: &str) -> Option<(u64, u64)> {
        let found = self.symbols.iter().find(|s| s.name.contains(part));
        found.map(|s| (s.address, s.size))
    }

    /// The symbol that an address belongs to, and the distance to it.
    pub fn symbol_at(&self, address: u64) -> Option<(&str, u64)> {
        let text = self.is_text(address);
        let count = self.symbols.partition_point(|s| s.address <= address);
        let symbol = self.symbols[..count]
            .iter()
            .rev()
            .find(|s| self.is_text(s.address) == text)?;
        let inside = symbol.size == 0 || address < symbol.address + symbol.size;
        inside.then_some((symbol.name.as_str(), address - symbol.address))
    }

    /// Whether an address lies in instructions.
    pub fn is_text(&self, address: u64) -> bool {
        let inside = |s: &Section| address >= s.address && address - s.address < s.size;
        self.sections
            .iter()
            .any(|s| s.kind == Kind::Text && inside(s))
    }

    /// The contents at an address, as far as the file has them.
    pub fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.segments.iter().find_map(|(base, data)| {
            let at = usize::try_from(address.checked_sub(*base)?).ok()?;
            data.get(at..at.checked_add(length)?)
        })
    }

    /// At most `length` bytes at an address, at least one: less where the segment ends.
    pub fn bytes_up_to(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.segments.iter().find_map(|(base, data)| {
            let at = usize::try_from(address.checked_sub(*base)?).ok()?;
            let rest = data.get(at..).filter(|rest| !rest.is_empty())?;
            Some(&rest[..rest.len().min(length)])
        })
    }

    /// The instruction at an address (little-endian).
    pub fn word(&self, address: u64) -> Option<u32> {
        if !self.is_text(address) {
            return None;
        }
        Some(u32::from_le_bytes(self.bytes(address, 4)?.try_into().ok()?))
    }
}

fn section(section: &object::Section<'_, '_>) -> Option<Section> {
    let SectionFlags::Elf { sh_flags } = section.flags() else {
        return None;
    };
    let has = |flag: u32| sh_flags & u64::from(flag) != 0;
    if !has(elf::SHF_ALLOC) {
        return None;
    }
    let zeros = matches!(
        section.kind(),
        SectionKind::UninitializedData | SectionKind::UninitializedTls | SectionKind::Common
    );
    let kind = match (has(elf::SHF_EXECINSTR), has(elf::SHF_WRITE)) {
        (true, _) => Kind::Text,
        (false, false) => Kind::Rodata,
        (false, true) if zeros => Kind::Bss,
        (false, true) => Kind::Data,
    };
    Some(Section {
        kind,
        address: section.address(),
        size: section.size(),
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use object::write;

    /// A little-endian ppc64 object with one function `name` at `words`.
    pub fn sample(name: &str, words: &[u32]) -> Elf {
        let mut object = write::Object::new(
            object::BinaryFormat::Elf,
            object::Architecture::PowerPc64,
            object::Endianness::Little,
        );
        let text = object.section_id(write::StandardSection::Text);
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let offset = object.append_section_data(text, &bytes, 4);
        object.add_symbol(write::Symbol {
            name: name.into(),
            value: offset,
            size: bytes.len() as u64,
            kind: object::SymbolKind::Text,
            scope: object::SymbolScope::Linkage,
            weak: false,
            section: write::SymbolSection::Section(text),
            flags: object::SymbolFlags::None,
        });
        let data = object.section_id(write::StandardSection::UninitializedData);
        object.append_section_bss(data, 40, 8);
        let file = object.write().unwrap();
        let mut elf = Elf::parse(Path::new("sample"), &file).unwrap();
        elf.segments.push((0, bytes));
        elf
    }

    #[test]
    fn sections_and_symbols() {
        let elf = sample("f", &[0x6000_0000, 0x4e80_0020]);
        assert_eq!((elf.size(Kind::Text), elf.size(Kind::Bss)), (8, 40));
        assert_eq!(elf.symbol("f"), Some(0));
        assert_eq!(elf.symbol_at(4), Some(("f", 4)));
        assert_eq!(elf.symbol_at(8), None);
        assert_eq!(elf.word(4), Some(0x4e80_0020));
        assert_eq!(elf.word(8), None);
        assert_eq!(elf.bytes_up_to(4, 64).map(<[u8]>::len), Some(4));
        assert_eq!(elf.bytes_up_to(8, 64), None);
    }
}
