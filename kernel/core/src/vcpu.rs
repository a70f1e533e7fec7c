// SPDX-License-Identifier: BSD-2-Clause
//! Guests' processors. A VCPU belongs to a thread, whose TCB holds its general registers; what leaves the
//! guest becomes a call to the endpoint that a route names, or to the parent (the thread's fault
//! handler), and the answer says how the guest goes on.

use crate::cap::{Cap, tag};
use crate::error::{LookupFailure, Outcome, SysError};
use crate::gspace::GSpace;
use crate::ipc::{Send, reg};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{
    Link, Object, Ref, Slot, Tcb, ThreadState, Timer, send_flags, tcb_slot, thread_kind,
};
use crate::syscall::Args;
use core::cell::Cell;
use partita_abi::{
    CapRights, GuestExit, InvocationLabel, MessageInfo, ReplyAction, limits,
    vcpu_register as register,
};

/// Endpoints that exits can be routed to.
pub const ROUTES: usize = limits::VCPU_ROUTES;
/// Hypercalls with a route: numbers 0 to 0x7fc, and 0xf000 to 0xf03c.
pub const ROUTED_HYPERCALLS: usize = (ORDINARY_END + VENDOR_END - VENDOR_FIRST) as usize >> 2;
const ORDINARY_END: u64 = limits::ROUTED_HYPERCALLS_END as u64;
const VENDOR_FIRST: u64 = limits::ROUTED_VENDOR_HYPERCALLS as u64;
const VENDOR_END: u64 = limits::ROUTED_VENDOR_HYPERCALLS_END as u64;
/// Registers that a VCPU keeps itself (all but those of the TCB's context).
pub const SPRS: usize = register::VS0_0 - register::SRR0;

/// Machine state bits.
pub mod msr {
    #![allow(missing_docs)]
    pub const SF: u64 = 1 << 63;
    pub const HV: u64 = 1 << 60;
    /// Transactional memory: available and state.
    pub const TM: u64 = 7 << 32;
    /// Secure state.
    pub const S: u64 = 1 << 22;
    pub const EE: u64 = 1 << 15;
    pub const PR: u64 = 1 << 14;
    pub const ME: u64 = 1 << 12;
    pub const IR: u64 = 1 << 5;
    pub const DR: u64 = 1 << 4;
    pub const LE: u64 = 1;
    /// Bits of SRR1 that an interrupt defines itself.
    pub const SRR1_DEFINED: u64 = 0x783f_0000;
}

/// LPCR bits.
pub mod lpcr {
    #![allow(missing_docs)]
    pub const VPM1: u64 = 1 << 62;
    pub const ILE: u64 = 0x0200_0000;
    pub const AIL: u64 = 0x0180_0000;
    pub const TC: u64 = 0x200;
    pub const DPFD: u64 = 7 << 52;
    pub const MER: u64 = 0x800;
    /// What a PD may choose. Not LD: a large decrementer is offered to no guest (`ibm,dec-bits`), and the way out takes 32 bits.
    pub const CHOICE: u64 = ILE | AIL | TC | DPFD;
}

/// HFSCR: the facilities that a vCPU has from the start: FP, VEC and VSX, DSCR, BHRB, TAR.
pub const FACILITIES: u64 = 0x117;
/// HFSCR: performance monitor, which a PD may give. Such a vCPU has no fast paths: its counters stand still outside.
pub const FACILITY_PM: u64 = 1 << 3;
/// MMCR0: the counters are frozen, nobody but the guest's kernel can see them.
pub const MMCR0_FREEZE: u64 = 0x8000_0000;
/// Ticks that a guest's timebase differs from the machine's are a multiple of this: TBU40 sets the upper 40 bits only.
pub const TB_OFFSET_UNIT: u64 = 1 << 24;
/// Ticks of waiting time that make an `Entry` exit, so that `vpa` can tell the guest.
pub const STOLEN_NOTE: u64 = 51_200;

/// Why a vCPU got its processor, as an `Entry` exit tells it.
pub mod dispatch {
    /// It had not lost it.
    pub const NONE: u64 = 0;
    /// It had been idle.
    pub const CEDED: u64 = 1;
    /// Somebody else ran.
    pub const PREEMPTED: u64 = 2;
}

/// Kinds of outstanding exits.
pub mod outstanding {
    /// None.
    pub const NONE: u64 = 0;
    /// A hypercall: the answer sets r3 and r4...
    pub const HYPERCALL: u64 = 1;
    /// Anything else: the answer changes no general register.
    pub const OTHER: u64 = 2;
}

/// Why a vCPU's thread is inactive.
pub mod rest {
    /// It is active.
    pub const NONE: u64 = 0;
    /// Never started, or stopped by a reply.
    pub const STOPPED: u64 = 1;
    /// Ceded: waits for an event.
    pub const IDLE: u64 = 2;
}

/// Pause requests.
pub mod pause {
    /// None.
    pub const NONE: u64 = 0;
    /// It pauses when it is out and no call is in flight.
    pub const WANTED: u64 = 1;
    /// It does not run until it is resumed.
    pub const PAUSED: u64 = 2;
}

