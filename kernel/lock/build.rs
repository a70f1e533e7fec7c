// SPDX-License-Identifier: BSD-2-Clause
//! Declares `cfg(loom)`, which the model-checking tests are compiled with.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(loom)");
    println!("cargo::rerun-if-changed=build.rs");
}
