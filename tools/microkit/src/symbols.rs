// SPDX-License-Identifier: BSD-2-Clause
//! Variables of the programs that the tool sets: Microkit's own and `setvar`. Words are
//! little-endian, as the programs are.

use crate::elf::Elf;
use crate::error::Error;
use crate::regions::Region;
use crate::sdf::{ProtectionDomain, SetVarValue, System};
use crate::spaces::Spaces;
use partita_abi::microkit;

/// A symbol and its bytes.
pub type Patch = (String, Vec<u8>);

/// Variables of every program that the tool sets itself.
pub const OWN: [&str; 5] = [
    "microkit_name",
    "microkit_passive",
    "microkit_irqs",
    "microkit_notifications",
    "microkit_pps",
];

fn word(name: &str, value: u64) -> Patch {
    (name.into(), value.to_le_bytes().into())
}

fn padded_name(name: &str) -> [u8; microkit::MAX_NAME] {
    let mut bytes = [0; microkit::MAX_NAME];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}

/// What the tool sets in the program of a protection domain.
pub fn of_pd(system: &System, regions: &[Region], pd: usize) -> Vec<Patch> {
    let domain = &system.pds[pd];
    let mask = |ids: &mut dyn Iterator<Item = u8>| ids.fold(0u64, |m, id| m | 1 << id);
    let sent = |list: Vec<crate::sdf::Outgoing>| {
        mask(&mut list.iter().filter(|o| o.from == pd).map(|o| o.from_id))
    };
    let [name, passive, irqs, notifications, pps] = OWN;
    let mut patches = vec![
        (name.into(), padded_name(&domain.name).into()),
        (passive.into(), vec![domain.passive.into()]),
        word(irqs, mask(&mut domain.irqs.iter().map(|irq| irq.id))),
        word(notifications, sent(system.notifications())),
        word(pps, sent(system.calls())),
    ];
    for setvar in &domain.setvars {
        let value = match setvar.value {
            SetVarValue::Number(n) => n,
            SetVarValue::Size(r) => regions[r].size,
            SetVarValue::PrefillSize(r) => {
                regions[r].contents.as_ref().map_or(0, |c| c.len() as u64)
            }
            SetVarValue::Paddr(r) => regions[r].paddr.unwrap_or(0),
            SetVarValue::Vcpus(vm) => system.vms[vm].vcpus.len() as u64,
        };
        patches.push(word(&setvar.symbol, value));
    }
    patches
}

/// What the tool sets in the monitor.
pub fn of_monitor(system: &System, spaces: &[Spaces]) -> Vec<Patch> {
    let mut names = Vec::new();
    let mut stacks = Vec::new();
    for index in 0..microkit::MAX_PDS {
        let pd = system.pds.get(index);
        names.extend_from_slice(&padded_name(pd.map_or("", |pd| &pd.name)));
        let bottom = spaces.get(index).map_or(0, |s| s.stack_bottom);
        stacks.extend_from_slice(&bottom.to_le_bytes());
    }
    vec![
        word("pd_names_len", system.pds.len() as u64),
        ("pd_names".into(), names),
        ("pd_stack_bottom_addrs".into(), stacks),
    ]
}

/// Looks for the variables in a domain's program.
///
/// # Errors
/// It lacks one, or has one of another size: with the place that asks for it.
pub fn check(pd: &ProtectionDomain, elf: &Elf, patches: &[Patch]) -> Result<(), Error> {
    for (name, value) in patches {
        let setvar = pd.setvars.iter().find(|setvar| setvar.symbol == *name);
        let place = setvar.map_or(&pd.program_place, |setvar| &setvar.place);
        let symbol = elf.symbol(name, value.len() as u64);
        let segment = symbol.and_then(|symbol| elf.segment_of(name, symbol));
        segment.map_err(|error| error.at(place))?;
    }
    Ok(())
}

/// Writes all of them.
///
/// # Errors
/// The program has no such symbol, or one of another size.
pub fn apply(elf: &mut Elf, patches: &[Patch]) -> Result<(), Error> {
    patches
        .iter()
        .try_for_each(|(name, value)| elf.patch(name, value))
}
