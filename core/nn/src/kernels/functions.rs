//! Functions of one number that layers apply to every number, and their derivatives.

use super::Bounds;
use super::lanes::Lanes;
use super::math;

/// A function that is applied to every number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Function {
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function.
    Sigmoid,
    /// What is within these.
    Clip(Bounds),
    /// x above 0, below it x times this number, which is at least 0.
    LeakyRelu(f32),
    /// x above 0, below it e to the power of x less 1, times this number, which is at least 0.
    Elu(f32),
    /// x times the probability that a normal number is below x.
    Gelu,
    /// The same with a hyperbolic tangent in place of the probability.
    GeluTanh,
    /// x times its logistic function.
    Silu,
    /// x / 6 + 1/2 between -3 and 3, where it is from 0 to 1.
    HardSigmoid,
    /// x times its hard sigmoid.
    HardSwish,
    /// log(1 + e to the power of βx) / β, x itself where βx is above the threshold.
    Softplus {
        /// β.
        beta: f32,
        /// From here on it is a line.
        threshold: f32,
    },
    /// e to the power of x, for x ≤ 0.
    #[cfg(test)]
    ExpOfNegative,
}

impl Function {
    /// Whether a larger number never gives a smaller one; false also where its derivative is not written in terms
    /// of y. (A softplus falls a little at a threshold that is small.)
    pub(crate) fn rises(self) -> bool {
        !self.derives_from_input()
    }

    /// The bounds between which it leaves every number as it is, where it is that.
    pub(crate) fn bounds(self) -> Option<Bounds> {
        match self {
            Function::Clip(bounds) => Some(bounds),
            _ => None,
        }
    }

    /// Whether its derivative is written in terms of x; otherwise of y.
    pub(crate) fn derives_from_input(self) -> bool {
        use Function::{Gelu, GeluTanh, HardSwish, Silu, Softplus};
        matches!(self, Gelu | GeluTanh | Silu | HardSwish | Softplus { .. })
    }
}

/// A [`Function`] that is known when a kernel is compiled.
pub(super) trait Unary: Copy {
    /// y from x.
    fn apply<V: Lanes>(self, x: V) -> V;
    /// `dy · f'(x)`, from x or y as [`Function::derives_from_input`] says.
    fn derivative<V: Lanes>(self, from: V, dy: V) -> V;
}

/// What is done with a [`Unary`].
pub(super) trait WithUnary {
    /// Does it.
    fn with<U: Unary>(self, unary: U);
}

impl Function {
    /// Calls `with` for this function.
    pub(super) fn dispatch(self, with: impl WithUnary) {
        match self {
            Function::Tanh => with.with(Tanh),
            Function::Sigmoid => with.with(Sigmoid),
            Function::Clip(bounds) => with.with(bounds),
            Function::LeakyRelu(slope) => with.with(LeakyRelu(slope)),
            Function::Elu(alpha) => with.with(Elu(alpha)),
            Function::Gelu => with.with(Gelu),
            Function::GeluTanh => with.with(GeluTanh),
            Function::Silu => with.with(Silu),
            Function::HardSigmoid => with.with(HardSigmoid),
            Function::HardSwish => with.with(HardSwish),
            Function::Softplus { beta, threshold } => with.with(Softplus { beta, threshold }),
            #[cfg(test)]
            Function::ExpOfNegative => with.with(ExpOfNegative),
        }
    }
}

#[derive(Clone, Copy)]
struct Tanh;
impl Unary for Tanh {
    #[inline(always)]
    fn apply<V: Lanes>(self, x: V) -> V {
        math::tanh(x)
    }
    #[inline(always)]
    fn derivative<V: Lanes>(self, y: V, dy: V) -> V {
        V::splat(1.0).sub(y.mul(y)).mul(dy)
    }
}

#[derive(Clone, Copy)]
struct Sigmoid;
impl Unary for Sigmoid {
    #[inline(always)]
    fn apply<V: Lanes>(self, x: V) -> V {
        math::sigmoid(x)
    }
    #[inline(always)]
    fn derivative<V: Lanes>(self, y: V, dy: V) -> V {
        V::splat(1.0).sub(y).mul(y).mul(dy)
    }
}

impl Unary for Bounds {
    #[inline(always)]
    fn apply<V: Lanes>(self, x: V) -> V {
        self.clip(x)
    }
    #[inline(always)]
    fn derivative<V: Lanes>(self, y: V, dy: V) -> V {
        Bounds::derivative(self, y, dy)
    }
}

#[derive(Clone, Copy)]
struct LeakyRelu(f32);
impl Unary for LeakyRelu {
    #[inline(always)]
    fn apply<V: Lanes>(self, x: V) -> V {
        x.if_greater(V::splat(0.0), x, x.mul(V::splat(self.0)))
    }
    #[inline(always)]
    fn derivative<V: Lanes>(self, y: V, dy: V) -> V {
        y.if_greater(V::splat(0.0), dy, dy.mul(V::splat(self.0)))
    }
}

