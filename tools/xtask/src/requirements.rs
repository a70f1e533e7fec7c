// SPDX-License-Identifier: BSD-2-Clause
//! Requirements (docs/REQUIREMENTS.md) and the tests that name them.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Text of a requirement that nothing can be tested of.
const NO_OBJECT: &str = "no object:";

/// Ids of the table and what they say.
fn table(text: &str) -> BTreeMap<String, String> {
    let row = |line: &str| {
        let (id, what) = line
            .strip_prefix("| ")?
            .strip_suffix(" |")?
            .split_once(" | ")?;
        is_id(id).then(|| (id.to_string(), what.to_string()))
    };
    text.lines().filter_map(row).collect()
}

/// `S4.10`, `I3`.
fn is_id(text: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    match text.split_at_checked(1) {
        Some(("I", n)) => digits(n),
        Some(("S", rest)) => rest
            .split_once('.')
            .is_some_and(|(a, b)| digits(a) && digits(b)),
        _ => false,
    }
}

/// The family of an id (`S4.`, `I`) and its number in it.
fn split(id: &str) -> Option<(&str, u32)> {
    let at = id.rfind(|c: char| !c.is_ascii_digit())? + 1;
    Some((&id[..at], id[at..].parse().ok()?))
}

/// Ids among words, and those between two with a `to` between them.
fn among(words: &[String], found: &mut BTreeSet<String>) {
    found.extend(words.iter().filter(|w| is_id(w)).cloned());
    for three in words.windows(3) {
        let (first, last) = (split(&three[0]), split(&three[2]));
        if let (Some((family, from)), Some((other, to))) = (first, last)
            && three[1].eq_ignore_ascii_case("to")
            && family == other
        {
            let all = (from..=to).map(|n| format!("{family}{n}"));
            found.extend(all.filter(|id| is_id(id)));
        }
    }
}

/// Ids in a test's source: `S4.10`, `I1 to I7`, and in names of functions `s4_10`, `i1_to_i7`.
fn named(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let separates = |c: char| !c.is_ascii_alphanumeric() && c != '.';
    let words = text.split(separates).map(|w| w.trim_end_matches('.'));
    let words: Vec<_> = words
        .filter(|w| !w.is_empty())
        .map(str::to_string)
        .collect();
    among(&words, &mut found);
    for name in text.split("fn ").skip(1) {
        let name = name.split('(').next().unwrap_or_default().to_uppercase();
        let mut words: Vec<String> = Vec::new();
        for part in name.split('_') {
            match words.last_mut() {
                Some(last) if is_id(&format!("{last}.{part}")) => *last = format!("{last}.{part}"),
                _ => words.push(part.into()),
            }
        }
        among(&words, &mut found);
    }
    found
}

/// The part of a source that is tests.
fn tests_of<'a>(path: &Path, text: &'a str) -> &'a str {
    let path = path.to_string_lossy();
    let all = ["/tests/", "/tests.rs", "/model.rs"];
    match all.iter().any(|part| path.contains(part)) {
        true => text,
        false => text.find("#[cfg(test)]").map_or("", |at| &text[at..]),
    }
}

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.file_name().and_then(|n| n.to_str()) {
            Some("target" | ".git") => (),
            _ if path.is_dir() => sources(&path, found),
            Some(name) if name.ends_with(".rs") => found.push(path),
            _ => (),
        }
    }
}

#[test]
fn every_requirement_is_named_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/REQUIREMENTS.md")).unwrap();
    let table = table(&text);
    assert_eq!(table.len(), 88);
    let mut files = Vec::new();
    for folder in ["kernel", "libs", "pds", "tests"] {
        sources(&root.join(folder), &mut files);
    }
    let mut tested = BTreeSet::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        for id in named(tests_of(&path, &text)) {
            let known = table.contains_key(&id);
            assert!(known, "{}: {id} is no requirement", path.display());
            tested.insert(id);
        }
    }
    let missing: Vec<_> = table
        .iter()
        .filter(|(id, what)| !tested.contains(*id) && !what.starts_with(NO_OBJECT))
        .collect();
    assert!(missing.is_empty(), "no test names {missing:?}");
}

#[test]
fn ids_are_found_in_comments_and_names() {
    let text =
        "/// S4.9, S0.2: order.\n#[test]\nfn s1_4_to_s1_6_i3_refusals() { ISA3.0; S4; I5 to I6 }";
    let found: Vec<_> = named(text).into_iter().collect();
    let expected = ["I3", "I5", "I6", "S0.2", "S1.4", "S1.5", "S1.6", "S4.9"];
    assert_eq!(found, expected);
    assert!(table("| S9.1 | x |\n| id | what |\n").contains_key("S9.1"));
}
