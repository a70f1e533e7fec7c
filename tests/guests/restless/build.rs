// SPDX-License-Identifier: BSD-2-Clause
//! The program is loaded above the interrupt vectors.

fn main() {
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "powerpc64") {
        println!("cargo::rustc-link-arg-bins=--image-base=0x10000");
    }
}
