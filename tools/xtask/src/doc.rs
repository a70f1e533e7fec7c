// SPDX-License-Identifier: BSD-2-Clause
//! `cargo xtask doc`: rustdoc, and the tables in docs/KERNEL.md that come from abi.toml.
//!
//! A table stands between `<!-- generated: NAME -->` and `<!-- end -->`; nothing else is touched.

use crate::error::{Error, Result, read, read_toml, write};
use crate::process;
use crate::ui::Step;
use crate::workspace::Workspace;
use std::collections::BTreeMap;
use std::fmt::Write;

#[path = "../../../libs/abi/schema.rs"]
mod schema;
use schema::{Abi, Fault, Invocation, Named, Object, Syscall};

/// Names of the tables; docs/KERNEL.md has each once.
pub const TABLES: [&str; 6] = [
    "syscalls",
    "invocations",
    "objects",
    "errors",
    "faults",
    "slots",
];

/// Rustdoc for everything, then the tables.
pub fn run(workspace: &Workspace) -> Result<()> {
    let step = Step::new("rustdoc");
    let mut cargo = process::host_cargo(&workspace.root);
    cargo.args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    process::quiet(&mut cargo, "rustdoc", &step)?;
    step.done(&workspace.target.join("doc").display().to_string());
    tables(workspace, false)
}

/// Writes the tables, or only checks that they are as they would be written.
pub fn tables(workspace: &Workspace, check: bool) -> Result<()> {
    let abi: Abi = read_toml(&workspace.root.join("kernel-config/abi.toml"))?;
    let path = workspace.root.join("docs/KERNEL.md");
    let old = read(&path)?;
    let new = replace(&old, |name| table(&abi, name)).map_err(|why| Error::Content {
        path: path.clone(),
        why,
    })?;
    if new == old {
        return Ok(());
    }
    if check {
        let line = new
            .lines()
            .zip(old.lines())
            .take_while(|(n, o)| n == o)
            .count()
            + 1;
        let why = format!("line {line} is not what abi.toml says: run `cargo xtask doc`");
        return Err(Error::Content { path, why });
    }
    write(&path, new)
}

/// Puts fresh tables between the markers of a text.
fn replace(
    text: &str,
    table: impl Fn(&str) -> Option<String>,
) -> std::result::Result<String, String> {
    const END: &str = "<!-- end -->";
    let mut out = String::new();
    let mut seen: Vec<String> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        writeln!(out, "{line}").map_err(|e| e.to_string())?;
        let marker = line.trim().strip_prefix("<!-- generated: ");
        let Some(name) = marker.and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        let number = number + 1;
        let fresh = table(name).ok_or_else(|| format!("line {number}: no table `{name}`"))?;
        if seen.iter().any(|s| s == name) {
            return Err(format!("line {number}: the table `{name}` is there twice"));
        }
        seen.push(name.into());
        out.push_str(&fresh);
        let end = lines.find(|(_, line)| line.trim() == END);
        end.ok_or_else(|| format!("line {number}: no `{END}` after it"))?;
        writeln!(out, "{END}").map_err(|e| e.to_string())?;
    }
    match TABLES.iter().find(|name| !seen.iter().any(|s| s == *name)) {
        Some(name) => Err(format!("no marker <!-- generated: {name} -->")),
        None => Ok(out),
    }
}

