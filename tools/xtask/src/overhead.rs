// SPDX-License-Identifier: BSD-2-Clause
//! What a system with guests takes of memory beside the guests' own: read out of the capability
//! distribution that the image tool writes.

use crate::build::Image;
use crate::elf::{Elf, Kind};
use crate::error::{Error, Result, read};
use partita_abi::ObjectType;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The most that may be counted for each guest, bytes.
pub const BOUND: u64 = 32 << 20;

/// Bytes by what they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overhead {
    /// Memory of guests, hash page tables, per-entry arrays, the boot image: not counted.
    pub guests: BTreeMap<&'static str, u64>,
    /// All else.
    pub counted: BTreeMap<&'static str, u64>,
    /// Guests.
    pub count: u64,
}

impl Overhead {
    /// Of an image; `None` if it has no guest.
    pub fn of(image: &Image) -> Result<Option<Self>> {
        let path = image.file.with_file_name("capdl.json");
        let text = read(&path)?;
        let content = |why: String| Error::Content {
            path: path.clone(),
            why,
        };
        let document: Value = serde_json::from_str(&text).map_err(|e| content(e.to_string()))?;
        let objects = document["objects"]
            .as_array()
            .ok_or_else(|| content("no objects".into()))?;
        let memory = guest_memory(image)?;
        if memory.is_empty() {
            return Ok(None);
        }
        let mut overhead = Self::sum(objects, &memory).map_err(content)?;
        if let Some(kernel) = image.elfs.get("kernel") {
            let elf = Elf::read(kernel)?;
            let kinds = [Kind::Text, Kind::Rodata, Kind::Data, Kind::Bss];
            let bytes = kinds.iter().map(|kind| elf.size(*kind)).sum();
            overhead.counted.insert("kernel", bytes);
        }
        Ok(Some(overhead))
    }

    fn sum(objects: &[Value], memory: &[u64]) -> std::result::Result<Self, String> {
        let mut overhead = Self {
            count: memory.len() as u64,
            ..Self::default()
        };
        let mut untyped = Vec::new();
        for object in objects {
            let name = object["name"].as_str().unwrap_or_default();
            let (kind, fields) = match &object["object"] {
                Value::String(kind) => (kind.as_str(), &Map::new()),
                Value::Object(map) => {
                    let found = map
                        .iter()
                        .next()
                        .and_then(|(k, v)| Some((k, v.as_object()?)));
                    let (kind, fields) = found.ok_or_else(|| format!("{name}: no kind"))?;
                    (kind.as_str(), fields)
                }
                _ => return Err(format!("{name}: no kind")),
            };
            let bits = fields.get("size_bits").and_then(Value::as_u64).unwrap_or(0);
            let fixed = |kind: ObjectType| 1u64 << kind.bits();
            let (counted, item, bytes) = match kind {
                "Untyped" => {
                    untyped.push(1 << bits);
                    continue;
                }
                "Hpt" => (false, "hash page tables", 1 << bits),
                "HptGfns" => (false, "arrays with a word for each entry", 1 << bits),
                "Frame" if name.starts_with("mr_rev") => {
                    (false, "arrays with a word for each entry", 1 << bits)
                }
                // Its place is known: part of the image, or a device.
                "Frame" if !fields.get("paddr").is_none_or(Value::is_null) => continue,
                "Frame" => (true, frame(name), 1 << bits),
                "PageTable" if fields.get("is_root") == Some(&Value::Bool(true)) => {
                    (true, "page tables", fixed(ObjectType::VSpace))
                }
                "PageTable" => (true, "page tables", fixed(ObjectType::PageTable)),
                "CNode" => (true, "capability tables", fixed(ObjectType::CNode) << bits),
                "SchedContext" => (true, "threads and what they need", 1 << bits),
                "Tcb" => (true, "threads and what they need", fixed(ObjectType::Tcb)),
                "VCpu" => (true, "vCPUs", fixed(ObjectType::VCpu)),
                "GSpace" => (true, "vCPUs", fixed(ObjectType::GSpace)),
                "Endpoint" | "Notification" | "Reply" | "Timer" => (
                    true,
                    "threads and what they need",
                    fixed(ObjectType::Endpoint),
                ),
                // No memory of their own.
                "Irq" | "PlatformControl" => continue,
                other => return Err(format!("{name}: unknown kind {other}")),
            };
            let list = if counted {
                &mut overhead.counted
            } else {
                &mut overhead.guests
            };
            *list.entry(item).or_default() += bytes;
        }
        overhead.share_untyped(untyped, memory)?;
        Ok(overhead)
    }