/// A guest's processor: 4 KiB.
#[repr(C)]
pub struct Vcpu {
    /// Registers from `srr0` on, in the order of `vcpu_register`.
    pub spr: [Cell<u64>; SPRS],
    /// Its thread.
    pub tcb: Link<Tcb>,
    /// Its memory.
    pub gspace: Link<GSpace>,
    /// Next VCPU of the same GSpace.
    pub next: Link<Vcpu>,
    /// LPID, from the GSpace.
    pub lpid: Cell<u64>,
    /// LPCR to run with.
    pub lpcr: Cell<u64>,
    /// Not 0 if more than usual is to be done on the way in and out: its timebase is not the machine's, it has a
    /// breakpoint or the performance monitor.
    pub own_ways: Cell<u64>,
    /// Number of the core that still holds register state, plus one; 0: none.
    pub resident: Cell<u64>,
    /// 1 while an external interrupt is asserted.
    pub line: Cell<u64>,
    /// A kick or resume that the next idle or stop consumes.
    pub latch: Cell<u64>,
    /// Pause request.
    pub pause: Cell<u64>,
    /// Why the thread is inactive.
    pub rest: Cell<u64>,
    /// Not 0 if something is to be looked at before the next entry (`prepare_entry`): whoever changes what
    /// that depends on sets it. The fast path enters only if it is 0.
    pub attention: Cell<u64>,
    /// Outstanding exit.
    pub exit: Cell<u64>,
    /// Label and length of its message.
    pub exit_info: Cell<u64>,
    /// Its words (a routed hypercall's are r4..r11 themselves).
    pub exit_words: [Cell<u64>; 8],
    /// 1 if an `Entry` exit comes before the next entry: vpa asked for it, or waited time is to be
    /// told.
    pub entry_wanted: Cell<u64>,
    /// 1 if every dispatch makes an `Entry` exit, for a guest that logs them.
    pub every_dispatch: Cell<u64>,
    /// Interrupt to take at the next entry: vector (0: none), SRR1 bits, DAR, DSISR.
    pub injected: [Cell<u64>; 4],
    /// Reason of the last dispatch that no `Entry` exit told (`dispatch`).
    pub dispatch_reason: Cell<u64>,
    /// 1 after a sleep, until it runs again.
    pub slept: Cell<u64>,
    /// `ready_ticks` that the last `Entry` exit told.
    pub told_ticks: Cell<u64>,
    /// Real address of the bound dispatch counter, 0: none.
    pub dispatch_counter: Cell<u64>,
    /// Mapping of the view that it is bound through.
    pub dispatch_counter_view: Cell<u64>,
    /// Timebase since which the vCPU is ready but does not run, 0: it is not.
    pub ready_since: Cell<u64>,
    /// Ticks that it was ready but did not run.
    pub ready_ticks: Cell<u64>,
    /// How often it was switched to.
    pub dispatches: Cell<u64>,
    /// Where exits go: 0 the parent, else a route's number plus one; by `GuestExit`.
    pub exit_routes: [Cell<u8>; 16],
    /// The same for hypercalls.
    pub hypercall_routes: [Cell<u8>; ROUTED_HYPERCALLS],
    /// The same for the fast path, which finds none if the vCPU has ways of its own.
    pub fast_exit_routes: [Cell<u8>; 16],
    /// The same for hypercalls.
    pub fast_hypercall_routes: [Cell<u8>; ROUTED_HYPERCALLS],
    /// Wakes an idle vCPU when its decrementer expires.
    pub timer: Timer,
    /// Endpoints (badged capabilities).
    pub routes: [Slot; ROUTES],
    /// For moving VSCR between registers and memory.
    pub vector_scratch: [Cell<u64>; 2],
    /// Segment look-aside buffer: ESID and VSID words.
    pub slb: [Cell<u64>; 64],
    /// All entries of it from this one on are zeros.
    pub slb_used: Cell<u64>,
    /// VSR0..VSR63.
    pub vsr: [Cell<u64>; 128],
    /// Floating-point status and control.
    pub fpscr: Cell<u64>,
    /// Vector status and control.
    pub vscr: Cell<u64>,
}
impl Object for Vcpu {}
const _: () = assert!(core::mem::size_of::<Vcpu>() <= 4096);
const _: () = assert!(core::mem::offset_of!(Vcpu, vector_scratch) % 16 == 0);

/// A saved entry of the segment look-aside buffer as hardware takes it (ISA 3.0B Book III 5.7.8.1), without its index: ESID and
/// VSID words; `None` if it is not valid or if hardware would refuse it (a reserved segment or page size).
pub fn segment(esid: u64, vsid: u64) -> Option<(u64, u64)> {
    const VALID: u64 = 0x0800_0000;
    const ESID: u64 = !0 << 28;
    /// B, VSID, Ks, Kp, N, L, C and LP.
    const VSID: u64 = !0xfff | 0xfb0;
    const L_LP: u64 = 0x130;
    let size_exists = vsid >> 62 < 2;
    // 4 KiB; 16 MiB, 64 KiB and 16 GiB with L.
    let page_exists = matches!(vsid & L_LP, 0 | 0x100 | 0x110 | 0x120);
    (esid & VALID != 0 && size_exists && page_exists).then_some((esid & ESID | VALID, vsid & VSID))
}

/// The right that an invocation needs in the VCPU's capability.
fn right_for(label: InvocationLabel) -> CapRights {
    use InvocationLabel as L;
    match label {
        L::VCPUReadRegisters | L::VCPUGetTimes => CapRights::READ,
        L::VCPURequestEntry | L::VCPUBindDispatchCounter | L::VCPUUnbindDispatchCounter => {
            CapRights::GRANT_REPLY
        }
        _ => CapRights::WRITE,
    }
}

fn hypercall_index(number: u64) -> Option<usize> {
    if number & 3 != 0 {
        return None;
    }
    match number {
        0..ORDINARY_END => Some((number >> 2) as usize),
        VENDOR_FIRST..VENDOR_END => Some(((ORDINARY_END + number - VENDOR_FIRST) >> 2) as usize),
        _ => None,
    }
}

/// What a guest may have of an LPCR value. AIL is 0 or 3: 1 and 2 are reserved (PAPR H_SET_MODE).
fn guest_lpcr(value: u64) -> u64 {
    let mode = value & lpcr::CHOICE;
    if mode & lpcr::AIL == lpcr::AIL {
        mode
    } else {
        mode & !lpcr::AIL
    }
}

/// Whether an interrupt can be injected; else the number of the wrong word.
fn check_interrupt(words: &[u64; 4]) -> Result<(), u64> {
    let [vector, bits, ..] = *words;
    if vector & 0x1f != 0 || !(0x100..0x2000).contains(&vector) {
        return Err(0);
    }
    if bits & !msr::SRR1_DEFINED != 0 {
        return Err(1);
    }
    Ok(())
}

