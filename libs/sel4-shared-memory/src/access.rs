// SPDX-License-Identifier: BSD-2-Clause
//! What a pointer permits, as types.

mod private {
    pub trait Sealed {}
}

/// What a pointer permits.
pub trait Access: Copy + Default + private::Sealed {}

/// Permits reading.
pub trait Readable: Access {}

/// Permits writing.
pub trait Writable: Access {}

/// Narrowing to `To`: what both permit.
pub trait RestrictAccess<To>: Access {
    /// What both permit.
    type Restricted: Access;
}

macro_rules! accesses {
    ($($(#[$attr:meta])* $name:ident,)*) => {
        $(
            $(#[$attr])*
            #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
            pub struct $name;
            impl private::Sealed for $name {}
            impl Access for $name {}
        )*
    };
}

accesses! {
    /// Reading and writing.
    ReadWrite,
    /// Reading.
    ReadOnly,
    /// Writing.
    WriteOnly,
    /// Nothing.
    NoAccess,
}

impl Readable for ReadWrite {}
impl Readable for ReadOnly {}
impl Writable for ReadWrite {}
impl Writable for WriteOnly {}

impl<To: Access> RestrictAccess<To> for ReadWrite {
    type Restricted = To;
}
impl<To: Access> RestrictAccess<To> for NoAccess {
    type Restricted = NoAccess;
}

macro_rules! restrict {
    ($($from:ident to $to:ident is $restricted:ident,)*) => {
        $(impl RestrictAccess<$to> for $from { type Restricted = $restricted; })*
    };
}

restrict! {
    ReadOnly to ReadWrite is ReadOnly,
    ReadOnly to ReadOnly is ReadOnly,
    ReadOnly to WriteOnly is NoAccess,
    ReadOnly to NoAccess is NoAccess,
    WriteOnly to ReadWrite is WriteOnly,
    WriteOnly to WriteOnly is WriteOnly,
    WriteOnly to ReadOnly is NoAccess,
    WriteOnly to NoAccess is NoAccess,
}
