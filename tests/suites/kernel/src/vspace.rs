// SPDX-License-Identifier: BSD-2-Clause
//! VSPACE: address spaces, page tables and their identifiers.

use crate::code::{load, store};
use crate::support::{call_once, nothing};
use partita_abi::{FaultLabel, limits};
use sel4::init_thread::slot;
use sel4::{
    CNodeCapData, CapRights, Error, FrameObjectType, ObjectBlueprint, ObjectBlueprintArch,
    VmAttributes, cap,
};
use testkit::kit::{UNMAPPED, WINDOW};
use testkit::{Case, Helper, Image, Kit, Outcome, Space, check, check_eq};

pub const CASES: &[Case] = &[
    Case {
        name: "VSPACE0001 a thread in an address space of its own",
        body: own_space,
    },
    Case {
        name: "VSPACE0002 address spaces see only their own pages",
        body: isolation,
    },
    Case {
        name: "VSPACE0003 page tables",
        body: tables,
    },
    Case {
        name: "VSPACE0004 unmapping a page table",
        body: unmap_table,
    },
    Case {
        name: "VSPACE0005 a page table that is deleted under its pages",
        body: delete_table,
    },
    Case {
        name: "VSPACE0006 an address space is deleted under its thread",
        body: delete_space,
    },
    Case {
        name: "VSPACE0007 identifiers come back",
        body: identifiers,
    },
    Case {
        name: "VSPACE0008 an identifier is given once",
        body: once,
    },
    Case {
        name: "VSPACE0009 pools of identifiers",
        body: pools,
    },
    Case {
        name: "VSPACE0010 a reused identifier shows nothing of the last space",
        body: reused,
    },
    Case {
        name: "VSPACE0011 a space without identifier is no thread's",
        body: unassigned,
    },
    Case {
        name: "VSPACE0012 address space switches keep the pages apart",
        body: switches,
    },
];

const NONE: VmAttributes = VmAttributes::NONE;
const NO_REPLY: cap::Reply = cap::Reply::from_bits(0);

fn new_table(kit: &mut Kit) -> Outcome<cap::PT> {
    Ok(kit.object(ObjectBlueprintArch::PT.into())?)
}

fn own_space(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let space = Space::new(kit)?;
    let client = Helper::new(call_once)
        .args([endpoint.bits(), 3, 99])
        .vspace(space.root)
        .without_buffer()
        .make(kit)?;
    space.clone_image(kit)?;
    client.tcb.tcb_resume()?;
    let got = endpoint.recv_with_mrs(reply);
    check_eq!((got.info.label(), got.msg[0]), (3, 99));
    // Its data are copies: its end shows there, not here.
    reply.send_with_mrs(sel4::MessageInfo::new(0, 0, 0, 1), [1]);
    kit.settle()?;
    check!(!client.finished());
    Ok(())
}

fn isolation(kit: &mut Kit) -> Outcome {
    // A page at one address in three spaces, different memory each; what is mapped here only is not
    // there.
    kit.page_at(WINDOW)?;
    kit.page_at(WINDOW + 0x1000)?;
    // SAFETY: mapped just now.
    unsafe { (WINDOW as *mut u64).write_volatile(1) };
    for value in [2u64, 3] {
        let faults = kit.endpoint()?;
        let space = Space::new(kit)?;
        let bytes = value.to_ne_bytes();
        space.map_copy(kit, WINDOW, &bytes, CapRights::read_write(), NONE)?;
        let reader = Helper::new(load)
            .args([WINDOW as u64])
            .vspace(space.root)
            .fault(faults)
            .without_buffer()
            .make(kit)?;
        let other = Helper::new(store)
            .args([WINDOW as u64 + 0x1000, 0xbad])
            .vspace(space.root)
            .fault(faults)
            .without_buffer()
            .make(kit)?;
        let image = space.clone_image(kit)?;
        reader.tcb.tcb_resume()?;
        // The end of its body is a trap; the result is in a register, on its way to memory.
        let got = faults.recv_with_mrs(NO_REPLY);
        check_eq!(got.info.label(), FaultLabel::UserException as u64);
        check_eq!(read_result(kit, &image, reader)?, value);
        other.tcb.tcb_resume()?;
        let got = faults.recv_with_mrs(NO_REPLY);
        check_eq!(got.info.label(), FaultLabel::VMFault as u64);
        check_eq!(got.msg[1], WINDOW as u64 + 0x1000);
    }
    // SAFETY: mapped all along.
    unsafe {
        check_eq!((WINDOW as *const u64).read_volatile(), 1);
        check_eq!(((WINDOW + 0x1000) as *const u64).read_volatile(), 0);
    }
    Ok(())
}

