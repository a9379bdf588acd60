//! The connections of one rank: TCP or shared memory between processes, memory between threads.

pub mod memory;
pub(crate) mod process;
mod shared;

pub(crate) use shared::{OFFER_BYTES, Offer, Queue};

use std::{io, time::Duration};

/// Name of a link of this rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Data to the rank 2^k places after.
    Out(u32),
    /// Data from the rank 2^k places before.
    In(u32),
    /// Notices to and from the next rank.
    Next,
    /// Notices to and from the previous rank.
    Previous,
}

/// Most links that are waited for at once: one out, one in, two control links.
pub(crate) const MAX_WAITS: usize = 4;

/// All links of one rank. Nothing here blocks but `wait`; any thread may call anything.
pub(crate) trait Links: Send + Sync {
    /// Sends as much of `head` followed by `body` as goes without blocking ([`io::ErrorKind::WouldBlock`] for
    /// nothing).
    fn send(&self, link: Link, head: &[u8], body: &[u8]) -> io::Result<usize>;

    /// Receives what is there into `head` and then `body`, which together are not empty; 0 means the end.
    fn receive(&self, link: Link, head: &mut [u8], body: &mut [u8]) -> io::Result<usize>;

    /// Lets `with` use bytes that have arrived where they lie, and takes out as many as it says it has used. `None`,
    /// and nothing done, where bytes do not lie in memory or there are none.
    fn lend(&self, link: Link, with: &mut dyn FnMut(&[u8]) -> usize) -> Option<io::Result<usize>> {
        let _ = (link, with);
        None
    }

    /// Sleeps until one of `links` (at most [`MAX_WAITS`]) can move bytes or has ended, or until the timeout. Says
    /// which, in the order of `links`.
    fn wait(&self, links: &[Link], timeout: Duration) -> io::Result<[bool; MAX_WAITS]>;

    /// Ends all links in both directions. What has been sent still arrives.
    fn close(&self);
}
