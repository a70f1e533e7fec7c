// SPDX-License-Identifier: BSD-2-Clause
//! FRAME: mapping of pages, their rights and attributes; frames as IPC buffers.

use crate::code::{RETURN, load, run_code, store};
use crate::support::{LONGEST, compose, difference, root_buffer};
use partita_abi::{FaultLabel, syscall};
use sel4::init_thread::slot;
use sel4::{CapRights, Error, FrameObjectType, MessageInfo, VmAttributes, arch, cap};
use testkit::kit::{CACHE_INHIBITED, UNMAPPED, WINDOW};
use testkit::{Case, Env, Helper, Kit, Outcome, check, check_eq, fail};

pub const CASES: &[Case] = &[
    Case {
        name: "FRAMEEXPORTS0001 frames of every size",
        body: sizes,
    },
    Case {
        name: "FRAMEXN0001 a page without instructions",
        body: execute_never,
    },
    Case {
        name: "FRAMEXN0002 a page that becomes executable",
        body: becomes_executable,
    },
    Case {
        name: "FRAMEDIPC0001 an IPC buffer that is unmapped",
        body: buffer_unmapped,
    },
    Case {
        name: "FRAMEDIPC0002 an IPC buffer whose frame is deleted",
        body: buffer_deleted,
    },
    Case {
        name: "FRAMEDIPC0003 an IPC buffer that moves",
        body: buffer_moved,
    },
    Case {
        name: "FRAME0001 rights of mappings and capabilities",
        body: rights,
    },
    Case {
        name: "FRAME0002 mapping again with other rights",
        body: remap,
    },
    Case {
        name: "FRAME0003 one capability, one mapping",
        body: one_mapping,
    },
    Case {
        name: "FRAME0004 alignment and range",
        body: range,
    },
    Case {
        name: "FRAME0005 where something is already mapped",
        body: occupied,
    },
    Case {
        name: "FRAME0006 unmapping",
        body: unmap,
    },
    Case {
        name: "FRAME0007 deleting and revoking mapped frames",
        body: deletion,
    },
    Case {
        name: "FRAME0008 memory that is asked for cache-inhibited, and code of a device",
        body: inhibited,
    },
    Case {
        name: "FRAME0009 IPC buffers must be proper",
        body: buffer_rules,
    },
];

const NONE: VmAttributes = VmAttributes::NONE;
const NO_REPLY: cap::Reply = cap::Reply::from_bits(0);

fn vspace() -> cap::VSpace {
    slot::VSPACE.cap()
}

/// Runs `body` with an address and a value; its result, or `None` if it faults.
fn attempt(
    kit: &mut Kit,
    body: testkit::thread::Body,
    address: u64,
    value: u64,
) -> Outcome<Option<u64>> {
    let faults = kit.endpoint()?;
    let thread = Helper::new(body)
        .args([address, value])
        .fault(faults)
        .start(kit)?;
    kit.settle()?;
    let got = faults.nb_recv_with_mrs(NO_REPLY);
    let result = if got.info.length() != 0 {
        check_eq!(got.info.label(), FaultLabel::VMFault as u64);
        None
    } else {
        Some(thread.join(kit)?)
    };
    thread.discard(kit)?;
    Ok(result)
}

fn sizes(kit: &mut Kit) -> Outcome {
    // A 2 MiB page goes where no last-level table is.
    let table: cap::PT = kit.object(sel4::ObjectBlueprintArch::PT.into())?;
    table.page_table_map(vspace(), UNMAPPED, NONE)?;
    let table: cap::PT = kit.object(sel4::ObjectBlueprintArch::PT.into())?;
    table.page_table_map(vspace(), UNMAPPED, NONE)?;
    for (kind, vaddr) in [
        (FrameObjectType::_4k, WINDOW),
        (FrameObjectType::_64k, WINDOW + 0x10_0000),
        (FrameObjectType::_2m, UNMAPPED + 0x20_0000),
    ] {
        let frame = kit.frame(kind)?;
        frame.frame_map(vspace(), vaddr, CapRights::read_write(), NONE)?;
        let words = kind.bytes() / 8;
        let base: *mut u64 = core::ptr::with_exposed_provenance_mut(vaddr);
        for i in (0..words).step_by(509).chain([words - 1]) {
            // SAFETY: the frame is mapped there.
            unsafe { base.add(i).write_volatile(i as u64 ^ 0xf00d) };
        }
        for i in (0..words).step_by(509).chain([words - 1]) {
            // SAFETY: as above.
            let got = unsafe { base.add(i).read_volatile() };
            if got != i as u64 ^ 0xf00d {
                fail!("word {i} is {got:#x}");
            }
        }
        // One byte before and after, nothing is mapped.
        check_eq!(attempt(kit, load, vaddr as u64 - 8, 0)?, None);
        let end = (vaddr + kind.bytes()) as u64;
        check_eq!(attempt(kit, load, end, 0)?, None);
        frame.frame_unmap()?;
        check_eq!(attempt(kit, load, vaddr as u64, 0)?, None);
        check_eq!(attempt(kit, load, end - 8, 0)?, None);
    }
    Ok(())
}

