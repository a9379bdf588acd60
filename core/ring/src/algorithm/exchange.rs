//! The exchange: everybody gets everybody's contribution in ⌈lg N⌉ rounds (Bruck's all-gather).

use super::{Lead, Round, Walk, distances};

/// All-gather into `world` slots, where slot `j` holds what came from the rank `j` places before; slot 0 is the own
/// contribution. Counting slots from oneself keeps every stream in one piece.
pub(crate) fn exchange(world: usize) -> impl Iterator<Item = Round> {
    (0..distances(world)).map(move |k| {
        let d = 1usize << k;
        let count = d.min(world - d);
        Round {
            send: Some((d as u32, Walk::up(0, count))),
            receive: Some((d as u32, Walk::up(d, count))),
            adds: 0,
            lead: Lead::All,
            settle: None,
        }
    })
}
