// SPDX-License-Identifier: BSD-2-Clause
//! The root task.

use crate::invariants;
use crate::mock::Mock;
use crate::rig::{DEVICE, ROOT_BITS, Rig};
use partita_abi::bootinfo::{BOOTINFO_MAGIC, BootInfo, ImageInfo, RootSegment};
use partita_abi::{ObjectType, init_cnode};
use partita_kernel_core::boot::{BOOTINFO_VADDR, BootError, BootParameters, IPC_BUFFER_VADDR};
use partita_kernel_core::cap::Cap;
use partita_kernel_core::kernel::{Global, Irq, Kernel};
use partita_kernel_core::machine::Machine;
use partita_kernel_core::object::{
    Core, Endpoint, Notification, Object, Reply, SchedContext, Slot, Tcb, ThreadState, Timer,
};

#[test]
fn objects_fit_their_sizes_and_slots_are_aligned() {
    fn fits<T: Object>(kind: ObjectType) {
        assert!(size_of::<T>() <= 1 << kind.bits(), "{kind:?}");
    }
    fits::<Tcb>(ObjectType::Tcb);
    fits::<Endpoint>(ObjectType::Endpoint);
    fits::<Notification>(ObjectType::Notification);
    fits::<Reply>(ObjectType::Reply);
    fits::<SchedContext>(ObjectType::SchedContext);
    fits::<Timer>(ObjectType::Timer);
    assert_eq!(size_of::<Slot>(), 32);
    // The low five bits of a slot's address carry flags in the derivation list.
    assert_eq!(core::mem::offset_of!(Tcb, slots) % 32, 0, "slots of a TCB");
    assert_eq!(
        core::mem::offset_of!(Timer, notification) % 32,
        0,
        "slot of a timer"
    );
    assert_eq!(
        core::mem::offset_of!(Irq, notification) % 32,
        0,
        "slot of an interrupt"
    );
    assert_eq!(size_of::<Irq>() % 32, 0, "slots of the interrupts");
    assert_eq!(
        core::mem::offset_of!(Global, irqs) % 32,
        0,
        "slots of the interrupts"
    );
    assert_eq!(size_of::<Core>() % 8, 0);
}

#[test]
fn the_root_task_has_its_capabilities_and_runs() {
    let rig = Rig::new();
    invariants::check(&rig);
    assert_eq!(rig.current(), Some(rig.root));
    assert_eq!(rig.state(rig.root), ThreadState::Running);
    assert_eq!(rig.cap(init_cnode::TCB as u64), Cap::Thread(rig.root));
    assert_eq!(rig.cap(init_cnode::IRQ_CONTROL as u64), Cap::IrqControl);
    assert_eq!(rig.cap(init_cnode::ASID_CONTROL as u64), Cap::AsidControl);
    assert_eq!(
        rig.cap(init_cnode::PLATFORM_CONTROL as u64),
        Cap::PlatformControl
    );
    assert_eq!(rig.cap(0), Cap::Null);
    assert_eq!(rig.gpr(rig.root, 3), BOOTINFO_VADDR);
    assert_eq!(rig.tcb(rig.root).ipc_buffer_vaddr.get(), IPC_BUFFER_VADDR);
    // The deadline is the end of the root task's slice.
    assert!(rig.m.deadline.get() > rig.m.now());
}

#[test]
fn boot_info_describes_every_untyped() {
    let rig = Rig::new();
    let page = rig.addr(init_cnode::BOOT_INFO as u64);
    let word = |offset: usize| rig.m.read_word(page + offset as u64);
    assert_eq!(word(core::mem::offset_of!(BootInfo, magic)), BOOTINFO_MAGIC);
    assert_eq!(word(core::mem::offset_of!(BootInfo, cnode_bits)), ROOT_BITS);
    assert_eq!(word(core::mem::offset_of!(BootInfo, boot_timebase)), 7);
    assert_eq!(word(core::mem::offset_of!(BootInfo, num_nodes)), 2);
    let range = core::mem::offset_of!(BootInfo, untyped);
    let (first, last) = (word(range), word(range + 8));
    let mut total = 0;
    for i in first..last {
        let Cap::Untyped(u) = rig.cap(i) else {
            panic!("slot {i} is {:?}", rig.cap(i))
        };
        let at = core::mem::offset_of!(BootInfo, untypeds) + 16 * (i - first) as usize;
        assert_eq!(word(at), u.addr);
        assert_eq!(
            word(at + 8),
            u64::from(u.bits) | (u64::from(u.device) << 32)
        );
        assert_eq!(u.addr % (1 << u.bits), 0);
        if u.device {
            assert_eq!((u.addr, u.bits), (DEVICE, 16));
        } else {
            total += 1u64 << u.bits;
        }
    }
    // All memory but what the kernel took at boot.
    assert!(total > (8 << 20) - (256 << 10) && total < 8 << 20);
    assert_eq!(word(core::mem::offset_of!(BootInfo, empty)), last);
}

#[test]
fn impossible_images_are_refused() {
    let boot = |image: &ImageInfo, bytes: u64| {
        let m = Mock::new(1 << 20);
        let g = m.global();
        g.num_cores.set(1);
        Kernel::new(&m, g, &g.cores[0]).create_root_task(&BootParameters {
            memory: &[(m.base(), m.base() + bytes)],
            devices: &[],
            image,
            frames: &[],
            boot_timebase: 0,
        })
    };
    let good = ImageInfo {
        root_cnode_bits: 10,
        ..Default::default()
    };
    assert_eq!(boot(&good, 1 << 20), Ok(()));
    assert_eq!(boot(&good, 64 << 10), Err(BootError::OutOfMemory));
    for bits in [9, 21, u64::MAX] {
        let mut bad = good;
        bad.root_cnode_bits = bits;
        assert_eq!(boot(&bad, 1 << 20), Err(BootError::BadImage));
    }
    let mut overlap = good;
    overlap.segment_count = 2;
    overlap.segments[0] = RootSegment {
        paddr: 0x1000,
        vaddr: 0x10_0000,
        size: 0x1000,
        flags: 6,
    };
    overlap.segments[1] = overlap.segments[0];
    assert_eq!(boot(&overlap, 1 << 20), Err(BootError::BadImage));
    let mut many = good;
    many.segment_count = 9;
    assert_eq!(boot(&many, 1 << 20), Err(BootError::BadImage));
}
