//! The two streams of a round: where they are, and what may move next.

use crate::{
    algorithm::{Cursor, Lead, Walk},
    format::Format,
    frame::HEADER_BYTES,
    links::{Link, Links},
    pump::Job,
};
use std::{
    io,
    ops::Range,
    time::{Duration, Instant},
};

/// At most this much is handed to the system in one call, so that receiving is never long neglected.
const SEND_BYTES: usize = 1 << 20;

/// A place in a stream: step of its walk, bytes into that block.
pub(crate) type Position = (usize, usize);

/// A header and the bytes that follow it, on their way out.
pub(crate) struct Outgoing {
    /// Where to; none when the round sends nothing.
    pub(crate) link: Option<Link>,
    /// The link took less than was offered: to be waited for.
    pub(crate) blocked: bool,
    header: [u8; HEADER_BYTES],
    header_sent: usize,
    cursor: Cursor,
    walk: Walk,
    lead: Lead,
    /// What of the staging chunk is still to be sent.
    staged: Range<usize>,
}

impl Outgoing {
    /// The start of what `job` sends.
    pub(crate) fn new(job: &Job, header: [u8; HEADER_BYTES]) -> Self {
        let (link, walk) = stream_of(job.round.send, Link::Out);
        let cursor = Cursor::new(walk, 0, job.partition, job.format.wire_bytes());
        let header_sent = if link.is_some() { 0 } else { HEADER_BYTES };
        Outgoing {
            link,
            blocked: false,
            header,
            header_sent,
            cursor,
            walk,
            lead: job.round.lead,
            staged: 0..0,
        }
    }

    /// Whether all has been handed to the link.
    pub(crate) fn is_done(&self) -> bool {
        self.header_sent == HEADER_BYTES && self.staged.is_empty() && self.cursor.is_done()
    }

    /// Bytes of the present run that may leave once the receive stream has been processed up to `processed`.
    fn allowed(&self, processed: Position) -> usize {
        let (step, offset) = self.cursor.position();
        if self.cursor.is_done() {
            return 0;
        }
        match self.lead.source(&self.walk, step) {
            None if self.lead == Lead::All => usize::MAX,
            None => self.cursor.left_in_block(),
            Some(source) if processed.0 > source => self.cursor.left_in_block(),
            Some(source) if processed.0 == source => processed.1.saturating_sub(offset),
            Some(_) => 0,
        }
    }

    /// Whether there is something to send.
    pub(crate) fn wants(&self, processed: Position) -> bool {
        self.header_sent < HEADER_BYTES || !self.staged.is_empty() || self.allowed(processed) > 0
    }

    /// Whether something can be sent without waiting.
    pub(crate) fn may_move(&self, processed: Position) -> bool {
        !self.blocked && self.wants(processed)
    }

    /// Sends once. Bytes that went.
    pub(crate) fn step(
        &mut self,
        links: &dyn Links,
        format: Format,
        memory: &[u8],
        staging: &mut [u8],
        processed: Position,
    ) -> io::Result<usize> {
        let Some(link) = self.link else { return Ok(0) };
        let allowed = self.allowed(processed);
        if !format.is_direct() && self.staged.is_empty() {
            self.stage(format, memory, staging, allowed);
        }
        let run = if format.is_direct() { self.cursor.run().map(|run| run.bytes) } else { None };
        let body = match &run {
            Some(bytes) => &memory[bytes.start..bytes.end.min(bytes.start + allowed.min(SEND_BYTES))],
            None => &staging[self.staged.clone()],
        };
        let head = &self.header[self.header_sent..];
        let sent = match links.send(link, head, body) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
            Err(error) => return Err(error),
        };
        self.blocked = sent < head.len() + body.len();
        let of_header = sent.min(head.len());
        self.header_sent += of_header;
        let of_body = sent - of_header;
        if run.is_some() {
            self.cursor.advance(of_body);
        } else {
            self.staged.start += of_body;
        }
        Ok(sent)
    }

    /// Converts the next allowed elements, as many as fit.
    fn stage(&mut self, format: Format, memory: &[u8], staging: &mut [u8], allowed: usize) {
        let Some(run) = self.cursor.run() else { return };
        let width = format.wire_bytes();
        let bytes = run.bytes.len().min(allowed).min(staging.len()) / width * width;
        format.encode(&memory[in_memory(&run.bytes, bytes, format)], &mut staging[..bytes]);
        self.cursor.advance(bytes);
        self.staged = 0..bytes;
    }
}

/// A header and the bytes that follow it, on their way in.
pub(crate) struct Incoming {
    /// Where from; none when the round receives nothing.
    pub(crate) link: Option<Link>,
    /// The link had less than there was room for: to be waited for.
    pub(crate) blocked: bool,
    /// What has arrived of the header.
    pub(crate) header: [u8; HEADER_BYTES],
    header_have: usize,
    /// Up to here bytes are in place, reduced: they may be passed on.
    cursor: Cursor,
    /// Bytes in the staging chunk: an unfinished element between steps.
    staged: usize,
    /// Bytes in memory that are not yet counted as processed.
    placed: usize,
    /// Time that adding where bytes arrived took in the last step.
    adding: Duration,
}

