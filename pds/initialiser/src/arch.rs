// SPDX-License-Identifier: BSD-2-Clause
//! The real kernel, and the memory that it maps for the root task.

use initialiser::{Destination, Kernel, ThreadSpaces};
use partita_abi::bootinfo::BootInfo;
use partita_abi::{CapRights, GuestExit, ObjectType};
use partita_capdl::Trigger;
use sel4::init_thread::slot;
use sel4::{
    AbsoluteCPtr, CNodeCapData, CPtr, Cap, CapType, IrqTrigger, ObjectBlueprint,
    ObjectBlueprintArch, SchedControlFlags, UserContext, VCpuRoute, VmAttributes, cap,
};

/// Cache-inhibited and guarded (bit 1 of the attributes of `PageMap`).
const CACHE_INHIBITED: VmAttributes = VmAttributes::from_bits(2);
/// pc and r1 are the first two registers.
const ENTRY_REGISTERS: usize = 2;

/// The specification; empty if there is none.
pub fn specification(boot: &'static BootInfo) -> &'static [u8] {
    if boot.spec_vaddr == 0 {
        return &[];
    }
    let first = core::ptr::with_exposed_provenance::<u8>(boot.spec_vaddr as usize);
    // SAFETY: the kernel maps `spec_size` bytes there, read-only, for as long as this program runs.
    unsafe { core::slice::from_raw_parts(first, boot.spec_size as usize) }
}

/// Invocations through system calls.
pub struct Sel4;

fn named<T: CapType>(slot: u64) -> Cap<T> {
    Cap::from_bits(slot)
}

fn own(slot: u64) -> AbsoluteCPtr {
    slot::CNODE.cap().absolute_cptr(CPtr::from_bits(slot))
}

fn blueprint(object: ObjectType, size_bits: u8) -> ObjectBlueprint {
    use ObjectBlueprintArch as Arch;
    let size_bits = size_bits.into();
    match object {
        ObjectType::Untyped => ObjectBlueprint::Untyped { size_bits },
        ObjectType::Tcb => ObjectBlueprint::Tcb,
        ObjectType::Endpoint => ObjectBlueprint::Endpoint,
        ObjectType::Notification => ObjectBlueprint::Notification,
        ObjectType::CNode => ObjectBlueprint::CNode { size_bits },
        ObjectType::Reply => ObjectBlueprint::Reply,
        ObjectType::SchedContext => ObjectBlueprint::SchedContext,
        ObjectType::Frame4K => Arch::_4k.into(),
        ObjectType::Frame64K => Arch::_64k.into(),
        ObjectType::Frame2M => Arch::_2m.into(),
        ObjectType::PageTable => Arch::PT.into(),
        ObjectType::VSpace => Arch::VSpace.into(),
        ObjectType::Timer => Arch::Timer.into(),
        ObjectType::GPageTable => Arch::GPageTable.into(),
        ObjectType::GSpace => Arch::GSpace.into(),
        ObjectType::Hpt => Arch::Hpt { size_bits }.into(),
        ObjectType::HptGfns => Arch::HptGfns { size_bits }.into(),
        ObjectType::VCpu => Arch::VCpu.into(),
    }
}

impl Kernel for Sel4 {
    type Error = sel4::Error;

    fn retype(
        &mut self,
        untyped: u64,
        object: ObjectType,
        size_bits: u8,
        first: u64,
        count: u32,
    ) -> sel4::Result<()> {
        named::<sel4::cap_type::Untyped>(untyped).untyped_retype(
            &blueprint(object, size_bits),
            &slot::CNODE.cap().absolute_cptr_for_self(),
            first as usize,
            count as usize,
        )
    }

    fn copy(
        &mut self,
        to: Destination,
        from: u64,
        rights: CapRights,
        badge: Option<u64>,
    ) -> sel4::Result<()> {
        let to = cap::CNode::from_bits(to.cnode)
            .absolute_cptr_from_bits_with_depth(to.index, to.depth.into());
        match badge {
            None => to.copy(&own(from), rights.into()),
            Some(badge) => to.mint(&own(from), rights.into(), badge),
        }
    }

    fn delete(&mut self, slot: u64) -> sel4::Result<()> {
        own(slot).delete()
    }

    fn configure_sched_context(
        &mut self,
        control: u64,
        sc: u64,
        budget_us: u64,
        period_us: u64,
        badge: u64,
    ) -> sel4::Result<()> {
        let flags = SchedControlFlags::NONE.0;
        named::<sel4::cap_type::SchedControl>(control).sched_control_configure_flags(
            named(sc),
            budget_us,
            period_us,
            0,
            badge,
            flags,
        )
    }

    fn assign_asid(&mut self, pool: u64, vspace: u64) -> sel4::Result<()> {
        named::<sel4::cap_type::AsidPool>(pool).asid_pool_assign(named(vspace))
    }

    fn map_table(&mut self, table: u64, vspace: u64, vaddr: u64) -> sel4::Result<()> {
        cap::PageTable::from_bits(table).page_table_map(
            named(vspace),
            vaddr as usize,
            VmAttributes::DEFAULT,
        )
    }

    fn map_page(
        &mut self,
        frame: u64,
        vspace: u64,
        vaddr: u64,
        rights: CapRights,
        executable: bool,
        cached: bool,
    ) -> sel4::Result<()> {
        let mut attributes = VmAttributes::DEFAULT;
        if !executable {
            attributes = attributes | VmAttributes::EXECUTE_NEVER;
        }
        if !cached {
            attributes = attributes | CACHE_INHIBITED;
        }
        named::<sel4::cap_type::UnspecifiedFrame>(frame).frame_map(
            named(vspace),
            vaddr as usize,
            rights.into(),
            attributes,
        )
    }

    fn issue_irq_handler(
        &mut self,
        control: u64,
        irq: u64,
        trigger: Trigger,
        slot: u64,
    ) -> sel4::Result<()> {
        let trigger = match trigger {
            Trigger::Level => IrqTrigger::Level,
            Trigger::Edge => IrqTrigger::Edge,
        };
        named::<sel4::cap_type::IrqControl>(control).irq_control_get_trigger(
            irq,
            trigger as u64,
            &own(slot),
        )
    }

    fn set_irq_notification(&mut self, handler: u64, notification: u64) -> sel4::Result<()> {
        named::<sel4::cap_type::IrqHandler>(handler)
            .irq_handler_set_notification(named(notification))
    }

    fn set_timer_notification(&mut self, timer: u64, notification: u64) -> sel4::Result<()> {
        named::<sel4::cap_type::Timer>(timer).timer_set_notification(named(notification))
    }

    fn configure_tcb(&mut self, tcb: u64, spaces: ThreadSpaces) -> sel4::Result<()> {
        named::<sel4::cap_type::Tcb>(tcb).tcb_configure(
            named(spaces.cspace),
            CNodeCapData::new(spaces.cspace_data >> 6, (spaces.cspace_data & 63) as usize),
            named(spaces.vspace),
            spaces.ipc_buffer_vaddr,
            named(spaces.ipc_buffer),
        )
    }

    fn set_sched_params(
        &mut self,
        tcb: u64,
        mcp: u8,
        priority: u8,
        sc: u64,
        fault: u64,
    ) -> sel4::Result<()> {
        named::<sel4::cap_type::Tcb>(tcb).tcb_set_sched_params(
            slot::TCB.cap(),
            mcp.into(),
            priority.into(),
            named(sc),
            named(fault),
        )
    }

    fn bind_notification(&mut self, tcb: u64, notification: u64) -> sel4::Result<()> {
        named::<sel4::cap_type::Tcb>(tcb).tcb_bind_notification(named(notification))
    }

    fn set_registers(&mut self, tcb: u64, pc: u64, sp: u64) -> sel4::Result<()> {
        let mut registers = UserContext::default();
        *registers.pc_mut() = pc;
        *registers.sp_mut() = sp;
        named::<sel4::cap_type::Tcb>(tcb).tcb_write_registers(false, ENTRY_REGISTERS, &registers)
    }

    fn name_thread(&mut self, tcb: u64, name: &str) {
        sel4::sel4_cfg_if! {
            if #[sel4_cfg(PRINTING)] {
                sel4::debug_name_thread(named(tcb), name);
            } else {
                let _ = (tcb, name);
            }
        }
    }

    fn resume(&mut self, tcb: u64) -> sel4::Result<()> {
        named::<sel4::cap_type::Tcb>(tcb).tcb_resume()
    }

    fn assign_lpid(&mut self, control: u64, gspace: u64) -> sel4::Result<()> {
        named::<sel4::cap_type::LpidControl>(control).lpid_control_assign(named(gspace))
    }

    fn bind_hpt(&mut self, hpt: u64, gspace: u64, gfns: u64, vrma_bits: u8) -> sel4::Result<()> {
        cap::Hpt::from_bits(hpt).hpt_bind(named(gspace), named(gfns), vrma_bits.into())
    }

    fn map_hpt_view(&mut self, hpt: u64, vspace: u64, vaddr: u64) -> sel4::Result<()> {
        cap::Hpt::from_bits(hpt).hpt_map_view(named(vspace), vaddr as usize)
    }

    fn make_view(&mut self, gspace: u64, to: Destination, rights: CapRights) -> sel4::Result<()> {
        let to = cap::CNode::from_bits(to.cnode)
            .absolute_cptr_from_bits_with_depth(to.index, to.depth.into());
        cap::GSpace::from_bits(gspace).gspace_make_view(&to, rights.into())
    }

    fn bind_vcpu(&mut self, vcpu: u64, id: u64, tcb: u64, gspace: u64) -> sel4::Result<()> {
        cap::VCpu::from_bits(vcpu).vcpu_bind(id, named(tcb), named(gspace))
    }

    fn set_vcpu_route(&mut self, vcpu: u64, route: u8, endpoint: u64) -> sel4::Result<()> {
        cap::VCpu::from_bits(vcpu).vcpu_set_route(route.into(), named(endpoint))
    }

    fn route_hypercall(&mut self, vcpu: u64, number: u64, route: u8) -> sel4::Result<()> {
        cap::VCpu::from_bits(vcpu).vcpu_route_hypercall(number, VCpuRoute::Route(route))
    }

    fn route_exit(&mut self, vcpu: u64, exit: GuestExit, route: u8) -> sel4::Result<()> {
        cap::VCpu::from_bits(vcpu).vcpu_route_exit(exit, VCpuRoute::Route(route))
    }
}
