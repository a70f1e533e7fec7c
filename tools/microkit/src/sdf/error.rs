// SPDX-License-Identifier: BSD-2-Clause
//! What can be wrong with a system description.

use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// A place in a system description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was given.
    pub file: Arc<str>,
    /// Line, from 1.
    pub row: u32,
    /// Column, from 1.
    pub col: u32,
    /// The element.
    pub element: Arc<str>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.row, self.col)?;
        if self.element.is_empty() {
            Ok(())
        } else {
            write!(f, "<{}>: ", self.element)
        }
    }
}

/// A problem and its place.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}{problem}")]
pub struct SdfError {
    /// Where.
    pub place: Place,
    /// What.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "each variant's text says what it means")]
pub enum Problem {
    // Grammar.
    #[error("not UTF-8")]
    NotUtf8,
    #[error("not well-formed XML: {0}")]
    Xml(String),
    #[error("the root element must be <system>")]
    Root,
    #[error("unknown element")]
    UnknownElement,
    #[error("{0} is not supported on ppc64")]
    Unsupported(&'static str),
    #[error("stray text '{0}'")]
    StrayText(String),
    #[error("unknown attribute '{0}'")]
    UnknownAttribute(String),
    #[error("missing attribute '{0}'")]
    MissingAttribute(&'static str),
    #[error("attribute '{0}' is empty")]
    EmptyAttribute(&'static str),
    #[error("attribute '{attribute}': '{value}' is not a number (decimal or 0x…)")]
    NotANumber {
        attribute: &'static str,
        value: String,
    },
    #[error("attribute '{attribute}': '{value}' is neither 'true' nor 'false'")]
    NotABool {
        attribute: &'static str,
        value: String,
    },
    #[error("attribute '{attribute}': {value} is outside {min} to {max}")]
    OutOfRange {
        attribute: &'static str,
        value: u64,
        min: u64,
        max: u64,
    },
    #[error("attribute '{attribute}': {value:#x} is not a multiple of {align:#x}")]
    Misaligned {
        attribute: &'static str,
        value: u64,
        align: u64,
    },
    #[error("attribute '{attribute}': '{value}' is none of {known}")]
    NotOneOf {
        attribute: &'static str,
        value: String,
        known: &'static str,
    },
    #[error("exactly one <program_image> is needed, there are {0}")]
    ProgramImages(usize),
    #[error("at most one <cspace> is allowed")]
    SecondCspace,
    #[error("exactly two <end> are needed, there are {0}")]
    Ends(usize),

    // Protection domains.
    #[error("a system needs at least one protection domain")]
    NoPds,
    #[error("more than {0} protection domains")]
    TooManyPds(usize),
    #[error("protection domain '{name}' is already defined at line {row}")]
    DuplicatePd { name: String, row: u32 },
    #[error("the name 'monitor' is taken by the monitor")]
    ReservedName,
    #[error("name '{name}' is longer than {max} bytes")]
    NameTooLong { name: String, max: usize },
    #[error("name '{0}' contains a character other than letters, digits, '_', '-' and '.'")]
    NameCharacters(String),
    #[error("unknown protection domain '{0}'")]
    UnknownPd(String),
    #[error("budget ({budget} us) is larger than period ({period} us)")]
    BudgetOverPeriod { budget: u64, period: u64 },
    #[error(
        "fpu='true': protection domains on ppc64 cannot use floating point or vector registers"
    )]
    Fpu,
    #[error("attribute 'id' is only for a protection domain inside another one")]
    IdWithoutParent,
    #[error("id {id} is already used by the child at line {row}")]
    DuplicateChildId { id: u8, row: u32 },
    #[error("id {id} is already used by the <{element}> at line {row}")]
    DuplicateId { id: u8, element: String, row: u32 },
    #[error("symbol '{symbol}' is already set at line {row}")]
    DuplicateSetVar { symbol: String, row: u32 },
    #[error("symbol '{0}' is set by the tool itself")]
    OwnSymbol(String),
    #[error("interrupt {irq:#x} is already used at line {row}")]
    DuplicateIrq { irq: u64, row: u32 },
    #[error("more than {0} interrupts")]
    TooManyIrqs(usize),
    #[error("slot {slot} is already used at line {row}")]
    DuplicateSlot { slot: u32, row: u32 },

    // Memory.
    #[error("memory region '{name}' is already defined at line {row}")]
    DuplicateRegion { name: String, row: u32 },
    #[error("unknown memory region '{0}'")]
    UnknownRegion(String),
    #[error("missing attribute 'size' (only a region with 'prefill_path' may leave it out)")]
    MissingSize,
    #[error(
        "'prefill_path' and 'phys_addr' cannot stand together: prefilled memory lies in the image"
    )]
    PrefillAtAddress,
    #[error("physical addresses {start:#x}..{end:#x} overlap region '{other}' at line {row}")]
    PhysOverlap {
        start: u64,
        end: u64,
        other: String,
        row: u32,
    },
    #[error("addresses {start:#x}..{end:#x} overlap {other}")]
    Overlap { start: u64, end: u64, other: String },
    #[error(
        "addresses {start:#x}..{end:#x} reach above {limit:#x}, where the stack of '{pd}' begins with its guard page"
    )]
    AboveLimit {
        start: u64,
        end: u64,
        limit: u64,
        pd: String,
    },
    #[error("addresses {start:#x}..{end:#x} reach above {top:#x}: views are mapped below it")]
    AboveViews { start: u64, end: u64, top: u64 },
    #[error("the end of the addresses from {0:#x} is beyond 64 bits")]
    Wraps(u64),
    #[error(
        "perms '{0}': a mapping needs 'r'; the letters are 'r', 'w' and 'x', each at most once"
    )]
    Perms(String),
    #[error("'setvar_prefill_size' needs a region with 'prefill_path', '{0}' has none")]
    NotPrefilled(String),
    #[error("vaddr {vaddr:#x} is not a multiple of the page size {page:#x} of region '{region}'")]
    MapMisaligned {
        vaddr: u64,
        page: u64,
        region: String,
    },
    #[error("physical addresses {start:#x}..{end:#x} are {what}")]
    NotUsable {
        start: u64,
        end: u64,
        what: &'static str,
    },
    #[error("size {size:#x} is smaller than the {file:#x} bytes of '{path}'")]
    PrefillTooLong { size: u64, file: u64, path: String },
    #[error("'{0}' is empty")]
    PrefillEmpty(String),

    // Guests.
    #[error("virtual machine '{name}' is already defined at line {row}")]
    DuplicateVm { name: String, row: u32 },
    #[error("at most one <virtual_machine> is allowed in a protection domain")]
    SecondVm,
    #[error("unknown virtual machine '{0}'")]
    UnknownVm(String),
    #[error(
        "no memory is mapped into a virtual machine here: its memory comes from the domain with <cap_gspace>"
    )]
    MapInVm,
    #[error("at least one <vcpu> is needed")]
    NoVcpus,
    #[error(
        "id {id} is already used by the <{element}> at line {row}, and '{pd}' has to do with both"
    )]
    DuplicateVcpuId {
        id: u8,
        element: String,
        row: u32,
        pd: String,
    },
    #[error("attribute 'hypercalls': '{0}' is neither the name nor the number of a hypercall")]
    UnknownHypercall(String),
    #[error("attribute 'exits': '{0}' is not an exit that can be routed")]
    UnknownExit(String),
    #[error("neither 'hypercalls' nor 'exits'")]
    EmptyRoute,
    #[error("{what} already goes to '{pd}' at line {row}, on the same core")]
    RoutedTwice { what: String, pd: String, row: u32 },
    #[error(
        "'{pd}' has priority {priority} and '{other}' has {other_priority}, but both are sent {what}: instances have one priority"
    )]
    InstancePriority {
        pd: String,
        priority: u8,
        other: String,
        other_priority: u8,
        what: String,
    },
    #[error("{what} has no route on core {core}")]
    NoRouteOnCore { what: String, core: u32 },
    #[error("more than {0} endpoints in the routes of one vCPU")]
    TooManyRoutes(usize),
    #[error(
        "'{pd}' needs a strictly higher priority than the vCPUs of '{vm}': it has {pd_priority}, they have {vm_priority}"
    )]
    VcpuPriority {
        pd: String,
        pd_priority: u8,
        vm: String,
        vm_priority: u8,
    },
    #[error("virtual machine '{vm}' has no {kind}")]
    NoImage { vm: String, kind: &'static str },
    #[error("attribute '{attribute}': {value:#x} is not a power of two")]
    NotAPowerOfTwo { attribute: &'static str, value: u64 },
    #[error("attribute 'rights': '{0}' is neither 'r' nor 'rw'")]
    ViewRights(String),
    #[error("attribute 'rights': '{0}' is not made of 'r', 'w' and 'e', each once")]
    VcpuRights(String),
    #[error("more than {max} {what} of '{vm}'")]
    TooManyViews {
        what: &'static str,
        max: usize,
        vm: String,
    },
    #[error("slots {first} to {last}: there is none above {max}")]
    SlotsBeyond { first: u32, last: u32, max: u32 },
    #[error("a table of order {order} cannot be shown, only up to {max}: leave 'vaddr' out")]
    TableTooLarge { order: u8, max: u8 },

    // Channels.
    #[error("both ends have pp='true': calls go one way, to the higher priority")]
    BothPp,
    #[error(
        "pp='true' needs a strictly higher priority at the other end: '{callee}' has {callee_priority}, '{caller}' has {caller_priority}"
    )]
    PpPriority {
        caller: String,
        caller_priority: u8,
        callee: String,
        callee_priority: u8,
    },
    #[error("both ends are in '{0}'")]
    ChannelToSelf(String),
}
