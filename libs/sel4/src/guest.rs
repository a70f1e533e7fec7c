// SPDX-License-Identifier: BSD-2-Clause
//! Invocations of the objects that guests are made of. Upstream has no counterpart, but for the
//! VCPU, whose methods have Arm's names where they do the same. Guest-physical spaces and views
//! fail with `IllegalOperation` while the guest's hash page table is poisoned.

use crate::{
    AbsoluteCPtr, Cap, CapRights, CapTypeForFrameObject, InvocationContext, Result, VmAttributes,
    Word, cap,
};
use partita_abi::{GuestExit, InvocationLabel as Label, vcpu_register};

impl<C: InvocationContext> cap::LpidControl<C> {
    /// Gives a guest-physical space its LPID; before that nothing can be mapped in it.
    pub fn lpid_control_assign(self, gspace: cap::GSpace) -> Result<()> {
        self.invoke(Label::LPIDControlAssign, [], [gspace.cptr()])
            .map(drop)
    }
}

impl<C: InvocationContext> cap::GPageTable<C> {
    /// Puts the table over `gpa`: of a GiB first, of 2 MiB under that.
    pub fn gpage_table_map(
        self,
        gspace: cap::GSpace,
        gpa: Word,
        attrs: VmAttributes,
    ) -> Result<()> {
        self.invoke(
            Label::GPageTableMap,
            [gpa, attrs.into_bits()],
            [gspace.cptr()],
        )
        .map(drop)
    }

    /// Takes the table out; `RevokeFirst` if it is not empty.
    pub fn gpage_table_unmap(self) -> Result<()> {
        self.invoke(Label::GPageTableUnmap, [], []).map(drop)
    }
}

impl<T: CapTypeForFrameObject, C: InvocationContext> Cap<T, C> {
    /// Puts the frame at `gpa` of a guest. [`Self::frame_unmap`] takes it out, and says
    /// `RevokeFirst` while it is pinned.
    pub fn frame_map_guest(
        self,
        gspace: cap::GSpace,
        gpa: Word,
        rights: CapRights,
        attrs: VmAttributes,
    ) -> Result<()> {
        let args = [gpa, rights.into_bits(), attrs.into_bits()];
        self.invoke(Label::PageMap, args, [gspace.cptr()]).map(drop)
    }
}

impl<C: InvocationContext> cap::GSpace<C> {
    /// Makes a capability that can map single pages of the guest into a VSpace, at most with
    /// `rights`, which include reading.
    pub fn gspace_make_view<C1>(self, dst: &AbsoluteCPtr<C1>, rights: CapRights) -> Result<()> {
        let args = [
            dst.path().bits(),
            dst.path().depth() as u64,
            rights.into_bits(),
        ];
        self.invoke(Label::GSpaceMakeView, args, [dst.root().cptr()])
            .map(drop)
    }
}

impl<C: InvocationContext> cap::GSpaceView<C> {
    /// Maps the 4 KiB at `gpa` of the guest at `vaddr`, and pins them.
    pub fn view_map(
        self,
        vspace: cap::VSpace,
        gpa: Word,
        vaddr: usize,
        attrs: VmAttributes,
    ) -> Result<()> {
        let args = [gpa, vaddr as u64, attrs.into_bits()];
        self.invoke(Label::ViewMap, args, [vspace.cptr()]).map(drop)
    }

    /// Undoes [`Self::view_map`].
    pub fn view_unmap(self) -> Result<()> {
        self.invoke(Label::ViewUnmap, [], []).map(drop)
    }
}

impl<C: InvocationContext> cap::Hpt<C> {
    /// Makes the table that of a guest. `gfns` is its array of guest frame numbers,
    /// `vrma_page_size` as the kernel's documentation says.
    pub fn hpt_bind(
        self,
        gspace: cap::GSpace,
        gfns: cap::HptGfns,
        vrma_page_size: Word,
    ) -> Result<()> {
        self.invoke(
            Label::HPTBind,
            [vrma_page_size],
            [gspace.cptr(), gfns.cptr()],
        )
        .map(drop)
    }

    /// Maps the table read-only at `vaddr`.
    pub fn hpt_map_view(self, vspace: cap::VSpace, vaddr: usize) -> Result<()> {
        self.invoke(Label::HPTMapView, [vaddr as u64], [vspace.cptr()])
            .map(drop)
    }

    /// Enters `dw0`, `dw1` (guest real address, ISA 3.0 format) at `ptex`, and pins the page.
    #[inline]
    pub fn hpt_insert(self, ptex: Word, dw0: Word, dw1: Word) -> Result<()> {
        self.invoke(Label::HPTInsert, [ptex, dw0, dw1], [])
            .map(drop)
    }

