// SPDX-License-Identifier: BSD-2-Clause
//! Reads the kernel configuration that `PARTITA_CONFIG` names (default `debug`) and the board that
//! `PARTITA_BOARD` names (default `qemu_powernv9`) from `kernel-config/` and makes the `sel4_cfg_*!`
//! macros and `cfg(partita_printing)` from them.

use std::fmt::Write;
use std::path::PathBuf;

/// Configuration values of one kernel, by upstream's names.
struct Keys {
    bools: Vec<(&'static str, bool)>,
    words: Vec<(&'static str, u64)>,
    strings: Vec<(&'static str, String)>,
}

/// A table of `kernel-config/<folder>`; its name comes from the environment.
fn read(variable: &str, folder: &str, default: &str) -> (PathBuf, toml::Table) {
    println!("cargo:rerun-if-env-changed={variable}");
    let name = std::env::var(variable).unwrap_or_else(|_| default.into());
    let manifest = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let path = manifest
        .join("../../kernel-config")
        .join(folder)
        .join(format!("{name}.toml"));
    println!("cargo:rerun-if-changed={}", path.display());
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{variable}={name}: {}: {e}", path.display()));
    let table = text
        .parse()
        .unwrap_or_else(|e| panic!("{} is not TOML: {e}", path.display()));
    (path, table)
}

fn main() {
    println!("cargo:rustc-check-cfg=cfg(partita_printing)");
    let (path, table) = read("PARTITA_CONFIG", "configs", "debug");
    let (board_path, board) = read("PARTITA_BOARD", "boards", "qemu_powernv9");
    let timebase_hz = match board.get("timebase_hz").and_then(toml::Value::as_integer) {
        Some(hz) if hz > 0 => hz.unsigned_abs(),
        _ => panic!("{}: no positive number `timebase_hz`", board_path.display()),
    };
    let board_name = match board.get("name").and_then(toml::Value::as_str) {
        Some(name) => name.to_string(),
        None => panic!("{}: no string `name`", board_path.display()),
    };
    let flag = |key: &str| match table.get(key).and_then(toml::Value::as_bool) {
        Some(value) => value,
        None => panic!("{}: no boolean `{key}`", path.display()),
    };
    let keys = Keys {
        bools: vec![
            ("PRINTING", flag("printing")),
            ("DEBUG_BUILD", flag("debug_syscalls")),
            ("ENABLE_BENCHMARKS", flag("benchmark")),
            ("KERNEL_MCS", true),
            ("ARCH_PPC64", true),
            ("HYPERVISOR_SUPPORT", true),
            ("HAVE_FPU", false),
        ],
        words: vec![
            ("WORD_SIZE", 64),
            ("NUM_PRIORITIES", 256),
            ("NUM_DOMAINS", 1),
            ("TIMER_FREQUENCY", timebase_hz),
        ],
        strings: vec![
            ("ARCH", "ppc64".into()),
            ("SEL4_ARCH", "ppc64le".into()),
            ("PLAT", board_name),
        ],
    };
    if flag("printing") {
        println!("cargo:rustc-cfg=partita_printing");
    }
    let dest = PathBuf::from(std::env::var("OUT_DIR").expect("set by cargo")).join("config.rs");
    std::fs::write(dest, macros(&keys)).expect("OUT_DIR is writable");
}

/// The text of the configuration macros.
fn macros(keys: &Keys) -> String {
    let mut out = String::new();
    let mut value_macro = |name: &str, doc: &str, arms: Vec<(&str, String)>| {
        writeln!(out, "/// {doc}\n#[macro_export]\nmacro_rules! {name} {{").expect("String");
        for (key, value) in arms {
            writeln!(out, "    ({key}) => {{ {value} }};").expect("String");
        }
        writeln!(out, "}}").expect("String");
    };
    value_macro(
        "sel4_cfg_bool",
        "Value of a boolean key of the kernel's configuration.",
        keys.bools
            .iter()
            .map(|&(k, v)| (k, v.to_string()))
            .collect(),
    );
    value_macro(
        "sel4_cfg_usize",
        "Value of a numeric key of the kernel's configuration, as `usize`.",
        keys.words
            .iter()
            .map(|&(k, v)| (k, format!("{v}usize")))
            .collect(),
    );
    value_macro(
        "sel4_cfg_word",
        "Value of a numeric key of the kernel's configuration, as `Word`.",
        keys.words
            .iter()
            .map(|&(k, v)| (k, format!("{v}u64")))
            .collect(),
    );
    value_macro(
        "sel4_cfg_str",
        "Value of a string key of the kernel's configuration.",
        keys.strings
            .iter()
            .map(|(k, v)| (*k, format!("{v:?}")))
            .collect(),
    );
    out.push_str(
        "/// Chooses items or statements by a boolean key: \
         `sel4_cfg_if! { if #[sel4_cfg(KEY)] { .. } else { .. } }`.\n\
         #[macro_export]\nmacro_rules! sel4_cfg_if {\n",
    );
    for &(key, value) in &keys.bools {
        let (then, other) = if value {
            ("$($then)*", "")
        } else {
            ("", "$($other)*")
        };
        let not = if value {
            ("", "$($other)*")
        } else {
            ("$($then)*", "")
        };
        for (pattern, (then, other)) in [
            (key.to_string(), (then, other)),
            (format!("not({key})"), not),
        ] {
            writeln!(
                out,
                "    (if #[sel4_cfg({pattern})] {{ $($then:tt)* }} else {{ $($other:tt)* }}) => {{ {then}{other} }};\n    \
                 (if #[sel4_cfg({pattern})] {{ $($then:tt)* }}) => {{ {then} }};"
            )
            .expect("String");
        }
    }
    out.push_str("}\n");
    out
}
