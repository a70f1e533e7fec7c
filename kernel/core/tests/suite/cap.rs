// SPDX-License-Identifier: BSD-2-Clause
//! The two words of a capability.

use crate::rig::cases;
use partita_abi::CapRights;
use partita_kernel_core::cap::{Cap, Frame, Mapping, Untyped, View, Zombie};
use partita_kernel_core::object::{Ref, Tcb};
use proptest::prelude::*;

fn address(bits: u32) -> impl Strategy<Value = u64> {
    (1u64..1 << (48 - bits)).prop_map(move |a| a << bits)
}

fn object<T>(bits: u32) -> impl Strategy<Value = Ref<T>> {
    address(bits).prop_map(|a| Ref::new(a).expect("not zero"))
}

fn rights(bits: u64) -> impl Strategy<Value = CapRights> {
    (0..=bits).prop_map(move |r| CapRights(r & bits))
}

fn mapping() -> impl Strategy<Value = Option<Mapping>> {
    let one = (1u64..0x1_0000, 0u64..1 << 34).prop_map(|(pid, page)| Mapping {
        pid,
        vaddr: page << 12,
    });
    proptest::option::of(one)
}

fn frame() -> impl Strategy<Value = Cap> {
    let bits = prop_oneof![Just(12u32), Just(16), Just(21)];
    (bits, 1u64..1 << 35, rights(3), any::<bool>(), mapping()).prop_map(
        |(bits, page, rights, device, mapping)| {
            Cap::Frame(Frame {
                addr: page << 21,
                bits,
                rights,
                device,
                mapping,
            })
        },
    )
}

fn untyped() -> impl Strategy<Value = Cap> {
    let place = (6u32..=47, any::<u64>());
    (place, any::<u64>(), 0u64..1 << 21, any::<bool>()).prop_map(
        |((bits, addr), free, zeroed, device)| {
            Cap::Untyped(Untyped {
                // Devices can lie anywhere below 2^56.
                addr: (addr >> 8 >> bits) << bits,
                bits,
                free: (free % ((1 << bits) + 1)) & !63,
                zeroed,
                device,
            })
        },
    )
}

fn cnode() -> impl Strategy<Value = Cap> {
    (address(6), 1u32..=42, 0u32..64, any::<u64>()).prop_map(|(addr, radix, guard_bits, guard)| {
        let mask = if guard_bits == 0 {
            0
        } else {
            u64::MAX >> (64 - guard_bits)
        };
        Cap::CNode {
            addr,
            radix,
            guard: guard & mask & (u64::MAX >> 6),
            guard_bits,
        }
    })
}

fn view() -> impl Strategy<Value = Cap> {
    let place = (1u64..4096, 0u64..1 << 30, 0u64..1 << 34).prop_map(|(pid, page, gfn)| {
        let vaddr = page << 12;
        (Mapping { pid, vaddr }, gfn << 12)
    });
    (object(12), rights(3), proptest::option::of(place)).prop_map(|(gspace, rights, mapping)| {
        Cap::View(View {
            gspace,
            rights,
            mapping,
        })
    })
}

fn any_cap() -> impl Strategy<Value = Cap> {
    let generic = prop_oneof![
        Just(Cap::Null),
        untyped(),
        (object(6), any::<u64>(), rights(15)).prop_map(|(ep, badge, rights)| Cap::Endpoint {
            ep,
            badge,
            rights
        }),
        (object(6), any::<u64>(), rights(15)).prop_map(|(ntfn, badge, rights)| {
            Cap::Notification {
                ntfn,
                badge,
                rights,
            }
        }),
        (object(6), any::<bool>()).prop_map(|(reply, can_grant)| Cap::Reply { reply, can_grant }),
        cnode(),
        object(11).prop_map(Cap::Thread),
        Just(Cap::IrqControl),
        (0usize..64).prop_map(|index| Cap::IrqHandler { index }),
        object(8).prop_map(Cap::SchedContext),
        (0usize..4).prop_map(|core| Cap::SchedControl { core }),
        object(6).prop_map(Cap::Timer),
        Just(Cap::PlatformControl),
    ];
    let arch = prop_oneof![
        frame(),
        (address(12), mapping()).prop_map(|(addr, mapping)| Cap::PageTable { addr, mapping }),
        address(16).prop_map(|addr| Cap::VSpace { addr }),
        Just(Cap::AsidControl),
        (address(12), 0usize..8).prop_map(|(addr, index)| Cap::AsidPool { addr, index }),
        Just(Cap::LpidControl),
        object(12).prop_map(Cap::GSpace),
        (address(13), mapping()).prop_map(|(addr, mapping)| Cap::GPageTable { addr, mapping }),
        view(),
        (address(18), 18u32..=36, 0u64..64).prop_map(|(addr, order, lpid)| Cap::Hpt {
            addr,
            order,
            lpid
        }),
        (address(16), 16u32..=34).prop_map(|(addr, bits)| Cap::HptGfns { addr, bits }),
        (object(12), rights(15)).prop_map(|(vcpu, rights)| Cap::VCpu { vcpu, rights }),
    ];
    prop_oneof![generic, arch, zombie()]
}

fn zombie() -> impl Strategy<Value = Cap> {
    prop_oneof![
        (address(6), 1u32..=42, any::<u64>()).prop_map(|(addr, kind, n)| {
            Cap::Zombie(Zombie {
                slots: addr,
                addr,
                kind,
                remaining: n % ((1 << kind) + 1),
            })
        }),
        (address(11), 0u64..6).prop_map(|(addr, remaining)| {
            Cap::Zombie(Zombie {
                slots: addr + core::mem::offset_of!(Tcb, slots) as u64,
                addr,
                kind: Zombie::TCB,
                remaining,
            })
        }),
    ]
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn packing_loses_nothing(cap in any_cap()) {
        let (w0, w1) = cap.pack();
        prop_assert_eq!(Cap::unpack(w0, w1), cap);
        // An empty slot is told by its first word.
        prop_assert_eq!(w0 == 0, cap.is_null());
    }

    #[test]
    fn any_words_decode(tag in 0u64..32, low: u64, w1: u64) {
        let cap = Cap::unpack(tag << 56 | low >> 8, w1);
        prop_assert_eq!(Cap::unpack(cap.pack().0, cap.pack().1), cap);
    }
}
