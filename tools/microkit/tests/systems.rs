// SPDX-License-Identifier: BSD-2-Clause
//! Whole systems: what comes out of the tool, booted on a model of the kernel.
//!
//! `tests/golden/` holds what the systems in `tests/systems/` become. `UPDATE_GOLDEN=1` writes the
//! files anew; read the difference before you commit it.

#[path = "common/cdl.rs"]
mod cdl;
mod common;
#[path = "common/model.rs"]
mod model;

use common::{DATA, Fixtures, TEXT};
use initialiser::{execute, finish};
use microkit_tool::elf::Elf;
use microkit_tool::memory::Memory;
use microkit_tool::{Board, Output, pack_root_task};
use model::Model;
use partita_abi::bootinfo::{IMAGE_MAGIC, ImageFrames, ImageInfo};
use std::path::Path;
use zerocopy::FromBytes;

const BASE: u64 = 0x2000_0000;

fn fixtures(name: &str) -> Fixtures {
    let fixtures = Fixtures::new(name);
    fixtures.put("short.bin", b"a short file");
    fixtures.put("large.bin", &[7; 0x30_0001]);
    fixtures
}

fn system(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/systems/{name}.system"));
    std::fs::read_to_string(path).unwrap()
}

fn word(image: &[u8], paddr: u64) -> u64 {
    u64::from_le_bytes(image[(paddr - BASE) as usize..][..8].try_into().unwrap())
}

/// The header and frame table, found as the kernel finds them.
fn header(image: &[u8]) -> (ImageInfo, Vec<ImageFrames>) {
    let at = word(image, BASE + 0x1800) - BASE;
    let info = ImageInfo::read_from_prefix(&image[at as usize..])
        .unwrap()
        .0;
    let table = &image[(info.frames_paddr - BASE) as usize..];
    let frames = (0..info.frames_count as usize)
        .map(|i| {
            ImageFrames::read_from_prefix(&table[i * size_of::<ImageFrames>()..])
                .unwrap()
                .0
        })
        .collect();
    (info, frames)
}

/// Boots an image on the model.
fn boot(image: &[u8]) -> Model {
    let (info, frames) = header(image);
    let board = Board::find("qemu_powernv9").unwrap();
    let memory = Memory::new(&board, info.image_end, info.root_cnode_bits as u8);
    let mut model = Model::boot(&info, &frames, &memory.untypeds());
    let spec = &image[(info.spec_paddr - BASE) as usize..][..info.spec_size as usize];
    let boot_info = model.boot_info();
    if let Err(failure) = execute(&mut model, &boot_info, spec) {
        panic!("{failure}");
    }
    finish(&mut model).unwrap();
    model.check_end();
    model
}

fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    let line = expected
        .lines()
        .zip(found.lines())
        .position(|(e, f)| e != f);
    if let Some(line) = line {
        let (e, f) = (expected.lines().nth(line), found.lines().nth(line));
        panic!("{name}:{}: expected {e:?}, found {f:?}", line + 1);
    }
    assert_eq!(expected.len(), found.len(), "{name}: one is longer");
}

/// The sections of a report that do not depend on the sizes of the kernel's objects.
fn capabilities(report: &str) -> &str {
    let start = report.find("# IRQ Details").unwrap();
    let end = report.find("# Kernel Objects Details").unwrap();
    assert!(report[..start].starts_with("# Memory\n"));
    assert!(report[end..].contains("\nelf_monitor_000000000 "));
    &report[start..end]
}

fn build(fixtures: &Fixtures, name: &str) -> Output {
    fixtures
        .build(&format!("{name}.system"), &system(name))
        .unwrap()
}

#[test]
fn hello_becomes_what_it_should() {
    let output = build(&fixtures("hello"), "hello");
    golden("hello.live", &boot(&output.image).listing());
    golden("hello.report", capabilities(&output.report));
    golden("hello.json", &output.capdl_json);
    golden("hello.cdl", &output.capdl);
    assert_eq!(output.warnings, Vec::<String>::new());
}

