// SPDX-License-Identifier: BSD-2-Clause
//! Channel ids: the id names the peer, in every PD alike.
//!
//! So the channel between `vpa` and `memslots` is `<end pd="vpa" id="1" pp="true"/>`,
//! `<end pd="memslots" id="24"/>`.

/// Instances of a PD (one a core).
pub const INSTANCES: usize = 4;

/// The operator's channel.
pub const CONTROL: usize = 0;
/// `memslots`.
pub const MEMSLOTS: usize = 1;
/// `serial`: notifications, and a pair of rings in a shared region.
pub const SERIAL: usize = 2;
/// `power`, if the guest shares the machine's power switch.
pub const POWER: usize = 3;
/// Route of hypercalls and exits to a server.
pub const ROUTE: usize = 5;
/// Route of hypercalls to the parent.
pub const PARENT_ROUTE: usize = 6;
/// `vcpu`.
pub const VCPU: usize = 8;
/// Instance 0 of `hpt`; instance i is i further.
pub const HPT: usize = 16;
/// Instance 0 of `vpa`; instance i is i further.
pub const VPA: usize = 24;
/// The PD's own timer.
pub const TIMER: usize = 40;

/// Who calls, from the channel's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// [`CONTROL`].
    Control,
    /// [`MEMSLOTS`].
    Memslots,
    /// [`SERIAL`].
    Serial,
    /// A guest, by [`ROUTE`] or [`PARENT_ROUTE`].
    Guest,
    /// [`VCPU`].
    Vcpu,
    /// Instance of [`HPT`].
    Hpt(usize),
    /// Instance of [`VPA`].
    Vpa(usize),
}

impl Peer {
    /// The peer of channel `id`.
    #[inline]
    pub const fn of(id: usize) -> Option<Peer> {
        match id {
            CONTROL => Some(Peer::Control),
            MEMSLOTS => Some(Peer::Memslots),
            SERIAL => Some(Peer::Serial),
            ROUTE | PARENT_ROUTE => Some(Peer::Guest),
            VCPU => Some(Peer::Vcpu),
            HPT..VPA if id < HPT + INSTANCES => Some(Peer::Hpt(id - HPT)),
            VPA..TIMER if id < VPA + INSTANCES => Some(Peer::Vpa(id - VPA)),
            _ => None,
        }
    }

    /// Whether it may change slots, load memory, reset: the PDs that manage the guest.
    #[inline]
    pub const fn manages(self) -> bool {
        matches!(self, Peer::Control | Peer::Vcpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_peers() {
        assert_eq!(Peer::of(CONTROL), Some(Peer::Control));
        assert_eq!(Peer::of(HPT + 3), Some(Peer::Hpt(3)));
        assert_eq!(Peer::of(HPT + INSTANCES), None);
        assert_eq!(Peer::of(VPA), Some(Peer::Vpa(0)));
        assert_eq!(Peer::of(TIMER), None);
        let managers = (0..62).filter(|id| Peer::of(*id).is_some_and(Peer::manages));
        assert!(managers.eq([CONTROL, VCPU]));
    }
}
