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
