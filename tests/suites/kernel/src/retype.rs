// SPDX-License-Identifier: BSD-2-Clause
//! RETYPE: memory becomes objects.

use crate::support::refused;
use partita_abi::{ErrorCode, InvocationLabel as L, ObjectType, limits};
use sel4::init_thread::slot;
use sel4::{CapRights, Error, FrameObjectType, ObjectBlueprint, ObjectBlueprintArch, cap};
use testkit::kit::WINDOW;
use testkit::{Answer, Case, Kit, Outcome, check, check_eq, invoke};

pub const CASES: &[Case] = &[
    Case {
        name: "RETYPE0001 every type of object",
        body: every_type,
    },
    Case {
        name: "RETYPE0002 arguments",
        body: arguments,
    },
    Case {
        name: "RETYPE0003 memory ends",
        body: memory_ends,
    },
    Case {
        name: "RETYPE0004 objects do not overlap",
        body: no_overlap,
    },
    Case {
        name: "RETYPE0005 reused memory is zero",
        body: zeroed,
    },
    Case {
        name: "RETYPE0006 many at once",
        body: many,
    },
    Case {
        name: "RETYPE0007 device memory",
        body: device,
    },
    Case {
        name: "RETYPE0008 untyped in untyped",
        body: nested,
    },
    Case {
        name: "RETYPE0009 into another CNode",
        body: into_cnode,
    },
    Case {
        name: "RETYPE0010 memory comes back when the last object goes",
        body: comes_back,
    },
    Case {
        name: "RETYPE0011 a long retype is interrupted and right",
        body: long,
    },
];

/// Retype with bare numbers into the root CNode.
fn retype(untyped: u64, kind: u64, size_bits: u64, slot: u64, count: u64) -> Answer {
    invoke(
        untyped,
        L::UntypedRetype,
        &[kind, size_bits, 0, 0, slot, count],
        &[slot::CNODE.cptr().bits()],
    )
}

/// The types of objects that this kernel makes, with a size for those that take one.
const TYPES: [(ObjectType, u64); 13] = [
    (ObjectType::Untyped, 6),
    (ObjectType::Tcb, 0),
    (ObjectType::Endpoint, 0),
    (ObjectType::Notification, 0),
    (ObjectType::CNode, 4),
    (ObjectType::Reply, 0),
    (ObjectType::SchedContext, 0),
    (ObjectType::Frame4K, 0),
    (ObjectType::Frame64K, 0),
    (ObjectType::Frame2M, 0),
    (ObjectType::PageTable, 0),
    (ObjectType::VSpace, 0),
    (ObjectType::Timer, 0),
];

fn every_type(kit: &mut Kit) -> Outcome {
    let memory = kit.untyped(23)?;
    for (kind, size) in TYPES {
        let dest = kit.slot();
        let answer = retype(memory.bits(), kind as u64, size, dest.bits(), 1);
        if answer.label != 0 {
            testkit::fail!("{}: error {}", kind.name(), answer.label);
        }
        check!(!kit.is_empty(dest.bits()));
    }
    Ok(())
}