#[test]
fn everything_becomes_what_it_should() {
    let output = build(&fixtures("everything"), "everything");
    golden("everything.live", &boot(&output.image).listing());
    golden("everything.report", capabilities(&output.report));
}

#[test]
fn guests_become_what_they_should() {
    let output = build(&fixtures("guest"), "guest");
    golden("guest.live", &boot(&output.image).listing());
    golden("guest.report", capabilities(&output.report));
    golden("guest.json", &output.capdl_json);
    golden("guest.cdl", &output.capdl);
    assert_eq!(
        output.warnings,
        ["guest.system:56:9: <virtual_machine>: region 'second@kernel' is never used"]
    );
}

/// Two cores with an instance of each server; two guests with a set of domains each.
#[test]
fn instances_and_several_guests_become_what_they_should() {
    let fixtures = fixtures("several");
    let instances = build(&fixtures, "instances");
    let listing = boot(&instances.image).listing();
    for (server, instance) in [("vpa_0", 0), ("vpa_1", 1)] {
        let data = image_page(&listing, server, DATA);
        assert_eq!(word(&instances.image, data + 0x60), instance, "its core");
    }
    for name in ["instances", "guests"] {
        let output = build(&fixtures, name);
        golden(&format!("{name}.live"), &boot(&output.image).listing());
        golden(&format!("{name}.report"), capabilities(&output.report));
        golden(&format!("{name}.cdl"), &output.capdl);
        assert_eq!(output.warnings, Vec::<String>::new());
    }
}

#[test]
fn guests_variables_are_set() {
    let output = build(&fixtures("guest-variables"), "guest");
    let listing = boot(&output.image).listing();
    let variable = |thread, offset| {
        let page = image_page(&listing, thread, DATA);
        word(&output.image, page + offset)
    };
    assert_eq!(variable("memslots", 0x60), 0x1_0000_0000);
    assert_eq!(variable("memslots", 0x68), 0x30_0001, "bytes of the file");
    assert_eq!(variable("memslots", 0x70), 0x2000_0000);
    assert_eq!(variable("memslots", 0x500), 2);
    assert_eq!(variable("hpt_0", 0x60), 0x4000_0000);
    assert_eq!(variable("hpt_0", 0x68), 23, "512 MiB / 64");
    assert_eq!(variable("hpt_0", 0x70), 0x1_0000);
    assert_eq!(variable("vcpu", 0x68), 12, "console=hvc0");
    assert_eq!(variable("vcpu", 0x70), 2);
    assert_eq!(variable("vcpu", 0x500), 0x30_0001);
    assert_eq!(variable("small", 0x60), 0, "no initrd");

    let image = |vaddr| (image_page(&listing, "memslots", vaddr) - BASE) as usize;
    let kernel = image(0x1_0000_0000);
    assert!(kernel.is_multiple_of(0x20_0000), "a large page");
    let file = &output.image[kernel..kernel + 0x40_0000];
    assert!(file[..0x30_0001].iter().all(|&b| b == 7));
    assert!(file[0x30_0001..].iter().all(|&b| b == 0));
    let cmdline = (image_page(&listing, "vcpu", 0x1_0000_0000) - BASE) as usize;
    assert_eq!(&output.image[cmdline..cmdline + 13], b"console=hvc0\0");
}

/// The JSON says the same as the report: every object has a unique name, and every reference names
/// an object.
#[test]
fn json_is_consistent() {
    let output = build(&fixtures("json"), "everything");
    let json: serde_json::Value = serde_json::from_str(&output.capdl_json).unwrap();
    let objects = json["objects"].as_array().unwrap();
    let mut names: Vec<_> = objects
        .iter()
        .map(|o| o["name"].as_str().unwrap())
        .collect();
    for name in [
        "tcb_client",
        "cnode_client",
        "ep_server",
        "mr_ring_000000001",
        "sc_monitor",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), objects.len());

    fn references(value: &serde_json::Value, found: &mut Vec<u64>) {
        match value {
            serde_json::Value::Object(map) => {
                found.extend(map.get("object").and_then(serde_json::Value::as_u64));
                map.values().for_each(|v| references(v, found));
            }
            serde_json::Value::Array(list) => list.iter().for_each(|v| references(v, found)),
            _ => (),
        }
    }
    let mut found = Vec::new();
    references(&json, &mut found);
    assert!(found.len() > objects.len());
    assert!(found.iter().all(|&id| id < objects.len() as u64));
}

