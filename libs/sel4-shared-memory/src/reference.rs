// SPDX-License-Identifier: BSD-2-Clause
//! Pointers that are borrowed as references are.

use crate::SharedMemoryPtr;
use crate::access::{Access, ReadOnly, ReadWrite, RestrictAccess, WriteOnly};
use core::fmt;
use core::ptr::NonNull;

/// As [`SharedMemoryPtr`], but not copyable: within this program it is borrowed like a `&mut T`.
pub struct SharedMemoryRef<'a, T: ?Sized, A = ReadWrite>(SharedMemoryPtr<'a, T, A>);

impl<T: ?Sized, A> fmt::Debug for SharedMemoryRef<'_, T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedMemoryRef")
            .field(&self.0.as_raw_ptr())
            .finish()
    }
}

impl<'a, T: ?Sized> SharedMemoryRef<'a, T> {
    /// A reference that permits reading and writing.
    ///
    /// # Safety
    ///
    /// `pointer` must be aligned and valid for volatile reads and writes for `'a`, and no Rust
    /// reference to the memory may exist in that time.
    pub const unsafe fn new(pointer: NonNull<T>) -> Self {
        SharedMemoryRef(SharedMemoryPtr::from_raw(pointer))
    }

    /// From memory of our own.
    pub fn from_mut_ref(reference: &'a mut T) -> Self {
        SharedMemoryRef(SharedMemoryPtr::from_raw(NonNull::from(reference)))
    }
}

impl<'a, T: ?Sized> SharedMemoryRef<'a, T, ReadOnly> {
    /// A reference that permits reading.
    ///
    /// # Safety
    ///
    /// As [`SharedMemoryRef::new`], without writes.
    pub const unsafe fn new_read_only(pointer: NonNull<T>) -> Self {
        SharedMemoryRef(SharedMemoryPtr::from_raw(pointer))
    }

    /// From memory of our own.
    pub fn from_ref(reference: &'a T) -> Self {
        SharedMemoryRef(SharedMemoryPtr::from_raw(NonNull::from(reference)))
    }
}

impl<'a, T: ?Sized, A: Access> SharedMemoryRef<'a, T, A> {
    /// A shared borrow: at most reading.
    pub fn borrow(&self) -> SharedMemoryRef<'_, T, A::Restricted>
    where
        A: RestrictAccess<ReadOnly>,
    {
        SharedMemoryRef(self.0.restrict())
    }

    /// An exclusive borrow.
    pub fn borrow_mut(&mut self) -> SharedMemoryRef<'_, T, A> {
        SharedMemoryRef(self.0)
    }

    /// A pointer: at most reading.
    pub fn as_ptr(&self) -> SharedMemoryPtr<'_, T, A::Restricted>
    where
        A: RestrictAccess<ReadOnly>,
    {
        self.0.restrict()
    }

    /// A pointer.
    pub fn as_mut_ptr(&mut self) -> SharedMemoryPtr<'_, T, A> {
        self.0
    }

    /// A pointer for the whole lifetime.
    pub fn into_ptr(self) -> SharedMemoryPtr<'a, T, A> {
        self.0
    }

    /// Permits what both `A` and `To` permit.
    pub fn restrict<To>(self) -> SharedMemoryRef<'a, T, A::Restricted>
    where
        A: RestrictAccess<To>,
    {
        SharedMemoryRef(self.0.restrict())
    }

    /// At most reading.
    pub fn read_only(self) -> SharedMemoryRef<'a, T, A::Restricted>
    where
        A: RestrictAccess<ReadOnly>,
    {
        self.restrict()
    }

    /// At most writing.
    pub fn write_only(self) -> SharedMemoryRef<'a, T, A::Restricted>
    where
        A: RestrictAccess<WriteOnly>,
    {
        self.restrict()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map_field;
    use zerocopy::{FromBytes, Immutable, IntoBytes};

    #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, PartialEq, Debug)]
    #[repr(C)]
    struct Pair {
        a: u32,
        b: [u32; 3],
    }

    #[test]
    fn values_and_fields() {
        let mut memory = Pair { a: 1, b: [2, 3, 4] };
        let mut shared = SharedMemoryRef::from_mut_ref(&mut memory);
        let pointer = shared.as_mut_ptr();
        map_field!(pointer.a).write(10);
        map_field!(pointer.b[1]).update(|b| b + 27);
        let array = map_field!(pointer.b);
        assert_eq!(array.as_slice().index(2).read(), 4);
        assert_eq!(
            shared.as_ptr().read(),
            Pair {
                a: 10,
                b: [2, 30, 4]
            }
        );
        assert_eq!(memory.b[1], 30);
    }

    #[test]
    fn restrictions() {
        let memory = 5u64;
        let shared = SharedMemoryRef::from_ref(&memory);
        assert_eq!(shared.borrow().as_ptr().read(), 5);
        // `shared.as_ptr().write(1)` does not compile, nor does reading this:
        let _ = shared.restrict::<WriteOnly>();
    }
}
