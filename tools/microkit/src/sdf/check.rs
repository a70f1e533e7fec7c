// SPDX-License-Identifier: BSD-2-Clause
//! Rules between elements that need nothing but the file.

use super::{Place, Problem, SdfError, System};
use partita_abi::limits;
use std::collections::HashMap;

fn error(place: &Place, problem: Problem) -> SdfError {
    SdfError {
        place: place.clone(),
        problem,
    }
}

/// Checks ids, interrupts and priorities.
///
/// # Errors
/// The first [`SdfError`].
pub fn check(system: &System) -> Result<(), SdfError> {
    child_ids(system)?;
    irqs(system)?;
    channels(system)?;
    ids(system)
}

fn child_ids(system: &System) -> Result<(), SdfError> {
    let mut seen = HashMap::new();
    for pd in &system.pds {
        let Some(parent) = pd.parent else { continue };
        if let Some(row) = seen.insert((parent.pd, parent.id), pd.place.row) {
            return Err(error(
                &pd.place,
                Problem::DuplicateChildId { id: parent.id, row },
            ));
        }
    }
    Ok(())
}

fn irqs(system: &System) -> Result<(), SdfError> {
    let mut seen = HashMap::new();
    for irq in system.pds.iter().flat_map(|pd| &pd.irqs) {
        if let Some(row) = seen.insert(irq.irq, irq.place.row) {
            return Err(error(
                &irq.place,
                Problem::DuplicateIrq { irq: irq.irq, row },
            ));
        }
        if seen.len() > limits::MAX_IRQS {
            return Err(error(&irq.place, Problem::TooManyIrqs(limits::MAX_IRQS)));
        }
    }
    Ok(())
}

fn channels(system: &System) -> Result<(), SdfError> {
    for [a, b] in &system.channels {
        if a.pd == b.pd {
            let name = system.pds[a.pd].name.clone();
            return Err(error(&b.place, Problem::ChannelToSelf(name)));
        }
        if a.pp && b.pp {
            return Err(error(&b.place, Problem::BothPp));
        }
        for (caller, callee) in [(a, b), (b, a)] {
            let (from, to) = (&system.pds[caller.pd], &system.pds[callee.pd]);
            if caller.pp && to.priority <= from.priority {
                return Err(error(
                    &caller.place,
                    Problem::PpPriority {
                        caller: from.name.clone(),
                        caller_priority: from.priority,
                        callee: to.name.clone(),
                        callee_priority: to.priority,
                    },
                ));
            }
        }
    }
    Ok(())
}

/// Channels and interrupts of a domain share one space of ids: the bits of its notification.
fn ids(system: &System) -> Result<(), SdfError> {
    let mut seen: HashMap<(usize, u8), &Place> = HashMap::new();
    let irqs = system
        .pds
        .iter()
        .enumerate()
        .flat_map(|(pd, p)| p.irqs.iter().map(move |irq| (pd, irq.id, &irq.place)));
    let ends = system
        .channels
        .iter()
        .flatten()
        .map(|end| (end.pd, end.id, &end.place));
    for (pd, id, place) in irqs.chain(ends) {
        if let Some(other) = seen.insert((pd, id), place) {
            let (element, row) = (other.element.to_string(), other.row);
            return Err(error(place, Problem::DuplicateId { id, element, row }));
        }
    }
    Ok(())
}
