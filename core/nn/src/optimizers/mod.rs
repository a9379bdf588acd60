//! Optimizers: how gradients change parameters. One file each, with PyTorch's names, defaults and formulas.
//!
//! An optimizer works on any part of a parameter array, number by number, and knows no layers; those that look at
//! whole arrays are told what was measured of theirs. [`Optimizers`] says which optimizer each parameter has, and
//! [`Updater`] owns what an update needs: states, clipping, the average of the weights.

pub(crate) mod adadelta;
pub(crate) mod adagrad;
pub(crate) mod adam;
pub(crate) mod adamax;
pub(crate) mod adamw;
mod at_once;
pub(crate) mod ftrl;
mod groups;
pub(crate) mod lamb;
pub(crate) mod lars;
mod pattern;
pub(crate) mod rmsprop;
pub(crate) mod sgd;
mod tables;
mod updater;

pub use at_once::{AtOnce, Weigh};
pub use groups::{GROUP_PARAMS, Optimizers};
pub use updater::{Due, OptimizerState, UpdateOptions, Updater};

use crate::kernels::Isa;

/// Largest accepted memory of a running mean: at 1 nothing would ever be learned.
const MAX_BETA: f64 = 0.999_999_999;

/// When and how far an update goes.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Updates made with this one, from 1.
    pub update: u64,
    /// Learning rate.
    pub rate: f64,
    /// What the optimizer's own weight decay is multiplied by.
    pub decay: f64,
    /// Roots of what [`Optimizer::measure`] returned for the array; 0 before.
    pub norms: [f64; 2],
    /// Instructions for kernels.
    pub isa: Isa,
}

impl Moment {
    /// 1 - betaᵗ: what a running mean that began at 0 lacks after so many updates.
    fn correction(&self, beta: f64) -> f64 {
        1.0 - beta.powi(self.update.min(i32::MAX as u64) as i32)
    }

    /// The first norm in multiples of the second; 1 where one of them is 0.
    fn ratio(&self) -> f64 {
        let [first, second] = self.norms;
        if first > 0.0 && second > 0.0 { first / second } else { 1.0 }
    }
}

/// An array that an optimizer keeps beside the parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StateSpec {
    /// PyTorch's name.
    pub name: &'static str,
    /// What every number of it starts as.
    pub start: f32,
}

impl StateSpec {
    /// An array that starts at 0.
    pub const fn zeros(name: &'static str) -> StateSpec {
        StateSpec { name, start: 0.0 }
    }
}

/// How gradients change parameters.
pub trait Optimizer: Send + Sync {
    /// The learning rate that the user asked for; schedules multiply it.
    fn base_rate(&self) -> f64;

    /// The arrays it keeps, each as long as the parameters; at most four.
    fn states(&self) -> Vec<StateSpec>;

    /// Whether numbers whose gradient is 0 stay as they are, and so does what is kept of them.
    fn rests(&self) -> bool {
        false
    }

    /// Whether its steps depend on whole parameter arrays, so that [`Optimizer::measure`] is asked first.
    fn measures(&self) -> bool {
        false
    }

    /// Two sums of squares over a part of a parameter array; their roots over the whole array come back as
    /// [`Moment::norms`]. May change the states as a first half of the update.
    fn measure(&self, moment: Moment, params: &[f32], grads: &[f32], states: &mut [&mut [f32]]) -> [f64; 2] {
        let _ = (moment, params, grads, states);
        [0.0; 2]
    }

    /// Changes a part of a parameter array; `states` holds the same part of every state.
    fn update(&self, moment: Moment, params: &mut [f32], grads: &[f32], states: &mut [&mut [f32]]);
}