impl Incoming {
    /// The start of what `job` receives.
    pub(crate) fn new(job: &Job) -> Self {
        let (link, walk) = stream_of(job.round.receive, Link::In);
        let cursor = Cursor::new(walk, job.round.adds, job.partition, job.format.wire_bytes());
        let header_have = if link.is_some() { 0 } else { HEADER_BYTES };
        Incoming {
            link,
            blocked: false,
            header: [0; HEADER_BYTES],
            header_have,
            cursor,
            staged: 0,
            placed: 0,
            adding: Duration::ZERO,
        }
    }

    /// Whether all has arrived and been reduced.
    pub(crate) fn is_done(&self) -> bool {
        self.has_begun() && self.cursor.is_done()
    }

    /// Up to where bytes are in place, reduced: they may be passed on.
    pub(crate) fn processed(&self) -> Position {
        self.cursor.position()
    }

    /// Whether the header is there: the other rank has begun with the operation.
    pub(crate) fn has_begun(&self) -> bool {
        self.header_have == HEADER_BYTES
    }

    /// Whether something can be received without waiting.
    pub(crate) fn may_move(&self) -> bool {
        !self.blocked && !self.is_done()
    }

    /// Receives once, at most a chunk. Bytes that came; the end of the link is an error.
    pub(crate) fn step(
        &mut self,
        links: &dyn Links,
        format: Format,
        memory: &mut [u8],
        staging: &mut [u8],
    ) -> io::Result<usize> {
        let Some(link) = self.link else { return Ok(0) };
        let chunk = staging.len();
        if let Some(used) = self.use_in_place(links, link, format, memory, chunk)? {
            return Ok(used);
        }
        let run = self.cursor.run();
        let body = match &run {
            None => &mut [][..],
            Some(run) if format.is_direct() && !run.adds => {
                &mut memory[run.bytes.start..run.bytes.end.min(run.bytes.start + chunk)]
            }
            Some(run) => &mut staging[self.staged..run.bytes.len().min(chunk)],
        };
        let head = &mut self.header[self.header_have..];
        let room = head.len() + body.len();
        let received = match links.receive(link, head, body) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
            Err(error) => return Err(error),
        };
        let of_header = received.min(HEADER_BYTES - self.header_have);
        self.header_have += of_header;
        let of_body = received - of_header;
        match run {
            Some(run) if format.is_direct() && !run.adds => self.placed += of_body,
            _ => self.staged += of_body,
        }
        // Waiting for what is certain to be there would cost a system call more than trying again.
        self.blocked = received < room;
        Ok(received)
    }

    /// Adds or stores whole elements straight from where they arrived, at most a chunk of them; `None` where that can
    /// not be done.
    fn use_in_place(
        &mut self,
        links: &dyn Links,
        link: Link,
        format: Format,
        memory: &mut [u8],
        chunk: usize,
    ) -> io::Result<Option<usize>> {
        let Some(run) = self.cursor.run().filter(|run| run.adds || !format.is_direct()) else {
            return Ok(None);
        };
        if !self.has_begun() || self.staged > 0 {
            return Ok(None);
        }
        let start = Instant::now();
        let lent = links.lend(link, &mut |bytes| {
            let whole =
                bytes.len().min(run.bytes.len()).min(chunk) / format.wire_bytes() * format.wire_bytes();
            reduce(format, run.adds, &bytes[..whole], &mut memory[in_memory(&run.bytes, whole, format)]);
            whole
        });
        // None that is whole: a piece of an element lies at the end of the memory.
        let Some(used) = lent.transpose()?.filter(|used| *used > 0) else { return Ok(None) };
        self.cursor.advance(used);
        self.adding = start.elapsed();
        Ok(Some(used))
    }

    /// Whether what arrived of the header is the header that must come.
    pub(crate) fn header_fits(&self, header: &[u8; HEADER_BYTES]) -> bool {
        self.link.is_none() || !self.has_begun() || self.header == *header
    }

    /// Adds or stores what the last step brought. The time it took.
    pub(crate) fn process(&mut self, format: Format, memory: &mut [u8], staging: &mut [u8]) -> Duration {
        if self.placed > 0 {
            self.cursor.advance(self.placed);
            self.placed = 0;
        }
        let whole = self.staged / format.wire_bytes() * format.wire_bytes();
        if whole == 0 {
            return std::mem::take(&mut self.adding);
        }
        let start = Instant::now();
        let Some(run) = self.cursor.run() else { unreachable!("staged bytes belong to a run") };
        let target = &mut memory[in_memory(&run.bytes, whole, format)];
        reduce(format, run.adds, &staging[..whole], target);
        staging.copy_within(whole..self.staged, 0);
        self.staged -= whole;
        self.cursor.advance(whole);
        start.elapsed()
    }
}

/// Adds what came over the wire to memory, or stores it there.
fn reduce(format: Format, adds: bool, wire: &[u8], target: &mut [u8]) {
    if adds { format.add(wire, target) } else { format.store(wire, target) }
}

/// Where the first `bytes` of a stretch of the wire lie in memory.
fn in_memory(wire: &Range<usize>, bytes: usize, format: Format) -> Range<usize> {
    let scale = format.memory_bytes() / format.wire_bytes();
    wire.start * scale..(wire.start + bytes) * scale
}

/// The link and the walk of a stream; a stream that is not there walks nowhere.
fn stream_of(stream: Option<(u32, Walk)>, link: impl Fn(u32) -> Link) -> (Option<Link>, Walk) {
    match stream {
        Some((distance, walk)) => (Some(link(distance.trailing_zeros())), walk),
        None => (None, Walk::up(0, 0)),
    }
}
