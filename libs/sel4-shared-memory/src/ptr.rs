// SPDX-License-Identifier: BSD-2-Clause
//! Pointers that can be copied.

use crate::access::{Access, ReadOnly, ReadWrite, Readable, RestrictAccess, Writable, WriteOnly};
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Pointer to a `T` in shared memory, valid for `'a`. It can be copied, so that it is not a promise
/// that nobody else in this program accesses the same memory.
pub struct SharedMemoryPtr<'a, T: ?Sized, A = ReadWrite> {
    pointer: NonNull<T>,
    phantom: PhantomData<(&'a T, A)>,
}

impl<T: ?Sized, A> Copy for SharedMemoryPtr<'_, T, A> {}

impl<T: ?Sized, A> Clone for SharedMemoryPtr<'_, T, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized, A> fmt::Debug for SharedMemoryPtr<'_, T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedMemoryPtr")
            .field(&self.pointer)
            .finish()
    }
}

impl<'a, T: ?Sized> SharedMemoryPtr<'a, T> {
    /// A pointer that permits reading and writing.
    ///
    /// # Safety
    ///
    /// `pointer` must be aligned and valid for volatile reads and writes for `'a`, and no Rust
    /// reference to the memory may exist in that time.
    pub const unsafe fn new(pointer: NonNull<T>) -> Self {
        Self::from_raw(pointer)
    }
}

impl<'a, T: ?Sized> SharedMemoryPtr<'a, T, ReadOnly> {
    /// A pointer that permits reading.
    ///
    /// # Safety
    ///
    /// As [`SharedMemoryPtr::new`], without writes.
    pub const unsafe fn new_read_only(pointer: NonNull<T>) -> Self {
        Self::from_raw(pointer)
    }
}

impl<'a, T: ?Sized, A> SharedMemoryPtr<'a, T, A> {
    pub(crate) const fn from_raw(pointer: NonNull<T>) -> Self {
        SharedMemoryPtr {
            pointer,
            phantom: PhantomData,
        }
    }

    /// The raw pointer.
    pub const fn as_raw_ptr(self) -> NonNull<T> {
        self.pointer
    }

    /// A pointer to part of the object, usually made with [`map_field!`](crate::map_field!).
    ///
    /// # Safety
    ///
    /// `f` must return a pointer into the same object, valid for as long and for the same accesses.
    pub unsafe fn map<U: ?Sized>(
        self,
        f: impl FnOnce(NonNull<T>) -> NonNull<U>,
    ) -> SharedMemoryPtr<'a, U, A> {
        SharedMemoryPtr::from_raw(f(self.pointer))
    }

    /// Permits what both `A` and `To` permit.
    pub fn restrict<To>(self) -> SharedMemoryPtr<'a, T, A::Restricted>
    where
        A: RestrictAccess<To>,
    {
        SharedMemoryPtr::from_raw(self.pointer)
    }

    /// At most reading.
    pub fn read_only(self) -> SharedMemoryPtr<'a, T, A::Restricted>
    where
        A: RestrictAccess<ReadOnly>,
    {
        self.restrict()
    }

    /// At most writing.
    pub fn write_only(self) -> SharedMemoryPtr<'a, T, A::Restricted>
    where
        A: RestrictAccess<WriteOnly>,
    {
        self.restrict()
    }
}

impl<T: FromBytes + IntoBytes + Immutable, A: Access> SharedMemoryPtr<'_, T, A> {
    /// Reads the value once.
    #[inline]
    pub fn read(self) -> T
    where
        A: Readable,
    {
        // SAFETY: valid and aligned by the contract of the constructor; any bytes are a T.
        unsafe { self.pointer.read_volatile() }
    }

    /// Writes the value once.
    #[inline]
    pub fn write(self, value: T)
    where
        A: Writable,
    {
        // SAFETY: valid and aligned by the contract of the constructor.
        unsafe { self.pointer.write_volatile(value) }
    }

    /// Reads, changes and writes the value; not atomic.
    pub fn update(self, f: impl FnOnce(T) -> T)
    where
        A: Readable + Writable,
    {
        self.write(f(self.read()));
    }
}
