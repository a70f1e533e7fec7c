// SPDX-License-Identifier: BSD-2-Clause
//! Making the root task: it gets a capability to everything that the kernel does not keep.
//!
//! The kernel's own needs at boot are taken from the first range of free memory, largest alignment
//! first; the rest of each range becomes naturally aligned untyped memory, lowest address first.

use crate::cap::{Cap, Frame, Untyped};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Ref, SchedContext, Slot, Tcb, ThreadState, tcb_slot};
use crate::sched::replenish;
use partita_abi::bootinfo::{BOOTINFO_MAGIC, BootInfo, ImageFrames, ImageInfo, UntypedDesc};
use partita_abi::{CapRights, ObjectType, address_space as space, init_cnode, limits};
use zerocopy::{FromZeros, IntoBytes};

/// Virtual address of the root task's copy of [`BootInfo`]: the page below the IPC buffer.
pub const BOOTINFO_VADDR: u64 = IPC_BUFFER_VADDR - 0x1000;
/// Virtual address of the root task's IPC buffer.
pub const IPC_BUFFER_VADDR: u64 = (space::USER_VSPACE_TOP as u64) & !0xfff;
/// Virtual address of the specification.
pub const SPEC_VADDR: u64 = 0x2000_0000_0000;
/// The root task's slice of time, microseconds.
const ROOT_BUDGET_US: u64 = 10_000;
/// Smallest untyped that is handed out.
const SMALLEST_UNTYPED: u32 = 12;

/// What the arch shell found out about the machine.
pub struct BootParameters<'a> {
    /// Free normal memory: [start, end), page aligned, ascending.
    pub memory: &'a [(u64, u64)],
    /// Device regions: (address, log2 size).
    pub devices: &'a [(u64, u32)],
    /// What the image tool wrote.
    pub image: &'a ImageInfo,
    /// The image's table of ready frames.
    pub frames: &'a [ImageFrames],
    /// Timebase at kernel entry.
    pub boot_timebase: u64,
}

/// Why there is no root task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// The first range of free memory cannot hold the boot objects.
    OutOfMemory,
    /// The root CNode cannot hold the capabilities.
    CNodeTooSmall,
    /// The image's header makes no sense.
    BadImage,
}

struct BootAllocator<'k, M: Machine> {
    m: &'k M,
    next: u64,
    end: u64,
}

impl<M: Machine> BootAllocator<'_, M> {
    fn take(&mut self, size: u64) -> Result<u64, BootError> {
        let at = self.next.next_multiple_of(size.max(64));
        if at + size > self.end {
            return Err(BootError::OutOfMemory);
        }
        self.next = at + size;
        self.m.clear(at, size.next_multiple_of(64));
        Ok(at)
    }
}

struct RootCNode {
    addr: u64,
    slots: u64,
    next: u64,
}

impl RootCNode {
    fn slot(&self, index: u64) -> Result<Ref<Slot>, BootError> {
        if index >= self.slots {
            return Err(BootError::CNodeTooSmall);
        }
        Ref::new(self.addr + 32 * index).ok_or(BootError::BadImage)
    }

    fn put<M: Machine>(&mut self, k: &Kernel<'_, M>, cap: &Cap) -> Result<(), BootError> {
        let slot = self.slot(self.next)?;
        k.insert_root(cap, slot);
        self.next += 1;
        Ok(())
    }
}

