//! Running a model: all memory of a pass, allocated once, and the passes themselves.

use crate::arena::{Buffer, Shared};
use crate::batch::{BatchMetrics, BatchView};
use crate::execute::{Observer, Pass, SharedMemory, SlotMetrics, pack};
use crate::fuse::{norms_in_convolutions, prepare};
use crate::gradients::Gradients;
use crate::graph::Graph;
use crate::kernels::Isa;
use crate::model::Model;
use crate::optimizers::{AtOnce, Updater};
use crate::plan::{Plan, Purpose, parameters_read};
use crate::random::RandomKey;
use crate::team::Team;
use std::ops::Range;
use std::sync::Arc;

/// What a training pass needs beside its batch.
#[derive(Clone, Copy, Debug)]
pub struct TrainingPass<'a> {
    /// All parameters.
    pub params: &'a [f32],
    /// 1 / records of the whole step, over all lanes and batches: gradients and statistics come out scaled by it.
    /// Where records do not all weigh 1 ([`BatchMetrics::weight`]), gradients of what is learned, which no
    /// statistic is, have yet to be divided by what a record of the step weighs on average.
    pub scale: f32,
    /// What dropout depends on.
    pub key: RandomKey,
    /// Whether to add to the gradients (a further lane of the same step) instead of overwriting them.
    pub accumulate: bool,
}

/// A model with the threads and the memory to run it on micro-batches of a certain size.
///
/// Everything is allocated by [`Workspace::new`]; a pass allocates nothing and can not fail.
pub struct Workspace {
    model: Arc<Model>,
    /// The layers as they are for training, or for prediction.
    graph: Graph,
    /// The parameters that it was prepared for, when it is for prediction.
    prepared: Option<Arc<[f32]>>,
    team: Team,
    isa: Isa,
    /// For the records of a round of predictions, or of a training pass.
    plan: Plan,
    memory: Memory,
    max_records: usize,
    observer: Option<Box<Observer>>,
    /// What passes can update themselves.
    updated: Vec<Range<usize>>,
}

/// Numbers that the layer with most of them reads and writes in a round: 48 MiB, which stay in the last-level cache or
/// nearly so.
const ROUND_NUMBERS: usize = 12 << 20;

/// How many times as many numbers the layers read and write in a round as there are parameters, at least: these are read
/// once a round, some of them in a larger form.
const ROUND_TIMES: usize = 8;

/// Fewest records of a round: layers that are dealt to threads by records are to have something for each.
const ROUND_LEAST: usize = 8;

/// Records that predictions of at most `max_records` take at a time: few enough for the cache, unless there would be too few
/// for threads, or reading the parameters would weigh too much. It does not depend on the threads, so that bits do not.
pub(crate) fn round(model: &Model, max_records: usize) -> usize {
    let graph = prepare(model.graph(), max_records);
    if graph.nodes.iter().any(|node| node.layer.wide().is_some_and(|wide| wide.mixes_records())) {
        return max_records;
    }
    let given = |value: usize| match value.checked_sub(1) {
        Some(node) => graph.nodes[node].layer.output().elements(),
        None => model.input().elements(),
    };
    let moved = graph.nodes.iter().map(|node| {
        node.inputs.iter().map(|input| given(*input)).sum::<usize>() + node.layer.output().elements()
    });
    let most = ROUND_NUMBERS / moved.clone().max().unwrap_or(0).max(1);
    let parameters: usize = graph.nodes.iter().map(parameters_read).sum();
    let least = (ROUND_TIMES * parameters).div_ceil(moved.sum::<usize>().max(1));
    most.max(least).max(ROUND_LEAST).min(max_records)
}

/// The memory of a pass.
struct Memory {
    whole: Buffer,
    block: Buffer,
    scratch: Buffer,
    slots: Buffer,
    packed: Buffer,
    metrics: Vec<SlotMetrics>,
}

impl Memory {
    fn share(&mut self) -> SharedMemory<'_> {
        SharedMemory {
            whole: self.whole.share(),
            block: self.block.share(),
            scratch: self.scratch.share(),
            slots: self.slots.share(),
            packed: self.packed.share(),
            metrics: &self.metrics,
        }
    }
}

impl Workspace {
    /// Plans and allocates for training on micro-batches of at most `max_records` records.
    ///
    /// # Panics
    /// When `max_records` is 0.
    pub fn new(model: Arc<Model>, team: Team, max_records: usize) -> Workspace {
        let graph = norms_in_convolutions(model.graph());
        Workspace::planned(model, graph, team, max_records, Purpose::Training)
    }

