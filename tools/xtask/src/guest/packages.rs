// SPDX-License-Identifier: BSD-2-Clause
//! Programs of Debian's for the guest, with the shared libraries that they load and nothing else.

use super::fetch::{Apt, Cache};
use crate::error::{At, Error, Result, read_bytes};
use object::elf::DT_NEEDED;
use object::read::elf::{Dyn, ElfFile64};
use object::{LittleEndian, Object, ObjectSection};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the guest's loader looks for libraries.
const LIBRARIES: &str = "lib/powerpc64le-linux-gnu";
/// The folders of a package that have programs, and where they go.
const PROGRAMS: &[&str] = &["bin", "sbin", "usr/bin", "usr/sbin"];
/// The folders of a package that have libraries.
const LIBRARY_FOLDERS: &[&str] = &[LIBRARIES, "usr/lib/powerpc64le-linux-gnu"];
/// What every library's name and most of their packages' names begin with.
const LIB: &str = "lib";

/// A file of the guest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFile {
    /// Its path in the guest, without a leading slash.
    pub name: String,
    /// Where it is here.
    pub file: PathBuf,
}

/// The programs of a package and the libraries that they need, from the cache if they are there.
///
/// A package depends directly on those that have the libraries which its own files need: that is how Debian
/// makes dependencies. So only these are looked into, and other dependencies are left out. Each package is
/// unpacked into a folder of its own.
pub fn programs(cache: &Cache, package: &str) -> Result<Vec<GuestFile>> {
    let folder = cache.folder().join("packages");
    let mut found = Found::look(&folder, package)?;
    if found.missing.is_empty() {
        return Ok(found.files());
    }
    cache.may_download(package)?;
    let apt = Apt::new(cache.folder())?;
    cache.unpack(&apt, package, &folder.join(package))?;
    let mut dependencies: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    loop {
        found = Found::look(&folder, package)?;
        let Some(first) = found.missing.first() else {
            return Ok(found.files());
        };
        for missing in &found.missing {
            let needed_by = &missing.needed_by;
            if !dependencies.contains_key(needed_by) {
                let names = apt.depends(needed_by)?;
                dependencies.insert(needed_by.clone(), apt.sizes(&names)?);
            }
        }
        let candidates = found.missing.iter().flat_map(|missing| {
            let packages = dependencies[&missing.needed_by].iter();
            packages.map(|package| (missing.file.as_str(), package))
        });
        let candidates = candidates.filter(|(_, (name, _))| !folder.join(name).is_dir());
        let Some(next) = choose(candidates) else {
            let Missing { file, needed_by } = first;
            return Err(Error::Content {
                why: format!("no package that {needed_by} depends on has {file}, which it needs"),
                path: folder,
            });
        };
        cache.unpack(&apt, next, &folder.join(next))?;
    }
}

/// Of missing libraries and packages that may have them, the package to look into first: that whose name is most
/// like a library's, then the smallest.
fn choose<'a>(candidates: impl Iterator<Item = (&'a str, &'a (String, u64))>) -> Option<&'a str> {
    candidates
        .max_by_key(|(file, (name, bytes))| {
            (
                likeness(name, file),
                Reverse(*bytes),
                Reverse(name.as_str()),
            )
        })
        .map(|(_, (name, _))| name.as_str())
}

/// How much the name of a package is like that of a library's file. Debian names it after the file:
/// `libfoo2` has `libfoo.so.2`, `libfoo-2.0-1` has `libfoo-2.0.so.1`; but not all keep to that.
fn likeness(package: &str, file: &str) -> usize {
    let plain = |text: &str| -> String {
        let text = text.to_ascii_lowercase();
        text.chars().filter(|c| c.is_ascii_alphanumeric()).collect()
    };
    let library = plain(&file.replacen(".so", "", 1));
    let package = plain(package.trim_end_matches("t64"));
    if library == package {
        return usize::MAX;
    }
    let alike = library.bytes().zip(package.bytes());
    let alike = alike.take_while(|(a, b)| a == b).count();
    alike.saturating_sub(LIB.len())
}

/// What a folder of unpacked packages has.
#[derive(Default)]
struct Found {
    programs: Vec<GuestFile>,
    libraries: BTreeMap<String, PathBuf>,
    interpreters: BTreeMap<String, PathBuf>,
    missing: Vec<Missing>,
}

/// A file that is in none of the packages.
#[derive(Debug, PartialEq, Eq)]
struct Missing {
    file: String,
    /// The package with a file that needs it.
    needed_by: String,
}

