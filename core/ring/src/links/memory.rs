//! Links in memory, for tests with many ranks as threads of one process, with faults on demand.
//!
//! They behave as sockets do: bounded buffers, transfers of any length, end of file, and a process that dies without
//! a word. They refuse to be fast.

use super::{Link, Links, MAX_WAITS};
use crate::{Abort, Ring, RingConfig, RingError, algorithm};
use ringspin_job::JobSecret;
use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How the links of a mesh behave.
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    /// Bytes a link holds before its sender must wait.
    pub buffer_bytes: usize,
    /// Time bytes are under way.
    pub delay: Duration,
    /// Transfers are cut at random lengths drawn from this seed; 0 cuts nothing.
    pub cut_seed: u64,
    /// What goes wrong.
    pub failures: Vec<Failure>,
    /// See [`RingConfig`].
    pub io_timeout: Duration,
    /// See [`RingConfig`].
    pub chunk_bytes: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        MemoryOptions {
            buffer_bytes: 64 << 10,
            delay: Duration::ZERO,
            cut_seed: 0,
            failures: Vec::new(),
            io_timeout: Duration::from_secs(20),
            chunk_bytes: 16 << 10,
        }
    }
}

/// Room for notices on a control link.
const CONTROL_BUFFER_BYTES: usize = 4 << 10;

/// A rank that fails once it has sent so many bytes on its data links.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// The rank.
    pub rank: usize,
    /// Bytes it sends before.
    pub after_bytes: u64,
    /// Whether all its connections end as when a process is killed, or nothing moves any more as when it hangs.
    pub killed: bool,
}

/// A ring of `world` ranks in this process, one [`Ring`] for each; use each on a thread of its own.
pub fn rings(world: usize, options: &MemoryOptions) -> Result<Vec<Ring>, RingError> {
    (0..world)
        .zip(mesh(world, options))
        .map(|(rank, links)| Ring::over(&config(rank, world, options), Arc::new(links)))
        .collect()
}

/// The configuration of a rank whose links need no network.
pub(crate) fn config(rank: usize, world: usize, options: &MemoryOptions) -> RingConfig {
    RingConfig {
        rank,
        world,
        generation: 1,
        attempt: 1,
        peers: vec![SocketAddr::from(([127, 0, 0, 1], 0)); world],
        secret: JobSecret::new([0; 32]),
        connect_timeout: options.io_timeout,
        io_timeout: options.io_timeout,
        chunk_bytes: options.chunk_bytes,
        socket_buffer_bytes: 0,
        shared_memory: false,
        abort: Abort::new(),
    }
}

/// The links of all ranks of a world.
pub(crate) fn mesh(world: usize, options: &MemoryOptions) -> Vec<MemoryLinks> {
    let bells: Vec<Arc<Bell>> = (0..world).map(|_| Arc::new(Bell::default())).collect();
    let pipe = |from: usize, to: usize| Arc::new(Pipe::new(&bells[from], &bells[to], options));
    // pipes[k][r]: from rank r to the rank 2^k places after; forward and backward: control links r → r + 1.
    let pipes: Vec<Vec<Arc<Pipe>>> = (0..algorithm::distances(world))
        .map(|k| (0..world).map(|r| pipe(r, algorithm::after(r, 1 << k, world))).collect())
        .collect();
    let next = |rank: usize| algorithm::after(rank, 1, world);
    // A notice goes in one piece, as it does over TCP.
    let whole = MemoryOptions { buffer_bytes: CONTROL_BUFFER_BYTES, cut_seed: 0, ..options.clone() };
    let control = |from: usize, to: usize| Arc::new(Pipe::new(&bells[from], &bells[to], &whole));
    let forward: Vec<Arc<Pipe>> = (0..world).map(|r| control(r, next(r))).collect();
    let backward: Vec<Arc<Pipe>> = (0..world).map(|r| control(next(r), r)).collect();
    (0..world)
        .map(|rank| MemoryLinks {
            outgoing: pipes.iter().map(|of| of[rank].clone()).collect(),
            incoming: (0..)
                .zip(&pipes)
                .map(|(k, of)| of[algorithm::before(rank, 1 << k, world)].clone())
                .collect(),
            next: (forward[rank].clone(), backward[rank].clone()),
            previous: {
                let previous = algorithm::before(rank, 1, world);
                (backward[previous].clone(), forward[previous].clone())
            },
            bell: bells[rank].clone(),
            failure: options.failures.iter().find(|failure| failure.rank == rank).copied(),
            sent: AtomicU64::new(0),
        })
        .collect()
}

/// The links of a world of one rank: they lead to itself and are never used.
pub(crate) fn alone() -> MemoryLinks {
    mesh(1, &MemoryOptions::default()).remove(0)
}