    /// As [`Workspace::new`], with every layer by itself.
    #[cfg(test)]
    pub(crate) fn unfused(model: Arc<Model>, team: Team, max_records: usize) -> Workspace {
        let graph = model.graph().clone();
        Workspace::planned(model, graph, team, max_records, Purpose::Training)
    }

    /// As [`Workspace::new`], for [`Workspace::forward`] alone and with these parameters: faster, because weights are
    /// packed here, with the batch norms behind them, and in less memory, because nothing is kept for backward and records
    /// take turns, in rounds of as many as the cache holds.
    ///
    /// # Panics
    /// When `max_records` is 0, or the parameters have another length than the model's.
    pub fn for_inference(
        model: Arc<Model>,
        team: Team,
        max_records: usize,
        params: &Arc<[f32]>,
    ) -> Workspace {
        assert_eq!(params.len(), model.parameter_count(), "the parameters are the model's");
        let round = round(&model, max_records);
        let graph = prepare(model.graph(), round);
        let mut workspace = Workspace::planned(model, graph, team, round, Purpose::Inference);
        workspace.max_records = max_records;
        let Workspace { graph, team, isa, plan, memory, .. } = &mut workspace;
        pack((graph, plan), (team, *isa), Shared::reading(params), memory.packed.share());
        for (i, node) in graph.nodes.iter().enumerate() {
            if let Some(wide) = node.layer.wide() {
                // SAFETY: nobody else uses the memory now.
                let packed = unsafe { memory.packed.share().write(plan.nodes[i].packed.clone()) };
                wide.prepare((team, *isa), &params[node.params.clone()], packed);
            }
        }
        workspace.prepared = Some(Arc::clone(params));
        workspace
    }

    fn planned(
        model: Arc<Model>,
        graph: Graph,
        team: Team,
        max_records: usize,
        purpose: Purpose,
    ) -> Workspace {
        assert!(max_records > 0, "a micro-batch has at least one record");
        let threads = team.threads();
        let plan = Plan::new(&graph, model.input(), max_records, threads, purpose);
        let memory = Memory {
            whole: Buffer::new(plan.whole),
            block: Buffer::new(plan.block * threads),
            scratch: Buffer::new((plan.scratch * threads).max(plan.wide_scratch)),
            slots: Buffer::new(plan.slots),
            packed: Buffer::new(plan.packed),
            metrics: (0..max_records).map(|_| SlotMetrics::default()).collect(),
        };
        let isa = team.isa().with_bf16(model.bf16());
        Workspace {
            model,
            graph,
            prepared: None,
            team,
            isa,
            plan,
            memory,
            max_records,
            observer: None,
            updated: Vec::new(),
        }
    }

