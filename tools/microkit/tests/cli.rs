// SPDX-License-Identifier: BSD-2-Clause
//! The command line: what it writes, and that it writes nothing when it fails.

mod common;

use common::Fixtures;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Setup {
    fixtures: Fixtures,
    out: PathBuf,
}

impl Setup {
    fn new(name: &str) -> Self {
        let fixtures = Fixtures::new(name);
        let elf = fixtures
            .folder()
            .join("sdk/board/qemu_powernv9/release/elf");
        std::fs::create_dir_all(&elf).unwrap();
        std::fs::write(elf.join("kernel.elf"), common::kernel().bytes()).unwrap();
        std::fs::write(elf.join("initialiser.elf"), common::pd().bytes()).unwrap();
        std::fs::write(elf.join("monitor.elf"), common::monitor().bytes()).unwrap();
        let out = fixtures.folder().join("out");
        // Left over from an earlier run, or not there.
        let _ = std::fs::remove_dir_all(&out);
        std::fs::create_dir_all(&out).unwrap();
        Setup { fixtures, out }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_microkit"))
            .args(arguments)
            .args(["--board", "qemu_powernv9", "--config", "release"])
            .env("MICROKIT_SDK", self.fixtures.folder().join("sdk"))
            .current_dir(&self.out)
            .output()
            .unwrap()
    }

    fn written(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.out).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn hello() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systems/hello.system");
    path.display().to_string()
}

#[test]
fn writes_image_report_and_capabilities() {
    let setup = Setup::new("cli");
    let search = setup.fixtures.folder().display().to_string();
    let done = setup.run(&[
        &hello(),
        "--search-path",
        "/nowhere",
        &search,
        "-o",
        "hello.img",
        "-r",
        "hello.txt",
        "--capdl-json",
        "hello.json",
        "--capdl",
        "hello.cdl",
    ]);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert_eq!(
        setup.written(),
        ["hello.cdl", "hello.img", "hello.json", "hello.txt"]
    );
    let image = std::fs::read(setup.out.join("hello.img")).unwrap();
    assert_eq!(&image[..4], b"\x7fELF");
}

