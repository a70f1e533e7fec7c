// SPDX-License-Identifier: BSD-2-Clause
//! The interpreter.

use crate::{Destination, Kernel, ThreadSpaces};
use core::fmt;
use core::ops::Range;
use partita_abi::bootinfo::BootInfo;
use partita_abi::{CapRights, GuestExit, ObjectType, address_space, init_cnode, limits};
use partita_capdl::untyped::{Batch, Pool, PoolError, Step, Untyped};
use partita_capdl::{CapRef, Command, Reader, SpecError};

/// Pieces of untyped memory that may be split off.
const MAX_SPLITS: usize = 256;
/// Rights of a fault endpoint: send, and let the handler answer.
const FAULT_RIGHTS: CapRights = CapRights::WRITE.union(CapRights::GRANT_REPLY);

/// Why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason<E> {
    /// The specification cannot be read.
    Spec(SpecError),
    /// It needs more of the empty slots than there are.
    Slots,
    /// It was made for an image with other frames.
    ImageFrames,
    /// Memory cannot be had.
    Memory(PoolError),
    /// An object type that the kernel does not know.
    ObjectType(u8),
    /// A core that does not run.
    Core(u32),
    /// A guest exit that the kernel does not know.
    Exit(u8),
    /// A capability outside the slots that the header announces.
    Reference(CapRef),
    /// The kernel refused.
    Kernel(E),
}

/// A failure and the number of the command, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure<'a, E> {
    /// Number of the command.
    pub position: u32,
    /// The command, if it was read.
    pub command: Option<Command<'a>>,
    /// Why.
    pub reason: Reason<E>,
}

impl<E: fmt::Debug> fmt::Display for Failure<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command {}", self.position)?;
        if let Some(command) = &self.command {
            write!(f, " ({command:?})")?;
        }
        match &self.reason {
            Reason::Spec(e) => write!(f, ": {e}"),
            Reason::Slots => write!(f, ": more slots needed than there are"),
            Reason::ImageFrames => write!(f, ": made for an image with other frames"),
            Reason::Memory(PoolError::Full) => write!(f, ": not enough memory"),
            Reason::Memory(PoolError::NotFree) => write!(f, ": that memory is not free"),
            Reason::Memory(PoolError::TooManyPieces) => write!(f, ": too many pieces"),
            Reason::ObjectType(n) => write!(f, ": unknown object type {n}"),
            Reason::Exit(n) => write!(f, ": unknown exit {n}"),
            Reason::Core(n) => write!(f, ": core {n} does not run"),
            Reason::Reference(cap) => write!(f, ": no such capability: {cap:?}"),
            Reason::Kernel(e) => write!(f, ": the kernel answers {e:?}"),
        }
    }
}

/// The root task's slots, as the kernel and the specification divide them.
struct Slots {
    /// Those that the commands number.
    numbered: Range<u64>,
    /// For pieces of untyped memory.
    splits: Range<u64>,
    /// For badged capabilities on their way.
    scratch: u64,
    image_frames: Range<u64>,
    untyped: Range<u64>,
    sched_control: Range<u64>,
}

struct Executor<'k, 'p, K: Kernel> {
    kernel: &'k mut K,
    pool: Pool<'p>,
    slots: Slots,
}

type Outcome<E> = Result<(), Reason<E>>;

const fn range(bounds: [u64; 2]) -> Range<u64> {
    bounds[0]..bounds[1]
}

