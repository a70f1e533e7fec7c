// SPDX-License-Identifier: BSD-2-Clause
//! Invocations of kernel objects, by upstream's names. Arguments and results as in abi.toml.

use crate::arch::{self, MessageOut};
use crate::{
    AbsoluteCPtr, CNodeCapData, CPtr, Cap, CapRights, CapType, CapTypeForFrameObject, Error,
    InvocationContext, MessageInfo, ObjectBlueprint, Result, Time, UserContext, VmAttributes, Word,
    cap,
};
use partita_abi::address_space::MAX_MESSAGE_REGISTERS;
use partita_abi::{InvocationLabel as Label, IpcBufferLayout};

/// How an interrupt source signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum IrqTrigger {
    /// As long as the line is asserted.
    Level = 0,
    /// Once for each edge.
    Edge = 1,
}

/// Flags of `sched_control_configure_flags`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedControlFlags(pub Word);

impl SchedControlFlags {
    /// None.
    pub const NONE: Self = SchedControlFlags(0);
    /// A sporadic server (`seL4_SchedContext_Sporadic`).
    pub const SPORADIC: Self = SchedControlFlags(1);
}

/// Real-time clock, as firmware has it: binary coded decimals (OPAL_RTC_READ).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformTime {
    /// Year 31:16, month 15:8, day 7:0.
    pub year_month_day: Word,
    /// Hour 63:56, minute 55:48, second 47:40, milliseconds below.
    pub hour_minute_second_ms: Word,
}

impl<T: CapType, C: InvocationContext> Cap<T, C> {
    /// Invokes `label` with up to eight words and three capabilities.
    #[inline]
    pub(crate) fn invoke<const N: usize, const K: usize>(
        mut self,
        label: Label,
        args: [Word; N],
        caps: [CPtr; K],
    ) -> Result<MessageOut> {
        if K > 0 {
            let words = self.context.ipc_buffer().cast::<Word>();
            for (i, cap) in caps.into_iter().enumerate() {
                // SAFETY: an InvocationContext gives a valid buffer that nobody refers to now; K is
                // at most three (const assertion below), the number of words there.
                unsafe {
                    words
                        .add(IpcBufferLayout::CAPS_OR_BADGES + i)
                        .write(cap.bits())
                };
            }
        }
        const { assert!(K <= 3, "a message carries at most three capabilities") };
        let info = MessageInfo::new(label as u64, 0, K, N);
        answer(arch::call(
            self.bits(),
            info.into_word(),
            arch::message(args),
        ))
    }

    /// Invokes `label`; the answer's message registers go to `block` (at most 120).
    pub(crate) fn read_block<const N: usize>(
        mut self,
        label: Label,
        args: [Word; N],
        block: &mut [Word],
    ) -> Result<()> {
        // Behind the message is memory that is none of the buffer's.
        assert!(block.len() <= MAX_MESSAGE_REGISTERS, "too many words");
        let buffer = self.context.ipc_buffer().cast::<Word>();
        let info = MessageInfo::new(label as u64, 0, 0, N);
        let first = answer(arch::call(
            self.bits(),
            info.into_word(),
            arch::message(args),
        ))?;
        for (i, word) in block.iter_mut().enumerate() {
            *word = match first.get(i) {
                Some(&word) => word,
                // SAFETY: an InvocationContext gives a valid buffer; the kernel put message
                // registers from the ninth on there, and the caller asks for no more than fit.
                None => unsafe { buffer.add(IpcBufferLayout::MSG + i).read() },
            };
        }
        Ok(())
    }

    /// Invokes `label` with two words and `block` (at most 118 words).
    pub(crate) fn write_block(
        mut self,
        label: Label,
        args: [Word; 2],
        block: &[Word],
    ) -> Result<()> {
        assert!(
            args.len() + block.len() <= MAX_MESSAGE_REGISTERS,
            "too many words"
        );
        let mut first = [args[0], args[1], 0, 0, 0, 0, 0, 0];
        let buffer = self.context.ipc_buffer().cast::<Word>();
        for (i, &value) in block.iter().enumerate() {
            match first.get_mut(args.len() + i) {
                Some(word) => *word = value,
                // SAFETY: as in `read_block`.
                None => unsafe {
                    buffer
                        .add(IpcBufferLayout::MSG + args.len() + i)
                        .write(value)
                },
            }
        }
        let info = MessageInfo::new(label as u64, 0, 0, args.len() + block.len());
        answer(arch::call(
            self.bits(),
            info.into_word(),
            arch::message(first),
        ))
        .map(drop)
    }
}

