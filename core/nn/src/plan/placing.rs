//! Where values, gradients and what layers keep lie: how long each lives, and in which memory.

use super::{Edge, Place, Plan};
use crate::arena::{Lifetime, assign};
use crate::graph::Graph;

/// What lies somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    Value(usize),
    Gradient(usize),
    /// The gradient of an input on its way to be added: node, input.
    Sum(usize, usize),
    Saved(usize),
    /// A value that is computed again for backward.
    Again(usize),
}

/// An output larger than the input, whose layer makes so few floating-point operations a number, is not kept for backward:
/// with some 150 GFLOP/s a core, they take as long as memory takes to give four bytes back.
const RECOMPUTED_FLOPS: u64 = 160;

/// The moments of a pass.
///
/// Of segments: forward of segment s at s, the turn at `turn`, backward of s at `2 turn - s`. Within a segment:
/// node i forward at i, the loss at `last`, node i backward at `2 last - i`.
#[derive(Clone, Copy)]
struct Times {
    turn: usize,
    last: usize,
}

impl Times {
    fn backward_of(self, segment: usize) -> usize {
        2 * self.turn - segment
    }

    fn backward_at(self, node: usize) -> usize {
        2 * self.last - node
    }
}

/// A thing and how long it lives; `len` of it a record, or in all.
struct Life {
    thing: Thing,
    life: Lifetime,
}

pub(super) struct Placing<'a> {
    plan: &'a mut Plan,
    graph: &'a Graph,
    times: Times,
    /// The segment of each node.
    segment: Vec<usize>,
    /// Who reads each value.
    readers: Vec<Vec<usize>>,
    /// In the memory for all records; `len` in all.
    whole: Vec<Life>,
    /// In the memory of a thread, by segment; `len` a record.
    blocks: Vec<(usize, Life)>,
    /// Gradients that lie where another does: (gradient, the other).
    passed: Vec<(usize, usize)>,
}

