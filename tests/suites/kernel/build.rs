// SPDX-License-Identifier: BSD-2-Clause
//! What the suite needs to know of the board.

use std::path::PathBuf;

#[derive(serde::Deserialize)]
struct Board {
    image_base: u64,
    image_limit: u64,
    uart_irq: u64,
}

fn main() {
    println!("cargo:rerun-if-env-changed=PARTITA_BOARD");
    let board = std::env::var("PARTITA_BOARD").unwrap_or_else(|_| "qemu_powernv9".into());
    let path = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo"))
        .join("../../../kernel-config/boards")
        .join(format!("{board}.toml"));
    println!("cargo:rerun-if-changed={}", path.display());
    let text = std::fs::read_to_string(&path).expect("the board's file is readable");
    let b: Board = toml::from_str(&text).expect("the board's file is valid");
    let out = format!(
        "/// Interrupt source of the UART.\npub const UART_IRQ: u64 = {};\n\
         /// Real addresses that the kernel and its image may occupy.\n\
         pub const KERNEL: core::ops::Range<u64> = {}..{};\n",
        b.uart_irq,
        b.image_base,
        b.image_base + b.image_limit
    );
    let dest = PathBuf::from(std::env::var("OUT_DIR").expect("set by cargo")).join("board.rs");
    std::fs::write(dest, out).expect("OUT_DIR is writable");
}
