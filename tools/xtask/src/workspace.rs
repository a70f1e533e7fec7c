// SPDX-License-Identifier: BSD-2-Clause
//! Where things are: the checkout, the build products, the packages, boards and configurations.

use crate::error::{Error, Result, read_toml};
use crate::process;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The checkout.
pub struct Workspace {
    /// Its top folder.
    pub root: PathBuf,
    /// Where products go: `target`, or `$CARGO_TARGET_DIR`.
    pub target: PathBuf,
    /// Every package in it.
    pub packages: Vec<Package>,
}

/// A package of the workspace.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Name of its program, if it has one.
    pub program: Option<String>,
    /// Whether it is a procedural macro.
    pub is_macro: bool,
    /// `[package.metadata]`.
    pub metadata: serde_json::Value,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<RawPackage>,
}

#[derive(Deserialize)]
struct RawPackage {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<RawTarget>,
    #[serde(default)]
    metadata: serde_json::Value,
}

#[derive(Deserialize)]
struct RawTarget {
    name: String,
    kind: Vec<String>,
}

impl Workspace {
    /// Finds the checkout that this program was started from.
    pub fn find() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .ancestors()
            .nth(2)
            .ok_or_else(|| Error::Usage(format!("{} is not tools/xtask", manifest.display())))?
            .to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => std::path::absolute(&folder).map_err(|source| Error::File {
                path: folder.into(),
                source,
            })?,
            None => root.join("target"),
        };
        Self::at(&root, &target)
    }

    /// The checkout in a folder.
    pub fn at(root: &Path, target: &Path) -> Result<Self> {
        let mut cargo = process::host_cargo(root);
        cargo.args(["metadata", "--no-deps", "--format-version", "1"]);
        let text = process::output(&mut cargo, "reading the workspace")?;
        Ok(Self {
            root: root.into(),
            target: target.into(),
            packages: parse_metadata(&text)?,
        })
    }

    /// The same packages in another checkout.
    pub fn moved(&self, root: &Path, target: &Path) -> Self {
        let moved = |package: &Package| {
            let mut package = package.clone();
            if let Ok(relative) = package.folder.strip_prefix(&self.root) {
                package.folder = root.join(relative);
            }
            package
        };
        let packages = self.packages.iter().map(moved).collect();
        Self {
            root: root.into(),
            target: target.into(),
            packages,
        }
    }

    /// The package whose program, or else whose own name, is `stem`.
    pub fn program(&self, stem: &str) -> Option<&Package> {
        let programs = || self.packages.iter().filter(|p| p.program.is_some());
        programs()
            .find(|p| p.program.as_deref() == Some(stem))
            .or_else(|| programs().find(|p| p.name == stem))
    }

    /// Packages that are built for the machine (the others are host tools and macros).
    pub fn machine_packages(&self) -> impl Iterator<Item = &Package> {
        let tools = self.root.join("tools");
        self.packages
            .iter()
            .filter(move |p| !p.is_macro && !p.folder.starts_with(&tools))
    }

    /// Reads a board of `kernel-config/boards`.
    pub fn board(&self, name: &str) -> Result<Board> {
        let folder = self.root.join("kernel-config/boards");
        known_name("board", name, names_in(&folder, "toml"))?;
        read_toml(&folder.join(format!("{name}.toml")))
    }

    /// Checks that a configuration is one of `kernel-config/configs`.
    pub fn config(&self, name: &str) -> Result<()> {
        let known = names_in(&self.root.join("kernel-config/configs"), "toml");
        known_name("configuration", name, known)
    }
}

fn known_name(kind: &'static str, name: &str, known: Vec<String>) -> Result<()> {
    if known.iter().any(|k| k == name) {
        Ok(())
    } else {
        Err(Error::Unknown {
            kind,
            name: name.into(),
            known,
        })
    }
}

/// Stems of the files in a folder that have an extension, sorted; none if there is no such folder.
pub fn names_in(folder: &Path, extension: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_string()))
        .collect();
    names.sort();
    names
}

fn parse_metadata(text: &str) -> Result<Vec<Package>> {
    let metadata: Metadata = serde_json::from_str(text).map_err(|e| Error::Output {
        program: "cargo metadata".into(),
        why: e.to_string(),
    })?;
    let mut packages: Vec<Package> = metadata
        .packages
        .into_iter()
        .map(|raw| {
            let of_kind = |kind: &str| {
                raw.targets
                    .iter()
                    .find(|t| t.kind.iter().any(|k| k == kind))
            };
            Package {
                program: of_kind("bin").map(|t| t.name.clone()),
                is_macro: of_kind("proc-macro").is_some(),
                folder: raw
                    .manifest_path
                    .parent()
                    .map(Path::to_path_buf)
                    .unwrap_or_default(),
                name: raw.name,
                metadata: raw.metadata,
            }
        })
        .collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

/// The part of a board's description that is needed here (the kernel and the image tool read the
/// rest).
#[derive(Debug, Deserialize)]
pub struct Board {
    /// Its name, as in `--board`.
    pub name: String,
    /// QEMU's `-M`.
    pub qemu_machine: String,
    /// Most cores that the kernel runs on.
    pub max_cores: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_gives_programs_and_macros() {
        let text = r#"{"packages":[
            {"name":"hello","manifest_path":"/w/systems/hello/pds/hello/Cargo.toml","metadata":null,
             "targets":[{"name":"hello","kind":["bin"]}]},
            {"name":"abi","manifest_path":"/w/libs/abi/Cargo.toml","metadata":{"suite":{"smp":2}},
             "targets":[{"name":"abi","kind":["lib"]},{"name":"build-script-build","kind":["custom-build"]}]},
            {"name":"m","manifest_path":"/w/libs/m/Cargo.toml","metadata":null,
             "targets":[{"name":"m","kind":["proc-macro"]}]}]}"#;
        let packages = parse_metadata(text).unwrap();
        let names: Vec<_> = packages.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["abi", "hello", "m"]);
        assert_eq!(packages[0].program, None);
        assert_eq!(packages[0].metadata["suite"]["smp"], 2);
        assert_eq!(packages[1].program.as_deref(), Some("hello"));
        assert_eq!(packages[1].folder, Path::new("/w/systems/hello/pds/hello"));
        assert!(packages[2].is_macro && !packages[0].is_macro);
        assert!(parse_metadata("{").is_err());
    }
}
