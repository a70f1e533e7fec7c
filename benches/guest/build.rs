// SPDX-License-Identifier: BSD-2-Clause
//! Links the guest where its vectors are.

fn main() {
    println!("cargo::rerun-if-changed=guest.ld");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("powerpc64") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-T{folder}/guest.ld");
        println!("cargo::rustc-link-arg-bins=--no-relax");
        println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
    }
}
