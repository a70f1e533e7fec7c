// SPDX-License-Identifier: BSD-2-Clause
//! Boards and kernel configurations: the files in `kernel-config/`, compiled in.

use crate::error::Error;
use serde::Deserialize;
use serde::de::DeserializeOwned;

const BOARDS: [(&str, &str); 2] = [
    (
        "qemu_powernv9",
        include_str!("../../../kernel-config/boards/qemu_powernv9.toml"),
    ),
    (
        "qemu_powernv10",
        include_str!("../../../kernel-config/boards/qemu_powernv10.toml"),
    ),
];

const CONFIGS: [(&str, &str); 3] = [
    (
        "debug",
        include_str!("../../../kernel-config/configs/debug.toml"),
    ),
    (
        "release",
        include_str!("../../../kernel-config/configs/release.toml"),
    ),
    (
        "benchmark",
        include_str!("../../../kernel-config/configs/benchmark.toml"),
    ),
];

/// What the tool uses of `kernel-config/boards/<name>.toml`. Addresses are real, sizes in bytes.
#[derive(Clone, Debug, Deserialize)]
pub struct Board {
    /// Name of the board, as `--board` takes it.
    pub name: String,
    /// Cores that the kernel has data for.
    pub max_cores: u32,
    /// Memory that the machine is assumed to have.
    pub default_memory: u64,
    /// Where the image runs in place.
    pub image_base: u64,
    /// Largest image.
    pub image_limit: u64,
    /// Memory that firmware keeps: `[start, end)`.
    pub firmware_regions: Vec<[u64; 2]>,
    /// Bytes at the top of memory that are left alone.
    pub firmware_top_reserve: u64,
    /// Device memory that the kernel hands out: `[start, log2 size]`.
    pub device_regions: Vec<[u64; 2]>,
}

/// What the tool uses of `kernel-config/configs/<name>.toml`.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// Name of the configuration, as `--config` takes it.
    pub name: String,
    /// Every PD gets a capability to its own TCB (Microkit's benchmark configuration).
    pub benchmark: bool,
}

/// The file of this name in a table; `unknown` makes an error of the name and those that exist.
fn find<T: DeserializeOwned>(
    table: &[(&str, &str)],
    name: &str,
    unknown: fn(String, String) -> Error,
) -> Result<T, Error> {
    let Some((_, text)) = table.iter().find(|(n, _)| *n == name) else {
        let known: Vec<_> = table.iter().map(|(n, _)| *n).collect();
        return Err(unknown(name.into(), known.join(", ")));
    };
    toml::from_str(text).map_err(|source| Error::Config {
        name: name.into(),
        source,
    })
}

impl Board {
    /// The board with this name.
    ///
    /// # Errors
    /// [`Error::UnknownBoard`], which lists those that exist.
    pub fn find(name: &str) -> Result<Board, Error> {
        find(&BOARDS, name, |name, known| Error::UnknownBoard {
            name,
            known,
        })
    }

    /// The same board with other memory than the default, bytes: at least [`Board::MIN_MEMORY`].
    pub fn with_memory(self, bytes: u64) -> Self {
        Self {
            default_memory: bytes.max(Self::MIN_MEMORY),
            ..self
        }
    }

    /// Least memory that a board has, bytes: the image and firmware lie below.
    pub const MIN_MEMORY: u64 = 1 << 30;

    /// Memory from 0 up to what firmware leaves at the top.
    pub fn memory_end(&self) -> u64 {
        self.default_memory - self.firmware_top_reserve
    }

    /// Whether `[start, end)` lies in a device region.
    pub fn is_device(&self, start: u64, end: u64) -> bool {
        self.device_regions
            .iter()
            .any(|&[base, bits]| base <= start && end <= base + (1 << bits))
    }
}

impl Config {
    /// The configuration with this name.
    ///
    /// # Errors
    /// [`Error::UnknownConfig`], which lists those that exist.
    pub fn find(name: &str) -> Result<Config, Error> {
        find(&CONFIGS, name, |name, known| Error::UnknownConfig {
            name,
            known,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_the_name_it_is_found_by() {
        for (name, _) in BOARDS {
            assert_eq!(Board::find(name).unwrap().name, name);
        }
        for (name, _) in CONFIGS {
            assert_eq!(Config::find(name).unwrap().name, name);
        }
        let error = Board::find("tx2").unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown board 'tx2' (known: qemu_powernv9, qemu_powernv10)"
        );
    }

    #[test]
    fn uart_is_a_device() {
        let board = Board::find("qemu_powernv9").unwrap();
        assert!(board.is_device(0x6_0300_d001_0000, 0x6_0300_d001_1000));
        assert!(!board.is_device(0x6_0300_d001_0000, 0x6_0300_d001_2000));
        assert!(!board.is_device(0, 0x1000));
    }
}
