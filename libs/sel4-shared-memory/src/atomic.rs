// SPDX-License-Identifier: BSD-2-Clause
//! Atomic operations.

use crate::SharedMemoryPtr;
use crate::access::{Access, Readable, Writable};
use core::sync::atomic::{self, Ordering};

mod private {
    pub trait Sealed {}
}

/// Integers with atomic operations.
pub trait Atomic: Copy + private::Sealed + 'static {
    #[doc(hidden)]
    type Cell: 'static;
    #[doc(hidden)]
    fn load(cell: &Self::Cell, order: Ordering) -> Self;
    #[doc(hidden)]
    fn store(cell: &Self::Cell, value: Self, order: Ordering);
    #[doc(hidden)]
    fn swap(cell: &Self::Cell, value: Self, order: Ordering) -> Self;
    #[doc(hidden)]
    fn compare_exchange(
        cell: &Self::Cell,
        current: Self,
        new: Self,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Self, Self>;
    #[doc(hidden)]
    fn compare_exchange_weak(
        cell: &Self::Cell,
        current: Self,
        new: Self,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Self, Self>;
    #[doc(hidden)]
    fn fetch(cell: &Self::Cell, operation: Fetch, value: Self, order: Ordering) -> Self;
}

#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub enum Fetch {
    Add,
    Sub,
    And,
    Nand,
    Or,
    Xor,
    Max,
    Min,
}

