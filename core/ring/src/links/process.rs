//! Links between processes: one TCP connection for each distance and direction, one control connection to each
//! neighbour. Between processes of one host the bytes of a data link go through shared memory, and its connection
//! only wakes who sleeps, and tells who has ended.
//!
//! Data connections carry bytes from the rank that dialled to the one that accepted. Sockets are non-blocking and
//! waited for with poll(2). It refuses to make connections; see `rendezvous`.

use super::{
    Link, Links, MAX_WAITS,
    shared::{Queue, Side},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{RecvFlags, SendAncillaryBuffer, SendFlags},
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Shutdown, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// How often a queue is looked at before its user sleeps: some microseconds, less than being woken takes.
const SPINS: usize = 100;

/// The connections of one rank, all proven and non-blocking.
pub(crate) struct ProcessLinks {
    /// To the rank 2^k places after, by k.
    pub(crate) outgoing: Vec<DataLink>,
    /// From the rank 2^k places before, by k.
    pub(crate) incoming: Vec<DataLink>,
    /// Control connection to the next rank.
    pub(crate) next: TcpStream,
    /// Control connection from the previous rank.
    pub(crate) previous: TcpStream,
}

/// One direction between two ranks.
pub(crate) struct DataLink {
    stream: TcpStream,
    queue: Option<Queue>,
    /// The connection beside the queue has ended.
    ended: AtomicBool,
}

impl DataLink {
    /// A link over `stream`, or through `queue` beside it.
    pub(crate) fn new(stream: TcpStream, queue: Option<Queue>) -> Self {
        DataLink { stream, queue, ended: AtomicBool::new(false) }
    }

    /// The connection.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn put(&self, queue: &Queue, head: &[u8], body: &[u8]) -> io::Result<usize> {
        if self.has_ended() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let sent = queue.send(head, body)?;
        self.wake(queue, Side::Receiver);
        if sent == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(sent) }
    }

    fn take(&self, queue: &Queue, head: &mut [u8], body: &mut [u8]) -> io::Result<usize> {
        // Looked at first: what was sent before the end still counts.
        let ended = self.has_ended();
        let received = queue.receive(head, body)?;
        self.wake(queue, Side::Sender);
        if received == 0 && !ended { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(received) }
    }

    fn wake(&self, queue: &Queue, side: Side) {
        if queue.must_wake(side) {
            // What is wrong with the connection is noticed by whoever waits for it.
            let _ = rustix::net::send(&self.stream, &[1], SendFlags::NOSIGNAL);
        }
    }

    /// Takes what woke us out of the connection; notes its end.
    fn drain(&self) {
        let mut bytes = [0; 64];
        match rustix::net::recv(&self.stream, &mut bytes, RecvFlags::empty()) {
            Ok((_, 1..)) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => self.ended.store(true, Ordering::Release),
        }
    }
}

impl ProcessLinks {
    fn data(&self, link: Link) -> Option<&DataLink> {
        match link {
            Link::Out(k) => Some(&self.outgoing[k as usize]),
            Link::In(k) => Some(&self.incoming[k as usize]),
            Link::Next | Link::Previous => None,
        }
    }

    fn stream(&self, link: Link) -> &TcpStream {
        match (self.data(link), link) {
            (Some(data), _) => &data.stream,
            (None, Link::Next) => &self.next,
            (None, _) => &self.previous,
        }
    }

    /// The link and its queue, where it has one.
    fn shared(&self, link: Link) -> Option<(&DataLink, &Queue, Side)> {
        let side = if matches!(link, Link::Out(_)) { Side::Sender } else { Side::Receiver };
        let data = self.data(link)?;
        data.queue.as_ref().map(|queue| (data, queue, side))
    }

    /// Whether a link with a queue can move bytes or has ended.
    fn is_ready(&self, link: Link) -> bool {
        self.shared(link).is_some_and(|(data, queue, side)| data.has_ended() || queue.is_ready(side))
    }