impl<'k, M: Machine> Kernel<'k, M> {
    /// Whether the vCPU has ways in and out of its own.
    fn choose_ways(&self, v: &'k Vcpu) {
        let spr = |index| self.spr(v, index).get();
        let own = spr(register::TB_OFFSET) != 0
            || spr(register::CIABR) != 0
            || spr(register::HFSCR) & FACILITY_PM != 0;
        v.own_ways.set(own.into());
        v.attention.set(1);
        self.route_fast_path(v);
    }

    /// Shows the fast path the routes, or that there are none.
    fn route_fast_path(&self, v: &Vcpu) {
        let shown = v.own_ways.get() == 0;
        let all = |routes: &[Cell<u8>], fast: &[Cell<u8>]| {
            for (fast, route) in fast.iter().zip(routes) {
                fast.set(if shown { route.get() } else { 0 });
            }
        };
        all(&v.exit_routes, &v.fast_exit_routes);
        all(&v.hypercall_routes, &v.fast_hypercall_routes);
    }

    fn spr(&self, v: &'k Vcpu, index: usize) -> &'k Cell<u64> {
        &v.spr[(index - register::SRR0) % SPRS]
    }

    /// The VCPU of a thread that is a guest's processor.
    #[inline]
    pub fn vcpu_of(&self, t: Ref<Tcb>) -> Option<Ref<Vcpu>> {
        let tcb = self.at(t);
        if tcb.kind.get() == thread_kind::VCPU {
            Ref::new(tcb.vcpu.get())
        } else {
            None
        }
    }

    pub(crate) fn invoke_vcpu(
        &self,
        r: Ref<Vcpu>,
        rights: CapRights,
        args: &Args,
    ) -> Outcome<usize> {
        use InvocationLabel as L;
        if !rights.contains(right_for(args.label)) {
            return Err(SysError::InvalidCapability(0).into());
        }
        let v = self.at(r);
        if args.label == L::VCPUBind {
            self.bind_vcpu(r, args)?;
            return Ok(0);
        }
        let (Some(t), Some(g)) = (v.tcb.get(), v.gspace.get()) else {
            return Err(SysError::IllegalOperation.into());
        };
        match args.label {
            L::VCPUSetRoute => {
                let route = self.arg(args, 0)?;
                let (from, cap) = self.cap_arg(args, 0)?;
                let Some(slot) = v.routes.get(route as usize) else {
                    return Err(SysError::Range(0, ROUTES as u64 - 1).into());
                };
                let Cap::Endpoint { rights, .. } = cap else {
                    return Err(SysError::InvalidCapability(1).into());
                };
                if !rights.contains(CapRights::WRITE)
                    || rights.intersection(CapRights::GRANT.union(CapRights::GRANT_REPLY))
                        == CapRights::NONE
                {
                    return Err(SysError::InvalidCapability(1).into());
                }
                if let Some(slot) = self.m.address_of(slot) {
                    self.delete(slot, true)?;
                    if !self.at(from).is_empty() {
                        self.insert(&cap, from, slot);
                    }
                }
            }
            L::VCPURouteHypercall => {
                let (number, route) = (self.arg(args, 0)?, self.route_arg(args, 1)?);
                let Some(i) = hypercall_index(number) else {
                    return Err(SysError::InvalidArgument(0).into());
                };
                v.hypercall_routes[i].set(route);
                self.route_fast_path(v);
            }
            L::VCPURouteExit => {
                let (exit, route) = (self.arg(args, 0)?, self.route_arg(args, 1)?);
                if GuestExit::from_number(exit).is_none() {
                    return Err(SysError::InvalidArgument(0).into());
                }
                v.exit_routes[exit as usize & 15].set(route);
                self.route_fast_path(v);
            }
            L::VCPUReadRegisters => return self.read_vcpu(r, t, args),
            L::VCPUWriteRegisters => self.write_vcpu(r, t, args)?,
            L::VCPUPause => {
                let done = self.pause_vcpu(v, t);
                self.set_message_register(args.thread, 0, u64::from(done));
                return Ok(1);
            }
            L::VCPUResume => self.resume_vcpu(v, t),
            L::VCPUKick => self.kick_vcpu(v, t),
            L::VCPUInject => {
                let words = [
                    self.arg(args, 0)?,
                    self.arg(args, 1)?,
                    self.arg(args, 2)?,
                    self.arg(args, 3)?,
                ];
                check_interrupt(&words).map_err(SysError::InvalidArgument)?;
                if v.injected[0].get() != 0 {
                    return Err(SysError::IllegalOperation.into());
                }
                for (to, word) in v.injected.iter().zip(words) {
                    to.set(word);
                }
                v.attention.set(1);
                self.nudge(t);
                self.wake_vcpu(r);
            }
            L::VCPUSetInterruptLine => {
                let asserted = self.arg(args, 0)?;
                if asserted > 1 {
                    return Err(SysError::Range(0, 1).into());
                }
                v.line.set(asserted);
                v.attention.set(1);
                self.nudge(t);
                if asserted != 0 {
                    self.wake_vcpu(r);
                }
            }
            L::VCPUSetMode => {
                let (set, clear) = (self.arg(args, 0)?, self.arg(args, 1)?);
                if (set | clear) & !(lpcr::ILE | lpcr::AIL) != 0 {
                    return Err(SysError::InvalidArgument(0).into());
                }
                self.force_out(g);
                for other in self.vcpus(g) {
                    let mode = self.spr(other, register::LPCR);
                    mode.set(guest_lpcr(mode.get() & !clear | set));
                }
            }
            L::VCPUBindDispatchCounter => {
                let gpa = self.arg(args, 0)?;
                let Cap::View(view) = self.cap_arg(args, 0)?.1 else {
                    return Err(SysError::InvalidCapability(1).into());
                };
                self.bind_counter(v, g, &view, gpa)?;
            }
            // Its view stays as it is.
            L::VCPUUnbindDispatchCounter => v.dispatch_counter.set(0),
            L::VCPURequestEntry => {
                let every_dispatch = self.arg(args, 0)?;
                if every_dispatch > 1 {
                    return Err(SysError::Range(0, 1).into());
                }
                v.every_dispatch.set(every_dispatch);
                let in_guest = self.runnable(t) && v.exit.get() == outstanding::NONE;
                // Latched even if it is out: vpa may have no time to wait for that.
                v.entry_wanted.set(1);
                v.attention.set(1);
                self.nudge(t);
                self.set_message_register(args.thread, 0, u64::from(in_guest));
                return Ok(1);
            }
            L::VCPUGetTimes => {
                self.set_message_register(args.thread, 0, v.ready_ticks.get());
                self.set_message_register(args.thread, 1, v.dispatches.get());
                let count = match v.dispatch_counter.get() {
                    0 => u64::MAX,
                    at => u32::from_be(self.m.read_half(at)).into(),
                };
                self.set_message_register(args.thread, 2, count);
                return Ok(3);
            }
            _ => return Err(SysError::IllegalOperation.into()),
        }
        Ok(0)
    }

    /// A route's number as it is stored: 0 the parent, else number plus one. In arguments, all ones
    /// stands for the parent.
    fn route_arg(&self, args: &Args, i: usize) -> Outcome<u8> {
        match self.arg(args, i)? {
            u64::MAX => Ok(0),
            route if route < ROUTES as u64 => Ok(route as u8 + 1),
            _ => Err(SysError::Range(0, ROUTES as u64 - 1).into()),
        }
    }

    fn bind_vcpu(&self, r: Ref<Vcpu>, args: &Args) -> Outcome {
        // Messages carry the number in the badges of routes; the argument is part of the message all the same.
        let _id = self.arg(args, 0)?;
        let (Cap::Thread(t), Cap::GSpace(g)) = (self.cap_arg(args, 0)?.1, self.cap_arg(args, 1)?.1)
        else {
            return Err(SysError::InvalidCapability(1).into());
        };
        let v = self.at(r);
        if !v.tcb.is_none()
            || self.at(t).vcpu.get() != 0
            || self.state(t) != ThreadState::Inactive
            || self.at(g).lpid.get() == 0
        {
            return Err(SysError::IllegalOperation.into());
        }
        if self.vcpus(g).count() >= limits::GSPACE_VCPUS {
            return Err(SysError::NotEnoughMemory(0).into());
        }
        v.tcb.set(Some(t));
        v.gspace.set(Some(g));
        v.lpid.set(self.at(g).lpid.get());
        v.next.set(self.at(g).vcpus.get());
        v.rest.set(rest::STOPPED);
        self.at(g).vcpus.set(Some(r));
        // An expired timer whose slot names a VCPU wakes it; the slot is in no derivation tree.
        v.timer
            .notification
            .w0
            .set(tag::VCPU << crate::cap::TYPE_SHIFT | r.addr());
        self.spr(v, register::HFSCR).set(FACILITIES);
        self.spr(v, register::MMCR0).set(MMCR0_FREEZE);
        let tcb = self.at(t);
        tcb.vcpu.set(r.addr());
        tcb.kind.set(thread_kind::VCPU);
        if let Some(own) = tcb.own_context.get() {
            self.count_dispatches(own, Some(r));
        }
        tcb.context.msr.set(msr::SF | msr::ME);
        Ok(())
    }

    /// The vCPUs of a GSpace.
    pub(crate) fn vcpus(&self, g: Ref<GSpace>) -> impl Iterator<Item = &'k Vcpu> {
        let mut next = self.at(g).vcpus.get();
        core::iter::from_fn(move || {
            let v = self.at(next?);
            next = v.next.get();
            Some(v)
        })
    }