/// Executes `spec`. Afterwards the threads run; what the specification did not delete is still in
/// the root task's CNode, and [`finish`] is due.
///
/// # Errors
/// The first [`Failure`]. Threads may run only if it is one of the last commands that failed.
pub fn execute<'a, K: Kernel>(
    kernel: &mut K,
    boot: &BootInfo,
    spec: &'a [u8],
) -> Result<(), Failure<'a, K::Error>> {
    let at_start = |reason| Failure {
        position: 0,
        command: None,
        reason,
    };
    let mut reader = Reader::new(spec).map_err(|e| at_start(Reason::Spec(e)))?;
    let header = *reader.header();
    let empty = range(boot.empty);
    let numbered_end = empty.start + u64::from(header.slots);
    let splits_end = numbered_end + u64::from(header.split_slots);
    if splits_end >= empty.end {
        return Err(at_start(Reason::Slots));
    }
    let image_frames = range(boot.image_frames);
    if image_frames.end - image_frames.start != u64::from(header.image_frames) {
        return Err(at_start(Reason::ImageFrames));
    }

    let mut entries = [Untyped::default(); limits::MAX_UNTYPEDS + MAX_SPLITS];
    let untyped = range(boot.untyped);
    let count = ((untyped.end - untyped.start) as usize).min(limits::MAX_UNTYPEDS);
    for (entry, given) in entries.iter_mut().zip(&boot.untypeds[..count]) {
        *entry = Untyped::new(given.paddr, given.size_bits as u8, given.is_device != 0);
    }
    let most = count + (header.split_slots as usize).min(MAX_SPLITS);
    let mut executor = Executor {
        kernel,
        pool: Pool::new(&mut entries[..most], count),
        slots: Slots {
            numbered: empty.start..numbered_end,
            splits: numbered_end..splits_end,
            scratch: splits_end,
            image_frames,
            untyped,
            sched_control: range(boot.sched_control),
        },
    };
    loop {
        let position = reader.position();
        let command = match reader.next_command() {
            Ok(Some(command)) => command,
            Ok(None) => return Ok(()),
            Err(e) => {
                return Err(Failure {
                    position,
                    command: None,
                    reason: Reason::Spec(e),
                });
            }
        };
        executor.command(command).map_err(|reason| Failure {
            position,
            command: Some(command),
            reason,
        })?;
    }
}

/// Gives up what is left of the authority: the root task's address space, its buffer, boot
/// information and, at last, its CNode. The caller suspends itself then. Nobody holds a capability
/// to its thread, so it never runs again, and with it what is left in its CNode is out of reach:
/// mapped frames and tables, which must not be unmapped, the pool of their PIDs, and objects that
/// nobody else refers to.
///
/// # Errors
/// The kernel's first refusal.
pub fn finish<K: Kernel>(kernel: &mut K) -> Result<(), K::Error> {
    use init_cnode::{BOOT_INFO, CNODE, IPC_BUFFER, REPLY, VSPACE};
    [BOOT_INFO, REPLY, IPC_BUFFER, VSPACE, CNODE]
        .into_iter()
        .try_for_each(|slot| kernel.delete(slot as u64))
}

impl<K: Kernel> Executor<'_, '_, K> {
    fn slot(&self, cap: CapRef, count: u32) -> Result<u64, Reason<K::Error>> {
        let (slots, n) = match cap {
            CapRef::Slot(n) => (self.slots.numbered.clone(), n),
            CapRef::ImageFrame(n) => (self.slots.image_frames.clone(), n),
            CapRef::Boot(n) => (0..init_cnode::FIRST_FREE as u64, n),
        };
        let first = slots.start + u64::from(n);
        match first + u64::from(count) <= slots.end {
            true => Ok(first),
            false => Err(Reason::Reference(cap)),
        }
    }

    fn cap(&self, cap: CapRef) -> Result<u64, Reason<K::Error>> {
        self.slot(cap, 1)
    }

    fn untyped_slot(&self, entry: usize) -> u64 {
        let given = self.slots.untyped.end - self.slots.untyped.start;
        match (entry as u64).checked_sub(given) {
            None => self.slots.untyped.start + entry as u64,
            Some(split) => self.slots.splits.start + split,
        }
    }

    const fn own(&self, slot: u64) -> Destination {
        Destination {
            cnode: init_cnode::CNODE as u64,
            index: slot,
            depth: address_space::WORD_BITS as u8,
        }
    }

    fn retype(
        &mut self,
        batch: Batch,
        ty: ObjectType,
        size_bits: u8,
        first: u64,
    ) -> Outcome<K::Error> {
        let untyped = self.untyped_slot(batch.from);
        let mut done = 0;
        while done < batch.count {
            let count = (batch.count - done).min(limits::RETYPE_FAN_OUT as u32);
            self.kernel
                .retype(untyped, ty, size_bits, first + u64::from(done), count)
                .map_err(Reason::Kernel)?;
            done += count;
        }
        Ok(())
    }