impl Found {
    /// The programs of a package, and what they load from it and from others.
    fn look(folder: &Path, package: &str) -> Result<Self> {
        let mut found = Self::default();
        let mut open = Vec::new();
        for place in PROGRAMS {
            let place = folder.join(package).join(place);
            let Ok(entries) = std::fs::read_dir(&place) else {
                continue;
            };
            for entry in entries {
                let file = entry.at(&place)?.path();
                // Scripts need what is not here.
                if !file.is_file() || !read_bytes(&file)?.starts_with(b"\x7fELF") {
                    continue;
                }
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                found.programs.push(GuestFile {
                    name: format!("bin/{name}"),
                    file: file.clone(),
                });
                open.push((package.to_string(), file));
            }
        }
        found.programs.sort_by(|a, b| a.name.cmp(&b.name));
        if found.programs.is_empty() {
            found.miss("a program", package);
        }
        while let Some((needed_by, file)) = open.pop() {
            let wanted = wanted(&file)?;
            for library in wanted.libraries {
                if found.libraries.contains_key(&library) {
                    continue;
                }
                match find(folder, &library)? {
                    Some((package, path)) => {
                        open.push((package, path.clone()));
                        found.libraries.insert(library, path);
                    }
                    None => found.miss(&library, &needed_by),
                }
            }
            if let Some(path) = wanted.interpreter {
                let name = Path::new(&path).file_name().unwrap_or_default();
                let name = name.to_string_lossy();
                match find(folder, &name)? {
                    Some((_, file)) => drop(found.interpreters.insert(path, file)),
                    None => found.miss(&name, &needed_by),
                }
            }
        }
        Ok(found)
    }

    fn miss(&mut self, file: &str, needed_by: &str) {
        if !self.missing.iter().any(|missing| missing.file == file) {
            self.missing.push(Missing {
                file: file.into(),
                needed_by: needed_by.into(),
            });
        }
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

/// A library in the packages below a folder, and the package that has it.
fn find(folder: &Path, library: &str) -> Result<Option<(String, PathBuf)>> {
    for entry in std::fs::read_dir(folder).at(folder)? {
        let package = entry.at(folder)?;
        let file = |place: &&str| package.path().join(place).join(library);
        if let Some(file) = LIBRARY_FOLDERS.iter().map(file).find(|f| f.is_file()) {
            let name = package.file_name().to_string_lossy().into_owned();
            return Ok(Some((name, file)));
        }
    }
    Ok(None)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_after_their_libraries() {
        let exact = [
            ("libegl1", "libEGL.so.1"),
            ("libgcc-s1", "libgcc_s.so.1"),
            ("libfoo-2.0-1", "libfoo-2.0.so.1"),
            ("libssl3t64", "libssl.so.3"),
        ];
        for (package, file) in exact {
            assert_eq!(likeness(package, file), usize::MAX, "{package}");
        }
        assert!(likeness("libgles2", "libGLESv2.so.2") > likeness("libgl1", "libGLESv2.so.2"));
        assert_eq!(likeness("zlib1g", "libz.so.1"), 0);
        assert_eq!(likeness("libegl1", "libz.so.1"), 0);
    }

    #[test]
    fn the_likeliest_comes_first_and_then_the_smallest() {
        let candidates = [
            ("libllvm15", 22_000_000),
            ("zlib1g", 90_000),
            ("libgl1-mesa-dri", 7_000_000),
            ("libc6", 2_000_000),
        ]
        .map(|(name, bytes)| (name.to_string(), bytes));
        let chosen = |files: &[&'static str]| {
            let of = |file| candidates.iter().map(move |candidate| (file, candidate));
            choose(files.iter().copied().flat_map(of))
        };
        assert_eq!(chosen(&["libc.so.6"]), Some("libc6"));
        assert_eq!(chosen(&["libz.so.1"]), Some("zlib1g"));
        assert_eq!(chosen(&["ld64.so.2", "libc.so.6"]), Some("libc6"));
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn what_is_missing_is_named_with_who_needs_it() {
        let folder = std::env::temp_dir().join(format!("xtask-packages-{}", std::process::id()));
        let program = std::env::current_exe().unwrap();
        let missing = |folder: &Path| -> Vec<String> {
            let found = Found::look(folder, "tool").unwrap();
            assert!(found.missing.iter().all(|m| m.needed_by == "tool"));
            found.missing.into_iter().map(|m| m.file).collect()
        };
        assert_eq!(missing(&folder), ["a program"]);
        let copy = folder.join("tool/usr/bin/tool");
        crate::error::copy(&program, &copy).unwrap();
        // A script is left out.
        crate::error::write(&folder.join("tool/usr/bin/script"), "#!/bin/sh").unwrap();
        let before = missing(&folder);
        assert!(before.contains(&"libc.so.6".to_string()), "{before:?}");
        let library = folder.join("libc6").join(LIBRARIES).join("libc.so.6");
        // A library that needs nothing: an ELF file's own words are not looked at.
        crate::error::copy(&program, &library).unwrap();
        let after = missing(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(!after.contains(&"libc.so.6".to_string()), "{after:?}");
    }
}
