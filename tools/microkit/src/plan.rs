// SPDX-License-Identifier: BSD-2-Clause
//! What of a system lies ready in the boot image: the files' part of program segments, and
//! prefilled regions.

use crate::elf::{Elf, PAGE};
use crate::error::Error;
use crate::image::Block;
use crate::regions::Region;
use crate::symbols::Patch;
use partita_abi::{CapRights, address_space};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Blocks of frames and who uses them.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The blocks.
    pub blocks: Vec<Block>,
    /// Block of each segment of each domain; `None` if nothing of it is in the file.
    pub segments: Vec<Vec<Option<usize>>>,
    /// Block of each segment of the monitor.
    pub monitor_segments: Vec<Option<usize>>,
    /// Block of each region; `None` if it is not prefilled, or not used.
    pub regions: Vec<Option<usize>>,
    sources: Vec<Source>,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Segment { program: usize, segment: usize },
    Region(usize),
}

const READ: CapRights = CapRights::READ;
const READ_WRITE: CapRights = CapRights::READ.union(CapRights::WRITE);

impl Plan {
    /// Plans the blocks. `patches` are the variables that will be set in each program (their values
    /// do not matter yet); the monitor is the last of `programs`.
    ///
    /// A read-only segment is shared between the domains that run the same program, unless a variable
    /// in it is set. Regions of one file share their frames if no domain maps any of them writable.
    ///
    /// # Errors
    /// A variable that the program does not have.
    pub fn new(
        programs: &mut [Elf],
        patches: &[Vec<Patch>],
        regions: &[Region],
    ) -> Result<Plan, Error> {
        let mut plan = Plan::default();
        let mut shared: BTreeMap<(String, usize), usize> = BTreeMap::new();
        for (index, elf) in programs.iter_mut().enumerate() {
            let mut patched = BTreeSet::new();
            for (name, value) in &patches[index] {
                patched.insert(elf.reserve(name, value.len() as u64)?);
            }
            let mut blocks = Vec::new();
            for (i, segment) in elf.segments.iter().enumerate() {
                let pages = segment.file_pages();
                let key = (elf.file.clone(), i);
                let source = Source::Segment {
                    program: index,
                    segment: i,
                };
                let bits = address_space::PAGE_BITS as u8;
                let block = if pages == 0 {
                    None
                } else if segment.write || patched.contains(&i) {
                    let rights = if segment.write { READ_WRITE } else { READ };
                    Some(plan.add(
                        Block {
                            bits,
                            pages,
                            rights,
                        },
                        source,
                    ))
                } else {
                    let block = Block {
                        bits,
                        pages,
                        rights: READ,
                    };
                    Some(*shared.entry(key).or_insert_with(|| plan.add(block, source)))
                };
                blocks.push(block);
            }
            plan.segments.push(blocks);
        }
        plan.monitor_segments = plan.segments.pop().unwrap_or_default();

        let mut files: Vec<(Arc<Vec<u8>>, u8, u64, usize)> = Vec::new();
        for (index, region) in regions.iter().enumerate() {
            let Some(contents) = region.contents.as_ref().filter(|_| region.used) else {
                plan.regions.push(None);
                continue;
            };
            let same = |r: &Region| {
                r.contents
                    .as_ref()
                    .is_some_and(|c| Arc::ptr_eq(c, contents))
            };
            let private = regions.iter().any(|r| same(r) && r.written);
            let existing = files.iter().find(|(file, bits, pages, _)| {
                Arc::ptr_eq(file, contents) && *bits == region.page_bits && *pages == region.pages()
            });
            let block = match existing {
                Some((.., block)) if !private => *block,
                _ => {
                    let rights = if region.written { READ_WRITE } else { READ };
                    let block = Block {
                        bits: region.page_bits,
                        pages: region.pages(),
                        rights,
                    };
                    plan.add(block, Source::Region(index))
                }
            };
            files.push((contents.clone(), region.page_bits, region.pages(), block));
            plan.regions.push(Some(block));
        }
        Ok(plan)
    }

    fn add(&mut self, block: Block, source: Source) -> usize {
        self.blocks.push(block);
        self.sources.push(source);
        self.blocks.len() - 1
    }

    /// Contents of each block, from its first byte; zeros follow. `programs` as in [`Plan::new`],
    /// with their variables set.
    pub fn contents(&self, programs: &[Elf], regions: &[Region]) -> Vec<Vec<u8>> {
        self.sources
            .iter()
            .zip(&self.blocks)
            .map(|(source, block)| {
                let data = match *source {
                    Source::Segment { program, segment } => {
                        programs[program].segments[segment].page_data()
                    }
                    Source::Region(r) => regions[r]
                        .contents
                        .as_ref()
                        .map_or_else(Vec::new, |c| c.to_vec()),
                };
                debug_assert!(data.len() as u64 <= block.pages << block.bits);
                debug_assert!(block.bits as usize >= PAGE.ilog2() as usize);
                data
            })
            .collect()
    }
}
