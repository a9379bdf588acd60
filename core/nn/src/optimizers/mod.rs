//! Optimizers: how gradients change parameters. One file each, with PyTorch's names, defaults and formulas.
//!
//! An optimizer works on any range of the flat buffers, number by number; it knows no layers.

pub(crate) mod adam;
pub(crate) mod sgd;

use crate::arena::for_chunks;
use crate::kernels::Isa;
use crate::team::Team;

/// Numbers one task updates: small enough to share the work, large enough not to notice the sharing.
const CHUNK: usize = 16 * 1024;

/// When and how far an update goes.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Updates made with this one, from 1.
    pub update: u64,
    /// Learning rate.
    pub rate: f64,
    /// Instructions for kernels.
    pub isa: Isa,
}

/// How gradients change parameters.
pub trait Optimizer: Send + Sync {
    /// The learning rate that the user asked for; schedules multiply it.
    fn base_rate(&self) -> f64;

    /// Names (PyTorch's) of the arrays it keeps, each as long as the parameters and 0 at the start.
    fn states(&self) -> &'static [&'static str];

    /// Changes a range of the parameters; `states` holds the same range of every array.
    fn update(&self, moment: Moment, params: &mut [f32], grads: &[f32], states: &mut [&mut [f32]]);
}

/// The arrays an optimizer keeps between updates.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerState {
    names: &'static [&'static str],
    arrays: Vec<Vec<f32>>,
}

impl OptimizerState {
    /// State before the first update, for `parameters` numbers.
    pub fn new(optimizer: &dyn Optimizer, parameters: usize) -> Self {
        let names = optimizer.states();
        OptimizerState { names, arrays: names.iter().map(|_| vec![0.0; parameters]).collect() }
    }

    /// Names of the arrays.
    pub fn names(&self) -> &'static [&'static str] {
        self.names
    }

    /// The arrays, in the order of the names.
    pub fn arrays(&self) -> &[Vec<f32>] {
        &self.arrays
    }

    /// The arrays, for restoring them.
    pub fn arrays_mut(&mut self) -> &mut [Vec<f32>] {
        &mut self.arrays
    }
}

/// Makes one update with all threads of `team`.
///
/// # Panics
/// When parameters, gradients and state differ in length.
pub fn update(
    optimizer: &dyn Optimizer,
    team: &mut Team,
    moment: Moment,
    (params, grads): (&mut [f32], &[f32]),
    state: &mut OptimizerState,
) {
    let work = |range: std::ops::Range<usize>, arrays: &mut [&mut [f32]]| {
        let (params, states) = arrays.split_first_mut().expect("the parameters come first");
        optimizer.update(moment, params, &grads[range], states);
    };
    match &mut state.arrays[..] {
        [] => for_chunks(team, CHUNK, [params], &work),
        [a] => for_chunks(team, CHUNK, [params, a], &work),
        [a, b] => for_chunks(team, CHUNK, [params, a, b], &work),
        more => panic!("an optimizer keeps at most two arrays, not {}", more.len()),
    }
}
