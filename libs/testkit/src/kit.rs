// SPDX-License-Identifier: BSD-2-Clause
//! Slots, memory and objects of one case.

use crate::{console, timebase};
use checks::{Failure, Outcome};
use core::sync::atomic::{AtomicU64, Ordering};
use sel4::init_thread::slot;
use sel4::{
    AbsoluteCPtr, BootInfo, CNodeCapData, CPtr, Cap, CapRights, CapType, Error, FrameObjectType,
    ObjectBlueprint, ObjectBlueprintArch, VmAttributes, cap, cap_type,
};

/// Priority of the thread that runs the cases.
pub const ROOT_PRIORITY: u64 = 100;
/// Memory of one case: log2 of the bytes.
const CASE_MEMORY_BITS: usize = 24;
/// Memory of what lasts: log2 of the bytes.
const KIT_MEMORY_BITS: usize = 19;

/// IPC buffers of threads are mapped from here on; page tables exist for 2 MiB.
pub const BUFFERS: usize = 0x1000_0000_0000;
/// The console's page is mapped here.
const CONSOLE: usize = BUFFERS + 0x20_0000;
/// 2 MiB of free virtual addresses with page tables down to the last level.
pub const WINDOW: usize = BUFFERS + 0x40_0000;
/// Free virtual addresses without any page table of their own: a whole entry of the root.
pub const UNMAPPED: usize = 0x1800_0000_0000;
/// Attribute of a mapping: cache-inhibited (docs/KERNEL.md, PageMap).
pub const CACHE_INHIBITED: u64 = 2;

/// Bit of [`Kit::wake`] that the timeout signals.
const TIMEOUT_BADGE: u64 = 1 << 63;

/// Timebase ticks per second, for code that has no kit.
static TIMEBASE_HZ: AtomicU64 = AtomicU64::new(512_000_000);

/// Timebase ticks of so many microseconds.
pub fn microseconds(us: u64) -> u64 {
    us * (TIMEBASE_HZ.load(Ordering::Relaxed) / 1_000_000)
}

/// What a case works with.
pub struct Kit {
    boot: &'static BootInfo,
    /// First slot of the case.
    first_slot: usize,
    next_slot: usize,
    /// Memory of the case.
    memory: cap::Untyped,
    /// Memory that lasts.
    lasting: cap::Untyped,
    /// Device memory: the UART's page.
    device: cap::Untyped,
    /// The frame of the UART's page.
    uart: cap::Granule,
    /// Threads signal it when they finish, the timeout too.
    wake: cap::Notification,
    wake_timeout: cap::Notification,
    /// Finished threads wait for it: nobody signals it.
    park: cap::Notification,
    timer: cap::Timer,
    /// Threads made so far, and those that last.
    pub(crate) threads: usize,
    first_thread: usize,
    buffers: usize,
    first_buffer: usize,
}

