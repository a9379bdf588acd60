//! Messages of YARN's three protocols, written by hand for prost: what is used here and nothing else.
//!
//! Names are Hadoop's without the `Proto` ending, field numbers those of Hadoop 3.3 to 3.5 (additive between
//! these). All enums are plain `i32` fields: Hadoop's are proto2 enums, and a number that this version does not
//! know must be kept, never rejected; [`crate::yarn::report`] gives them names. This module decides nothing.
#![allow(
    missing_docs,
    reason = "fields carry Hadoop's own names; the meaning stands at the plain types that use them"
)]

mod application;
mod client_calls;
mod container;
mod convert;
mod ids;
mod launch;
mod master_calls;
mod node;
mod node_calls;
mod resource;

pub use application::*;
pub use client_calls::*;
pub use container::*;
pub use ids::*;
pub use launch::*;
pub use master_calls::*;
pub use node::*;
pub use node_calls::*;
pub use resource::*;
