//! The first failure of a ring, and the way to cause one from another thread.

use crate::{RingError, frame::Notice, frame::Reason, links::Link, links::Links};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Ends a ring from any thread: a running operation returns at once, on all ranks. Clones mean the same ring.
#[derive(Clone, Default)]
pub struct Abort(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    fault: Option<RingError>,
    ring: Option<Attached>,
}

/// The ring that is ended.
struct Attached {
    links: Arc<dyn Links>,
    rank: usize,
    generation: u64,
}

impl Abort {
    /// One for a ring to be formed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the ring (or its forming) with [`RingError::Aborted`], here and on all other ranks. The first failure
    /// of a ring stays the one it reports.
    pub fn abort(&self, reason: impl Into<String>) {
        self.raise(RingError::Aborted { reason: reason.into() });
    }

    /// Why the ring ended, if it has.
    pub fn fault(&self) -> Option<RingError> {
        self.state().fault.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a failure shuts `links` down.
    pub(crate) fn attach(
        &self,
        links: Arc<dyn Links>,
        rank: usize,
        generation: u64,
    ) -> Result<(), RingError> {
        let mut state = self.state();
        if state.ring.is_some() {
            return Err(RingError::Config("an abort handle that already belongs to a ring".into()));
        }
        state.ring = Some(Attached { links, rank, generation });
        if let Some(fault) = state.fault.clone() {
            tell_and_close(&state, &fault);
            return Err(fault);
        }
        Ok(())
    }

    /// Makes `fault` the ring's failure unless it has one, tells the neighbours, shuts the links down. What the ring
    /// failed with.
    pub(crate) fn raise(&self, fault: RingError) -> RingError {
        let mut state = self.state();
        if let Some(first) = &state.fault {
            return first.clone();
        }
        state.fault = Some(fault.clone());
        tell_and_close(&state, &fault);
        fault
    }

    /// The ring is dropped: leaves it in peace if it has not failed, and lets go of the links.
    pub(crate) fn detach(&self) {
        let mut state = self.state();
        if let (None, Some(ring)) = (&state.fault, &state.ring) {
            let rank = ring.rank as u32;
            tell(ring, &Notice { reason: Reason::Left, by: rank, about: rank, text: String::new() });
            ring.links.close();
            state.fault = Some(RingError::Aborted { reason: "the ring was dropped".into() });
        }
        state.ring = None;
    }
}

fn tell_and_close(state: &State, fault: &RingError) {
    if let Some(ring) = &state.ring {
        tell(ring, &fault.notice(ring.rank));
        ring.links.close();
    }
}

/// A notice fits into any socket buffer, and whoever can not be told sees the links close.
fn tell(ring: &Attached, notice: &Notice) {
    let bytes = notice.encode(ring.generation);
    for link in [Link::Next, Link::Previous] {
        let _ = ring.links.send(link, &bytes, &[]);
    }
}

impl fmt::Debug for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Abort").field(&self.state().fault).finish()
    }
}
