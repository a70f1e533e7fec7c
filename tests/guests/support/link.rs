// SPDX-License-Identifier: BSD-2-Clause
//! Build script of every guest program: it is loaded from 64 KiB of guest memory on, above the
//! interrupt vectors and the areas of `guest_support::low`.

fn main() {
    println!("cargo::rerun-if-changed=../support/link.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "powerpc64") {
        println!("cargo::rustc-link-arg-bins=--image-base=0x10000");
    }
}