    /// Has `observer` told what passes do, for profiles.
    #[must_use]
    pub fn with_observer(mut self, observer: Box<Observer>) -> Workspace {
        self.observer = Some(observer);
        self
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The threads, for work between passes such as the optimizer's.
    pub fn team(&mut self) -> &mut Team {
        &mut self.team
    }

    /// The team's instructions, for the precision of the model.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Most records of a micro-batch.
    pub fn max_records(&self) -> usize {
        self.max_records
    }

    /// Forward, loss and backward over a micro-batch. `ready` is called, on this thread, with each range of
    /// parameters whose dense gradients are final and with those gradients, last layers first and each parameter
    /// once; backward goes on when it returns. Gradients of tables are final at the end.
    ///
    /// # Panics
    /// When the batch is not one that [`Model::check`] accepts, has more than [`Workspace::max_records`]
    /// records or no targets, or parameters or gradients have another length than the model's, or the
    /// workspace is for inference.
    pub fn forward_backward(
        &mut self,
        batch: &BatchView<'_>,
        training: &TrainingPass<'_>,
        grads: &mut Gradients,
        ready: &mut dyn FnMut(Range<usize>, &[f32]),
    ) -> BatchMetrics {
        let TrainingPass { params, scale, key, accumulate } = *training;
        self.train(batch, (Shared::reading(params), None), (scale, key), accumulate, grads, ready)
    }

    /// Has passes update parameters at once ([`Workspace::learn`]): those of which large gradients come in parts that take
    /// less memory than the whole, and that no two layers share. `updater` leaves them to the passes from now on; gradients
    /// of theirs are kept nowhere.
    ///
    /// # Panics
    /// As [`Updater::leave`].
    #[must_use]
    pub fn with_updates(mut self, updater: &mut Updater) -> Workspace {
        let threads = self.team.threads();
        self.updated = self.plan.update_at_once(&self.graph, threads);
        updater.leave(&self.updated);
        self.memory.scratch = Buffer::new((self.plan.scratch * threads).max(self.plan.wide_scratch));
        self
    }

    /// Forward, loss and backward over the only micro-batch of a step, and the update of the parameters that are left to
    /// passes, as they would be by [`Workspace::forward_backward`] and the optimizer: no bit differs. The gradients of the
    /// others are in `grads` at the end, those of the updated ones nowhere. `scale` and `key` are those of a
    /// [`TrainingPass`].
    ///
    /// # Panics
    /// As [`Workspace::forward_backward`], and when this was not prepared for the updater by [`Workspace::with_updates`].
    pub fn learn(
        &mut self,
        batch: &BatchView<'_>,
        (scale, key): (f32, RandomKey),
        update: &mut AtOnce<'_>,
        grads: &mut Gradients,
    ) -> BatchMetrics {
        assert_eq!(update.asked(), self.updated, "the updater leaves what this workspace updates");
        let update = &*update;
        self.train(batch, (update.params(), Some(update)), (scale, key), false, grads, &mut |_, _| ())
    }

    fn train(
        &mut self,
        batch: &BatchView<'_>,
        (params, at_once): (Shared<'_>, Option<&AtOnce<'_>>),
        (scale, key): (f32, RandomKey),
        accumulate: bool,
        grads: &mut Gradients,
        ready: &mut dyn FnMut(Range<usize>, &[f32]),
    ) -> BatchMetrics {
        assert!(self.prepared.is_none(), "a workspace for inference keeps nothing for backward");
        self.check(batch, params.len());
        assert!(!matches!(batch.targets, crate::Targets::None), "training needs targets");
        assert_eq!(grads.dense.len(), self.model.dense_count(), "every parameter has a gradient");
        let pass = Pass {
            model: &self.model,
            graph: &self.graph,
            plan: &self.plan,
            isa: self.isa,
            batch,
            params,
            at_once,
            key,
            training: true,
            scale,
            memory: self.memory.share(),
            observer: self.observer.as_deref(),
        };
        pack((pass.graph, pass.plan), (&mut self.team, self.isa), params, pass.memory.packed);
        pass.train(&mut self.team, accumulate, grads, ready)
    }

    /// Forward, and the loss when the batch has targets. Writes the outputs of all records, channels last, to
    /// `outputs` when given.
    ///
    /// # Panics
    /// As [`Workspace::forward_backward`], when `outputs` has another length than the records' outputs, and when a
    /// workspace for inference gets other parameters than those it was made for.
    pub fn forward(
        &mut self,
        batch: &BatchView<'_>,
        params: &[f32],
        mut outputs: Option<&mut [f32]>,
    ) -> BatchMetrics {
        self.check(batch, params.len());
        let len = self.model.output().elements();
        let expected = batch.count * len;
        assert!(outputs.as_ref().is_none_or(|outputs| outputs.len() == expected), "outputs of every record");
        let prepared = self.prepared.as_ref();
        assert!(
            prepared.is_none_or(|own| std::ptr::eq(&**own, params)),
            "a workspace for inference has packed its parameters"
        );
        if self.prepared.is_none() {
            let packed = self.memory.packed.share();
            pack((&self.graph, &self.plan), (&mut self.team, self.isa), Shared::reading(params), packed);
        }
        let mut total = BatchMetrics::default();
        let rounds = batch.count.div_ceil(self.plan.records);
        let begin = |round: usize| round * batch.count / rounds;
        for round in 0..rounds {
            let records = begin(round)..begin(round + 1);
            let pass = Pass {
                model: &self.model,
                graph: &self.graph,
                plan: &self.plan,
                isa: self.isa,
                batch: &batch.part(records.clone()),
                params: Shared::reading(params),
                at_once: None,
                key: RandomKey::default(),
                training: false,
                scale: 0.0,
                memory: self.memory.share(),
                observer: self.observer.as_deref(),
            };
            let outputs =
                outputs.as_deref_mut().map(|outputs| &mut outputs[records.start * len..records.end * len]);
            total.add(&pass.evaluate(&mut self.team, outputs));
        }
        total
    }

    fn check(&self, batch: &BatchView<'_>, params: usize) {
        if let Err(message) = self.model.check(batch) {
            panic!("a batch that does not fit the model: {message}");
        }
        assert!(batch.count <= self.max_records, "no more records than the workspace was made for");
        assert_eq!(params, self.model.parameter_count(), "the parameters are the model's");
    }
}
