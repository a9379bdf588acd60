//! Products of bf16 against their definition, number by number, and tiles against vectors.

use super::super::{Matrix, Prepacked, multiply};
use super::*;
use proptest::prelude::*;

/// Numbers of many magnitudes and both signs: some too small to count, some equally far from two bf16.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let number = |bits: u32| match bits % 23 {
        0 => f32::from_bits(bits & 0x807f_ffff),
        1 => f32::from_bits(bits & 0x803f_0000 | 0x3f80_8000),
        2 => f32::from_bits(bits & 0x80ff_ffff | 0x1f00_0000),
        _ => f32::from_bits(bits & 0x80ff_ffff | 0x3e00_0000),
    };
    (0..count).map(|_| number(next())).collect()
}

fn flush(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(x) } else { x }
}

/// Rounded to nearest, ties to even, by double precision instead of bits.
fn round(x: f32) -> f32 {
    let x = flush(x);
    if x == 0.0 {
        return x;
    }
    let unit = 2.0f64.powi(f64::from(x.abs()).log2().floor() as i32 - 7);
    ((f64::from(x) / unit).round_ties_even() * unit) as f32
}

/// A sum as the module's header defines it.
fn sum(begin: Option<f32>, a: impl Iterator<Item = f32>, b: impl Iterator<Item = f32>) -> f32 {
    let products: Vec<(f32, f32)> = a.map(round).zip(b.map(round)).collect();
    let mut sum = begin.unwrap_or(0.0);
    for step in products.chunks(STEP) {
        let mut chains = [0.0f32; 2];
        for (l, (a, b)) in step.iter().enumerate() {
            chains[l % 2] = flush(a.mul_add(*b, chains[l % 2]));
        }
        sum = flush(flush(sum) + flush(chains[0] + chains[1]));
    }
    sum
}

fn transpose(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols).map(|i| x[i % rows * cols + i / rows]).collect()
}

/// Every way in which this CPU can compute bf16.
fn ways() -> impl Iterator<Item = Isa> {
    Isa::available().into_iter().map(|isa| isa.with_bf16(true)).chain([Isa::best().imitating_bf16()])
}

fn sizes() -> impl Strategy<Value = [usize; 3]> {
    prop_oneof![
        4 => [1usize..40, 1usize..70, 1usize..70],
        1 => [125usize..135, 1usize..10, 1usize..70],
        1 => [1usize..10, 500usize..530, 1usize..70],
        1 => [1usize..10, 1usize..40, 500usize..530],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn products_are_what_they_are_defined_as_on_every_cpu(
        [m, n, k] in sizes(), ta: bool, tb: bool, gap in 0usize..3, accumulate: bool
    ) {
        let (a, b, before) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * (n + gap), 3));
        let (at, bt) = (transpose(&a, m, k), transpose(&b, k, n));
        let x = if ta { Matrix::new(&at, k, m).transposed() } else { Matrix::new(&a, m, k) };
        let w = if tb { Matrix::new(&bt, n, k).transposed() } else { Matrix::new(&b, k, n) };
        for isa in ways() {
            let mut c = before.clone();
            multiply(isa, x, w, &mut c, n + gap, accumulate);
            for (at, got) in c.iter().enumerate() {
                let (i, j) = (at / (n + gap), at % (n + gap));
                let expected = if j < n {
                    let row = a[i * k..][..k].iter().copied();
                    sum(accumulate.then_some(before[at]), row, b[j..].iter().step_by(n).copied())
                } else {
                    before[at]
                };
                prop_assert_eq!(got.to_bits(), expected.to_bits(), "{} {} {}: {} {}", isa, i, j, got, expected);
            }
        }
    }

    #[test]
    fn packed_products_have_the_bits_of_others([m, n, k] in sizes(), gap in 0usize..3, transposed: bool) {
        let (a, b) = (numbers(m * (k + gap), 4), numbers(k * n, 5));
        for isa in ways() {
            let size = Prepacked { inner: k, columns: n };
            let mut packed = vec![f32::NAN; size.packed()];
            size.pack(isa, &b, transposed, &mut packed);
            let w = if transposed { Matrix::new(&b, n, k).transposed() } else { Matrix::new(&b, k, n) };
            let (mut c, mut expected) = (vec![0.5; m * (n + gap)], vec![0.5; m * (n + gap)]);
            for accumulate in [false, true] {
                multiply(isa, Matrix::strided(&a, m, k, k + gap), w, &mut expected, n + gap, accumulate);
                size.multiply(isa, (&a, k + gap), &packed, (&mut c, n + gap), accumulate);
            }
            prop_assert_eq!(&c, &expected);
        }
    }
}

#[test]
fn infinities_and_what_is_no_number_come_out_as_such() {
    let a = [f32::INFINITY, 1.0, f32::NAN, 1.0, f32::MAX, 1.0];
    for isa in ways() {
        let mut c = [0.0; 6];
        multiply(isa, Matrix::new(&a, 3, 2), Matrix::new(&[1.0, 0.0, 0.0, 1.0], 2, 2), &mut c, 2, false);
        assert!(c[0].is_infinite() && c[2].is_nan() && c[3].is_nan(), "{c:?}");
        assert!(c[4].is_infinite(), "the largest number rounds up: {c:?}");
    }
}
