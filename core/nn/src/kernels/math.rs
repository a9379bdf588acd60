//! Functions of one number, over vectors: the same bits on every CPU, with a stated error.

use super::lanes::Lanes;

/// tanh x = x · P(x²) / Q(x²), a minimax fit of relative error 2.1e-8 on |x| ≤ 9.01, where tanh is 1 in f32.
/// With rounding: at most 5.3 units in the last place (checked by a test below).
#[inline(always)]
pub(crate) fn tanh<V: Lanes>(x: V) -> V {
    const P: [f32; 5] = [1.0, 0.133_803_22, 0.003_494_748_4, 2.059_515e-5, 1.333_515_5e-8];
    const Q: [f32; 5] = [1.0, 0.467_136_38, 0.025_873_795, 0.000_328_425_64, 7.768_616_7e-7];
    const END: f32 = 9.01;
    // The order of operands keeps NaN: `max` and `min` return their second operand where they can not compare.
    let one = V::splat(1.0);
    let inside = V::splat(END).min(V::splat(-END).max(x));
    let u = inside.mul(inside);
    let y = inside.mul(polynomial(&P, u)).div(polynomial(&Q, u));
    let y = one.min(V::splat(-1.0).max(y));
    x.abs().if_greater(V::splat(END), one.with_sign(x), y)
}

/// e to the power of x for x ≤ 0, as losses and sigmoid need it; at most 1.5 units in the last place, and 0
/// below -87.6, where PyTorch still gives subnormal numbers.
///
/// Cody and Waite: x = n ln 2 + r, the power series of r to the sixth power with minimax coefficients.
#[inline(always)]
pub(crate) fn exp_of_negative<V: Lanes>(x: V) -> V {
    const P: [f32; 7] = [1.0, 1.0, 0.5, 0.166_665_78, 0.041_666_556, 0.008_363_173, 0.001_392_617_6];
    let (n, r) = reduced(x);
    polynomial(&P, r).mul(n.exp2_whole())
}

/// Whole n and small r of x = n ln 2 + r, for x ≤ 0 that is cut off at -88.
#[inline(always)]
fn reduced<V: Lanes>(x: V) -> (V, V) {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -0.000_212_194_44;
    let x = V::splat(-88.0).max(x);
    let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
    let r = n.fma(V::splat(-LN2_HIGH), x);
    (n, n.fma(V::splat(-LN2_LOW), r))
}

/// e to the power of x, less 1, for x ≤ 0; at most 2 units in the last place. As [`exp_of_negative`], with
/// 2ⁿ eʳ - 1 = 2ⁿ (eʳ - 1) + (2ⁿ - 1), whose last term is exact or nothing beside -1.
#[inline(always)]
pub(crate) fn exp_m1_of_negative<V: Lanes>(x: V) -> V {
    const P: [f32; 5] = [0.5, 0.166_665_78, 0.041_666_556, 0.008_363_173, 0.001_392_617_6];
    let (n, r) = reduced(x);
    let scale = n.exp2_whole();
    let small = r.mul(r).fma(polynomial(&P, r), r);
    small.fma(scale, scale.sub(V::splat(1.0)))
}

/// log(1 + x) for x from 0 to 1, at most 2 units in the last place: 2 artanh s with s = x / (2 + x), an odd
/// function of s, by a minimax fit of relative error 1e-10.
#[inline(always)]
pub(crate) fn log1p_of_unit<V: Lanes>(x: V) -> V {
    const P: [f32; 6] = [2.0, 0.666_666_8, 0.399_986_9, 0.286_207_23, 0.213_932_5, 0.244_130_69];
    let s = x.div(x.add(V::splat(2.0)));
    polynomial(&P, s.mul(s)).mul(s)
}

/// The probability Φ(x) that a normal number is below x, at most 5 units in the last place where it is not
/// subnormal, and exp(-x² / 2).
///
/// Φ(-a) = exp(-a² / 2) R(a) for a ≥ 0; R, half the scaled complementary error function of a / √2, is a minimax fit
/// of relative error 5e-9 on a ≤ 13.4, behind which the exponential is 0.
#[inline(always)]
pub(crate) fn normal<V: Lanes>(x: V) -> (V, V) {
    const P: [f32; 5] = [0.5, 0.435_917_77, 0.181_477_31, 0.040_041_44, 0.004_028_637];
    const Q: [f32; 6] = [1.0, 1.669_720_5, 1.195_194_8, 0.464_830_46, 0.100_376_3, 0.010_098_154];
    let (zero, half) = (V::splat(0.0), V::splat(-0.5));
    let a = V::splat(13.4).min(x.abs());
    // What rounding takes from the square would be lost many times over in its exponential.
    let square = a.mul(a);
    let lost = a.fma(a, zero.sub(square));
    let e = exp_of_negative(square.mul(half));
    let e = e.mul(half).fma(lost, e);
    let below = polynomial(&P, a).div(polynomial(&Q, a)).mul(e);
    (x.if_greater(zero, V::splat(1.0).sub(below), below), e)
}

/// 1 / (1 + e⁻ˣ), at most 3 units in the last place.
#[inline(always)]
pub(crate) fn sigmoid<V: Lanes>(x: V) -> V {
    let e = exp_of_negative(V::splat(0.0).sub(x.abs()));
    let high = V::splat(1.0).div(V::splat(1.0).add(e));
    V::splat(0.0).if_greater(x, high.mul(e), high)
}

