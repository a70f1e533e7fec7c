// SPDX-License-Identifier: BSD-2-Clause
//! What `kernel-config/abi.toml` says, for those that read it: the build script of this crate, and the
//! tables of `cargo xtask doc`.
#![allow(dead_code, reason = "each reader uses its own part")]

use serde::Deserialize;
use std::collections::BTreeMap;

/// `kernel-config/abi.toml`.
#[derive(Deserialize)]
pub struct Abi {
    pub address_space: BTreeMap<String, i64>,
    pub limits: BTreeMap<String, i64>,
    pub object: Vec<Object>,
    pub syscall: Vec<Syscall>,
    pub invocation: Vec<Invocation>,
    pub error: Vec<Named>,
    pub fault: Vec<Fault>,
    pub user_context: UserContext,
    pub microkit: BTreeMap<String, i64>,
    pub init_cnode: BTreeMap<String, i64>,
    pub guest: Guest,
}

/// Guests' processors.
#[derive(Deserialize)]
pub struct Guest {
    pub exits: Vec<String>,
    pub actions: Vec<String>,
    pub registers: Vec<String>,
}

/// An object that Retype makes.
#[derive(Deserialize)]
pub struct Object {
    pub name: String,
    pub bits: u32,
    #[serde(default)]
    pub variable: bool,
    pub doc: String,
}

/// A system call.
#[derive(Deserialize)]
pub struct Syscall {
    pub name: String,
    #[serde(default)]
    pub debug: bool,
}

/// An invocation: arguments, capabilities, results.
#[derive(Deserialize)]
pub struct Invocation {
    pub name: String,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub caps: Vec<String>,
    #[serde(default)]
    pub ret: Vec<String>,
}

/// Something that has a name only.
#[derive(Deserialize)]
pub struct Named {
    pub name: String,
}

/// A fault and the words of its message.
#[derive(Deserialize)]
pub struct Fault {
    pub name: String,
    pub words: Vec<String>,
}

/// Registers of a thread.
#[derive(Deserialize)]
pub struct UserContext {
    pub registers: Vec<String>,
}