fn execute_never(kit: &mut Kit) -> Outcome {
    let frame = kit.page_at(WINDOW)?;
    // SAFETY: mapped just now.
    unsafe { (WINDOW as *mut u32).write_volatile(RETURN) };
    for rights in [CapRights::read_write(), CapRights::read_only()] {
        frame.frame_map(vspace(), WINDOW, rights, VmAttributes::EXECUTE_NEVER)?;
        check_eq!(attempt(kit, run_code, WINDOW as u64, 1)?, None);
        check_eq!(
            attempt(kit, load, WINDOW as u64, 0)?,
            Some(u64::from(RETURN))
        );
    }
    Ok(())
}

fn becomes_executable(kit: &mut Kit) -> Outcome {
    let frame = kit.page_at(WINDOW)?;
    let words: *mut u32 = core::ptr::with_exposed_provenance_mut(WINDOW);
    for round in 0..5u32 {
        // li r3, round; blr: written anew and fetched anew.
        // SAFETY: mapped readable and writable.
        unsafe {
            words.write_volatile(0x3860_0000 | round);
            words.add(1).write_volatile(RETURN);
        }
        frame.frame_map(vspace(), WINDOW, CapRights::read_only(), NONE)?;
        check_eq!(
            attempt(kit, run_code, WINDOW as u64, 9)?,
            Some(u64::from(round))
        );
        check_eq!(attempt(kit, store, WINDOW as u64, 9)?, None);
        frame.frame_map(vspace(), WINDOW, CapRights::read_write(), NONE)?;
    }
    Ok(())
}

/// Sends long messages. Words: endpoint, IPC buffer as this program maps it, how many.
fn send_long(env: &Env) -> u64 {
    let buffer = core::ptr::with_exposed_provenance_mut(env.args[1] as usize);
    for _ in 0..env.args[2] {
        let words = compose(buffer, 4, LONGEST);
        let info = MessageInfo::new(0, 0, 0, LONGEST).into_word();
        arch::send(syscall::SEND, env.args[0], info, words);
    }
    1
}

fn buffer_unmapped(kit: &mut Kit) -> Outcome {
    // The kernel knows the frame, not the address: unmapping takes the buffer from the thread's view,
    // not from the kernel's.
    let endpoint = kit.endpoint()?;
    let second = WINDOW;
    let thread = Helper::new(send_long)
        .args([endpoint.bits(), second as u64, 2])
        .make(kit)?;
    let twin = kit.copy(thread.frame, CapRights::read_write())?;
    twin.frame_map(vspace(), second, CapRights::read_write(), NONE)?;
    thread.frame.frame_unmap()?;
    thread.tcb.tcb_resume()?;
    for _ in 0..2 {
        let got = arch::recv(syscall::RECV, endpoint.bits(), 0);
        check_eq!(difference(root_buffer(kit), &got, 4, LONGEST), None);
    }
    check_eq!(thread.join(kit)?, 1);
    Ok(())
}