/// The result of a thread in a clone of the program: in that clone's copy of the record.
fn read_result(kit: &mut Kit, image: &Image, thread: testkit::Thread) -> Outcome<u64> {
    let address = thread.result_address();
    let page = address & !0xfff;
    let frame = image.frame_at(page)?;
    let view = kit.copy(frame, CapRights::read_only())?;
    let at = WINDOW + 0x8000;
    view.frame_map(slot::VSPACE.cap(), at, CapRights::read_only(), NONE)?;
    // SAFETY: mapped just now; the record's word lies inside the page.
    let result = unsafe { ((at + address - page) as *const u64).read_volatile() };
    kit.delete(view)?;
    Ok(result)
}

fn tables(kit: &mut Kit) -> Outcome {
    let vspace = slot::VSPACE.cap();
    let frame = kit.frame(FrameObjectType::_4k)?;
    let rw = CapRights::read_write();
    for _ in 0..3 {
        check_eq!(
            frame.frame_map(vspace, UNMAPPED, rw, NONE),
            Err(Error::FailedLookup)
        );
        let table = new_table(kit)?;
        table.page_table_map(vspace, UNMAPPED + 0x1234, NONE)?;
        // One table, one place.
        check_eq!(
            table.page_table_map(vspace, UNMAPPED, NONE),
            Err(Error::InvalidCapability)
        );
    }
    frame.frame_map(vspace, UNMAPPED, rw, NONE)?;
    let more = new_table(kit)?;
    check_eq!(
        more.page_table_map(vspace, UNMAPPED, NONE),
        Err(Error::DeleteFirst)
    );
    for vaddr in [0x4000_0000_0000, 0xc000_0000_0000_0000, usize::MAX] {
        check_eq!(
            more.page_table_map(vspace, vaddr, NONE),
            Err(Error::InvalidArgument)
        );
    }
    let wrong: cap::VSpace = kit.notification()?.cast();
    check_eq!(
        more.page_table_map(wrong, UNMAPPED, NONE),
        Err(Error::InvalidCapability)
    );
    let fresh: cap::VSpace = kit.object(ObjectBlueprintArch::VSpace.into())?;
    check_eq!(
        more.page_table_map(fresh, UNMAPPED, NONE),
        Err(Error::FailedLookup)
    );
    more.page_table_map(vspace, UNMAPPED + 0x20_0000, NONE)?;
    Ok(())
}

/// Tables for `UNMAPPED` down to the last level; the last table.
fn tables_down(kit: &mut Kit) -> Outcome<cap::PT> {
    let vspace = slot::VSPACE.cap();
    let mut last = new_table(kit)?;
    last.page_table_map(vspace, UNMAPPED, NONE)?;
    for _ in 0..2 {
        last = new_table(kit)?;
        last.page_table_map(vspace, UNMAPPED, NONE)?;
    }
    Ok(last)
}

fn faults_at(kit: &mut Kit, address: usize) -> Outcome<bool> {
    let faults = kit.endpoint()?;
    let thread = Helper::new(load)
        .args([address as u64])
        .fault(faults)
        .start(kit)?;
    kit.settle()?;
    let faulted = faults.nb_recv_with_mrs(NO_REPLY).info.length() != 0;
    thread.discard(kit)?;
    Ok(faulted)
}

fn unmap_table(kit: &mut Kit) -> Outcome {
    let last = tables_down(kit)?;
    let vspace = slot::VSPACE.cap();
    let frame = kit.page_at(UNMAPPED)?;
    check!(!faults_at(kit, UNMAPPED)?);
    // Two capabilities to it: refused.
    let twin = kit.copy(last, CapRights::all())?;
    check_eq!(last.page_table_unmap(), Err(Error::RevokeFirst));
    check!(!faults_at(kit, UNMAPPED)?);
    kit.delete(twin)?;
    last.page_table_unmap()?;
    check!(faults_at(kit, UNMAPPED)?);
    last.page_table_unmap()?;
    // Mapped again it is empty, and the frame can be mapped in it.
    last.page_table_map(vspace, UNMAPPED, NONE)?;
    check!(faults_at(kit, UNMAPPED)?);
    frame.frame_map(vspace, UNMAPPED, CapRights::read_write(), NONE)?;
    check!(!faults_at(kit, UNMAPPED)?);
    Ok(())
}