impl<M: Machine> Kernel<'_, M> {
    /// Builds the root task and makes it ready.
    ///
    /// # Errors
    /// See [`BootError`]; nothing runs then.
    pub fn create_root_task(&self, p: &BootParameters<'_>) -> Result<(), BootError> {
        let image = p.image;
        let bits = image.root_cnode_bits;
        if !(10..=20).contains(&bits) || image.segment_count > image.segments.len() as u64 {
            return Err(BootError::BadImage);
        }
        let Some(&(first, end)) = p.memory.first() else {
            return Err(BootError::OutOfMemory);
        };
        let mut memory = BootAllocator {
            m: self.m,
            next: first,
            end,
        };
        let size = |t: ObjectType| 1u64 << t.bits();

        let cnode_addr = memory.take(32 << bits)?;
        let mut cnode = RootCNode {
            addr: cnode_addr,
            slots: 1 << bits,
            next: init_cnode::FIRST_FREE as u64,
        };
        let vspace = memory.take(size(ObjectType::VSpace))?;
        let pool = memory.take(4096)?;
        self.g.asid_pools[0].set(pool);
        if self.assign_pid(pool, 0, vspace).is_err() {
            return Err(BootError::BadImage);
        }
        let buffer = memory.take(4096)?;
        let info_page = memory.take(4096)?;
        let rw = CapRights::READ.union(CapRights::WRITE);
        for s in image.segments.iter().take(image.segment_count as usize) {
            let rights = CapRights::from_word(s.flags & 3);
            let mut at = 0;
            while at < s.size {
                let never = u64::from(s.flags & 4 == 0);
                self.boot_map(
                    &mut memory,
                    vspace,
                    s.vaddr + at,
                    s.paddr + at,
                    rights,
                    never,
                )?;
                at += 4096;
            }
        }
        let mut at = 0;
        while at < image.spec_size {
            let paddr = image.spec_paddr + at;
            self.boot_map(
                &mut memory,
                vspace,
                SPEC_VADDR + at,
                paddr,
                CapRights::READ,
                1,
            )?;
            at += 4096;
        }
        self.boot_map(&mut memory, vspace, IPC_BUFFER_VADDR, buffer, rw, 1)?;
        self.boot_map(
            &mut memory,
            vspace,
            BOOTINFO_VADDR,
            info_page,
            CapRights::READ,
            1,
        )?;
        let tcb_addr = memory.take(size(ObjectType::Tcb))?;
        let sc_addr = memory.take(size(ObjectType::SchedContext))?;
        let reply_addr = memory.take(size(ObjectType::Reply))?;

        let none = BootError::BadImage;
        let tcb: Ref<Tcb> = Ref::new(tcb_addr).ok_or(none)?;
        let sc: Ref<SchedContext> = Ref::new(sc_addr).ok_or(none)?;
        let root_cap = Cap::CNode {
            addr: cnode_addr,
            radix: bits as u32,
            guard: 0,
            guard_bits: 64 - bits as u32,
        };
        let frame = |addr, bits, rights| {
            Cap::Frame(Frame {
                addr,
                bits,
                rights,
                device: false,
                mapping: None,
            })
        };
        let fixed = [
            (init_cnode::TCB, Cap::Thread(tcb)),
            (init_cnode::CNODE, root_cap),
            (init_cnode::VSPACE, Cap::VSpace { addr: vspace }),
            (init_cnode::IRQ_CONTROL, Cap::IrqControl),
            (init_cnode::ASID_CONTROL, Cap::AsidControl),
            (
                init_cnode::ASID_POOL,
                Cap::AsidPool {
                    addr: pool,
                    index: 0,
                },
            ),
            (init_cnode::PLATFORM_CONTROL, Cap::PlatformControl),
            (init_cnode::LPID_CONTROL, Cap::LpidControl),
            (init_cnode::BOOT_INFO, frame(info_page, 12, rw)),
            (init_cnode::IPC_BUFFER, frame(buffer, 12, rw)),
            (
                init_cnode::REPLY,
                Cap::Reply {
                    reply: Ref::new(reply_addr).ok_or(none)?,
                    can_grant: true,
                },
            ),
            (init_cnode::SCHED_CONTEXT, Cap::SchedContext(sc)),
        ];
        for (index, cap) in &fixed {
            self.insert_root(cap, cnode.slot(*index as u64)?);
        }

        let mut info = BootInfo::new_zeroed();
        info.magic = BOOTINFO_MAGIC;
        info.num_nodes = self.g.num_cores.get();
        info.ipc_buffer = IPC_BUFFER_VADDR;
        info.cnode_bits = bits;
        info.timebase_hz = self.m.timebase_hz();
        info.boot_timebase = p.boot_timebase;
        if image.spec_size != 0 {
            info.spec_vaddr = SPEC_VADDR;
            info.spec_size = image.spec_size;
        }
        info.sched_control[0] = cnode.next;
        for core in 0..self.g.num_cores.get() {
            cnode.put(
                self,
                &Cap::SchedControl {
                    core: core as usize,
                },
            )?;
        }
        info.sched_control[1] = cnode.next;
        info.image_frames[0] = cnode.next;
        for f in p.frames {
            for i in 0..f.count {
                let addr = f.paddr + (i << f.bits);
                cnode.put(
                    self,
                    &frame(addr, f.bits as u32, CapRights::from_word(f.rights & 3)),
                )?;
            }
        }
        info.image_frames[1] = cnode.next;
        info.untyped[0] = cnode.next;
        let mut count = 0;
        for (i, &(start, end)) in p.memory.iter().enumerate() {
            let start = if i == 0 {
                memory.next.next_multiple_of(4096)
            } else {
                start
            };
            self.hand_out(&mut cnode, &mut info, &mut count, start, end)?;
        }
        for &(addr, bits) in p.devices {
            self.put_untyped(&mut cnode, &mut info, &mut count, addr, bits, true)?;
        }
        info.untyped[1] = cnode.next;
        info.empty = [cnode.next, cnode.slots];
        for (i, word) in info.as_bytes().chunks_exact(8).enumerate() {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            self.m
                .write_word(info_page + 8 * i as u64, u64::from_ne_bytes(bytes));
        }

        let context = self.at(sc);
        context.core.set(self.core.id.get());
        context.budget.set(self.microseconds(ROOT_BUDGET_US));
        context.period.set(self.microseconds(ROOT_BUDGET_US));
        replenish(context, self.m.now());
        context.tcb.set(Some(tcb));
        let t = self.at(tcb);
        self.mark_tcb_slots(tcb);
        self.insert(
            &root_cap,
            cnode.slot(init_cnode::CNODE as u64)?,
            self.tcb_slot(tcb, tcb_slot::CSPACE),
        );
        self.insert(
            &Cap::VSpace { addr: vspace },
            cnode.slot(init_cnode::VSPACE as u64)?,
            self.tcb_slot(tcb, tcb_slot::VSPACE),
        );
        self.insert(
            &frame(buffer, 12, rw),
            cnode.slot(init_cnode::IPC_BUFFER as u64)?,
            self.tcb_slot(tcb, tcb_slot::BUFFER),
        );
        t.cspace_epoch.set(u64::MAX);
        t.pid.set(self.pid_of(vspace));
        t.ipc_buffer.set(buffer);
        t.ipc_buffer_vaddr.set(IPC_BUFFER_VADDR);
        t.priority.set(space::MAX_PRIORITY as u64);
        t.mcp.set(space::MAX_PRIORITY as u64);
        t.core.set(self.core.id.get());
        t.sched_context.set(Some(sc));
        self.set_owner(sc, Some(tcb));
        t.context.pc.set(image.root_entry);
        t.context.gpr[3].set(BOOTINFO_VADDR);
        self.set_state(tcb, ThreadState::Running);
        self.make_ready(tcb);
        Ok(())
    }

    /// Maps a page for the root task, adding page tables as needed.
    fn boot_map(
        &self,
        memory: &mut BootAllocator<'_, M>,
        root: u64,
        vaddr: u64,
        paddr: u64,
        rights: CapRights,
        attr: u64,
    ) -> Result<(), BootError> {
        // The tables and pages of the root task have no capabilities of their own; a scratch slot
        // receives what the mapping operations write.
        let scratch = Ref::<Slot>::new(memory.take(64)?).ok_or(BootError::BadImage)?;
        let pid = self.pid_of(root);
        let page = Frame {
            addr: paddr,
            bits: 12,
            rights,
            device: false,
            mapping: None,
        };
        for _ in 0..4 {
            if self
                .map_frame(scratch, page, root, pid, vaddr, rights, attr)
                .is_ok()
            {
                return Ok(());
            }
            let table = memory.take(4096)?;
            if self.map_table(scratch, table, root, pid, vaddr).is_err() {
                break;
            }
        }
        Err(BootError::BadImage)
    }

    /// Makes untyped capabilities of `[start, end)`.
    fn hand_out(
        &self,
        cnode: &mut RootCNode,
        info: &mut BootInfo,
        count: &mut usize,
        start: u64,
        end: u64,
    ) -> Result<(), BootError> {
        let mut at = start;
        while at < end {
            let aligned = at.trailing_zeros();
            let fits = (end - at).ilog2();
            let bits = aligned.min(fits);
            if bits >= SMALLEST_UNTYPED {
                self.put_untyped(cnode, info, count, at, bits, false)?;
            }
            at += 1 << bits;
        }
        Ok(())
    }

    fn put_untyped(
        &self,
        cnode: &mut RootCNode,
        info: &mut BootInfo,
        count: &mut usize,
        addr: u64,
        bits: u32,
        device: bool,
    ) -> Result<(), BootError> {
        if *count == limits::MAX_UNTYPEDS {
            return Ok(());
        }
        cnode.put(
            self,
            &Cap::Untyped(Untyped {
                addr,
                bits,
                free: 0,
                zeroed: 0,
                device,
            }),
        )?;
        info.untypeds[*count] = UntypedDesc {
            paddr: addr,
            size_bits: bits,
            is_device: u32::from(device),
        };
        *count += 1;
        Ok(())
    }
}
