// SPDX-License-Identifier: BSD-2-Clause
//! Debian's packages for the guest: its kernel, and busybox.
//!
//! They are for another architecture than this machine's, so they are only downloaded and unpacked,
//! into a folder below `target`, with package lists of their own there: the machine's apt and dpkg
//! stay as they are. Which kernel is current is asked of the package list.

use crate::deps;
use crate::error::{At, Error, Result, make_folder, write};
use crate::process;
use crate::ui::Step;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The guest's architecture, as Debian names it.
const ARCHITECTURE: &str = "ppc64el";
/// The release with Linux 6.1; its backports have 6.12.
const RELEASE: &str = "bookworm";
const BACKPORTS: &str = "bookworm-backports";

/// A kernel of Debian's.
#[derive(Debug, PartialEq, Eq)]
pub struct Kernel {
    /// What the user calls it, and its folder in the cache.
    pub name: &'static str,
    /// Suite that it is in.
    suite: &'static str,
    /// Package that depends on the current kernel's package.
    package: &'static str,
    /// How the current package's name starts.
    prefix: &'static str,
}

/// Kernels that are known by name.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        name: "debian-6.1",
        suite: RELEASE,
        package: "linux-image-powerpc64le",
        prefix: "linux-image-6.1.",
    },
    Kernel {
        name: "debian-6.12",
        suite: BACKPORTS,
        package: "linux-image-powerpc64le",
        prefix: "linux-image-6.12.",
    },
    Kernel {
        name: "debian-6.12-64k",
        suite: BACKPORTS,
        package: "linux-image-powerpc64le-64k",
        prefix: "linux-image-6.12.",
    },
];

/// Where packages are kept, and whether more may be downloaded.
pub struct Cache {
    folder: PathBuf,
    download: bool,
}

impl Cache {
    /// The cache below a target folder.
    pub fn new(target: &Path, download: bool) -> Self {
        Self {
            folder: target.join("guest-cache"),
            download,
        }
    }

    /// The ELF file of a kernel of Debian's.
    pub fn kernel(&self, kernel: &Kernel) -> Result<PathBuf> {
        let folder = self.folder.join(kernel.name);
        if let Some(file) = vmlinux(&folder) {
            return Ok(file);
        }
        self.may_download(kernel.package)?;
        let apt = Apt::new(&self.folder)?;
        let package = apt.current(kernel)?;
        self.unpack(&apt, &package, &folder)?;
        vmlinux(&folder).ok_or_else(|| Error::Content {
            path: folder.join("boot"),
            why: format!("package {package} has no vmlinux-* there"),
        })
    }

    /// A static busybox.
    pub fn busybox(&self) -> Result<PathBuf> {
        let folder = self.folder.join("busybox");
        let file = folder.join("bin/busybox");
        if !file.is_file() {
            self.may_download("busybox-static")?;
            self.unpack(&Apt::new(&self.folder)?, "busybox-static", &folder)?;
        }
        Ok(file)
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Fails unless files may and can be downloaded.
    pub fn may_download(&self, package: &str) -> Result<()> {
        if !self.download {
            let what = format!("{package}:{ARCHITECTURE} (would be downloaded for the guest)");
            return Err(Error::Missing(vec![what]));
        }
        for program in ["apt-get", "dpkg"] {
            if deps::in_path(program).is_none() {
                let why = "without it name files: --guest-kernel FILE --guest-initrd FILE";
                return Err(Error::Missing(vec![format!("{program} ({why})")]));
            }
        }
        Ok(())
    }

    /// Downloads a package and unpacks it; `folder` is there when it is complete.
    pub fn unpack(&self, apt: &Apt, package: &str, folder: &Path) -> Result<()> {
        let part = self.folder.join("part");
        if part.exists() {
            std::fs::remove_dir_all(&part).at(&part)?;
        }
        self.download(apt, package, &part.join("packed"), &part)?;
        // An older folder is without the file that is looked for, else we were not here.
        if folder.exists() {
            std::fs::remove_dir_all(folder).at(folder)?;
        }
        if let Some(parent) = folder.parent() {
            make_folder(parent)?;
        }
        std::fs::rename(&part, folder).at(folder)
    }

    /// Downloads a package to `packed`, which is empty and goes again, and unpacks it.
    fn download(&self, apt: &Apt, package: &str, packed: &Path, folder: &Path) -> Result<()> {
        let step = Step::new(format!("download {package} ({ARCHITECTURE})"));
        if packed.exists() {
            std::fs::remove_dir_all(packed).at(packed)?;
        }
        make_folder(packed)?;
        make_folder(folder)?;
        let mut download = apt.command("apt-get");
        download.current_dir(packed).args(["download", package]);
        process::quiet(&mut download, "downloading the guest's files", &step)?;
        let file = only_file(packed)?;
        let mut unpack = Command::new("dpkg");
        unpack.arg("-x").arg(&file).arg(folder);
        process::quiet(&mut unpack, "unpacking the guest's files", &step)?;
        std::fs::remove_dir_all(packed).at(packed)?;
        step.done(&folder.display().to_string());
        Ok(())
    }
}

/// The kernel in an unpacked package.
fn vmlinux(folder: &Path) -> Option<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join("boot"))
        .ok()?
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("vmlinux-"))
        .map(|e| e.path())
        .collect();
    files.sort();
    files.pop()
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let found = std::fs::read_dir(folder).at(folder)?.flatten().next();
    found.map(|e| e.path()).ok_or_else(|| Error::Output {
        program: "apt-get download".into(),
        why: "it has brought no file".into(),
    })
}