/// The message registers of a successful answer.
fn answer(received: arch::Received) -> Result<MessageOut> {
    match Error::from_label(MessageInfo::from_word(received.info).label()) {
        None => Ok(received.words),
        Some(error) => Err(error),
    }
}

impl<C: InvocationContext> cap::Untyped<C> {
    /// Makes `num_objects` objects; their capabilities go to the slots from `dst_offset` of the
    /// CNode that `dst` names.
    pub fn untyped_retype<C1>(
        self,
        blueprint: &ObjectBlueprint,
        dst: &AbsoluteCPtr<C1>,
        dst_offset: usize,
        num_objects: usize,
    ) -> Result<()> {
        self.invoke(
            Label::UntypedRetype,
            [
                blueprint.ty() as u64,
                blueprint.api_size_bits() as u64,
                dst.path().bits(),
                dst.path().depth() as u64,
                dst_offset as u64,
                num_objects as u64,
            ],
            [dst.root().cptr()],
        )
        .map(drop)
    }
}

impl<C: InvocationContext> cap::Tcb<C> {
    /// Reads the first `count` registers; the rest are 0. `suspend` stops the thread first.
    pub fn tcb_read_registers(self, suspend: bool, count: usize) -> Result<UserContext> {
        let count = count.min(UserContext::NUM_REGISTERS);
        let mut regs = UserContext::default();
        let args = [suspend.into(), count as u64];
        self.read_block(
            Label::TCBReadRegisters,
            args,
            &mut regs.inner_mut()[..count],
        )?;
        Ok(regs)
    }

    /// Reads all registers. `suspend` stops the thread first.
    pub fn tcb_read_all_registers(self, suspend: bool) -> Result<UserContext> {
        self.tcb_read_registers(suspend, UserContext::NUM_REGISTERS)
    }

    /// Writes the first `count` registers; `resume` starts the thread.
    pub fn tcb_write_registers(self, resume: bool, count: usize, regs: &UserContext) -> Result<()> {
        let count = count.min(UserContext::NUM_REGISTERS);
        let args = [resume.into(), count as u64];
        self.write_block(Label::TCBWriteRegisters, args, &regs.inner()[..count])
    }

    /// Writes all registers; `resume` starts the thread.
    pub fn tcb_write_all_registers(self, resume: bool, regs: &UserContext) -> Result<()> {
        self.tcb_write_registers(resume, UserContext::NUM_REGISTERS, regs)
    }

    /// Copies registers from `source`. Flags as in seL4: bit 0 suspends the source, bit 1 resumes
    /// this thread, bit 2 copies pc, sp and status, bit 3 the general registers.
    pub fn tcb_copy_registers(self, source: cap::Tcb, flags: Word) -> Result<()> {
        self.invoke(Label::TCBCopyRegisters, [flags], [source.cptr()])
            .map(drop)
    }

    /// Makes the thread ready to run.
    pub fn tcb_resume(self) -> Result<()> {
        self.invoke(Label::TCBResume, [], []).map(drop)
    }

    /// Stops the thread.
    pub fn tcb_suspend(self) -> Result<()> {
        self.invoke(Label::TCBSuspend, [], []).map(drop)
    }

    /// Sets CSpace, VSpace and IPC buffer.
    pub fn tcb_configure(
        self,
        cspace_root: cap::CNode,
        cspace_root_data: CNodeCapData,
        vspace_root: cap::VSpace,
        ipc_buffer: Word,
        ipc_buffer_frame: cap::Granule,
    ) -> Result<()> {
        self.invoke(
            Label::TCBConfigure,
            [cspace_root_data.into_word(), 0, ipc_buffer],
            [
                cspace_root.cptr(),
                vspace_root.cptr(),
                ipc_buffer_frame.cptr(),
            ],
        )
        .map(drop)
    }

    /// Sets the priority, at most `authority`'s maximum.
    pub fn tcb_set_priority(self, authority: cap::Tcb, priority: Word) -> Result<()> {
        self.invoke(Label::TCBSetPriority, [priority], [authority.cptr()])
            .map(drop)
    }

    /// Sets the maximum controlled priority, at most `authority`'s.
    pub fn tcb_set_mc_priority(self, authority: cap::Tcb, mcp: Word) -> Result<()> {
        self.invoke(Label::TCBSetMCPriority, [mcp], [authority.cptr()])
            .map(drop)
    }

