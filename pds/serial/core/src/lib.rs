// SPDX-License-Identifier: BSD-2-Clause
//! Serial server: several clients share one port through rings in shared memory.
//!
//! Each client has a region of its own ([`Console`]) and a channel for notifications in both
//! directions. The client writes bytes to the ring `tx` and notifies; the server writes what is
//! typed to the ring `rx` of the selected client and notifies it. Ctrl-] and a digit select a
//! client, Ctrl-] twice types Ctrl-], Ctrl-] and anything else lists the clients.
//!
//! The output of clients is sent line by line as it comes. A client may be a terminal: of these only one is
//! shown, the one that was selected last. What the others write is kept, and is shown when they are selected.
//!
//! The server never waits for a client and believes none: a client that moves a ring's index where
//! it cannot be is cut off, and the others do not notice.
#![cfg_attr(not(test), no_std)]

mod client;
mod server;
mod terminal;

pub use client::Client;
pub use server::{ClientId, Clients, MAX_CLIENTS, Server, Statistics};
pub use terminal::Name;

use sel4_shared_ring_buffer::RawRingBuffer;
use zerocopy::{FromBytes, KnownLayout};

/// The region that a client shares with the server. All zeros is the initial state.
#[derive(Debug, FromBytes, KnownLayout)]
#[repr(C)]
pub struct Console {
    /// From the client.
    pub tx: RawRingBuffer<u8>,
    /// To the client.
    pub rx: RawRingBuffer<u8>,
}

/// Bytes of a region that holds a [`Console`]: one page.
pub const REGION_SIZE: usize = 0x1000;
const _: () = assert!(size_of::<Console>() <= REGION_SIZE);

/// The two rings of a region.
fn rings(console: sel4_shared_memory::SharedMemoryRef<'static, Console>) -> (Ring, Ring) {
    let console = console.into_ptr();
    let tx = sel4_shared_memory::map_field!(console.tx).as_raw_ptr();
    let rx = sel4_shared_memory::map_field!(console.rx).as_raw_ptr();
    // SAFETY: both rings lie in the region, whose validity for 'static the argument's type says;
    // they do not overlap.
    unsafe { (Ring::new(tx), Ring::new(rx)) }
}

type Ring = sel4_shared_memory::SharedMemoryRef<'static, RawRingBuffer<u8>>;