/// Read back, the capDL text is the JSON; its objects are in the order of their names.
#[test]
fn text_and_json_say_the_same() {
    let fixtures = fixtures("text");
    for name in ["hello", "everything", "guest", "instances", "guests"] {
        let output = build(&fixtures, name);
        let module = cdl::parse(&output.capdl);
        assert_eq!(module.arch, "ppc64");
        assert!(module.names.is_sorted(), "{name}");
        let (text, json) = (module.json(), cdl::by_name(&output.capdl_json));
        for (object, found) in json["objects"].as_object().unwrap() {
            assert_eq!(*found, text["objects"][object], "{name}: {object}");
        }
        assert_eq!(text, json, "{name}");
    }
}

#[test]
fn same_input_same_bytes() {
    let first = build(&fixtures("same-1"), "everything");
    let second = build(&fixtures("same-2"), "everything");
    assert!(first.image == second.image, "images differ");
    assert_eq!(first.capdl_json, second.capdl_json);
    assert_eq!(first.capdl, second.capdl);
    assert_eq!(first.report, second.report);
}

#[test]
fn image_is_the_kernel_and_more() {
    let output = build(&fixtures("image"), "hello");
    let image = &output.image;
    let kernel = common::kernel();
    let elf = Elf::parse("loader.img", &{
        // Without section headers there are no symbols, but the rest is an ELF file as it was.
        image.clone()
    })
    .unwrap();
    assert_eq!(elf.entry, kernel.entry);
    assert_eq!(elf.segments.len(), 1);
    assert_eq!(elf.segments[0].offset, 0);
    assert_eq!(elf.segments[0].memsz, image.len() as u64);
    assert_eq!(image[0x1000..0x1800], kernel.loads[0].data[0x1000..0x1800]);
    assert!(
        image[0x2000..0x5100].iter().all(|&b| b == 0),
        ".bss is zeros"
    );
    let (info, _) = header(image);
    assert_eq!(info.magic, IMAGE_MAGIC);
    assert_eq!(info.image_end, BASE + image.len() as u64);
    assert_eq!(info.root_entry, TEXT + 0x100);
    assert_eq!(info.segment_count, 2);
    assert_eq!(info.segments[0].vaddr, TEXT);
    assert_eq!((info.segments[0].size, info.segments[0].flags), (0x2000, 6));
    assert_eq!((info.segments[1].size, info.segments[1].flags), (0x3000, 3));
    assert_eq!(word(image, info.segments[0].paddr), 0x6000_0000_6000_0000);
}

/// Where a page of a domain lies in the image, from the listing.
fn image_page(listing: &str, thread: &str, vaddr: u64) -> u64 {
    let mut lines = listing
        .lines()
        .skip_while(|l| !l.starts_with(&format!("{thread}:")));
    let page = format!("    {vaddr:#016x} ");
    let line = lines.find(|l| l.starts_with(&page)).unwrap();
    let at = line
        .split("image 0x")
        .nth(1)
        .unwrap_or_else(|| panic!("not in the image: {line}"));
    u64::from_str_radix(at, 16).unwrap()
}

