//! The order of one lane in one epoch.
//!
//! Chunks are shuffled, consecutive ones grouped into windows of some bytes, and the records of each window
//! shuffled. A window is what has to be in memory at once; a lane that fits into one gets a permutation drawn
//! evenly from all. Every window has a random stream of its own, so any part of an epoch can be computed alone.

use super::{Order, Piece};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::ops::Range;

/// Bytes read together where order is not random.
const SEQUENTIAL_WINDOW_BYTES: u64 = 4 << 20;
/// Records of a window: its permutation takes four bytes each.
const WINDOW_RECORDS: u64 = 1 << 24;

/// Where each window of a lane's order begins.
#[derive(Clone, Debug)]
pub struct LaneOrder {
    order: Order,
    epoch: u64,
    lane: u64,
    pieces: Vec<Piece>,
    /// First position and first piece of each window, and the end of both.
    windows: Vec<(u64, usize)>,
}

/// Records that are shuffled together.
#[derive(Clone, Debug)]
pub struct Window {
    /// Positions of the lane's order.
    pub positions: Range<u64>,
    /// Chunks or parts of them that hold the records.
    pub pieces: Vec<Piece>,
    /// Records before each piece.
    starts: Vec<u32>,
    /// Record at each position, counted through the pieces; none: as they lie.
    permutation: Option<Vec<u32>>,
}

/// Streams of random numbers of one lane and epoch: one for chunks, one for each window.
fn random(seed: u64, epoch: u64, lane: u64, stream: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (part, number) in key.chunks_exact_mut(8).zip([seed, epoch, lane, stream]) {
        part.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A number below `n`, each equally likely (Lemire 2019, "Fast Random Integer Generation in an Interval").
fn below(random: &mut ChaCha8Rng, n: u32) -> u32 {
    loop {
        let wide = u64::from(random.next_u32()) * u64::from(n);
        if wide as u32 >= n.wrapping_neg() % n {
            return (wide >> 32) as u32;
        }
    }
}

/// Fisher and Yates.
fn shuffle<T>(items: &mut [T], random: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(random, last as u32 + 1) as usize);
    }
}

impl LaneOrder {
    pub(super) fn new(mut pieces: Vec<Piece>, order: Order, (epoch, lane): (u64, u64)) -> LaneOrder {
        let window_bytes = match order {
            Order::Shuffled { seed, window_bytes } => {
                shuffle(&mut pieces, &mut random(seed, epoch, lane, 0));
                window_bytes
            }
            Order::Sequential => SEQUENTIAL_WINDOW_BYTES,
        };
        let mut windows = vec![(0, 0)];
        let (mut position, mut bytes, mut records) = (0, 0u64, 0u64);
        for (i, piece) in pieces.iter().enumerate() {
            let more = u64::from(piece.records);
            if records > 0 && (bytes + piece.bytes > window_bytes || records + more > WINDOW_RECORDS) {
                windows.push((position, i));
                (bytes, records) = (0, 0);
            }
            (position, bytes, records) = (position + more, bytes + piece.bytes, records + more);
        }
        windows.push((position, pieces.len()));
        LaneOrder { order, epoch, lane, pieces, windows }
    }

    /// Number of windows.
    pub fn windows(&self) -> usize {
        if self.pieces.is_empty() { 0 } else { self.windows.len() - 1 }
    }

    /// The window that has a position.
    pub fn window_of(&self, position: u64) -> usize {
        self.windows[1..].partition_point(|(start, _)| *start <= position)
    }

    /// Computes a window; none past the end.
    pub fn window(&self, number: usize) -> Option<Window> {
        let ((start, first), (end, last)) = (*self.windows.get(number)?, *self.windows.get(number + 1)?);
        let pieces = self.pieces[first..last].to_vec();
        if pieces.is_empty() {
            return None;
        }
        let mut total = 0;
        let starts = pieces
            .iter()
            .map(|piece| {
                total += piece.records;
                total - piece.records
            })
            .collect();
        let permutation = match self.order {
            Order::Sequential => None,
            Order::Shuffled { seed, .. } => {
                let mut records: Vec<u32> = (0..total).collect();
                shuffle(&mut records, &mut random(seed, self.epoch, self.lane, number as u64 + 1));
                Some(records)
            }
        };
        Some(Window { positions: start..end, pieces, starts, permutation })
    }
}

impl Window {
    /// The record at a position of the lane's order: the piece of this window, and the number of the record
    /// within that piece's chunk.
    ///
    /// # Panics
    /// The position is not one of this window.
    pub fn record(&self, position: u64) -> (usize, u32) {
        assert!(self.positions.contains(&position), "position {position} is not in {:?}", self.positions);
        let place = (position - self.positions.start) as u32;
        let record = self.permutation.as_ref().map_or(place, |permutation| permutation[place as usize]);
        let piece = self.starts.partition_point(|start| *start <= record) - 1;
        (piece, self.pieces[piece].start + record - self.starts[piece])
    }

    /// Pieces in the order in which their first records are used: the order to read them in.
    pub fn by_first_use(&self) -> Vec<usize> {
        let mut seen = vec![false; self.pieces.len()];
        let mut order = Vec::with_capacity(self.pieces.len());
        for position in self.positions.clone() {
            let (piece, _) = self.record(position);
            if !std::mem::replace(&mut seen[piece], true) {
                order.push(piece);
                if order.len() == self.pieces.len() {
                    break;
                }
            }
        }
        order
    }
}
