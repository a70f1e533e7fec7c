// SPDX-License-Identifier: BSD-2-Clause
//! Rings in shared memory between one writer and one reader, with the names of rust-sel4's
//! `sel4-shared-ring-buffer`.
//!
//! Neither side trusts the other. Each keeps its own index in memory of its own and reads only the
//! other's index from the ring: one that says that more elements are there than fit, or fewer than
//! before, is a [`PeerMisbehaviorError`], whatever is written to the memory. Elements are copied out
//! once.
//!
//! Indices run freely (modulo 2^32), as in sDDF; element `i` lies at `i % RING_BUFFER_SIZE`.
#![cfg_attr(not(test), no_std)]

mod descriptor;
mod ring;
pub mod roles;

pub use descriptor::Descriptor;
pub use ring::{PeerMisbehaviorError, RawRingBuffer, RingBuffer};
pub use roles::{InitialState, InitializationStrategy, RingBuffersRole};

use roles::RingBufferRole;
use sel4_shared_memory::SharedMemoryRef;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Elements of a ring; one fewer can be in it at a time.
pub const RING_BUFFER_SIZE: usize = 512;

/// A pair of rings: `free` carries empty buffers one way, `used` filled ones the other. `notify`
/// tells the other side.
#[derive(Debug)]
pub struct RingBuffers<'a, R: RingBuffersRole, F, T = Descriptor> {
    free: RingBuffer<'a, R::FreeRole, T>,
    used: RingBuffer<'a, R::UsedRole, T>,
    notify: F,
}

impl<'a, R: RingBuffersRole, F, T: Copy + FromBytes + IntoBytes + Immutable>
    RingBuffers<'a, R, F, T>
{
    /// From its parts.
    pub fn new(
        free: RingBuffer<'a, R::FreeRole, T>,
        used: RingBuffer<'a, R::UsedRole, T>,
        notify: F,
    ) -> Self {
        RingBuffers { free, used, notify }
    }

    /// From shared memory: the side that provides buffers empties the rings, the other one starts
    /// with what is there.
    pub fn from_ptrs_using_default_initialization_strategy_for_role(
        free: SharedMemoryRef<'a, RawRingBuffer<T>>,
        used: SharedMemoryRef<'a, RawRingBuffer<T>>,
        notify: F,
    ) -> Self {
        let strategy = R::default_initialization_strategy();
        Self::new(
            RingBuffer::new(free, strategy),
            RingBuffer::new(used, strategy),
            notify,
        )
    }

    /// Empty buffers.
    pub fn free(&self) -> &RingBuffer<'a, R::FreeRole, T> {
        &self.free
    }

    /// Filled buffers.
    pub fn used(&self) -> &RingBuffer<'a, R::UsedRole, T> {
        &self.used
    }

    /// Empty buffers.
    pub fn free_mut(&mut self) -> &mut RingBuffer<'a, R::FreeRole, T> {
        &mut self.free
    }

    /// Filled buffers.
    pub fn used_mut(&mut self) -> &mut RingBuffer<'a, R::UsedRole, T> {
        &mut self.used
    }

    /// Tells the other side.
    pub fn notify<U>(&self) -> U
    where
        F: Fn() -> U,
    {
        (self.notify)()
    }

    /// Tells the other side.
    pub fn notify_mut<U>(&mut self) -> U
    where
        F: FnMut() -> U,
    {
        (self.notify)()
    }
}

// The roles of a ring are named in signatures above.
const _: fn() = || {
    fn is_role<R: RingBufferRole>() {}
    is_role::<roles::Read>();
    is_role::<roles::Write>();
};

#[cfg(test)]
mod tests {
    use super::*;
    use roles::{Provide, Use};

    #[test]
    fn buffers_go_round() {
        let mut free_memory = RawRingBuffer::<Descriptor>::default();
        let mut used_memory = RawRingBuffer::<Descriptor>::default();
        let notified = core::cell::Cell::new(0);
        // SAFETY: both sides use volatile and atomic accesses; the memory outlives them.
        let share = |m: *mut RawRingBuffer<Descriptor>| unsafe {
            SharedMemoryRef::new(core::ptr::NonNull::new(m).unwrap())
        };
        let (free, used) = (&raw mut free_memory, &raw mut used_memory);
        let notify = || notified.set(notified.get() + 1);
        let mut client =
            RingBuffers::<Provide, _>::from_ptrs_using_default_initialization_strategy_for_role(
                share(free),
                share(used),
                notify,
            );
        let mut server =
            RingBuffers::<Use, _>::from_ptrs_using_default_initialization_strategy_for_role(
                share(free),
                share(used),
                notify,
            );

        let buffer = Descriptor::new(0x1000, 64, 7);
        client
            .free_mut()
            .enqueue_and_commit(buffer)
            .unwrap()
            .unwrap();
        client.notify();
        assert_eq!(server.free_mut().dequeue(), Ok(Some(buffer)));
        server
            .used_mut()
            .enqueue_and_commit(buffer)
            .unwrap()
            .unwrap();
        server.notify_mut();
        assert_eq!(client.used_mut().dequeue(), Ok(Some(buffer)));
        assert_eq!(client.used_mut().dequeue(), Ok(None));
        assert_eq!(notified.get(), 2);
    }
}