#[test]
fn variables_are_set_and_text_is_shared() {
    let output = build(&fixtures("variables"), "everything");
    let image = &output.image;
    let listing = boot(image).listing();
    let page = |thread, vaddr| image_page(&listing, thread, vaddr);
    let variable = |thread, offset| word(image, page(thread, DATA) + offset);

    assert_eq!(page("client", TEXT), page("server", TEXT));
    assert_ne!(page("client", TEXT), page("parent", TEXT), "another file");
    assert_ne!(page("client", DATA), page("server", DATA));
    assert_eq!(
        page("client", 0x1100_0000),
        page("client", 0x1200_0000),
        "one copy of the file"
    );

    let name = (page("client", DATA) - BASE) as usize;
    assert_eq!(&image[name..name + 8], b"client\0\0");
    assert_eq!(image[name + 0x40], 0);
    assert_eq!(
        image[(page("server", DATA) - BASE) as usize + 0x40],
        1,
        "passive"
    );
    assert_eq!(variable("client", 0x50), 1, "it may notify 0 only");
    assert_eq!(variable("client", 0x58), 1 << 0 | 1 << 7, "calls");
    assert_eq!(variable("parent", 0x48), 1 << 5 | 1 << 6, "interrupts");
    assert_eq!(variable("client", 0x60), 0x1000_0000);
    assert_eq!(variable("client", 0x68), 0x2_0000);
    assert_eq!(variable("client", 0x70), 5000);
    assert_eq!(variable("parent", 0x68), 5);
    assert_eq!(variable("parent", 0x70), 3, "id of the child");
    let dma = variable("parent", 0x60);
    assert_eq!(dma, 0x7bff_e000, "the highest memory that is free");
    assert_eq!(
        variable("parent", 0x500),
        page("client", 0x1100_0000),
        "address of a prefilled region"
    );

    let blob = (page("client", 0x1100_0000) - BASE) as usize;
    assert!(
        image[blob..blob + 5000]
            .iter()
            .enumerate()
            .all(|(i, &b)| b == (i % 251) as u8)
    );
    assert!(image[blob + 5000..blob + 0x2000].iter().all(|&b| b == 0));
    let table = (page("parent", 0x5200_0000) - BASE) as usize;
    assert_eq!(&image[table..table + 14], b"a short file\0\0");
}

#[test]
fn monitor_knows_the_domains() {
    let output = build(&fixtures("monitor"), "everything");
    let listing = boot(&output.image).listing();
    let data = image_page(&listing, "monitor", DATA);
    assert_eq!(word(&output.image, data), 5);
    let name = |i: u64| {
        let at = (data + 0x400 + 64 * i - BASE) as usize;
        std::str::from_utf8(&output.image[at..at + 64])
            .unwrap()
            .trim_end_matches('\0')
    };
    assert_eq!(
        (0..6).map(name).collect::<Vec<_>>(),
        ["client", "server", "parent", "child", "grandchild", ""]
    );
    // Two pages of data lie in the image: the table of stacks is in the second.
    let stacks = image_page(&listing, "monitor", DATA + 0x1000) + 0x400;
    assert_eq!(word(&output.image, stacks), 0x3fff_ffff_c000);
    assert_eq!(
        word(&output.image, stacks + 16),
        0x3fff_ffff_a000,
        "a larger stack"
    );
}

/// No domain holds more than its channels, interrupts, children and grants give it.
#[test]
fn rights_are_the_least_that_work() {
    let output = build(&fixtures("rights"), "everything");
    let listing = boot(&output.image).listing();
    for line in listing
        .lines()
        .filter(|l| l.contains("endpoint #") || l.contains("notification #"))
    {
        let text = line.trim();
        let input = text.starts_with("1: ");
        let monitors = text.starts_with("203: ") || text.starts_with("206: ");
        if text.starts_with("bound: ") || text.contains("irq") {
            continue;
        } else if input || monitors {
            assert!(text.contains(" r--- 0x0"), "{text}");
        } else if text.contains("notification #") || text.starts_with("5: ") {
            assert!(
                text.contains(" -w-- 0x") && !text.ends_with(" 0x0"),
                "{text}"
            );
        } else {
            assert!(
                text.contains(" -w-p 0x") && !text.ends_with(" 0x0"),
                "{text}"
            );
        }
    }
    assert!(
        !listing.lines().any(|l| l.trim().starts_with("2: endpoint")),
        "own fault endpoint"
    );
}

