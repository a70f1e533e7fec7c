// SPDX-License-Identifier: BSD-2-Clause
//! One ring.

use crate::RING_BUFFER_SIZE;
use crate::roles::{InitialState, InitializationStrategy, Read, RingBufferRole, Write};
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering};
use sel4_shared_memory::{SharedMemoryPtr, SharedMemoryRef, map_field};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// A ring as it lies in shared memory. All zeros is an empty ring.
#[derive(Debug, FromBytes, KnownLayout)]
#[repr(C)]
pub struct RawRingBuffer<T> {
    /// Elements written so far.
    pub write_index: AtomicU32,
    /// Elements read so far.
    pub read_index: AtomicU32,
    /// The elements.
    pub descriptors: [T; RING_BUFFER_SIZE],
}

impl<T: FromBytes> Default for RawRingBuffer<T> {
    fn default() -> Self {
        Self::new_zeroed()
    }
}

/// The other side moved its index where it cannot be.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct PeerMisbehaviorError(());

impl fmt::Display for PeerMisbehaviorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the other side of a ring moved its index where it cannot be")
    }
}

impl core::error::Error for PeerMisbehaviorError {}

/// One side of a ring.
pub struct RingBuffer<'a, R, T> {
    memory: SharedMemoryPtr<'a, RawRingBuffer<T>>,
    /// Our index is the truth, the other is the last legal value of the peer's.
    write_index: u32,
    read_index: u32,
    role: PhantomData<R>,
}

impl<R, T> fmt::Debug for RingBuffer<'_, R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingBuffer")
            .field("write_index", &self.write_index)
            .field("read_index", &self.read_index)
            .finish_non_exhaustive()
    }
}

const CAPACITY: u32 = RING_BUFFER_SIZE as u32 - 1;

impl<'a, R: RingBufferRole, T: Copy + FromBytes + IntoBytes + Immutable> RingBuffer<'a, R, T> {
    /// A side of the ring at `memory`.
    pub fn new(
        memory: SharedMemoryRef<'a, RawRingBuffer<T>>,
        strategy: InitializationStrategy,
    ) -> Self {
        let mut ring = RingBuffer {
            memory: memory.into_ptr(),
            write_index: 0,
            read_index: 0,
            role: PhantomData,
        };
        let (state, write) = match strategy {
            InitializationStrategy::ReadState => {
                let (write_index, read_index) = (ring.shared_write(), ring.shared_read());
                (
                    InitialState {
                        write_index: write_index.atomic_load(Ordering::Acquire),
                        read_index: read_index.atomic_load(Ordering::Acquire),
                    },
                    false,
                )
            }
            InitializationStrategy::UseState(state) => (state, false),
            InitializationStrategy::UseAndWriteState(state) => (state, true),
        };
        ring.write_index = state.write_index;
        ring.read_index = state.read_index;
        // A state that cannot be starts as an empty ring at our own index: the next look at the
        // peer's index reports it.
        if ring.filled() > CAPACITY {
            if R::WRITES {
                ring.read_index = ring.write_index;
            } else {
                ring.write_index = ring.read_index;
            }
        }
        if write {
            ring.shared_write()
                .atomic_store(state.write_index, Ordering::Release);
            ring.shared_read()
                .atomic_store(state.read_index, Ordering::Release);
        }
        ring
    }

    /// Elements that fit.
    pub const fn capacity(&self) -> usize {
        CAPACITY as usize
    }

