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
            let mut random = stream(seed, index);
            numbers.iter_mut().for_each(|number| *number = (2.0 * unit(&mut random) - 1.0) * bound);
        }
        Init::Normal { std } => {
            let mut random = stream(seed, index);
            for pair in numbers.chunks_mut(2) {
                let normal = normal_pair(&mut random);
                pair.iter_mut()
                    .zip(normal)
                    .for_each(|(number, normal)| *number = (normal * f64::from(std)) as f32);
            }
        }
    }
}

fn stream(seed: u64, index: usize) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(index as u64);
    random
}

/// The 24 upper bits: every multiple of 2⁻²⁴ in [0, 1) is equally likely.
fn unit(random: &mut ChaCha8Rng) -> f32 {
    (random.next_u32() >> 8) as f32 / (1u32 << 24) as f32
}

/// Two independent standard normal numbers, by Marsaglia's polar method (1964). The logarithm is libm's: the
/// C library's may differ in the last bit between the nodes of a cluster.
fn normal_pair(random: &mut ChaCha8Rng) -> [f64; 2] {
    let mut coordinate = || f64::from(random.next_u32()) / 2f64.powi(31) - 1.0;
    loop {
        let (u, v) = (coordinate(), coordinate());
        let square = u * u + v * v;
        if square < 1.0 && square > 0.0 {
            let factor = (-2.0 * libm::log(square) / square).sqrt();
            return [u * factor, v * factor];
        }
    }
}
