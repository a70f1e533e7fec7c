// SPDX-License-Identifier: BSD-2-Clause
//! Slices and arrays.

use crate::SharedMemoryPtr;
use crate::access::{Access, Readable, Writable};
use crate::raw;
use core::ops::{Bound, Range, RangeBounds, RangeFrom, RangeFull, RangeInclusive, RangeTo};
use core::ptr::NonNull;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What a slice can be indexed with: a number (an element) or a range (a slice).
pub trait SliceIndex<T> {
    /// An element or a slice.
    type Output: ?Sized;

    #[doc(hidden)]
    fn apply(self, slice: NonNull<[T]>) -> NonNull<Self::Output>;
}

impl<T> SliceIndex<T> for usize {
    type Output = T;

    fn apply(self, slice: NonNull<[T]>) -> NonNull<T> {
        assert!(
            self < slice.len(),
            "index {self} out of range for slice of {}",
            slice.len()
        );
        // SAFETY: within the slice.
        unsafe { slice.cast::<T>().add(self) }
    }
}

fn subslice<T>(range: impl RangeBounds<usize>, slice: NonNull<[T]>) -> NonNull<[T]> {
    let len = slice.len();
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(_) | Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Excluded(&end) => end,
        Bound::Included(&last) => last.checked_add(1).expect("range end overflows"),
        Bound::Unbounded => len,
    };
    assert!(
        start <= end && end <= len,
        "range {start}..{end} out of range for slice of {len}"
    );
    // SAFETY: within the slice, or one past its end.
    NonNull::slice_from_raw_parts(unsafe { slice.cast::<T>().add(start) }, end - start)
}

macro_rules! ranges {
    ($($range:ty),*) => {
        $(
            impl<T> SliceIndex<T> for $range {
                type Output = [T];

                fn apply(self, slice: NonNull<[T]>) -> NonNull<[T]> {
                    subslice(self, slice)
                }
            }
        )*
    };
}
ranges!(
    Range<usize>,
    RangeFrom<usize>,
    RangeTo<usize>,
    RangeInclusive<usize>,
    RangeFull
);

impl<'a, T, A: Access> SharedMemoryPtr<'a, [T], A> {
    /// Number of elements.
    pub fn len(self) -> usize {
        self.as_raw_ptr().len()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// An element or a subslice.
    ///
    /// # Panics
    ///
    /// If `index` is out of range.
    pub fn index<I: SliceIndex<T>>(self, index: I) -> SharedMemoryPtr<'a, I::Output, A> {
        SharedMemoryPtr::from_raw(index.apply(self.as_raw_ptr()))
    }

    /// Pointers to the elements.
    pub fn iter(self) -> impl Iterator<Item = SharedMemoryPtr<'a, T, A>> {
        (0..self.len()).map(move |i| self.index(i))
    }

    /// The first `mid` elements and the rest.
    ///
    /// # Panics
    ///
    /// If `mid` is out of range.
    pub fn split_at(self, mid: usize) -> (Self, Self) {
        (self.index(..mid), self.index(mid..))
    }

    /// As many arrays of `N` elements as there are, and the rest.
    pub fn as_chunks<const N: usize>(self) -> (SharedMemoryPtr<'a, [[T; N]], A>, Self) {
        const { assert!(N > 0, "chunks have elements") };
        let (whole, rest) = self.split_at(self.len() / N * N);
        let chunks = NonNull::slice_from_raw_parts(whole.as_raw_ptr().cast(), whole.len() / N);
        (SharedMemoryPtr::from_raw(chunks), rest)
    }
}

