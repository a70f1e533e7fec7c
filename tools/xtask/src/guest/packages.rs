// SPDX-License-Identifier: BSD-2-Clause
//! Programs of Debian's for the guest, with the shared libraries that they load and nothing else.

use super::fetch::{Apt, Cache};
use crate::error::{At, Error, Result, read_bytes};
use object::elf::DT_NEEDED;
use object::read::elf::{Dyn, ElfFile64};
use object::{LittleEndian, Object, ObjectSection};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where the guest's loader looks for libraries.
const LIBRARIES: &str = "lib/powerpc64le-linux-gnu";
/// The folders of a package that have programs, and where they go.
const PROGRAMS: &[&str] = &["bin", "sbin", "usr/bin", "usr/sbin"];
/// The folders of a package that have libraries.
const LIBRARY_FOLDERS: &[&str] = &[LIBRARIES, "usr/lib/powerpc64le-linux-gnu"];
/// How far dependencies are followed: libraries are near, the whole of a desktop is not.
const DEPTH: usize = 4;

/// A file of the guest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFile {
    /// Its path in the guest, without a leading slash.
    pub name: String,
    /// Where it is here.
    pub file: PathBuf,
}

/// The programs of a package and the libraries that they need, from the cache if they are there.
pub fn programs(cache: &Cache, package: &str) -> Result<Vec<GuestFile>> {
    let folder = cache.folder().join("programs").join(package);
    let mut found = Found::default();
    if folder.is_dir() {
        found.look(&folder)?;
        if found.missing.is_empty() {
            return Ok(found.files());
        }
    }
    cache.may_download(package)?;
    let apt = Apt::new(cache.folder())?;
    let mut known = BTreeSet::from([package.to_string()]);
    let mut level = vec![package.to_string()];
    for _ in 0..DEPTH {
        for name in &level {
            cache.unpack_into(&apt, name, &folder)?;
        }
        found = Found::default();
        found.look(&folder)?;
        if found.missing.is_empty() {
            return Ok(found.files());
        }
        let mut next = Vec::new();
        for name in &level {
            next.extend(
                apt.depends(name)?
                    .into_iter()
                    .filter(|d| known.insert(d.clone())),
            );
        }
        level = next;
    }
    Err(Error::Content {
        path: folder,
        why: format!("no package has {}", found.missing.join(", ")),
    })
}

/// What a folder of unpacked packages has.
#[derive(Default)]
struct Found {
    programs: Vec<GuestFile>,
    libraries: BTreeMap<String, PathBuf>,
    interpreters: BTreeMap<String, PathBuf>,
    missing: Vec<String>,
}

impl Found {
    /// Starts from the programs of the first package: those of libraries' packages are not wanted, but do
    /// no harm.
    fn look(&mut self, folder: &Path) -> Result<()> {
        let mut open = Vec::new();
        for place in PROGRAMS {
            let Ok(entries) = std::fs::read_dir(folder.join(place)) else {
                continue;
            };
            for entry in entries {
                let file = entry.at(folder)?.path();
                // Scripts need what is not here.
                if !file.is_file() || !read_bytes(&file)?.starts_with(b"\x7fELF") {
                    continue;
                }
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                self.programs.push(GuestFile {
                    name: format!("bin/{name}"),
                    file: file.clone(),
                });
                open.push(file);
            }
        }
        self.programs.sort_by(|a, b| a.name.cmp(&b.name));
        if self.programs.is_empty() {
            self.missing.push("a program".into());
        }
        while let Some(file) = open.pop() {
            let wanted = wanted(&file)?;
            for library in wanted.libraries {
                if self.libraries.contains_key(&library) || self.missing.contains(&library) {
                    continue;
                }
                match find(folder, &library) {
                    Some(path) => {
                        open.push(path.clone());
                        self.libraries.insert(library, path);
                    }
                    None => self.missing.push(library),
                }
            }
            if let Some(path) = wanted.interpreter {
                let name = Path::new(&path).file_name().unwrap_or_default();
                match find(folder, &name.to_string_lossy()) {
                    Some(file) => drop(self.interpreters.insert(path, file)),
                    None => self.missing.push(path),
                }
            }
        }
        self.missing.sort();
        self.missing.dedup();
        Ok(())
    }

    fn files(self) -> Vec<GuestFile> {
        let libraries = self.libraries.into_iter().map(|(name, file)| GuestFile {
            name: format!("{LIBRARIES}/{name}"),
            file,
        });
        let interpreters = self.interpreters.into_iter().map(|(path, file)| GuestFile {
            name: path.trim_start_matches('/').into(),
            file,
        });
        self.programs
            .into_iter()
            .chain(libraries)
            .chain(interpreters)
            .collect()
    }
}

fn find(folder: &Path, library: &str) -> Option<PathBuf> {
    let file = |place: &&str| folder.join(place).join(library);
    LIBRARY_FOLDERS.iter().map(file).find(|f| f.is_file())
}

/// What a program or library is loaded with.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    libraries: Vec<String>,
    interpreter: Option<String>,
}

fn wanted(file: &Path) -> Result<Wanted> {
    let bytes = read_bytes(file)?;
    parse(&bytes).map_err(|e| Error::Content {
        path: file.into(),
        why: e.to_string(),
    })
}

fn parse(bytes: &[u8]) -> object::Result<Wanted> {
    let file = ElfFile64::<LittleEndian>::parse(bytes)?;
    let text = |bytes: &[u8]| -> String {
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    let mut wanted = Wanted::default();
    if let Some(section) = file.section_by_name(".interp") {
        wanted.interpreter = Some(text(section.data()?));
    }
    let table = file.elf_section_table();
    let endian = LittleEndian;
    if let Some((entries, strings)) = table.dynamic(endian, bytes)? {
        let strings = table.strings(endian, bytes, strings)?;
        for entry in entries {
            if entry.tag32(endian) == Some(DT_NEEDED) {
                wanted.libraries.push(text(entry.string(endian, strings)?));
            }
        }
    }
    Ok(wanted)
}