fn buffer_deleted(kit: &mut Kit) -> Outcome {
    // With the last capability the frame itself goes: the thread has no buffer any more, and messages
    // end after the registers.
    let endpoint = kit.endpoint()?;
    let memory = kit.untyped(12)?;
    let frame: cap::Granule = kit.retype(memory, FrameObjectType::GRANULE.blueprint())?;
    frame.frame_map(vspace(), WINDOW, CapRights::read_write(), NONE)?;
    let thread = Helper::new(send_long)
        .args([endpoint.bits(), WINDOW as u64, 1])
        .make(kit)?;
    thread.tcb.tcb_set_ipc_buffer(WINDOW as u64, frame)?;
    thread.tcb.tcb_resume()?;
    kit.revoke(memory)?;
    let got = arch::recv(syscall::RECV, endpoint.bits(), 0);
    check_eq!(
        MessageInfo::from_word(got.info).length(),
        crate::support::FAST
    );
    // The memory is used for something else; the thread's next message does not touch it.
    let other: cap::Granule = kit.retype(memory, FrameObjectType::GRANULE.blueprint())?;
    other.frame_map(vspace(), WINDOW, CapRights::read_write(), NONE)?;
    check_eq!(thread.join(kit)?, 1);
    let receiver = Helper::new(crate::support::receive_once)
        .args([endpoint.bits(), 0])
        .make(kit)?;
    receiver.tcb.tcb_set_ipc_buffer(WINDOW as u64, other)?;
    kit.revoke(memory)?;
    let third: cap::Granule = kit.retype(memory, FrameObjectType::GRANULE.blueprint())?;
    third.frame_map(vspace(), WINDOW, CapRights::read_write(), NONE)?;
    receiver.tcb.tcb_resume()?;
    let words = compose(root_buffer(kit), 8, LONGEST);
    let info = MessageInfo::new(0, 0, 0, LONGEST).into_word();
    arch::send(syscall::SEND, endpoint.bits(), info, words);
    receiver.join(kit)?;
    for i in 0..512 {
        // SAFETY: the third frame is mapped there.
        let word = unsafe { (WINDOW as *const u64).add(i).read_volatile() };
        check_eq!(word, 0);
    }
    Ok(())
}

fn buffer_moved(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let frame = kit.page_at(WINDOW)?;
    let thread = Helper::new(send_long)
        .args([endpoint.bits(), WINDOW as u64 + 0x400, 1])
        .make(kit)?;
    thread
        .tcb
        .tcb_set_ipc_buffer(WINDOW as u64 + 0x400, frame)?;
    thread.tcb.tcb_resume()?;
    let got = arch::recv(syscall::RECV, endpoint.bits(), 0);
    check_eq!(difference(root_buffer(kit), &got, 4, LONGEST), None);
    thread.join(kit)?;
    // In the middle of a 64 KiB frame.
    let big = kit.frame(FrameObjectType::_64k)?;
    big.frame_map(vspace(), WINDOW + 0x10_0000, CapRights::read_write(), NONE)?;
    let at = WINDOW as u64 + 0x10_0000 + 0xa800;
    let thread = Helper::new(send_long)
        .args([endpoint.bits(), at, 1])
        .make(kit)?;
    thread.tcb.tcb_set_ipc_buffer(at, big.cast())?;
    thread.tcb.tcb_resume()?;
    let got = arch::recv(syscall::RECV, endpoint.bits(), 0);
    check_eq!(difference(root_buffer(kit), &got, 4, LONGEST), None);
    thread.join(kit)?;
    Ok(())
}

fn rights(kit: &mut Kit) -> Outcome {
    let frame = kit.page_at(WINDOW)?;
    let page = WINDOW as u64 + 0x1000;
    // (rights of the capability, of the mapping, readable, writable)
    for (cap_rights, map_rights, reads, writes) in [
        (CapRights::read_write(), CapRights::read_write(), true, true),
        (CapRights::read_write(), CapRights::read_only(), true, false),
        (CapRights::read_only(), CapRights::read_write(), true, false),
        (CapRights::read_only(), CapRights::all(), true, false),
        (CapRights::none(), CapRights::read_write(), false, false),
        (CapRights::read_write(), CapRights::none(), false, false),
    ] {
        let twin = kit.mint(frame, cap_rights, 0)?;
        twin.frame_map(vspace(), page as usize, map_rights, NONE)?;
        check_eq!(attempt(kit, load, page, 0)?.is_some(), reads);
        check_eq!(attempt(kit, store, page, 1)?.is_some(), writes);
        kit.delete(twin)?;
        check_eq!(attempt(kit, load, page, 0)?, None);
    }
    Ok(())
}