    fn shared_write(&self) -> SharedMemoryPtr<'a, u32> {
        let memory = self.memory;
        // SAFETY: an AtomicU32 is laid out as a u32, and all accesses here are atomic.
        unsafe { map_field!(memory.write_index).map(|p| p.cast()) }
    }

    fn shared_read(&self) -> SharedMemoryPtr<'a, u32> {
        let memory = self.memory;
        // SAFETY: as in `shared_write`.
        unsafe { map_field!(memory.read_index).map(|p| p.cast()) }
    }

    fn descriptor(&self, index: u32) -> SharedMemoryPtr<'a, T> {
        let memory = self.memory;
        map_field!(memory.descriptors)
            .as_slice()
            .index(index as usize % RING_BUFFER_SIZE)
    }

    fn filled(&self) -> u32 {
        self.write_index.wrapping_sub(self.read_index)
    }

    /// Looks at the peer's index.
    fn refresh(&mut self) -> Result<(), PeerMisbehaviorError> {
        let before = self.filled();
        if R::WRITES {
            let read_index = self.shared_read().atomic_load(Ordering::Acquire);
            // A reader can only make the ring emptier.
            if self.write_index.wrapping_sub(read_index) > before {
                return Err(PeerMisbehaviorError(()));
            }
            self.read_index = read_index;
        } else {
            let write_index = self.shared_write().atomic_load(Ordering::Acquire);
            // A writer can only make it fuller.
            let after = write_index.wrapping_sub(self.read_index);
            if after < before || after > CAPACITY {
                return Err(PeerMisbehaviorError(()));
            }
            self.write_index = write_index;
        }
        Ok(())
    }

    /// Elements in the ring.
    ///
    /// # Errors
    ///
    /// If the other side misbehaves.
    pub fn num_filled_slots(&mut self) -> Result<usize, PeerMisbehaviorError> {
        self.refresh()?;
        Ok(self.filled() as usize)
    }

    /// Elements that still fit.
    ///
    /// # Errors
    ///
    /// If the other side misbehaves.
    pub fn num_empty_slots(&mut self) -> Result<usize, PeerMisbehaviorError> {
        Ok(self.capacity() - self.num_filled_slots()?)
    }

    /// Whether there is no element.
    ///
    /// # Errors
    ///
    /// If the other side misbehaves.
    pub fn is_empty(&mut self) -> Result<bool, PeerMisbehaviorError> {
        Ok(self.num_filled_slots()? == 0)
    }

    /// Whether no further element fits.
    ///
    /// # Errors
    ///
    /// If the other side misbehaves.
    pub fn is_full(&mut self) -> Result<bool, PeerMisbehaviorError> {
        Ok(self.num_empty_slots()? == 0)
    }
}

impl<T: Copy + FromBytes + IntoBytes + Immutable> RingBuffer<'_, Write, T> {
    /// Puts `element` in and shows it to the reader; gives it back if the ring is full.
    ///
    /// # Errors
    ///
    /// If the other side misbehaves.
    pub fn enqueue_and_commit(
        &mut self,
        element: T,
    ) -> Result<Result<(), T>, PeerMisbehaviorError> {
        self.enqueue(element, true)
    }

    /// Puts `element` in, for a later [`Self::commit`].
    ///
    /// # Errors
    ///
    /// If the other side misbehaves.
    pub fn enqueue_without_committing(
        &mut self,
        element: T,
    ) -> Result<Result<(), T>, PeerMisbehaviorError> {
        self.enqueue(element, false)
    }

    /// Puts `element` in; gives it back if the ring is full.
    ///
    /// # Errors
    ///
    /// If the other side misbehaves.
    pub fn enqueue(
        &mut self,
        element: T,
        commit: bool,
    ) -> Result<Result<(), T>, PeerMisbehaviorError> {
        if self.filled() == CAPACITY && self.is_full()? {
            return Ok(Err(element));
        }
        self.force_enqueue(element, commit);
        Ok(Ok(()))
    }

    /// Puts `element` in without looking whether it fits.
    pub fn force_enqueue(&mut self, element: T, commit: bool) {
        self.descriptor(self.write_index).write(element);
        self.write_index = self.write_index.wrapping_add(1);
        if commit {
            self.commit();
        }
    }

    /// Shows the reader all that was put in.
    pub fn commit(&mut self) {
        self.shared_write()
            .atomic_store(self.write_index, Ordering::Release);
    }
}

