// SPDX-License-Identifier: BSD-2-Clause
//! Whatever a system description or a program contains: an image or an error, never a panic.

mod common;

use common::{Fixtures, Program, kernel, pd};
use microkit_tool::elf::Elf;
use microkit_tool::{Board, pack_root_task, sdf};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use roxmltree::{Document, Node};
use std::ops::Range;
use std::path::Path;

/// Values for attributes: at and beyond limits, of other kinds, with characters that XML quotes.
const VALUES: [&str; 38] = [
    "",
    "0",
    "1",
    "2",
    "3",
    "-1",
    "61",
    "62",
    "63",
    "64",
    "254",
    "255",
    "0xfff",
    "0x1000",
    "0x1001",
    "0x10000",
    "0x200000",
    "0x1000000",
    "0x10000000000",
    "0x3fffffffa000",
    "0x3ffffffff000",
    "0x8000000000000000",
    "0xffffffffffffffff",
    "0xfffffffffffff000",
    "0x10000000000000000",
    "true",
    "false",
    "r",
    "rwx",
    "w",
    "linux",
    "vcpu",
    "monitor",
    "..",
    "/",
    "é\u{1f980}",
    "a&#10;&#x9;b&lt;",
    "H_ENTER 0xf000 4 4 DataStorage",
];

/// Numbers for fields of an ELF file.
const NUMBERS: [u64; 18] = [
    0,
    1,
    2,
    3,
    4,
    0x38,
    0xfff,
    0x1000,
    0xffff,
    0x20_0100,
    0x21_0000,
    1 << 33,
    1 << 45,
    (1 << 46) - 1,
    1 << 62,
    1 << 63,
    u64::MAX - 0xfff,
    u64::MAX,
];