fn arguments(kit: &mut Kit) -> Outcome {
    let memory = kit.untyped(16)?.bits();
    let dest = kit.slot().bits();
    let slots = 1u64 << kit.boot().cnode_bits;
    let endpoint = ObjectType::Endpoint as u64;
    let count = ObjectType::COUNT as u64;
    for kind in [count, count + 1, u64::MAX] {
        let answer = retype(memory, kind, 0, dest, 1);
        refused(answer, ErrorCode::InvalidArgument)?;
        check_eq!((answer.length, answer.words[0]), (1, 0));
    }
    for (kind, bits) in [
        (ObjectType::Untyped, 0),
        (ObjectType::Untyped, 5),
        (ObjectType::CNode, 0),
    ] {
        let answer = retype(memory, kind as u64, bits, dest, 1);
        refused(answer, ErrorCode::InvalidArgument)?;
        check_eq!((answer.length, answer.words[0]), (1, 1));
    }
    for bits in [48, 64, u64::MAX] {
        let answer = retype(memory, ObjectType::Untyped as u64, bits, dest, 1);
        refused(answer, ErrorCode::RangeError)?;
        check_eq!(answer.words[..2], [6, 47]);
    }
    for bits in [43, 64, u64::MAX] {
        let answer = retype(memory, ObjectType::CNode as u64, bits, dest, 1);
        refused(answer, ErrorCode::RangeError)?;
        check_eq!(answer.words[0], 1);
    }
    let most = limits::RETYPE_FAN_OUT as u64;
    for n in [0, most + 1, u64::MAX] {
        let answer = retype(memory, endpoint, 0, dest, n);
        refused(answer, ErrorCode::RangeError)?;
        check_eq!(answer.words[..2], [1, most]);
    }
    for offset in [slots, u64::MAX] {
        refused(
            retype(memory, endpoint, 0, offset, 1),
            ErrorCode::RangeError,
        )?;
    }
    refused(
        retype(memory, endpoint, 0, slots - 2, 3),
        ErrorCode::RangeError,
    )?;
    // Slots in use, also behind the first.
    let used = kit.endpoint()?.bits();
    refused(retype(memory, endpoint, 0, used, 1), ErrorCode::DeleteFirst)?;
    refused(
        retype(memory, endpoint, 0, used - 1, 2),
        ErrorCode::DeleteFirst,
    )?;
    // The node is none.
    let root = slot::CNODE.cptr().bits();
    let no_node = invoke(
        memory,
        L::UntypedRetype,
        &[endpoint, 0, used, 64, 0, 1],
        &[root],
    );
    refused(no_node, ErrorCode::FailedLookup)?;
    let no_node = invoke(
        memory,
        L::UntypedRetype,
        &[endpoint, 0, 0, 0, dest, 1],
        &[used],
    );
    refused(no_node, ErrorCode::FailedLookup)?;
    let bad_depth = invoke(
        memory,
        L::UntypedRetype,
        &[endpoint, 0, used, 65, 0, 1],
        &[root],
    );
    refused(bad_depth, ErrorCode::RangeError)?;
    check!(kit.is_empty(dest) && kit.is_empty(used - 1));
    // Nothing of the memory was used up.
    let whole = retype(memory, ObjectType::Frame64K as u64, 0, dest, 1);
    check_eq!(whole.label, 0);
    Ok(())
}

fn memory_ends(kit: &mut Kit) -> Outcome {
    let memory = kit.untyped(12)?;
    let first: cap::Tcb = kit.retype(memory, ObjectBlueprint::Tcb)?;
    let endpoint: cap::Endpoint = kit.retype(memory, ObjectBlueprint::Endpoint)?;
    // The second TCB does not fit behind the endpoint.
    let dest = kit.slot();
    let answer = retype(memory.bits(), ObjectType::Tcb as u64, 0, dest.bits(), 1);
    refused(answer, ErrorCode::NotEnoughMemory)?;
    check_eq!((answer.length, answer.words[0]), (1, 4096 - 2048 - 64));
    check!(kit.is_empty(dest.bits()));
    let larger = retype(
        memory.bits(),
        ObjectType::Untyped as u64,
        47,
        dest.bits(),
        256,
    );
    refused(larger, ErrorCode::NotEnoughMemory)?;
    // What fits still fits.
    let rest: Result<cap::Untyped, _> =
        kit.retype(memory, ObjectBlueprint::Untyped { size_bits: 10 });
    check!(rest.is_ok());
    kit.delete(first)?;
    kit.delete(endpoint)?;
    Ok(())
}

