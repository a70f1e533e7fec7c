// SPDX-License-Identifier: BSD-2-Clause
//! From sources to a bootable image: kernel and PDs, the SDK folder, the image tool.

use crate::error::{Error, Result, copy, make_folder};
use crate::process;
use crate::qemu;
use crate::system::System;
use crate::toolchain::{self, Variant};
use crate::ui::Step;
use crate::workspace::Workspace;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the image tool needs of every board and configuration: file in the SDK and package.
pub const SDK: &[(&str, &str)] = &[
    ("kernel.elf", "partita-kernel"),
    ("initialiser.elf", "initialiser"),
    ("monitor.elf", "monitor"),
];

/// Builds things, and remembers what it has built in this run.
pub struct Builder<'a> {
    workspace: &'a Workspace,
    sdk_folder: PathBuf,
    sdk: Vec<Variant>,
    tool: Option<PathBuf>,
}

/// A bootable image.
#[derive(Clone, Debug)]
pub struct Image {
    /// The file for QEMU's `-kernel`.
    pub file: PathBuf,
    /// Name of the system or suite.
    pub name: String,
    /// The system's description; the program's own file for a suite.
    pub description: PathBuf,
    /// ELF files in it, by name: `kernel`, `initialiser`, `monitor`, and the program images.
    pub elfs: BTreeMap<String, PathBuf>,
    /// Which of them are kernels of guests.
    pub guests: Vec<String>,
    /// Memory of the machine that it is made for, as QEMU takes it.
    pub memory: String,
    /// Of several terminals, that of the guest whose output is wanted.
    pub terminal: Option<usize>,
}

impl<'a> Builder<'a> {
    /// Nothing is built yet.
    pub fn new(workspace: &'a Workspace) -> Self {
        Self {
            workspace,
            sdk_folder: workspace.target.join("sdk"),
            sdk: Vec::new(),
            tool: None,
        }
    }

    /// The same with an image tool that is there already.
    pub fn with_tool(workspace: &'a Workspace, tool: PathBuf) -> Self {
        Self {
            workspace,
            sdk_folder: workspace.target.join("sdk"),
            sdk: Vec::new(),
            tool: Some(tool),
        }
    }

    /// The same with the SDK that another builder has made, too.
    pub fn with_sdk(workspace: &'a Workspace, tool: PathBuf, other: Builder<'_>) -> Self {
        Self {
            workspace,
            sdk_folder: other.sdk_folder,
            sdk: other.sdk,
            tool: Some(tool),
        }
    }

    /// Compiles packages for the machine; returns their programs in the same order.
    pub fn programs(&self, variant: &Variant, packages: &[&str]) -> Result<Vec<PathBuf>> {
        self.programs_with(variant, packages, &BTreeMap::new())
    }

