// SPDX-License-Identifier: BSD-2-Clause
//! Memory regions with their final sizes, page sizes and addresses, and everything that has to do
//! with overlaps.

use crate::board::Board;
use crate::elf::Elf;
use crate::error::Error;
use crate::files::Files;
use crate::memory::Memory;
use crate::sdf::{GrantKind, Map, Place, Problem, SdfError, SetVarValue, System};
use crate::spaces::Spaces;
use partita_abi::limits;
use std::sync::Arc;

const SMALL: u8 = 12;
const MEDIUM: u8 = 16;
const LARGE: u8 = 21;
/// Views of guest memory are mapped below this address.
const VIEW_TOP: u64 = 1 << limits::VIEW_VADDR_BITS;

/// A memory region.
#[derive(Clone, Debug)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// log2 of the page size.
    pub page_bits: u8,
    /// Real address, if it is fixed.
    pub paddr: Option<u64>,
    /// Device memory.
    pub device: bool,
    /// The file that it is filled from.
    pub contents: Option<Arc<Vec<u8>>>,
    /// Some domain maps it.
    pub used: bool,
    /// Some domain maps it writable.
    pub written: bool,
}

impl Region {
    /// Number of pages.
    pub fn pages(&self) -> u64 {
        self.size >> self.page_bits
    }
}

fn error(place: &Place, problem: Problem) -> Error {
    Error::Sdf(SdfError {
        place: place.clone(),
        problem,
    })
}

/// Resolves all regions. Regions whose real address is asked for (`region_paddr`) and not given get
/// theirs in [`choose_addresses`].
///
/// # Errors
/// Files that are missing or too long, overlaps, misalignment.
pub fn resolve(
    system: &System,
    programs: &[Elf],
    spaces: &[Spaces],
    files: &mut Files,
    board: &Board,
) -> Result<Vec<Region>, Error> {
    let mut regions = Vec::new();
    for (index, region) in system.regions.iter().enumerate() {
        let contents = match &region.prefill_path {
            Some(path) => {
                let what = match region.guest_image {
                    true => "guest image",
                    false => "prefill file",
                };
                Some(files.find(&region.place, what, path)?.bytes)
            }
            None => region.text.clone(),
        };
        let length = contents.as_ref().map(|c| c.len() as u64);
        if length == Some(0) {
            let path = region.prefill_path.clone().unwrap_or_default();
            return Err(error(&region.place, Problem::PrefillEmpty(path)));
        }
        let maps = || {
            system
                .pds
                .iter()
                .flat_map(|pd| &pd.maps)
                .filter(|m| m.region == index)
        };
        let image_bits = region.guest_image.then(|| {
            let vaddrs = maps().fold(0, |a, m| a | m.vaddr);
            image_page_bits(length.unwrap_or(0), vaddrs)
        });
        let page_bits = region.page_bits.or(image_bits);
        let page = 1u64 << page_bits.unwrap_or(SMALL);
        let size = region
            .size
            .or(length.map(|l| l.next_multiple_of(page)))
            .unwrap_or(page);
        if let Some(file) = length.filter(|&l| l > size) {
            let path = region.prefill_path.clone().unwrap_or_default();
            return Err(error(
                &region.place,
                Problem::PrefillTooLong { size, file, path },
            ));
        }
        let alignment = maps().fold(size | region.phys_addr.unwrap_or(0), |a, m| a | m.vaddr);
        let natural = [LARGE, MEDIUM]
            .into_iter()
            .find(|b| alignment.is_multiple_of(1 << b));
        regions.push(Region {
            name: region.name.clone(),
            size,
            page_bits: page_bits.or(natural).unwrap_or(SMALL),
            paddr: region.phys_addr,
            device: region
                .phys_addr
                .is_some_and(|p| board.is_device(p, p + size)),
            contents,
            used: maps().next().is_some()
                || system
                    .pds
                    .iter()
                    .flat_map(|pd| &pd.setvars)
                    .any(|s| names(s.value, index)),
            written: maps().any(|m| m.write),
        });
    }
    for (pd, domain) in system.pds.iter().enumerate() {
        for map in &domain.maps {
            check_map(map, &regions[map.region], &domain.name, &spaces[pd])?;
        }
        check_overlaps(system, pd, &regions, &programs[pd])?;
    }
    check_physical(system, &regions)?;
    Ok(regions)
}

/// log2 of the page size of a guest's image: the largest that the addresses permit and of which the
/// image fills at least half.
fn image_page_bits(length: u64, vaddrs: u64) -> u8 {
    [LARGE, MEDIUM]
        .into_iter()
        .find(|&bits| vaddrs.is_multiple_of(1 << bits) && length >= 1 << (bits - 1))
        .unwrap_or(SMALL)
}

/// Frames that come from free memory, wherever they lie: those of regions, and those of programs that
/// are not in the file. Name, number, log2 of the bytes of one.
pub fn frames(system: &System, programs: &[Elf], regions: &[Region]) -> Vec<(String, u64, u8)> {
    let anywhere = |r: &&Region| r.used && r.paddr.is_none() && r.contents.is_none();
    let of_regions = regions.iter().filter(anywhere);
    let of_regions = of_regions.map(|r| (format!("mr_{}", r.name), r.pages(), r.page_bits));
    let of_programs = system.pds.iter().zip(programs).map(|(pd, elf)| {
        let segments = elf.segments.iter();
        let pages = segments.map(|s| s.pages() - s.file_pages()).sum();
        (format!("elf_{}", pd.name), pages, SMALL)
    });
    of_regions.chain(of_programs).collect()
}