impl<'a> Placing<'a> {
    pub(super) fn new(plan: &'a mut Plan, graph: &'a Graph) -> Self {
        let mut segment = vec![0; graph.nodes.len()];
        for (s, one) in plan.segments.iter().enumerate() {
            segment[one.nodes.clone()].fill(s);
        }
        let mut readers = vec![Vec::new(); plan.lens.len()];
        for (i, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|input| readers[*input].push(i));
        }
        let times = Times { turn: plan.segments.len() - 1, last: graph.nodes.len() };
        Placing { plan, graph, times, segment, readers, whole: vec![], blocks: vec![], passed: vec![] }
    }

    pub(super) fn place(mut self) {
        for value in 1..self.plan.lens.len() {
            self.value(value);
        }
        // Last first: a gradient that is passed on ends up where a later one lies.
        for value in (1..self.plan.lens.len()).rev() {
            if self.plan.nodes[value - 1].learns {
                self.gradient(value);
            }
        }
        for node in 0..self.graph.nodes.len() {
            self.sums(node);
            self.saved(node);
        }
        self.assign();
    }

    fn is_output(&self, value: usize) -> bool {
        self.graph.outputs.contains(&value)
    }

    /// Whether only one segment, which works block by block, has to do with a value.
    fn stays_in_block(&self, value: usize) -> bool {
        let own = self.segment[value - 1];
        !self.plan.segments[own].wide
            && self.readers[value].iter().all(|reader| self.segment[*reader] == own)
            && (!self.is_output(value) || own == self.times.turn)
    }

    /// The layer that has a value computed again before it goes backward, where that is worth it: a layer that takes all
    /// records at once, as the one that computes it does, and the only one that reads it.
    fn recomputing(&self, value: usize) -> Option<usize> {
        let (node, plan) = (&self.graph.nodes[value - 1], &self.plan.nodes[value - 1]);
        let reader = self.graph.only_reader(value).filter(|reader| self.plan.nodes[*reader].learns)?;
        let takes_all = |node: usize| self.plan.segments[self.segment[node]].wide;
        // What it is computed from is kept for its own backward, which comes later.
        let [input] = node.inputs[..] else { return None };
        let kept = input == 0 || self.plan.nodes[input - 1].again == Place::Nowhere;
        let needs = node.layer.needs();
        let cheap = node.layer.flops() <= RECOMPUTED_FLOPS * self.plan.lens[value] as u64
            && self.plan.lens[input] < self.plan.lens[value];
        let read =
            self.graph.nodes[reader].inputs[0] == value && self.graph.nodes[reader].layer.needs().input;
        let fits = plan.learns && kept && needs.input && !needs.output && !self.is_output(value);
        (cheap && read && fits && takes_all(value - 1) && takes_all(reader)).then_some(reader)
    }

    fn value(&mut self, value: usize) {
        let (producer, times) = (value - 1, self.times);
        let own = self.segment[producer];
        let learns = |node: usize| self.plan.nodes[node].learns;
        let again = |reader: usize| {
            let node = &self.graph.nodes[reader];
            let mut inputs = node.inputs.iter().enumerate().filter(|(_, input)| **input == value);
            let reads = |k: usize| if k == 0 { node.layer.needs().input } else { node.layer.reads_others() };
            learns(reader) && (inputs.any(|(k, _)| reads(k)) || self.plan.nodes[reader].sharded)
        };
        let readers = &self.readers[value];
        let read_again: Vec<usize> = readers.iter().copied().filter(|reader| again(*reader)).collect();
        let own_again = learns(producer) && self.graph.nodes[producer].layer.needs().output;
        let sharded = readers.iter().any(|reader| learns(*reader) && self.plan.nodes[*reader].sharded);
        let kept = own_again || !read_again.is_empty();
        let len = self.plan.lens[value];
        if let Some(reader) = self.recomputing(value) {
            // Any place, so that what is computed from it, in turn, is kept.
            self.plan.nodes[producer].again = Place::Whole(0);
            let len = len * self.plan.records;
            let at = times.backward_of(self.segment[reader]);
            let forward = Lifetime { len, from: own, to: self.segment[reader] };
            self.whole.push(Life { thing: Thing::Value(value), life: forward });
            let backward = Lifetime { len, from: at, to: at };
            self.whole.push(Life { thing: Thing::Again(value), life: backward });
            return;
        }
        if self.stays_in_block(value) && !sharded && (own == times.turn || !kept) {
            let mut to = readers.iter().copied().max().unwrap_or(producer);
            if self.is_output(value) {
                to = times.last;
            }
            to = read_again.iter().map(|reader| times.backward_at(*reader)).fold(to, usize::max);
            to = if own_again { to.max(times.backward_at(producer)) } else { to };
            self.blocks
                .push((own, Life { thing: Thing::Value(value), life: Lifetime { len, from: producer, to } }));
        } else {
            let mut to = readers.iter().map(|reader| self.segment[*reader]).fold(own, usize::max);
            if self.is_output(value) {
                to = times.turn;
            }
            to =
                read_again.iter().map(|reader| times.backward_of(self.segment[*reader])).fold(to, usize::max);
            to = if own_again { to.max(times.backward_of(own)) } else { to };
            let life = Lifetime { len: len * self.plan.records, from: own, to };
            self.whole.push(Life { thing: Thing::Value(value), life });
        }
    }

    /// Whether the gradient of a value lies in the memory of a thread.
    fn gradient_in_block(&self, value: usize) -> bool {
        self.stays_in_block(value) && !self.plan.nodes[value - 1].sharded
    }

    fn gradient(&mut self, value: usize) {
        let (producer, times, len) = (value - 1, self.times, self.plan.lens[value]);
        let own = self.segment[producer];
        let block = self.gradient_in_block(value);
        if let Some(other) = self.passed_by(value) {
            let together =
                block == self.gradient_in_block(other) && (!block || self.segment[other - 1] == own);
            if together && self.plan.lens[other] == len {
                self.passed.push((value, other));
                let root = self.root(other);
                let to = if block { times.backward_at(producer) } else { times.backward_of(own) };
                let lives = self.whole.iter_mut().chain(self.blocks.iter_mut().map(|(_, life)| life));
                for life in lives.filter(|life| life.thing == Thing::Gradient(root)) {
                    life.life.to = life.life.to.max(to);
                }
                return;
            }
            self.write_instead(value);
        }
        let readers = self.readers[value].iter();
        let thing = Thing::Gradient(value);
        if block {
            let from = if self.is_output(value) {
                times.last
            } else {
                readers.map(|reader| times.backward_at(*reader)).min().unwrap_or(times.last)
            };
            let life = Lifetime { len, from, to: times.backward_at(producer) };
            self.blocks.push((own, Life { thing, life }));
        } else {
            let from = if self.is_output(value) {
                times.turn
            } else {
                readers.map(|reader| times.backward_of(self.segment[*reader])).min().unwrap_or(times.turn)
            };
            let life = Lifetime { len: len * self.plan.records, from, to: times.backward_of(own) };
            self.whole.push(Life { thing, life });
        }
    }

    /// The output of the node that passes its gradient on to `value`.
    fn passed_by(&self, value: usize) -> Option<usize> {
        let passes = |node: &usize| {
            let edges = self.graph.nodes[*node].inputs.iter().zip(&self.plan.nodes[*node].edges);
            edges.into_iter().any(|(input, edge)| *input == value && *edge == Edge::Passed)
        };
        self.readers[value].iter().copied().find(passes).map(|node| node + 1)
    }

    /// The gradient of `value` can not lie where the layer has it: it is copied after all.
    fn write_instead(&mut self, value: usize) {
        for node in self.readers[value].clone() {
            let inputs = self.graph.nodes[node].inputs.iter();
            for (input, edge) in inputs.zip(&mut self.plan.nodes[node].edges) {
                if *input == value && *edge == Edge::Passed {
                    *edge = Edge::Write;
                }
            }
        }
    }

    /// Where a gradient that is passed on, perhaps several times, really lies.
    fn root(&self, value: usize) -> usize {
        match self.passed.iter().find(|(passed, _)| *passed == value) {
            Some((_, other)) => self.root(*other),
            None => value,
        }
    }

    fn sums(&mut self, node: usize) {
        let segment = self.segment[node];
        for (k, edge) in self.plan.nodes[node].edges.iter().enumerate() {
            if !matches!(edge, Edge::Sum(_)) {
                continue;
            }
            let (thing, len) = (Thing::Sum(node, k), self.plan.lens[self.graph.nodes[node].inputs[k]]);
            if self.plan.segments[segment].wide {
                let at = self.times.backward_of(segment);
                let life = Lifetime { len: len * self.plan.records, from: at, to: at };
                self.whole.push(Life { thing, life });
            } else {
                let at = self.times.backward_at(node);
                self.blocks.push((segment, Life { thing, life: Lifetime { len, from: at, to: at } }));
            }
        }
    }

    fn saved(&mut self, node: usize) {
        let (layer, segment, times) = (&self.graph.nodes[node].layer, self.segment[node], self.times);
        let (thing, wide) = (Thing::Saved(node), self.plan.segments[segment].wide);
        let learns = self.plan.nodes[node].learns;
        let len = layer.saved(if wide { self.plan.records } else { 1 });
        if len == 0 {
            return;
        }
        if !wide && (segment == times.turn || !learns) {
            let to = if learns { times.backward_at(node) } else { node };
            self.blocks.push((segment, Life { thing, life: Lifetime { len, from: node, to } }));
        } else {
            let to = if learns { times.backward_of(segment) } else { segment };
            let len = if wide { len } else { len * self.plan.records };
            self.whole.push(Life { thing, life: Lifetime { len, from: segment, to } });
        }
    }

    fn assign(mut self) {
        let lives: Vec<Lifetime> = self.whole.iter().map(|life| life.life).collect();
        let (offsets, total) = assign(&lives);
        self.plan.whole = total;
        for (life, offset) in std::mem::take(&mut self.whole).iter().zip(offsets) {
            self.put(life.thing, Place::Whole(offset));
        }
        for s in 0..self.plan.segments.len() {
            let records = self.plan.segments[s].deal(self.plan.records).block(0).len();
            let own: Vec<&Life> =
                self.blocks.iter().filter(|(segment, _)| *segment == s).map(|(_, life)| life).collect();
            let lives: Vec<Lifetime> =
                own.iter().map(|life| Lifetime { len: life.life.len * records, ..life.life }).collect();
            let things: Vec<Thing> = own.iter().map(|life| life.thing).collect();
            let (offsets, total) = assign(&lives);
            self.plan.block = self.plan.block.max(total);
            for (thing, offset) in things.into_iter().zip(offsets) {
                self.put(thing, Place::Block(offset));
            }
        }
        for (value, _) in self.passed.clone() {
            self.plan.gradients[value] = self.plan.gradients[self.root(value)];
        }
    }

    fn put(&mut self, thing: Thing, place: Place) {
        match thing {
            Thing::Value(value) => self.plan.values[value] = place,
            Thing::Gradient(value) => self.plan.gradients[value] = place,
            Thing::Sum(node, k) => self.plan.nodes[node].edges[k] = Edge::Sum(place),
            Thing::Saved(node) => self.plan.nodes[node].saved = place,
            Thing::Again(value) => self.plan.nodes[value - 1].again = place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::norms_in_convolutions;
    use crate::golden::noise;
    use crate::plan::Purpose;
    use crate::{
        BatchView, Gradients, Model, RandomKey, Registry, Shape, Targets, Team, TrainingPass, Workspace,
    };
    use ringspin_job::{Component, ModelSpec, Value};
    use std::sync::Arc;

    const RECORDS: usize = 3;

    /// A network of three cheap convolutions with norms behind them, and what stands between each and its norm.
    fn model(between: Option<&Component>) -> Arc<Model> {
        let conv = |channels: i64, size: i64| {
            let params = [("out_channels", channels), ("kernel_size", size), ("padding", size / 2)];
            params
                .into_iter()
                .fold(Component::new("", "conv2d"), |conv, (key, value)| conv.with(key, Value::Int(value)))
        };
        let layer = |name: &str| Component::new("", name);
        let mut layers = Vec::new();
        for (channels, size) in [(20, 3), (40, 1), (60, 1)] {
            layers.push(conv(channels, size));
            layers.extend(between.cloned());
            layers.extend([layer("batch_norm2d"), layer("relu")]);
        }
        layers.extend([layer("flatten"), layer("linear").with("out_features", Value::Int(10))]);
        let spec = ModelSpec { model: Component::new("model", "custom"), layers };
        let (shape, loss) = (Shape::image(9, 7, 5).unwrap(), Component::new("loss", "cross_entropy"));
        Arc::new(Model::build(&Registry::standard(), &spec, &shape, &loss).unwrap())
    }

    fn computed_again(model: &Model) -> usize {
        let graph = norms_in_convolutions(model.graph());
        let plan = Plan::new(&graph, model.input(), RECORDS, 1, Purpose::Training);
        plan.nodes.iter().filter(|node| node.again != Place::Nowhere).count()
    }

    fn gradients(model: &Arc<Model>, threads: usize) -> Vec<f32> {
        let inputs = noise(1, RECORDS * model.input().elements());
        let batch = BatchView { inputs: &inputs, targets: Targets::Classes(&[1, 9, 4]), count: RECORDS };
        let params = model.initialize(2);
        let mut workspace = Workspace::new(Arc::clone(model), Team::new(threads).unwrap(), RECORDS);
        let mut grads = Gradients::new(model, RECORDS);
        let pass = TrainingPass { params: &params, scale: 0.5, key: RandomKey::default(), accumulate: false };
        workspace.forward_backward(&batch, &pass, &mut grads, &mut |_, _| ());
        grads.dense
    }

    #[test]
    fn what_is_computed_again_changes_no_bit() {
        // Drops nothing and changes no number, but does not take all records at once.
        let nothing = Component::new("", "dropout").with("p", Value::Float(0.0));
        let (own, kept) = (model(None), model(Some(&nothing)));
        // The first and the last of the three: not what again is computed from.
        assert_eq!([computed_again(&own), computed_again(&kept)], [2, 0]);
        let expected = gradients(&kept, 1);
        for threads in [1, 2] {
            let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&gradients(&own, threads)), bits(&expected));
        }
    }
}
