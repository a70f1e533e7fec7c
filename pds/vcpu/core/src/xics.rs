// SPDX-License-Identifier: BSD-2-Clause
//! Interrupt presentation (SPEC 2.6).
//!
//! What is presented is more favoured than the processor's priority; something better displaces it,
//! and the displaced or refused source waits (REJECTED) until its server's bar is lowered. The
//! external line of a vCPU is up exactly while something is presented to it: both change under one
//! lock, so instances on two cores cannot leave them apart.

use crate::icp::{Icp, SourceWord};
use crate::machine::{GuestMemory, Machine};
use crate::platform::Platform;
use crate::reply::{ReplyAction, Words};
use crate::state::{VcpuId, VcpuState};
use partita_instance::Guard;
use partita_instance::atomic::Ordering;
use partita_papr::hcall::status::{H_PARAMETER, H_SUCCESS};

/// XISR of an inter-processor interrupt.
pub const IPI_SOURCE: u32 = 2;
const NONE: u8 = 0xff;

/// A word set from outside that no sequence of events could have made, or an unknown number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidState;

impl<'a, M: Machine, G: GuestMemory> Platform<'a, M, G> {
    #[inline]
    fn lock_xics(&self) -> Guard<'a> {
        Guard::take(&self.shared.vm.xics_lock, self.instance)
    }

    #[inline]
    fn server(&self, server: u64) -> Option<(VcpuId, &'a VcpuState)> {
        let vcpu = self.vcpu(server)?;
        Some((vcpu, self.shared.vcpus.get(vcpu.0 as usize)?))
    }

    #[inline]
    fn load(state: &VcpuState) -> Icp {
        Icp::from_word(state.icp.load(Ordering::Relaxed))
    }

    /// Stores an ICP, and moves the line if `before` says that it stood otherwise.
    #[inline]
    fn store(&mut self, vcpu: VcpuId, state: &VcpuState, before: Icp, now: Icp) {
        state.icp.store(now.to_word(), Ordering::Relaxed);
        if (before.xisr != 0) != (now.xisr != 0) {
            self.machine.set_external_line(vcpu, now.xisr != 0);
        }
    }

    /// The source with an interrupt number of the guest.
    #[inline]
    fn source_index(&self, number: u64) -> Option<usize> {
        let index = number.checked_sub(u64::from(self.config.first_source))?;
        if index < self.shared.sources.len() as u64 {
            Some(index as usize)
        } else {
            None
        }
    }

    fn source(&self, index: usize) -> SourceWord {
        let word = self
            .shared
            .sources
            .get(index)
            .map(|s| s.word.load(Ordering::Relaxed));
        word.map_or(SourceWord::reset(false), SourceWord)
    }

    fn set_source(&self, index: usize, word: SourceWord) {
        if let Some(source) = self.shared.sources.get(index) {
            source.word.store(word.0, Ordering::Relaxed);
        }
    }

    /// Sends a source to its server, then what that displaced (its route may have changed since it
    /// was presented), and so on. It ends: each step presents something better than before to one
    /// server. Under the lock.
    fn deliver(&mut self, index: usize) {
        let mut next = Some(index);
        while let Some(index) = next {
            next = self.deliver_one(index);
        }
    }

    fn deliver_one(&mut self, index: usize) -> Option<usize> {
        let mut source = self.source(index);
        source.set(SourceWord::REJECTED, false);
        let priority = source.live_priority();
        let target = self.server(u64::from(source.server()));
        let fallen = source.is(SourceWord::LEVEL) && !source.is(SourceWord::PENDING);
        let Some((vcpu, state)) = target.filter(|_| priority != NONE && !fallen) else {
            // Off or over: a message is kept, a level speaks for itself.
            source.set(SourceWord::PRESENTED, false);
            if !source.is(SourceWord::LEVEL) {
                source.set(SourceWord::PENDING, true);
            }
            self.set_source(index, source);
            return None;
        };
        source.set(SourceWord::PRESENTED, true);
        if !source.is(SourceWord::LEVEL) {
            source.set(SourceWord::PENDING, false);
        }
        let before = Self::load(state);
        let mut icp = before;
        let mut displaced = None;
        if priority < icp.cppr && priority < icp.pending {
            icp.xisr = self.config.first_source.wrapping_add(index as u32);
            icp.pending = priority;
            self.set_source(index, source);
            // An IPI is still in MFRR.
            displaced = self
                .source_index(u64::from(before.xisr))
                .filter(|other| *other != index);
        } else {
            source.set(SourceWord::REJECTED, true);
            self.set_source(index, source);
            icp.resend = true;
        }
        self.store(vcpu, state, before, icp);
        displaced
    }

    /// Presents a request of another processor if it is better than what is presented; answers the
    /// source that it displaces. Under the lock.
    #[inline]
    fn check_ipi(&self, icp: &mut Icp) -> Option<usize> {
        if icp.mfrr >= icp.cppr || icp.mfrr >= icp.pending {
            return None;
        }
        let displaced = icp.xisr;
        icp.xisr = IPI_SOURCE;
        icp.pending = icp.mfrr;
        self.source_index(u64::from(displaced))
    }

    /// Sends again what waits for `vcpu`. At most as many steps as there are sources.
    #[cold]
    #[inline(never)]
    fn resend(&mut self, vcpu: VcpuId, state: &VcpuState) {
        let mut icp = Self::load(state);
        icp.resend = false;
        state.icp.store(icp.to_word(), Ordering::Relaxed);
        for index in 0..self.shared.sources.len() {
            let source = self.source(index);
            if source.is(SourceWord::REJECTED) && source.server() == vcpu.0 {
                self.deliver(index);
            }
        }
    }

    /// Moves the bar: what no longer fits goes back, what now fits is presented. Under the lock.
    #[inline]
    fn set_cppr(&mut self, vcpu: VcpuId, state: &VcpuState, cppr: u8) {
        let before = Self::load(state);
        let mut icp = before;
        icp.cppr = cppr;
        let mut displaced = None;
        if icp.xisr != 0 && icp.pending >= cppr {
            icp.xisr = 0;
            icp.pending = NONE;
            displaced = self.source_index(u64::from(before.xisr));
        }
        // Only one of the two can have displaced something.
        displaced = self.check_ipi(&mut icp).or(displaced);
        self.store(vcpu, state, before, icp);
        if let Some(index) = displaced {
            self.deliver(index);
        }
        if Self::load(state).resend && cppr > before.cppr {
            self.resend(vcpu, state);
        }
    }

    /// H_XIRR: accepts what is presented.
    #[inline(never)]
    pub(crate) fn h_xirr(&mut self, caller: VcpuId) -> ReplyAction {
        match self.accept(caller) {
            Some(xirr) => ReplyAction::words(Words::one(xirr)),
            None => ReplyAction::status(H_PARAMETER),
        }
    }

    /// H_XIRR_X: also answers the timebase.
    #[inline(never)]
    pub(crate) fn h_xirr_x(&mut self, caller: VcpuId) -> ReplyAction {
        match self.accept(caller) {
            Some(xirr) => ReplyAction::words(Words::two(xirr, self.timebase())),
            None => ReplyAction::status(H_PARAMETER),
        }
    }

    #[inline]
    fn accept(&mut self, caller: VcpuId) -> Option<u64> {
        let state = self.shared.vcpus.get(caller.0 as usize)?;
        let _guard = self.lock_xics();
        let icp = Self::load(state);
        if icp.xisr != 0 {
            let now = Icp {
                cppr: icp.pending,
                xisr: 0,
                pending: NONE,
                ..icp
            };
            self.store(caller, state, icp, now);
        }
        Some(icp.xirr())
    }

    /// H_CPPR.
    #[inline(never)]
    pub(crate) fn h_cppr(&mut self, caller: VcpuId, cppr: u64) -> ReplyAction {
        let Some((vcpu, state)) = self.server(u64::from(caller.0)) else {
            return ReplyAction::status(H_PARAMETER);
        };
        let _guard = self.lock_xics();
        self.set_cppr(vcpu, state, cppr as u8);
        ReplyAction::status(H_SUCCESS)
    }

    /// H_EOI: the bar goes back to the top byte, the source may speak again.
    #[inline(never)]
    pub(crate) fn h_eoi(&mut self, caller: VcpuId, xirr: u64) -> ReplyAction {
        let Some((vcpu, state)) = self.server(u64::from(caller.0)) else {
            return ReplyAction::status(H_PARAMETER);
        };
        let number = xirr & 0xff_ffff;
        let index = self.source_index(number);
        if index.is_none() && number != 0 && number != u64::from(IPI_SOURCE) {
            return ReplyAction::status(H_PARAMETER);
        }
        let _guard = self.lock_xics();
        self.set_cppr(vcpu, state, (xirr >> 24) as u8);
        if let Some(index) = index {
            self.end_of_interrupt(index);
        }
        ReplyAction::status(H_SUCCESS)
    }

    fn end_of_interrupt(&mut self, index: usize) {
        let mut source = self.source(index);
        if !source.is(SourceWord::PRESENTED) || source.is(SourceWord::REJECTED) {
            return; // not this guest's to end: it was not accepted
        }
        let again = match source.is(SourceWord::LEVEL) {
            true => source.is(SourceWord::PENDING),
            false => source.is(SourceWord::QUEUED),
        };
        source.set(SourceWord::PRESENTED | SourceWord::QUEUED, false);
        self.set_source(index, source);
        if again {
            self.deliver(index);
        }
    }

    /// H_IPI: `mfrr` becomes the most favoured request for `server`.
    #[inline(never)]
    pub(crate) fn h_ipi(&mut self, server: u64, mfrr: u64) -> ReplyAction {
        let Some((vcpu, state)) = self.server(server) else {
            return ReplyAction::status(H_PARAMETER);
        };
        let _guard = self.lock_xics();
        let before = Self::load(state);
        let mut icp = Icp {
            mfrr: mfrr as u8,
            ..before
        };
        let displaced = self.check_ipi(&mut icp);
        self.store(vcpu, state, before, icp);
        if let Some(index) = displaced {
            self.deliver(index);
        }
        ReplyAction::status(H_SUCCESS)
    }

    /// H_IPOLL: XIRR and MFRR of a server, with no effect.
    #[inline(never)]
    pub(crate) fn h_ipoll(&mut self, server: u64) -> ReplyAction {
        let Some((_, state)) = self.server(server) else {
            return ReplyAction::status(H_PARAMETER);
        };
        let icp = Self::load(state);
        ReplyAction::words(Words::two(icp.xirr(), u64::from(icp.mfrr)))
    }

    /// A message of source `number`, as its interrupt number in the guest; false if there is none
    /// or it is a level. Messages that come before the EOI of an earlier one become one.
    pub fn trigger(&mut self, number: u32) -> bool {
        let Some(index) = self.source_index(u64::from(number)) else {
            return false;
        };
        let _guard = self.lock_xics();
        let mut source = self.source(index);
        if source.is(SourceWord::LEVEL) {
            return false;
        }
        if source.is(SourceWord::PRESENTED) {
            source.set(SourceWord::QUEUED, true);
            self.set_source(index, source);
        } else {
            self.deliver(index);
        }
        true
    }

    /// The level of source `number`; false if there is none or it sends messages.
    pub fn set_level(&mut self, number: u32, up: bool) -> bool {
        let Some(index) = self.source_index(u64::from(number)) else {
            return false;
        };
        let _guard = self.lock_xics();
        let mut source = self.source(index);
        if !source.is(SourceWord::LEVEL) {
            return false;
        }
        source.set(SourceWord::PENDING, up);
        if !up && source.is(SourceWord::REJECTED) {
            // It had not been accepted: nothing is left to tell.
            source.set(SourceWord::REJECTED | SourceWord::PRESENTED, false);
        }
        self.set_source(index, source);
        if up && !source.is(SourceWord::PRESENTED) {
            self.deliver(index);
        }
        true
    }

    /// RTAS ibm,set-xive, ibm,int-on, ibm,int-off: changes the route of a source. False if there is
    /// no such source.
    pub(crate) fn change_source(
        &mut self,
        number: u32,
        change: impl FnOnce(&mut SourceWord),
    ) -> bool {
        let Some(index) = self.source_index(u64::from(number)) else {
            return false;
        };
        let _guard = self.lock_xics();
        let mut source = self.source(index);
        change(&mut source);
        self.set_source(index, source);
        let waits = source.is(SourceWord::REJECTED);
        let held = source.is(SourceWord::PENDING) && !source.is(SourceWord::PRESENTED);
        if waits || held {
            self.deliver(index);
        }
        true
    }

    /// RTAS ibm,get-xive: server and live priority.
    pub(crate) fn xive(&self, number: u32) -> Option<(u32, u8)> {
        let source = self.source(self.source_index(u64::from(number))?);
        Some((source.server(), source.live_priority()))
    }

    /// ONE_REG ICP state (SPEC 3.9).
    pub fn icp(&self, vcpu: VcpuId) -> Option<Icp> {
        let icp = Self::load(self.shared.vcpus.get(vcpu.0 as usize)?);
        Some(Icp {
            resend: false,
            ..icp
        })
    }

    /// Sets an ICP. The sources must have been set before it: one that waits is sent now.
    pub fn set_icp(&mut self, vcpu: VcpuId, word: u64) -> Result<(), InvalidState> {
        let state = self.shared.vcpus.get(vcpu.0 as usize).ok_or(InvalidState)?;
        let icp = Icp {
            resend: true,
            ..Icp::from_word(word)
        };
        let possible = match icp.xisr {
            0 => icp.pending == NONE,
            IPI_SOURCE => icp.pending == icp.mfrr && icp.pending < icp.cppr,
            number => icp.pending < icp.cppr && self.source_index(u64::from(number)).is_some(),
        };
        if !possible {
            return Err(InvalidState);
        }
        let _guard = self.lock_xics();
        let before = Self::load(state);
        let mut icp = icp;
        let displaced = self.check_ipi(&mut icp);
        self.store(vcpu, state, before, icp);
        if let Some(index) = displaced {
            self.deliver(index);
        }
        self.resend(vcpu, state);
        Ok(())
    }

    /// A source's word (SPEC 3.9).
    pub fn source_word(&self, number: u32) -> Option<u64> {
        let index = self.source_index(u64::from(number))?;
        let mut source = self.source(index);
        if source.is(SourceWord::REJECTED) {
            // The register has no bit for it: a message (or level) that is still to be sent.
            source.set(SourceWord::PRESENTED, false);
            source.set(SourceWord::PENDING, true);
        }
        Some(source.0 & SourceWord::PUBLIC)
    }

    /// Sets a source, before the ICPs. One that is presented to nobody is sent again.
    pub fn set_source_word(&mut self, number: u32, word: u64) -> Result<(), InvalidState> {
        let index = self.source_index(u64::from(number)).ok_or(InvalidState)?;
        if word & !SourceWord::PUBLIC != 0 || self.server(word & 0xffff_ffff).is_none() {
            return Err(InvalidState);
        }
        let _guard = self.lock_xics();
        self.set_source(index, SourceWord(word));
        let source = SourceWord(word);
        if source.is(SourceWord::PENDING) && !source.is(SourceWord::PRESENTED) {
            self.deliver(index);
        }
        Ok(())
    }

    /// All presenters and sources as after a reset; `level(index)` says which sources are levels.
    pub(crate) fn reset_xics(&mut self, level: impl Fn(usize) -> bool) {
        let _guard = self.lock_xics();
        for (index, source) in self.shared.sources.iter().enumerate() {
            source
                .word
                .store(SourceWord::reset(level(index)).0, Ordering::Relaxed);
        }
        for (number, state) in (0..).zip(self.shared.vcpus) {
            state.icp.store(Icp::RESET.to_word(), Ordering::Relaxed);
            self.machine.set_external_line(VcpuId(number), false);
        }
    }
}