    /// Ends the connection of a VCPU with its thread and memory.
    pub(crate) fn detach_vcpu(&self, r: Ref<Vcpu>) {
        let v = self.at(r);
        if let Some(t) = v.tcb.get() {
            // Nobody may be in the guest from here on.
            self.make_unready(t);
        }
        if v.resident.get() != 0 {
            self.m.evict_vcpu(r);
        }
        if let Some(g) = v.gspace.take() {
            let mut link = &self.at(g).vcpus;
            while let Some(other) = link.get() {
                if other == r {
                    link.set(v.next.get());
                    break;
                }
                link = &self.at(other).next;
            }
        }
        v.next.set(None);
        v.dispatch_counter.set(0);
        if let Some(timer) = self.m.address_of(&v.timer) {
            self.disarm(timer);
        }
        if let Some(t) = v.tcb.take() {
            let tcb = self.at(t);
            self.suspend(t);
            tcb.vcpu.set(0);
            tcb.kind.set(thread_kind::USER);
            // Its own time may be with a server.
            if let Some(own) = tcb.own_context.get() {
                self.count_dispatches(own, None);
            }
        }
    }

    /// The last capability to a VCPU goes.
    pub(crate) fn finalise_vcpu(&self, r: Ref<Vcpu>) -> Outcome {
        self.detach_vcpu(r);
        for slot in &self.at(r).routes {
            if let Some(slot) = self.m.address_of(slot) {
                self.delete(slot, true)?;
            }
        }
        Ok(())
    }

    /// Makes every vCPU of a GSpace leave the guest; before it goes on there, it looks at what has changed
    /// ([`Self::prepare_entry`]).
    pub(crate) fn force_out(&self, g: Ref<GSpace>) {
        self.vcpus(g).for_each(|v| v.attention.set(1));
        for core in &self.g.cores {
            let vcpu = core.current.get().and_then(|t| self.vcpu_of(t));
            if !core::ptr::eq(core, self.core) && vcpu.is_some_and(|v| self.at(v).gspace.is(g)) {
                self.m.stop_core(core.id.get() as usize);
            }
        }
    }

