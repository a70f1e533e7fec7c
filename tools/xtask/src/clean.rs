// SPDX-License-Identifier: BSD-2-Clause
//! `cargo xtask clean`: removes what the other verbs made.

use crate::error::{At, Result};
use crate::process;
use crate::ui::Step;
use crate::workspace::Workspace;

/// Folders below `target` that belong to xtask.
const FOLDERS: [&str; 8] = [
    "apt",
    "bench-logs",
    "doc",
    "images",
    "ppc64",
    "reproduce",
    "sdk",
    "test-logs",
];

/// Removes them; with `all`, cargo's own products too.
pub fn run(workspace: &Workspace, all: bool) -> Result<()> {
    let step = Step::new("clean");
    for name in FOLDERS {
        let folder = workspace.target.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).at(&folder)?;
        }
    }
    if all {
        let mut cargo = process::host_cargo(&workspace.root);
        process::quiet(cargo.arg("clean"), "clean", &step)?;
    }
    step.done("");
    Ok(())
}