/// An apt view of its own, with package lists for the guest's architecture.
pub struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// Makes it below `folder`, and brings the lists up to date.
    pub fn new(folder: &Path) -> Result<Self> {
        let folder = folder.join("apt");
        make_folder(&folder.join("lists/partial"))?;
        make_folder(&folder.join("cache/archives/partial"))?;
        let mirror = deps::debian_mirror()?.uri;
        let sources = folder.join("sources.list");
        write(&sources, deps::sources(&mirror, &[RELEASE, BACKPORTS]))?;
        let here = |name: &str| folder.join(name).display().to_string();
        let apt = Self {
            options: vec![
                format!("-oAPT::Architecture={ARCHITECTURE}"),
                format!("-oAPT::Architectures={ARCHITECTURE}"),
                format!("-oDir::Etc::SourceList={}", here("sources.list")),
                "-oDir::Etc::SourceParts=/dev/null".into(),
                format!("-oDir::State::Lists={}", here("lists")),
                format!("-oDir::Cache={}", here("cache")),
                // Nothing is installed, whatever this machine has.
                "-oDir::State::Status=/dev/null".into(),
            ],
        };
        let step = Step::new(format!("package lists ({ARCHITECTURE})"));
        let mut update = apt.command("apt-get");
        process::quiet(update.arg("update"), "updating package lists", &step)?;
        step.done("");
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .args(&self.options)
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    /// The packages that a package depends on; of alternatives the first.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let mut depends = self.command("apt-cache");
        depends.args(["depends", package]);
        let text = process::output(&mut depends, "looking for a package's libraries")?;
        Ok(dependencies(&text))
    }

    /// Those of the packages that there are, with the bytes of their files.
    pub fn sizes(&self, packages: &[String]) -> Result<Vec<(String, u64)>> {
        if packages.is_empty() {
            return Ok(Vec::new());
        }
        let mut show = self.command("apt-cache");
        show.args(["show", "--no-all-versions"]).args(packages);
        let text = process::output(&mut show, "looking for a package's libraries")?;
        Ok(sizes(&text))
    }

    /// The package of the current kernel.
    fn current(&self, kernel: &Kernel) -> Result<String> {
        let mut depends = self.command("apt-cache");
        depends.args(["-t", kernel.suite, "depends", kernel.package]);
        let text = process::output(&mut depends, "looking for the guest's kernel")?;
        dependency(&text, kernel.prefix).ok_or_else(|| Error::Output {
            program: "apt-cache depends".into(),
            why: format!(
                "{} of {} depends on no {}*",
                kernel.package, kernel.suite, kernel.prefix
            ),
        })
    }
}

/// All dependencies in the words of `apt-cache depends`, without those that have no package.
fn dependencies(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    // `|Depends:` is an alternative that the next line completes: the first one is taken.
    let mut alternative = false;
    for line in text.lines().map(str::trim) {
        let (first, name) = match line.strip_prefix('|') {
            Some(rest) => (true, rest.strip_prefix("Depends:")),
            None => (false, line.strip_prefix("Depends:")),
        };
        if let Some(name) = name.map(str::trim) {
            if !alternative && !name.starts_with('<') {
                names.push(name.to_string());
            }
            alternative = first;
        }
    }
    names
}

/// Names and sizes in the words of `apt-cache show`.
fn sizes(text: &str) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut name = None;
    for line in text.lines() {
        if let Some(package) = line.strip_prefix("Package: ") {
            name = Some(package.to_string());
        } else if let Some(bytes) = line.strip_prefix("Size: ") {
            let bytes = bytes.trim().parse().unwrap_or(u64::MAX);
            found.extend(name.take().map(|name| (name, bytes)));
        }
    }
    found
}

/// The dependency that starts with `prefix`, in the words of `apt-cache depends`.
fn dependency(text: &str, prefix: &str) -> Option<String> {
    text.lines()
        .filter_map(|l| l.trim().strip_prefix("Depends:"))
        .map(str::trim)
        .find(|name| name.starts_with(prefix))
        .map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_kernel_is_a_dependency() {
        let text = "linux-image-powerpc64le\n  Depends: other\n  Depends: linux-image-6.1.0-9-x\n";
        assert_eq!(
            dependency(text, "linux-image-6.1.").as_deref(),
            Some("linux-image-6.1.0-9-x")
        );
        assert_eq!(dependency(text, "linux-image-6.12."), None);
    }

    #[test]
    fn dependencies_are_listed() {
        let text = "p\n  Depends: a\n |Depends: b\n  Depends: c\n  Depends: <virtual>\n    d\n  Depends: e\n";
        assert_eq!(dependencies(text), ["a", "b", "e"]);
    }

    #[test]
    fn packages_have_sizes() {
        let text = "Package: a\nInstalled-Size: 9\nSize: 12\nDescription: x\n Size: 3\n\n\
                    Package: b\nSize: 7\n";
        let expected = [("a".to_string(), 12), ("b".to_string(), 7)];
        assert_eq!(sizes(text), expected);
    }

    #[test]
    fn a_kept_kernel_is_found_and_a_missing_one_is_named() {
        let target = std::env::temp_dir().join(format!("xtask-cache-{}", std::process::id()));
        let cache = Cache::new(&target, false);
        let missing = cache.kernel(&KERNELS[0]).unwrap_err().to_string();
        assert!(
            missing.contains("linux-image-powerpc64le:ppc64el"),
            "{missing}"
        );
        let file = target.join("guest-cache/debian-6.1/boot/vmlinux-6.1.0-9-x");
        write(&file, "kernel").unwrap();
        assert_eq!(cache.kernel(&KERNELS[0]).unwrap(), file);
        std::fs::remove_dir_all(target).unwrap();
    }
}