#[test]
fn benchmark_configuration_gives_own_threads() {
    let fixtures = fixtures("benchmark");
    let with = fixtures
        .build_for("hello.system", &system("hello"), "benchmark")
        .unwrap();
    let without = fixtures
        .build_for("hello.system", &system("hello"), "release")
        .unwrap();
    assert!(boot(&with.image).listing().contains(" 6: tcb hello"));
    assert!(!boot(&without.image).listing().contains(" 6: tcb hello"));
}

#[test]
fn prefilled_regions_that_somebody_writes_are_not_shared() {
    let fixtures = fixtures("prefill");
    let text = |perms: &str| {
        format!(
            r#"<system>
                <memory_region name="one" prefill_path="file.bin" />
                <memory_region name="two" prefill_path="file.bin" />
                <protection_domain name="p">
                    <program_image path="a.elf" />
                    <map mr="one" vaddr="0x10000000" perms="r" />
                    <map mr="two" vaddr="0x20000000" perms="{perms}" />
                </protection_domain>
            </system>"#
        )
    };
    for (perms, shared) in [("r", true), ("rw", false)] {
        let listing = boot(&fixtures.build("p.system", &text(perms)).unwrap().image).listing();
        let (one, two) = (
            image_page(&listing, "p", 0x1000_0000),
            image_page(&listing, "p", 0x2000_0000),
        );
        assert_eq!(one == two, shared, "{perms}");
    }
}

#[test]
fn unused_regions_warn() {
    let fixtures = fixtures("unused");
    let text = "<system>\n    <memory_region name=\"r\" size=\"0x1000\" />\n    \
        <protection_domain name=\"p\">\n        <program_image path=\"a.elf\" />\n    \
        </protection_domain>\n</system>\n";
    let warnings = fixtures.build("w.system", text).unwrap().warnings;
    assert_eq!(
        warnings,
        ["w.system:2:5: <memory_region>: region 'r' is never used"]
    );
}

/// The memory is set aside, and nobody keeps a capability to it.
#[test]
fn regions_that_only_the_address_is_wanted_of() {
    let fixtures = fixtures("address");
    let text = r#"<system>
        <memory_region name="dma" size="0x20000" />
        <memory_region name="file" prefill_path="file.bin" />
        <protection_domain name="p">
            <program_image path="a.elf" />
            <setvar symbol="variable" region_paddr="dma" />
            <setvar symbol="second" region_paddr="file" />
        </protection_domain>
    </system>"#;
    let output = fixtures.build("p.system", text).unwrap();
    assert_eq!(output.warnings, Vec::<String>::new());
    let data = image_page(&boot(&output.image).listing(), "p", DATA);
    assert_eq!(word(&output.image, data + 0x60), 0x7bfe_0000);
    let file = (word(&output.image, data + 0x68) - BASE) as usize;
    assert_eq!(output.image[file + 250..file + 253], [250, 0, 1]);
}

#[test]
fn large_systems_boot() {
    let fixtures = fixtures("large");
    let mut text = String::from("<system>\n");
    // More than one Retype and more than one untyped; 4 KiB pages although larger ones would do.
    text.push_str("<memory_region name=\"big\" size=\"0x30000000\" page_size=\"0x200000\" />\n");
    text.push_str("<memory_region name=\"small\" size=\"0x800000\" page_size=\"0x1000\" />\n");
    for i in 0..63 {
        let maps = match i % 16 {
            0 => {
                "<map mr=\"small\" vaddr=\"0x30000000\" />\n<map mr=\"big\" vaddr=\"0x40000000\" />\n"
            }
            _ => "",
        };
        text.push_str(&format!(
            "<protection_domain name=\"p{i}\" priority=\"{i}\" cpu=\"{}\">\n\
             <program_image path=\"a.elf\" />\n{maps}</protection_domain>\n",
            i % 4
        ));
    }
    text.push_str("</system>\n");
    let output = fixtures.build("large.system", &text).unwrap();
    boot(&output.image);
}

