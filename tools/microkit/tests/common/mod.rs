// SPDX-License-Identifier: BSD-2-Clause
//! Small ELF files for tests.
#![allow(dead_code, reason = "each test binary uses its own part")]

use microkit_tool::elf::Elf;
use microkit_tool::{Board, Config, Request, Sdk};
use object::write::elf::{FileHeader, ProgramHeader, SectionHeader, Sym, Writer};
use object::{Endianness, elf};
use std::path::{Path, PathBuf};

/// A symbol: name, address, bytes.
pub type Symbol = (&'static str, u64, u64);

/// A loadable segment.
#[derive(Clone)]
pub struct Load {
    pub vaddr: u64,
    pub memsz: u64,
    pub data: Vec<u8>,
    pub flags: u32,
}

/// An ELF file to be.
#[derive(Clone)]
pub struct Program {
    pub big_endian: bool,
    pub machine: u16,
    pub flags: u32,
    pub kind: u16,
    pub entry: u64,
    pub loads: Vec<Load>,
    pub symbols: Vec<Symbol>,
}

const NOP: [u8; 4] = 0x6000_0000u32.to_le_bytes();

pub const TEXT: u64 = 0x20_0000;
pub const DATA: u64 = 0x21_0000;
/// Address of the last byte of `.bss` plus one.
pub const DATA_END: u64 = DATA + 0x2800;

/// A program with two pages of text, one of data and two of zeros, and the symbols of a PD.
pub fn pd() -> Program {
    let text = NOP.repeat(0x1400 / 4);
    let data = (0..0x400u32).map(|i| i as u8).collect();
    Program {
        big_endian: false,
        machine: elf::EM_PPC64,
        flags: 2,
        kind: elf::ET_EXEC,
        entry: TEXT + 0x100,
        loads: vec![
            Load {
                vaddr: TEXT,
                memsz: 0x1400,
                data: text,
                flags: elf::PF_R | elf::PF_X,
            },
            Load {
                vaddr: DATA,
                memsz: 0x2800,
                data,
                flags: elf::PF_R | elf::PF_W,
            },
        ],
        symbols: vec![
            ("microkit_name", DATA, 64),
            ("microkit_passive", DATA + 0x40, 1),
            ("microkit_irqs", DATA + 0x48, 8),
            ("microkit_notifications", DATA + 0x50, 8),
            ("microkit_pps", DATA + 0x58, 8),
            ("variable", DATA + 0x60, 8),
            ("second", DATA + 0x68, 8),
            ("third", DATA + 0x70, 8),
            ("short", DATA + 0x78, 4),
            ("in_bss", DATA + 0x500, 8),
        ],
    }
}

/// A kernel: ELF header, text, data, `.bss`, linked at the top with file offset 0 first.
pub fn kernel() -> Program {
    let base = 0xc000_0000_2000_0000;
    let mut data = vec![0; 0x1000];
    data.extend_from_slice(&NOP.repeat(0x400));
    Program {
        entry: base + 0x1000,
        loads: vec![Load {
            vaddr: base,
            memsz: 0x5100,
            data,
            flags: 7,
        }],
        symbols: vec![("partita_image_info", base + 0x1800, 8)],
        ..pd()
    }
}

/// The monitor.
pub fn monitor() -> Program {
    Program {
        symbols: vec![
            ("pd_names_len", DATA, 8),
            ("pd_names", DATA + 0x400, 64 * 63),
            ("pd_stack_bottom_addrs", DATA + 0x1400, 8 * 63),
        ],
        ..pd()
    }
}

impl Program {
    /// The bytes of the file. A segment whose data has room for them begins with the headers, as
    /// the kernel's does: the one at 0xc….
    pub fn bytes(&self) -> Vec<u8> {
        let endian = if self.big_endian {
            Endianness::Big
        } else {
            Endianness::Little
        };
        let mut out = Vec::new();
        let mut w = Writer::new(endian, true, &mut out);
        let with_headers = self.loads.len() == 1 && self.loads[0].vaddr >> 60 == 0xc;
        w.reserve_file_header();
        w.reserve_program_headers(self.loads.len() as u32);
        let offsets: Vec<usize> = self
            .loads
            .iter()
            .map(|load| match with_headers {
                true => {
                    w.reserve_until(load.data.len());
                    0
                }
                false => {
                    let at = w.reserve(0, 0x1000);
                    let at = at + (load.vaddr & 0xfff) as usize;
                    w.reserve_until(at + load.data.len());
                    at
                }
            })
            .collect();
        let names: Vec<_> = self
            .symbols
            .iter()
            .map(|(name, ..)| w.add_string(name.as_bytes()))
            .collect();
        w.reserve_null_section_index();
        let text_name = w.add_section_name(b".text");
        let text = w.reserve_section_index();
        w.reserve_null_symbol_index();
        for _ in &self.symbols {
            w.reserve_symbol_index(Some(text));
        }
        w.reserve_symtab_section_index();
        w.reserve_strtab_section_index();
        w.reserve_shstrtab_section_index();
        w.reserve_symtab();
        w.reserve_strtab();
        w.reserve_shstrtab();
        w.reserve_section_headers();

        w.write_file_header(&FileHeader {
            os_abi: 0,
            abi_version: 0,
            e_type: self.kind,
            e_machine: self.machine,
            e_entry: self.entry,
            e_flags: self.flags,
        })
        .unwrap();
        w.write_align_program_headers();
        for (load, &offset) in self.loads.iter().zip(&offsets) {
            w.write_program_header(&ProgramHeader {
                p_type: elf::PT_LOAD,
                p_flags: load.flags,
                p_offset: offset as u64,
                p_vaddr: load.vaddr,
                p_paddr: load.vaddr,
                p_filesz: load.data.len() as u64,
                p_memsz: load.memsz,
                p_align: 0x1000,
            });
        }
        for (load, &offset) in self.loads.iter().zip(&offsets) {
            if with_headers {
                let done = w.len();
                w.write(&load.data[done..]);
            } else {
                w.pad_until(offset);
                w.write(&load.data);
            }
        }
        w.write_null_symbol();
        for ((_, address, size), name) in self.symbols.iter().zip(&names) {
            w.write_symbol(&Sym {
                name: Some(*name),
                section: Some(text),
                st_info: (elf::STB_GLOBAL << 4) | elf::STT_OBJECT,
                st_other: 0,
                st_shndx: 0,
                st_value: *address,
                st_size: *size,
            });
        }
        w.write_strtab();
        w.write_shstrtab();
        w.write_null_section_header();
        w.write_section_header(&SectionHeader {
            name: Some(text_name),
            sh_type: elf::SHT_PROGBITS,
            sh_flags: 0,
            sh_addr: TEXT,
            sh_offset: 0,
            sh_size: 0,
            sh_link: 0,
            sh_info: 0,
            sh_addralign: 1,
            sh_entsize: 0,
        });
        w.write_symtab_section_header(1);
        w.write_strtab_section_header();
        w.write_shstrtab_section_header();
        out
    }

    /// The file, read back.
    pub fn elf(&self, name: &str) -> Elf {
        Elf::parse(name, &self.bytes()).unwrap()
    }
}

/// Kernel, initialiser, monitor.
pub fn sdk() -> Sdk {
    Sdk {
        kernel: kernel().elf("kernel.elf"),
        initialiser: pd().elf("initialiser.elf"),
        monitor: monitor().elf("monitor.elf"),
    }
}

/// A folder with files for tests; removed at the end.
pub struct Fixtures(PathBuf);

impl Fixtures {
    /// `a.elf`, `b.elf` (the same program), broken programs, `file.bin` (5000 bytes), `empty.bin`.
    pub fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-fixtures"));
        std::fs::create_dir_all(&folder).unwrap();
        let fixtures = Fixtures(folder);
        let put = |name: &str, program: &Program| fixtures.put(name, &program.bytes());
        put("a.elf", &pd());
        put("b.elf", &pd());
        put(
            "x86.elf",
            &Program {
                machine: elf::EM_X86_64,
                ..pd()
            },
        );
        put(
            "big_endian.elf",
            &Program {
                big_endian: true,
                ..pd()
            },
        );
        put("elfv1.elf", &Program { flags: 1, ..pd() });
        put(
            "shared_object.elf",
            &Program {
                kind: elf::ET_DYN,
                ..pd()
            },
        );
        put(
            "entry.elf",
            &Program {
                entry: 0x100,
                ..pd()
            },
        );
        put(
            "no_runtime.elf",
            &Program {
                symbols: vec![],
                ..pd()
            },
        );
        let mut shared_page = pd();
        shared_page.loads[0].data.truncate(0x400);
        shared_page.loads[0].memsz = 0x400;
        shared_page.loads[1].vaddr = TEXT + 0x800;
        put("shared_page.elf", &shared_page);
        let mut high = pd();
        high.loads[1].vaddr = 0x3fff_ffff_f000;
        high.loads[1].memsz = 0x1000;
        put("high.elf", &high);
        let whole = pd().bytes();
        fixtures.put("truncated.elf", &whole[..0x1100]);
        let file: Vec<u8> = (0..5000u32).map(|i| (i % 251) as u8).collect();
        fixtures.put("file.bin", &file);
        fixtures.put("empty.bin", &[]);
        fixtures
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.join(name), bytes).unwrap();
    }

    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Builds a system with these files.
    pub fn build(&self, file: &str, text: &str) -> Result<microkit_tool::Output, String> {
        self.build_for(file, text, "debug")
    }

    /// Builds a system with these files for a kernel configuration. Messages do not name the folder.
    pub fn build_for(
        &self,
        file: &str,
        text: &str,
        config: &str,
    ) -> Result<microkit_tool::Output, String> {
        microkit_tool::build(&Request {
            file: Path::new(file),
            text,
            search_path: std::slice::from_ref(&self.0),
            board: &Board::find("qemu_powernv9").unwrap(),
            config: &Config::find(config).unwrap(),
            sdk: &sdk(),
        })
        .map_err(|error| {
            let folder = self.0.display().to_string();
            error
                .to_string()
                .replace(&format!("{folder}/"), "")
                .replace(&folder, "")
        })
    }
}
