//! The training engine: layers, models, losses, metrics, optimizers, schedules, and what runs them on the cores of one
//! machine.
//!
//! Synchronous, without I/O, sockets, clocks or globals. All parameters lie in one flat buffer and all gradients in
//! another ([`Gradients`]; of large tables the touched rows alone), both the caller's; a [`Model`] says what lies where
//! and a [`Workspace`] runs it. The bits of a result depend neither on the number of threads nor on the CPU, unless the
//! build chose a BLAS.
//!
//! Reading order: [`Shape`], [`Layer`] (the contract), one file of `layers/`, `model` and `graph` (a description
//! becomes layers that fit), `plan` (order and memory of a pass), `execute` (the pass), `kernels/`.

mod arena;
mod assemble;
#[cfg(test)]
mod at_once_tests;
mod batch;
#[cfg(test)]
mod bf16_tests;
#[cfg(test)]
mod build_tests;
mod execute;
#[cfg(test)]
mod fit_tests;
mod fuse;
#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod golden;
mod gradients;
mod graph;
mod initialize;
mod kernels;
mod layer;
mod layers;
mod losses;
mod metrics;
mod model;
mod models;
mod optimizers;
mod pages;
mod plan;
mod random;
mod registry;
mod schedules;
mod shape;
mod sparse_rows;
mod summary;
#[cfg(test)]
mod table_tests;
mod team;
#[cfg(test)]
mod training_tests;
mod workspace;

pub use batch::{BatchMetrics, BatchView, TargetKind, Targets, ignored_class};
pub use execute::{Observer, Phase};
pub use gradients::{Gradients, TableGradient};
pub use kernels::gemm::{Prepacked, weights_gradient};
pub use kernels::{Bounds, Isa, conv, peak_flops};
pub use layer::{
    Backward, Context, Forward, Init, Layer, Misfit, Needs, ParameterKind, ParameterSpec, Sharded, Tabled,
    WeightsShard, Wide,
};
pub use losses::{Loss, Measure};
pub use metrics::{Gathered, Metric, NamedMetric, Records, Scored};
pub use model::{Described, Model, Parameter};
pub use optimizers::{
    AtOnce, Due, GROUP_PARAMS, Moment, Optimizer, OptimizerState, Optimizers, StateSpec, UpdateOptions,
    Updater, Weigh,
};
pub use pages::zeros;
pub use random::{RandomKey, RecordRandom};
pub use registry::{
    BuildLayer, BuildLoss, BuildMetric, BuildModel, BuildOptimizer, BuildSchedule, Entry, LAYER_PARAMS,
    ParamDoc, Registry, Table,
};
pub use schedules::{Progress, Schedule, THEN_PARAMS, Validated};
pub use shape::{Image, Layout, MAX_RECORD_ELEMENTS, Shape};
pub use sparse_rows::{Addend, SparseRows};
pub use team::Team;
pub use workspace::{TrainingPass, Workspace};
