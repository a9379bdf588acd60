//! Products with a matrix that is packed once and multiplied often, the weights of linear, attention and recurrent layers,
//! with rows that are read where they lie. For few rows [`super::multiply`] spends half of its time on packing.

use super::bf16::Prepacking;
use super::pack::{Source, Strip, pack};
use super::{Matrix, fits};
use crate::kernels::conv::tile::{PANEL, RowBand, Start, even_parts, panel_width};
use crate::kernels::lanes::Lanes;
use crate::kernels::{Bounds, Isa, Kernel};

/// Steps of a panel that stay in the first-level cache.
const RESIDENT_STEPS: usize = 192;

/// Most rows that are multiplied with every panel before the next are read: of up to some 2000 steps they stay in the
/// second-level cache.
const RESIDENT_ROWS: usize = 112;

/// Sizes of a packed matrix b of `inner × columns`.
///
/// ```text
/// let b = Prepacked { inner: 128, columns: 512 };
/// b.pack(isa, &weights, true, &mut packed);                        // once; weights are [columns, inner]
/// b.multiply(isa, (&x, 128), &packed, (&mut y, 512), false);  // often; any number of rows
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepacked {
    /// Rows of b.
    pub inner: usize,
    /// Columns of b.
    pub columns: usize,
}

impl Prepacked {
    /// Numbers of packed b.
    pub fn packed(&self) -> usize {
        let panels = (0..self.columns).step_by(PANEL);
        let numbers = panels.map(|first| panel_width((self.columns - first).min(PANEL)) * self.inner).sum();
        self.bf16().packed().max(numbers)
    }

    fn bf16(&self) -> Prepacking {
        Prepacking { inner: self.inner, columns: self.columns }
    }

    /// Packs b, for products with these instructions: `[inner, columns]`, or `[columns, inner]` where it is `transposed`.
    ///
    /// # Panics
    /// When a slice is too short.
    pub fn pack(&self, isa: Isa, b: &[f32], transposed: bool, packed: &mut [f32]) {
        let b = if transposed {
            Matrix::new(b, self.columns, self.inner).transposed()
        } else {
            Matrix::new(b, self.inner, self.columns)
        };
        if isa.bf16().is_some() {
            return self.bf16().pack(isa, b, packed);
        }
        isa.run(Pack { b, packed: &mut packed[..self.packed()] });
    }

    /// Computes `c = a · b`, or `c += a · b` when `accumulate`. Both come with the numbers from a row to the next; a has
    /// as many rows as c. A number of c is one chain of fused multiply-adds in the order of the inner dimension, from 0,
    /// or from what is there, on; what [`super::bf16`] says where operands are rounded to it.
    ///
    /// # Panics
    /// When a slice does not end with a row, or rows overlap.
    pub fn multiply(
        &self,
        isa: Isa,
        (a, a_stride): (&[f32], usize),
        packed: &[f32],
        (c, c_stride): (&mut [f32], usize),
        accumulate: bool,
    ) {
        let rows = if self.columns == 0 { 0 } else { (c.len() + c_stride - self.columns) / c_stride };
        assert!(fits(c.len(), rows, self.columns, c_stride), "c has {rows} rows of {c_stride} numbers");
        assert!(fits(a.len(), rows, self.inner, a_stride), "a has {rows} rows of {a_stride} numbers");
        assert!(packed.len() >= self.packed(), "b is packed");
        if isa.bf16().is_some() && self.inner > 0 {
            return self.bf16().multiply(isa, (a, a_stride), packed, (c, c_stride), (rows, accumulate));
        }
        for (row, rows) in even_parts(rows, RESIDENT_ROWS) {
            let (a, c) = (&a[row * a_stride..], &mut c[row * c_stride..]);
            for first in (0..self.columns).step_by(PANEL) {
                let columns = (self.columns - first).min(PANEL);
                for (step, length) in even_parts(self.inner.max(1), RESIDENT_STEPS) {
                    let band = RowBand {
                        lines: 1,
                        rows,
                        a: a.as_ptr(),
                        a_row: a_stride,
                        a_line: 0,
                        segments: &[step as u32],
                        length: length.min(self.inner - step),
                        b: packed[first * self.inner + step * panel_width(columns)..].as_ptr(),
                        columns,
                        c: c[first..].as_mut_ptr(),
                        c_row: c_stride,
                        c_line: 0,
                        start: if step > 0 || accumulate { Start::Memory } else { Start::Zero },
                        bounds: Bounds::NONE,
                        distant: false,
                    };
                    // SAFETY: the slices hold all rows and the packed panel all steps.
                    unsafe { band.run(isa) };
                }
            }
        }
    }
}

/// Panels of columns of b, one behind the other.
struct Pack<'a> {
    b: Matrix<'a>,
    packed: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let ([inner, columns], [down, right]) = (self.b.size, self.b.stride);
        let from = Source { start: self.b.data.as_ptr(), across: right, along: down };
        let panels = (0..columns).step_by(PANEL).map(|first| {
            let size = (columns - first).min(PANEL);
            Strip { first, size, width: panel_width(size) }
        });
        // SAFETY: `Prepacked::pack` has checked both slices; panels are whole vectors.
        unsafe { pack::<V>(from, panels, inner, self.packed.as_mut_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 31 + seed * 17) % 29) as f32 * 0.25 - 3.0).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn products_are_right_and_the_same_on_every_cpu(
            rows in prop_oneof![1usize..40, 110usize..120, 220usize..240], columns in 1usize..100, inner in prop_oneof![0usize..40, 180usize..400],
            gap in 0usize..3, transposed: bool,
        ) {
            let (a, b) = (numbers(rows * (inner + gap), 1), numbers(inner * columns, 2));
            let size = Prepacked { inner, columns };
            let mut packed = vec![f32::NAN; size.packed()];
            let mut first: Option<Vec<f32>> = None;
            for isa in Isa::available() {
                size.pack(isa, &b, transposed, &mut packed);
                let mut c = vec![0.5; rows * (columns + gap)];
                let (down, right) = if transposed { (1, inner) } else { (columns, 1) };
                let (x, stride) = (&a[..], inner + gap);
                size.multiply(isa, (x, stride), &packed, (&mut c, columns + gap), false);
                size.multiply(isa, (x, stride), &packed, (&mut c, columns + gap), true);
                for (at, got) in c.iter().enumerate() {
                    let (i, j) = (at / (columns + gap), at % (columns + gap));
                    let product = |l: usize| f64::from(x[i * stride + l]) * f64::from(b[l * down + j * right]);
                    let expected =
                        if j < columns { 2.0 * (0..inner).map(product).sum::<f64>() } else { 0.5 };
                    prop_assert!((f64::from(*got) - expected).abs() <= 1e-4 * (1.0 + inner as f64), "{} {}", got, expected);
                }
                prop_assert_eq!(first.get_or_insert_with(|| c.clone()), &c);
            }
        }
    }
}
