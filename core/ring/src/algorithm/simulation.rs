//! Runs schedules on ranks without memory: an element is the list of ranks that contributed to it.

use super::*;
use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};

/// How often each rank's contribution is in the value.
type Value = Vec<u8>;

struct Rank {
    rounds: VecDeque<Round>,
    memory: Vec<Value>,
    /// The streams of the present round.
    sending: Option<Cursor>,
    receiving: Option<Cursor>,
}

struct Simulation {
    world: usize,
    partition: Partition,
    ranks: Vec<Rank>,
    /// Values under way from a rank over a distance.
    wires: HashMap<(usize, u32), VecDeque<Value>>,
    /// Elements sent by each rank.
    traffic: Vec<usize>,
}

impl Simulation {
    fn new(
        world: usize,
        partition: Partition,
        plan: impl Fn(usize) -> Vec<Round>,
        memory: impl Fn(usize) -> Vec<Value>,
    ) -> Self {
        let ranks = (0..world)
            .map(|rank| Rank {
                rounds: plan(rank).into(),
                memory: memory(rank),
                sending: None,
                receiving: None,
            })
            .collect();
        let mut simulation =
            Simulation { world, partition, ranks, wires: HashMap::new(), traffic: vec![0; world] };
        (0..world).for_each(|rank| simulation.begin(rank));
        simulation
    }

    /// Puts the streams of a rank at the start of its present round.
    fn begin(&mut self, rank: usize) {
        let state = &mut self.ranks[rank];
        let Some(round) = state.rounds.front() else { return };
        let cursor = |(_, walk), adds| Cursor::new(walk, adds, self.partition, 1);
        state.sending = round.send.map(|stream| cursor(stream, 0));
        state.receiving = round.receive.map(|stream| cursor(stream, round.adds));
    }

    /// Lets `rank` send and receive up to `steps` elements; whether it could do anything.
    fn advance(&mut self, rank: usize, steps: usize) -> bool {
        let mut moved = false;
        for _ in 0..steps {
            let Some(round) = self.ranks[rank].rounds.front().copied() else { return moved };
            let progress = self.send_one(rank, &round) | self.receive_one(rank, &round);
            moved |= progress;
            let state = &mut self.ranks[rank];
            let done = |stream: Option<Cursor>| stream.is_none_or(|cursor| cursor.is_done());
            if done(state.sending) && done(state.receiving) {
                state.rounds.pop_front();
                self.begin(rank);
                moved = true;
            } else if !progress {
                break;
            }
        }
        moved
    }

    fn send_one(&mut self, rank: usize, round: &Round) -> bool {
        let Rank { memory, sending: Some(cursor), receiving, .. } = &mut self.ranks[rank] else {
            return false;
        };
        let Some((distance, walk)) = round.send else { return false };
        let (step, offset) = cursor.position();
        if cursor.is_done() {
            return false;
        }
        if let Some(source) = round.lead.source(&walk, step) {
            let processed = receiving.map(|cursor| cursor.position()).unwrap();
            if processed <= (source, offset) {
                return false;
            }
        }
        let index = cursor.run().unwrap().bytes.start;
        cursor.advance(1);
        self.wires.entry((rank, distance)).or_default().push_back(memory[index].clone());
        self.traffic[rank] += 1;
        true
    }

    fn receive_one(&mut self, rank: usize, round: &Round) -> bool {
        let Rank { memory, receiving: Some(cursor), .. } = &mut self.ranks[rank] else { return false };
        let Some((distance, _)) = round.receive else { return false };
        let from = before(rank, distance as usize, self.world);
        let Some(run) = cursor.run() else { return false };
        let Some(value) = self.wires.get_mut(&(from, distance)).and_then(VecDeque::pop_front) else {
            return false;
        };
        let own = &mut memory[run.bytes.start];
        if run.adds {
            own.iter_mut().zip(&value).for_each(|(own, other)| *own += other);
        } else {
            *own = value;
        }
        cursor.advance(1);
        true
    }

