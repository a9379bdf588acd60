//! YARN: submission, the ApplicationMaster's talk with the ResourceManager, containers on NodeManagers.
//!
//! Read in this order: [`resource`] and [`report`] (plain values), [`command`] (quoting), [`launch`] and
//! [`submission`] (what is started), [`client`] (ApplicationClientProtocol), [`am`] (ApplicationMasterProtocol),
//! [`nm`] (ContainerManagementProtocol), [`web`] (web services, for diagnosis only). [`proto`] holds the messages.

pub mod am;
pub mod client;
pub mod command;
pub mod launch;
pub mod nm;
pub mod proto;
pub mod report;
pub mod resource;
pub mod submission;
pub mod web;
