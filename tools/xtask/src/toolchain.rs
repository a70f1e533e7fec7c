// SPDX-License-Identifier: BSD-2-Clause
//! The compiler for ppc64 code, and the only place that says with which options it is run.
//!
//! The standard library for the target is compiled from source (a ready one would use floating
//! point), which needs the library source beside the compiler: Debian's rustc-web, cargo-web and
//! rust-web-src. `$PARTITA_PPC64_BIN` names another folder with such a cargo and rustc.

use crate::error::{At, Result};
use crate::workspace::Workspace;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the target: stem of its file in `kernel-config/target`.
pub const TARGET: &str = "powerpc64le-partita-none";
/// Library crates that are compiled from source.
const BUILD_STD: &str = "build-std=core,alloc,compiler_builtins";
const BUILD_STD_FEATURES: &str = "build-std-features=compiler-builtins-mem";

/// What one set of products is compiled for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Variant {
    /// Board name.
    pub board: String,
    /// Configuration name.
    pub config: String,
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.board, self.config)
    }
}

/// Folder of the compiler's programs.
pub fn bin() -> PathBuf {
    std::env::var_os("PARTITA_PPC64_BIN").map_or_else(|| "/usr/bin".into(), PathBuf::from)
}

/// Cargo's target folder for a variant.
pub fn target_folder(workspace: &Workspace, variant: &Variant) -> PathBuf {
    workspace.target.join("ppc64").join(variant.to_string())
}

/// Where a program of a variant lies after it is built.
pub fn artifact(workspace: &Workspace, variant: &Variant, program: &str) -> PathBuf {
    target_folder(workspace, variant)
        .join(TARGET)
        .join("release")
        .join(program)
}

/// Cargo with a verb (`build`, `clippy`, `rustdoc`…) for ppc64 code.
pub fn cargo(workspace: &Workspace, variant: &Variant, verb: &str) -> Result<Command> {
    let bin = bin();
    let mut command = Command::new(bin.join("cargo"));
    command.current_dir(&workspace.root);
    // What the outer cargo or rustup set for this program must not reach the inner one.
    for name in [
        "RUSTUP_TOOLCHAIN",
        "CARGO",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
    ] {
        command.env_remove(name);
    }
    let mut path = bin.clone().into_os_string();
    if let Some(old) = std::env::var_os("PATH") {
        path.push(":");
        path.push(old);
    }
    let json = workspace
        .root
        .join("kernel-config/target")
        .join(format!("{TARGET}.json"));
    command
        .env("PATH", path)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", bin.join("rustc"))
        .env("CARGO_TARGET_DIR", target_folder(workspace, variant))
        .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace)?)
        .env("CARGO_RESOLVER_FEATURE_UNIFICATION", "package")
        .env("PARTITA_BOARD", &variant.board)
        .env("PARTITA_CONFIG", &variant.config)
        .args([
            verb,
            "--release",
            "-Z",
            "json-target-spec",
            "-Z",
            "feature-unification",
        ])
        .args(["-Z", BUILD_STD, "-Z", BUILD_STD_FEATURES, "--target"])
        .arg(json);
    Ok(command)
}

/// Compiler options, in cargo's encoding: no path of this machine gets into a product.
fn flags(workspace: &Workspace) -> Result<OsString> {
    // Of several prefixes that fit, the last one counts: generated sources lie in the target
    // folder, which may lie in the checkout.
    let mut flags = vec![
        remap(&workspace.root, "/partita"),
        remap(&workspace.target, "/partita/target"),
    ];
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    if let Some(sources) = home.map(|home| home.join("registry/src"))
        && sources.is_dir()
    {
        // One folder for each registry, with a name that depends on its address.
        for entry in std::fs::read_dir(&sources).at(&sources)? {
            flags.push(remap(&entry.at(&sources)?.path(), "/registry"));
        }
    }
    if let Some(prefix) = bin().parent() {
        let source = prefix.join("lib/rustlib/src/rust");
        flags.push(remap(&source, "/rust"));
        if let Ok(source) = source.canonicalize() {
            flags.push(remap(&source, "/rust"));
        }
    }
    Ok(flags.join(std::ffi::OsStr::new("\u{1f}")))
}

fn remap(from: &Path, to: &str) -> OsString {
    let mut flag = OsString::from("--remap-path-prefix=");
    flag.push(from);
    flag.push("=");
    flag.push(to);
    flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_hide_checkout_and_target_folder() {
        let workspace = Workspace {
            root: "/some where/else".into(),
            target: "/products".into(),
            packages: vec![],
        };
        let flags = flags(&workspace).unwrap().into_string().unwrap();
        let first: Vec<_> = flags.split('\u{1f}').take(2).collect();
        assert_eq!(
            first,
            [
                "--remap-path-prefix=/some where/else=/partita",
                "--remap-path-prefix=/products=/partita/target"
            ]
        );
    }
}