macro_rules! atomics {
    ($($int:ident $cell:ident,)*) => {
        $(
            impl private::Sealed for $int {}

            impl Atomic for $int {
                type Cell = atomic::$cell;

                #[inline]
                fn load(cell: &Self::Cell, order: Ordering) -> Self {
                    cell.load(order)
                }

                #[inline]
                fn store(cell: &Self::Cell, value: Self, order: Ordering) {
                    cell.store(value, order)
                }

                #[inline]
                fn swap(cell: &Self::Cell, value: Self, order: Ordering) -> Self {
                    cell.swap(value, order)
                }

                #[inline]
                fn compare_exchange(
                    cell: &Self::Cell,
                    current: Self,
                    new: Self,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<Self, Self> {
                    cell.compare_exchange(current, new, success, failure)
                }

                #[inline]
                fn compare_exchange_weak(
                    cell: &Self::Cell,
                    current: Self,
                    new: Self,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<Self, Self> {
                    cell.compare_exchange_weak(current, new, success, failure)
                }

                #[inline]
                fn fetch(cell: &Self::Cell, operation: Fetch, value: Self, order: Ordering) -> Self {
                    match operation {
                        Fetch::Add => cell.fetch_add(value, order),
                        Fetch::Sub => cell.fetch_sub(value, order),
                        Fetch::And => cell.fetch_and(value, order),
                        Fetch::Nand => cell.fetch_nand(value, order),
                        Fetch::Or => cell.fetch_or(value, order),
                        Fetch::Xor => cell.fetch_xor(value, order),
                        Fetch::Max => cell.fetch_max(value, order),
                        Fetch::Min => cell.fetch_min(value, order),
                    }
                }
            }
        )*
    };
}

atomics! {
    u8 AtomicU8,
    u16 AtomicU16,
    u32 AtomicU32,
    u64 AtomicU64,
    usize AtomicUsize,
    i8 AtomicI8,
    i16 AtomicI16,
    i32 AtomicI32,
    i64 AtomicI64,
    isize AtomicIsize,
}

macro_rules! fetches {
    ($($(#[$attr:meta])* $name:ident = $operation:ident,)*) => {
        $(
            $(#[$attr])*
            #[inline]
            pub fn $name(self, value: T, order: Ordering) -> T
            where
                A: Readable + Writable,
            {
                T::fetch(self.cell(), Fetch::$operation, value, order)
            }
        )*
    };
}

impl<'a, T: Atomic, A: Access> SharedMemoryPtr<'a, T, A> {
    #[inline]
    fn cell(self) -> &'a T::Cell {
        const {
            assert!(
                size_of::<T>() == size_of::<T::Cell>() && align_of::<T>() == align_of::<T::Cell>()
            )
        };
        // SAFETY: valid and aligned by the contract of the constructor, same size and alignment by
        // the assertion. A cell permits concurrent changes; those by other programs are atomic
        // accesses of the machine as far as this program can tell.
        unsafe { self.as_raw_ptr().cast::<T::Cell>().as_ref() }
    }

    /// Atomic load.
    #[inline]
    pub fn atomic_load(self, order: Ordering) -> T
    where
        A: Readable,
    {
        T::load(self.cell(), order)
    }

    /// Atomic store.
    #[inline]
    pub fn atomic_store(self, value: T, order: Ordering)
    where
        A: Writable,
    {
        T::store(self.cell(), value, order);
    }

    /// Atomic exchange; the earlier value.
    #[inline]
    pub fn atomic_swap(self, value: T, order: Ordering) -> T
    where
        A: Readable + Writable,
    {
        T::swap(self.cell(), value, order)
    }

    /// Stores `new` if the value is `current`; the earlier value.
    ///
    /// # Errors
    ///
    /// The value, if it was not `current`.
    #[inline]
    pub fn atomic_compare_exchange(
        self,
        current: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<T, T>
    where
        A: Readable + Writable,
    {
        T::compare_exchange(self.cell(), current, new, success, failure)
    }

    /// As [`Self::atomic_compare_exchange`]; may fail without cause.
    ///
    /// # Errors
    ///
    /// The value.
    #[inline]
    pub fn atomic_compare_exchange_weak(
        self,
        current: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<T, T>
    where
        A: Readable + Writable,
    {
        T::compare_exchange_weak(self.cell(), current, new, success, failure)
    }

    fetches! {
        /// Adds, wrapping; the earlier value.
        atomic_fetch_add = Add,
        /// Subtracts, wrapping; the earlier value.
        atomic_fetch_sub = Sub,
        /// Bitwise and; the earlier value.
        atomic_fetch_and = And,
        /// Complement of bitwise and; the earlier value.
        atomic_fetch_nand = Nand,
        /// Bitwise or; the earlier value.
        atomic_fetch_or = Or,
        /// Bitwise exclusive or; the earlier value.
        atomic_fetch_xor = Xor,
        /// Maximum; the earlier value.
        atomic_fetch_max = Max,
        /// Minimum; the earlier value.
        atomic_fetch_min = Min,
    }

    /// Replaces the value by `f` of it until no other store comes between; the earlier value.
    ///
    /// # Errors
    ///
    /// The value for which `f` said `None`.
    pub fn atomic_fetch_update(
        self,
        set_order: Ordering,
        fetch_order: Ordering,
        mut f: impl FnMut(T) -> Option<T>,
    ) -> Result<T, T>
    where
        A: Readable + Writable,
    {
        let mut current = self.atomic_load(fetch_order);
        while let Some(new) = f(current) {
            match self.atomic_compare_exchange_weak(current, new, set_order, fetch_order) {
                Ok(previous) => return Ok(previous),
                Err(other) => current = other,
            }
        }
        Err(current)
    }
}

#[cfg(test)]
mod tests {
    use crate::SharedMemoryRef;
    use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

    #[test]
    fn operations() {
        let mut memory = 5u32;
        let mut shared = SharedMemoryRef::from_mut_ref(&mut memory);
        let p = shared.as_mut_ptr();
        p.atomic_store(6, Release);
        assert_eq!(p.atomic_fetch_add(4, AcqRel), 6);
        assert_eq!(p.atomic_fetch_and(0b110, Relaxed), 10);
        assert_eq!(p.atomic_fetch_max(9, Relaxed), 2);
        assert_eq!(p.atomic_swap(1, AcqRel), 9);
        assert_eq!(p.atomic_compare_exchange(2, 3, AcqRel, Acquire), Err(1));
        assert_eq!(
            p.atomic_fetch_update(AcqRel, Acquire, |v| Some(v + 1)),
            Ok(1)
        );
        assert_eq!(p.atomic_fetch_update(AcqRel, Acquire, |_| None), Err(2));
        assert_eq!(p.atomic_load(Acquire), 2);
    }

    #[test]
    fn adds_from_two_threads_are_not_lost() {
        let mut memory = 0u64;
        let raw = core::ptr::NonNull::from(&mut memory).as_ptr() as usize;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let pointer = core::ptr::NonNull::new(raw as *mut u64).unwrap();
                    // SAFETY: `memory` lives longer than the scope and is only accessed atomically.
                    let p = unsafe { crate::SharedMemoryPtr::new(pointer) };
                    for _ in 0..10_000 {
                        p.atomic_fetch_add(1, Relaxed);
                    }
                });
            }
        });
        assert_eq!(memory, 20_000);
    }
}
