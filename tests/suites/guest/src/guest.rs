// SPDX-License-Identifier: BSD-2-Clause
//! A guest with 2 MiB of memory, a table of 2^18 bytes and one processor.

use partita_abi::{badge, vcpu_register as register};
use partita_papr::{HptOrder, PageSize, hash};
use sel4::init_thread::slot;
use sel4::{
    CapRights, Error, FrameObjectType, MessageInfo, ObjectBlueprint, ObjectBlueprintArch,
    RecvWithMRs, VmAttributes, cap,
};
use testkit::{Kit, Outcome, check};

/// log2 of the table's bytes.
pub const ORDER: u32 = 18;
/// Where the payload is loaded and started.
pub const ENTRY: u64 = 0x1_0000;
/// Guest memory that payloads and the root task share: words that each payload describes.
pub const DATA: u64 = 0x2_0000;
/// Guest memory that the VRMA's entries cover.
pub const COVERED: u64 = 64 << 12;
/// Number of the processor.
pub const ID: u64 = 3;
/// MSR of a little-endian guest in real mode.
pub const MSR_REAL: u64 = 0x8000_0000_0000_1001;
/// LPCR: interrupts of the guest are taken little-endian.
pub const LPCR_ILE: u64 = 0x0200_0000;
/// The hypercall that has a route.
pub const ROUTED: u64 = 0x58;
/// Where the root task sees the guests' memory: one 2 MiB window each.
const LOAD_WINDOW: usize = 0x3000_0000;
/// Bytes of a guest's memory, and of its window.
const MEMORY: usize = 1 << 21;
/// Where the root task sees [`DATA`] through a view, behind all windows.
const VIEW: usize = LOAD_WINDOW + 8 * MEMORY;

/// How a guest is made.
pub struct Setup<'a> {
    /// Instructions from [`ENTRY`] on.
    pub payload: &'a [u32],
    /// Number of its window; guests that live at the same time have different ones.
    pub window: usize,
    /// Memory that everything is made of that belongs to it alone.
    pub memory: Option<cap::Untyped>,
    /// Who answers the routed hypercall; the root task if it is nobody.
    pub server: Option<cap::Endpoint>,
    /// Its processor's core, and how long its turn is, microseconds.
    pub core: usize,
    pub turn_us: u64,
}

impl<'a> Setup<'a> {
    /// One guest on the first core.
    pub fn new(payload: &'a [u32]) -> Self {
        Setup {
            payload,
            window: 0,
            memory: None,
            server: None,
            core: 0,
            turn_us: 10_000,
        }
    }
}

/// A guest, ready to run.
pub struct Guest {
    pub gspace: cap::GSpace,
    pub hpt: cap::Hpt,
    pub memory: cap::UnspecifiedFrame,
    pub tcb: cap::Tcb,
    pub sc: cap::SchedContext,
    pub vcpu: cap::VCpu,
    pub exits: cap::Endpoint,
    pub reply: cap::Reply,
    window: usize,
    turn_us: u64,
}

impl Guest {
    /// A guest whose memory from [`ENTRY`] on holds `payload`, VRMA entries for its first 256 KiB, its
    /// exits all at `exits`. It is stopped.
    pub fn new(kit: &mut Kit, payload: &[u32]) -> Outcome<Guest> {
        Guest::make(kit, &Setup::new(payload))
    }

    /// A guest as `setup` says, stopped. That its memory was all zero is checked.
    pub fn make(kit: &mut Kit, setup: &Setup<'_>) -> Outcome<Guest> {
        let memory = setup.memory.unwrap_or(kit.memory());
        let arch = ObjectBlueprint::Arch;
        let gspace: cap::GSpace = kit.retype(memory, arch(ObjectBlueprintArch::GSpace))?;
        slot::LPID_CONTROL.cap().lpid_control_assign(gspace)?;
        let size_bits = ORDER as usize;
        let hpt: cap::Hpt = kit.retype(memory, arch(ObjectBlueprintArch::Hpt { size_bits }))?;
        let size_bits = size_bits - 2;
        let gfns = kit.retype(memory, arch(ObjectBlueprintArch::HptGfns { size_bits }))?;
        hpt.hpt_bind(gspace, gfns, 12)?;
        let table: cap::GPageTable = kit.retype(memory, arch(ObjectBlueprintArch::GPageTable))?;
        table.gpage_table_map(gspace, 0, VmAttributes::default())?;
        let frame: cap::UnspecifiedFrame = kit.retype(memory, FrameObjectType::_2m.blueprint())?;
        let window = LOAD_WINDOW + setup.window * MEMORY;
        load(kit, frame, window, setup.payload)?;
        frame.frame_map_guest(gspace, 0, CapRights::read_write(), VmAttributes::default())?;
        let order = HptOrder::new(ORDER).unwrap_or(HptOrder::new(18).unwrap());
        for gpa in (0..COVERED).step_by(1 << 12) {
            let entry = hash::vrma_entry(gpa, PageSize::Size4K);
            let ptex = hash::vrma_ptex(gpa, PageSize::Size4K, order);
            hpt.hpt_insert(ptex.get(), entry.v | 1, entry.r)?;
        }
        let exits = kit.endpoint()?;
        let rights = CapRights::new(true, false, false, true);
        let parent = kit.mint(exits, rights, badge::FAULT | ID)?;
        let server = setup.server.unwrap_or(exits);
        let server = kit.mint(server, rights, badge::PPC | ID << 32 | 7)?;
        let tcb: cap::Tcb = kit.retype(memory, ObjectBlueprint::Tcb)?;
        let sc: cap::SchedContext = kit.retype(memory, ObjectBlueprint::SchedContext)?;
        let vcpu: cap::VCpu = kit.retype(memory, arch(ObjectBlueprintArch::VCpu))?;
        let guest = Guest {
            gspace,
            hpt,
            memory: frame,
            tcb,
            sc,
            vcpu,
            exits,
            reply: kit.reply()?,
            window,
            turn_us: setup.turn_us,
        };
        guest.run_on(kit, setup.core)?;
        tcb.tcb_set_sched_params(slot::TCB.cap(), 0, 40, sc, parent)?;
        vcpu.vcpu_bind(ID, tcb, gspace)?;
        vcpu.vcpu_set_route(0, server)?;
        vcpu.vcpu_route_hypercall(ROUTED, sel4::VCpuRoute::Route(0))?;
        vcpu.vcpu_write_regs(register::PC, &[ENTRY, MSR_REAL])?;
        Ok(guest)
    }