    fn object_type(&self, number: u8) -> Result<ObjectType, Reason<K::Error>> {
        ObjectType::from_number(number.into()).ok_or(Reason::ObjectType(number))
    }

    fn create(
        &mut self,
        first: u32,
        count: u32,
        object: u8,
        size_bits: u8,
        bytes_bits: u8,
    ) -> Outcome<K::Error> {
        let ty = self.object_type(object)?;
        let first = self.slot(CapRef::Slot(first), count)?;
        let mut done = 0;
        while done < count {
            let batch = self
                .pool
                .take(bytes_bits, count - done)
                .map_err(Reason::Memory)?;
            self.retype(batch, ty, size_bits, first + u64::from(done))?;
            done += batch.count;
        }
        Ok(())
    }

    fn create_at(
        &mut self,
        first: u32,
        count: u32,
        object: u8,
        size_bits: u8,
        paddr: u64,
    ) -> Outcome<K::Error> {
        let ty = self.object_type(object)?;
        let first = self.slot(CapRef::Slot(first), count)?;
        let mut done = 0;
        while done < count {
            let at = paddr + (u64::from(done) << size_bits);
            match self
                .pool
                .reach(at, size_bits, count - done)
                .map_err(Reason::Memory)?
            {
                Step::Split {
                    from,
                    to,
                    size_bits,
                } => {
                    let (from, to) = (self.untyped_slot(from), self.untyped_slot(to));
                    self.kernel
                        .retype(from, ObjectType::Untyped, size_bits, to, 1)
                        .map_err(Reason::Kernel)?;
                }
                Step::Take(batch) => {
                    self.retype(batch, ty, size_bits, first + u64::from(done))?;
                    done += batch.count;
                }
            }
        }
        Ok(())
    }

    /// Runs `use_it` with a badged copy of `cap`, which is deleted afterwards.
    fn with_badged(
        &mut self,
        cap: CapRef,
        rights: CapRights,
        badge: u64,
        use_it: impl FnOnce(&mut K, u64) -> Result<(), K::Error>,
    ) -> Outcome<K::Error> {
        let (from, scratch) = (self.cap(cap)?, self.slots.scratch);
        let to = self.own(scratch);
        self.kernel
            .copy(to, from, rights, Some(badge))
            .map_err(Reason::Kernel)?;
        use_it(self.kernel, scratch).map_err(Reason::Kernel)?;
        self.kernel.delete(scratch).map_err(Reason::Kernel)
    }

    fn delete(&mut self, slots: Range<u64>) -> Outcome<K::Error> {
        slots
            .into_iter()
            .try_for_each(|slot| self.kernel.delete(slot))
            .map_err(Reason::Kernel)
    }

    /// The ASID pool stays: every address space loses its PID with the pool's last capability.
    fn drop_boot_caps(&mut self) -> Outcome<K::Error> {
        use init_cnode::{ASID_CONTROL, IRQ_CONTROL, LPID_CONTROL, PLATFORM_CONTROL};
        self.delete(self.slots.untyped.clone())?;
        let given = self.slots.untyped.end - self.slots.untyped.start;
        let split = self.pool.entries().len() as u64 - given;
        self.delete(self.slots.splits.start..self.slots.splits.start + split)?;
        self.delete(self.slots.sched_control.clone())?;
        for slot in [IRQ_CONTROL, ASID_CONTROL, PLATFORM_CONTROL, LPID_CONTROL] {
            self.delete(slot as u64..slot as u64 + 1)?;
        }
        Ok(())
    }

