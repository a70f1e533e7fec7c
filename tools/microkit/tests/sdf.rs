// SPDX-License-Identifier: BSD-2-Clause
//! `tests/sdf/*.system`: one invalid system description and one message each. The first line is
//! `<!-- expect: MESSAGE -->`; a message that ends with `…` is the beginning of one.

mod common;

use common::Fixtures;
use microkit_tool::{Board, sdf};
use std::path::Path;

#[test]
fn invalid_systems_are_refused_with_their_message() {
    let fixtures = Fixtures::new("sdf");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sdf");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "system"));
    files.sort();
    assert!(
        files.len() > 100,
        "only {} cases in {}",
        files.len(),
        folder.display()
    );
    let mut wrong = Vec::new();
    for path in &files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let expected = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("<!-- expect: ")?.strip_suffix(" -->"))
            .unwrap_or_else(|| panic!("{name}: no expectation in the first line"));
        let found = match fixtures.build(name, &text) {
            Ok(_) => "(no error)".into(),
            Err(message) => message,
        };
        let matches = match expected.strip_suffix('…') {
            Some(beginning) => found.starts_with(beginning),
            None => found == expected,
        };
        if !matches {
            wrong.push(format!(
                "{name}\n    expected {expected}\n    found    {found}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        files.len(),
        wrong.join("\n")
    );
}

/// The example of docs/SYSTEM_XML.md is a system description.
#[test]
fn documented_example_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/SYSTEM_XML.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let example = text.split("```xml\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let board = Board::find("qemu_powernv9").unwrap();
    let system = sdf::parse("SYSTEM_XML.md", example, &board).unwrap();
    sdf::check(&system).unwrap();
    let vm = &system.vms[0];
    let endpoints = system.endpoints(vm, vm.vcpus[0].cpu);
    let ids: Vec<_> = endpoints.iter().map(|e| (e.pd, e.id)).collect();
    assert_eq!(ids, [(1, 5), (2, 6)]);
    assert_eq!((vm.hpt_order, vm.vrma_bits), (23, 16));
}
