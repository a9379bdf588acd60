//! The linear maps of F(4×4, 3×3), one axis at a time and vectors of channels at once (Lavin and Gray, "Fast Algorithms
//! for Convolutional Neural Networks", 2015). With `A`, `B` and `G` as there, a tile of y is `Aᵀ [(G w Gᵀ) ⊙ (Bᵀ x B)] A`;
//! so the gradient of w is `Gᵀ [(Bᵀ x B) ⊙ (A dy Aᵀ)] G`.

use crate::kernels::lanes::Lanes;

/// Rows and columns of a transformed tile, and their product.
pub(super) const SIDE: usize = 6;
pub(super) const POINTS: usize = SIDE * SIDE;
/// Rows and columns of y of a tile.
pub(super) const STEP: usize = 4;

/// A linear map of the numbers along an axis. Not a closure: what is called through `Fn` is not compiled for the
/// instructions of the caller.
pub(super) trait Axis<const FROM: usize, const TO: usize> {
    /// Applies it to vectors of channels.
    fn map<V: Lanes>(line: [V; FROM]) -> [V; TO];
}

/// `Bᵀ x`
pub(super) struct Input;

impl Axis<SIDE, SIDE> for Input {
    #[inline(always)]
    fn map<V: Lanes>(x: [V; SIDE]) -> [V; SIDE] {
        let (four, minus_four, minus_five) = (V::splat(4.0), V::splat(-4.0), V::splat(-5.0));
        let (a, b) = (x[2].fma(minus_four, x[4]), x[1].fma(minus_four, x[3]));
        let (c, d) = (x[4].sub(x[2]), x[3].sub(x[1]));
        let d = d.add(d);
        [
            x[0].fma(four, x[2].fma(minus_five, x[4])),
            a.add(b),
            a.sub(b),
            c.add(d),
            c.sub(d),
            x[1].fma(four, x[3].fma(minus_five, x[5])),
        ]
    }
}

/// `Aᵀ m`
pub(super) struct Output;

impl Axis<SIDE, STEP> for Output {
    #[inline(always)]
    fn map<V: Lanes>(m: [V; SIDE]) -> [V; STEP] {
        let (a, b) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (c, d) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].add(a).add(c),
            d.fma(V::splat(2.0), b),
            c.fma(V::splat(4.0), a),
            d.fma(V::splat(8.0), b).add(m[5]),
        ]
    }
}

/// `A y`
pub(super) struct Gradient;

impl Axis<STEP, SIDE> for Gradient {
    #[inline(always)]
    fn map<V: Lanes>(y: [V; STEP]) -> [V; SIDE] {
        let (a, b) = (y[0].add(y[2]), y[1].add(y[3]));
        let c = y[2].fma(V::splat(4.0), y[0]);
        let d = y[3].fma(V::splat(8.0), y[1].add(y[1]));
        [y[0], a.add(b), a.sub(b), c.add(d), c.sub(d), y[3]]
    }
}

/// `G w`
pub(super) struct Weights;

impl Axis<3, SIDE> for Weights {
    #[inline(always)]
    fn map<V: Lanes>(w: [V; 3]) -> [V; SIDE] {
        let (sixth, twelfth, twenty_fourth) =
            (V::splat(1.0 / 6.0), V::splat(1.0 / 12.0), V::splat(1.0 / 24.0));
        let minus_sixth = V::splat(-1.0 / 6.0);
        let (a, b) = (w[0].add(w[2]).mul(minus_sixth), w[1].mul(minus_sixth));
        let (c, d) = (w[0].fma(twenty_fourth, w[2].mul(sixth)), w[1].mul(twelfth));
        [w[0].mul(V::splat(0.25)), a.add(b), a.sub(b), c.add(d), c.sub(d), w[2]]
    }
}

/// `Gᵀ m`
pub(super) struct WeightsGradient;

impl Axis<SIDE, 3> for WeightsGradient {
    #[inline(always)]
    fn map<V: Lanes>(m: [V; SIDE]) -> [V; 3] {
        let (sixth, twelfth, twenty_fourth) =
            (V::splat(1.0 / 6.0), V::splat(1.0 / 12.0), V::splat(1.0 / 24.0));
        let minus_sixth = V::splat(-1.0 / 6.0);
        let (a, b) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (c, d) = (m[3].add(m[4]), m[3].sub(m[4]));
        [
            m[0].fma(V::splat(0.25), a.fma(minus_sixth, c.mul(twenty_fourth))),
            b.fma(minus_sixth, d.mul(twelfth)),
            a.fma(minus_sixth, c.fma(sixth, m[5])),
        ]
    }
}

/// A map of an axis applied to both axes of a square: columns first, then rows.
#[inline(always)]
pub(super) fn both<V: Lanes, A: Axis<FROM, TO>, const FROM: usize, const TO: usize>(
    square: &[[V; FROM]; FROM],
) -> [[V; TO]; TO] {
    let zero = V::splat(0.0);
    let mut half = [[zero; FROM]; TO];
    for column in 0..FROM {
        let mut line = [zero; FROM];
        for row in 0..FROM {
            line[row] = square[row][column];
        }
        let mapped = A::map(line);
        for row in 0..TO {
            half[row][column] = mapped[row];
        }
    }
    let mut whole = [[zero; TO]; TO];
    for row in 0..TO {
        whole[row] = A::map(half[row]);
    }
    whole
}
