// SPDX-License-Identifier: BSD-2-Clause
//! Links the program as Linux expects one: at an address where nothing else is.

fn main() {
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("powerpc64") {
        println!("cargo::rustc-link-arg-bins=--image-base=0x13570000");
        println!("cargo::rustc-link-arg-bins=-zmax-page-size=65536");
    }
}
