//! How a ring comes up: every rank dials its successors and is dialled by its predecessors, all at once, on one thread.
//!
//! The listener is open to anybody, so whatever connects is a stranger until the handshake is over: it gets a fixed
//! buffer, a deadline of its own and a place in a table of limited size, and nobody waits for it. A dialler that meets
//! nobody, or somebody else, tries again until the time is over: the other worker may not have come to this
//! generation yet.

use crate::{
    HandshakeFault, Ring, RingConfig, RingError, algorithm,
    handshake::{Channel, Conversation, HELLO_BYTES, Identity, RingId, Step},
    links::{
        Links, OFFER_BYTES, Offer, Queue, memory,
        process::{DataLink, ProcessLinks, timespec},
    },
};
use ringspin_job::Challenge;
use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

/// A stranger must have proven itself after this long; a handshake takes two round trips.
const STRANGER_LIMIT: Duration = Duration::from_secs(5);
/// Strangers at a time. The oldest gives way to a newer one: an honest one is done in milliseconds.
const MAX_STRANGERS: usize = 128;
/// Pause before dialling again, doubled up to the maximum.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(200);
/// How often an abort is looked for.
const TICK: Duration = Duration::from_millis(20);

impl Ring {
    /// Forms the ring of `config.generation`: returns when all ranks have all their links.
    ///
    /// `listener` is the one at `config.peers[config.rank]`; it becomes non-blocking, and can serve the next
    /// generation's ring afterwards. Errors: [`RingError::Handshake`] names a rank that could not be reached or did
    /// not come before `connect_timeout`; [`RingError::Aborted`] when `config.abort` was used.
    pub fn connect(config: RingConfig, listener: &TcpListener) -> Result<Ring, RingError> {
        config.check()?;
        let deadline = Instant::now() + config.connect_timeout;
        let (links, refused) = Rendezvous::new(&config, listener, deadline).run()?;
        let links: Arc<dyn Links> = match links {
            Some(links) => Arc::new(links),
            None => Arc::new(memory::alone()),
        };
        let mut ring = Ring::over(&config, links)?;
        ring.note_refused(refused);
        let left = deadline.saturating_duration_since(Instant::now()).max(TICK);
        ring.with_patience(left, Ring::barrier)?;
        Ok(ring)
    }
}

/// One connection under way.
struct Attempt {
    stream: TcpStream,
    conversation: Conversation,
    unsent: Vec<u8>,
    inbox: [u8; HELLO_BYTES],
    have: usize,
    wanted: usize,
    /// Set when the link is up as soon as everything is sent.
    up: Option<Channel>,
    deadline: Instant,
}

/// What became of an attempt.
enum Outcome {
    Pending,
    Up(Channel),
    Failed(HandshakeFault),
}

impl Attempt {
    fn new(stream: TcpStream, start: (Conversation, Step), deadline: Instant) -> Self {
        let (conversation, step) = start;
        let mut attempt = Attempt {
            stream,
            conversation,
            unsent: Vec::new(),
            inbox: [0; HELLO_BYTES],
            have: 0,
            wanted: 0,
            up: None,
            deadline,
        };
        attempt.follow(step);
        attempt
    }

    fn follow(&mut self, step: Step) {
        match step {
            Step::Exchange(bytes, wanted) => (self.unsent, self.wanted) = (bytes, wanted),
            Step::Up(bytes, channel) => (self.unsent, self.up) = (bytes, Some(channel)),
        }
        self.have = 0;
    }

    fn interest(&self) -> PollFlags {
        if self.unsent.is_empty() { PollFlags::IN } else { PollFlags::OUT }
    }

    /// Sends and receives what goes without blocking.
    fn advance(&mut self) -> Outcome {
        loop {
            let moved = if self.unsent.is_empty() { self.receive() } else { self.send() };
            match moved {
                Ok(None) => return Outcome::Pending,
                Ok(Some(())) => {}
                Err(fault) => return Outcome::Failed(fault),
            }
            if self.unsent.is_empty() {
                match self.up {
                    Some(channel) => return Outcome::Up(channel),
                    None if self.wanted == 0 => return Outcome::Failed(self.conversation.refusal()),
                    None => {}
                }
            }
        }
    }

    fn send(&mut self) -> Result<Option<()>, HandshakeFault> {
        match (&self.stream).write(&self.unsent) {
            Ok(sent) => {
                self.unsent.drain(..sent);
                Ok(Some(()))
            }
            Err(error) => pending_or(error),
        }
    }