fn no_overlap(kit: &mut Kit) -> Outcome {
    let memory = kit.untyped(20)?;
    let mut ends = 0;
    let mut regions = [(0, 0); 12];
    for (i, region) in regions.iter_mut().enumerate() {
        let kind = if i % 3 == 1 {
            FrameObjectType::_64k
        } else {
            FrameObjectType::_4k
        };
        // Something small between the frames moves the watermark.
        let _: cap::Endpoint = kit.retype(memory, ObjectBlueprint::Endpoint)?;
        let frame: cap::UnspecifiedFrame = kit.retype(memory, kind.blueprint())?;
        let address = frame.frame_get_address()?;
        check_eq!(address % kind.bytes(), 0);
        check!(address >= ends);
        ends = address + kind.bytes();
        *region = (address, ends);
    }
    let mut last = 0;
    for (start, end) in regions {
        check!(start >= last && end > start);
        last = end;
    }
    Ok(())
}

/// Reads or writes a word of the page at the window.
fn page(offset: usize) -> *mut u64 {
    core::ptr::with_exposed_provenance_mut(WINDOW + offset)
}

fn zeroed(kit: &mut Kit) -> Outcome {
    let memory = kit.untyped(16)?;
    let kind = FrameObjectType::_64k;
    let vspace = slot::VSPACE.cap();
    for round in 0..3 {
        let frame: cap::UnspecifiedFrame = kit.retype(memory, kind.blueprint())?;
        let attributes = sel4::VmAttributes::EXECUTE_NEVER;
        frame.frame_map(vspace, WINDOW, CapRights::read_write(), attributes)?;
        for offset in (0..kind.bytes()).step_by(8) {
            // SAFETY: the frame is mapped there.
            let word = unsafe { page(offset).read_volatile() };
            if word != 0 {
                testkit::fail!("word {offset:#x} is {word:#x} in round {round}");
            }
            // SAFETY: as above.
            unsafe { page(offset).write_volatile(0x5ec2e7 + offset as u64) };
        }
        kit.revoke(memory)?;
    }
    // Kernel objects in memory that held data work: they start from zero too.
    let cnode: cap::CNode = kit.retype(memory, ObjectBlueprint::CNode { size_bits: 10 })?;
    for index in 0..1024 {
        let place = cnode.absolute_cptr_from_bits_with_depth(index, 10);
        let nothing = kit.absolute(sel4::CPtr::from_bits(0));
        let attempt = place.copy(&nothing, CapRights::all());
        check_eq!(attempt, Err(Error::FailedLookup));
    }
    Ok(())
}

fn many(kit: &mut Kit) -> Outcome {
    let memory = kit.untyped(16)?;
    let most = limits::RETYPE_FAN_OUT as u64;
    let first = kit.slot().bits();
    for _ in 1..most {
        kit.slot();
    }
    let kind = ObjectType::Notification as u64;
    check_eq!(retype(memory.bits(), kind, 0, first, most).label, 0);
    // Each one is an object of its own.
    for i in 0..most {
        let ntfn = cap::Notification::from_bits(first + i);
        check_eq!(ntfn.poll().1, 0);
        let tcb = kit.tcb()?;
        tcb.tcb_bind_notification(ntfn)?;
        kit.delete(tcb)?;
    }
    kit.revoke(memory)?;
    check!((0..most).all(|i| kit.is_empty(first + i)));
    Ok(())
}

fn device(kit: &mut Kit) -> Outcome {
    // The console's frame was made from it; frames and untypeds may be, nothing else.
    let device = kit.device().bits();
    let dest = kit.slot().bits();
    for (kind, size) in TYPES {
        let allowed = matches!(
            kind,
            ObjectType::Untyped | ObjectType::Frame4K | ObjectType::Frame64K | ObjectType::Frame2M
        );
        let answer = retype(device, kind as u64, size, dest, 1);
        if allowed {
            refused(answer, ErrorCode::NotEnoughMemory)?;
        } else {
            refused(answer, ErrorCode::InvalidArgument)?;
            check_eq!(answer.words[0], 1);
        }
        check!(kit.is_empty(dest));
    }
    Ok(())
}