    /// Removes the entry at `ptex`; its R and C bits as in dw1.
    #[inline]
    pub fn hpt_remove(self, ptex: Word) -> Result<Word> {
        self.invoke(Label::HPTRemove, [ptex], [])
            .map(|words| words[0])
    }

    /// Removes up to four entries; R and C of each.
    ///
    /// # Panics
    ///
    /// If there are more than four.
    #[inline]
    pub fn hpt_remove_batch(self, ptexs: &[Word]) -> Result<[Word; 4]> {
        let mut args = [0; 5];
        args[0] = ptexs.len() as u64;
        args[1..1 + ptexs.len()].copy_from_slice(ptexs);
        let words = self.invoke(Label::HPTRemoveBatch, args, [])?;
        Ok([words[0], words[1], words[2], words[3]])
    }

    /// Replaces the protection of the entry at `ptex` by that of `dw1`; R and C before that.
    #[inline]
    pub fn hpt_update(self, ptex: Word, dw1: Word) -> Result<Word> {
        self.invoke(Label::HPTUpdate, [ptex, dw1], [])
            .map(|words| words[0])
    }

    /// Clears the bits of `mask` (R, C as in dw1) in the entry at `ptex`; R and C before that.
    #[inline]
    pub fn hpt_clear_rc(self, ptex: Word, mask: Word) -> Result<Word> {
        self.invoke(Label::HPTClearRC, [ptex, mask], [])
            .map(|words| words[0])
    }

    /// Removes all entries, and ends the poisoned state.
    pub fn hpt_clear(self) -> Result<()> {
        self.invoke(Label::HPTClear, [], []).map(drop)
    }

    /// Whether all translated faults come to the hypervisor; returns when no vCPU is in the guest
    /// with the other mode.
    pub fn hpt_set_fault_mode(self, intercept: bool) -> Result<()> {
        self.invoke(Label::HPTSetFaultMode, [intercept.into()], [])
            .map(drop)
    }
}

/// Where exits of a guest's processor go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VCpuRoute {
    /// The parent.
    Parent,
    /// The endpoint of `vcpu_set_route` with this number.
    Route(u8),
}

impl VCpuRoute {
    const fn into_word(self) -> Word {
        match self {
            VCpuRoute::Parent => Word::MAX,
            VCpuRoute::Route(number) => number as Word,
        }
    }
}

/// Ready time and dispatches of a guest's processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VCpuTimes {
    /// Timebase ticks in which it was ready but did not run.
    pub ready_ticks: Word,
    /// Times that it got a core.
    pub dispatches: Word,
    /// The bound counter as it stands in guest memory, if there is one.
    pub dispatch_count: Option<u32>,
}

impl<C: InvocationContext> cap::VCpu<C> {
    /// Binds the processor with number `id` to its thread and its guest.
    pub fn vcpu_bind(self, id: Word, tcb: cap::Tcb, gspace: cap::GSpace) -> Result<()> {
        self.invoke(Label::VCPUBind, [id], [tcb.cptr(), gspace.cptr()])
            .map(drop)
    }

    /// Sets the endpoint of a route; the null capability takes it away.
    pub fn vcpu_set_route(self, route: Word, endpoint: cap::Endpoint) -> Result<()> {
        self.invoke(Label::VCPUSetRoute, [route], [endpoint.cptr()])
            .map(drop)
    }

    /// Sends hypercall `number` to a route.
    pub fn vcpu_route_hypercall(self, number: Word, route: VCpuRoute) -> Result<()> {
        self.invoke(Label::VCPURouteHypercall, [number, route.into_word()], [])
            .map(drop)
    }

    /// Sends exits of a kind to a route.
    pub fn vcpu_route_exit(self, exit: GuestExit, route: VCpuRoute) -> Result<()> {
        self.invoke(Label::VCPURouteExit, [exit as u64, route.into_word()], [])
            .map(drop)
    }

    /// Reads registers from number `first` (`partita_abi::vcpu_register`) on.
    ///
    /// # Panics
    ///
    /// If there are not so many registers, or a message has not so many words (120).
    pub fn vcpu_read_regs(self, first: usize, regs: &mut [Word]) -> Result<()> {
        assert!(
            first + regs.len() <= vcpu_register::COUNT,
            "no such registers"
        );
        self.read_block(
            Label::VCPUReadRegisters,
            [first as u64, regs.len() as u64],
            regs,
        )
    }