impl Kit {
    /// Takes the root task's resources.
    ///
    /// # Errors
    /// The kernel's boot information does not have what a suite needs.
    pub fn new(boot: &'static BootInfo) -> Outcome<Kit> {
        TIMEBASE_HZ.store(boot.timebase_hz.max(1_000_000), Ordering::Relaxed);
        let untypeds = (boot.untyped[0]..boot.untyped[1]).zip(&boot.untypeds);
        let mut largest: Option<(u64, u32)> = None;
        let mut device = None;
        for (index, desc) in untypeds {
            if desc.is_device != 0 {
                device = device.or(Some(index));
            } else if largest.is_none_or(|(_, bits)| desc.size_bits > bits) {
                largest = Some((index, desc.size_bits));
            }
        }
        let (Some((memory, _)), Some(device)) = (largest, device) else {
            return Err(Failure::new(format_args!("no memory or no device")));
        };
        let memory = cap::Untyped::from_bits(memory);
        let mut kit = Kit {
            boot,
            first_slot: 0,
            next_slot: boot.empty[0] as usize,
            memory,
            lasting: memory,
            device: cap::Untyped::from_bits(device),
            uart: cap::Granule::from_bits(0),
            wake: cap::Notification::from_bits(0),
            wake_timeout: cap::Notification::from_bits(0),
            park: cap::Notification::from_bits(0),
            timer: cap::Timer::from_bits(0),
            threads: 0,
            first_thread: 0,
            buffers: 0,
            first_buffer: 0,
        };
        kit.lasting = kit.untyped(KIT_MEMORY_BITS)?;
        let case = kit.untyped(CASE_MEMORY_BITS)?;
        kit.memory = kit.lasting;
        for vaddr in [BUFFERS, BUFFERS, BUFFERS, CONSOLE, WINDOW] {
            let table: cap::PT = kit.object(ObjectBlueprintArch::PT.into())?;
            table.page_table_map(slot::VSPACE.cap(), vaddr, VmAttributes::NONE)?;
        }
        let uart: cap::Granule = kit.device_frame()?;
        let attributes = VmAttributes::EXECUTE_NEVER | VmAttributes::from_bits(CACHE_INHIBITED);
        uart.frame_map(
            slot::VSPACE.cap(),
            CONSOLE,
            CapRights::read_write(),
            attributes,
        )?;
        // SAFETY: mapped just now, for good.
        unsafe { console::init(CONSOLE + console::UART_OFFSET) };
        kit.uart = uart;
        kit.wake = kit.notification()?;
        kit.wake_timeout = kit.mint(kit.wake, CapRights::write_only(), TIMEOUT_BADGE)?;
        kit.park = kit.notification()?;
        kit.timer = kit.object(ObjectBlueprintArch::Timer.into())?;
        kit.timer.timer_set_notification(kit.wake_timeout)?;
        kit.memory = case;
        kit.first_slot = kit.next_slot;
        Ok(kit)
    }