fn remap(kit: &mut Kit) -> Outcome {
    let frame = kit.page_at(WINDOW)?;
    let at = WINDOW as u64;
    check!(attempt(kit, store, at, 5)?.is_some());
    frame.frame_map(vspace(), WINDOW, CapRights::read_only(), NONE)?;
    check_eq!(attempt(kit, store, at, 6)?, None);
    check_eq!(attempt(kit, load, at, 0)?, Some(5));
    frame.frame_map(vspace(), WINDOW, CapRights::read_write(), NONE)?;
    check!(attempt(kit, store, at, 7)?.is_some());
    frame.frame_map(vspace(), WINDOW, CapRights::none(), NONE)?;
    check_eq!(attempt(kit, load, at, 0)?, None);
    // The 64 KiB kind, all of its sixteen entries.
    let big = kit.frame(FrameObjectType::_64k)?;
    let vaddr = WINDOW + 0x10_0000;
    big.frame_map(vspace(), vaddr, CapRights::read_write(), NONE)?;
    big.frame_map(vspace(), vaddr, CapRights::read_only(), NONE)?;
    for offset in [0, 0x8000, 0xf000] {
        check_eq!(attempt(kit, store, (vaddr + offset) as u64, 6)?, None);
        check_eq!(attempt(kit, load, (vaddr + offset) as u64, 6)?, Some(0));
    }
    Ok(())
}

fn one_mapping(kit: &mut Kit) -> Outcome {
    let frame = kit.page_at(WINDOW)?;
    let elsewhere = frame.frame_map(vspace(), WINDOW + 0x1000, CapRights::read_write(), NONE);
    check_eq!(elsewhere, Err(Error::InvalidCapability));
    // A copy may be mapped elsewhere, or in another address space; both show the same memory.
    let twin = kit.copy(frame, CapRights::read_write())?;
    twin.frame_map(vspace(), WINDOW + 0x1000, CapRights::read_write(), NONE)?;
    // SAFETY: both are mapped.
    unsafe {
        (WINDOW as *mut u64).write_volatile(0xabc);
        check_eq!(((WINDOW + 0x1000) as *const u64).read_volatile(), 0xabc);
    }
    let space = testkit::Space::new(kit)?;
    let elsewhere = twin.frame_map(space.root, WINDOW, CapRights::read_write(), NONE);
    check!(elsewhere.is_err());
    let third = kit.copy(frame, CapRights::read_write())?;
    space.map(kit, third, WINDOW, CapRights::read_write(), NONE)?;
    Ok(())
}

fn range(kit: &mut Kit) -> Outcome {
    let rw = CapRights::read_write();
    let small = kit.frame(FrameObjectType::_4k)?;
    let big = kit.frame(FrameObjectType::_64k)?;
    let huge = kit.frame(FrameObjectType::_2m)?;
    check_eq!(
        small.frame_map(vspace(), WINDOW + 8, rw, NONE),
        Err(Error::AlignmentError)
    );
    check_eq!(
        big.frame_map(vspace(), WINDOW + 0x1000, rw, NONE),
        Err(Error::AlignmentError)
    );
    check_eq!(
        huge.frame_map(vspace(), WINDOW + 0x1_0000, rw, NONE),
        Err(Error::AlignmentError)
    );
    for vaddr in [
        0x4000_0000_0000,
        0x8000_0000_0000_0000,
        usize::MAX & !0x1f_ffff,
    ] {
        for frame in [small, big, huge] {
            check_eq!(
                frame.frame_map(vspace(), vaddr, rw, NONE),
                Err(Error::InvalidArgument)
            );
        }
    }
    // No tables there; and a space that is none, or has no PID.
    check_eq!(
        small.frame_map(vspace(), UNMAPPED, rw, NONE),
        Err(Error::FailedLookup)
    );
    let wrong: cap::VSpace = kit.endpoint()?.cast();
    check_eq!(
        small.frame_map(wrong, WINDOW, rw, NONE),
        Err(Error::InvalidCapability)
    );
    let fresh: cap::VSpace = kit.object(sel4::ObjectBlueprintArch::VSpace.into())?;
    check_eq!(
        small.frame_map(fresh, WINDOW, rw, NONE),
        Err(Error::FailedLookup)
    );
    small.frame_map(vspace(), WINDOW, rw, NONE)?;
    Ok(())
}

fn occupied(kit: &mut Kit) -> Outcome {
    let rw = CapRights::read_write();
    let _first = kit.page_at(WINDOW + 0x3000)?;
    // SAFETY: mapped just now.
    unsafe { ((WINDOW + 0x3000) as *mut u64).write_volatile(0x11) };
    let second = kit.frame(FrameObjectType::_4k)?;
    check_eq!(
        second.frame_map(vspace(), WINDOW + 0x3000, rw, NONE),
        Err(Error::DeleteFirst)
    );
    let big = kit.frame(FrameObjectType::_64k)?;
    check_eq!(
        big.frame_map(vspace(), WINDOW, rw, NONE),
        Err(Error::DeleteFirst)
    );
    // Where a table is, no large page fits.
    let huge = kit.frame(FrameObjectType::_2m)?;
    check_eq!(
        huge.frame_map(vspace(), WINDOW, rw, NONE),
        Err(Error::DeleteFirst)
    );
    // SAFETY: still mapped.
    let kept = unsafe { ((WINDOW + 0x3000) as *const u64).read_volatile() };
    check_eq!(kept, 0x11);
    check_eq!(attempt(kit, load, WINDOW as u64, 0)?, None);
    Ok(())
}

