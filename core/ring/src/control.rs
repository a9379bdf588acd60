//! The control links of a rank: notices from the neighbours, and whom to blame when a link ends.

use crate::{
    Abort, Lost, RingConfig, RingError, algorithm,
    frame::{NOTICE_BYTES, Notice},
    links::{Link, Links},
};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

/// When a data link ends, the reason may still be on its way round the control links. After this long the rank at
/// its other end is to blame.
const NOTICE_GRACE: Duration = Duration::from_millis(10);

/// What the neighbours say.
pub(crate) struct Control {
    links: Arc<dyn Links>,
    rank: usize,
    world: usize,
    generation: u64,
    abort: Abort,
    /// The next and the previous rank.
    sides: [Side; 2],
}

struct Side {
    link: Link,
    /// It has finished all its operations.
    departed: bool,
    /// A notice may arrive in pieces.
    notice: [u8; NOTICE_BYTES],
    have: usize,
}

impl Control {
    /// For links that are up.
    pub(crate) fn new(links: Arc<dyn Links>, config: &RingConfig) -> Self {
        let side = |link| Side { link, departed: false, notice: [0; NOTICE_BYTES], have: 0 };
        Control {
            links,
            rank: config.rank,
            world: config.world,
            generation: config.generation,
            abort: config.abort.clone(),
            sides: [Link::Next, Link::Previous].map(side),
        }
    }

    /// The rank at the other end of `link`.
    pub(crate) fn peer(&self, link: Link) -> usize {
        match link {
            Link::Out(k) => algorithm::after(self.rank, 1 << k, self.world),
            Link::In(k) => algorithm::before(self.rank, 1 << k, self.world),
            Link::Next => algorithm::after(self.rank, 1, self.world),
            Link::Previous => algorithm::before(self.rank, 1, self.world),
        }
    }

    /// Links on which a notice may come.
    pub(crate) fn open(&self) -> impl Iterator<Item = Link> {
        self.sides.iter().filter(|side| !side.departed).map(|side| side.link)
    }

    /// Reads what is there on a control link. A failure that it tells of, or that its end means, is an error.
    pub(crate) fn read(&mut self, link: Link) -> Result<(), RingError> {
        let rank = self.peer(link);
        let side = &mut self.sides[usize::from(link == Link::Previous)];
        let cause = match self.links.receive(link, &mut [], &mut side.notice[side.have..]) {
            Ok(0) => Lost::Closed,
            Ok(bytes) => {
                side.have += bytes;
                if side.have < NOTICE_BYTES {
                    return Ok(());
                }
                side.have = 0;
                let notice = Notice::decode(&side.notice, self.generation)
                    .map_err(|detail| RingError::Mismatch { rank, detail })?;
                if let Some(fault) = RingError::from_notice(notice) {
                    return Err(fault);
                }
                side.departed = true;
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => Lost::Broken(Arc::new(error)),
        };
        // An abort on this rank ends its own links as well.
        Err(self.abort.fault().unwrap_or(RingError::PeerLost { rank, cause }))
    }

    /// Why a data link ended: what a notice says, or else the rank at its other end is lost.
    pub(crate) fn why_ended(&mut self, link: Link, error: io::Error) -> RingError {
        let deadline = Instant::now() + NOTICE_GRACE;
        let rank = self.peer(link);
        loop {
            if let Some(fault) = self.abort.fault() {
                return fault;
            }
            if self.sides.iter().any(|side| side.departed && self.peer(side.link) == rank) {
                return RingError::PeerLost { rank, cause: Lost::Left };
            }
            let open: Vec<Link> = self.open().collect();
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(ready) = self.links.wait(&open, left) else { break };
            if left.is_zero() || open.is_empty() {
                break;
            }
            for (control, _) in open.iter().zip(ready).filter(|(_, ready)| *ready) {
                if let Err(fault) = self.read(*control) {
                    return fault;
                }
            }
        }
        let cause = match error.kind() {
            io::ErrorKind::UnexpectedEof => Lost::Closed,
            _ => Lost::Broken(Arc::new(error)),
        };
        RingError::PeerLost { rank, cause }
    }
}
