//! The kernel object model.
#![no_std]