fn unmap(kit: &mut Kit) -> Outcome {
    let frame = kit.page_at(WINDOW)?;
    check_eq!(attempt(kit, load, WINDOW as u64, 0)?, Some(0));
    frame.frame_unmap()?;
    check_eq!(attempt(kit, load, WINDOW as u64, 0)?, None);
    // Unmapping what is not mapped is no error.
    frame.frame_unmap()?;
    // A copy's unmapping leaves the original's mapping alone.
    frame.frame_map(vspace(), WINDOW, CapRights::read_write(), NONE)?;
    let twin = kit.copy(frame, CapRights::all())?;
    twin.frame_unmap()?;
    check_eq!(attempt(kit, load, WINDOW as u64, 0)?, Some(0));
    Ok(())
}

fn deletion(kit: &mut Kit) -> Outcome {
    let at = WINDOW as u64;
    let frame = kit.page_at(WINDOW)?;
    let twin = kit.copy(frame, CapRights::all())?;
    // Not the last capability: its own mapping goes all the same.
    kit.delete(frame)?;
    check_eq!(attempt(kit, load, at, 0)?, None);
    twin.frame_map(vspace(), WINDOW, CapRights::read_write(), NONE)?;
    check_eq!(attempt(kit, load, at, 0)?, Some(0));
    // Memory revoked under a mapping, at once.
    let memory = kit.untyped(16)?;
    let big: cap::_64k = kit.retype(memory, FrameObjectType::_64k.blueprint())?;
    let vaddr = WINDOW + 0x10_0000;
    big.frame_map(vspace(), vaddr, CapRights::read_write(), NONE)?;
    check_eq!(attempt(kit, store, vaddr as u64 + 0x9000, 1)?, Some(1));
    kit.revoke(memory)?;
    check_eq!(attempt(kit, load, vaddr as u64 + 0x9000, 0)?, None);
    Ok(())
}

fn inhibited(kit: &mut Kit) -> Outcome {
    let frame = kit.page_at(WINDOW)?;
    let attributes = VmAttributes::from_bits(CACHE_INHIBITED) | VmAttributes::EXECUTE_NEVER;
    frame.frame_map(vspace(), WINDOW, CapRights::read_write(), attributes)?;
    check_eq!(attempt(kit, store, WINDOW as u64, 0x77)?, Some(1));
    frame.frame_map(vspace(), WINDOW, CapRights::read_write(), NONE)?;
    check_eq!(attempt(kit, load, WINDOW as u64, 0)?, Some(0x77));
    // A device's page is never executable, whatever the attributes say.
    let twin = kit.copy(kit.uart(), CapRights::all())?;
    twin.frame_map(vspace(), WINDOW + 0x1000, CapRights::read_write(), NONE)?;
    check_eq!(attempt(kit, run_code, WINDOW as u64 + 0x1000, 0)?, None);
    Ok(())
}

fn buffer_rules(kit: &mut Kit) -> Outcome {
    let tcb = kit.tcb()?;
    let frame: cap::Granule = kit.frame(FrameObjectType::_4k)?.cast();
    let set = |frame: cap::Granule, vaddr: u64| tcb.tcb_set_ipc_buffer(vaddr, frame);
    check_eq!(set(frame, WINDOW as u64 + 8), Err(Error::AlignmentError));
    check_eq!(
        set(frame, WINDOW as u64 + 0x200),
        Err(Error::AlignmentError)
    );
    let read_only = kit.mint(frame, CapRights::read_only(), 0)?;
    check_eq!(set(read_only, WINDOW as u64), Err(Error::IllegalOperation));
    check_eq!(set(kit.uart(), WINDOW as u64), Err(Error::IllegalOperation));
    check_eq!(
        set(kit.endpoint()?.cast(), WINDOW as u64),
        Err(Error::IllegalOperation)
    );
    set(frame, WINDOW as u64 + 0x400)?;
    // Address 0: none.
    set(cap::Granule::from_bits(0), 0)?;
    Ok(())
}