#[test]
fn fails_with_one_line_and_writes_nothing() {
    let setup = Setup::new("cli-fails");
    let no_program = format!(
        "microkit: {}:4:9: <program_image>: program image 'a.elf' is in none of the search paths",
        hello()
    );
    for (arguments, message) in [
        (vec![hello()], no_program.as_str()),
        (
            vec!["nofile.system".into()],
            "microkit: nofile.system: No such file",
        ),
        (
            vec![hello(), "--sdk".into(), "/nowhere".into()],
            "microkit: /nowhere/board/qemu_powernv9/release/elf/kernel.elf: No such file",
        ),
        (
            vec![
                hello(),
                "--search-path".into(),
                setup.fixtures.folder().display().to_string(),
                "-r".into(),
                "no/such/folder/report.txt".into(),
            ],
            "microkit: no/such/folder/report.txt: cannot be written: No such file",
        ),
    ] {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let done = setup.run(&arguments);
        let text = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{text}");
        assert!(text.starts_with(message), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert_eq!(setup.written(), Vec::<String>::new());
    }
}

/// Bytes that are no text are refused with their place, and quoted names break no line.
#[test]
fn odd_bytes_in_a_description() {
    let setup = Setup::new("cli-bytes");
    let file = setup
        .fixtures
        .folder()
        .join("x.system")
        .display()
        .to_string();
    for (bytes, message) in [
        (&b"<system>\n <!-- \xc3\xa9 \xff -->"[..], "2:9: not UTF-8"),
        (b"\xff\xfe<\0s\0", "1:1: not UTF-8"),
        (b"", "1:1: not well-formed XML"),
        (
            b"<system><protection_domain name=\"a\"><program_image path=\"a&#10;&#9;b\"/>\
              </protection_domain></system>",
            "1:37: <program_image>: program image 'a\\n\\tb' is in none",
        ),
    ] {
        setup.fixtures.put("x.system", bytes);
        let done = setup.run(&[&file]);
        let text = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{text}");
        assert!(
            text.starts_with(&format!("microkit: {file}:{message}")),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1, "{text}");
        assert_eq!(setup.written(), Vec::<String>::new());
    }
}

/// What was there before stays as it is, and nothing half-written is left beside it.
#[test]
fn a_failure_leaves_earlier_output_alone() {
    let setup = Setup::new("cli-keeps");
    let search = setup.fixtures.folder().display().to_string();
    std::fs::create_dir(setup.out.join("folder")).unwrap();
    for name in ["loader.img", "report.txt"] {
        std::fs::write(setup.out.join(name), "earlier").unwrap();
    }
    for (arguments, message) in [
        (
            ["-r", "folder"],
            "microkit: folder: cannot be written: is a directory",
        ),
        (
            ["-r", "loader.img"],
            "microkit: loader.img: named for two outputs",
        ),
        (
            ["-r", "./folder/../loader.img"],
            "microkit: ./folder/../loader.img: named for two outputs",
        ),
        (
            ["--capdl", "report.txt"],
            "microkit: report.txt: named for two outputs",
        ),
        (
            ["--capdl-json", "no/such/x"],
            "microkit: no/such/x: cannot be written: No such file",
        ),
    ] {
        let done = setup.run(&[&[&hello(), "--search-path", &search], &arguments[..]].concat());
        let text = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{text}");
        assert!(text.starts_with(message), "{text}");
        assert_eq!(setup.written(), ["folder", "loader.img", "report.txt"]);
        for name in ["loader.img", "report.txt"] {
            assert_eq!(std::fs::read(setup.out.join(name)).unwrap(), b"earlier");
        }
    }
}

/// What was read is not overwritten, however it is named.
#[test]
fn no_output_overwrites_an_input() {
    let setup = Setup::new("cli-inputs");
    let folder = setup.fixtures.folder();
    let kernel = "../sdk/board/qemu_powernv9/release/elf/kernel.elf";
    std::fs::copy(hello(), folder.join("hello.system")).unwrap();
    std::os::unix::fs::symlink("../a.elf", setup.out.join("link")).unwrap();
    let system = [
        "../hello.system",
        "--search-path",
        &folder.display().to_string(),
    ]
    .map(str::to_string);
    let root = ["--root-task", "../a.elf"].map(str::to_string);
    for (what, option, output) in [
        (&system[..], "-o", "../hello.system"),
        (&system, "-r", "../out/../a.elf"),
        (&system, "--capdl", "link"),
        (&system, "--capdl-json", kernel),
        (&root, "-o", "../a.elf"),
        (&root, "-o", kernel),
    ] {
        let before = std::fs::read(setup.out.join(output)).unwrap();
        let mut arguments: Vec<_> = what.iter().map(String::as_str).collect();
        arguments.extend([option, output]);
        let done = setup.run(&arguments);
        let text = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{output}: {text}");
        let message = format!("microkit: {output}: named for an output, but it is an input\n");
        assert_eq!(text, message);
        assert!(std::fs::read(setup.out.join(output)).unwrap() == before);
        assert_eq!(setup.written(), ["link"]);
    }
}

/// A device is written, not replaced by a file.
#[test]
fn output_to_a_device() {
    let setup = Setup::new("cli-device");
    let search = setup.fixtures.folder().display().to_string();
    let arguments = [
        &hello(),
        "--search-path",
        &search,
        "-o",
        "/dev/null",
        "-r",
        "/dev/stdout",
    ];
    let done = setup.run(&arguments);
    assert!(done.status.success());
    assert!(
        String::from_utf8(done.stdout)
            .unwrap()
            .starts_with("# Memory")
    );
    assert_eq!(setup.written(), Vec::<String>::new());
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
}

/// Upstream's options are there; those that a build cannot do without are asked for.
#[test]
fn command_line_is_upstreams() {
    let setup = Setup::new("cli-options");
    let search = setup.fixtures.folder().display().to_string();
    let done = setup.run(&["--help"]);
    let help = String::from_utf8(done.stdout).unwrap();
    for option in [
        "--output",
        "-o",
        "--report",
        "-r",
        "--board",
        "--config",
        "--search-path",
        "--capdl-json",
        "--image-type",
        "--help",
        "-h",
        "--version",
    ] {
        assert!(help.contains(option), "{option}");
    }
    assert!(setup.run(&["--version"]).status.success());
    let elf = setup.run(&[&hello(), "--search-path", &search, "--image-type", "elf"]);
    assert!(elf.status.success());
    let binary = setup.run(&[&hello(), "--image-type", "binary"]);
    assert_eq!(binary.status.code(), Some(2), "firmware boots ELF files");
    let without = Command::new(env!("CARGO_BIN_EXE_microkit"))
        .arg(hello())
        .output()
        .unwrap();
    let text = String::from_utf8(without.stderr).unwrap();
    assert!(
        text.contains("--board") && text.contains("--config"),
        "{text}"
    );
}

/// Programs of the SDK are checked as those of the system are.
#[test]
fn sdk_for_another_machine_is_refused() {
    let setup = Setup::new("cli-sdk");
    let search = setup.fixtures.folder().display().to_string();
    let elf = setup
        .fixtures
        .folder()
        .join("sdk/board/qemu_powernv9/release/elf");
    for program in ["kernel", "initialiser", "monitor"] {
        let path = elf.join(format!("{program}.elf"));
        let good = std::fs::read(&path).unwrap();
        let other = std::fs::read(setup.fixtures.folder().join("x86.elf")).unwrap();
        for (contents, message) in [(Some(other), "ppc64"), (None, "No such file")] {
            match contents {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let done = setup.run(&[&hello(), "--search-path", &search]);
            let text = String::from_utf8(done.stderr).unwrap();
            assert_eq!(done.status.code(), Some(1), "{text}");
            assert!(text.contains(&format!("{program}.elf: ")), "{text}");
            assert!(text.contains(message), "{text}");
            assert_eq!(setup.written(), Vec::<String>::new());
        }
        std::fs::write(&path, good).unwrap();
    }
}

#[test]
fn packs_a_root_task() {
    let setup = Setup::new("cli-root");
    let suite = setup.fixtures.folder().join("a.elf").display().to_string();
    let done = setup.run(&["--root-task", &suite, "-o", "suite.img"]);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert_eq!(setup.written(), ["suite.img"]);
    let both = setup.run(&[&hello(), "--root-task", &suite]);
    assert_eq!(
        both.status.code(),
        Some(2),
        "a system and a root task exclude each other"
    );
}

/// A system that is too large for the default machine fits into a larger one, and only there.
#[test]
fn memory_of_the_machine() {
    let setup = Setup::new("cli-memory");
    let search = setup.fixtures.folder().display().to_string();
    let large = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/sdf/cap_untyped_does_not_fit.system");
    let large = large.display().to_string();
    let build = |memory: &str| {
        let done = setup.run(&[&large, "--search-path", &search, "--memory", memory]);
        (
            done.status.code(),
            String::from_utf8(done.stderr).unwrap_or_default(),
        )
    };
    let (status, text) = build("2G");
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("more memory than the board has"), "{text}");
    let (status, text) = build("4G");
    assert_eq!(status, Some(0), "{text}");
    for wrong in ["1023M", "2", "2T", "G", "-4G", "2000000000G"] {
        let (status, text) = build(wrong);
        assert_eq!(status, Some(2), "{wrong}: {text}");
    }
}
