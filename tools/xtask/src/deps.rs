// SPDX-License-Identifier: BSD-2-Clause
//! What the machine must have, and how it gets there: Debian packages, installed with apt.
//!
//! QEMU 10.0.2 comes from the backports suite. Its package list is fetched through a private
//! sources file and list folder, with the mirror that the user's own apt uses, so that the user's
//! apt configuration stays as it is.

use crate::error::{Error, Result, make_folder, write};
use crate::process;
use crate::toolchain;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Oldest compiler that builds the kernel.
const RUST: Version = Version(1, 90, 0);
/// Oldest QEMU whose powernv machines do what the kernel needs.
const QEMU: Version = Version(10, 0, 2);

/// What a verb needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Compile and link ppc64 code.
    Build,
    /// Run it.
    Run,
    /// Check it.
    Test,
}

/// Something that must be there.
struct Tool {
    what: &'static str,
    packages: &'static [&'static str],
    need: Need,
    check: fn() -> bool,
}

const TOOLS: &[Tool] = &[
    Tool {
        what: "Rust 1.90 or later with its library source (the kernel and the PDs)",
        packages: &["rustc-web", "cargo-web", "rust-web-src"],
        need: Need::Build,
        check: || {
            let bin = toolchain::bin();
            let source = bin.join("../lib/rustlib/src/rust/library/core/src/lib.rs");
            bin.join("cargo").exists()
                && source.exists()
                && version_of(&bin.join("rustc")).is_some_and(|v| v >= RUST)
        },
    },
    Tool {
        what: "the linker ld.lld-19",
        packages: &["lld-19"],
        need: Need::Build,
        check: || in_path("ld.lld-19").is_some(),
    },
    Tool {
        what: "QEMU 10.0.2 or later with skiboot (the machine)",
        packages: &["qemu-system-ppc", "qemu-system-data"],
        need: Need::Run,
        check: || {
            in_path("qemu-system-ppc64")
                .and_then(|p| version_of(&p))
                .is_some_and(|v| v >= QEMU)
        },
    },
    Tool {
        what: "clippy for ppc64 code",
        packages: &["rust-web-clippy"],
        need: Need::Test,
        check: || toolchain::bin().join("cargo-clippy").exists(),
    },
    Tool {
        what: "rustfmt",
        packages: &["rustfmt-web"],
        need: Need::Test,
        check: || runs("cargo", &["fmt", "--version"]),
    },
    Tool {
        what: "the device tree compiler (guests)",
        packages: &["device-tree-compiler"],
        need: Need::Test,
        check: || in_path("dtc").is_some(),
    },
    Tool {
        what: "binutils for ppc64le (test payloads, disassembly)",
        packages: &["binutils-powerpc64le-linux-gnu"],
        need: Need::Test,
        check: || in_path("powerpc64le-linux-gnu-objdump").is_some(),
    },
];

/// Makes sure that everything for the given needs is there. `install` false: only says what is
/// missing.
pub fn ensure(needs: &[Need], install: bool, target: &Path) -> Result<()> {
    let missing: Vec<&Tool> = TOOLS
        .iter()
        .filter(|t| needs.contains(&t.need) && !(t.check)())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("Missing on this machine:");
    for tool in &missing {
        eprintln!("  {}: {}", tool.packages.join(" "), tool.what);
    }
    let packages: Vec<&str> = missing
        .iter()
        .flat_map(|t| t.packages.iter().copied())
        .collect();
    let list = || missing.iter().map(|t| t.packages.join(" ")).collect();
    if !install {
        eprintln!(
            "They would be installed with `apt-get install` (--no-install: nothing is done)."
        );
        return Err(Error::Missing(list()));
    }
    if in_path("apt-get").is_none() {
        eprintln!("This machine has no apt-get: install the like of them by its own means.");
        return Err(Error::Missing(list()));
    }
    let (qemu, others): (Vec<&str>, Vec<&str>) = packages
        .into_iter()
        .partition(|name| name.starts_with("qemu-"));
    if !has_lists()? {
        run(root_command(&["apt-get", "update"])?)?;
    }
    if !others.is_empty() {
        let mut words = vec!["apt-get", "install", "-y", "--no-install-recommends"];
        words.extend(others);
        run(root_command(&words)?)?;
    }
    if !qemu.is_empty() {
        install_qemu(&qemu, target)?;
    }
    let still: Vec<String> = missing
        .iter()
        .filter(|t| !(t.check)())
        .map(|t| {
            format!(
                "{} (installed, but still not {})",
                t.packages.join(" "),
                t.what
            )
        })
        .collect();
    if still.is_empty() {
        Ok(())
    } else {
        Err(Error::Missing(still))
    }
}