    /// Moves the processor to a core.
    pub fn run_on(&self, kit: &Kit, core: usize) -> Outcome {
        let (control, turn) = (kit.sched_control_of(core), self.turn_us);
        control.sched_control_configure_flags(self.sc, turn, turn, 0, 0, 0)?;
        Ok(())
    }

    /// A view of the page at [`DATA`], mapped.
    pub fn view(&self, kit: &mut Kit) -> Outcome<cap::GSpaceView> {
        let place = kit.slot();
        let rights = CapRights::read_write();
        self.gspace.gspace_make_view(&kit.absolute(place), rights)?;
        let view: cap::GSpaceView = place.cast();
        let root: cap::VSpace = slot::VSPACE.cap();
        with_tables(kit, VIEW, || {
            view.view_map(root, DATA, VIEW, VmAttributes::EXECUTE_NEVER)
        })?;
        Ok(view)
    }

    /// Word `i` of the shared memory.
    pub fn word(&self, i: usize) -> u64 {
        // SAFETY: inside the window, which stays mapped as long as the guest's memory is there.
        unsafe { self.shared().add(i).read_volatile() }
    }

    /// Sets word `i` of the shared memory.
    pub fn set_word(&self, i: usize, value: u64) {
        // SAFETY: as for `word`.
        unsafe { self.shared().add(i).write_volatile(value) }
    }

    fn shared(&self) -> *mut u64 {
        core::ptr::with_exposed_provenance_mut(self.window + DATA as usize)
    }

    /// Puts instructions at guest real address `at`, for one that has not run yet.
    pub fn place(&self, at: u64, code: &[u32]) {
        for (i, word) in code.iter().enumerate() {
            let at = (self.window + at as usize + 4 * i) as *mut u32;
            // SAFETY: inside the window.
            unsafe { at.write_volatile(*word) };
        }
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

fn load(kit: &mut Kit, memory: cap::UnspecifiedFrame, window: usize, payload: &[u32]) -> Outcome {
    let own = kit.copy(memory, CapRights::read_write())?;
    let root: cap::VSpace = slot::VSPACE.cap();
    with_tables(kit, window, || {
        own.frame_map(
            root,
            window,
            CapRights::read_write(),
            VmAttributes::EXECUTE_NEVER,
        )
    })?;
    let words = window as *const u64;
    // SAFETY: the 2 MiB that were just mapped.
    let used = (0..MEMORY / 8).find(|i| unsafe { words.add(*i).read_volatile() } != 0);
    check!(used.is_none());
    for (i, word) in payload.iter().enumerate() {
        let at = (window + ENTRY as usize + 4 * i) as *mut u32;
        // SAFETY: inside the 2 MiB that were just mapped.
        unsafe { at.write_volatile(*word) };
    }
    Ok(())
}

/// Maps something at `vaddr` of the root task, with the page tables that are missing.
fn with_tables(kit: &mut Kit, vaddr: usize, map: impl Fn() -> Result<(), Error>) -> Outcome {
    loop {
        match map() {
            Ok(()) => return Ok(()),
            Err(Error::FailedLookup) => {
                let table: cap::PT = kit.object(ObjectBlueprint::Arch(ObjectBlueprintArch::PT))?;
                table.page_table_map(slot::VSPACE.cap(), vaddr, VmAttributes::default())?;
            }
            Err(e) => return Err(e.into()),
        }
    }
}