    /// Untyped memory is the guests' up to their size, largest pieces first; the rest is counted.
    fn share_untyped(
        &mut self,
        mut untyped: Vec<u64>,
        memory: &[u64],
    ) -> std::result::Result<(), String> {
        untyped.sort_unstable_by(|a, b| b.cmp(a));
        let wanted: u64 = memory.iter().sum();
        let mut given = 0;
        for bytes in untyped {
            if given < wanted {
                given += bytes;
            } else {
                *self
                    .counted
                    .entry("page tables and small pages of guests")
                    .or_default() += bytes;
            }
        }
        if given < wanted {
            return Err(format!(
                "guests have {wanted:#x} bytes, but untyped memory is {given:#x}"
            ));
        }
        self.guests.insert("memory of guests", wanted);
        // Pieces are powers of two.
        *self
            .counted
            .entry("guest memory that is too much")
            .or_default() += given - wanted;
        Ok(())
    }

    /// All that is counted, bytes.
    pub fn total(&self) -> u64 {
        self.counted.values().sum()
    }

    /// Fails if it is more than [`BOUND`] for each guest.
    pub fn check(&self) -> Result<()> {
        let bound = BOUND * self.count;
        if self.total() <= bound {
            return Ok(());
        }
        Err(Error::Bound(format!(
            "memory beside the guests' own: {} KiB, more than {} KiB\n{}",
            self.total() >> 10,
            bound >> 10,
            self.table()
        )))
    }

    /// Itemised.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, bytes: u64| {
            let _ = writeln!(out, "{name:<44} {:>9} KiB", bytes.div_ceil(1024));
        };
        for (name, bytes) in &self.guests {
            line(name, *bytes);
        }
        for (name, bytes) in &self.counted {
            line(&format!("  {name}"), *bytes);
        }
        line("beside the guests' own, in all", self.total());
        out
    }
}

/// What a frame is for, by the name that the image tool gives it.
fn frame(name: &str) -> &'static str {
    match name.split_once('_').map(|(kind, _)| kind) {
        Some("mr") => "regions that PDs share",
        Some("elf") => "data of PDs",
        Some("stack" | "ipcbuf") => "stacks and IPC buffers of PDs",
        _ => "other frames",
    }
}

/// Memory of each guest of the image's system, bytes.
fn guest_memory(image: &Image) -> Result<Vec<u64>> {
    let text = read(&image.description)?;
    crate::guest::memory_sizes(&text).map_err(|why| Error::Content {
        path: image.description.clone(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn objects() -> Vec<Value> {
        json!([
            {"name": "untyped_m_1", "object": {"Untyped": {"size_bits": 24}}},
            {"name": "untyped_m_2", "object": {"Untyped": {"size_bits": 24}}},
            {"name": "untyped_m_10", "object": {"Untyped": {"size_bits": 20}}},
            {"name": "hpt_g", "object": {"Hpt": {"size_bits": 18}}},
            {"name": "mr_rev_000000000", "object": {"Frame": {"paddr": null, "size_bits": 21}}},
            {"name": "mr_rmap_000000000", "object": {"Frame": {"paddr": null, "size_bits": 16}}},
            {"name": "mr_g@kernel_0", "object": {"Frame": {"paddr": 4096, "size_bits": 21}}},
            {"name": "vspace_a", "object": {"PageTable": {"is_root": true}}},
            {"name": "cnode_a", "object": {"CNode": {"size_bits": 9}}},
            {"name": "ep_a", "object": "Endpoint"},
            {"name": "platform", "object": "PlatformControl"}
        ])
        .as_array()
        .unwrap()
        .clone()
    }

    #[test]
    fn what_is_beside_the_guest_is_counted() {
        let overhead = Overhead::sum(&objects(), &[24 << 20]).unwrap();
        assert_eq!(overhead.guests["memory of guests"], 24 << 20);
        assert_eq!(overhead.guests["hash page tables"], 1 << 18);
        assert_eq!(
            overhead.guests["arrays with a word for each entry"],
            2 << 20
        );
        assert_eq!(overhead.counted["guest memory that is too much"], 8 << 20);
        let rest = (1 << 20) + (1 << 16) + (1 << 16) + (32 << 9) + 64;
        assert_eq!(overhead.total(), (8 << 20) + rest);
        overhead.check().unwrap();
        assert!(overhead.table().contains("regions that PDs share"));
    }

    #[test]
    fn too_much_is_an_error() {
        let mut list = objects();
        list.push(
            json!({"name": "mr_big_0", "object": {"Frame": {"paddr": null, "size_bits": 25}}}),
        );
        let overhead = Overhead::sum(&list, &[32 << 20]).unwrap();
        let error = overhead.check().unwrap_err().to_string();
        assert!(error.contains("more than 32768 KiB"), "{error}");
        assert!(error.contains("regions that PDs share"), "{error}");
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let unknown = [json!({"name": "x", "object": "Tape"})];
        assert_eq!(
            Overhead::sum(&unknown, &[]).unwrap_err(),
            "x: unknown kind Tape"
        );
        let short = [json!({"name": "u", "object": {"Untyped": {"size_bits": 20}}})];
        assert!(Overhead::sum(&short, &[2 << 20]).is_err());
    }
}