    /// Sets priorities, scheduling context and fault endpoint (the null capability for none).
    pub fn tcb_set_sched_params(
        self,
        authority: cap::Tcb,
        mcp: Word,
        priority: Word,
        sched_context: cap::SchedContext,
        fault_ep: cap::Endpoint,
    ) -> Result<()> {
        self.invoke(
            Label::TCBSetSchedParams,
            [mcp, priority],
            [authority.cptr(), sched_context.cptr(), fault_ep.cptr()],
        )
        .map(drop)
    }

    /// Sets the endpoint of timeout faults.
    pub fn tcb_set_timeout_endpoint(self, ep: cap::Endpoint) -> Result<()> {
        self.invoke(Label::TCBSetTimeoutEndpoint, [], [ep.cptr()])
            .map(drop)
    }

    /// Sets the IPC buffer.
    pub fn tcb_set_ipc_buffer(self, ipc_buffer: Word, frame: cap::Granule) -> Result<()> {
        self.invoke(Label::TCBSetIPCBuffer, [ipc_buffer], [frame.cptr()])
            .map(drop)
    }

    /// Sets fault endpoint, CSpace and VSpace.
    pub fn tcb_set_space(
        self,
        fault_ep: cap::Endpoint,
        cspace_root: cap::CNode,
        cspace_root_data: CNodeCapData,
        vspace_root: cap::VSpace,
    ) -> Result<()> {
        self.invoke(
            Label::TCBSetSpace,
            [cspace_root_data.into_word(), 0],
            [fault_ep.cptr(), cspace_root.cptr(), vspace_root.cptr()],
        )
        .map(drop)
    }

    /// Lets signals of `notification` arrive through the thread's endpoints.
    pub fn tcb_bind_notification(self, notification: cap::Notification) -> Result<()> {
        self.invoke(Label::TCBBindNotification, [], [notification.cptr()])
            .map(drop)
    }

    /// Undoes [`Self::tcb_bind_notification`].
    pub fn tcb_unbind_notification(self) -> Result<()> {
        self.invoke(Label::TCBUnbindNotification, [], []).map(drop)
    }

    /// Sets the thread pointer (r13).
    pub fn tcb_set_tls_base(self, tls_base: Word) -> Result<()> {
        self.invoke(Label::TCBSetTLSBase, [tls_base], []).map(drop)
    }

    /// Clears, then sets flags; returns all.
    pub fn tcb_set_flags(self, clear: Word, set: Word) -> Result<Word> {
        self.invoke(Label::TCBSetFlags, [clear, set], [])
            .map(|words| words[0])
    }
}

impl<C: InvocationContext> AbsoluteCPtr<C> {
    fn invoke<const N: usize, const K: usize>(
        self,
        label: Label,
        args: [Word; N],
        caps: [CPtr; K],
    ) -> Result<()> {
        self.root.invoke(label, args, caps).map(drop)
    }

    /// Deletes all capabilities derived from the one in this slot.
    pub fn revoke(self) -> Result<()> {
        let (index, depth) = (self.path.bits(), self.path.depth() as u64);
        self.invoke(Label::CNodeRevoke, [index, depth], [])
    }

    /// Empties this slot.
    pub fn delete(self) -> Result<()> {
        let (index, depth) = (self.path.bits(), self.path.depth() as u64);
        self.invoke(Label::CNodeDelete, [index, depth], [])
    }

    /// Cancels the sends that wait with the badge of the capability in this slot.
    pub fn cancel_badged_sends(self) -> Result<()> {
        let (index, depth) = (self.path.bits(), self.path.depth() as u64);
        self.invoke(Label::CNodeCancelBadgedSends, [index, depth], [])
    }

    /// Puts a copy of `src` here, with at most `rights`.
    pub fn copy<C1>(self, src: &AbsoluteCPtr<C1>, rights: CapRights) -> Result<()> {
        let args = [
            self.path.bits(),
            self.path.depth() as u64,
            src.path.bits(),
            src.path.depth() as u64,
            rights.into_bits(),
        ];
        self.invoke(Label::CNodeCopy, args, [src.root.cptr()])
    }

    /// Puts a copy of `src` here, with at most `rights`, and a badge (or a CNode's guard).
    pub fn mint<C1>(self, src: &AbsoluteCPtr<C1>, rights: CapRights, badge: Word) -> Result<()> {
        let args = [
            self.path.bits(),
            self.path.depth() as u64,
            src.path.bits(),
            src.path.depth() as u64,
            rights.into_bits(),
            badge,
        ];
        self.invoke(Label::CNodeMint, args, [src.root.cptr()])
    }