fn delete_table(kit: &mut Kit) -> Outcome {
    let last = tables_down(kit)?;
    let vspace = slot::VSPACE.cap();
    let old = kit.page_at(UNMAPPED)?;
    kit.delete(last)?;
    check!(faults_at(kit, UNMAPPED)?);
    // Another table and another page in the same place: unmapping the old frame does not touch them.
    let table = new_table(kit)?;
    table.page_table_map(vspace, UNMAPPED, NONE)?;
    let new = kit.page_at(UNMAPPED)?;
    old.frame_unmap()?;
    check!(!faults_at(kit, UNMAPPED)?);
    kit.delete(old)?;
    check!(!faults_at(kit, UNMAPPED)?);
    new.frame_unmap()?;
    check!(faults_at(kit, UNMAPPED)?);
    Ok(())
}

fn delete_space(kit: &mut Kit) -> Outcome {
    let space = Space::new(kit)?;
    let faults = kit.endpoint()?;
    let thread = Helper::new(crate::support::spin)
        .vspace(space.root)
        .priority(50)
        .fault(faults)
        .without_buffer()
        .make(kit)?;
    space.clone_image(kit)?;
    thread.tcb.tcb_resume()?;
    kit.sleep(15_000)?;
    check_eq!(faults.nb_recv_with_mrs(NO_REPLY).info.length(), 0);
    space.destroy(kit)?;
    kit.sleep(15_000)?;
    let got = faults.nb_recv_with_mrs(NO_REPLY);
    check_eq!(got.info.label(), FaultLabel::VMFault as u64);
    // In another space it can go on.
    let context = thread.tcb.tcb_read_registers(false, 1)?;
    check!(*context.pc() != 0);
    thread.tcb.tcb_set_space(
        faults,
        kit.cnode(),
        CNodeCapData::new(0, 0),
        slot::VSPACE.cap(),
    )?;
    Ok(())
}

fn identifiers(kit: &mut Kit) -> Outcome {
    // More spaces, one after the other, than there are identifiers in a pool.
    let pool = slot::ASID_POOL.cap();
    let memory = kit.untyped(16)?;
    for _ in 0..limits::ASIDS_PER_POOL + 10 {
        let root: cap::VSpace = kit.retype(memory, ObjectBlueprintArch::VSpace.into())?;
        pool.asid_pool_assign(root)?;
        kit.delete(root)?;
        kit.forget_slot(root);
    }
    Ok(())
}

fn once(kit: &mut Kit) -> Outcome {
    let pool = slot::ASID_POOL.cap();
    let root: cap::VSpace = kit.object(ObjectBlueprintArch::VSpace.into())?;
    pool.asid_pool_assign(root)?;
    check_eq!(pool.asid_pool_assign(root), Err(Error::InvalidCapability));
    let wrong: cap::VSpace = new_table(kit)?.cast();
    check_eq!(pool.asid_pool_assign(wrong), Err(Error::InvalidCapability));
    Ok(())
}

fn pools(kit: &mut Kit) -> Outcome {
    let control = slot::ASID_CONTROL.cap();
    let dest = kit.slot();
    // Not memory, the wrong size, memory in use, device memory.
    let place = kit.absolute(dest);
    let wrong: cap::Untyped = kit.endpoint()?.cast();
    check_eq!(
        control.asid_control_make_pool(wrong, &place),
        Err(Error::InvalidCapability)
    );
    let big = kit.untyped(13)?;
    check_eq!(
        control.asid_control_make_pool(big, &place),
        Err(Error::InvalidCapability)
    );
    let used = kit.untyped(12)?;
    let endpoint: cap::Endpoint = kit.retype(used, ObjectBlueprint::Endpoint)?;
    check_eq!(
        control.asid_control_make_pool(used, &place),
        Err(Error::RevokeFirst)
    );
    check_eq!(
        control.asid_control_make_pool(kit.device(), &place),
        Err(Error::InvalidCapability)
    );
    kit.delete(endpoint)?;
    let taken = kit.absolute(used);
    check_eq!(
        control.asid_control_make_pool(used, &taken),
        Err(Error::DeleteFirst)
    );
    check!(kit.is_empty(dest.bits()));
    // As many as there may be, one of which is the root task's.
    for i in 0..limits::MAX_ASID_POOLS {
        let memory = kit.untyped(12)?;
        let dest = kit.slot();
        let made = control.asid_control_make_pool(memory, &kit.absolute(dest));
        if i == limits::MAX_ASID_POOLS - 1 {
            check_eq!(made, Err(Error::DeleteFirst));
        } else {
            made?;
            let full: Result<cap::Endpoint, _> = kit.retype(memory, ObjectBlueprint::Endpoint);
            check_eq!(full, Err(Error::NotEnoughMemory));
        }
    }
    Ok(())
}

