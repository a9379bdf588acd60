//! Links over TCP: one connection for each distance and direction, one control connection to each neighbour.
//!
//! Data connections carry bytes from the rank that dialled to the one that accepted. Sockets are non-blocking and
//! waited for with poll(2). It refuses to make connections; see `rendezvous`.

use super::{Link, Links, MAX_WAITS};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{RecvFlags, SendAncillaryBuffer, SendFlags},
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Shutdown, TcpStream},
    time::Duration,
};

/// The connections of one rank, all proven and non-blocking.
pub(crate) struct TcpLinks {
    /// To the rank 2^k places after, by k.
    pub(crate) outgoing: Vec<TcpStream>,
    /// From the rank 2^k places before, by k.
    pub(crate) incoming: Vec<TcpStream>,
    /// Control connection to the next rank.
    pub(crate) next: TcpStream,
    /// Control connection from the previous rank.
    pub(crate) previous: TcpStream,
}

impl TcpLinks {
    fn stream(&self, link: Link) -> &TcpStream {
        match link {
            Link::Out(k) => &self.outgoing[k as usize],
            Link::In(k) => &self.incoming[k as usize],
            Link::Next => &self.next,
            Link::Previous => &self.previous,
        }
    }
}

impl Links for TcpLinks {
    fn send(&self, link: Link, head: &[u8], body: &[u8]) -> io::Result<usize> {
        let (stream, flags) = (self.stream(link), SendFlags::NOSIGNAL);
        if head.is_empty() {
            return Ok(rustix::net::send(stream, body, flags)?);
        }
        let both = [IoSlice::new(head), IoSlice::new(body)];
        Ok(rustix::net::sendmsg(stream, &both, &mut SendAncillaryBuffer::default(), flags)?)
    }

    fn receive(&self, link: Link, head: &mut [u8], body: &mut [u8]) -> io::Result<usize> {
        let stream = self.stream(link);
        if head.is_empty() {
            return Ok(rustix::net::recv(stream, body, RecvFlags::empty())?.1);
        }
        Ok(rustix::io::readv(stream, &mut [IoSliceMut::new(head), IoSliceMut::new(body)])?)
    }

    fn wait(&self, links: &[Link], timeout: Duration) -> io::Result<[bool; MAX_WAITS]> {
        assert!(links.len() <= MAX_WAITS, "at most {MAX_WAITS} links are waited for");
        let mut fds: [PollFd<'_>; MAX_WAITS] = std::array::from_fn(|i| match links.get(i) {
            Some(link @ Link::Out(_)) => PollFd::new(self.stream(*link), PollFlags::OUT),
            Some(link) => PollFd::new(self.stream(*link), PollFlags::IN),
            None => PollFd::new(&self.next, PollFlags::empty()),
        });
        let fds = &mut fds[..links.len()];
        match poll(fds, Some(&timespec(timeout))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(std::array::from_fn(|i| fds.get(i).is_some_and(|fd| !fd.revents().is_empty())))
    }

    fn close(&self) {
        for stream in self.outgoing.iter().chain(&self.incoming).chain([&self.next, &self.previous]) {
            // A connection that the other end has reset is closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// As poll(2) wants it.
pub(crate) fn timespec(timeout: Duration) -> Timespec {
    Timespec { tv_sec: timeout.as_secs().min(i64::MAX as u64) as i64, tv_nsec: timeout.subsec_nanos().into() }
}