    /// The kernel's boot information.
    pub fn boot(&self) -> &'static BootInfo {
        self.boot
    }

    /// What is made until [`Self::end_of_lasting`] lasts as long as the suite.
    pub(crate) fn lasting(&mut self) -> cap::Untyped {
        core::mem::replace(&mut self.memory, self.lasting)
    }

    /// From now on, what is made lasts as long as a case. `memory` is what [`Self::lasting`] gave.
    pub(crate) fn end_of_lasting(&mut self, memory: cap::Untyped) {
        self.memory = memory;
        self.first_slot = self.next_slot;
        self.first_thread = self.threads;
        self.first_buffer = self.buffers;
    }

    /// Ends a case: everything that it made is gone afterwards.
    ///
    /// # Errors
    /// The kernel refuses to delete or revoke.
    pub fn clean_up(&mut self) -> Outcome {
        let tcb = slot::TCB.cap();
        tcb.tcb_set_priority(tcb, ROOT_PRIORITY)?;
        // Not bound is as good.
        let _ = tcb.tcb_unbind_notification();
        self.timer.timer_cancel()?;
        self.absolute(self.memory).revoke()?;
        for index in self.first_slot..self.next_slot {
            self.absolute(CPtr::from_bits(index as u64)).delete()?;
        }
        self.next_slot = self.first_slot;
        self.threads = self.first_thread;
        self.buffers = self.first_buffer;
        self.wake.poll();
        Ok(())
    }

    /// The root CNode.
    pub fn cnode(&self) -> cap::CNode {
        slot::CNODE.cap()
    }

    /// The slot that a pointer names in the root CSpace.
    pub fn absolute(&self, place: impl sel4::HasCPtrWithDepth) -> AbsoluteCPtr {
        self.cnode().absolute_cptr(place)
    }

    /// A fresh empty slot.
    pub fn slot(&mut self) -> CPtr {
        let index = self.next_slot;
        self.next_slot += 1;
        CPtr::from_bits(index as u64)
    }

    /// A slot that was emptied may be used again, if it was the last.
    pub fn forget_slot<T: CapType>(&mut self, cap: Cap<T>) {
        if cap.bits() as usize + 1 == self.next_slot {
            self.next_slot -= 1;
        }
    }

    /// Slots of this case: first and one past the last.
    pub fn case_slots(&self) -> (usize, usize) {
        (self.first_slot, self.next_slot)
    }

    /// The memory that objects of this case come from.
    pub fn memory(&self) -> cap::Untyped {
        self.memory
    }

    /// The device untyped with the UART.
    pub fn device(&self) -> cap::Untyped {
        self.device
    }

    /// The frame of the page with the UART.
    pub fn uart(&self) -> cap::Granule {
        self.uart
    }

    fn device_frame(&mut self) -> Result<cap::Granule, Error> {
        let dest = self.slot();
        let root = self.cnode().absolute_cptr_for_self();
        let blueprint = FrameObjectType::_4k.blueprint();
        self.device
            .untyped_retype(&blueprint, &root, dest.bits() as usize, 1)?;
        Ok(dest.cast())
    }

    /// Makes `blueprint` from `untyped` in a fresh slot.
    pub fn retype<T: CapType>(
        &mut self,
        untyped: cap::Untyped,
        blueprint: ObjectBlueprint,
    ) -> Result<Cap<T>, Error> {
        let dest = self.slot();
        let root = self.cnode().absolute_cptr_for_self();
        untyped.untyped_retype(&blueprint, &root, dest.bits() as usize, 1)?;
        Ok(dest.cast())
    }

    /// Makes an object from the case's memory.
    pub fn object<T: CapType>(&mut self, blueprint: ObjectBlueprint) -> Result<Cap<T>, Error> {
        self.retype(self.memory, blueprint)
    }

    /// Memory of 2^`size_bits` bytes.
    pub fn untyped(&mut self, size_bits: usize) -> Result<cap::Untyped, Error> {
        self.object(ObjectBlueprint::Untyped { size_bits })
    }

    /// An endpoint.
    pub fn endpoint(&mut self) -> Result<cap::Endpoint, Error> {
        self.object(ObjectBlueprint::Endpoint)
    }

    /// A notification.
    pub fn notification(&mut self) -> Result<cap::Notification, Error> {
        self.object(ObjectBlueprint::Notification)
    }

    /// A reply object.
    pub fn reply(&mut self) -> Result<cap::Reply, Error> {
        self.object(ObjectBlueprint::Reply)
    }

    /// A thread that was never configured.
    pub fn tcb(&mut self) -> Result<cap::Tcb, Error> {
        self.object(ObjectBlueprint::Tcb)
    }

    /// A CNode of 2^`size_bits` slots, with a guard that makes small pointers index it.
    pub fn new_cnode(&mut self, size_bits: usize) -> Result<cap::CNode, Error> {
        let plain: cap::CNode = self.object(ObjectBlueprint::CNode { size_bits })?;
        let guard = CNodeCapData::skip_high_bits(size_bits);
        self.mint(plain, CapRights::all(), guard.into_word())
    }

    /// A frame of this size.
    pub fn frame(&mut self, kind: FrameObjectType) -> Result<cap::UnspecifiedFrame, Error> {
        self.object(kind.blueprint())
    }

    /// A scheduling context of the first core with this budget per period, microseconds.
    pub fn sched_context(&mut self, budget: u64, period: u64) -> Result<cap::SchedContext, Error> {
        let sc: cap::SchedContext = self.object(ObjectBlueprint::SchedContext)?;
        self.configure(sc, budget, period, 0)?;
        Ok(sc)
    }

    /// Cores that run.
    pub fn cores(&self) -> usize {
        (self.boot.sched_control[1] - self.boot.sched_control[0]) as usize
    }

    /// SchedControl of the first core, which the root thread runs on.
    pub fn sched_control(&self) -> cap::SchedControl {
        self.sched_control_of(0)
    }

    /// SchedControl of core number `core`, below [`Self::cores`].
    pub fn sched_control_of(&self, core: usize) -> cap::SchedControl {
        cap::SchedControl::from_bits(self.boot.sched_control[0] + core as u64)
    }

    /// Sets budget and period (microseconds) and the badge of timeout faults.
    pub fn configure(
        &self,
        sc: cap::SchedContext,
        budget: u64,
        period: u64,
        badge: u64,
    ) -> Result<(), Error> {
        self.sched_control()
            .sched_control_configure_flags(sc, budget, period, 0, badge, 0)
    }

    /// A badged copy with at most these rights.
    pub fn mint<T: CapType>(
        &mut self,
        src: Cap<T>,
        rights: CapRights,
        badge: u64,
    ) -> Result<Cap<T>, Error> {
        let dest = self.slot();
        self.absolute(dest)
            .mint(&self.absolute(src), rights, badge)?;
        Ok(dest.cast())
    }

    /// A copy with at most these rights.
    pub fn copy<T: CapType>(&mut self, src: Cap<T>, rights: CapRights) -> Result<Cap<T>, Error> {
        let dest = self.slot();
        self.absolute(dest).copy(&self.absolute(src), rights)?;
        Ok(dest.cast())
    }

    /// Deletes a capability.
    pub fn delete<T: CapType>(&self, cap: Cap<T>) -> Result<(), Error> {
        self.absolute(cap).delete()
    }

    /// Revokes a capability.
    pub fn revoke<T: CapType>(&self, cap: Cap<T>) -> Result<(), Error> {
        self.absolute(cap).revoke()
    }

    /// Whether a slot of the root CNode is empty. Copying from a slot that is known to be empty
    /// changes nothing either way and fails with `DeleteFirst` if the destination is in use.
    pub fn is_empty(&self, index: u64) -> bool {
        let nothing = self.absolute(CPtr::from_bits(0));
        let place = self.absolute(CPtr::from_bits(index));
        place.copy(&nothing, CapRights::all()) != Err(Error::DeleteFirst)
    }

    /// Runs all other threads of priority 2 and above until none of them can go on.
    pub fn settle(&self) -> Outcome {
        let tcb = slot::TCB.cap();
        tcb.tcb_set_priority(tcb, 1)?;
        tcb.tcb_set_priority(tcb, ROOT_PRIORITY)?;
        Ok(())
    }

    /// The notification that finished threads signal.
    pub(crate) fn wake(&self) -> cap::Notification {
        self.wake
    }

    /// The notification that finished threads wait for.
    pub(crate) fn park(&self) -> cap::Notification {
        self.park
    }

    /// Sleeps until a thread finishes or `us` microseconds have passed; false if the time is over.
    /// Other threads run meanwhile, whatever their priority.
    pub(crate) fn sleep_until(&self, deadline: u64) -> Outcome<bool> {
        if timebase() >= deadline {
            return Ok(false);
        }
        self.timer.timer_set(deadline)?;
        self.wake.wait();
        self.timer.timer_cancel()?;
        Ok(true)
    }

    /// Lets the other threads run for `us` microseconds.
    pub fn sleep(&self, us: u64) -> Outcome {
        let deadline = timebase() + microseconds(us);
        while self.sleep_until(deadline)? {}
        Ok(())
    }

    /// An IPC buffer: its frame and virtual address (mapped).
    pub(crate) fn ipc_buffer(&mut self) -> Outcome<(cap::Granule, usize)> {
        let frame: cap::Granule = self.object(FrameObjectType::GRANULE.blueprint())?;
        let vaddr = BUFFERS + self.buffers * FrameObjectType::GRANULE.bytes();
        self.buffers += 1;
        frame.frame_map(
            slot::VSPACE.cap(),
            vaddr,
            CapRights::read_write(),
            VmAttributes::EXECUTE_NEVER,
        )?;
        Ok((frame, vaddr))
    }

    /// A thread's place is free again, if it was the last.
    pub(crate) fn forget_thread(&mut self, index: usize, buffer: usize) {
        if index + 1 == self.threads {
            self.threads = index;
        }
        let bytes = FrameObjectType::GRANULE.bytes();
        if buffer != 0 && buffer + bytes == BUFFERS + self.buffers * bytes {
            self.buffers -= 1;
        }
    }

    /// A fresh 4 KiB frame, mapped readable and writable at `vaddr` (in [`WINDOW`]).
    pub fn page_at(&mut self, vaddr: usize) -> Outcome<Cap<cap_type::_4k>> {
        let frame: cap::Granule = self.object(FrameObjectType::GRANULE.blueprint())?;
        frame.frame_map(
            slot::VSPACE.cap(),
            vaddr,
            CapRights::read_write(),
            VmAttributes::EXECUTE_NEVER,
        )?;
        Ok(frame)
    }
}
