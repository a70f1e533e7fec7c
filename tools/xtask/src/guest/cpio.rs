// SPDX-License-Identifier: BSD-2-Clause
//! Writes an archive in the "newc" format of cpio, which Linux unpacks as its first file system
//! (the kernel's Documentation/driver-api/early-userspace/buffer-format).

/// Kind bits of a mode, as `stat` has them.
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// An archive that grows. Names are bytes, as they are in Linux. Everything in it belongs to root and has the time 0, so that the same
/// contents give the same bytes.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a folder. Folders come before what is in them; names have no leading slash.
    pub fn folder(&mut self, name: impl AsRef<[u8]>) {
        self.entry(name.as_ref(), DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// Adds a file. `mode`: its permission bits.
    pub fn file(&mut self, name: impl AsRef<[u8]>, mode: u32, contents: &[u8]) {
        self.entry(name.as_ref(), FILE | (mode & 0o7777), (0, 0), contents);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) {
        self.entry(name.as_ref(), LINK | 0o777, (0, 0), target.as_ref());
    }

    /// Adds a character device.
    pub fn device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name.as_bytes(), CHARACTER | 0o600, (major, minor), &[]);
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The whole archive, with its end mark.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(b"TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    /// A header of 13 numbers of eight hexadecimal digits, the name with a NUL, the contents; name
    /// and contents end at a multiple of four bytes.
    fn entry(&mut self, name: &[u8], mode: u32, device: (u32, u32), contents: &[u8]) {
        self.entries += 1;
        // Files of 4 GiB and more do not fit in an image by far: the caller bounds the archive.
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let fields = [
            self.entries,
            mode,
            0, // user
            0, // group
            1, // links
            0, // time
            size(contents.len()),
            0, // device that the file is on: major, minor
            0,
            device.0,
            device.1,
            size(name.len() + 1),
            0, // checksum: none in this format
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode, device, contents.
    type Entry = (String, u32, (u32, u32), Vec<u8>);

    /// Every entry: reads the format on its own.
    fn entries(mut bytes: &[u8]) -> Vec<Entry> {
        let mut found = Vec::new();
        let whole = bytes.len();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |i: usize| {
                let digits = std::str::from_utf8(&bytes[6 + 8 * i..14 + 8 * i]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = std::str::from_utf8(&bytes[110..110 + name_size - 1]).unwrap();
            assert_eq!(bytes[110 + name_size - 1], 0);
            let start = (110 + name_size).next_multiple_of(4);
            let contents = bytes[start..start + size].to_vec();
            found.push((name.to_string(), mode, (field(9), field(10)), contents));
            bytes = &bytes[(start + size).next_multiple_of(4)..];
            assert_eq!((whole - bytes.len()) % 4, 0);
            if found.last().unwrap().0 == "TRAILER!!!" {
                assert!(bytes.is_empty());
                return found;
            }
        }
    }

    #[test]
    fn every_kind_of_entry() {
        let mut archive = Archive::default();
        archive.folder("bin");
        archive.file("bin/a", 0o755, b"12345");
        archive.file("empty", 0o644, b"");
        archive.link("bin/sh", "a");
        archive.device("console", 5, 1);
        let found = entries(&archive.finish());
        let expected: Vec<Entry> = vec![
            ("bin".into(), 0o40755, (0, 0), vec![]),
            ("bin/a".into(), 0o100_755, (0, 0), b"12345".to_vec()),
            ("empty".into(), 0o100_644, (0, 0), vec![]),
            ("bin/sh".into(), 0o120_777, (0, 0), b"a".to_vec()),
            ("console".into(), 0o20600, (5, 1), vec![]),
            ("TRAILER!!!".into(), 0, (0, 0), vec![]),
        ];
        assert_eq!(found, expected);
    }

    /// The header of the format's end mark, written out.
    #[test]
    fn the_end_mark() {
        let bytes = Archive::default().finish();
        let text = String::from_utf8(bytes).unwrap();
        let header = "07070100000001000000000000000000000000000000010000000000000000\
                      000000000000000000000000000000000000000b00000000";
        assert_eq!(text, format!("{header}TRAILER!!!\0\0\0\0"));
    }

    #[test]
    fn the_same_contents_give_the_same_bytes() {
        let make = || {
            let mut archive = Archive::default();
            archive.file("x", 0o600, b"y");
            archive.finish()
        };
        assert_eq!(make(), make());
    }
}
