// SPDX-License-Identifier: BSD-2-Clause
//! docs/TUTORIAL.md is tested: its files are put into a copy of the sources, and the test that it
//! describes is run there. Commands of README and tutorial must be ones that this program takes.
//!
//! A fenced block whose first line is like ` ```toml file=PATH ` is the contents of that file; where the
//! file exists, the block is added to it.

use crate::Cli;
use crate::build::Builder;
use crate::error::{Error, Result, read, write};
use crate::plan::{self, Choice, Job};
use crate::reproduce;
use crate::workspace::Workspace;
use clap::Parser;
use std::path::Path;

/// The tutorial.
const TUTORIAL: &str = "docs/TUTORIAL.md";
/// Texts with commands for this program.
const TEXTS: &[&str] = &["README.md", TUTORIAL];
/// The test that the tutorial adds.
const TEST: &str = "counter";

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
struct Block<'a> {
    language: &'a str,
    file: Option<&'a str>,
    text: String,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(head), None) => {
                let mut words = head.split_whitespace();
                open = Some(Block {
                    language: words.next().unwrap_or_default(),
                    file: words.find_map(|word| word.strip_prefix("file=")),
                    text: String::new(),
                });
            }
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// Whether every command of a text is one that this program takes; how many there are.
fn check_commands(text: &str) -> std::result::Result<usize, String> {
    let mut count = 0;
    for block in blocks(text).iter().filter(|b| b.language == "sh") {
        for line in block.text.lines() {
            let line = line.split(" #").next().unwrap_or_default().trim();
            let mut words = line.split_whitespace();
            if (words.next(), words.next()) != (Some("cargo"), Some("xtask")) {
                continue;
            }
            Cli::try_parse_from(std::iter::once("xtask").chain(words))
                .map_err(|error| format!("`{line}`: {error}"))?;
            count += 1;
        }
    }
    Ok(count)
}

/// Checks the commands of the texts.
pub fn commands(workspace: &Workspace) -> Result<()> {
    for name in TEXTS {
        let path = workspace.root.join(name);
        let content = |why: String| Error::Content {
            path: path.clone(),
            why,
        };
        if check_commands(&read(&path)?).map_err(content)? == 0 {
            return Err(content("no command of cargo xtask".into()));
        }
    }
    Ok(())
}

/// A copy of the sources with the tutorial's files, and the jobs of its test there.
pub fn prepare(workspace: &Workspace) -> Result<(Workspace, Vec<Job>)> {
    let folder = workspace.target.join("tutorial/checkout");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|source| Error::File {
            path: folder.clone(),
            source,
        })?;
    }
    reproduce::copy_sources(&workspace.root, &folder)?;
    write_files(&read(&workspace.root.join(TUTORIAL))?, &folder)?;
    let copy = Workspace::at(&folder, &workspace.target.join("tutorial/target"))?;
    let choice = Choice {
        filter: Some(TEST.into()),
        ..Choice::default()
    };
    let jobs = plan::jobs(&copy, &choice)?;
    if jobs.is_empty() {
        return Err(Error::Content {
            path: workspace.root.join(TUTORIAL),
            why: format!("it adds no test {TEST}"),
        });
    }
    Ok((copy, jobs))
}

/// Puts the files of a text into a folder.
fn write_files(text: &str, folder: &Path) -> Result<()> {
    for block in blocks(text) {
        if let Some(name) = block.file {
            let path = folder.join(name);
            let before = match path.is_file() {
                true => read(&path)? + "\n",
                false => String::new(),
            };
            write(&path, before + &block.text)?;
        }
    }
    Ok(())
}

/// What builds the copy: with the kernel and the tool of the checkout.
pub fn builder<'a>(
    workspace: &Workspace,
    copy: &'a Workspace,
    jobs: &[Job],
) -> Result<Builder<'a>> {
    let mut builder = Builder::new(workspace);
    for job in jobs {
        builder.sdk(&job.variant)?;
    }
    let tool = builder.tool()?;
    Ok(Builder::with_sdk(copy, tool, builder))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a\n```sh\ncargo xtask run --system x  # comment\nls\n```\nb\n\
                        ```toml file=a/b.toml\nx = 1\n```\n";

    #[test]
    fn blocks_are_found() {
        let found = blocks(TEXT);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].language, found[0].file), ("sh", None));
        assert_eq!(
            (found[1].language, found[1].file),
            ("toml", Some("a/b.toml"))
        );
        assert_eq!(found[1].text, "x = 1\n");
    }

    #[test]
    fn commands_are_checked() {
        assert_eq!(check_commands(TEXT), Ok(1));
        let wrong = "```sh\ncargo xtask fly\n```\n";
        assert!(
            check_commands(wrong)
                .unwrap_err()
                .contains("cargo xtask fly")
        );
        for text in [
            include_str!("../../../README.md"),
            include_str!("../../../docs/TUTORIAL.md"),
        ] {
            assert!(check_commands(text).unwrap() > 0);
        }
    }

    #[test]
    fn files_are_written_or_added_to() {
        let folder = std::env::temp_dir().join(format!("xtask-tutorial-{}", std::process::id()));
        write_files(TEXT, &folder).unwrap();
        write_files(TEXT, &folder).unwrap();
        let text = read(&folder.join("a/b.toml")).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(text, "x = 1\n\nx = 1\n");
    }
}
