//! The operations: which rounds they run on which memory.

use crate::{
    Abort, RingConfig, RingError, RingStats,
    algorithm::{self, Algorithm, Partition, Round},
    format::Format,
    frame::{Header, Kind},
    links::Links,
    pump::{Job, Pump},
};
use bytemuck::{cast_slice, cast_slice_mut};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How f32 values travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// As they are.
    #[default]
    F32,
    /// Rounded to bf16, to nearest even: half the bytes. Sums are made in f32.
    Bf16,
}

/// One rank's end of a ring. All ranks call the same operations in the same order with the same sizes; an operation
/// returns when this rank has its result. After an error every further operation returns it again.
pub struct Ring {
    pump: Pump,
    rank: usize,
    world: usize,
    generation: u64,
    abort: Abort,
    operation: u64,
    /// Slots of an exchange; 8-byte elements so that every format is aligned.
    slots: Vec<u64>,
}

/// What an operation works on.
struct Operation {
    kind: Kind,
    format: Format,
    tag: u32,
    elements: usize,
    partition: Partition,
}

impl Ring {
    /// A ring over links that are up; `config` has been checked.
    pub(crate) fn over(config: &RingConfig, links: Arc<dyn Links>) -> Result<Self, RingError> {
        config.abort.attach(links.clone(), config.rank, config.generation)?;
        Ok(Ring {
            pump: Pump::new(links, config),
            rank: config.rank,
            world: config.world,
            generation: config.generation,
            abort: config.abort.clone(),
            operation: 0,
            slots: Vec::new(),
        })
    }

    /// The own rank.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of ranks.
    pub fn world(&self) -> usize {
        self.world
    }

    /// The generation this ring was formed for.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Ends this ring from any thread.
    pub fn abort_handle(&self) -> Abort {
        self.abort.clone()
    }

    /// What has been done so far, and whom this rank waited for.
    pub fn stats(&self) -> &RingStats {
        &self.pump.stats
    }

    /// Sums `data` over all ranks, element by element: the same bits on all of them.
    pub fn all_reduce_f32(&mut self, data: &mut [f32], wire: Wire) -> Result<(), RingError> {
        self.all_reduce_f32_tagged(data, wire, 0)
    }

    /// Sums `data` over all ranks; wraps on overflow. Exact, so the order of ranks and their number do not matter.
    pub fn all_reduce_i64(&mut self, data: &mut [i64]) -> Result<(), RingError> {
        self.all_reduce_i64_tagged(data, 0)
    }

    /// As [`Ring::all_reduce_f32`]; ranks that come with different tags are told so.
    pub(crate) fn all_reduce_f32_tagged(
        &mut self,
        data: &mut [f32],
        wire: Wire,
        tag: u32,
    ) -> Result<(), RingError> {
        let format = match wire {
            Wire::F32 => Format::F32,
            Wire::Bf16 => Format::Bf16,
        };
        self.all_reduce(cast_slice_mut(data), format, tag)
    }

    /// As [`Ring::all_reduce_i64`]; ranks that come with different tags are told so.
    pub(crate) fn all_reduce_i64_tagged(&mut self, data: &mut [i64], tag: u32) -> Result<(), RingError> {
        self.all_reduce(cast_slice_mut(data), Format::I64, tag)
    }

    fn all_reduce(&mut self, memory: &mut [u8], format: Format, tag: u32) -> Result<(), RingError> {
        let elements = memory.len() / format.memory_bytes();
        let algorithm = algorithm::choose(memory.len(), self.world, !format.is_direct());
        let segments = algorithm::segments(memory.len(), self.world);
        let partition = Partition::balanced(elements, self.world, segments);
        let mut operation = Operation { kind: Kind::AllReduce(algorithm), format, tag, elements, partition };
        let (rank, world) = (self.rank, self.world);
        match algorithm {
            Algorithm::Ring => self.run(&operation, algorithm::ring(rank, world, segments), memory),
            Algorithm::Halving => self.run(&operation, algorithm::halving(rank, world, segments), memory),
            Algorithm::Exchange => {
                // Short vectors are sent whole: nothing is gained by rounding them.
                operation.format = if format == Format::Bf16 { Format::F32 } else { format };
                let slots = self.exchange(&operation, memory)?;
                for from in 0..world {
                    let values =
                        &slots[algorithm::before(rank, from, world) * memory.len()..][..memory.len()];
                    if from == 0 {
                        memory.copy_from_slice(values)
                    } else {
                        operation.format.add(values, memory)
                    }
                }
                Ok(())
            }
        }
    }