    fn command(&mut self, command: Command<'_>) -> Outcome<K::Error> {
        match command {
            Command::Create {
                first,
                count,
                object,
                size_bits,
                bytes_bits,
                ..
            } => self.create(first, count, object, size_bits, bytes_bits),
            Command::CreateAt {
                first,
                count,
                object,
                size_bits,
                paddr,
                ..
            } => self.create_at(first, count, object, size_bits, paddr),
            Command::ConfigureSchedContext {
                sc,
                core,
                budget_us,
                period_us,
                badge,
            } => {
                let control = self.slots.sched_control.start + u64::from(core);
                if control >= self.slots.sched_control.end {
                    return Err(Reason::Core(core));
                }
                let sc = self.cap(sc)?;
                self.kernel
                    .configure_sched_context(control, sc, budget_us, period_us, badge)
                    .map_err(Reason::Kernel)
            }
            Command::AssignAsid { vspace } => {
                let vspace = self.cap(vspace)?;
                self.kernel
                    .assign_asid(init_cnode::ASID_POOL as u64, vspace)
                    .map_err(Reason::Kernel)
            }
            Command::MapTable {
                table,
                vspace,
                vaddr,
            } => {
                let (table, vspace) = (self.cap(table)?, self.cap(vspace)?);
                self.kernel
                    .map_table(table, vspace, vaddr)
                    .map_err(Reason::Kernel)
            }
            Command::CopyCaps {
                first,
                source,
                count,
            } => {
                let first = self.slot(CapRef::Slot(first), count)?;
                let source = self.slot(source, count)?;
                for i in 0..u64::from(count) {
                    let to = self.own(first + i);
                    self.kernel
                        .copy(to, source + i, CapRights::ALL, None)
                        .map_err(Reason::Kernel)?;
                }
                Ok(())
            }
            Command::MapPages {
                frame,
                count,
                page_bits,
                vspace,
                vaddr,
                rights,
                executable,
                cached,
            } => {
                let (frame, vspace) = (self.slot(frame, count)?, self.cap(vspace)?);
                let rights = CapRights::from_word(rights.into());
                for i in 0..u64::from(count) {
                    let vaddr = vaddr + (i << page_bits);
                    self.kernel
                        .map_page(frame + i, vspace, vaddr, rights, executable, cached)
                        .map_err(Reason::Kernel)?;
                }
                Ok(())
            }
            Command::IssueIrqHandler { slot, irq, trigger } => {
                let slot = self.slot(CapRef::Slot(slot), 1)?;
                let control = init_cnode::IRQ_CONTROL as u64;
                self.kernel
                    .issue_irq_handler(control, irq, trigger, slot)
                    .map_err(Reason::Kernel)
            }
            Command::SetIrqNotification {
                handler,
                notification,
                badge,
            } => {
                let handler = self.cap(handler)?;
                self.with_badged(notification, CapRights::WRITE, badge, |k, scratch| {
                    k.set_irq_notification(handler, scratch)
                })
            }
            Command::SetTimerNotification {
                timer,
                notification,
                badge,
            } => {
                let timer = self.cap(timer)?;
                self.with_badged(notification, CapRights::WRITE, badge, |k, scratch| {
                    k.set_timer_notification(timer, scratch)
                })
            }
            Command::Place {
                cnode,
                index,
                depth,
                source,
                rights,
                badge,
            } => {
                let to = Destination {
                    cnode: self.cap(cnode)?,
                    index: index.into(),
                    depth,
                };
                let rights = CapRights::from_word(rights.into());
                let source = self.cap(source)?;
                self.kernel
                    .copy(to, source, rights, badge)
                    .map_err(Reason::Kernel)
            }
            Command::ConfigureTcb {
                tcb,
                cspace,
                cspace_data,
                vspace,
                ipc_buffer,
                ipc_buffer_vaddr,
            } => {
                let spaces = ThreadSpaces {
                    cspace: self.cap(cspace)?,
                    cspace_data,
                    vspace: self.cap(vspace)?,
                    ipc_buffer: self.cap(ipc_buffer)?,
                    ipc_buffer_vaddr,
                };
                let tcb = self.cap(tcb)?;
                self.kernel
                    .configure_tcb(tcb, spaces)
                    .map_err(Reason::Kernel)
            }
            Command::SetSchedParams {
                tcb,
                mcp,
                priority,
                sc,
                fault,
            } => {
                let (tcb, sc) = (self.cap(tcb)?, self.cap(sc)?);
                match fault {
                    None => self
                        .kernel
                        .set_sched_params(tcb, mcp, priority, sc, init_cnode::NULL as u64)
                        .map_err(Reason::Kernel),
                    Some(fault) => {
                        self.with_badged(fault.endpoint, FAULT_RIGHTS, fault.badge, |k, scratch| {
                            k.set_sched_params(tcb, mcp, priority, sc, scratch)
                        })
                    }
                }
            }
            Command::BindNotification { tcb, notification } => {
                let (tcb, notification) = (self.cap(tcb)?, self.cap(notification)?);
                self.kernel
                    .bind_notification(tcb, notification)
                    .map_err(Reason::Kernel)
            }
            Command::SetRegisters { tcb, pc, sp } => {
                let tcb = self.cap(tcb)?;
                self.kernel
                    .set_registers(tcb, pc, sp)
                    .map_err(Reason::Kernel)
            }
            Command::NameThread { tcb, name } => {
                let tcb = self.cap(tcb)?;
                self.kernel.name_thread(tcb, name);
                Ok(())
            }
            Command::Delete { first, count } => {
                let first = self.slot(first, count)?;
                self.delete(first..first + u64::from(count))
            }
            Command::DropBootCaps => self.drop_boot_caps(),
            Command::Resume { tcb } => {
                let tcb = self.cap(tcb)?;
                self.kernel.resume(tcb).map_err(Reason::Kernel)
            }
            Command::AssignLpid { gspace } => {
                let control = init_cnode::LPID_CONTROL as u64;
                let gspace = self.cap(gspace)?;
                self.kernel
                    .assign_lpid(control, gspace)
                    .map_err(Reason::Kernel)
            }
            Command::BindHpt {
                hpt,
                gspace,
                gfns,
                vrma_bits,
            } => {
                let (hpt, gspace, gfns) = (self.cap(hpt)?, self.cap(gspace)?, self.cap(gfns)?);
                self.kernel
                    .bind_hpt(hpt, gspace, gfns, vrma_bits)
                    .map_err(Reason::Kernel)
            }
            Command::MapHptView { hpt, vspace, vaddr } => {
                let (hpt, vspace) = (self.cap(hpt)?, self.cap(vspace)?);
                self.kernel
                    .map_hpt_view(hpt, vspace, vaddr)
                    .map_err(Reason::Kernel)
            }
            Command::MakeView {
                gspace,
                cnode,
                index,
                depth,
                rights,
            } => {
                let gspace = self.cap(gspace)?;
                let to = Destination {
                    cnode: self.cap(cnode)?,
                    index: index.into(),
                    depth,
                };
                let rights = CapRights::from_word(rights.into());
                self.kernel
                    .make_view(gspace, to, rights)
                    .map_err(Reason::Kernel)
            }
            Command::BindVcpu {
                vcpu,
                id,
                tcb,
                gspace,
            } => {
                let (vcpu, tcb, gspace) = (self.cap(vcpu)?, self.cap(tcb)?, self.cap(gspace)?);
                self.kernel
                    .bind_vcpu(vcpu, id, tcb, gspace)
                    .map_err(Reason::Kernel)
            }
            Command::SetVcpuRoute {
                vcpu,
                route,
                endpoint,
                badge,
            } => {
                let vcpu = self.cap(vcpu)?;
                self.with_badged(endpoint, FAULT_RIGHTS, badge, |k, scratch| {
                    k.set_vcpu_route(vcpu, route, scratch)
                })
            }
            Command::RouteHypercall {
                vcpu,
                number,
                route,
            } => {
                let vcpu = self.cap(vcpu)?;
                self.kernel
                    .route_hypercall(vcpu, number, route)
                    .map_err(Reason::Kernel)
            }
            Command::RouteExit { vcpu, exit, route } => {
                let vcpu = self.cap(vcpu)?;
                let exit = GuestExit::from_number(exit.into()).ok_or(Reason::Exit(exit))?;
                self.kernel
                    .route_exit(vcpu, exit, route)
                    .map_err(Reason::Kernel)
            }
        }
    }
}