fn names(value: SetVarValue, region: usize) -> bool {
    matches!(value, SetVarValue::Paddr(r) if r == region)
}

fn check_map(map: &Map, region: &Region, pd: &str, spaces: &Spaces) -> Result<(), Error> {
    let page = 1 << region.page_bits;
    if !map.vaddr.is_multiple_of(page) {
        let (vaddr, region) = (map.vaddr, region.name.clone());
        return Err(error(
            &map.place,
            Problem::MapMisaligned {
                vaddr,
                page,
                region,
            },
        ));
    }
    let Some(end) = map.vaddr.checked_add(region.size) else {
        return Err(error(&map.place, Problem::Wraps(map.vaddr)));
    };
    if end > spaces.limit {
        return Err(error(
            &map.place,
            Problem::AboveLimit {
                start: map.vaddr,
                end,
                limit: spaces.limit,
                pd: pd.into(),
            },
        ));
    }
    Ok(())
}

/// Mappings against each other and against the program.
fn check_overlaps(system: &System, pd: usize, regions: &[Region], elf: &Elf) -> Result<(), Error> {
    let domain = &system.pds[pd];
    let mut taken: Vec<(u64, u64, String)> = elf
        .segments
        .iter()
        .map(|s| {
            (
                s.start(),
                s.end(),
                format!("a segment of '{}'", domain.program),
            )
        })
        .collect();
    let limit = Spaces::new(domain.stack_size).limit;
    if let Some(segment) = elf.segments.iter().find(|s| s.end() > limit) {
        let (start, end, pd) = (segment.start(), segment.end(), domain.name.clone());
        return Err(error(
            &domain.place,
            Problem::AboveLimit {
                start,
                end,
                limit,
                pd,
            },
        ));
    }
    for map in &domain.maps {
        let (start, end) = (map.vaddr, map.vaddr + regions[map.region].size);
        if let Some((.., other)) = taken.iter().find(|(s, e, _)| start < *e && *s < end) {
            let other = other.clone();
            return Err(error(&map.place, Problem::Overlap { start, end, other }));
        }
        let name = &regions[map.region].name;
        taken.push((
            start,
            end,
            format!("the mapping of '{name}' at line {}", map.place.row),
        ));
    }
    for grant in &domain.grants {
        let Some((start, size, top)) = window(system, grant.kind) else {
            continue;
        };
        let place = &grant.place;
        let Some(end) = start.checked_add(size) else {
            return Err(error(place, Problem::Wraps(start)));
        };
        if end > top {
            return Err(error(place, Problem::AboveViews { start, end, top }));
        }
        if end > limit {
            let pd = domain.name.clone();
            return Err(error(
                place,
                Problem::AboveLimit {
                    start,
                    end,
                    limit,
                    pd,
                },
            ));
        }
        if let Some((.., other)) = taken.iter().find(|(s, e, _)| start < *e && *s < end) {
            let other = other.clone();
            return Err(error(place, Problem::Overlap { start, end, other }));
        }
        let name = format!("the window of <{}> at line {}", place.element, place.row);
        taken.push((start, end, name));
    }
    Ok(())
}

/// Addresses at which a domain sees or will see an object: start, bytes, and where they must end.
fn window(system: &System, grant: GrantKind) -> Option<(u64, u64, u64)> {
    match grant {
        GrantKind::View { vaddr, count, .. } => Some((vaddr?, u64::from(count) << SMALL, VIEW_TOP)),
        GrantKind::Hpt { vm, vaddr } => Some((vaddr?, 1 << system.vms[vm].hpt_order, u64::MAX)),
        _ => None,
    }
}

fn check_physical(system: &System, regions: &[Region]) -> Result<(), Error> {
    let mut seen: Vec<(u64, u64, usize)> = Vec::new();
    for (index, region) in regions.iter().enumerate() {
        let Some(start) = region.paddr else { continue };
        let end = start + region.size;
        if let Some(&(.., other)) = seen.iter().find(|(s, e, _)| start < *e && *s < end) {
            let (row, other) = (system.regions[other].place.row, regions[other].name.clone());
            let place = &system.regions[index].place;
            return Err(error(
                place,
                Problem::PhysOverlap {
                    start,
                    end,
                    other,
                    row,
                },
            ));
        }
        seen.push((start, end, index));
    }
    Ok(())
}

/// Chooses a real address for each region that a program wants to know the address of, and checks
/// the given ones against the memory that will be free at boot.
///
/// # Errors
/// [`Problem::NotUsable`], [`Error::NoContiguous`].
pub fn choose_addresses(
    system: &System,
    regions: &mut [Region],
    memory: &Memory,
) -> Result<(), Error> {
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for (index, region) in regions.iter().enumerate() {
        let (Some(start), false) = (region.paddr, region.device) else {
            continue;
        };
        if region.contents.is_some() {
            continue;
        }
        let end = start + region.size;
        if !memory.is_free(start, end) {
            let what = memory.describe(start, end);
            let place = &system.regions[index].place;
            return Err(error(place, Problem::NotUsable { start, end, what }));
        }
        taken.push((start, end));
    }
    for setvar in system.pds.iter().flat_map(|pd| &pd.setvars) {
        let SetVarValue::Paddr(index) = setvar.value else {
            continue;
        };
        let region = &mut regions[index];
        if region.paddr.is_some() {
            continue;
        }
        let start = memory
            .highest(region.size, 1 << region.page_bits, &taken)
            .ok_or_else(|| Error::NoContiguous {
                name: region.name.clone(),
                size: region.size,
            })?;
        taken.push((start, start + region.size));
        region.paddr = Some(start);
    }
    Ok(())
}