/// Installs QEMU from the user's own sources if they have it new enough, else from backports.
fn install_qemu(packages: &[&str], target: &Path) -> Result<()> {
    let mut words = vec!["apt-get".to_string()];
    // What the sources offer, whatever is installed.
    let offered = ["-oDir::State::Status=/dev/null", "policy", packages[0]];
    let policy = capture(Command::new("apt-cache").args(offered))?;
    if candidate(&policy).is_some_and(|v| v >= QEMU) {
        eprintln!("The machine's own package sources have it.");
    } else {
        let private = Private::new(target)?;
        eprintln!(
            "It comes from {}-backports; the package list of that suite goes to {}, and the \
             machine's apt configuration is not changed.",
            private.codename,
            private.folder.display()
        );
        let mut update = Command::new("apt-get");
        update.args(&private.options).arg("update");
        run(update)?;
        words.extend(private.options);
        words.extend(["-t".into(), format!("{}-backports", private.codename)]);
    }
    words.extend(["install", "-y", "--no-install-recommends"].map(String::from));
    words.extend(packages.iter().map(|p| (*p).to_string()));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    run(root_command(&words)?)
}

/// An apt view of our own: sources and lists in a folder below `target`.
struct Private {
    folder: PathBuf,
    codename: String,
    options: Vec<String>,
}

impl Private {
    fn new(target: &Path) -> Result<Self> {
        let DebianMirror { uri, codename } = debian_mirror()?;
        let folder = target.join("apt");
        make_folder(&folder.join("lists/partial"))?;
        let file = folder.join("sources.list");
        let backports = format!("{codename}-backports");
        write(&file, sources(&uri, &[&codename, &backports]))?;
        let options = vec![
            format!("-oDir::Etc::SourceList={}", file.display()),
            "-oDir::Etc::SourceParts=/dev/null".into(),
            format!("-oDir::State::Lists={}", folder.join("lists").display()),
            // The caches of the machine's own view are not overwritten with ours.
            "-oDir::Cache::pkgcache=".into(),
            "-oDir::Cache::srcpkgcache=".into(),
        ];
        Ok(Self {
            folder,
            codename,
            options,
        })
    }
}

/// Where the user's own apt gets Debian from.
pub struct DebianMirror {
    /// Address of the archive.
    pub uri: String,
    /// The release of this machine.
    pub codename: String,
}

/// Reads the user's apt configuration.
pub fn debian_mirror() -> Result<DebianMirror> {
    let release = crate::error::read(Path::new("/etc/os-release"))?;
    let codename = os_codename(&release).ok_or_else(|| {
        Error::Usage("/etc/os-release has no VERSION_CODENAME: is this Debian?".into())
    })?;
    let format = "$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)";
    let targets = capture(Command::new("apt-get").args([
        "indextargets",
        "--format",
        format,
        "Created-By: Packages",
    ]))?;
    let uri = mirror(&targets, &codename).ok_or_else(|| Error::Output {
        program: "apt-get indextargets".into(),
        why: format!("no Debian mirror with component main of {codename} is configured"),
    })?;
    Ok(DebianMirror { uri, codename })
}

/// Lines of a sources file for component main of some suites.
pub fn sources(mirror: &str, suites: &[&str]) -> String {
    suites
        .iter()
        .map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
        .collect()
}

fn has_lists() -> Result<bool> {
    let policy = capture(Command::new("apt-cache").args(["policy", "lld-19"]))?;
    Ok(policy
        .lines()
        .any(|l| l.trim_start().starts_with("Candidate:") && !l.contains("(none)")))
}

