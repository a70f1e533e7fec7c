// SPDX-License-Identifier: BSD-2-Clause
//! A reader of flattened device trees (Devicetree Specification 0.4, chapter 5): no allocation, and
//! no panic whatever the bytes are.

/// First word of a flattened device tree.
const MAGIC: u32 = 0xd00d_feed;
/// Structure tokens.
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;

/// A flattened device tree.
#[derive(Clone, Copy)]
pub struct Fdt<'a> {
    reserve: &'a [u8],
    structure: &'a [u8],
    strings: &'a [u8],
}

/// Big-endian word at byte `at`.
fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let b = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

/// Big-endian doubleword at byte `at`.
pub fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(be32(bytes, at)?) << 32 | u64::from(be32(bytes, at.checked_add(4)?)?))
}

/// The bytes before the first NUL at or after `at`.
fn c_string(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    rest.get(..rest.iter().position(|&b| b == 0)?)
}

/// The value of `totalsize` in a header, if these are the first 8 bytes of a tree.
pub fn total_size(header: &[u8; 8]) -> Option<usize> {
    (be32(header, 0)? == MAGIC).then_some(be32(header, 4)? as usize)
}

impl<'a> Fdt<'a> {
    /// Checks the header; `None` if the blocks don't lie in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        if be32(bytes, 0)? != MAGIC {
            return None;
        }
        let word = |at| be32(bytes, at).map(|w| w as usize);
        let (structure, strings, reserve) = (word(8)?, word(12)?, word(16)?);
        let strings_end = strings.checked_add(word(32)?)?;
        let structure_end = structure.checked_add(word(36)?)?;
        Some(Fdt {
            reserve: bytes.get(reserve..)?,
            structure: bytes.get(structure..structure_end)?,
            strings: bytes.get(strings..strings_end)?,
        })
    }

    /// The memory reservation block: (real address, bytes).
    pub fn reservations(self) -> impl Iterator<Item = (u64, u64)> + 'a {
        let block = self.reserve;
        (0..).map_while(move |i: usize| {
            let at = i.checked_mul(16)?;
            let entry = (be64(block, at)?, be64(block, at.checked_add(8)?)?);
            (entry != (0, 0)).then_some(entry)
        })
    }

    /// All nodes in the order of the tree.
    pub fn nodes(self) -> Nodes<'a> {
        Nodes {
            fdt: self,
            at: 0,
            depth: 0,
        }
    }
}

/// A node of the tree.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    fdt: Fdt<'a>,
    properties: usize,
}

/// Iterator over the nodes of a tree.
pub struct Nodes<'a> {
    fdt: Fdt<'a>,
    at: usize,
    depth: usize,
}

/// What stands at a place of the structure block.
enum Token<'a> {
    Begin,
    End,
    Property(&'a [u8], &'a [u8]),
    Nop,
}

/// The token at `at` and where the next one is; `None` at the end or where the tree is malformed.
fn token<'a>(fdt: &Fdt<'a>, at: usize) -> Option<(Token<'a>, usize)> {
    let next = at.checked_add(4)?;
    let align = |n: usize| n.checked_add(3).map(|n| n & !3);
    match be32(fdt.structure, at)? {
        BEGIN_NODE => {
            let name = c_string(fdt.structure, next)?;
            Some((Token::Begin, align(next.checked_add(name.len() + 1)?)?))
        }
        END_NODE => Some((Token::End, next)),
        PROP => {
            let size = be32(fdt.structure, next)? as usize;
            let name = be32(fdt.structure, next.checked_add(4)?)? as usize;
            let start = next.checked_add(8)?;
            let end = start.checked_add(size)?;
            let value = fdt.structure.get(start..end)?;
            Some((
                Token::Property(c_string(fdt.strings, name)?, value),
                align(end)?,
            ))
        }
        NOP => Some((Token::Nop, next)),
        _ => None,
    }
}

impl<'a> Iterator for Nodes<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        loop {
            let (token, next) = token(&self.fdt, self.at)?;
            self.at = next;
            match token {
                Token::Begin => {
                    self.depth += 1;
                    return Some(Node {
                        fdt: self.fdt,
                        properties: next,
                    });
                }
                Token::End => self.depth = self.depth.checked_sub(1)?,
                Token::Property(..) | Token::Nop => {}
            }
        }
    }
}

