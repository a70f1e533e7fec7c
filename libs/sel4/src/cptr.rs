// SPDX-License-Identifier: BSD-2-Clause
//! Capability pointers and typed capabilities.

use crate::ipc_buffer::{self, IpcBuffer};
use crate::{WORD_SIZE, Word};
use core::fmt;
use core::marker::PhantomData;

/// The bits of a capability pointer.
pub type CPtrBits = Word;

/// A capability pointer that is resolved with the full depth of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CPtr(CPtrBits);

impl CPtr {
    /// The pointer with these bits.
    pub const fn from_bits(bits: CPtrBits) -> Self {
        CPtr(bits)
    }

    /// Its bits.
    pub const fn bits(self) -> CPtrBits {
        self.0
    }

    /// As a capability of type `T`.
    pub const fn cast<T: CapType>(self) -> Cap<T> {
        Cap::from_cptr(self)
    }
}

/// A path into a CSpace of `depth` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CPtrWithDepth {
    bits: CPtrBits,
    depth: usize,
}

impl CPtrWithDepth {
    /// The path whose `depth` (0 to 64) lowest bits are `bits`.
    pub const fn from_bits_with_depth(bits: CPtrBits, depth: usize) -> Self {
        CPtrWithDepth { bits, depth }
    }

    /// The path of no bits: the root CNode itself.
    pub const fn empty() -> Self {
        Self::from_bits_with_depth(0, 0)
    }

    /// Its bits.
    pub const fn bits(&self) -> CPtrBits {
        self.bits
    }

    /// How many bits count.
    pub const fn depth(&self) -> usize {
        self.depth
    }
}

impl From<CPtr> for CPtrWithDepth {
    fn from(cptr: CPtr) -> Self {
        Self::from_bits_with_depth(cptr.bits(), WORD_SIZE)
    }
}

/// What can be turned into a path.
pub trait HasCPtrWithDepth {
    /// The path.
    fn cptr_with_depth(self) -> CPtrWithDepth;
}

impl HasCPtrWithDepth for CPtr {
    fn cptr_with_depth(self) -> CPtrWithDepth {
        self.into()
    }
}

impl HasCPtrWithDepth for CPtrWithDepth {
    fn cptr_with_depth(self) -> CPtrWithDepth {
        self
    }
}

impl<T: CapType, C> HasCPtrWithDepth for Cap<T, C> {
    fn cptr_with_depth(self) -> CPtrWithDepth {
        self.cptr.into()
    }
}

/// Guard of a CNode: guard value 63:6, guard size 5:0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CNodeCapData(Word);

impl CNodeCapData {
    /// A guard of `guard_size` (0 to 63) bits with value `guard`.
    pub const fn new(guard: Word, guard_size: usize) -> Self {
        CNodeCapData(guard << 6 | (guard_size as Word & 63))
    }

    /// Skips `num_bits` zero bits.
    pub const fn skip(num_bits: usize) -> Self {
        Self::new(0, num_bits)
    }

    /// Skips all bits above those that index a CNode of 2^`cnode_size_bits` slots.
    pub const fn skip_high_bits(cnode_size_bits: usize) -> Self {
        Self::skip(WORD_SIZE - cnode_size_bits)
    }

    /// The word that the kernel takes.
    pub const fn into_word(self) -> Word {
        self.0
    }
}

/// Kind of object that a capability names.
pub trait CapType: Copy {
    /// Its name.
    const NAME: &'static str;
}

/// Where an invocation's long messages and capabilities are laid down.
pub trait InvocationContext {
    /// The IPC buffer, valid and unaliased while the invocation runs.
    #[doc(hidden)]
    fn ipc_buffer(&mut self) -> *mut IpcBuffer;
}

/// The program's one IPC buffer ([`crate::set_ipc_buffer`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NoExplicitInvocationContext;

impl InvocationContext for NoExplicitInvocationContext {
    #[inline(always)]
    fn ipc_buffer(&mut self) -> *mut IpcBuffer {
        ipc_buffer::current()
    }
}

impl InvocationContext for &mut IpcBuffer {
    #[inline(always)]
    fn ipc_buffer(&mut self) -> *mut IpcBuffer {
        *self
    }
}

/// A capability of type `T`, named by its pointer, with the context of its invocations.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cap<T: CapType, C = NoExplicitInvocationContext> {
    pub(crate) cptr: CPtr,
    pub(crate) context: C,
    phantom: PhantomData<T>,
}

impl<T: CapType> Cap<T> {
    /// From a pointer.
    pub const fn from_cptr(cptr: CPtr) -> Self {
        Cap {
            cptr,
            context: NoExplicitInvocationContext,
            phantom: PhantomData,
        }
    }

    /// From the bits of a pointer.
    pub const fn from_bits(bits: CPtrBits) -> Self {
        Self::from_cptr(CPtr::from_bits(bits))
    }
}

impl<T: CapType, C> Cap<T, C> {
    /// The same with another context.
    pub fn with<C1>(self, context: C1) -> Cap<T, C1> {
        Cap {
            cptr: self.cptr,
            context,
            phantom: PhantomData,
        }
    }

    /// The same without explicit context.
    pub fn without_context(self) -> Cap<T> {
        Cap::from_cptr(self.cptr)
    }

    /// The same as another type; the kernel knows the real one.
    pub fn cast<T1: CapType>(self) -> Cap<T1, C> {
        Cap {
            cptr: self.cptr,
            context: self.context,
            phantom: PhantomData,
        }
    }