    /// Moves `src` here.
    pub fn move_<C1>(self, src: &AbsoluteCPtr<C1>) -> Result<()> {
        let args = [
            self.path.bits(),
            self.path.depth() as u64,
            src.path.bits(),
            src.path.depth() as u64,
        ];
        self.invoke(Label::CNodeMove, args, [src.root.cptr()])
    }

    /// Moves `src` here and gives it a badge (or a CNode's guard).
    pub fn mutate<C1>(self, src: &AbsoluteCPtr<C1>, badge: Word) -> Result<()> {
        let args = [
            self.path.bits(),
            self.path.depth() as u64,
            src.path.bits(),
            src.path.depth() as u64,
            badge,
        ];
        self.invoke(Label::CNodeMutate, args, [src.root.cptr()])
    }

    /// Moves `pivot` here and `src` to the pivot's slot, each with a new badge (or guard).
    pub fn rotate<C1, C2>(
        self,
        badge: Word,
        pivot: &AbsoluteCPtr<C1>,
        pivot_badge: Word,
        src: &AbsoluteCPtr<C2>,
    ) -> Result<()> {
        let args = [
            self.path.bits(),
            self.path.depth() as u64,
            badge,
            pivot.path.bits(),
            pivot.path.depth() as u64,
            pivot_badge,
            src.path.bits(),
            src.path.depth() as u64,
        ];
        self.invoke(
            Label::CNodeRotate,
            args,
            [pivot.root.cptr(), src.root.cptr()],
        )
    }
}

impl<C: InvocationContext> cap::IrqControl<C> {
    /// Makes the handler of a level-sensitive interrupt.
    pub fn irq_control_get<C1>(self, irq: Word, dst: &AbsoluteCPtr<C1>) -> Result<()> {
        let args = [irq, dst.path.bits(), dst.path.depth() as u64];
        self.invoke(Label::IRQIssueIRQHandler, args, [dst.root.cptr()])
            .map(drop)
    }

    /// Makes the handler of an interrupt; `trigger` is an [`IrqTrigger`] as a word.
    pub fn irq_control_get_trigger<C1>(
        self,
        irq: Word,
        trigger: Word,
        dst: &AbsoluteCPtr<C1>,
    ) -> Result<()> {
        let args = [irq, trigger, dst.path.bits(), dst.path.depth() as u64];
        self.invoke(Label::IRQIssueIRQHandlerTrigger, args, [dst.root.cptr()])
            .map(drop)
    }
}

impl<C: InvocationContext> cap::IrqHandler<C> {
    /// Lets the next interrupt in.
    pub fn irq_handler_ack(self) -> Result<()> {
        self.invoke(Label::IRQAckIRQ, [], []).map(drop)
    }

    /// Sets the notification that the interrupt signals.
    pub fn irq_handler_set_notification(self, notification: cap::Notification) -> Result<()> {
        self.invoke(Label::IRQSetIRQHandler, [], [notification.cptr()])
            .map(drop)
    }

    /// Takes the notification away.
    pub fn irq_handler_clear(self) -> Result<()> {
        self.invoke(Label::IRQClearIRQHandler, [], []).map(drop)
    }
}

impl<C: InvocationContext> cap::SchedControl<C> {
    /// Sets budget and period (microseconds) of a scheduling context on this core.
    pub fn sched_control_configure_flags(
        self,
        target: cap::SchedContext,
        budget: Time,
        period: Time,
        extra_refills: Word,
        badge: Word,
        flags: Word,
    ) -> Result<()> {
        let args = [budget, period, extra_refills, badge, flags];
        self.invoke(Label::SchedControlConfigureFlags, args, [target.cptr()])
            .map(drop)
    }
}

impl<C: InvocationContext> cap::SchedContext<C> {
    /// Binds the scheduling context to a thread or a notification.
    pub fn sched_context_bind<T: CapType>(self, cap: Cap<T>) -> Result<()> {
        self.invoke(Label::SchedContextBind, [], [cap.cptr()])
            .map(drop)
    }

    /// Unbinds it from everything.
    pub fn sched_context_unbind(self) -> Result<()> {
        self.invoke(Label::SchedContextUnbind, [], []).map(drop)
    }

    /// Unbinds it from a thread or a notification.
    pub fn sched_context_unbind_object<T: CapType>(self, cap: Cap<T>) -> Result<()> {
        self.invoke(Label::SchedContextUnbindObject, [], [cap.cptr()])
            .map(drop)
    }