    fn receive(&mut self) -> Result<Option<()>, HandshakeFault> {
        match (&self.stream).read(&mut self.inbox[self.have..self.wanted]) {
            // A peer that closes instead of proving itself did not like our proof, or knows none.
            Ok(0) => Err(HandshakeFault::Unproven),
            Ok(received) => {
                self.have += received;
                if self.have == self.wanted {
                    let step = self.conversation.receive(&self.inbox[..self.wanted])?;
                    self.follow(step);
                }
                Ok(Some(()))
            }
            Err(error) => pending_or(error),
        }
    }
}

fn pending_or(error: io::Error) -> Result<Option<()>, HandshakeFault> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(None),
        io::ErrorKind::Interrupted => Ok(Some(())),
        _ => Err(HandshakeFault::Io(Arc::new(error))),
    }
}

/// A link this rank makes.
struct Dial {
    channel: Channel,
    rank: usize,
    address: SocketAddr,
    state: DialState,
    pause: Duration,
    fault: Option<HandshakeFault>,
}

enum DialState {
    Resting(Instant),
    Connecting(TcpStream),
    Shaking(Box<Attempt>),
    Up(TcpStream),
}

/// A link that another rank makes.
struct Expected {
    channel: Channel,
    rank: usize,
    stream: Option<TcpStream>,
}

struct Rendezvous<'a> {
    config: &'a RingConfig,
    listener: &'a TcpListener,
    identity: Identity,
    start: Instant,
    deadline: Instant,
    dials: Vec<Dial>,
    expected: Vec<Expected>,
    strangers: Vec<Attempt>,
    refused: u64,
    last_refusal: Option<(SocketAddr, HandshakeFault)>,
}

impl<'a> Rendezvous<'a> {
    fn new(config: &'a RingConfig, listener: &'a TcpListener, deadline: Instant) -> Self {
        let (rank, world) = (config.rank, config.world);
        let ring = RingId { attempt: config.attempt, generation: config.generation, world: world as u32 };
        let exponents = algorithm::distances(world);
        let channels = || Channel::all(exponents).filter(|_| world > 1);
        let start = Instant::now();
        let dial = |channel: Channel| {
            let rank = algorithm::after(rank, channel.distance(), world);
            let state = DialState::Resting(start);
            Dial { channel, rank, address: config.peers[rank], state, pause: FIRST_PAUSE, fault: None }
        };
        let expect = |channel: Channel| {
            let rank = algorithm::before(rank, channel.distance(), world);
            Expected { channel, rank, stream: None }
        };
        Rendezvous {
            config,
            listener,
            identity: Identity { ring, rank, secret: config.secret.clone() },
            start,
            deadline,
            dials: channels().map(dial).collect(),
            expected: channels().map(expect).collect(),
            strangers: Vec::new(),
            refused: 0,
            last_refusal: None,
        }
    }

    /// The links, unless this rank is alone; and how many connections were refused.
    fn run(mut self) -> Result<(Option<ProcessLinks>, u64), RingError> {
        let local = |error: io::Error| RingError::Config(format!("the listener of the ring: {error}"));
        self.listener.set_nonblocking(true).map_err(local)?;
        while !self.is_complete() {
            if let Some(fault) = self.config.abort.fault() {
                return Err(fault);
            }
            let now = Instant::now();
            if now >= self.deadline {
                return Err(self.overdue());
            }
            self.dial(now);
            self.accept(now).map_err(local)?;
            self.shake(now);
            if !self.is_complete() {
                self.wait(now).map_err(local)?;
            }
        }
        Ok((self.links()?, self.refused))
    }

    fn is_complete(&self) -> bool {
        self.expected.iter().all(|link| link.stream.is_some())
            && self.dials.iter().all(|dial| matches!(dial.state, DialState::Up(_)))
    }

    /// Who is missing.
    fn overdue(&mut self) -> RingError {
        let waited = self.start.elapsed();
        let dial = self.dials.iter_mut().find(|dial| !matches!(dial.state, DialState::Up(_)));
        let (rank, cause) = match dial {
            Some(dial) => {
                let silent = HandshakeFault::TimedOut { what: "answered".into(), waited };
                (dial.rank, dial.fault.take().unwrap_or(silent))
            }
            None => {
                let missing = self.expected.iter().find(|link| link.stream.is_none());
                let refusal = self.last_refusal.take();
                let refusal = refusal.map(|(from, fault)| format!(" (turned away last: {from}, {fault})"));
                let what = format!("dialled by it{}", refusal.unwrap_or_default());
                (
                    missing.map_or(self.config.rank, |link| link.rank),
                    HandshakeFault::TimedOut { what, waited },
                )
            }
        };
        RingError::Handshake { rank, address: self.config.peers[rank], cause }
    }