    fn any_ready(&self, links: &[Link]) -> Option<[bool; MAX_WAITS]> {
        let ready = std::array::from_fn(|i| links.get(i).is_some_and(|link| self.is_ready(*link)));
        ready.contains(&true).then_some(ready)
    }

    fn poll(&self, links: &[Link], timeout: Duration) -> io::Result<[bool; MAX_WAITS]> {
        let mut fds: [PollFd<'_>; MAX_WAITS] = std::array::from_fn(|i| match links.get(i) {
            Some(link @ Link::Out(_)) if self.shared(*link).is_none() => {
                PollFd::new(self.stream(*link), PollFlags::OUT)
            }
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
}

impl Links for ProcessLinks {
    fn send(&self, link: Link, head: &[u8], body: &[u8]) -> io::Result<usize> {
        if let Some((data, queue, _)) = self.shared(link) {
            return data.put(queue, head, body);
        }
        let (stream, flags) = (self.stream(link), SendFlags::NOSIGNAL);
        if head.is_empty() {
            return Ok(rustix::net::send(stream, body, flags)?);
        }
        let both = [IoSlice::new(head), IoSlice::new(body)];
        Ok(rustix::net::sendmsg(stream, &both, &mut SendAncillaryBuffer::default(), flags)?)
    }

    fn receive(&self, link: Link, head: &mut [u8], body: &mut [u8]) -> io::Result<usize> {
        if let Some((data, queue, _)) = self.shared(link) {
            return data.take(queue, head, body);
        }
        let stream = self.stream(link);
        if head.is_empty() {
            return Ok(rustix::net::recv(stream, body, RecvFlags::empty())?.1);
        }
        Ok(rustix::io::readv(stream, &mut [IoSliceMut::new(head), IoSliceMut::new(body)])?)
    }

    fn lend(&self, link: Link, with: &mut dyn FnMut(&[u8]) -> usize) -> Option<io::Result<usize>> {
        let (data, queue, side) = self.shared(link)?;
        if !queue.is_ready(side) {
            return None;
        }
        let used = queue.lend(with);
        data.wake(queue, Side::Sender);
        Some(used)
    }

    fn wait(&self, links: &[Link], timeout: Duration) -> io::Result<[bool; MAX_WAITS]> {
        assert!(links.len() <= MAX_WAITS, "at most {MAX_WAITS} links are waited for");
        let shared = || links.iter().filter_map(|link| self.shared(*link));
        if shared().next().is_none() {
            return self.poll(links, timeout);
        }
        for _ in 0..SPINS {
            if let Some(ready) = self.any_ready(links) {
                return Ok(ready);
            }
            std::hint::spin_loop();
        }
        shared().for_each(|(_, queue, side)| queue.announce_sleep(side));
        let woken = match self.any_ready(links) {
            Some(ready) => Ok(ready),
            None => self.poll(links, timeout),
        };
        shared().for_each(|(_, queue, side)| queue.retract_sleep(side));
        let mut ready = woken?;
        for (link, ready) in links.iter().zip(&mut ready) {
            if let Some((data, _, _)) = self.shared(*link) {
                if *ready {
                    data.drain();
                }
                *ready = self.is_ready(*link);
            }
        }
        Ok(ready)
    }

    fn close(&self) {
        for data in self.outgoing.iter().chain(&self.incoming) {
            data.ended.store(true, Ordering::Release);
        }
        let data = self.outgoing.iter().chain(&self.incoming).map(DataLink::stream);
        for stream in data.chain([&self.next, &self.previous]) {
            // A connection that the other end has reset is closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// As poll(2) wants it.
pub(crate) fn timespec(timeout: Duration) -> Timespec {
    Timespec { tv_sec: timeout.as_secs().min(i64::MAX as u64) as i64, tv_nsec: timeout.subsec_nanos().into() }
}
