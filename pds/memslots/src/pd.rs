// SPDX-License-Identifier: BSD-2-Clause
//! The handler.

use crate::adapter::{Counts, Frames, Made};
use core::ptr::NonNull;
use core::slice;
use heapless::Vec;
use partita_guest_protocol::channel::Peer;
use partita_guest_protocol::{Answer, answer, layout, symbol};
use partita_memslots::{Images, MemSlots, PageWord, Pool};
use partita_papr::PAGE_SHIFT;
use partita_srcu::{EpochWord, Table, Writer};
use sel4_microkit::{
    Caller, ChannelSet, FastReply, Handler, Infallible, MessageInfo, memory_region_symbol, var,
};

/// The handler.
pub(crate) struct HandlerImpl {
    slots: MemSlots<'static, Frames>,
    images: Images<'static>,
}

impl HandlerImpl {
    /// Over what the system description maps and grants.
    pub(crate) fn new() -> Self {
        let table = memory_region_symbol!(slot_table: *mut Table);
        // SAFETY: the system description maps a page there, zeros at the start, which is an empty
        // table; everybody accesses it with atomic operations.
        let table: &'static Table = unsafe { table.as_ref() };
        let counts = Counts::new(
            *var!(untyped_count: usize = 0),
            *var!(untyped_size: u64 = 0),
        );
        let mut state = PageState {
            next: memory_region_symbol!(page_state: *mut u8),
            left: *var!(page_state_size: usize = 0),
        };
        let readers = readers(&mut state);
        let tables = state.take(layout::TABLES as usize, 0u64);
        // All that is left beside the frames: slots may be larger than the memory behind them.
        let behind = 4 * (counts.small() + counts.medium() + counts.large()) + counts.frames();
        let words = state.take(state.left.saturating_sub(behind) / 4, PageWord::FREE);
        let pool = Pool::new(
            state.take(counts.small(), 0),
            state.take(counts.medium(), 0),
            state.take(counts.large(), 0),
            counts.in_a_row(),
        );
        let made = state.take(counts.frames(), Made::Nothing);
        let frames = match Frames::new(counts, *var!(frames_root: u64 = 0), tables, made) {
            Ok(frames) => frames,
            Err(error) => panic!("untyped memory of the guest: {error}"),
        };
        let kernel = file(
            *var!(kernel_start: usize = 0),
            *var!(kernel_size: usize = 0),
        );
        let initrd = file(
            *var!(initrd_start: usize = 0),
            *var!(initrd_size: usize = 0),
        );
        HandlerImpl {
            slots: MemSlots::new(frames, Writer::new(table, readers), pool, words, PAGE_SHIFT),
            images: Images { kernel, initrd },
        }
    }
}

/// What is left of the region `page_state`.
struct PageState {
    next: NonNull<u8>,
    left: usize,
}

impl PageState {
    /// The next `count` elements, each set to `value`. The largest alignment comes first.
    fn take<T: Copy>(&mut self, count: usize, value: T) -> &'static mut [T] {
        let bytes = count * size_of::<T>();
        assert!(bytes <= self.left, "region page_state is too small");
        let first = self.next.cast::<T>();
        assert!(first.is_aligned(), "order of what is in page_state");
        // SAFETY: the system description maps a region of the size in page_state_size there, for
        // this program alone; this part of it was checked to lie inside and to be aligned, and
        // nobody else gets it, since `next` moves on. The elements are written before the slice
        // is made.
        unsafe {
            for i in 0..count {
                first.add(i).write(value);
            }
            self.next = self.next.add(bytes);
            self.left -= bytes;
            slice::from_raw_parts_mut(first.as_ptr(), count)
        }
    }
}

/// The epoch words of the readers that the system description names.
fn readers(state: &mut PageState) -> &'static [&'static EpochWord] {
    macro_rules! epochs {
        ($($symbol:ident)*) => { [$(*var!($symbol: usize = 0),)*] };
    }
    let addresses: [usize; symbol::READERS] = epochs! {
        epoch_0 epoch_1 epoch_2 epoch_3 epoch_4 epoch_5 epoch_6 epoch_7 epoch_8 epoch_9
    };
    let mut found: Vec<&EpochWord, { symbol::READERS }> = Vec::new();
    for address in addresses.into_iter().filter(|address| *address != 0) {
        // SAFETY: the system description maps a page there, an idle epoch word at the start;
        // everybody accesses it with atomic operations.
        found.extend(unsafe { core::ptr::with_exposed_provenance::<EpochWord>(address).as_ref() });
    }
    let Some(first) = found.first() else {
        return &[];
    };
    let words = state.take(found.len(), *first);
    words.copy_from_slice(&found);
    words
}

/// A file of the guest; nothing if the system description does not map it.
fn file(start: usize, size: usize) -> &'static [u8] {
    match NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(start)) {
        // SAFETY: the system description maps a file of that size there, which nobody writes.
        Some(start) => unsafe { slice::from_raw_parts(start.as_ptr(), size) },
        None => &[],
    }
}

impl Handler for HandlerImpl {
    type Error = Infallible;

    /// A peer may notify, and says nothing by that.
    fn notified(&mut self, _channels: ChannelSet) -> Result<(), Infallible> {
        Ok(())
    }

    fn protected_mrs(
        &mut self,
        caller: Caller,
        info: MessageInfo,
        words: [u64; 8],
    ) -> Result<FastReply, Infallible> {
        let answer = match Peer::of(caller.channel().index()) {
            Some(peer) => self.slots.call(&self.images, peer, info.label(), &words),
            None => Answer::label(answer::INVALID),
        };
        Ok(FastReply::new(answer.label, answer.words))
    }
}