    /// Microseconds consumed since the last report.
    pub fn sched_context_consumed(self) -> Result<Time> {
        self.invoke(Label::SchedContextConsumed, [], [])
            .map(|words| words[0])
    }

    /// Runs its thread if the priority permits; microseconds consumed since the last report.
    pub fn sched_context_yield_to(self) -> Result<Time> {
        self.invoke(Label::SchedContextYieldTo, [], [])
            .map(|words| words[0])
    }
}

impl<C: InvocationContext> cap::PT<C> {
    /// Puts the page table at the highest level that has none, over `vaddr`.
    pub fn page_table_map(
        self,
        vspace: cap::VSpace,
        vaddr: usize,
        attrs: VmAttributes,
    ) -> Result<()> {
        let args = [vaddr as u64, attrs.into_bits()];
        self.invoke(Label::PageTableMap, args, [vspace.cptr()])
            .map(drop)
    }

    /// Takes the page table out of its address space.
    pub fn page_table_unmap(self) -> Result<()> {
        self.invoke(Label::PageTableUnmap, [], []).map(drop)
    }
}

impl<T: CapTypeForFrameObject, C: InvocationContext> Cap<T, C> {
    /// Maps the frame.
    pub fn frame_map(
        self,
        vspace: cap::VSpace,
        vaddr: usize,
        rights: CapRights,
        attrs: VmAttributes,
    ) -> Result<()> {
        let args = [vaddr as u64, rights.into_bits(), attrs.into_bits()];
        self.invoke(Label::PageMap, args, [vspace.cptr()]).map(drop)
    }

    /// Undoes [`Self::frame_map`].
    pub fn frame_unmap(self) -> Result<()> {
        self.invoke(Label::PageUnmap, [], []).map(drop)
    }

    /// Real address of the frame.
    pub fn frame_get_address(self) -> Result<usize> {
        self.invoke(Label::PageGetAddress, [], [])
            .map(|words| words[0] as usize)
    }
}

impl<C: InvocationContext> cap::AsidControl<C> {
    /// Makes a pool from an untyped of 4 KiB.
    pub fn asid_control_make_pool<C1>(
        self,
        untyped: cap::Untyped,
        dst: &AbsoluteCPtr<C1>,
    ) -> Result<()> {
        let args = [dst.path.bits(), dst.path.depth() as u64];
        self.invoke(
            Label::ASIDControlMakePool,
            args,
            [untyped.cptr(), dst.root.cptr()],
        )
        .map(drop)
    }
}

impl<C: InvocationContext> cap::AsidPool<C> {
    /// Gives an address space an identifier; before that nothing can be mapped in it.
    pub fn asid_pool_assign(self, vspace: cap::VSpace) -> Result<()> {
        self.invoke(Label::ASIDPoolAssign, [], [vspace.cptr()])
            .map(drop)
    }
}

impl<C: InvocationContext> cap::Timer<C> {
    /// Signals the notification when the timebase reaches `deadline`; replaces an earlier deadline.
    pub fn timer_set(self, deadline: Word) -> Result<()> {
        self.invoke(Label::TimerSet, [deadline], []).map(drop)
    }

    /// Forgets the deadline.
    pub fn timer_cancel(self) -> Result<()> {
        self.invoke(Label::TimerCancel, [], []).map(drop)
    }

    /// Sets the notification that is signalled.
    pub fn timer_set_notification(self, notification: cap::Notification) -> Result<()> {
        self.invoke(Label::TimerSetNotification, [], [notification.cptr()])
            .map(drop)
    }
}

impl<C: InvocationContext> cap::PlatformControl<C> {
    /// Turns the machine off.
    pub fn platform_power_off(self) -> Result<()> {
        self.invoke(Label::PlatformPowerOff, [], []).map(drop)
    }

    /// Restarts the machine.
    pub fn platform_reboot(self) -> Result<()> {
        self.invoke(Label::PlatformReboot, [], []).map(drop)
    }

    /// Reads the real-time clock.
    pub fn platform_get_time(self) -> Result<PlatformTime> {
        self.invoke(Label::PlatformGetTime, [], [])
            .map(|w| PlatformTime {
                year_month_day: w[0],
                hour_minute_second_ms: w[1],
            })
    }

    /// Sets the real-time clock.
    pub fn platform_set_time(self, time: PlatformTime) -> Result<()> {
        let args = [time.year_month_day, time.hour_minute_second_ms];
        self.invoke(Label::PlatformSetTime, args, []).map(drop)
    }
}