    /// As a capability of unspecified type.
    pub fn upcast(self) -> Cap<cap_type::Unspecified, C> {
        self.cast()
    }

    /// The pointer.
    pub const fn cptr(&self) -> CPtr {
        self.cptr
    }

    /// The pointer's bits.
    pub const fn bits(&self) -> CPtrBits {
        self.cptr.bits()
    }
}

impl<T: CapType, C> fmt::Debug for Cap<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:#x})", T::NAME, self.bits())
    }
}

macro_rules! declare_cap_types {
    ($($(#[$attr:meta])* $name:ident,)*) => {
        /// Types of capabilities.
        pub mod cap_type {
            $(
                $(#[$attr])*
                #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
                #[allow(non_camel_case_types)]
                pub struct $name;
                impl crate::CapType for $name {
                    const NAME: &'static str = stringify!($name);
                }
            )*
            /// The smallest frame.
            pub type Granule = _4k;
            /// Upstream's other name of a page table.
            pub type PageTable = PT;
        }

        /// Capabilities by type.
        pub mod cap {
            use crate::{Cap, NoExplicitInvocationContext, cap_type};
            $(
                $(#[$attr])*
                #[allow(non_camel_case_types)]
                pub type $name<C = NoExplicitInvocationContext> = Cap<cap_type::$name, C>;
            )*
            /// The smallest frame.
            pub type Granule<C = NoExplicitInvocationContext> = Cap<cap_type::Granule, C>;
            /// Upstream's other name of a page table.
            pub type PageTable<C = NoExplicitInvocationContext> = Cap<cap_type::PT, C>;
        }
    };
}

declare_cap_types! {
    /// Any type.
    Unspecified,
    /// An empty slot.
    Null,
    /// Memory without a purpose.
    Untyped,
    /// Endpoint.
    Endpoint,
    /// Notification.
    Notification,
    /// Thread.
    Tcb,
    /// Capability table.
    CNode,
    /// Reply object.
    Reply,
    /// Scheduling context.
    SchedContext,
    /// Authority over the time of one core.
    SchedControl,
    /// Authority to make interrupt handlers.
    IrqControl,
    /// One interrupt.
    IrqHandler,
    /// Authority to make ASID pools.
    AsidControl,
    /// ASID pool.
    AsidPool,
    /// Address space.
    VSpace,
    /// Page table.
    PT,
    /// Frame of 4 KiB.
    _4k,
    /// Frame of 64 KiB.
    _64k,
    /// Frame of 2 MiB.
    _2m,
    /// Frame of unspecified size.
    UnspecifiedFrame,
    /// Deadline on one core that signals a notification.
    Timer,
    /// Power off, restart and real-time clock.
    PlatformControl,
    /// Authority to give out LPIDs.
    LpidControl,
    /// Guest-physical address space.
    GSpace,
    /// Authority to see single pages of a guest.
    GSpaceView,
    /// Table of guest pages.
    GPageTable,
    /// Hash page table.
    Hpt,
    /// Guest frame numbers of a hash page table.
    HptGfns,
    /// Processor of a guest.
    VCpu,
}

/// A slot, named by a CNode and a path from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbsoluteCPtr<C = NoExplicitInvocationContext> {
    pub(crate) root: cap::CNode<C>,
    pub(crate) path: CPtrWithDepth,
}

impl<C> AbsoluteCPtr<C> {
    /// The CNode.
    pub const fn root(&self) -> &cap::CNode<C> {
        &self.root
    }

    /// The path.
    pub const fn path(&self) -> &CPtrWithDepth {
        &self.path
    }

    /// The same with another context.
    pub fn with<C1>(self, context: C1) -> AbsoluteCPtr<C1> {
        AbsoluteCPtr {
            root: self.root.with(context),
            path: self.path,
        }
    }
}

impl<C> Cap<cap_type::CNode, C> {
    /// The slot that `path` names, starting at this CNode.
    pub fn absolute_cptr<T: HasCPtrWithDepth>(self, path: T) -> AbsoluteCPtr<C> {
        AbsoluteCPtr {
            root: self,
            path: path.cptr_with_depth(),
        }
    }

    /// The slot of `depth` bits, starting at this CNode.
    pub fn absolute_cptr_from_bits_with_depth(
        self,
        bits: CPtrBits,
        depth: usize,
    ) -> AbsoluteCPtr<C> {
        self.absolute_cptr(CPtrWithDepth::from_bits_with_depth(bits, depth))
    }

    /// This CNode itself, as the destination of a retype.
    pub fn absolute_cptr_for_self(self) -> AbsoluteCPtr<C> {
        self.absolute_cptr(CPtrWithDepth::empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards() {
        assert_eq!(CNodeCapData::new(0, 49).into_word(), 49);
        assert_eq!(CNodeCapData::new(3, 2).into_word(), 3 << 6 | 2);
        assert_eq!(CNodeCapData::skip_high_bits(10).into_word(), 54);
    }

    #[test]
    fn paths() {
        let cnode = cap::CNode::from_bits(2);
        assert_eq!(
            cnode.absolute_cptr(cap::Tcb::from_bits(9)).path().depth(),
            64
        );
        assert_eq!(
            cnode.absolute_cptr_for_self().path(),
            &CPtrWithDepth::empty()
        );
        assert_eq!(
            format!("{:?}", cap::Endpoint::from_bits(0x10)),
            "Endpoint(0x10)"
        );
    }
}