    /// Writes registers from number `first` on; the kernel filters what a guest may not have.
    ///
    /// # Panics
    ///
    /// If there are not so many registers, or a message has not so many words beside its first two (118).
    pub fn vcpu_write_regs(self, first: usize, regs: &[Word]) -> Result<()> {
        assert!(
            first + regs.len() <= vcpu_register::COUNT,
            "no such registers"
        );
        self.write_block(
            Label::VCPUWriteRegisters,
            [first as u64, regs.len() as u64],
            regs,
        )
    }

    /// Lets the processor stop at its next entry into the guest: true if it has already; else a
    /// `Paused` exit comes to the parent.
    pub fn vcpu_pause(self) -> Result<bool> {
        self.invoke(Label::VCPUPause, [], [])
            .map(|words| words[0] != 0)
    }

    /// Ends a pause or a stop; latched.
    pub fn vcpu_resume(self) -> Result<()> {
        self.invoke(Label::VCPUResume, [], []).map(drop)
    }

    /// Wakes it if it is idle or stopped; latched.
    pub fn vcpu_kick(self) -> Result<()> {
        self.invoke(Label::VCPUKick, [], []).map(drop)
    }

    /// Makes it take the interrupt at `vector` at its next entry; wakes it if it is idle. Refused
    /// while another one waits.
    pub fn vcpu_inject(self, vector: Word, srr1_bits: Word, dar: Word, dsisr: Word) -> Result<()> {
        self.invoke(Label::VCPUInject, [vector, srr1_bits, dar, dsisr], [])
            .map(drop)
    }

    /// Sets the level of its external interrupt.
    pub fn vcpu_set_interrupt_line(self, asserted: bool) -> Result<()> {
        self.invoke(Label::VCPUSetInterruptLine, [asserted.into()], [])
            .map(drop)
    }

    /// Changes LPCR bits (ILE, AIL) of all processors of the guest.
    pub fn vcpu_set_mode(self, set: Word, clear: Word) -> Result<()> {
        self.invoke(Label::VCPUSetMode, [set, clear], []).map(drop)
    }

    /// Makes the word at `gpa` of the guest, seen through `view`, its dispatch counter.
    pub fn vcpu_bind_dispatch_counter(self, view: cap::GSpaceView, gpa: Word) -> Result<()> {
        self.invoke(Label::VCPUBindDispatchCounter, [gpa], [view.cptr()])
            .map(drop)
    }

    /// Undoes [`Self::vcpu_bind_dispatch_counter`]; the view stays mapped. Nothing happens if no counter is bound.
    pub fn vcpu_unbind_dispatch_counter(self) -> Result<()> {
        self.invoke(Label::VCPUUnbindDispatchCounter, [], [])
            .map(drop)
    }

    /// Asks for an `Entry` exit before its next entry: true if it is in the guest or entering it;
    /// false if it is certainly outside. `every_dispatch`: whether such an exit shall follow each time
    /// that it gets its processor, from now on, instead of long waits only.
    pub fn vcpu_request_entry(self, every_dispatch: bool) -> Result<bool> {
        self.invoke(Label::VCPURequestEntry, [every_dispatch.into()], [])
            .map(|words| words[0] != 0)
    }

    /// Its times.
    pub fn vcpu_get_times(self) -> Result<VCpuTimes> {
        self.invoke(Label::VCPUGetTimes, [], [])
            .map(|words| VCpuTimes {
                ready_ticks: words[0],
                dispatches: words[1],
                dispatch_count: u32::try_from(words[2]).ok(),
            })
    }
}

#[cfg(test)]
mod tests {
    use crate::{CPtr, IpcBuffer, cap};

    fn vcpu(buffer: &mut IpcBuffer) -> cap::VCpu<&mut IpcBuffer> {
        cap::VCpu::from_cptr(CPtr::from_bits(1)).with(buffer)
    }

    #[test]
    #[should_panic(expected = "too many words")]
    fn no_more_registers_are_read_than_a_message_has() {
        let _ = vcpu(&mut IpcBuffer::new()).vcpu_read_regs(0, &mut [0; 121]);
    }

    #[test]
    #[should_panic(expected = "too many words")]
    fn no_more_registers_are_written_than_a_message_has() {
        let _ = vcpu(&mut IpcBuffer::new()).vcpu_write_regs(0, &[0; 119]);
    }

    #[test]
    #[should_panic(expected = "no kernel here")]
    fn a_full_message_is_sent() {
        let _ = vcpu(&mut IpcBuffer::new()).vcpu_write_regs(0, &[0; 118]);
    }
}