    /// Makes the word at `gpa`, which `view` shows, the dispatch counter of `v`, whose memory is `g`.
    pub(crate) fn bind_counter(
        &self,
        v: &Vcpu,
        g: Ref<GSpace>,
        view: &crate::cap::View,
        gpa: u64,
    ) -> Outcome {
        if gpa & 3 != 0 {
            return Err(SysError::Alignment.into());
        }
        let mapping = view.mapping.filter(|(_, at)| at >> 12 == gpa >> 12);
        let Some((mapping, _)) = mapping else {
            return Err(SysError::InvalidCapability(1).into());
        };
        // What the capability remembers may have been ended by poisoning.
        if view.gspace != g || !view.rights.contains(CapRights::WRITE) || !self.view_shows(view) {
            return Err(SysError::InvalidCapability(1).into());
        }
        let missing =
            SysError::FailedLookup(true, LookupFailure::MissingCapability { bits_left: 12 });
        let leaf = self.leaf(self.at(g), gpa).ok_or(missing)?;
        // The kernel counts with ordinary loads and stores.
        if !leaf.rights.contains(CapRights::WRITE) || leaf.device {
            return Err(SysError::InvalidCapability(1).into());
        }
        v.dispatch_counter
            .set(leaf.addr + (gpa & ((1 << leaf.bits) - 1)));
        v.dispatch_counter_view
            .set(mapping.pid << 48 | mapping.vaddr);
        // Even while the vCPU has a processor, odd while not.
        let running = match v.tcb.get().and_then(|t| self.at(t).sched_context.get()) {
            Some(sc) => self.g.cores.iter().any(|c| c.current_sc.is(sc)),
            // Its time is with a server: then that is what runs, or waits.
            None => self.g.cores.iter().any(|c| {
                self.follow(&c.current_sc)
                    .is_some_and(|sc| sc.vcpu.get().is_some_and(|x| core::ptr::eq(self.at(x), v)))
            }),
        };
        let count = u32::from_be(self.m.read_half(v.dispatch_counter.get()));
        if (count & 1 == 1) == running {
            self.m
                .write_half(v.dispatch_counter.get(), count.wrapping_add(1).to_be());
        }
        Ok(())
    }

    /// The vCPU's processor time begins or ends: its dispatch counter and its waiting time say so.
    pub(crate) fn note_dispatch(&self, r: Ref<Vcpu>, running: bool, now: u64) {
        let v = self.at(r);
        if running {
            v.dispatches.set(v.dispatches.get() + 1);
            let since = v.ready_since.replace(0);
            if since != 0 {
                v.ready_ticks
                    .set(v.ready_ticks.get() + now.saturating_sub(since));
            }
            v.dispatch_reason.set(match v.slept.replace(0) {
                0 => dispatch::PREEMPTED,
                _ => dispatch::CEDED,
            });
            if v.dispatch_counter.get() != 0
                && (v.every_dispatch.get() != 0
                    || v.ready_ticks.get() - v.told_ticks.get() >= STOLEN_NOTE)
            {
                v.entry_wanted.set(1);
                v.attention.set(1);
            }
        } else if v.rest.get() == rest::NONE && v.pause.get() != pause::PAUSED {
            // Its own work or that of a server for it is put off.
            v.ready_since.set(now);
        }
        let at = v.dispatch_counter.get();
        if at != 0 {
            let count = u32::from_be(self.m.read_half(at)).wrapping_add(1);
            self.m.write_half(at, count.to_be());
        }
    }

    /// The running guest made a hypercall.
    pub fn guest_hypercall(&self) {
        let Some(t) = self.current() else { return };
        let Some(r) = self.vcpu_of(t) else { return };
        let v = self.at(r);
        let gpr = &self.at(t).context.gpr;
        let number = gpr[3].get();
        v.exit.set(outstanding::HYPERCALL);
        let route = hypercall_index(number)
            .map(|i| v.hypercall_routes[i].get())
            .and_then(|route| v.routes.get(usize::from(route).wrapping_sub(1)));
        if let Some(slot) = route
            && let Cap::Endpoint { ep, badge, .. } = slot.cap()
        {
            v.exit_info.set(MessageInfo::new(number, 0, 0, 8).0);
            for i in 0..8 {
                v.exit_words[i].set(gpr[reg::MR0 + i].get());
            }
            self.call_server(t, ep, badge);
            return;
        }
        let mut words = [0; 8];
        for (i, w) in words.iter_mut().enumerate() {
            *w = gpr[3 + i].get();
        }
        self.exit_to_parent(t, v, GuestExit::Hypercall, &words);
    }

    /// `sc 1` of the guest's user mode: an ordinary system call interrupt of the guest.
    pub fn reflect_system_call(&self) {
        if let Some(t) = self.current()
            && let Some(r) = self.vcpu_of(t)
        {
            // 0xc00 is a vector that `inject` takes.
            let _ = self.inject(self.at(r), t, [0xc00, 0, 0, 0]);
        }
    }

    /// A register of the running guest, as saved at its exit.
    pub fn guest_register(&self, index: usize) -> u64 {
        self.current()
            .and_then(|t| Some((t, self.vcpu_of(t)?)))
            .and_then(|(t, r)| self.vcpu_register(self.at(r), t, index))
            .map_or(0, Cell::get)
    }

    /// Something else left the guest.
    pub fn guest_exit(&self, exit: GuestExit, words: &[u64]) {
        let Some(t) = self.current() else { return };
        let Some(r) = self.vcpu_of(t) else { return };
        self.exit_of(t, self.at(r), exit, words);
    }

    fn exit_of(&self, t: Ref<Tcb>, v: &Vcpu, exit: GuestExit, words: &[u64]) {
        v.exit.set(outstanding::OTHER);
        let route = v.exit_routes[exit as usize & 15].get();
        if let Some(slot) = v.routes.get(usize::from(route).wrapping_sub(1))
            && let Cap::Endpoint { ep, badge, .. } = slot.cap()
        {
            self.set_exit_message(v, exit, words);
            // Not a call of a channel: an exit of this vCPU.
            let badge = partita_abi::badge::FAULT | (badge >> 32) & 0xffff;
            self.call_server(t, ep, badge);
        } else {
            self.exit_to_parent(t, v, exit, words);
        }
    }