    /// [`Builder::programs`] with environment variables of the packages' own.
    fn programs_with(
        &self,
        variant: &Variant,
        packages: &[&str],
        environment: &BTreeMap<String, String>,
    ) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for name in packages {
            let program = self
                .workspace
                .packages
                .iter()
                .find(|p| p.name == *name)
                .and_then(|p| p.program.as_deref())
                .ok_or_else(|| Error::Unknown {
                    kind: "program package",
                    name: (*name).into(),
                    known: self
                        .workspace
                        .machine_packages()
                        .map(|p| p.name.clone())
                        .collect(),
                })?;
            files.push(toolchain::artifact(self.workspace, variant, program));
        }
        let step = Step::new(format!("compile {} ({variant})", packages.join(" ")));
        let mut cargo = toolchain::cargo(self.workspace, variant, "build")?;
        cargo.envs(environment);
        for name in packages {
            cargo.args(["-p", name]);
        }
        process::quiet(&mut cargo, "compiling", &step)?;
        step.done("");
        Ok(files)
    }

    /// The SDK folder; its part for `variant` is up to date after the call.
    pub fn sdk(&mut self, variant: &Variant) -> Result<PathBuf> {
        let sdk = self.sdk_folder.clone();
        if !self.sdk.contains(variant) {
            let packages: Vec<&str> = SDK.iter().map(|(_, package)| *package).collect();
            let programs = self.programs(variant, &packages)?;
            let folder = elf_folder(&sdk, variant);
            for ((file, _), program) in SDK.iter().zip(programs) {
                copy(&program, &folder.join(file))?;
            }
            self.sdk.push(variant.clone());
        }
        Ok(sdk)
    }

    /// The image tool.
    pub fn tool(&mut self) -> Result<PathBuf> {
        if let Some(tool) = &self.tool {
            return Ok(tool.clone());
        }
        let step = Step::new("compile the image tool");
        let mut cargo = process::host_cargo(&self.workspace.root);
        cargo.args(["build", "--package", "microkit-tool", "--bin", "microkit"]);
        cargo.env("CARGO_TARGET_DIR", &self.workspace.target);
        process::quiet(&mut cargo, "compiling", &step)?;
        step.done("");
        let tool = self.workspace.target.join("debug/microkit");
        self.tool = Some(tool.clone());
        Ok(tool)
    }

    /// Where the image of a system or suite goes.
    fn folder(&self, name: &str, variant: &Variant) -> PathBuf {
        self.workspace
            .target
            .join("images")
            .join(variant.to_string())
            .join(name)
    }

    /// Compiles what a system needs and makes its image.
    pub fn system(&mut self, system: &System, variant: &Variant) -> Result<Image> {
        let sdk = self.sdk(variant)?;
        let tool = self.tool()?;
        let folder = self.folder(&system.name, variant);
        let programs = folder.join("elf");
        make_folder(&programs)?;
        let mut packages = Vec::new();
        let mut elfs = sdk_elfs(&sdk, variant);
        for image in &system.images {
            let stem = Path::new(image)
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy();
            if let Some(package) = self.workspace.program(&stem) {
                packages.push((package.name.as_str(), image));
                elfs.insert(stem.into_owned(), programs.join(image));
            } else if system.folder().join(image).is_file() {
                elfs.insert(stem.into_owned(), system.folder().join(image));
            } else {
                return Err(Error::NoImage {
                    system: system.file.clone(),
                    image: image.clone(),
                    searched: vec![system.folder().display().to_string()],
                });
            }
        }
        for (file, package) in &system.guests {
            packages.push((package, file));
            elfs.insert(package.clone(), programs.join(file));
        }
        let names: Vec<&str> = packages.iter().map(|(name, _)| *name).collect();
        if !names.is_empty() {
            for ((_, image), program) in
                packages
                    .iter()
                    .zip(self.programs_with(variant, &names, &system.environment)?)
            {
                copy(&program, &programs.join(image))?;
            }
        }
        let file = folder.join("loader.img");
        let mut command = Command::new(tool);
        command
            .arg(&system.file)
            .arg("--search-path")
            .arg(&programs)
            .arg("--search-path")
            .arg(system.folder())
            .arg("-r")
            .arg(folder.join("report.txt"))
            .arg("--capdl-json")
            .arg(folder.join("capdl.json"))
            .arg("--capdl")
            .arg(folder.join("system.cdl"));
        let memory = match system.memory {
            Some(bytes) => format!("{}M", bytes >> 20),
            None => qemu::MEMORY.into(),
        };
        command.args(["--memory", &memory]);
        self.pack(command, &system.name, variant, &sdk, &file)?;
        Ok(Image {
            file,
            name: system.name.clone(),
            description: system.file.clone(),
            elfs,
            guests: system.guests.iter().map(|g| g.1.clone()).collect(),
            memory,
            terminal: system.terminal,
        })
    }

    /// Compiles a suite (a root task), with environment variables of its own, and makes its image.
    pub fn suite(
        &mut self,
        package: &str,
        environment: &BTreeMap<String, String>,
        variant: &Variant,
    ) -> Result<Image> {
        let sdk = self.sdk(variant)?;
        let tool = self.tool()?;
        let folder = self.folder(package, variant);
        let root = folder.join(format!("{package}.elf"));
        for program in self.programs_with(variant, &[package], environment)? {
            copy(&program, &root)?;
        }
        let file = folder.join("loader.img");
        let mut command = Command::new(tool);
        command.arg("--root-task").arg(&root);
        self.pack(command, package, variant, &sdk, &file)?;
        let mut elfs = sdk_elfs(&sdk, variant);
        elfs.retain(|name, _| name == "kernel");
        elfs.insert(package.into(), root.clone());
        Ok(Image {
            file,
            name: package.into(),
            description: root,
            elfs,
            guests: Vec::new(),
            memory: qemu::MEMORY.into(),
            terminal: None,
        })
    }

    fn pack(
        &self,
        mut command: Command,
        name: &str,
        variant: &Variant,
        sdk: &Path,
        file: &Path,
    ) -> Result<()> {
        let step = Step::new(format!("image {name} ({variant})"));
        command
            .args(["--board", &variant.board, "--config", &variant.config])
            .arg("--sdk")
            .arg(sdk)
            .arg("-o")
            .arg(file);
        process::quiet(&mut command, "making the image", &step)?;
        let size = std::fs::metadata(file).map_or(0, |m| m.len());
        step.done(&format!("{} ({} KiB)", file.display(), size / 1024));
        Ok(())
    }
}

fn elf_folder(sdk: &Path, variant: &Variant) -> PathBuf {
    sdk.join("board")
        .join(&variant.board)
        .join(&variant.config)
        .join("elf")
}

fn sdk_elfs(sdk: &Path, variant: &Variant) -> BTreeMap<String, PathBuf> {
    let folder = elf_folder(sdk, variant);
    SDK.iter()
        .map(|(file, _)| (file.trim_end_matches(".elf").to_string(), folder.join(file)))
        .collect()
}