/// A command with the rights of root: through sudo where we are not root.
fn root_command(words: &[&str]) -> Result<Command> {
    let mut words: Vec<&str> = words.to_vec();
    if !rustix::process::geteuid().is_root() {
        if in_path("sudo").is_none() {
            return Err(Error::Usage(format!(
                "needs root (no sudo here): {}",
                words.join(" ")
            )));
        }
        words.splice(0..0, ["sudo", "env", "DEBIAN_FRONTEND=noninteractive"]);
    }
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

fn run(mut command: Command) -> Result<()> {
    eprintln!("+ {}", process::shell_line(&command));
    let status = process::Running::start(&mut command)?.wait(None)?;
    match status {
        Some(status) if !status.success() => Err(Error::Program {
            what: "installing packages".into(),
            program: process::name(&command),
            status: status.to_string(),
        }),
        _ => Ok(()),
    }
}

fn capture(command: &mut Command) -> Result<String> {
    process::output(
        command.env("LC_ALL", "C").stdin(Stdio::null()),
        "looking for packages",
    )
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .output()
        .is_ok_and(|o| o.status.success())
}

/// Where a program is, as a shell would find it.
pub fn in_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|d| d.join(program))
        .find(|p| p.is_file())
}

fn version_of(program: &Path) -> Option<Version> {
    let output = Command::new(program).arg("--version").output().ok()?;
    Version::find(&String::from_utf8_lossy(&output.stdout))
}

/// Major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32, u32);

impl Version {
    /// The first `a.b` or `a.b.c` in a text.
    fn find(text: &str) -> Option<Self> {
        text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
            .find_map(|word| {
                let mut parts = word.split('.').map(str::parse::<u32>);
                let major = parts.next()?.ok()?;
                let minor = parts.next()?.ok()?;
                Some(Self(
                    major,
                    minor,
                    parts.next().and_then(|p| p.ok()).unwrap_or(0),
                ))
            })
    }
}

/// The version that `apt-cache policy` would install.
fn candidate(policy: &str) -> Option<Version> {
    let line = policy
        .lines()
        .find_map(|l| l.trim_start().strip_prefix("Candidate:"))?
        .trim();
    // 1:10.0.2+ds-2: the epoch is no part of the version.
    Version::find(line.split_once(':').map_or(line, |(_, version)| version))
}

/// `VERSION_CODENAME` of os-release.
fn os_codename(text: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|l| l.strip_prefix("VERSION_CODENAME="))?;
    Some(value.trim_matches('"').to_string()).filter(|v| !v.is_empty())
}

/// The address that the user's own sources have for Debian's main suite.
fn mirror(targets: &str, codename: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let uri = words.next()?;
        let rest: Vec<&str> = words.collect();
        (rest == [codename, "main", "Debian"]).then(|| uri.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_and_ordered() {
        let rustc = Version::find("rustc 1.96.0 (abc 2026-05-25) (built from a source tarball)");
        assert_eq!(rustc, Some(Version(1, 96, 0)));
        let qemu = Version::find("QEMU emulator version 7.2.15 (Debian 1:7.2+dfsg-7)").unwrap();
        assert!(qemu < QEMU);
        assert!(Version(10, 0, 2) >= QEMU && Version(10, 1, 0) > QEMU);
        assert_eq!(Version::find("nothing here"), None);
    }

    #[test]
    fn candidate_skips_the_epoch() {
        let policy = "q:\n  Installed: (none)\n  Candidate: 1:10.0.2+ds-2+deb13u1~bpo12+1\n";
        assert_eq!(candidate(policy), Some(Version(10, 0, 2)));
        assert_eq!(candidate("q:\n  Candidate: (none)\n"), None);
    }

    #[test]
    fn mirror_is_the_main_suite_of_debian() {
        let targets = "https://a.example/apt cloud-bookworm main Other\n\
                       http://b.example/security/ bookworm-security main Debian\n\
                       http://c.example/debian/ bookworm main Debian\n";
        assert_eq!(
            mirror(targets, "bookworm").as_deref(),
            Some("http://c.example/debian/")
        );
        assert_eq!(mirror(targets, "trixie"), None);
    }

    #[test]
    fn codename_is_read() {
        let text = "NAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=bookworm\n";
        assert_eq!(os_codename(text).as_deref(), Some("bookworm"));
        assert_eq!(os_codename("NAME=x\n"), None);
    }
}