impl<T: FromBytes + IntoBytes + Immutable, A: Access> SharedMemoryPtr<'_, [T], A> {
    /// Reads all elements, each byte once.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    pub fn copy_into_slice(self, dst: &mut [T])
    where
        A: Readable,
    {
        assert_eq!(self.len(), dst.len(), "lengths differ");
        let src = self.as_raw_ptr().cast::<u8>().as_ptr();
        // SAFETY: both are valid for the same number of bytes; `dst` is a Rust reference and so does
        // not overlap shared memory; any bytes are a T.
        unsafe { raw::copy_from_shared(dst.as_mut_ptr().cast(), src, size_of_val(dst)) };
    }

    /// Writes all elements, each byte once.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    pub fn copy_from_slice(self, src: &[T])
    where
        A: Writable,
    {
        assert_eq!(self.len(), src.len(), "lengths differ");
        let dst = self.as_raw_ptr().cast::<u8>().as_ptr();
        // SAFETY: as in `copy_into_slice`.
        unsafe { raw::copy_to_shared(dst, src.as_ptr().cast(), size_of_val(src)) };
    }

    /// Copies elements within the slice, as `slice::copy_within` does.
    ///
    /// # Panics
    ///
    /// If source or destination is out of range.
    pub fn copy_within(self, src: impl RangeBounds<usize>, dst: usize)
    where
        T: Copy,
        A: Readable + Writable,
    {
        let first = match src.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start.checked_add(1).expect("range start overflows"),
            Bound::Unbounded => 0,
        };
        let end = match src.end_bound() {
            Bound::Excluded(&end) => end,
            Bound::Included(&last) => last.checked_add(1).expect("range end overflows"),
            Bound::Unbounded => self.len(),
        };
        let src = self.index(first..end);
        let dst = self.index(dst..dst.checked_add(src.len()).expect("range end overflows"));
        let copy = |i: usize| dst.index(i).write(src.index(i).read());
        if dst.as_raw_ptr().cast::<T>() <= src.as_raw_ptr().cast::<T>() {
            (0..src.len()).for_each(copy);
        } else {
            (0..src.len()).rev().for_each(copy);
        }
    }
}

impl<A: Writable> SharedMemoryPtr<'_, [u8], A> {
    /// Sets all bytes.
    pub fn fill(self, value: u8) {
        self.iter().for_each(|byte| byte.write(value));
    }
}

impl<'a, T, A: Access, const N: usize> SharedMemoryPtr<'a, [T; N], A> {
    /// The array as a slice.
    pub fn as_slice(self) -> SharedMemoryPtr<'a, [T], A> {
        SharedMemoryPtr::from_raw(NonNull::slice_from_raw_parts(self.as_raw_ptr().cast(), N))
    }
}

#[cfg(test)]
mod tests {
    use crate::SharedMemoryRef;

    #[test]
    fn copies() {
        let mut memory = *b"0123456789";
        let mut shared = SharedMemoryRef::from_mut_ref(&mut memory[..]);
        let pointer = shared.as_mut_ptr();
        let mut out = [0; 4];
        pointer.index(3..7).copy_into_slice(&mut out);
        assert_eq!(&out, b"3456");
        pointer.index(..2).copy_from_slice(b"ab");
        pointer.copy_within(0..4, 2);
        pointer.index(8..=9).fill(b'.');
        assert_eq!(&memory, b"abab2367..");
    }

    #[test]
    fn overlapping_copies_down() {
        let mut memory = [1u16, 2, 3, 4, 5];
        let mut shared = SharedMemoryRef::from_mut_ref(&mut memory[..]);
        shared.as_mut_ptr().copy_within(2.., 1);
        assert_eq!(memory, [1, 3, 4, 5, 5]);
    }

    #[test]
    fn parts() {
        let memory = [1u32, 2, 3, 4, 5];
        let shared = SharedMemoryRef::from_ref(&memory[..]);
        let (chunks, rest) = shared.as_ptr().as_chunks::<2>();
        assert_eq!((chunks.len(), rest.len()), (2, 1));
        assert_eq!(chunks.index(1).read(), [3, 4]);
        assert_eq!(rest.iter().map(|p| p.read()).collect::<Vec<_>>(), [5]);
    }

    #[test]
    #[should_panic(expected = "range 2..9 out of range for slice of 5")]
    fn range_out_of_range() {
        SharedMemoryRef::from_ref(&[0u8; 5][..])
            .as_ptr()
            .index(2..9);
    }

    #[test]
    #[should_panic(expected = "index 5 out of range")]
    fn index_out_of_range() {
        SharedMemoryRef::from_ref(&[0u8; 5][..])
            .as_ptr()
            .index(5)
            .read();
    }
}
