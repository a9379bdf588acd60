//! Sums of f64 without rounding, as integers that add up in any order to the same value.
//!
//! An f64 is a whole number of at most 53 bits times a power of two from 2⁻¹⁰⁷⁴. A sum is kept in digits of
//! 32 bits over that whole range, each in an i64: a number touches three of them, and 2³¹ numbers fit before one
//! could overflow. After Kulisch, "Computer Arithmetic and Validity" (2008).

/// Integers of one sum: the digits, and how many numbers were not finite.
pub(crate) const LEN: usize = DIGITS + 1;
/// The largest f64 ends in bit 2098; three digits from the last one that its lowest bit can lie in.
const DIGITS: usize = 66;
/// Power of two that the lowest bit stands for.
const LOWEST: i32 = -1074;

/// Adds `value` to a sum of [`LEN`] integers.
pub(crate) fn add(sum: &mut [i64], value: f64) {
    if !value.is_finite() {
        sum[DIGITS] = sum[DIGITS].wrapping_add(1);
        return;
    }
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7ff) as usize, bits & ((1 << 52) - 1));
    // Numbers below the normal ones have the exponent of the smallest of those, without its leading bit.
    let (shift, whole) = if exponent == 0 { (0, fraction) } else { (exponent - 1, fraction | 1 << 52) };
    let mut rest = u128::from(whole) << (shift % 32);
    for digit in &mut sum[shift / 32..shift / 32 + 3] {
        let part = (rest & 0xffff_ffff) as i64;
        *digit = digit.wrapping_add(if value < 0.0 { -part } else { part });
        rest >>= 32;
    }
}

/// The value of a sum as `high + low`, right to some 95 bits; not a number where an addend was not finite.
pub(crate) fn parts(sum: &[i64]) -> (f64, f64) {
    if sum[DIGITS] != 0 {
        return (f64::NAN, 0.0);
    }
    let (digits, carry) = carried(sum, 1);
    let (sign, digits) = if carry < 0 { (-1.0, carried(sum, -1).0) } else { (1.0, digits) };
    let Some(top) = digits.iter().rposition(|digit| *digit != 0) else { return (0.0, 0.0) };
    let take = |back: usize| top.checked_sub(back).map_or(0, |i| u128::from(digits[i]));
    // Halved, so that it fits a signed number.
    let number = (take(0) << 96 | take(1) << 64 | take(2) << 32 | take(3)) >> 1;
    let high = number as f64;
    let low = (number as i128 - high as i128) as f64;
    let power = 32 * (top as i32 - 3) + LOWEST + 1;
    // In two steps: the power alone may be too small or too large for an f64.
    let scale = |v: f64| sign * v * f64::powi(2.0, power / 2) * f64::powi(2.0, power - power / 2);
    (scale(high), scale(low))
}

/// The value of a sum.
pub(crate) fn value(sum: &[i64]) -> f64 {
    let (high, low) = parts(sum);
    high + low
}

/// The digits of `sign ·` a sum, each from 0 to 2³² - 1, and what is carried out of the last.
fn carried(sum: &[i64], sign: i128) -> ([u32; DIGITS + 2], i128) {
    let (mut digits, mut carry) = ([0; DIGITS + 2], 0i128);
    for (i, digit) in digits.iter_mut().enumerate() {
        carry += sign * sum.get(i).filter(|_| i < DIGITS).map_or(0, |digit| i128::from(*digit));
        *digit = (carry & 0xffff_ffff) as u32;
        carry >>= 32;
    }
    (digits, carry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(values: &[f64]) -> Vec<i64> {
        let mut sum = vec![0; LEN];
        values.iter().for_each(|value| add(&mut sum, *value));
        sum
    }

    #[test]
    fn nothing_is_lost_between_large_and_small() {
        assert_eq!(value(&sum(&[1e300, 1.0, -1e300])), 1.0);
        assert_eq!(value(&sum(&[f64::MAX, f64::from_bits(1), -f64::MAX])), f64::from_bits(1));
        assert_eq!(value(&sum(&[0.1; 10])), 1.0);
        assert_eq!(parts(&sum(&[1.0, 2f64.powi(-60)])), (1.0, 2f64.powi(-60)));
        assert_eq!(parts(&sum(&[-1.0, 2f64.powi(-60)])), (-1.0, 2f64.powi(-60)));
        assert_eq!((value(&sum(&[])), value(&sum(&[-0.0]))), (0.0, 0.0));
        assert!(value(&sum(&[1.0, f64::INFINITY])).is_nan());
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_single_numbers_come_back(
            values in proptest::collection::vec(proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL, 1..20),
            cut in 0usize..20,
        ) {
            let backwards: Vec<f64> = values.iter().rev().copied().collect();
            prop_assert_eq!(sum(&values), sum(&backwards));
            let (a, b) = values.split_at(cut.min(values.len()));
            let merged: Vec<i64> = sum(a).iter().zip(sum(b)).map(|(a, b)| a + b).collect();
            prop_assert_eq!(merged, sum(&values));
            prop_assert_eq!(value(&sum(&values[..1])), values[0]);
            let negated: Vec<f64> = values.iter().map(|value| -value).collect();
            prop_assert_eq!(value(&sum(&[values.clone(), negated].concat())), 0.0);
        }
    }
}
