// SPDX-License-Identifier: BSD-2-Clause
//! Finding a system description and the program images that it names.

use crate::error::{Error, Result, read, write};
use crate::workspace::Workspace;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The default system: `system.xml` at the top of the checkout.
pub const DEFAULT: &str = "linux";

/// A system description.
#[derive(Debug)]
pub struct System {
    /// Its name: the file's stem.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// Paths of the program images, each once, in the order of the file.
    pub images: Vec<String>,
    /// Kernels of guests that are packages of the workspace: the file that the description names, and
    /// the package.
    pub guests: Vec<(String, String)>,
    /// Whether it has a guest (known after [`crate::guest::prepare`]).
    pub has_guest: bool,
    /// Memory of the machine, bytes; the board's default if there is none.
    pub memory: Option<u64>,
    /// Of several terminals, that of the guest whose output is wanted.
    pub terminal: Option<usize>,
    /// Environment variables that its programs are compiled with.
    pub environment: BTreeMap<String, String>,
}

impl System {
    /// Finds a system by name ([`DEFAULT`], or `systems/NAME/NAME.system`) or path, and reads it.
    pub fn find(workspace: &Workspace, name: &str) -> Result<Self> {
        let named = match name {
            DEFAULT => workspace.root.join("system.xml"),
            _ => workspace
                .root
                .join("systems")
                .join(name)
                .join(format!("{name}.system")),
        };
        let path = Path::new(name);
        let file = if named.is_file() {
            named
        } else if path.is_file() {
            path.to_path_buf()
        } else {
            return Err(Error::Unknown {
                kind: "system",
                name: name.into(),
                known: Self::names(workspace),
            });
        };
        let images = images(&read(&file)?).map_err(|why| Error::Content {
            path: file.clone(),
            why,
        })?;
        let name = match name {
            DEFAULT => name.to_string(),
            _ => file
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        };
        Ok(Self {
            name,
            file,
            images,
            guests: Vec::new(),
            has_guest: false,
            memory: None,
            terminal: None,
            environment: BTreeMap::new(),
        })
    }

    /// The same system with another text, which is written to a file in `folder`.
    pub fn changed(&self, folder: &Path, text: &str) -> Result<Self> {
        let file = folder.join(format!("{}.system", self.name));
        write(&file, text)?;
        let images = images(text).map_err(|why| Error::Content {
            path: file.clone(),
            why,
        })?;
        Ok(Self {
            name: self.name.clone(),
            file,
            images,
            guests: self.guests.clone(),
            has_guest: self.has_guest,
            memory: self.memory,
            terminal: self.terminal,
            environment: self.environment.clone(),
        })
    }

    /// Names of the systems in the checkout.
    pub fn names(workspace: &Workspace) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(workspace.root.join("systems"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                entry
                    .path()
                    .join(format!("{name}.system"))
                    .is_file()
                    .then_some(name)
            })
            .collect();
        names.push(DEFAULT.into());
        names.sort();
        names
    }

    /// The folder of the description: its other files are looked for there.
    pub fn folder(&self) -> &Path {
        self.file
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }
}

/// The `path` of every `program_image`.
fn images(text: &str) -> std::result::Result<Vec<String>, String> {
    let document = roxmltree::Document::parse(text).map_err(|e| e.to_string())?;
    let mut images = Vec::new();
    for node in document
        .descendants()
        .filter(|n| n.has_tag_name("program_image"))
    {
        let at = document.text_pos_at(node.range().start);
        let path = node
            .attribute("path")
            .ok_or_else(|| format!("{}:{}: program_image without path", at.row, at.col))?;
        if !images.iter().any(|i| i == path) {
            images.push(path.to_string());
        }
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_listed_once_and_nested_ones_too() {
        let text = r#"<system>
            <protection_domain name="a"><program_image path="x.elf"/>
              <protection_domain name="b" id="0"><program_image path="y.elf"/></protection_domain>
            </protection_domain>
            <protection_domain name="c"><program_image path="x.elf"/></protection_domain></system>"#;
        assert_eq!(images(text).unwrap(), ["x.elf", "y.elf"]);
    }

    #[test]
    fn errors_have_a_place() {
        let error = images("<system>\n  <program_image/>\n</system>").unwrap_err();
        assert_eq!(error, "2:3: program_image without path");
        assert!(images("<system>").is_err());
    }
}