impl<T: Copy + FromBytes + IntoBytes + Immutable> RingBuffer<'_, Read, T> {
    /// Takes the oldest element out.
    ///
    /// # Errors
    ///
    /// If the other side misbehaves.
    pub fn dequeue(&mut self) -> Result<Option<T>, PeerMisbehaviorError> {
        if self.filled() == 0 && self.is_empty()? {
            return Ok(None);
        }
        Ok(Some(self.force_dequeue()))
    }

    /// Takes an element out without looking whether there is one.
    pub fn force_dequeue(&mut self) -> T {
        let element = self.descriptor(self.read_index).read();
        self.read_index = self.read_index.wrapping_add(1);
        self.shared_read()
            .atomic_store(self.read_index, Ordering::Release);
        element
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::NonNull;

    type Raw = RawRingBuffer<u8>;

    fn sides(raw: &mut Raw) -> (RingBuffer<'_, Write, u8>, RingBuffer<'_, Read, u8>) {
        let pointer = NonNull::from(raw);
        // SAFETY: all accesses are volatile or atomic, and the memory is borrowed for as long.
        let share = || unsafe { SharedMemoryRef::new(pointer) };
        let strategy = InitializationStrategy::ReadState;
        (
            RingBuffer::new(share(), strategy),
            RingBuffer::new(share(), strategy),
        )
    }

    #[test]
    fn first_in_first_out_over_the_wrap() {
        let mut raw = Raw::default();
        for index in [&raw.write_index, &raw.read_index] {
            index.store(u32::MAX - 300, Ordering::Relaxed);
        }
        let (mut writer, mut reader) = sides(&mut raw);
        for round in 0..5u8 {
            for i in 0..200u8 {
                assert_eq!(writer.enqueue_and_commit(i ^ round), Ok(Ok(())));
            }
            for i in 0..200u8 {
                assert_eq!(reader.dequeue(), Ok(Some(i ^ round)));
            }
            assert_eq!(reader.dequeue(), Ok(None));
        }
    }

    #[test]
    fn full_is_one_fewer_than_the_size() {
        let mut raw = Raw::default();
        let (mut writer, mut reader) = sides(&mut raw);
        for i in 0..511u32 {
            assert_eq!(writer.enqueue_without_committing(i as u8), Ok(Ok(())));
        }
        assert_eq!(reader.is_empty(), Ok(true), "nothing was shown yet");
        assert_eq!(writer.enqueue_and_commit(9), Ok(Err(9)));
        writer.commit();
        assert_eq!(
            (reader.num_filled_slots(), writer.num_empty_slots()),
            (Ok(511), Ok(0))
        );
        assert_eq!(reader.dequeue(), Ok(Some(0)));
        assert_eq!(writer.enqueue_and_commit(9), Ok(Ok(())));
    }

    #[test]
    fn a_writer_that_lies_is_found() {
        let mut raw = Raw::default();
        let memory = &raw const raw;
        let (mut writer, mut reader) = sides(&mut raw);
        // SAFETY: an atomic in memory that lives as long as the sides.
        let set = |v| unsafe { (*memory).write_index.store(v, Ordering::Relaxed) };
        set(512);
        assert!(reader.dequeue().is_err(), "more than fit");
        set(u32::MAX);
        assert!(reader.dequeue().is_err(), "less than nothing");
        writer.force_enqueue(1, false);
        writer.force_enqueue(2, true);
        assert_eq!(reader.num_filled_slots(), Ok(2));
        set(1);
        assert!(
            reader.num_filled_slots().is_err(),
            "an element was taken back"
        );
    }

    #[test]
    fn a_reader_that_lies_is_found() {
        let mut raw = Raw::default();
        let memory = &raw const raw;
        let (mut writer, _) = sides(&mut raw);
        writer.force_enqueue(1, true);
        // SAFETY: as above.
        unsafe { (*memory).read_index.store(2, Ordering::Relaxed) };
        assert!(
            writer.num_filled_slots().is_err(),
            "read more than was written"
        );
    }

    #[test]
    fn an_impossible_state_at_the_start() {
        let mut raw = Raw::default();
        raw.write_index.store(5000, Ordering::Relaxed);
        let (_, mut reader) = sides(&mut raw);
        assert!(reader.dequeue().is_err());
    }

    #[test]
    fn two_threads() {
        let mut raw = Raw::default();
        let (mut writer, mut reader) = sides(&mut raw);
        std::thread::scope(|scope| {
            let total = 20_000u32;
            struct Send<T>(T);
            // SAFETY: each side is moved to one thread, and the memory is accessed atomically.
            unsafe impl<T> core::marker::Send for Send<T> {}
            let (w, r) = (Send(&mut writer), Send(&mut reader));
            scope.spawn(move || {
                let w = w;
                for i in 0..total {
                    while w.0.enqueue_and_commit(i as u8).unwrap().is_err() {
                        std::thread::yield_now();
                    }
                }
            });
            scope.spawn(move || {
                let r = r;
                for i in 0..total {
                    let value = loop {
                        match r.0.dequeue().unwrap() {
                            Some(value) => break value,
                            None => std::thread::yield_now(),
                        }
                    };
                    assert_eq!(value, i as u8);
                }
            });
        });
    }
}
