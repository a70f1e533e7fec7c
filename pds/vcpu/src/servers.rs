// SPDX-License-Identifier: BSD-2-Clause
//! Calls to `memslots`, `hpt` and `vpa`.

use partita_abi::limits;
use partita_guest_protocol::{Words, channel, memslots};
use partita_papr::{Gfn, PAGE_SHIFT};
use partita_vcpu::servers::{self, Calls};
use sel4_microkit::{Channel, MessageInfo, var};

/// The servers of this guest.
pub(crate) const SERVERS: servers::Servers<Kernel> = servers::Servers(Kernel);
/// Where the guest real addresses end that a slot can have, bytes: the largest GSpace. The slots of this
/// guest may end before it.
pub(crate) const END: u64 = (limits::GSPACE_GIB as u64) << 30;

/// The kernel's way of calling.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel;

impl Calls for Kernel {
    fn call<const N: usize>(&self, channel: usize, label: u64, words: [u64; N]) -> (u64, Words) {
        let info = MessageInfo::new(label, N);
        let (info, answer) = Channel::new(channel).pp_call_mrs(info, words);
        (info.label(), answer)
    }

    fn now(&self) -> u64 {
        sel4::arch::timebase()
    }
}

const _: () = assert!(servers::PATIENCE == 10 * sel4::TIMEBASE_HZ);

/// Has `memslots` put the page into the GSpace, for writing.
pub(crate) fn request(page: Gfn) -> bool {
    let size = u64::from(PAGE_SHIFT) | memslots::WRITE;
    let words = [page.get(), size];
    Kernel.call(channel::MEMSLOTS, memslots::REQUEST, words).0 == memslots::READY
}

/// Channels of the instances of `vpa` that the system description has.
pub(crate) fn vpa_instances() -> impl Iterator<Item = usize> + Clone {
    let others = [
        *var!(vpa_1: usize = 0),
        *var!(vpa_2: usize = 0),
        *var!(vpa_3: usize = 0),
    ];
    const { assert!(channel::INSTANCES == 4) };
    core::iter::once(channel::VPA).chain(others.into_iter().filter(|id| *id != 0))
}
