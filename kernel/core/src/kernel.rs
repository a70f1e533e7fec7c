// SPDX-License-Identifier: BSD-2-Clause
//! The kernel's view of everything: machine, global state and the core that it runs on.

use crate::machine::Machine;
use crate::object::{Core, Link, Object, Ref, Slot, Tcb};
use core::cell::Cell;
use partita_abi::limits;

/// An interrupt source that has a handler.
#[repr(C)]
pub struct Irq {
    /// Source number of the machine; valid while `used`.
    pub source: Cell<u64>,
    /// 1 while an IRQ handler capability exists.
    pub used: Cell<u64>,
    /// Core that it is routed to: that of the thread that acknowledged it last.
    pub core: Cell<u64>,
    /// 1 from the interrupt until Ack.
    pub pending_ack: Cell<u64>,
    /// Notification that it signals (a badged capability).
    pub notification: Slot,
}
impl Object for Irq {}

/// State that all cores share.
#[repr(C)]
pub struct Global {
    /// Per-core state.
    pub cores: [Core; limits::MAX_CORES],
    /// Handlers of interrupts.
    pub irqs: [Irq; limits::MAX_IRQS],
    /// Real addresses of the ASID pools. Where there is none: how many address spaces still have a PID
    /// of the last one (a number below 4096).
    pub asid_pools: [Cell<u64>; limits::MAX_ASID_POOLS],
    /// Real addresses of the GSpaces by LPID, 0 where there is none; LPID 0 is the host.
    pub gspaces: [Cell<u64>; limits::MAX_LPIDS],
    /// Cores that run.
    pub num_cores: Cell<u64>,
}
impl Object for Global {}

/// One kernel entry on one core. Made anew for each; costs nothing.
pub struct Kernel<'k, M: Machine> {
    /// The machine.
    pub m: &'k M,
    /// What all cores share.
    pub g: &'k Global,
    /// This core.
    pub core: &'k Core,
}

impl<M: Machine> Clone for Kernel<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M: Machine> Copy for Kernel<'_, M> {}

impl<'k, M: Machine> Kernel<'k, M> {
    /// The kernel as seen from `core`.
    #[inline(always)]
    pub fn new(m: &'k M, g: &'k Global, core: &'k Core) -> Self {
        Kernel { m, g, core }
    }

    /// The object behind a reference.
    #[inline(always)]
    pub(crate) fn at<T: Object>(&self, r: Ref<T>) -> &'k T {
        self.m.object(r.addr())
    }

    /// The object behind a link.
    #[inline(always)]
    pub(crate) fn follow<T: Object>(&self, l: &Link<T>) -> Option<&'k T> {
        l.get().map(|r| self.at(r))
    }

    /// The running thread.
    #[inline(always)]
    pub(crate) fn current(&self) -> Option<Ref<Tcb>> {
        self.core.current.get()
    }

    /// Core number `n`.
    pub(crate) fn core_state(&self, n: u64) -> &'k Core {
        self.g.cores.get(n as usize).unwrap_or(self.core)
    }
}
