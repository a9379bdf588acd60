//! Moves the streams of one round over the links of one rank, both directions at once, on one thread.
//!
//! What arrives is received straight into place, or into a staging chunk when it must be added or widened; what leaves
//! is sent straight from the vector, or from a staging chunk when it must be rounded. It refuses to know algorithms: a
//! round says it all.

use crate::{
    Abort, NeighbourStats, RingConfig, RingError, RingStats,
    algorithm::{self, Partition, Round},
    control::Control,
    format::Format,
    frame::{Header, describe_header},
    links::{Link, Links, MAX_WAITS},
    streams::{Incoming, Outgoing},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The links of a rank and what is needed to use them.
pub(crate) struct Pump {
    links: Arc<dyn Links>,
    control: Control,
    abort: Abort,
    rank: usize,
    /// Silence that is borne.
    pub(crate) patience: Duration,
    arriving: Vec<u8>,
    leaving: Vec<u8>,
    /// What was done so far.
    pub(crate) stats: RingStats,
}

/// One round of an operation.
pub(crate) struct Job {
    /// What goes where.
    pub(crate) round: Round,
    /// How the vector is cut.
    pub(crate) partition: Partition,
    /// What it is made of.
    pub(crate) format: Format,
    /// What both ends must agree on.
    pub(crate) header: Header,
}

impl Pump {
    /// For links that are up.
    pub(crate) fn new(links: Arc<dyn Links>, config: &RingConfig) -> Self {
        let control = Control::new(links.clone(), config);
        let exponents = 0..algorithm::distances(config.world);
        let ends = exponents.clone().map(Link::Out).chain(exponents.map(Link::In));
        let neighbours = ends
            .map(|link| NeighbourStats {
                rank: control.peer(link),
                receives: matches!(link, Link::In(_)),
                ..NeighbourStats::default()
            })
            .collect();
        // Staging holds whole elements of any format.
        let chunk_bytes = config.chunk_bytes.next_multiple_of(8);
        Pump {
            links,
            control,
            abort: config.abort.clone(),
            rank: config.rank,
            patience: config.io_timeout,
            arriving: vec![0; chunk_bytes],
            leaving: Vec::new(),
            stats: RingStats { neighbours, ..RingStats::default() },
        }
    }

    /// Runs one round on `memory`. After an error the ring has failed: the neighbours know, all links are down.
    pub(crate) fn run(&mut self, job: &Job, memory: &mut [u8]) -> Result<(), RingError> {
        if !job.format.is_direct() {
            self.leaving.resize(self.arriving.len(), 0);
        }
        self.transfer(job, memory).map_err(|fault| self.abort.raise(fault))
    }

    fn transfer(&mut self, job: &Job, memory: &mut [u8]) -> Result<(), RingError> {
        let header = job.header.encode();
        let mut outgoing = Outgoing::new(job, header);
        let mut incoming = Incoming::new(job);
        let mut patience = Patience::new(self.patience);
        loop {
            let processed = incoming.processed();
            if let (Some(link), true) = (outgoing.link, outgoing.may_move(processed)) {
                let sent = outgoing.step(&*self.links, job.format, memory, &mut self.leaving, processed);
                let sent = sent.map_err(|error| self.control.why_ended(link, error))?;
                self.neighbour(link).bytes += sent as u64;
                patience.sent |= sent > 0;
            }
            if let (Some(link), true) = (incoming.link, incoming.may_move()) {
                let received = incoming.step(&*self.links, job.format, memory, &mut self.arriving);
                let received = received.map_err(|error| self.control.why_ended(link, error))?;
                self.neighbour(link).bytes += received as u64;
                patience.received |= received > 0;
                if !incoming.header_fits(&header) {
                    let (theirs, ours) = (describe_header(&incoming.header), describe_header(&header));
                    let detail = format!("it sent {theirs}; rank {} runs {ours}", self.rank);
                    return Err(RingError::Mismatch { rank: self.control.peer(link), detail });
                }
                self.stats.reducing += incoming.process(job.format, memory, &mut self.arriving);
            }
            if outgoing.is_done() && incoming.is_done() {
                return Ok(());
            }
            if !outgoing.may_move(incoming.processed()) && !incoming.may_move() {
                self.wait(&mut outgoing, &mut incoming, &mut patience)?;
            }
        }
    }

    fn neighbour(&mut self, link: Link) -> &mut NeighbourStats {
        let exponents = self.stats.neighbours.len() / 2;
        match link {
            Link::Out(k) => &mut self.stats.neighbours[k as usize],
            Link::In(k) => &mut self.stats.neighbours[exponents + k as usize],
            Link::Next | Link::Previous => unreachable!("control links have no statistics"),
        }
    }

    /// Sleeps until a stream can move; reads notices; counts who was waited for; gives up on the silent.
    fn wait(
        &mut self,
        outgoing: &mut Outgoing,
        incoming: &mut Incoming,
        patience: &mut Patience,
    ) -> Result<(), RingError> {
        let sender = incoming.link.filter(|_| !incoming.is_done());
        let receiver = outgoing.link.filter(|_| outgoing.wants(incoming.processed()));
        let mut links = [Link::Next; MAX_WAITS];
        let mut count = 0;
        for link in sender.into_iter().chain(receiver).chain(self.control.open()) {
            links[count] = link;
            count += 1;
        }
        let links = &links[..count];

        let start = Instant::now();
        let left = patience.left(start, sender.is_some(), receiver.is_some());
        let ready = match self.links.wait(links, left) {
            Ok(ready) => ready,
            Err(error) => return Err(self.control.why_ended(links[0], error)),
        };
        let now = Instant::now();
        self.count_wait(now - start, sender, receiver, incoming.has_begun());
        for (link, _) in links.iter().zip(ready).filter(|(_, ready)| *ready) {
            match link {
                Link::In(_) => incoming.blocked = false,
                Link::Out(_) => outgoing.blocked = false,
                Link::Next | Link::Previous => self.control.read(*link)?,
            }
        }
        if ready.contains(&true) {
            return Ok(());
        }
        match (patience.expired(now), sender, receiver) {
            ((Some(waited), _), Some(link), _) | ((_, Some(waited)), _, Some(link)) => {
                Err(RingError::Timeout { rank: self.control.peer(link), waited })
            }
            _ => Ok(()),
        }
    }

    fn count_wait(&mut self, slept: Duration, sender: Option<Link>, receiver: Option<Link>, begun: bool) {
        self.stats.waits += 1;
        if let Some(link) = sender.or(receiver) {
            let entry = self.neighbour(link);
            entry.waiting += slept;
            if sender.is_some() && !begun {
                entry.late += slept;
            }
        }
    }
}

/// How long each direction has stood still although this rank was ready. Whoever falls silent stops its successor
/// first: the clocks of the two directions run apart so that the first to run out names it.
struct Patience {
    limit: Duration,
    /// Something was received, sent, since the clock was last looked at.
    received: bool,
    sent: bool,
    received_at: Option<Instant>,
    sent_at: Option<Instant>,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Patience { limit, received: false, sent: false, received_at: None, sent_at: None }
    }

    /// How long to wait at most, for the directions that are waited for.
    fn left(&mut self, now: Instant, receiving: bool, sending: bool) -> Duration {
        let mut left = self.limit;
        let directions = [
            (receiving, &mut self.received, &mut self.received_at),
            (sending, &mut self.sent, &mut self.sent_at),
        ];
        for (waits, moved, at) in directions {
            if std::mem::take(moved) || !waits {
                *at = None;
            }
            if waits {
                left = left.min(self.limit.saturating_sub(now - *at.get_or_insert(now)));
            }
        }
        left
    }

    /// How long receiving and sending have stood still, where that is too long.
    fn expired(&self, now: Instant) -> (Option<Duration>, Option<Duration>) {
        let over = |at: Option<Instant>| at.map(|at| now - at).filter(|waited| *waited >= self.limit);
        (over(self.received_at), over(self.sent_at))
    }
}