#[derive(Clone, Copy)]
struct Elu(f32);
impl Unary for Elu {
    #[inline(always)]
    fn apply<V: Lanes>(self, x: V) -> V {
        let zero = V::splat(0.0);
        x.if_greater(zero, x, math::exp_m1_of_negative(zero.min(x)).mul(V::splat(self.0)))
    }
    #[inline(always)]
    fn derivative<V: Lanes>(self, y: V, dy: V) -> V {
        y.if_greater(V::splat(0.0), dy, y.add(V::splat(self.0)).mul(dy))
    }
}

#[derive(Clone, Copy)]
struct Gelu;
impl Unary for Gelu {
    #[inline(always)]
    fn apply<V: Lanes>(self, x: V) -> V {
        math::normal(x).0.mul(x)
    }
    #[inline(always)]
    fn derivative<V: Lanes>(self, x: V, dy: V) -> V {
        const DENSITY: f32 = 0.398_942_3;
        let (probability, e) = math::normal(x);
        x.mul(e).fma(V::splat(DENSITY), probability).mul(dy)
    }
}

#[derive(Clone, Copy)]
struct GeluTanh;
impl GeluTanh {
    /// `2 √(2/π)`, as (1 + tanh u) / 2 is the logistic function of 2 u.
    const FACTOR: f32 = 1.595_769;
    const CUBE: f32 = 0.044_715;
}
impl Unary for GeluTanh {
    #[inline(always)]
    fn apply<V: Lanes>(self, x: V) -> V {
        let inner = x.mul(x).fma(V::splat(Self::CUBE), V::splat(1.0)).mul(x);
        math::sigmoid(inner.mul(V::splat(Self::FACTOR))).mul(x)
    }
    #[inline(always)]
    fn derivative<V: Lanes>(self, x: V, dy: V) -> V {
        let (one, square) = (V::splat(1.0), x.mul(x));
        let inner = square.fma(V::splat(Self::CUBE), one).mul(x);
        let s = math::sigmoid(inner.mul(V::splat(Self::FACTOR)));
        let slope = square.fma(V::splat(3.0 * Self::CUBE), one).mul(V::splat(Self::FACTOR));
        s.mul(one.sub(s)).mul(x).fma(slope, s).mul(dy)
    }
}

#[derive(Clone, Copy)]
struct Silu;
impl Unary for Silu {
    #[inline(always)]
    fn apply<V: Lanes>(self, x: V) -> V {
        math::sigmoid(x).mul(x)
    }
    #[inline(always)]
    fn derivative<V: Lanes>(self, x: V, dy: V) -> V {
        let s = math::sigmoid(x);
        s.mul(V::splat(1.0).sub(s)).fma(x, s).mul(dy)
    }
}

#[derive(Clone, Copy)]
struct HardSigmoid;
impl Unary for HardSigmoid {
    #[inline(always)]
    fn apply<V: Lanes>(self, x: V) -> V {
        Bounds::RELU6.clip(x.add(V::splat(3.0))).div(V::splat(6.0))
    }
    #[inline(always)]
    fn derivative<V: Lanes>(self, y: V, dy: V) -> V {
        Bounds { least: 0.0, most: 1.0 }.derivative(y, dy.div(V::splat(6.0)))
    }
}

#[derive(Clone, Copy)]
struct HardSwish;
impl Unary for HardSwish {
    #[inline(always)]
    fn apply<V: Lanes>(self, x: V) -> V {
        HardSigmoid.apply(x).mul(x)
    }
    #[inline(always)]
    fn derivative<V: Lanes>(self, x: V, dy: V) -> V {
        let three = V::splat(3.0);
        let inside = x.div(three).add(V::splat(0.5)).mul(dy);
        x.if_greater(three, dy, x.if_greater(V::splat(-3.0), inside, V::splat(0.0)))
    }
}

#[derive(Clone, Copy)]
struct Softplus {
    beta: f32,
    threshold: f32,
}
impl Unary for Softplus {
    #[inline(always)]
    fn apply<V: Lanes>(self, x: V) -> V {
        let (zero, z) = (V::splat(0.0), x.mul(V::splat(self.beta)));
        // log(1 + eᶻ) = max(z, 0) + log(1 + e⁻ᶻ), the second of |z|.
        let e = math::exp_of_negative(zero.sub(z.abs()));
        let y = zero.if_greater(z, zero, z).add(math::log1p_of_unit(e)).div(V::splat(self.beta));
        z.if_greater(V::splat(self.threshold), x, y)
    }
    #[inline(always)]
    fn derivative<V: Lanes>(self, x: V, dy: V) -> V {
        let z = x.mul(V::splat(self.beta));
        z.if_greater(V::splat(self.threshold), dy, math::sigmoid(z).mul(dy))
    }
}

#[cfg(test)]
#[derive(Clone, Copy)]
struct ExpOfNegative;
#[cfg(test)]
impl Unary for ExpOfNegative {
    #[inline(always)]
    fn apply<V: Lanes>(self, x: V) -> V {
        math::exp_of_negative(x)
    }
    #[inline(always)]
    fn derivative<V: Lanes>(self, y: V, dy: V) -> V {
        y.mul(dy)
    }
}