    fn set_exit_message(&self, v: &Vcpu, exit: GuestExit, words: &[u64]) {
        let length = words.len().min(v.exit_words.len());
        v.exit_info
            .set(MessageInfo::new(exit as u64, 0, 0, length as u64).0);
        for (to, from) in v.exit_words.iter().zip(words) {
            to.set(*from);
        }
    }

    fn exit_to_parent(&self, t: Ref<Tcb>, v: &Vcpu, exit: GuestExit, words: &[u64]) {
        self.set_exit_message(v, exit, words);
        match self.at(self.tcb_slot(t, tcb_slot::FAULT)).cap() {
            Cap::Endpoint { ep, badge, .. } => self.call_server(t, ep, badge),
            _ => {
                self.make_unready(t);
                self.set_state(t, ThreadState::Inactive);
            }
        }
    }

    fn call_server(&self, t: Ref<Tcb>, ep: Ref<crate::object::Endpoint>, badge: u64) {
        let flags = send_flags::CALL | send_flags::GRANT_REPLY;
        self.make_unready(t);
        self.send_ipc(
            t,
            ep,
            Send {
                badge,
                flags,
                blocking: true,
                donate: true,
            },
        );
    }

    /// The message of a vCPU's outstanding exit goes to its server.
    pub(crate) fn transfer_exit(&self, v: &Vcpu, badge: u64, receiver: Ref<Tcb>) {
        let info = MessageInfo(v.exit_info.get());
        for i in 0..info.length() as usize {
            self.set_message_register(receiver, i, v.exit_words[i & 7].get());
        }
        self.set_received(receiver, badge, info);
    }

    /// The server of a vCPU's exit answers (the thread has its scheduling context back).
    pub(crate) fn vcpu_reply(&self, t: Ref<Tcb>, r: Ref<Vcpu>, server: Ref<Tcb>) {
        let v = self.at(r);
        let info = MessageInfo(self.at(server).context.gpr[reg::INFO].get());
        let label = info.label();
        let length = info.length() as usize;
        let gpr = &self.at(t).context.gpr;
        let word = |i: usize| self.message_register(server, i).unwrap_or(0);
        let action = ReplyAction::from_number(label >> 48);
        if v.pause.get() == pause::PAUSED && action != Some(ReplyAction::Stop) {
            // The answer to the `Paused` exit: it goes on.
            v.pause.set(pause::NONE);
        }
        let results = match action {
            Some(ReplyAction::Inject) => length.min(4),
            _ => length,
        };
        let bad = action.is_none()
            || length > 8
            || action == Some(ReplyAction::Inject) && length != 8
            || info.extra_caps() != 0;
        if bad {
            self.exit_to_parent(t, v, GuestExit::BadReply, &[info.0, v.exit.get()]);
            return;
        }
        if v.exit.replace(outstanding::NONE) == outstanding::HYPERCALL {
            // The status is the label's low 48 bits, sign-extended.
            gpr[3].set(((label << 16) as i64 >> 16) as u64);
            for i in 0..results {
                gpr[reg::MR0 + i].set(word(i));
            }
        }
        match action {
            Some(ReplyAction::Inject) => {
                let words = [word(4), word(5), word(6), word(7)];
                if self.inject(v, t, words).is_err() {
                    v.exit.set(outstanding::OTHER);
                    self.exit_to_parent(t, v, GuestExit::BadReply, &[info.0, 0]);
                    return;
                }
                self.run_vcpu(t);
            }
            Some(ReplyAction::Yield) => {
                self.set_state(t, ThreadState::Running);
                if self.schedulable(t) {
                    self.enqueue(t, false);
                    self.choose_again();
                }
            }
            Some(ReplyAction::Idle) => self.idle_vcpu(v, t),
            Some(ReplyAction::Stop) => {
                // A pause that is wanted wins: else a kick from before it would undo the stop.
                if v.pause.get() != pause::WANTED && v.latch.replace(0) != 0 {
                    self.run_vcpu(t);
                } else {
                    v.rest.set(rest::STOPPED);
                    self.set_state(t, ThreadState::Inactive);
                    self.settle_pause(v);
                }
            }
            _ => self.run_vcpu(t),
        }
    }

    fn run_vcpu(&self, t: Ref<Tcb>) {
        self.set_state(t, ThreadState::Running);
        self.make_ready(t);
    }

    /// H_CEDE and its like: interrupts on, and sleep until something happens.
    fn idle_vcpu(&self, v: &Vcpu, t: Ref<Tcb>) {
        let context = &self.at(t).context;
        context.msr.set(context.msr.get() | msr::EE);
        if self.has_event(v) {
            self.run_vcpu(t);
            return;
        }
        v.rest.set(rest::IDLE);
        v.slept.set(1);
        self.set_state(t, ThreadState::Inactive);
        self.settle_pause(v);
        self.wake_by_decrementer(v);
    }

    fn wake_by_decrementer(&self, v: &Vcpu) {
        if let Some(timer) = self.m.address_of(&v.timer) {
            self.disarm(timer);
            self.arm(timer, v.spr[register::DEC_EXPIRES - register::SRR0].get());
        }
    }

    /// Whether a vCPU has no reason to sleep. Takes the latch.
    fn has_event(&self, v: &Vcpu) -> bool {
        let expires = v.spr[register::DEC_EXPIRES - register::SRR0].get();
        v.latch.replace(0) != 0
            || v.line.get() != 0
            || v.injected[0].get() != 0
            || expires <= self.m.now()
    }

    /// An event for an idle vCPU.
    pub(crate) fn wake_vcpu(&self, r: Ref<Vcpu>) {
        let v = self.at(r);
        if v.rest.get() != rest::IDLE || v.pause.get() == pause::PAUSED {
            return;
        }
        if let Some(t) = v.tcb.get() {
            self.end_rest(v, t);
        }
    }

