// SPDX-License-Identifier: BSD-2-Clause
//! What the device tree says.

use crate::arch::hcall;
use fdt::Fdt;
use partita_papr::HptOrder;
use partita_papr::hcall::number;

/// The guest's machine.
pub struct Platform {
    /// Its hash page table.
    pub order: HptOrder,
    /// Its memory, bytes from address 0.
    pub memory: u64,
    /// Whether the command line asks for the rows of two guests on one core.
    pub is_pair: bool,
    power_off: u32,
}

impl Platform {
    /// Reads it from the tree; says what is missing.
    ///
    /// # Safety
    ///
    /// `tree` is the address of a device tree.
    pub unsafe fn read(tree: *const u8) -> Result<Self, &'static str> {
        // SAFETY: as the caller says.
        let tree = unsafe { Fdt::from_ptr(tree) }.map_err(|_| "the tree itself")?;
        // Processors have the name of their kind, not `cpu`.
        let mut nodes = tree.all_nodes();
        let sizes = nodes.find_map(|node| node.property("ibm,pft-size"));
        let sizes = sizes.ok_or("ibm,pft-size")?;
        let order = word(sizes.value, 1).and_then(HptOrder::new);
        let memory = tree.find_node("/memory").ok_or("memory")?;
        let memory = memory.property("reg").ok_or("the memory's size")?.value;
        let rtas = tree.find_node("/rtas").ok_or("rtas")?;
        let power_off = rtas.property("power-off").ok_or("power-off")?;
        let arguments = tree.chosen().bootargs().unwrap_or_default();
        Ok(Self {
            order: order.ok_or("the table's size")?,
            memory: u64::from(word(memory, 2).ok_or("the memory's size")?) << 32
                | u64::from(word(memory, 3).ok_or("the memory's size")?),
            is_pair: arguments.split_whitespace().any(|word| word == "pair"),
            power_off: word(power_off.value, 0).ok_or("power-off")?,
        })
    }

    /// Ends the machine.
    pub fn power_off(&self) -> ! {
        let block = [self.power_off, 2, 1, u32::MAX, u32::MAX, 0].map(u32::to_be);
        let address = core::ptr::from_ref(&block).expose_provenance() as u64;
        loop {
            hcall(number::H_RTAS, [address]);
        }
    }
}

/// Cell `number` of a property.
fn word(value: &[u8], number: usize) -> Option<u32> {
    let cell = value.chunks_exact(4).nth(number)?;
    Some(u32::from_be_bytes(cell.try_into().ok()?))
}
