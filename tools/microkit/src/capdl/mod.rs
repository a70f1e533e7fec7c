// SPDX-License-Identifier: BSD-2-Clause
//! The capability distribution of a system.
//!
//! [`builder`] makes a [`model::Model`] of it: objects and the capabilities in them. Everything that
//! is written about the system (report, JSON, capDL) is a view of the model, and [`lower`] turns the same
//! model into the initialiser's commands, so that what is reviewed is what is created.

pub mod builder;
pub mod json;
pub mod lower;
pub mod model;
pub mod slots;
pub mod text;
