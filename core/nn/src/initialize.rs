//! Initial parameters: PyTorch's distributions, drawn from ChaCha so that a seed means the same weights on
//! every machine.

use crate::layer::Init;
use crate::model::Parameter;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Draws one parameter. The stream is keyed by (seed, index of the parameter): a layer that is added at the
/// end changes no other's weights.
pub(crate) fn draw(parameter: &Parameter, index: usize, seed: u64, numbers: &mut [f32]) {
    match parameter.init {
        Init::Constant(value) => numbers.fill(value),
        Init::Uniform { bound } => {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(index as u64);
            for number in numbers {
                // The 24 upper bits: every multiple of 2⁻²⁴ in [0, 1) is equally likely.
                let unit = (random.next_u32() >> 8) as f32 / (1u32 << 24) as f32;
                *number = (2.0 * unit - 1.0) * bound;
            }
        }
    }
}
