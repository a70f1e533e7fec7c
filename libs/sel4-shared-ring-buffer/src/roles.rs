// SPDX-License-Identifier: BSD-2-Clause
//! Which side of a ring, and of a pair of rings, a program is.

mod private {
    pub trait Sealed {}
}

/// Side of a ring.
pub trait RingBufferRole: private::Sealed {
    #[doc(hidden)]
    const WRITES: bool;
}

/// Takes elements out.
#[derive(Debug)]
pub enum Read {}

/// Puts elements in.
#[derive(Debug)]
pub enum Write {}

impl private::Sealed for Read {}
impl RingBufferRole for Read {
    const WRITES: bool = false;
}

impl private::Sealed for Write {}
impl RingBufferRole for Write {
    const WRITES: bool = true;
}

/// Side of a pair of rings.
pub trait RingBuffersRole: private::Sealed {
    /// Side of the ring of empty buffers.
    type FreeRole: RingBufferRole;
    /// Side of the ring of filled buffers.
    type UsedRole: RingBufferRole;

    /// How this side starts.
    fn default_initialization_strategy() -> InitializationStrategy;
}

/// Provides empty buffers and takes filled ones.
#[derive(Debug)]
pub enum Provide {}

/// Takes empty buffers and gives back filled ones.
#[derive(Debug)]
pub enum Use {}

impl private::Sealed for Provide {}
impl RingBuffersRole for Provide {
    type FreeRole = Write;
    type UsedRole = Read;

    fn default_initialization_strategy() -> InitializationStrategy {
        InitializationStrategy::UseAndWriteState(InitialState::default())
    }
}

impl private::Sealed for Use {}
impl RingBuffersRole for Use {
    type FreeRole = Read;
    type UsedRole = Write;

    fn default_initialization_strategy() -> InitializationStrategy {
        InitializationStrategy::ReadState
    }
}

/// Indices to start with.
#[derive(Debug, Copy, Clone, Default, PartialEq, Eq)]
pub struct InitialState {
    /// Elements written so far.
    pub write_index: u32,
    /// Elements read so far.
    pub read_index: u32,
}

/// Where the indices at the start come from.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub enum InitializationStrategy {
    /// The shared memory.
    ReadState,
    /// The argument.
    UseState(InitialState),
    /// The argument, which is also written to the shared memory.
    UseAndWriteState(InitialState),
}
