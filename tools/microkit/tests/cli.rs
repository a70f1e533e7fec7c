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
    for (arguments, message) in [
        (
            vec![hello()],
            "microkit: program image 'a.elf' is in none of the search paths",
        ),
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