/// Horner's rule, coefficients in rising order.
#[inline(always)]
fn polynomial<V: Lanes, const N: usize>(coefficients: &[f32; N], x: V) -> V {
    let mut sum = V::splat(coefficients[N - 1]);
    for coefficient in coefficients.iter().rev().skip(1) {
        sum = sum.fma(x, V::splat(*coefficient));
    }
    sum
}

#[cfg(test)]
mod tests {
    use crate::kernels::elementwise::{Function, derive, map};
    use crate::kernels::{Bounds, Isa};

    /// Largest error in units of the last place over a dense sample of all magnitudes in `range`.
    fn worst_ulp(function: Function, exact: impl Fn(f64) -> f64, range: std::ops::Range<f32>) -> f64 {
        let mut worst = 0.0f64;
        let mut magnitude = 1e-30f32;
        let mut inputs = Vec::new();
        while magnitude < 100.0 {
            inputs.extend([magnitude, -magnitude]);
            magnitude *= 1.000_37;
        }
        inputs.retain(|x| range.contains(x));
        let mut outputs = vec![0.0; inputs.len()];
        map(Isa::best(), function, &inputs, &mut outputs);
        for (x, y) in inputs.iter().zip(&outputs) {
            let exact = exact(f64::from(*x));
            let ulp = f64::from((exact as f32).abs().next_up()) - f64::from((exact as f32).abs());
            worst = worst.max((f64::from(*y) - exact).abs() / ulp);
        }
        worst
    }

    #[test]
    fn errors_are_as_stated() {
        let tanh = worst_ulp(Function::Tanh, f64::tanh, -100.0..100.0);
        assert!(tanh <= 5.3, "tanh: {tanh} ulp");
        let sigmoid = worst_ulp(Function::Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -87.0..100.0);
        assert!(sigmoid <= 3.0, "sigmoid: {sigmoid} ulp");
        let exp = worst_ulp(Function::ExpOfNegative, f64::exp, -87.0..0.0);
        assert!(exp <= 1.5, "exp: {exp} ulp");
        let elu = worst_ulp(Function::Elu(1.0), |x| if x > 0.0 { x } else { libm::expm1(x) }, -100.0..100.0);
        assert!(elu <= 2.0, "exp - 1: {elu} ulp");
        let normal = |x: f64| 0.5 * libm::erfc(-x / 2f64.sqrt());
        let gelu = worst_ulp(Function::Gelu, |x| x * normal(x), -12.9..100.0);
        assert!(gelu <= 5.1, "gelu: {gelu} ulp");
        let softplus = Function::Softplus { beta: 1.0, threshold: 200.0 };
        let exact = |x: f64| if x > 0.0 { x + libm::log1p((-x).exp()) } else { libm::log1p(x.exp()) };
        let softplus = worst_ulp(softplus, exact, -87.0..100.0);
        assert!(softplus <= 4.0, "softplus: {softplus} ulp");
        let silu = worst_ulp(Function::Silu, |x| x / (1.0 + (-x).exp()), -80.0..100.0);
        assert!(silu <= 4.0, "silu: {silu} ulp");
    }

    /// Every function that a layer is made of.
    fn all() -> Vec<Function> {
        let softplus = Function::Softplus { beta: 1.5, threshold: 4.0 };
        vec![
            Function::Tanh,
            Function::Sigmoid,
            Function::Clip(Bounds::RELU),
            Function::Clip(Bounds::RELU6),
            Function::LeakyRelu(0.1),
            Function::Elu(0.7),
            Function::Gelu,
            Function::GeluTanh,
            Function::Silu,
            Function::HardSigmoid,
            Function::HardSwish,
            softplus,
        ]
    }

    #[test]
    fn the_ends_of_the_line_are_right() {
        let inputs = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -200.0, 200.0, 0.0];
        let value = |function| {
            let mut outputs = [0.0; 6];
            map(Isa::best(), function, &inputs, &mut outputs);
            outputs
        };
        let tanh = value(Function::Tanh);
        assert_eq!([tanh[0], tanh[1], tanh[3], tanh[4], tanh[5]], [1.0, -1.0, -1.0, 1.0, 0.0]);
        let sigmoid = value(Function::Sigmoid);
        assert_eq!([sigmoid[0], sigmoid[1], sigmoid[3], sigmoid[4], sigmoid[5]], [1.0, 0.0, 0.0, 1.0, 0.5]);
        assert!(tanh[2].is_nan() && sigmoid[2].is_nan());
        assert_eq!(value(Function::ExpOfNegative)[1], 0.0);
        for function in all() {
            assert!(value(function)[2].is_nan(), "{function:?}");
            assert!([value(function)[0], value(function)[4]].iter().all(|y| *y > 0.9), "{function:?}");
        }
    }

    #[test]
    fn the_same_bits_on_every_cpu() {
        let inputs: Vec<f32> = (0..1003).map(|i| (i as f32 - 500.0) * 0.037).collect();
        for function in all() {
            let (mut expected, mut slopes) = (vec![0.0; inputs.len()], vec![0.0; inputs.len()]);
            map(Isa::portable(), function, &inputs, &mut expected);
            derive(Isa::portable(), function, &expected, &inputs, &mut slopes);
            for isa in Isa::available() {
                let (mut outputs, mut own) = (vec![0.0; inputs.len()], vec![0.0; inputs.len()]);
                map(isa, function, &inputs, &mut outputs);
                derive(isa, function, &outputs, &inputs, &mut own);
                assert_eq!(outputs, expected, "{isa} {function:?}");
                assert_eq!(own, slopes, "{isa} {function:?}");
            }
        }
    }
}
