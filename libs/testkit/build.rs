// SPDX-License-Identifier: BSD-2-Clause
//! Number of arguments of each invocation, from abi.toml.

use std::fmt::Write;
use std::path::PathBuf;

#[derive(serde::Deserialize)]
struct Abi {
    invocation: Vec<Invocation>,
}

#[derive(serde::Deserialize)]
struct Invocation {
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    caps: Vec<String>,
}

fn main() {
    let path = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo"))
        .join("../../kernel-config/abi.toml");
    println!("cargo:rerun-if-changed={}", path.display());
    let text = std::fs::read_to_string(&path).expect("kernel-config/abi.toml is readable");
    let abi: Abi = toml::from_str(&text).expect("kernel-config/abi.toml is valid");
    let mut out = String::from("/// Words and capabilities by label.\n");
    let count = abi.invocation.len() + 1;
    writeln!(
        out,
        "const NEEDS: [(usize, usize); {count}] = [\n    (0, 0),"
    )
    .expect("String");
    for i in &abi.invocation {
        let words = i.args.iter().filter(|a| !a.ends_with("...")).count();
        writeln!(out, "    ({words}, {}),", i.caps.len()).expect("String");
    }
    out.push_str("];\n");
    let dest = PathBuf::from(std::env::var("OUT_DIR").expect("set by cargo")).join("needs.rs");
    std::fs::write(dest, out).expect("OUT_DIR is writable");
}