fn nested(kit: &mut Kit) -> Outcome {
    let outer = kit.untyped(16)?;
    let middle: cap::Untyped = kit.retype(outer, ObjectBlueprint::Untyped { size_bits: 14 })?;
    let inner: cap::Untyped = kit.retype(middle, ObjectBlueprint::Untyped { size_bits: 13 })?;
    let frame: cap::Granule = kit.retype(inner, FrameObjectType::_4k.blueprint())?;
    let other: cap::Granule = kit.retype(inner, FrameObjectType::_4k.blueprint())?;
    check!(frame.frame_get_address()? != other.frame_get_address()?);
    let full: Result<cap::Endpoint, _> = kit.retype(inner, ObjectBlueprint::Endpoint);
    check_eq!(full, Err(Error::NotEnoughMemory));
    kit.revoke(middle)?;
    check!(kit.is_empty(inner.bits()) && kit.is_empty(frame.bits()) && kit.is_empty(other.bits()));
    check!(!kit.is_empty(middle.bits()));
    kit.revoke(outer)?;
    check!(kit.is_empty(middle.bits()));
    Ok(())
}

fn into_cnode(kit: &mut Kit) -> Outcome {
    let cnode: cap::CNode = kit.object(ObjectBlueprint::CNode { size_bits: 4 })?;
    let memory = kit.memory();
    // By the CNode's own capability, and by a path from the root.
    let own = cnode.absolute_cptr_for_self();
    memory.untyped_retype(&ObjectBlueprint::Endpoint, &own, 3, 2)?;
    let path = kit.absolute(cnode);
    memory.untyped_retype(&ObjectBlueprint::Notification, &path, 5, 1)?;
    let used = memory.untyped_retype(&ObjectBlueprint::Endpoint, &path, 4, 1);
    check_eq!(used, Err(Error::DeleteFirst));
    let past = memory.untyped_retype(&ObjectBlueprint::Endpoint, &path, 15, 2);
    check_eq!(past, Err(Error::RangeError));
    let dest = kit.slot();
    let from = cnode.absolute_cptr_from_bits_with_depth(5, 4);
    kit.absolute(dest).copy(&from, CapRights::all())?;
    let ntfn = dest.cast::<sel4::cap_type::Notification>();
    ntfn.signal();
    check_eq!(ntfn.poll().1, 0);
    Ok(())
}

fn comes_back(kit: &mut Kit) -> Outcome {
    let memory = kit.untyped(12)?;
    for _ in 0..5 {
        let frame: cap::Granule = kit.retype(memory, FrameObjectType::_4k.blueprint())?;
        let twin = kit.copy(frame, CapRights::all())?;
        let full: Result<cap::Endpoint, _> = kit.retype(memory, ObjectBlueprint::Endpoint);
        check_eq!(full, Err(Error::NotEnoughMemory));
        kit.delete(frame)?;
        let full: Result<cap::Endpoint, _> = kit.retype(memory, ObjectBlueprint::Endpoint);
        check_eq!(full, Err(Error::NotEnoughMemory));
        kit.delete(twin)?;
    }
    let tree: Result<cap::PT, _> = kit.retype(memory, ObjectBlueprintArch::PT.into());
    check!(tree.is_ok());
    Ok(())
}

fn long(kit: &mut Kit) -> Outcome {
    // 4 MiB take longer to clear than the deadline below, so that the call is interrupted. It goes
    // on and makes both frames all the same.
    let memory = kit.untyped(23)?;
    let ntfn = kit.notification()?;
    let timer: cap::Timer = kit.object(ObjectBlueprintArch::Timer.into())?;
    let bell = kit.mint(ntfn, CapRights::all(), 1)?;
    timer.timer_set_notification(bell)?;
    for delay in 1..20 {
        timer.timer_set(testkit::timebase() + testkit::kit::microseconds(delay * 5))?;
        let first = kit.slot().bits();
        kit.slot();
        let answer = retype(memory.bits(), ObjectType::Frame2M as u64, 0, first, 2);
        check_eq!(answer.label, 0);
        let a = cap::_2m::from_bits(first).frame_get_address()?;
        let b = cap::_2m::from_bits(first + 1).frame_get_address()?;
        check_eq!(b, a + FrameObjectType::_2m.bytes());
        ntfn.wait();
        kit.revoke(memory)?;
    }
    Ok(())
}