    /// An idle or stopped vCPU goes on.
    fn end_rest(&self, v: &Vcpu, t: Ref<Tcb>) {
        if v.timer.armed.get() != 0
            && let Some(timer) = self.m.address_of(&v.timer)
        {
            self.disarm(timer);
        }
        v.rest.set(rest::NONE);
        v.ready_since.set(self.m.now());
        self.run_vcpu(t);
    }

    /// The thread of a vCPU is stopped by its own capability: nothing wakes it but that.
    pub(crate) fn end_sleep(&self, r: Ref<Vcpu>) {
        let v = self.at(r);
        if v.rest.get() == rest::IDLE
            && let Some(timer) = self.m.address_of(&v.timer)
        {
            self.disarm(timer);
            v.rest.set(rest::NONE);
        }
    }

    /// The thread of a vCPU is started by its own capability: what the vCPU rested for is over. A rest
    /// is only ever that of an inactive thread.
    pub(crate) fn restart_vcpu(&self, r: Ref<Vcpu>) {
        let v = self.at(r);
        if let Some(timer) = self.m.address_of(&v.timer) {
            self.disarm(timer);
        }
        v.rest.set(rest::NONE);
        if v.pause.get() == pause::PAUSED {
            v.pause.set(pause::NONE);
        }
        v.ready_since.set(self.m.now());
    }

    /// An exit ends without an answer: a hypercall is made again, any other exit happens again.
    pub(crate) fn cancel_exit(&self, t: Ref<Tcb>, r: Ref<Vcpu>) {
        if self.at(r).exit.replace(outstanding::NONE) == outstanding::HYPERCALL {
            self.rewind(t);
        }
    }

    /// Wakes an idle or stopped vCPU. One that runs is told at once, by a doorbell if another core runs it: it leaves
    /// the guest and looks at what has changed; and its next sleep or stop is none.
    fn kick_vcpu(&self, v: &Vcpu, t: Ref<Tcb>) {
        match v.rest.get() {
            rest::NONE => {
                v.latch.set(1);
                v.attention.set(1);
                self.nudge(t);
            }
            _ if v.pause.get() == pause::PAUSED => v.latch.set(1),
            _ => self.end_rest(v, t),
        }
    }

    /// Whether registers may be written: paused (its `Paused` exit may still be out), stopped, or
    /// its thread was suspended.
    fn at_rest(&self, v: &Vcpu, t: Ref<Tcb>) -> bool {
        v.pause.get() == pause::PAUSED
            || self.state(t) == ThreadState::Inactive && v.rest.get() != rest::IDLE
    }

    fn settle_pause(&self, v: &Vcpu) {
        if v.pause.get() == pause::WANTED {
            v.pause.set(pause::PAUSED);
        }
    }

    /// Asks for a pause: true if the vCPU is paused now; else a `Paused` exit follows.
    fn pause_vcpu(&self, v: &Vcpu, t: Ref<Tcb>) -> bool {
        if v.pause.get() == pause::PAUSED {
            return true;
        }
        v.pause.set(pause::WANTED);
        v.attention.set(1);
        match self.state(t) {
            // Idle or stopped: it stays so after Resume.
            ThreadState::Inactive => {
                v.pause.set(pause::PAUSED);
                true
            }
            // It leaves the guest, and its next entry tells the parent.
            _ if self.running_elsewhere(t).is_some() => {
                self.nudge(t);
                false
            }
            // Out of the guest with no call in flight.
            ThreadState::Running | ThreadState::Restart if v.exit.get() == outstanding::NONE => {
                self.make_unready(t);
                self.set_state(t, ThreadState::Inactive);
                v.pause.set(pause::PAUSED);
                true
            }
            _ => false,
        }
    }

    fn resume_vcpu(&self, v: &Vcpu, t: Ref<Tcb>) {
        let paused = v.pause.replace(pause::NONE) == pause::PAUSED;
        if self.state(t) != ThreadState::Inactive {
            // The answer to a `Paused` exit that is still out lets it go on.
            if !paused {
                v.latch.set(1);
            }
            return;
        }
        match v.rest.get() {
            // Idle stays idle; what came meanwhile wakes it.
            rest::IDLE if !paused => v.latch.set(1),
            // The decrementer may have been written.
            rest::IDLE if !self.has_event(v) => self.wake_by_decrementer(v),
            rest::NONE if !paused => v.latch.set(1),
            _ => self.end_rest(v, t),
        }
    }

    /// What must happen before a vCPU enters the guest; false if it does not enter now.
    pub(crate) fn prepare_entry(&self, t: Ref<Tcb>, r: Ref<Vcpu>) -> bool {
        let v = self.at(r);
        let Some(g) = self.follow(&v.gspace) else {
            self.make_unready(t);
            self.set_state(t, ThreadState::Inactive);
            return false;
        };
        if v.pause.get() == pause::WANTED {
            v.pause.set(pause::PAUSED);
            self.exit_of(t, v, GuestExit::Paused, &[]);
            return false;
        }
        if g.poisoned.get() != 0 || g.hpt.get() == 0 {
            self.exit_of(t, v, GuestExit::HptDead, &[]);
            return false;
        }
        let context = &self.at(t).context;
        if v.entry_wanted.replace(0) != 0 {
            v.told_ticks.set(v.ready_ticks.get());
            let words = [
                context.pc.get(),
                context.msr.get(),
                v.ready_ticks.get(),
                v.dispatch_reason.replace(dispatch::NONE),
                self.core.id.get(),
                self.spr(v, register::TB_OFFSET).get(),
            ];
            self.exit_of(t, v, GuestExit::Entry, &words);
            return false;
        }
        if v.injected[0].get() != 0 {
            let words = [0, 1, 2, 3].map(|i| v.injected[i].get());
            v.injected[0].set(0);
            // Checked when it was accepted.
            let _ = self.inject(v, t, words);
        }
        let mut mode = v.spr[register::LPCR - register::SRR0].get() & lpcr::CHOICE;
        if g.intercept.get() != 0 {
            mode |= lpcr::VPM1;
        }
        if v.line.get() != 0 {
            if context.msr.get() & msr::EE != 0 {
                // The line stays up until the presenter lowers it.
                let _ = self.inject(v, t, [0x500, 0, 0, 0]);
            } else {
                mode |= lpcr::MER;
            }
        }
        v.lpcr.set(mode);
        // While the line is up, each entry decides anew how it is told. Ways of its own are the slow path's.
        v.attention.set(v.line.get() | v.own_ways.get());
        true
    }

