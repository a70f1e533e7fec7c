// SPDX-License-Identifier: BSD-2-Clause
//! Turns the chosen board and configuration of `kernel-config` into constants and `cfg`s, and names
//! the linker script. `PARTITA_BOARD` and `PARTITA_CONFIG` choose; the defaults are
//! `qemu_powernv9` and `debug`.

use serde::Deserialize;
use std::env;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Board {
    name: String,
    cpu: String,
    max_cores: usize,
    timebase_hz: u64,
    image_base: u64,
    firmware_regions: Vec<[u64; 2]>,
    uart_base: u64,
    device_regions: Vec<[u64; 2]>,
    lpcr_host: u64,
    lpcr_guest: u64,
}

#[derive(Deserialize)]
struct Config {
    name: String,
    printing: bool,
    debug_syscalls: bool,
    assertions: bool,
    benchmark: bool,
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", path.display());
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()).into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let data = manifest.join("../kernel-config");
    let choose = |variable: &str, default: &str| {
        println!("cargo::rerun-if-env-changed={variable}");
        env::var(variable).unwrap_or_else(|_| default.to_string())
    };
    let board = choose("PARTITA_BOARD", "qemu_powernv9");
    let config = choose("PARTITA_CONFIG", "debug");
    let board: Board = read(&data.join("boards").join(format!("{board}.toml")))?;
    let config: Config = read(&data.join("configs").join(format!("{config}.toml")))?;

    for (name, on) in [
        ("printing", config.printing),
        ("debug_syscalls", config.debug_syscalls),
        ("assertions", config.assertions),
        ("benchmark", config.benchmark),
    ] {
        println!("cargo::rustc-check-cfg=cfg({name})");
        if on {
            println!("cargo::rustc-cfg={name}");
        }
    }

    let mut out = String::new();
    writeln!(out, "/// Board.\npub const BOARD: &str = {:?};", board.name)?;
    writeln!(
        out,
        "/// Whether the processors are POWER10 (ISA 3.1), else POWER9 (ISA 3.0).\npub const POWER10: bool = {};",
        board.cpu == "power10"
    )?;
    writeln!(
        out,
        "/// Configuration.\npub const CONFIG: &str = {:?};",
        config.name
    )?;
    writeln!(
        out,
        "/// Cores that have per-core data.\npub const MAX_CORES: usize = {};",
        board.max_cores
    )?;
    writeln!(
        out,
        "/// Timebase ticks per second.\npub const TIMEBASE_HZ: u64 = {};",
        board.timebase_hz
    )?;
    writeln!(
        out,
        "/// Real address of the UART's registers.\npub const UART_BASE: u64 = {:#x};",
        board.uart_base
    )?;
    writeln!(
        out,
        "/// LPCR while a PD runs.\npub const LPCR_HOST: u64 = {:#x};",
        board.lpcr_host
    )?;
    writeln!(
        out,
        "/// LPCR while a guest runs, before its own choices.\npub const LPCR_GUEST: u64 = {:#x};",
        board.lpcr_guest
    )?;
    writeln!(
        out,
        "/// Real memory that firmware keeps: `[start, end)`.\npub const FIRMWARE_REGIONS: [[u64; 2]; {}] = {:?};",
        board.firmware_regions.len(),
        board.firmware_regions
    )?;
    writeln!(
        out,
        "/// Device memory for PDs: `[base, log2 size]`.\npub const DEVICE_REGIONS: [[u64; 2]; {}] = {:?};",
        board.device_regions.len(),
        board.device_regions
    )?;
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("board.rs"), out)?;

    if env::var("CARGO_CFG_TARGET_ARCH")? == "powerpc64" {
        let script = manifest.join("kernel.ld");
        println!("cargo::rerun-if-changed={}", script.display());
        println!("cargo::rustc-link-arg-bins=-T{}", script.display());
        println!(
            "cargo::rustc-link-arg-bins=--defsym=image_base={:#x}",
            board.image_base
        );
        println!("cargo::rustc-link-arg-bins=--no-relax");
        println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
    }
    Ok(())
}