    /// Runs to the end in an order that `seed` decides; panics when nobody can move.
    fn run(&mut self, mut seed: u64) {
        while self.ranks.iter().any(|rank| !rank.rounds.is_empty()) {
            let mut moved = false;
            for _ in 0..2 * self.world {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let (rank, steps) = ((seed >> 33) as usize % self.world, 1 + (seed >> 60) as usize);
                moved |= self.advance(rank, steps);
            }
            for rank in 0..self.world {
                moved |= self.advance(rank, 1);
            }
            assert!(moved, "the schedule is stuck");
        }
        assert!(self.wires.values().all(VecDeque::is_empty), "something was sent that nobody receives");
    }
}

fn contribution(world: usize, rank: usize) -> Value {
    (0..world).map(|r| u8::from(r == rank)).collect()
}

fn all_reduce(
    partition: Partition,
    world: usize,
    seed: u64,
    plan: impl Fn(usize) -> Vec<Round>,
) -> Vec<usize> {
    let elements = partition.block(partition.segments() - 1, world - 1).end;
    let mut simulation =
        Simulation::new(world, partition, plan, |rank| vec![contribution(world, rank); elements]);
    simulation.run(seed);
    for rank in &simulation.ranks {
        assert!(
            rank.memory.iter().all(|value| *value == vec![1; world]),
            "world {world}, {elements} elements"
        );
    }
    simulation.traffic
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_contribution_is_summed_once_on_every_rank(
        world in 1usize..14, elements in 0usize..300, segments in 1usize..4, seed: u64,
    ) {
        let partition = Partition::balanced(elements, world, segments);
        all_reduce(partition, world, seed, |rank| ring(rank, world, segments).collect());
        all_reduce(partition, world, seed, |rank| halving(rank, world, segments).collect());
    }

    #[test]
    fn the_exchange_brings_every_rank_everything(world in 1usize..34, slot in 0usize..3, seed: u64) {
        let mut simulation = Simulation::new(world, Partition::slots(slot, world), |_| exchange(world).collect(), |rank| {
            let mut memory = vec![vec![0; world]; slot * world];
            memory[..slot].fill(contribution(world, rank));
            memory
        });
        simulation.run(seed);
        for (rank, state) in simulation.ranks.iter().enumerate() {
            for (index, value) in state.memory.iter().enumerate() {
                prop_assert_eq!(value, &contribution(world, before(rank, index / slot, world)));
            }
        }
    }

    #[test]
    fn a_broadcast_reaches_everybody(world in 1usize..14, root in 0usize..14, elements in 0usize..50, seed: u64) {
        let root = root % world;
        let mut simulation = Simulation::new(world, Partition::balanced(elements, 1, 1),
            |rank| broadcast(rank, root, world).collect(), |rank| vec![contribution(world, rank); elements]);
        simulation.run(seed);
        for state in &simulation.ranks {
            prop_assert!(state.memory.iter().all(|value| *value == contribution(world, root)));
        }
    }
}

#[test]
fn nobody_sends_more_than_an_optimal_all_reduce_must() {
    for world in [2, 3, 4, 7, 8] {
        let elements = 16 * world * 6;
        let optimum = vec![2 * (world - 1) * elements / world; world];
        let partition = Partition::balanced(elements, world, 2);
        assert_eq!(all_reduce(partition, world, 1, |rank| ring(rank, world, 2).collect()), optimum);
        assert_eq!(all_reduce(partition, world, 1, |rank| halving(rank, world, 2).collect()), optimum);
    }
}

#[test]
fn a_contribution_takes_at_most_lg_n_hops_when_halving() {
    for world in 1usize..70 {
        let scatter = distances(world) as usize;
        for rank in 0..world {
            let rounds: Vec<Round> = halving(rank, world, 1).collect();
            assert_eq!(rounds.len(), 2 * scatter);
            assert!(rounds.iter().take(scatter).all(|round| round.adds > 0));
            assert_eq!(rounds.get(scatter).and_then(|round| round.settle), (world > 1).then_some((0, rank)));
        }
    }
}
