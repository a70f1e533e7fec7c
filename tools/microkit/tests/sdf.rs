// SPDX-License-Identifier: BSD-2-Clause
//! `tests/sdf/*.system`: one invalid system description and one message each. The first line is
//! `<!-- expect: MESSAGE -->`; a message that ends with `…` is the beginning of one.

mod common;

use common::Fixtures;
use microkit_tool::{Board, sdf};
use std::collections::BTreeSet;
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

/// `tests/sdf/valid/*.system`: systems as upstream's, of all elements that do not depend on another
/// architecture. `<!-- report: TEXT -->` is in the report, `<!-- absent: TEXT -->` is not;
/// `~` stands for `-`, of which a comment cannot have two.
#[test]
fn valid_systems_are_built() {
    let fixtures = Fixtures::new("sdf-valid");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sdf/valid");
    let mut elements = BTreeSet::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let output = fixtures.build(name, &text).unwrap();
        assert_eq!(output.warnings, Vec::<String>::new(), "{name}");
        let remark = |line: &str, kind: &str| {
            let rest = line.strip_prefix("<!-- ")?.strip_prefix(kind)?;
            let text = rest.strip_prefix(": ")?.strip_suffix(" -->")?;
            Some(text.replace('~', "-"))
        };
        for line in text.lines() {
            if let Some(wanted) = remark(line, "report") {
                assert!(output.report.contains(&wanted), "{name}: no {wanted}");
            }
            if let Some(unwanted) = remark(line, "absent") {
                assert!(!output.report.contains(&unwanted), "{name}: {unwanted}");
            }
        }
        let document = roxmltree::Document::parse(&text).unwrap();
        for node in document.descendants().filter(|n| n.is_element()) {
            let element = node.tag_name().name();
            let attributes = node.attributes().map(|a| format!("{element}@{}", a.name()));
            elements.extend(attributes);
            elements.insert(element.to_string());
        }
    }
    // Upstream's grammar, but for guests (the images of which the tests of whole systems build).
    let grammar =
        "system protection_domain@name protection_domain@priority protection_domain@budget
        protection_domain@period protection_domain@passive protection_domain@stack_size
        protection_domain@cpu protection_domain@fpu protection_domain@id
        protection_domain@setvar_id program_image@path program_image@path_for_symbols map@mr
        map@vaddr map@perms map@cached map@setvar_vaddr map@setvar_size map@setvar_prefill_size
        irq@irq irq@id irq@trigger irq@setvar_id setvar@symbol setvar@region_paddr cspace
        cap_tcb@slot cap_tcb@pd cap_sc@slot cap_sc@pd cap_vspace@slot cap_vspace@pd
        memory_region@name memory_region@size memory_region@page_size memory_region@phys_addr
        memory_region@prefill_path channel end@pd end@id end@pp end@notify end@setvar_id";
    for wanted in grammar.split_whitespace() {
        assert!(elements.contains(wanted), "no valid system has {wanted}");
    }
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