/// A change of a description.
#[derive(Clone, Debug)]
enum Change {
    /// An attribute gets another value.
    Value(Index, &'static str),
    /// An attribute is taken away.
    Without(Index),
    /// An element gets the attribute of another one, perhaps of a namespace.
    Attribute(Index, Index, bool),
    /// An element is taken away.
    Remove(Index),
    /// An element stands before another one too: twice, or where it does not belong.
    Copy(Index, Index),
    /// Some characters are others.
    Text(Index, Index, &'static str),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    prop_oneof![
        8 => (index(), select(&VALUES[..])).prop_map(|(i, v)| Change::Value(i, v)),
        2 => index().prop_map(Change::Without),
        2 => (index(), index(), any::<bool>()).prop_map(|(i, j, n)| Change::Attribute(i, j, n)),
        2 => index().prop_map(Change::Remove),
        4 => (index(), index()).prop_map(|(i, j)| Change::Copy(i, j)),
        1 => (index(), index(), select(&VALUES[..])).prop_map(|(i, j, v)| Change::Text(i, j, v)),
    ]
}

/// The changed text; the same if it is no longer XML and the change needs elements.
fn changed(text: &str, change: &Change) -> String {
    let replaced = |range: Range<usize>, by: &str| {
        format!("{}{by}{}", &text[..range.start], &text[range.end..])
    };
    if let Change::Text(from, length, by) = change {
        let cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        if cuts.is_empty() {
            return (*by).into();
        }
        let start = from.index(cuts.len());
        let end = (start + length.index(8)).min(cuts.len() - 1);
        return replaced(cuts[start]..cuts[end], by);
    }
    let Ok(document) = Document::parse(text) else {
        return text.into();
    };
    let elements: Vec<_> = document
        .root()
        .descendants()
        .filter(Node::is_element)
        .collect();
    let attributes: Vec<_> = elements.iter().flat_map(Node::attributes).collect();
    if attributes.is_empty() {
        return text.into();
    }
    let element = |i: &Index| i.get(&elements);
    let attribute = |i: &Index| i.get(&attributes);
    match change {
        Change::Value(i, value) => replaced(attribute(i).range_value(), value),
        Change::Without(i) => replaced(attribute(i).range(), ""),
        Change::Attribute(i, j, namespace) => {
            let node = element(i);
            let at = node.range().start + 1 + node.tag_name().name().len();
            let attribute = &text[attribute(j).range()];
            let by = match namespace {
                true => format!(" xmlns:n=\"urn:n\" n:{attribute}"),
                false => format!(" {attribute}"),
            };
            replaced(at..at, &by)
        }
        Change::Remove(i) => replaced(element(i).range(), ""),
        Change::Copy(i, j) => {
            let at = element(j).range().start;
            replaced(at..at, &text[element(i).range()])
        }
        Change::Text(..) => unreachable!("done above"),
    }
}

fn all_changed(text: &str, changes: &[Change]) -> String {
    changes
        .iter()
        .fold(text.into(), |text, c| changed(&text, c))
}

fn source(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/systems/{name}.system"));
    std::fs::read_to_string(path).unwrap()
}

fn descriptions() -> impl Strategy<Value = (String, Vec<Change>)> {
    let sources = ["everything", "guest", "guests", "instances"].map(source);
    (
        select(sources.to_vec()),
        prop::collection::vec(change(), 1..5),
    )
}

/// A program with some fields changed, and perhaps cut off.
fn program() -> impl Strategy<Value = Vec<u8>> {
    let field = (any::<Index>(), 1..=3u32, select(&NUMBERS[..]));
    let headers = prop::bool::weighted(0.7);
    let fields = prop::collection::vec((field, headers), 1..5);
    (fields, prop::option::weighted(0.2, any::<Index>())).prop_map(|(fields, end)| {
        let mut bytes = pd().bytes();
        let headers_end = 64 + 56 * pd().loads.len();
        // Symbols, their names and section headers are the last of the file.
        let (len, tables) = (bytes.len(), bytes.len().saturating_sub(0x400));
        for ((at, log, value), in_headers) in fields {
            let size = 1 << log;
            let range = if in_headers {
                0..headers_end
            } else {
                tables..len
            };
            let at = (range.start + at.index(range.len())) / size * size;
            let end = (at + size).min(len);
            bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
        }
        if let Some(end) = end {
            bytes.truncate(end.index(len));
        }
        bytes
    })
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(400))]

    /// Every error about a description has a place in it.
    #[test]
    fn changed_descriptions_are_read_or_refused((text, changes) in descriptions()) {
        let text = all_changed(&text, &changes);
        let board = Board::find("qemu_powernv9").unwrap();
        let read = sdf::parse("x.system", &text, &board);
        if let Err(error) = read.and_then(|system| sdf::check(&system)) {
            let (row, col) = (error.place.row as usize, error.place.col as usize);
            prop_assert!((1..=text.split('\n').count()).contains(&row), "{error}");
            let line = text.split('\n').nth(row - 1).unwrap_or_default();
            prop_assert!((1..=line.chars().count() + 1).contains(&col), "{error}");
            let message = error.to_string();
            prop_assert!(message.starts_with("x.system:"), "{message}");
            prop_assert!(!error.problem.to_string().is_empty());
        }
    }

    #[test]
    fn changed_programs_are_read_or_refused(bytes in program()) {
        match Elf::parse("x.elf", &bytes) {
            Ok(elf) => {
                prop_assert!(elf.segments.iter().all(|s| s.start() < s.end()));
                let board = Board::find("qemu_powernv9").unwrap();
                let kernel = kernel().elf("kernel.elf");
                match pack_root_task(&kernel, &elf, &board, 12, &[], &[], &[]) {
                    Ok(image) => prop_assert!(image.starts_with(b"\x7fELF")),
                    Err(error) => prop_assert!(!error.to_string().is_empty()),
                }
            }
            Err(error) => prop_assert!(error.to_string().starts_with("x.elf: "), "{error}"),
        }
    }
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn changed_systems_are_built_or_refused(
        (text, changes) in descriptions(),
        program in prop::option::weighted(0.3, program()),
    ) {
        let fixtures = Fixtures::new("hostile");
        fixtures.put("large.bin", &[7; 0x30_0001]);
        fixtures.put("short.bin", b"a short file");
        if let Some(bytes) = program {
            fixtures.put("b.elf", &bytes);
        }
        match fixtures.build("x.system", &all_changed(&text, &changes)) {
            Ok(output) => prop_assert!(output.image.starts_with(b"\x7fELF")),
            Err(message) => prop_assert!(!message.is_empty()),
        }
    }
}

