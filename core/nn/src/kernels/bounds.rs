//! What ReLU and ReLU6 leave of a number: kernels compute them as they write.

use super::lanes::Lanes;

/// Numbers below `least` become `least`, those above `most` become `most`; what is no number stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The lower bound.
    pub least: f32,
    /// The upper bound.
    pub most: f32,
}

impl Bounds {
    /// Every number stays.
    pub const NONE: Bounds = Bounds { least: f32::NEG_INFINITY, most: f32::INFINITY };
    /// max(x, 0).
    pub const RELU: Bounds = Bounds { least: 0.0, ..Bounds::NONE };
    /// min(max(x, 0), 6).
    pub const RELU6: Bounds = Bounds { least: 0.0, most: 6.0 };

    /// Whether some numbers change.
    #[inline(always)]
    pub fn any(self) -> bool {
        self != Bounds::NONE
    }

    /// These bounds where `now`, otherwise none.
    #[inline(always)]
    pub(crate) fn when(self, now: bool) -> Bounds {
        if now { self } else { Bounds::NONE }
    }

    #[inline(always)]
    pub(crate) fn clip<V: Lanes>(self, x: V) -> V {
        // In this order the operations leave what is no number.
        V::splat(self.most).min(V::splat(self.least).max(x))
    }

    /// dy where y lies between the bounds, 0 where it lies on one.
    #[inline(always)]
    pub(crate) fn derivative<V: Lanes>(self, y: V, dy: V) -> V {
        let zero = V::splat(0.0);
        let below = V::splat(self.most).if_greater(y, dy, zero);
        y.if_greater(V::splat(self.least), below, zero)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::lanes::LANES;
    use crate::kernels::{Isa, Kernel};

    /// Both of sixteen numbers; dy is 1.
    struct Both(Bounds, [f32; LANES]);

    impl Kernel for Both {
        type Output = [[f32; LANES]; 2];

        fn run<V: Lanes>(self) -> Self::Output {
            let mut out = [[0.0; LANES]; 2];
            // SAFETY: all arrays have sixteen numbers.
            unsafe {
                let x = V::load(self.1.as_ptr());
                self.0.clip(x).store(out[0].as_mut_ptr());
                self.0.derivative(x, V::splat(1.0)).store(out[1].as_mut_ptr());
            }
            out
        }
    }

    #[test]
    fn numbers_are_clipped_and_what_is_no_number_stays() {
        let mut x = [f32::NAN; LANES];
        x[..8].copy_from_slice(&[f32::NEG_INFINITY, -2.5, 0.0, 0.5, 6.0, 7.5, f32::MAX, f32::INFINITY]);
        let (least, huge) = (f32::NEG_INFINITY, f32::INFINITY);
        let expected = [
            (Bounds::NONE, [least, -2.5, 0.0, 0.5, 6.0, 7.5, f32::MAX, huge], [1; 7]),
            (Bounds::RELU, [0.0, 0.0, 0.0, 0.5, 6.0, 7.5, f32::MAX, huge], [0, 0, 0, 1, 1, 1, 1]),
            (Bounds::RELU6, [0.0, 0.0, 0.0, 0.5, 6.0, 6.0, 6.0, 6.0], [0, 0, 0, 1, 0, 0, 0]),
        ];
        for isa in Isa::available() {
            for (bounds, clipped, passes) in expected {
                let [y, dx] = isa.run(Both(bounds, x));
                assert_eq!(y[..8], clipped, "{isa}, {bounds:?}");
                assert!(y[8..].iter().all(|y| y.is_nan()), "{isa}, {bounds:?}");
                // An infinite y passes nothing on: it is on a bound, or no bounds are looked at.
                let passes = passes.map(|pass: u8| f32::from(pass));
                assert_eq!(dx[1..7], passes[1..], "{isa}, {bounds:?}");
            }
        }
    }
}
