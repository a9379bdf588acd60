//! Initial parameters: PyTorch's distributions, drawn from ChaCha so that a seed means the same weights on
//! every machine.

use crate::layer::Init;
use crate::model::Parameter;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use ringspin_job::Value;

/// How the parameters of a layer start where the user says so.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start {
    weights: Option<Weights>,
    vectors: Option<f32>,
}

/// Distributions of arrays of two and more dimensions, `[out, in, …]`.
#[derive(Clone, Copy, Debug)]
enum Weights {
    Same(Init),
    /// Glorot and Bengio 2010: variance 2 / (fan in + fan out).
    Xavier {
        normal: bool,
    },
    /// He et al. 2015, for ReLU: variance 2 / fan in.
    Kaiming {
        normal: bool,
    },
}

impl Start {
    /// Reads `init`.
    pub(crate) fn read_weights(&mut self, value: &Value) -> Result<(), String> {
        let wrong = || {
            format!(
                "expected \"zeros\", \"normal:STD\", \"uniform:BOUND\", \"xavier_uniform\", \"xavier_normal\", \
                 \"kaiming_uniform\" or \"kaiming_normal\", found {value}"
            )
        };
        let Value::Text(text) = value else { return Err(wrong()) };
        let number = |text: &str| {
            text.trim().parse::<f32>().ok().filter(|v| v.is_finite() && *v >= 0.0).ok_or_else(wrong)
        };
        self.weights = Some(match text.split_once(':').unwrap_or((text, "")) {
            ("zeros", "") => Weights::Same(Init::Constant(0.0)),
            ("normal", std) => Weights::Same(Init::Normal { std: number(std)? }),
            ("uniform", bound) => Weights::Same(Init::Uniform { bound: number(bound)? }),
            ("xavier_uniform", "") => Weights::Xavier { normal: false },
            ("xavier_normal", "") => Weights::Xavier { normal: true },
            ("kaiming_uniform", "") => Weights::Kaiming { normal: false },
            ("kaiming_normal", "") => Weights::Kaiming { normal: true },
            _ => return Err(wrong()),
        });
        Ok(())
    }

    /// Reads `bias_init`.
    pub(crate) fn read_vectors(&mut self, value: &Value) -> Result<(), String> {
        self.vectors = Some(match value {
            Value::Text(text) if text == "zeros" => 0.0,
            Value::Int(number) => *number as f32,
            Value::Float(number) if number.is_finite() => *number as f32,
            other => return Err(format!("expected \"zeros\" or a number, found {other}")),
        });
        Ok(())
    }

    /// How an array of this shape starts, that would start as `own`.
    pub(crate) fn of(&self, shape: &[usize], own: Init) -> Init {
        let [out, inputs, kernel @ ..] = shape else {
            return self.vectors.map_or(own, Init::Constant);
        };
        let area: usize = kernel.iter().product();
        let draw = |normal: bool, variance: f64| match normal {
            true => Init::Normal { std: variance.sqrt() as f32 },
            false => Init::Uniform { bound: (3.0 * variance).sqrt() as f32 },
        };
        match self.weights {
            None => own,
            Some(Weights::Same(init)) => init,
            Some(Weights::Xavier { normal }) => draw(normal, 2.0 / ((inputs + out) * area) as f64),
            Some(Weights::Kaiming { normal }) => draw(normal, 2.0 / (inputs * area) as f64),
        }
    }
}

/// Draws one parameter. The stream is keyed by (seed, index of the parameter): a layer that is added at the
/// end changes no other's weights.
pub(crate) fn draw(parameter: &Parameter, index: usize, seed: u64, numbers: &mut [f32]) {
    match parameter.init {
        Init::Constant(value) => numbers.fill(value),
        Init::Uniform { bound } => {
            let mut random = stream(seed, index);
            numbers.iter_mut().for_each(|number| *number = (2.0 * unit(&mut random) - 1.0) * bound);
        }
        Init::Normal { std } => draw_normal(std, &mut stream(seed, index), numbers),
        Init::NormalRows { zero } => {
            draw_normal(1.0, &mut stream(seed, index), numbers);
            let columns = parameter.shape.iter().skip(1).product::<usize>();
            numbers[zero * columns..][..columns].fill(0.0);
        }
    }
}

fn draw_normal(std: f32, random: &mut ChaCha8Rng, numbers: &mut [f32]) {
    for pair in numbers.chunks_mut(2) {
        let normal = normal_pair(random);
        pair.iter_mut().zip(normal).for_each(|(number, normal)| *number = (normal * f64::from(std)) as f32);
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