/// A program whose second segment has so many bytes in memory.
fn with_segment_of(memsz: u64) -> Program {
    let mut program = pd();
    program.loads[1].memsz = memsz;
    program
}

/// Sizes that no address space has are refused when the file is read, those that no memory has when
/// the system is built: before anything of that size is made.
#[test]
fn segments_of_any_size() {
    for memsz in [
        u64::MAX,
        u64::MAX - 0xfff,
        u64::MAX - 0x1000,
        1 << 63,
        1 << 46,
    ] {
        let error = Elf::parse("x.elf", &with_segment_of(memsz).bytes()).unwrap_err();
        let expected = format!("x.elf: damaged: a segment of {memsz:#x} bytes at 0x210000");
        assert_eq!(error.to_string(), expected);
    }
    let fixtures = Fixtures::new("segments");
    for memsz in [1 << 45, 1 << 40, 1 << 32] {
        fixtures.put("x.elf", &with_segment_of(memsz).bytes());
        let text = "<system><protection_domain name=\"a\"><program_image path=\"x.elf\"/>\
                    </protection_domain></system>";
        let error = fixtures.build("x.system", text).unwrap_err();
        assert!(error.contains("no room for elf_a ("), "{error}");
    }
}

#[test]
fn an_entry_point_is_an_instruction() {
    let mut program = pd();
    program.entry += 2;
    let error = Elf::parse("x.elf", &program.bytes()).unwrap_err();
    let expected = "x.elf: the entry point 0x200102 is not a multiple of 4";
    assert_eq!(error.to_string(), expected);
}

/// The kernel's variable must lie in its segment.
#[test]
fn a_kernel_without_its_variable() {
    let board = Board::find("qemu_powernv9").unwrap();
    for (address, message) in [
        (0x1000, "is in no segment"),
        (0xc000_0000_2000_5000, "must be initialised data"),
    ] {
        let mut program = kernel();
        program.symbols = vec![("partita_image_info", address, 8)];
        let kernel = program.elf("kernel.elf");
        let root = pd().elf("root.elf");
        let error = pack_root_task(&kernel, &root, &board, 12, &[], &[], &[]).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn programs_without_what_they_need() {
    let fixtures = Fixtures::new("needs");
    let text = "<system><protection_domain name=\"a\"><program_image path=\"x.elf\"/>\
                </protection_domain></system>";
    let mut empty = pd();
    empty.loads.iter_mut().for_each(|load| {
        load.memsz = 0;
        load.data.clear();
    });
    let mut elsewhere = pd();
    elsewhere.symbols[0].1 = 0x100_0000;
    for (program, message) in [
        (empty, "x.elf: nothing to load"),
        (elsewhere, "x.elf: symbol 'microkit_name' is in no segment"),
    ] {
        fixtures.put("x.elf", &program.bytes());
        let error = fixtures.build("x.system", text).unwrap_err();
        assert_eq!(error, format!("x.system:1:37: <program_image>: {message}"));
    }
    let board = Board::find("qemu_powernv9").unwrap();
    let kernel = pd().elf("kernel.elf");
    let root = pd().elf("root.elf");
    let error = pack_root_task(&kernel, &root, &board, 12, &[], &[], &[]).unwrap_err();
    let expected = "kernel.elf: one loadable segment at file offset 0 is needed, there are 2";
    assert_eq!(error.to_string(), expected);
}