    /// Starts what is due.
    fn dial(&mut self, now: Instant) {
        for dial in &mut self.dials {
            if matches!(dial.state, DialState::Resting(until) if until <= now) {
                match start_connecting(dial.address, self.config.peers[self.config.rank]) {
                    Ok(stream) => dial.state = DialState::Connecting(stream),
                    Err(error) => dial.rest(now, HandshakeFault::Io(Arc::new(error))),
                }
            }
        }
    }

    /// Takes in whoever has connected.
    fn accept(&mut self, now: Instant) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The connection is gone already, or there are too many files open for now.
                Err(error) if is_passing(&error) => return Ok(()),
                Err(error) => return Err(error),
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.strangers.len() == MAX_STRANGERS {
                self.strangers.remove(0);
                self.refused += 1;
            }
            let start = Conversation::accept(self.identity.clone(), challenge()?);
            self.strangers.push(Attempt::new(stream, start, now + STRANGER_LIMIT));
        }
    }

    /// Moves all handshakes on.
    fn shake(&mut self, now: Instant) {
        for dial in &mut self.dials {
            dial.advance(now, &self.identity, self.deadline);
        }
        for mut stranger in std::mem::take(&mut self.strangers) {
            match stranger.advance() {
                Outcome::Pending if stranger.deadline > now => self.strangers.push(stranger),
                Outcome::Pending => self.refused += 1,
                Outcome::Failed(fault) => {
                    self.refused += 1;
                    self.last_refusal = stranger.stream.peer_addr().ok().map(|address| (address, fault));
                }
                Outcome::Up(channel) => {
                    // The latest one counts: the dialler may have given up an earlier one without our knowing.
                    let link = self.expected.iter_mut().find(|link| link.channel == channel);
                    link.into_iter().for_each(|link| link.stream = stranger.stream.try_clone().ok());
                }
            }
        }
    }

    /// Sleeps until something can move.
    fn wait(&self, now: Instant) -> io::Result<()> {
        let mut fds = vec![PollFd::new(self.listener, PollFlags::IN)];
        let mut until = self.deadline.min(now + TICK);
        for dial in &self.dials {
            match &dial.state {
                DialState::Resting(at) => until = until.min(*at),
                DialState::Connecting(stream) => fds.push(PollFd::new(stream, PollFlags::OUT)),
                DialState::Shaking(attempt) => fds.push(PollFd::new(&attempt.stream, attempt.interest())),
                DialState::Up(_) => {}
            }
        }
        fds.extend(self.strangers.iter().map(|stranger| PollFd::new(&stranger.stream, stranger.interest())));
        match poll(&mut fds, Some(&timespec(until.saturating_duration_since(now)))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The finished links, set up for traffic.
    fn links(&mut self) -> Result<Option<ProcessLinks>, RingError> {
        let mut outgoing = self.dials.drain(..).filter_map(|dial| match dial.state {
            DialState::Up(stream) => Some((dial.rank, stream)),
            _ => None,
        });
        let mut incoming =
            self.expected.drain(..).filter_map(|link| link.stream.map(|stream| (link.rank, stream)));
        let (Some((_, next)), Some((_, previous))) = (outgoing.next(), incoming.next()) else {
            return Ok(None);
        };
        let (outgoing, incoming): (Vec<_>, Vec<_>) = (outgoing.collect(), incoming.collect());
        let data = outgoing.iter().chain(&incoming).map(|(_, stream)| stream);
        for stream in data.chain([&next, &previous]) {
            prepare(stream, self.config.socket_buffer_bytes)
                .map_err(|error| RingError::Config(format!("a connection of the ring: {error}")))?;
        }
        let (outgoing, incoming) = share(self.config, self.deadline, outgoing, incoming)?;
        Ok(Some(ProcessLinks { next, previous, outgoing, incoming }))
    }
}

/// Gives the links between ranks at one address their shared memory: the sender offers, the receiver answers whether
/// it has found it. It has not when it runs in another container; bytes then go over the connection.
fn share(
    config: &RingConfig,
    deadline: Instant,
    outgoing: Vec<(usize, TcpStream)>,
    incoming: Vec<(usize, TcpStream)>,
) -> Result<(Vec<DataLink>, Vec<DataLink>), RingError> {
    let lost = |rank: usize, error: io::Error| {
        let cause = HandshakeFault::Io(Arc::new(error));
        config.abort.fault().unwrap_or(RingError::Handshake { rank, address: config.peers[rank], cause })
    };
    let own = config.peers[config.rank].ip();
    let near = |rank: usize| config.shared_memory && config.peers[rank].ip() == own;
    let mut offered = Vec::new();
    for (rank, stream) in outgoing {
        let made = if near(rank) { Queue::create().ok() } else { None };
        if near(rank) {
            // An offer that nobody finds stands for none.
            let offer = made.as_ref().map_or([0; OFFER_BYTES], |(_, offer)| offer.encode());
            // It fits into any socket buffer.
            (&stream).write_all(&offer).map_err(|error| lost(rank, error))?;
        }
        offered.push((rank, stream, made.map(|(queue, _)| queue)));
    }
    let mut receiving = Vec::new();
    for (rank, stream) in incoming {
        let mut queue = None;
        if near(rank) {
            let mut offer = [0; OFFER_BYTES];
            read_exactly(&stream, &mut offer, config, deadline).map_err(|error| lost(rank, error))?;
            queue = Queue::open(&Offer::decode(&offer)).ok();
            let answer = [u8::from(queue.is_some())];
            (&stream).write_all(&answer).map_err(|error| lost(rank, error))?;
        }
        receiving.push(DataLink::new(stream, queue));
    }
    let mut sending = Vec::new();
    for (rank, stream, mut queue) in offered {
        if near(rank) {
            let mut answer = [0];
            read_exactly(&stream, &mut answer, config, deadline).map_err(|error| lost(rank, error))?;
            queue = queue.filter(|_| answer == [1]);
            queue.iter_mut().for_each(Queue::forget_file);
        }
        sending.push(DataLink::new(stream, queue));
    }
    Ok((sending, receiving))
}

/// Fills `bytes` from a non-blocking connection, unless the time is over or the ring is aborted before.
fn read_exactly(
    mut stream: &TcpStream,
    bytes: &mut [u8],
    config: &RingConfig,
    deadline: Instant,
) -> io::Result<()> {
    let mut have = 0;
    while have < bytes.len() {
        match stream.read(&mut bytes[have..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(received) => have += received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() >= deadline || config.abort.fault().is_some() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                poll(&mut [PollFd::new(&stream, PollFlags::IN)], Some(&timespec(TICK)))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Dial {
    fn rest(&mut self, now: Instant, fault: HandshakeFault) {
        self.fault = Some(fault);
        self.state = DialState::Resting(now + self.pause);
        self.pause = (2 * self.pause).min(MAX_PAUSE);
    }

    fn advance(&mut self, now: Instant, identity: &Identity, deadline: Instant) {
        if let DialState::Connecting(stream) = &self.state {
            match connected(stream) {
                Ok(false) => return,
                Ok(true) => {}
                Err(error) => return self.rest(now, HandshakeFault::Io(Arc::new(error))),
            }
            let attempt = stream.try_clone().and_then(|stream| {
                let start = Conversation::dial(identity.clone(), self.channel, challenge()?);
                Ok(Attempt::new(stream, start, deadline))
            });
            match attempt {
                Ok(attempt) => self.state = DialState::Shaking(Box::new(attempt)),
                Err(error) => return self.rest(now, HandshakeFault::Io(Arc::new(error))),
            }
        }
        if let DialState::Shaking(attempt) = &mut self.state {
            match attempt.advance() {
                Outcome::Pending => {}
                Outcome::Failed(fault) => self.rest(now, fault),
                Outcome::Up(_) => {
                    if let DialState::Shaking(attempt) =
                        std::mem::replace(&mut self.state, DialState::Resting(now))
                    {
                        self.state = DialState::Up(attempt.stream);
                    }
                }
            }
        }
    }
}

/// Opens a connection, from which the rank that dials sends.
///
/// Between ranks of one host there is no line to share, and pacing costs more processor time than the copying does: where
/// BBR is the system's choice, its timers halve the bandwidth. Such connections use Reno, which every Linux has; it must
/// be chosen before connecting, or the timers stay.
fn start_connecting(address: SocketAddr, own_address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if address.ip() == own_address.ip() {
        // Where it is forbidden, the system's choice works as well, only slower.
        let _ = rustix::net::sockopt::set_tcp_congestion(&socket, "reno");
    }
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// Whether a connection that was started is there now.
fn connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// No delay for short frames; buffers as configured.
fn prepare(stream: &TcpStream, buffer_bytes: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if buffer_bytes > 0 {
        let socket = SockRef::from(stream);
        socket.set_send_buffer_size(buffer_bytes)?;
        socket.set_recv_buffer_size(buffer_bytes)?;
    }
    Ok(())
}

/// Failures of accept that say nothing about the listener.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [Errno::CONNABORTED, Errno::INTR, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.kind() == io::ErrorKind::ConnectionReset
        || passing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn challenge() -> io::Result<Challenge> {
    let mut bytes = Challenge::default();
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}