impl<'a> Node<'a> {
    /// The value of a property of this node.
    pub fn property(&self, name: &[u8]) -> Option<&'a [u8]> {
        let mut at = self.properties;
        loop {
            let (token, next) = token(&self.fdt, at)?;
            match token {
                Token::Property(n, value) if n == name => return Some(value),
                Token::Property(..) | Token::Nop => at = next,
                Token::Begin | Token::End => return None,
            }
        }
    }

    /// A property of words, one by one.
    pub fn words(&self, name: &[u8]) -> impl Iterator<Item = u32> + 'a {
        let value = self.property(name).unwrap_or(&[]);
        value
            .chunks_exact(4)
            .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// `reg` as pairs (address, bytes), where both take two cells.
    pub fn reg64(&self) -> impl Iterator<Item = (u64, u64)> + 'a {
        let value = self.property(b"reg").unwrap_or(&[]);
        value
            .chunks_exact(16)
            .filter_map(|pair| Some((be64(pair, 0)?, be64(pair, 8)?)))
    }

    /// Whether a string-list property contains `string`.
    pub fn has_string(&self, name: &[u8], string: &[u8]) -> bool {
        self.property(name)
            .is_some_and(|v| v.split(|&b| b == 0).any(|s| s == string))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Writer {
        structure: Vec<u8>,
        strings: Vec<u8>,
    }

    impl Writer {
        fn word(&mut self, w: u32) {
            self.structure.extend(w.to_be_bytes());
        }
        fn pad(&mut self) {
            while !self.structure.len().is_multiple_of(4) {
                self.structure.push(0);
            }
        }
        fn begin(&mut self, name: &str) {
            self.word(BEGIN_NODE);
            self.structure.extend(name.bytes().chain([0]));
            self.pad();
        }
        fn end(&mut self) {
            self.word(END_NODE);
        }
        fn prop(&mut self, name: &str, value: &[u8]) {
            self.word(PROP);
            self.word(value.len() as u32);
            self.word(self.strings.len() as u32);
            self.strings.extend(name.bytes().chain([0]));
            self.structure.extend(value);
            self.pad();
        }
        fn finish(mut self) -> Vec<u8> {
            self.word(9);
            let mut out = Vec::new();
            let reserve = 40u32;
            let structure = reserve + 32;
            let strings = structure + self.structure.len() as u32;
            let total = strings + self.strings.len() as u32;
            for w in [
                MAGIC,
                total,
                structure,
                strings,
                reserve,
                17,
                16,
                0,
                self.strings.len() as u32,
                self.structure.len() as u32,
            ] {
                out.extend(w.to_be_bytes());
            }
            for w in [0x3000_0000u64, 0x2c0_2000, 0, 0] {
                out.extend(w.to_be_bytes());
            }
            out.extend(self.structure);
            out.extend(self.strings);
            out
        }
    }

    fn sample() -> Vec<u8> {
        let mut w = Writer {
            structure: Vec::new(),
            strings: Vec::new(),
        };
        w.begin("");
        w.prop("#address-cells", &2u32.to_be_bytes());
        w.begin("memory@0");
        w.prop("device_type", b"memory\0");
        let reg: Vec<u8> = [0u64, 0x8000_0000]
            .iter()
            .flat_map(|v| v.to_be_bytes())
            .collect();
        w.prop("reg", &reg);
        w.end();
        w.begin("cpus");
        w.begin("PowerPC,POWER9@4");
        w.prop("device_type", b"cpu\0");
        w.prop("ibm,ppc-interrupt-server#s", &[0, 0, 0, 4, 0, 0, 0, 5]);
        w.end();
        w.end();
        w.end();
        w.finish()
    }

    #[test]
    fn reads_nodes_and_properties() {
        let bytes = sample();
        let fdt = Fdt::new(&bytes).unwrap();
        assert_eq!(fdt.nodes().count(), 4);
        let memory = fdt
            .nodes()
            .find(|n| n.has_string(b"device_type", b"memory"))
            .unwrap();
        assert_eq!(memory.reg64().collect::<Vec<_>>(), [(0, 0x8000_0000)]);
        let cpu = fdt
            .nodes()
            .find(|n| n.has_string(b"device_type", b"cpu"))
            .unwrap();
        assert_eq!(
            cpu.words(b"ibm,ppc-interrupt-server#s").collect::<Vec<_>>(),
            [4, 5]
        );
        let cells = fdt.nodes().next().unwrap().words(b"#address-cells");
        assert_eq!(cells.collect::<Vec<_>>(), [2]);
        assert_eq!(fdt.nodes().next().unwrap().property(b"reg"), None);
        assert_eq!(
            fdt.reservations().collect::<Vec<_>>(),
            [(0x3000_0000, 0x2c0_2000)]
        );
        assert_eq!(
            total_size(bytes[..8].try_into().unwrap()),
            Some(bytes.len())
        );
    }

    #[test]
    fn damaged_trees_end_without_panic() {
        let bytes = sample();
        for cut in 0..bytes.len() {
            if let Some(fdt) = Fdt::new(&bytes[..cut]) {
                assert!(fdt.nodes().count() <= 4);
            }
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            if let Some(fdt) = Fdt::new(&damaged) {
                for node in fdt.nodes() {
                    let _ = (node.property(b"none"), node.reg64().count());
                }
                fdt.reservations().count();
            }
        }
    }
}
