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
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -0.000_212_194_44;
    const P: [f32; 7] = [1.0, 1.0, 0.5, 0.166_665_78, 0.041_666_556, 0.008_363_173, 0.001_392_617_6];
    let x = V::splat(-88.0).max(x);
    let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
    let r = n.fma(V::splat(-LN2_HIGH), x);
    let r = n.fma(V::splat(-LN2_LOW), r);
    polynomial(&P, r).mul(n.exp2_whole())
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
    use crate::kernels::Isa;
    use crate::kernels::elementwise::{Function, map};

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
    }

    #[test]
    fn the_same_bits_on_every_cpu() {
        let inputs: Vec<f32> = (0..1003).map(|i| (i as f32 - 500.0) * 0.037).collect();
        for function in [Function::Tanh, Function::Sigmoid, Function::Relu] {
            let mut expected = vec![0.0; inputs.len()];
            map(Isa::portable(), function, &inputs, &mut expected);
            for isa in Isa::available() {
                let mut outputs = vec![0.0; inputs.len()];
                map(isa, function, &inputs, &mut outputs);
                assert_eq!(outputs, expected, "{isa}");
            }
        }
    }
}