    /// Brings the `blob` of every rank to every rank: `all` holds them by rank. Blobs have the same length on all.
    pub fn all_gather(&mut self, blob: &[u8], all: &mut [u8]) -> Result<(), RingError> {
        if all.len() != blob.len() * self.world {
            let (all, blob, world) = (all.len(), blob.len(), self.world);
            return Err(RingError::Misuse(format!("{all} bytes for {world} blobs of {blob} bytes")));
        }
        let (length, rank, world) = (blob.len(), self.rank, self.world);
        let partition = Partition::slots(length, world);
        let kind = Kind::AllGather;
        let operation = Operation { kind, format: Format::Bytes, tag: 0, elements: length, partition };
        let slots = self.exchange(&operation, blob)?;
        for from in 0..world {
            let blob = &slots[algorithm::before(rank, from, world) * length..][..length];
            all[from * length..][..length].copy_from_slice(blob);
        }
        Ok(())
    }

    /// Waits until all ranks are here.
    pub fn barrier(&mut self) -> Result<(), RingError> {
        let partition = Partition::slots(0, self.world);
        let operation =
            Operation { kind: Kind::Barrier, format: Format::Bytes, tag: 0, elements: 0, partition };
        self.exchange(&operation, &[]).map(|_| ())
    }

    /// Copies `data` of rank `root` to all ranks.
    pub fn broadcast_f32(&mut self, root: usize, data: &mut [f32]) -> Result<(), RingError> {
        self.broadcast(root, cast_slice_mut(data), Format::F32)
    }

    /// Copies `data` of rank `root` to all ranks.
    pub fn broadcast_bytes(&mut self, root: usize, data: &mut [u8]) -> Result<(), RingError> {
        self.broadcast(root, data, Format::Bytes)
    }

    fn broadcast(&mut self, root: usize, memory: &mut [u8], format: Format) -> Result<(), RingError> {
        if root >= self.world {
            return Err(RingError::Misuse(format!("broadcast from rank {root} of {}", self.world)));
        }
        let elements = memory.len() / format.memory_bytes();
        let partition = Partition::balanced(elements, 1, 1);
        let operation =
            Operation { kind: Kind::Broadcast { root: root as u32 }, format, tag: 0, elements, partition };
        self.run(&operation, algorithm::broadcast(self.rank, root, self.world), memory)
    }

    /// The contributions of all ranks: slot `j` has that of the rank `j` places before.
    fn exchange(&mut self, operation: &Operation, own: &[u8]) -> Result<&[u8], RingError> {
        let partition = Partition::slots(operation.elements, self.world);
        let operation = Operation { partition, ..*operation };
        let mut slots = std::mem::take(&mut self.slots);
        slots.resize(slots.len().max((own.len() * self.world).div_ceil(8)), 0);
        let bytes: &mut [u8] = cast_slice_mut(&mut slots);
        bytes[..own.len()].copy_from_slice(own);
        let result = self.run(&operation, algorithm::exchange(self.world), bytes);
        self.slots = slots;
        result.map(|()| cast_slice(&self.slots))
    }

    fn run(
        &mut self,
        operation: &Operation,
        rounds: impl Iterator<Item = Round>,
        memory: &mut [u8],
    ) -> Result<(), RingError> {
        if let Some(fault) = self.abort.fault() {
            return Err(fault);
        }
        let start = Instant::now();
        let Operation { kind, format, tag, elements, partition } = *operation;
        for (number, round) in rounds.enumerate() {
            if let Some((segment, block)) = round.settle {
                let block = partition.block(segment, block);
                format.settle(
                    &mut memory[block.start * format.memory_bytes()..block.end * format.memory_bytes()],
                );
            }
            let header = Header {
                generation: self.generation,
                operation: self.operation,
                kind,
                round: number as u16,
                format,
                tag,
                elements: elements as u64,
            };
            self.pump.run(&Job { round, partition, format, header }, memory)?;
        }
        self.operation += 1;
        self.pump.stats.operations += 1;
        self.pump.stats.busy += start.elapsed();
        Ok(())
    }

    /// Bears a silence of `patience` while `call` runs.
    pub(crate) fn with_patience<T>(&mut self, patience: Duration, call: impl FnOnce(&mut Self) -> T) -> T {
        let usual = std::mem::replace(&mut self.pump.patience, patience);
        let result = call(self);
        self.pump.patience = usual;
        result
    }

    /// Notes connections that were turned away while the ring was formed.
    pub(crate) fn note_refused(&mut self, connections: u64) {
        self.pump.stats.refused_connections = connections;
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.abort.detach();
    }
}
