// SPDX-License-Identifier: BSD-2-Clause
//! A guest with 2 MiB of memory, a table of 2^18 bytes and one processor.

use partita_abi::{badge, vcpu_register as register};
use partita_papr::{HptOrder, PageSize, hash};
use sel4::init_thread::slot;
use sel4::{
    CapRights, FrameObjectType, MessageInfo, ObjectBlueprint, RecvWithMRs, VmAttributes, cap,
};
use testkit::{Kit, Outcome};

/// log2 of the table's bytes.
pub const ORDER: u32 = 18;
/// Where the payload is loaded and started.
pub const ENTRY: u64 = 0x1_0000;
/// Number of the processor.
pub const ID: u64 = 3;
/// MSR of a little-endian guest in real mode.
pub const MSR_REAL: u64 = 0x8000_0000_0000_1001;
/// Where the root task writes the guest's memory.
const LOAD_WINDOW: usize = 0x3000_0000;

/// A guest, ready to run.
pub struct Guest {
    pub hpt: cap::Hpt,
    pub vcpu: cap::VCpu,
    pub exits: cap::Endpoint,
    pub reply: cap::Reply,
}

impl Guest {
    /// A guest whose memory from [`ENTRY`] on holds `payload`, VRMA entries for its first 256 KiB, its
    /// exits all at `exits`. It is stopped.
    pub fn new(kit: &mut Kit, payload: &[u32]) -> Outcome<Guest> {
        let gspace: cap::GSpace =
            kit.object(ObjectBlueprint::Arch(sel4::ObjectBlueprintArch::GSpace))?;
        slot::LPID_CONTROL.cap().lpid_control_assign(gspace)?;
        let hpt: cap::Hpt = kit.object(ObjectBlueprint::Arch(sel4::ObjectBlueprintArch::Hpt {
            size_bits: ORDER as usize,
        }))?;
        let gfns: cap::HptGfns =
            kit.object(ObjectBlueprint::Arch(sel4::ObjectBlueprintArch::HptGfns {
                size_bits: ORDER as usize - 2,
            }))?;
        hpt.hpt_bind(gspace, gfns, 12)?;
        let table: cap::GPageTable =
            kit.object(ObjectBlueprint::Arch(sel4::ObjectBlueprintArch::GPageTable))?;
        table.gpage_table_map(gspace, 0, VmAttributes::default())?;
        let memory = kit.frame(FrameObjectType::_2m)?;
        load(kit, memory, payload)?;
        memory.frame_map_guest(gspace, 0, CapRights::read_write(), VmAttributes::default())?;
        let order = HptOrder::new(ORDER).unwrap_or(HptOrder::new(18).unwrap());
        for page in 0..64u64 {
            let gpa = page << 12;
            let entry = hash::vrma_entry(gpa, PageSize::Size4K);
            let ptex = hash::vrma_ptex(gpa, PageSize::Size4K, order);
            hpt.hpt_insert(ptex.get(), entry.v | 1, entry.r)?;
        }
        let exits = kit.endpoint()?;
        let parent = kit.mint(
            exits,
            CapRights::new(true, false, false, true),
            badge::FAULT | ID,
        )?;
        let server = kit.mint(
            exits,
            CapRights::new(true, false, false, true),
            badge::PPC | ID << 32 | 7,
        )?;
        let tcb = kit.tcb()?;
        let sc = kit.sched_context(10_000, 10_000)?;
        tcb.tcb_set_sched_params(slot::TCB.cap(), 0, 40, sc, parent)?;
        let vcpu: cap::VCpu = kit.object(ObjectBlueprint::Arch(sel4::ObjectBlueprintArch::VCpu))?;
        vcpu.vcpu_bind(ID, tcb, gspace)?;
        vcpu.vcpu_set_route(0, server)?;
        vcpu.vcpu_route_hypercall(0x58, sel4::VCpuRoute::Route(0))?;
        vcpu.vcpu_write_regs(register::PC, &[ENTRY, MSR_REAL])?;
        let reply = kit.reply()?;
        Ok(Guest {
            hpt,
            vcpu,
            exits,
            reply,
        })
    }

    /// Waits for the next exit.
    pub fn exit(&self) -> RecvWithMRs {
        self.exits.recv_with_mrs(self.reply)
    }

    /// Answers the last exit.
    pub fn answer<const N: usize>(&self, label: u64, words: [u64; N])
    where
        [u64; N]: sel4::FastMessages,
    {
        self.reply
            .send_with_mrs(MessageInfo::new(label, 0, 0, N), words);
    }
}

fn load(kit: &mut Kit, memory: cap::UnspecifiedFrame, payload: &[u32]) -> Outcome {
    let own = kit.copy(memory, CapRights::read_write())?;
    let root: cap::VSpace = slot::VSPACE.cap();
    loop {
        match own.frame_map(
            root,
            LOAD_WINDOW,
            CapRights::read_write(),
            VmAttributes::EXECUTE_NEVER,
        ) {
            Ok(()) => break,
            Err(sel4::Error::FailedLookup) => {
                let table: cap::PT =
                    kit.object(ObjectBlueprint::Arch(sel4::ObjectBlueprintArch::PT))?;
                table.page_table_map(root, LOAD_WINDOW, VmAttributes::default())?;
            }
            Err(e) => return Err(e.into()),
        }
    }
    for (i, word) in payload.iter().enumerate() {
        let at = (LOAD_WINDOW + ENTRY as usize + 4 * i) as *mut u32;
        // SAFETY: inside the 2 MiB that were just mapped.
        unsafe { at.write_volatile(*word) };
    }
    own.frame_unmap()?;
    Ok(())
}