#[test]
fn suites_are_packed_without_a_specification() {
    let board = Board::find("qemu_powernv9").unwrap();
    let (kernel, root) = (
        common::kernel().elf("kernel.elf"),
        common::pd().elf("suite.elf"),
    );
    let image = pack_root_task(&kernel, &root, &board, 14, &[], &[], &[]).unwrap();
    let (info, frames) = header(&image);
    assert_eq!((info.spec_paddr, info.spec_size), (0, 0));
    assert_eq!(info.root_cnode_bits, 14);
    assert!(frames.is_empty());
}

#[test]
fn kernels_that_cannot_be_patched_are_refused() {
    let board = Board::find("qemu_powernv9").unwrap();
    let root = common::pd().elf("suite.elf");
    let pack = |kernel: &common::Program| {
        let kernel = kernel.elf("kernel.elf");
        pack_root_task(&kernel, &root, &board, 14, &[], &[], &[])
            .unwrap_err()
            .to_string()
    };
    let mut kernel = common::kernel();
    kernel.symbols[0].1 = 0xc000_0000_2000_3000;
    assert_eq!(
        pack(&kernel),
        "kernel.elf: symbol 'partita_image_info' is not in the file: it must be initialised data"
    );
    kernel.symbols.clear();
    assert_eq!(pack(&kernel), "kernel.elf: no symbol 'partita_image_info'");
    assert_eq!(
        pack(&common::pd()),
        "kernel.elf: one loadable segment at file offset 0 is needed, there are 2"
    );
}

#[test]
fn images_have_a_limit() {
    let fixtures = fixtures("limit");
    let text = "<system>\n<memory_region name=\"r\" size=\"0x8000000\" prefill_path=\"file.bin\" />\n\
        <protection_domain name=\"p\">\n<program_image path=\"a.elf\" />\n\
        <map mr=\"r\" vaddr=\"0x10000000\" />\n</protection_domain>\n</system>\n";
    let error = fixtures.build("l.system", text).unwrap_err();
    assert!(
        error.ends_with("bytes, the board loads at most 0x8000000"),
        "{error}"
    );
}

/// What the kernel or the initialiser has room for is checked here, and named.
#[test]
fn limits_of_the_kernel_are_named() {
    let board = Board::find("qemu_powernv9").unwrap();
    let slots = |count| microkit_tool::image::root_cnode_bits(&board, 0, count);
    assert_eq!(slots(1 << 19).unwrap(), 20);
    assert_eq!(
        slots(1 << 20).unwrap_err().to_string(),
        "the system needs 1048724 capabilities at boot, the root task has room for 1048576 \
         (use larger pages)"
    );

    let mut suite = common::pd();
    let load = suite.loads[1].clone();
    suite.loads.extend((1..16).map(|i| common::Load {
        vaddr: load.vaddr + 0x1_0000 * i,
        ..load.clone()
    }));
    let (kernel, root) = (common::kernel().elf("kernel.elf"), suite.elf("suite.elf"));
    let error = pack_root_task(&kernel, &root, &board, 14, &[], &[], &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "suite.elf: 17 segments, the kernel takes at most 8"
    );

    let fixtures = fixtures("pieces");
    let mut text = String::from("<system>\n");
    let mut maps = String::new();
    for i in 0..200u64 {
        let paddr = 0x4010_3000 + 0x40_0000 * i;
        text.push_str(&format!(
            "<memory_region name=\"r{i}\" size=\"0x1000\" phys_addr=\"{paddr:#x}\" />\n"
        ));
        maps.push_str(&format!(
            "<map mr=\"r{i}\" vaddr=\"{:#x}\" />\n",
            0x3000_0000 + (i << 12)
        ));
    }
    text.push_str(&format!(
        "<protection_domain name=\"p\">\n<program_image path=\"a.elf\" />\n{maps}\
         </protection_domain>\n</system>\n"
    ));
    assert_eq!(
        fixtures.build("pieces.system", &text).unwrap_err(),
        "the regions at fixed addresses split memory into more than 256 pieces"
    );
}
