// SPDX-License-Identifier: BSD-2-Clause
//! The state that all instances share. All zeros is valid memory for [`crate::Platform::reset`].

use partita_instance::atomic::AtomicU64;

/// A vCPU of this guest, checked by [`crate::Platform::vcpu`]. It is the hardware server number of
/// the device tree and of XICS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VcpuId(pub(crate) u32);

impl VcpuId {
    /// The number.
    #[inline]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// The guest as a whole: 128 bytes.
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
#[cfg_attr(not(loom), repr(C, align(128)))]
#[derive(Default)]
pub struct VmState {
    /// Lock bit of ICPs and sources: 0 or holder + 1.
    pub(crate) xics_lock: AtomicU64,
    /// Running vCPUs << 32 | joined vCPUs.
    pub(crate) joined: AtomicU64,
    /// Guest's clock minus the host's, seconds (two's complement).
    pub(crate) clock_offset: AtomicU64,
    /// Guest's timebase minus the machine's, ticks (two's complement), of all vCPUs.
    pub(crate) tb_offset: AtomicU64,
}

/// RTAS state of a vCPU.
pub(crate) mod run {
    /// Never started, or stopped for good.
    pub(crate) const STOPPED: u64 = 0;
    /// The guest's.
    pub(crate) const RUNNING: u64 = 1;
    /// stop-self was called; the kernel may not have seen it yet.
    pub(crate) const STOPPING: u64 = 2;
    /// start-cpu is at work.
    pub(crate) const STARTING: u64 = 3;
}

/// What a vCPU waits for.
pub(crate) mod wake {
    /// Nothing.
    pub(crate) const AWAKE: u64 = 0;
    /// A prod came first: the next H_CEDE returns at once.
    pub(crate) const PRODDED: u64 = 1;
    /// H_CEDE. Stays until a prod or the next H_CEDE: an interrupt wakes without our knowledge.
    pub(crate) const CEDED: u64 = 2;
    /// H_JOIN.
    pub(crate) const JOINED: u64 = 3;
}

/// Work for the next `Paused` exit.
pub(crate) mod deferred {
    pub(crate) const CIABR: u64 = 1;
    pub(crate) const SPRG0: u64 = 2;
    pub(crate) const HFSCR: u64 = 4;
    /// The operator wants the vCPU to stay paused.
    pub(crate) const HOLD: u64 = 8;
}

/// One vCPU: 128 bytes.
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
#[cfg_attr(not(loom), repr(C, align(128)))]
#[derive(Default)]
pub struct VcpuState {
    /// [`run`].
    pub(crate) run: AtomicU64,
    /// [`wake`].
    pub(crate) wake: AtomicU64,
    /// [`deferred`] bits.
    pub(crate) deferred: AtomicU64,
    pub(crate) ciabr: AtomicU64,
    pub(crate) sprg0: AtomicU64,
    /// HFSCR bits granted on demand.
    pub(crate) facilities: AtomicU64,
    /// ICP word (SPEC 3.9) and its private bits; under the XICS lock.
    pub(crate) icp: AtomicU64,
}

/// One interrupt source: 8 bytes, a word as in SPEC 3.9 and private bits; under the XICS lock.
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
#[derive(Default)]
#[repr(C)]
pub struct SourceState {
    pub(crate) word: AtomicU64,
}