/// Wakes a rank up when one of its pipes changed.
#[derive(Default)]
struct Bell {
    changes: Mutex<u64>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.changes.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    fn changes(&self) -> u64 {
        *self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until something changed since `seen`, or until the timeout.
    fn wait(&self, seen: u64, timeout: Duration) {
        let guard = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.changed.wait_timeout_while(guard, timeout, |changes| *changes == seen);
        drop(result.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Bytes from one rank to another.
struct Pipe {
    writer: Arc<Bell>,
    reader: Arc<Bell>,
    capacity: usize,
    delay: Duration,
    state: Mutex<PipeState>,
}

#[derive(Default)]
struct PipeState {
    /// Stretches of bytes, and when they arrive.
    segments: VecDeque<(Instant, Vec<u8>)>,
    /// Bytes of the first segment that have been read.
    read: usize,
    held: usize,
    ended: bool,
    cuts: u64,
}

impl PipeState {
    /// `length`, or less at random.
    fn cut(&mut self, length: usize) -> usize {
        if self.cuts == 0 || length < 2 {
            return length;
        }
        self.cuts = self.cuts.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407) | 1;
        1 + (self.cuts >> 33) as usize % length
    }
}

impl Pipe {
    fn new(writer: &Arc<Bell>, reader: &Arc<Bell>, options: &MemoryOptions) -> Self {
        let state = PipeState { cuts: options.cut_seed, ..PipeState::default() };
        let (writer, reader) = (writer.clone(), reader.clone());
        Pipe {
            writer,
            reader,
            capacity: options.buffer_bytes,
            delay: options.delay,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, head: &[u8], body: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        if state.ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = (head.len() + body.len()).min(self.capacity - state.held);
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = state.cut(room);
        let segment: Vec<u8> = head.iter().chain(body).take(length).copied().collect();
        state.segments.push_back((Instant::now() + self.delay, segment));
        state.held += length;
        drop(state);
        self.reader.ring();
        Ok(length)
    }

    fn read(&self, head: &mut [u8], body: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        let limit = state.cut(head.len() + body.len());
        let now = Instant::now();
        let mut taken = 0;
        while taken < limit && state.segments.front().is_some_and(|(at, _)| *at <= now) {
            let from = state.read;
            let segment = &state.segments[0].1[from..];
            let length = segment.len().min(limit - taken);
            for (target, byte) in head.iter_mut().chain(body.iter_mut()).skip(taken).zip(&segment[..length]) {
                *target = *byte;
            }
            let used_up = length == segment.len();
            taken += length;
            state.read += length;
            if used_up {
                state.segments.pop_front();
                state.read = 0;
            }
        }
        state.held -= taken;
        let ended = state.ended && state.segments.is_empty();
        drop(state);
        self.writer.ring();
        if taken == 0 && !ended { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    /// When a reader has something to do.
    fn readable_at(&self) -> Option<Instant> {
        let state = self.state();
        let first = state.segments.front().map(|(at, _)| *at);
        first.or(state.ended.then(Instant::now))
    }

    fn writable_at(&self) -> Option<Instant> {
        let state = self.state();
        (state.ended || state.held < self.capacity).then(Instant::now)
    }

    fn end(&self) {
        self.state().ended = true;
        self.reader.ring();
        self.writer.ring();
    }
}

/// The links of one rank in memory.
pub(crate) struct MemoryLinks {
    outgoing: Vec<Arc<Pipe>>,
    incoming: Vec<Arc<Pipe>>,
    /// Control links: to write, to read.
    next: (Arc<Pipe>, Arc<Pipe>),
    previous: (Arc<Pipe>, Arc<Pipe>),
    bell: Arc<Bell>,
    failure: Option<Failure>,
    sent: AtomicU64,
}

impl MemoryLinks {
    /// Whether this rank has failed.
    fn has_failed(&self) -> bool {
        self.failure.is_some_and(|failure| self.sent.load(Ordering::Relaxed) >= failure.after_bytes)
    }

    /// Nothing, unless this rank has failed. One that is to be killed dies now.
    fn fail_if_due(&self) -> io::Result<()> {
        if !self.has_failed() {
            return Ok(());
        }
        if self.failure.is_some_and(|failure| failure.killed) {
            self.end_all();
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn end_all(&self) {
        let control = [&self.next.0, &self.next.1, &self.previous.0, &self.previous.1];
        self.outgoing.iter().chain(&self.incoming).chain(control).for_each(|pipe| pipe.end());
    }
}

impl Links for MemoryLinks {
    fn send(&self, link: Link, head: &[u8], body: &[u8]) -> io::Result<usize> {
        self.fail_if_due()?;
        match link {
            Link::Out(k) => {
                let sent = self.outgoing[k as usize].write(head, body)?;
                self.sent.fetch_add(sent as u64, Ordering::Relaxed);
                Ok(sent)
            }
            Link::Next => self.next.0.write(head, body),
            Link::Previous => self.previous.0.write(head, body),
            Link::In(_) => unreachable!("nothing is sent on a link from another rank"),
        }
    }

    fn receive(&self, link: Link, head: &mut [u8], body: &mut [u8]) -> io::Result<usize> {
        self.fail_if_due()?;
        match link {
            Link::In(k) => self.incoming[k as usize].read(head, body),
            Link::Next => self.next.1.read(head, body),
            Link::Previous => self.previous.1.read(head, body),
            Link::Out(_) => unreachable!("nothing is received on a link to another rank"),
        }
    }

    fn wait(&self, links: &[Link], timeout: Duration) -> io::Result<[bool; MAX_WAITS]> {
        let deadline = Instant::now() + timeout;
        loop {
            let seen = self.bell.changes();
            let failed = self.has_failed();
            if failed && self.failure.is_some_and(|failure| failure.killed) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let at: [Option<Instant>; MAX_WAITS] = std::array::from_fn(|i| match links.get(i)? {
                _ if failed => None,
                Link::Out(k) => self.outgoing[*k as usize].writable_at(),
                Link::In(k) => self.incoming[*k as usize].readable_at(),
                Link::Next => self.next.1.readable_at(),
                Link::Previous => self.previous.1.readable_at(),
            });
            let now = Instant::now();
            let ready = at.map(|at| at.is_some_and(|at| at <= now));
            if ready.contains(&true) || now >= deadline {
                return Ok(ready);
            }
            let until = at.into_iter().flatten().min().map_or(deadline, |at| at.min(deadline));
            self.bell.wait(seen, until - now);
        }
    }

    fn close(&self) {
        // A rank that hangs does not close anything either.
        if !self.has_failed() {
            self.end_all();
        }
    }
}
