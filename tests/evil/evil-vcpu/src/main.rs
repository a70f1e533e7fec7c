// SPDX-License-Identifier: BSD-2-Clause
//! In the place of `vcpu`: it starts and serves the guest and attacks.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
extern crate alloc;

#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/vcpu/src/boot.rs"]
mod boot;
#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/vcpu/src/machine.rs"]
mod machine;
#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/vcpu/src/memory.rs"]
mod memory;
#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/vcpu/src/pd.rs"]
mod pd;
#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/vcpu/src/regions.rs"]
mod regions;
#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/vcpu/src/reply.rs"]
mod reply;
#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/vcpu/src/servers.rs"]
mod servers;

#[cfg(target_arch = "powerpc64")]
mod evil_pd {
    use crate::pd;
    use evil::{Attack, Evil, Holding, Kind, OFFSET, Place, Reports, Slot};
    use partita_abi::InvocationLabel as L;
    use partita_abi::vcpu_register as register;
    use partita_abi::{microkit as slots, vcpu_register};
    use partita_guest_protocol::{channel, symbol};
    use sel4::{cap, cap_type};
    use sel4_microkit::ipc::PpcMrs;
    use sel4_microkit::{
        Caller, ChannelSet, Child, FastReply, Handler, ImmutableCell, Infallible, MessageInfo,
        Vcpu, cspace_cap, protection_domain,
    };

    /// For a guest with so many vCPUs. Instance 0 has no capabilities of its children's processors but as their
    /// parent; another instance has nothing else.
    const fn holdings(vcpus: u64) -> [Holding; 14] {
        [
            Holding::COMMON[0],
            Holding::COMMON[1],
            Holding::COMMON[2],
            Holding::COMMON[3],
            Holding::calls(channel::MEMSLOTS),
            Holding::calls(channel::HPT),
            Holding::calls(channel::VPA),
            Holding::notifies(channel::SERIAL),
            Holding::own(Kind::Tcb, slots::VCPU_TCB_BASE, vcpus),
            Holding::own(Kind::VCpu, slots::VCPU_BASE, vcpus),
            Holding::root(Kind::VCpu, symbol::VCPU_SLOT, vcpus),
            Holding::root(Kind::View, symbol::VIEW_SLOT, 1),
            Holding::root(Kind::Timer, symbol::TIMER_SLOT, 1),
            Holding::root(Kind::Platform, symbol::PLATFORM_SLOT, 1),
        ]
    }

    const ONE: &[Holding] = &holdings(1);
    const TWO: &[Holding] = &holdings(2);
    /// Of an instance that is not the parent.
    const OTHER: &[Holding] = &[
        Holding::COMMON[0],
        Holding::COMMON[1],
        Holding::COMMON[2],
        Holding::COMMON[3],
        Holding::root(Kind::VCpu, symbol::VCPU_SLOT, 2),
    ];

    const TIMER: cap::Timer = cspace_cap::<cap_type::Timer>(symbol::TIMER_SLOT);
    /// Ticks after which a silent guest is started anew: 2 ms.
    const SILENCE: u64 = sel4::TIMEBASE_HZ / 500;
    /// Its first interrupt vector, from where the test's guest finds its way again.
    const VECTOR: u64 = 0x100;
    /// MSR: 64-bit mode.
    const SF: u64 = 1 << 63;

    // Variables of the real program.
    unsafe extern "Rust" {
        safe static vm_state: ImmutableCell<usize>;
        safe static guest_memory: ImmutableCell<u64>;
        safe static hpt_order: ImmutableCell<u64>;
        safe static vcpu_count: ImmutableCell<u64>;
        safe static instance: ImmutableCell<u64>;
    }

    /// The evil handler, with an eye on the guest: some attacks on its processor stop it.
    struct Reviver<H>(Evil<H>);

    #[protection_domain(heap_size = pd::TREE_HEAP)]
    fn init() -> impl Handler {
        let real = pd::start();
        let reports = core::ptr::with_exposed_provenance::<Reports>(vm_state.get() + OFFSET);
        // SAFETY: the page of the state of one vCPU goes on that far, zeros at the start; everybody
        // accesses the report with atomic operations.
        let reports: &'static Reports = unsafe { &*reports };
        let place = Place {
            holdings: match (*instance.get(), *vcpu_count.get()) {
                (0, 1) => ONE,
                (0, _) => TWO,
                _ => OTHER,
            },
            // What takes the guest's exits or its processor time away for good.
            fatal: &[
                // A thread that is suspended in a call does not get its time back.
                L::TCBSuspend,
                L::TCBResume,
                L::TCBReadRegisters,
                L::TCBWriteRegisters,
                L::TCBCopyRegisters,
                L::TCBConfigure,
                L::TCBSetSpace,
                L::TCBSetSchedParams,
                L::TCBSetPriority,
                L::TCBSetMCPriority,
                L::TCBSetTimeoutEndpoint,
                L::TCBBindNotification,
                L::VCPUSetRoute,
                L::VCPURouteHypercall,
                L::VCPURouteExit,
                L::TimerSet,
                L::TimerCancel,
                L::TimerSetNotification,
            ],
            guest_memory: *guest_memory.get(),
            hpt_order: *hpt_order.get() as u32,
            cnode: (0, 0),
            keeps: |_| false,
        };
        let evil = Evil {
            real,
            attack: Attack::new(place, Slot::claim(reports)),
        };
        Reviver(evil)
    }

    fn watch() {
        // The kernel has no reason to refuse: it is the program's own timer.
        let _ = TIMER.timer_set(sel4::arch::timebase() + SILENCE);
    }

    /// Whatever has become of the vCPUs, they go on at their first vector, in 64-bit real mode.
    fn revive() {
        for number in 0..*vcpu_count.get() as usize {
            let (vcpu, tcb) = (Vcpu::new(number).vcpu(), Vcpu::new(number).tcb());
            let mut values = [0; vcpu_register::COUNT];
            values[register::PC] = VECTOR;
            values[register::MSR] = SF;
            // With a call in flight it stays as it is: a suspended thread would not get its time back.
            if vcpu.vcpu_pause() == Ok(true) {
                // Any of these may find nothing to do.
                let _ = vcpu.vcpu_write_regs(0, &values[..register::LPCR]);
                let _ = vcpu.vcpu_set_interrupt_line(false);
            }
            let _ = vcpu.vcpu_resume();
            let _ = vcpu.vcpu_kick();
            let _ = tcb.tcb_resume();
        }
    }

    impl<H: Handler<Error = Infallible>> Handler for Reviver<H> {
        type Error = Infallible;

        fn protected_mrs(
            &mut self,
            caller: Caller,
            info: MessageInfo,
            mrs: PpcMrs,
        ) -> Result<FastReply, Infallible> {
            watch();
            self.0.protected_mrs(caller, info, mrs)
        }

        fn fault_mrs(
            &mut self,
            child: Child,
            info: MessageInfo,
            mrs: PpcMrs,
        ) -> Result<Option<FastReply>, Infallible> {
            watch();
            self.0.fault_mrs(child, info, mrs)
        }

        fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
            let timer = sel4_microkit::Channel::new(channel::TIMER);
            if channels.contains(timer) && !self.0.attack.is_done() {
                if self.0.attack.is_gentle() {
                    self.0.attack.burst();
                } else {
                    self.0.attack.finish();
                }
                revive();
                watch();
                return Ok(());
            }
            self.0.notified(channels)
        }
    }
}