    /// Delivers an interrupt to the guest: [vector, SRR1 bits, DAR, DSISR]. The error is the number of the
    /// wrong word.
    fn inject(&self, v: &Vcpu, t: Ref<Tcb>, words: [u64; 4]) -> Result<(), u64> {
        check_interrupt(&words)?;
        let [vector, bits, dar, dsisr] = words;
        let c = &self.at(t).context;
        let spr = |i: usize| &v.spr[i - register::SRR0];
        let old = c.msr.get();
        spr(register::SRR0).set(c.pc.get());
        spr(register::SRR1).set(old & !msr::SRR1_DEFINED | bits);
        if matches!(vector, 0x200 | 0x300 | 0x380 | 0x600) {
            spr(register::DAR).set(dar);
            spr(register::DSISR).set(dsisr);
        }
        let mode = spr(register::LPCR).get();
        let relocated = mode & lpcr::AIL == lpcr::AIL
            && old & (msr::IR | msr::DR) == msr::IR | msr::DR
            && !matches!(vector, 0x100 | 0x200);
        let mut new = msr::SF | msr::ME;
        if mode & lpcr::ILE != 0 {
            new |= msr::LE;
        }
        if relocated {
            new |= msr::IR | msr::DR;
        }
        c.pc.set(if relocated {
            0xc000_0000_0000_4000 | vector
        } else {
            vector
        });
        c.msr.set(new);
        Ok(())
    }

    fn vcpu_register(&self, v: &'k Vcpu, t: Ref<Tcb>, i: usize) -> Option<&'k Cell<u64>> {
        let c = &self.at(t).context;
        Some(match i {
            register::R0..=register::R31 => &c.gpr[i],
            register::PC => &c.pc,
            register::MSR => &c.msr,
            register::CR => &c.cr,
            register::LR => &c.lr,
            register::CTR => &c.ctr,
            register::XER => &c.xer,
            register::VS0_0..=register::VS63_1 => v.vsr.get(i - register::VS0_0)?,
            register::FPSCR => &v.fpscr,
            register::VSCR => &v.vscr,
            register::SLB0_ESID..=register::SLB31_VSID => v.slb.get(i - register::SLB0_ESID)?,
            _ => v.spr.get(i.checked_sub(register::SRR0)?)?,
        })
    }

    fn register_range(&self, args: &Args) -> Outcome<(usize, usize)> {
        let (first, count) = (self.arg(args, 0)?, self.arg(args, 1)?);
        let all = register::COUNT as u64;
        if first >= all {
            return Err(SysError::Range(0, all - 1).into());
        }
        if count == 0 || count > all - first {
            return Err(SysError::Range(1, all - first).into());
        }
        Ok((first as usize, count as usize))
    }

    fn read_vcpu(&self, r: Ref<Vcpu>, t: Ref<Tcb>, args: &Args) -> Outcome<usize> {
        let v = self.at(r);
        let (first, count) = self.register_range(args)?;
        let in_exit =
            v.exit.get() != outstanding::NONE && self.state(t) == ThreadState::BlockedOnReply;
        if !self.at_rest(v, t) && !in_exit {
            return Err(SysError::IllegalOperation.into());
        }
        if v.resident.get() != 0 {
            self.m.evict_vcpu(r);
        }
        for i in 0..count {
            let mut value = self.vcpu_register(v, t, first + i).map_or(0, Cell::get);
            if first + i == register::MSR {
                // POWER10 tells the level of a system call there.
                value &= !msr::SRR1_DEFINED;
            }
            if !self.set_message_register(args.thread, i, value) {
                return Ok(i);
            }
        }
        Ok(count)
    }

    fn write_vcpu(&self, r: Ref<Vcpu>, t: Ref<Tcb>, args: &Args) -> Outcome {
        let v = self.at(r);
        let (first, count) = self.register_range(args)?;
        if !self.at_rest(v, t) {
            return Err(SysError::IllegalOperation.into());
        }
        if args.length < count + 2 {
            return Err(SysError::Truncated.into());
        }
        if v.resident.get() != 0 {
            self.m.evict_vcpu(r);
        }
        for i in 0..count {
            let Some(cell) = self.vcpu_register(v, t, first + i) else {
                break;
            };
            let value = self.arg(args, 2 + i)?;
            if first + i == register::PC {
                // It goes on there when it is resumed, whatever it waited for.
                v.injected[0].set(0);
                if self.state(t) == ThreadState::Inactive {
                    v.exit.set(outstanding::NONE);
                }
                if v.rest.get() == rest::IDLE {
                    v.rest.set(rest::STOPPED);
                }
            }
            cell.set(match first + i {
                // What a guest may never have (DESIGN: the kernel filters every register value).
                register::MSR => value & !(msr::HV | msr::TM | msr::S) | msr::ME,
                register::LPCR => guest_lpcr(value),
                // No breakpoint in hypervisor state.
                register::CIABR if value & 3 == 3 => 0,
                register::CIABR => value,
                register::HFSCR => value & (FACILITIES | FACILITY_PM),
                // What the register behind it can do (SPEC 3.9).
                register::TB_OFFSET => {
                    value.wrapping_add(TB_OFFSET_UNIT - 1) & !(TB_OFFSET_UNIT - 1)
                }
                _ => value,
            });
            match first + i {
                register::TB_OFFSET | register::CIABR | register::HFSCR => self.choose_ways(v),
                slb @ register::SLB0_ESID..=register::SLB31_VSID => {
                    let used = (slb - register::SLB0_ESID) as u64 / 2 + 1;
                    v.slb_used.set(v.slb_used.get().max(used));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
