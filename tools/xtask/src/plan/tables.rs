// SPDX-License-Identifier: BSD-2-Clause
//! The tables in which a test says how it is run, and what is different in its long form.

use super::Alterations;
use super::dialogue::Step;
use crate::qemu;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Member of a table with what is different in the long form.
const SOAK: &str = "soak";

/// How often a test runs in its long form, if it does not say that itself.
const SOAK_REPEAT: u32 = 10;

/// A table's two forms.
#[derive(Debug)]
pub struct Forms<T> {
    /// Without `--soak`.
    pub plain: T,
    /// With it.
    pub soak: T,
}

impl<T: DeserializeOwned> Forms<T> {
    /// Reads a table whose member `soak` replaces members for the long form; tables in it go into
    /// those of the same name. Both forms must be right, whichever is wanted.
    pub fn read(mut table: Value) -> Result<Self, String> {
        let other = table
            .as_object_mut()
            .and_then(|table| table.remove(SOAK))
            .unwrap_or_default();
        let mut long = table.clone();
        merge(&mut long, json!({ "repeat": SOAK_REPEAT }));
        merge(&mut long, other);
        Ok(Self {
            plain: serde_json::from_value(table).map_err(|e| e.to_string())?,
            soak: serde_json::from_value(long).map_err(|e| format!("{SOAK}: {e}"))?,
        })
    }

    /// The form that is wanted.
    pub fn choose(self, soak: bool) -> T {
        if soak { self.soak } else { self.plain }
    }
}

/// Of a suite that says nothing.
impl Default for Forms<SuiteTable> {
    fn default() -> Self {
        Self {
            plain: SuiteTable::default(),
            soak: SuiteTable {
                repeat: SOAK_REPEAT,
                ..SuiteTable::default()
            },
        }
    }
}

/// Puts the members of a table into another.
fn merge(into: &mut Value, other: Value) {
    match (into, other) {
        (Value::Object(into), Value::Object(other)) => {
            for (name, value) in other {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (into, other) => *into = other,
    }
}

/// `[package.metadata.suite]`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SuiteTable {
    pub boards: Vec<String>,
    pub configs: Vec<String>,
    pub smp: Vec<u32>,
    pub memory: String,
    pub timeout: u64,
    pub silence: u64,
    pub icount: bool,
    pub environment: BTreeMap<String, String>,
    pub repeat: u32,
    pub soak_only: bool,
}

impl Default for SuiteTable {
    fn default() -> Self {
        Self {
            boards: vec![default_board()],
            configs: vec!["release".into(), "debug".into()],
            smp: vec![1],
            memory: qemu::MEMORY.into(),
            timeout: 300,
            silence: 60,
            icount: true,
            environment: BTreeMap::new(),
            repeat: 1,
            soak_only: false,
        }
    }
}

/// `[package.metadata.guest]`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuestTable {
    pub configs: Vec<String>,
    pub memory: String,
    pub backing: Option<String>,
    pub vcpus: u32,
    pub arguments: String,
    pub machine_memory: String,
    pub timeout: u64,
    pub silence: u64,
    pub icount: bool,
    pub environment: BTreeMap<String, String>,
    pub repeat: u32,
    pub soak_only: bool,
}

impl Default for GuestTable {
    fn default() -> Self {
        Self {
            configs: vec!["release".into()],
            memory: "64M".into(),
            backing: None,
            vcpus: 1,
            arguments: String::new(),
            machine_memory: qemu::MEMORY.into(),
            timeout: 300,
            silence: 60,
            icount: true,
            environment: BTreeMap::new(),
            repeat: 1,
            soak_only: false,
        }
    }
}

/// `tests/systems.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemsFile {
    #[serde(default)]
    pub test: Vec<Value>,
}

/// `[[test]]` in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemTest {
    pub name: String,
    pub system: String,
    #[serde(default = "default_board")]
    pub board: String,
    #[serde(default = "default_config")]
    pub config: String,
    #[serde(default = "one")]
    pub smp: u32,
    pub memory: Option<String>,
    #[serde(default = "default_timeout")]
    pub timeout: u64,
    #[serde(default = "default_silence")]
    pub silence: u64,
    #[serde(default = "one")]
    pub repeat: u32,
    #[serde(default)]
    pub soak_only: bool,
    pub steps: Vec<Step>,
    /// How often they are gone through.
    #[serde(default = "one")]
    pub rounds: u32,
    /// What follows.
    #[serde(default)]
    pub last: Vec<Step>,
    #[serde(default)]
    pub never: Vec<String>,
    /// Exit status of the alterations' command.
    #[serde(default)]
    pub status: u8,
    /// What is said of a guest that does not get to the end of the command.
    pub fails: Option<String>,
    #[serde(default)]
    pub powers_off: bool,
    #[serde(default)]
    pub icount: bool,
    #[serde(default)]
    pub snapshot: bool,
    #[serde(default)]
    pub alter: Alterations,
}

/// A text, or a list of texts.
pub fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Texts {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Texts::deserialize(from)? {
        Texts::One(text) => vec![text],
        Texts::Many(texts) => texts,
    })
}

pub fn default_board() -> String {
    "qemu_powernv9".into()
}
fn default_config() -> String {
    "debug".into()
}
fn one() -> u32 {
    1
}
fn default_timeout() -> u64 {
    120
}
fn default_silence() -> u64 {
    60
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_form_differs_in_what_it_names() {
        let table = json!({
            "timeout": 9,
            "environment": { "A": "1", "B": "2" },
            "soak": { "timeout": 99, "repeat": 20, "environment": { "B": "3" } }
        });
        let forms = Forms::<SuiteTable>::read(table).unwrap();
        let (plain, soak) = (forms.plain, forms.soak);
        assert_eq!((plain.timeout, plain.repeat), (9, 1));
        assert_eq!((soak.timeout, soak.repeat), (99, 20));
        assert_eq!(plain.environment["B"], "2");
        assert_eq!(
            (&*soak.environment["A"], &*soak.environment["B"]),
            ("1", "3")
        );
    }

    #[test]
    fn both_forms_are_checked() {
        let read = |table| Forms::<GuestTable>::read(table);
        assert!(read(json!({ "soak": { "repeats": 10 } })).is_err());
        assert!(read(json!({ "repeats": 10 })).is_err());
        assert!(read(json!({ "soak": 10 })).is_err());
        let long = read(json!({})).unwrap().choose(true);
        assert_eq!((long.repeat, long.soak_only), (SOAK_REPEAT, false));
    }
}