/// A table in Markdown, by its name.
fn table(abi: &Abi, name: &str) -> Option<String> {
    Some(match name {
        "syscalls" => {
            let row = |(i, s): (usize, &Syscall)| {
                let only = if s.debug { "debug only" } else { "all" };
                vec![format!("-{}", i + 1), code(&s.name), only.into()]
            };
            markdown(
                &["r0", "system call", "configurations"],
                abi.syscall.iter().enumerate().map(row),
            )
        }
        "invocations" => {
            let row = |(i, v): (usize, &Invocation)| {
                vec![
                    (i + 1).to_string(),
                    code(&v.name),
                    v.args.join(", "),
                    v.caps.join(", "),
                    v.ret.join(", "),
                ]
            };
            let head = [
                "label",
                "invocation",
                "message registers",
                "extra caps",
                "answer",
            ];
            markdown(&head, abi.invocation.iter().enumerate().map(row))
        }
        "objects" => {
            let row = |(i, o): (usize, &Object)| {
                vec![i.to_string(), code(&o.name), size(o), o.doc.clone()]
            };
            markdown(
                &["type", "object", "size in bytes", "what it is"],
                abi.object.iter().enumerate().map(row),
            )
        }
        "errors" => {
            let row = |(i, e): (usize, &Named)| vec![i.to_string(), code(&e.name)];
            markdown(&["label", "error"], abi.error.iter().enumerate().map(row))
        }
        "faults" => {
            let row =
                |(i, f): (usize, &Fault)| vec![i.to_string(), code(&f.name), f.words.join(", ")];
            markdown(
                &["label", "fault", "message registers"],
                abi.fault.iter().enumerate().map(row),
            )
        }
        "slots" => {
            let init = by_slot(&abi.init_cnode, "root task", |key| Some(key.into()));
            let pd = by_slot(&abi.microkit, "Microkit PD", |key| {
                let slot = key.strip_suffix("_slot").map(String::from);
                slot.or_else(|| Some(format!("{} + id", key.strip_suffix("_base")?)))
            });
            markdown(&["CSpace", "slot", "content"], init.into_iter().chain(pd))
        }
        _ => return None,
    })
}

fn code(name: &str) -> String {
    format!("`{name}`")
}

fn size(object: &Object) -> String {
    match (object.variable, object.bits) {
        (true, 0) => "2^size_bits".into(),
        (true, bits) => format!("2^(size_bits + {bits})"),
        (false, bits) => (1u64 << bits).to_string(),
    }
}

/// Rows of a CSpace in the order of the slots; `name` says which keys are slots.
fn by_slot(
    table: &BTreeMap<String, i64>,
    space: &str,
    name: impl Fn(&str) -> Option<String>,
) -> Vec<Vec<String>> {
    let mut slots: Vec<(i64, String)> = table
        .iter()
        .filter_map(|(key, slot)| Some((*slot, name(key)?)))
        .collect();
    slots.sort();
    slots
        .into_iter()
        .map(|(slot, name)| vec![space.to_string(), slot.to_string(), name.replace('_', " ")])
        .collect()
}

fn markdown(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|h| (*h).to_string()).collect();
    let mut out = line(&head);
    out.push_str(&format!("|{}\n", "---|".repeat(head.len())));
    rows.for_each(|row| out.push_str(&line(&row)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> String {
        TABLES
            .iter()
            .map(|t| format!("# {t}\n<!-- generated: {t} -->\nold\n<!-- end -->\n"))
            .collect()
    }

    #[test]
    fn only_what_is_between_markers_changes() {
        let new = replace(&document(), |name| Some(format!("table {name}\n"))).unwrap();
        assert!(new.contains("# errors\n<!-- generated: errors -->\ntable errors\n<!-- end -->\n"));
        assert!(!new.contains("old"));
        assert_eq!(
            replace(&new, |name| Some(format!("table {name}\n"))).unwrap(),
            new
        );
    }

    #[test]
    fn marker_errors_are_named() {
        let error = |text: &str| replace(text, |n| (n != "x").then(String::new)).unwrap_err();
        assert_eq!(
            error("<!-- generated: x -->\n<!-- end -->\n"),
            "line 1: no table `x`"
        );
        assert_eq!(
            error("a\n<!-- generated: slots -->\n"),
            "line 2: no `<!-- end -->` after it"
        );
        assert_eq!(error("text\n"), "no marker <!-- generated: syscalls -->");
        assert!(error(&document().repeat(2)).contains("twice"));
    }

    #[test]
    fn tables_follow_the_abi() {
        let abi: Abi = toml::from_str(include_str!("../../../kernel-config/abi.toml")).unwrap();
        for name in TABLES {
            assert!(
                table(&abi, name).is_some_and(|t| t.lines().count() > 3),
                "{name}"
            );
        }
        assert!(
            table(&abi, "syscalls")
                .unwrap()
                .contains("| -1 | `Call` | all |")
        );
        assert!(
            table(&abi, "slots")
                .unwrap()
                .contains("| Microkit PD | 4 | reply |")
        );
        assert!(
            table(&abi, "objects")
                .unwrap()
                .contains("| `Frame4K` | 4096 |")
        );
        assert_eq!(table(&abi, "other"), None);
    }
}