fn reused(kit: &mut Kit) -> Outcome {
    // Two pools' worth of spaces are made and deleted while one lives; a page of a dead one at an
    // address is not seen by a new one.
    for value in 1..=3u64 {
        let faults = kit.endpoint()?;
        let space = Space::new(kit)?;
        let bytes = value.to_ne_bytes();
        let address = if value == 3 { WINDOW + 0x1000 } else { WINDOW };
        space.map_copy(kit, address, &bytes, CapRights::read_write(), NONE)?;
        let reader = Helper::new(load)
            .args([WINDOW as u64])
            .vspace(space.root)
            .fault(faults)
            .without_buffer()
            .make(kit)?;
        let image = space.clone_image(kit)?;
        reader.tcb.tcb_resume()?;
        let got = faults.recv_with_mrs(NO_REPLY);
        if value == 3 {
            check_eq!(got.info.label(), FaultLabel::VMFault as u64);
            check_eq!(got.msg[1], WINDOW as u64);
        } else {
            check_eq!(got.info.label(), FaultLabel::UserException as u64);
            check_eq!(read_result(kit, &image, reader)?, value);
        }
        space.destroy(kit)?;
        kit.clean_up()?;
    }
    Ok(())
}

fn unassigned(kit: &mut Kit) -> Outcome {
    let root: cap::VSpace = kit.object(ObjectBlueprintArch::VSpace.into())?;
    let tcb = kit.tcb()?;
    let none = cap::Granule::from_bits(0);
    let data = CNodeCapData::new(0, 0);
    let attempt = tcb.tcb_configure(kit.cnode(), data, root, 0, none);
    check_eq!(attempt, Err(Error::IllegalOperation));
    let no_handler = cap::Endpoint::from_bits(0);
    let attempt = tcb.tcb_set_space(no_handler, kit.cnode(), data, root);
    check_eq!(attempt, Err(Error::IllegalOperation));
    // Roots that are none.
    let vspace = slot::VSPACE.cap();
    let wrong: cap::CNode = kit.endpoint()?.cast();
    let attempt = tcb.tcb_configure(wrong, data, vspace, 0, none);
    check_eq!(attempt, Err(Error::IllegalOperation));
    let attempt = tcb.tcb_set_space(no_handler, wrong, data, vspace);
    check_eq!(attempt, Err(Error::IllegalOperation));
    let attempt = tcb.tcb_set_space(no_handler, kit.cnode(), data, wrong.cast());
    check_eq!(attempt, Err(Error::IllegalOperation));
    // A thread that has neither does not run, and harms nobody.
    let sc = kit.sched_context(1000, 1000)?;
    sc.sched_context_bind(tcb)?;
    tcb.tcb_set_priority(slot::TCB.cap(), 120)?;
    tcb.tcb_resume()?;
    kit.settle()?;
    let thread = Helper::new(nothing).start(kit)?;
    check_eq!(thread.join(kit)?, 0x600d);
    Ok(())
}

/// Writes its own value to a page and reads it back, over and over; ends with the number of rounds.
/// Words: address, value, rounds.
fn write_and_read(env: &testkit::Env) -> u64 {
    let at = env.args[0] as *mut u64;
    for round in 0..env.args[2] {
        let value = env.args[1] << 32 | round;
        // SAFETY: the case mapped a page there in this thread's space.
        unsafe { at.write_volatile(value) };
        sel4::yield_();
        // SAFETY: as above.
        if unsafe { at.read_volatile() } != value {
            return round;
        }
    }
    env.args[2]
}

fn switches(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let mut spaces = [None; 3];
    for (i, place) in spaces.iter_mut().enumerate() {
        let space = Space::new(kit)?;
        space.map_copy(kit, WINDOW, &[], CapRights::read_write(), NONE)?;
        let thread = Helper::new(write_and_read)
            .args([WINDOW as u64, i as u64 + 1, 200])
            .vspace(space.root)
            .priority(50)
            .fault(faults)
            .without_buffer()
            .make(kit)?;
        *place = Some((space, thread));
    }
    let mut images = [const { None }; 3];
    for ((space, thread), image) in spaces.iter().flatten().zip(&mut images) {
        *image = Some(space.clone_image(kit)?);
        thread.tcb.tcb_resume()?;
    }
    for _ in 0..3 {
        let got = faults.recv_with_mrs(NO_REPLY);
        check_eq!(got.info.label(), FaultLabel::UserException as u64);
    }
    for ((_, thread), image) in spaces.into_iter().flatten().zip(images.iter().flatten()) {
        check_eq!(read_result(kit, image, thread)?, 200);
    }
    Ok(())
}
