// SPDX-License-Identifier: BSD-2-Clause
//! The heap of `#[protection_domain(heap_size = ..)]`: a static arena.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use linked_list_allocator::Heap;

/// Memory of a heap.
#[repr(C, align(16))]
pub struct Arena<const N: usize>(UnsafeCell<[u8; N]>);

// SAFETY: only the StaticHeap over it uses it.
unsafe impl<const N: usize> Sync for Arena<N> {}

impl<const N: usize> Default for Arena<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Arena<N> {
    /// An arena of zeros.
    pub const fn new() -> Self {
        Arena(UnsafeCell::new([0; N]))
    }
}

/// An allocator over an arena, for programs of one thread.
pub struct StaticHeap<const N: usize> {
    arena: &'static Arena<N>,
    heap: UnsafeCell<Option<Heap>>,
}

// SAFETY: a protection domain has one thread and no signal handlers, so that no two calls overlap.
unsafe impl<const N: usize> Sync for StaticHeap<N> {}

impl<const N: usize> StaticHeap<N> {
    /// An allocator over `arena`, which nothing else may use.
    pub const fn new(arena: &'static Arena<N>) -> Self {
        StaticHeap {
            arena,
            heap: UnsafeCell::new(None),
        }
    }

    /// # Safety
    ///
    /// No other reference that this function made may be alive.
    #[allow(clippy::mut_from_ref, reason = "the contract says why it is unique")]
    unsafe fn heap(&self) -> &mut Heap {
        // SAFETY: unique by this function's contract and the single thread.
        unsafe { &mut *self.heap.get() }.get_or_insert_with(|| {
            // SAFETY: the arena is static, large enough by its type, and used by nobody else.
            unsafe { Heap::new(self.arena.0.get().cast(), N) }
        })
    }
}

// SAFETY: Heap gives out disjoint blocks that fit the layout.
unsafe impl<const N: usize> GlobalAlloc for StaticHeap<N> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the reference ends with this function; allocation does not re-enter.
        let heap = unsafe { self.heap() };
        heap.allocate_first_fit(layout)
            .map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        let Some(ptr) = NonNull::new(ptr) else { return };
        // SAFETY: the caller passes a block of this heap with its layout; the reference ends here.
        unsafe { self.heap().deallocate(ptr, layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back() {
        static ARENA: Arena<4096> = Arena::new();
        let heap = StaticHeap::new(&ARENA);
        let layout = Layout::from_size_align(3000, 16).unwrap();
        for _ in 0..3 {
            // SAFETY: the layout is not empty; each block is freed once with its layout.
            unsafe {
                let block = heap.alloc(layout);
                assert!(!block.is_null() && block.addr().is_multiple_of(16));
                assert!(heap.alloc(layout).is_null(), "the arena has room for one");
                heap.dealloc(block, layout);
            }
        }
    }
}
