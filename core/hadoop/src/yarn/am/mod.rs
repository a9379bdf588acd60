//! The ApplicationMaster's talk with the ResourceManager (ApplicationMasterProtocol).
//!
//! [`AllocateSession`] is the protocol as a pure state machine: what was asked for, what is on its way, what
//! must be said again after a lost answer or a restarted ResourceManager. [`RmSession`] carries its requests
//! over IPC, one at a time, and [`RmSession::run`] does so at a pace until told to finish. What comes out is a
//! list of [`RmEvent`]s in the order in which they must be acted upon.
//!
//! Refused on purpose: asks that are hard on a rack (they starve), changing the number of an ask upwards (ask
//! anew), container updates, opportunistic containers, scheduling requests.

mod asks;
mod blacklist;
mod event;
mod exit;
mod rm;
mod session;

pub use asks::{Ask, AskError, AskId, DEFAULT_RACK, Locality, Place};
pub use event::{Completion, Container, Preemption, Registered, RmEvent};
pub use exit::ContainerExit;
pub use rm::{FinalReport, PROTOCOL, Pace, Registration, RmCommand, RmEndpoint, RmError, RmSession};
pub use session::{AllocateSession, Reaction};
