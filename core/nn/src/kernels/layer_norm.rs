//! Rows brought to mean 0 and variance 1, scaled and shifted; and the gradients.

use super::lanes::{LANES, Lanes, load_or};
use super::{Isa, Kernel};

/// What is learned, a number a column; both empty where nothing is, and `bias` where nothing is added.
#[derive(Clone, Copy)]
pub(crate) struct Affine<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
}

/// Row by row `y = (x - mean) · scale · weight + bias` with `scale = 1 / √(variance + eps)`; keeps mean and scale of
/// every row in `kept`.
///
/// # Panics
/// When the sizes do not fit each other.
pub(crate) fn normalize(
    isa: Isa,
    (x, columns, eps): (&[f32], usize, f32),
    affine: Affine<'_>,
    y: &mut [f32],
    kept: &mut [f32],
) {
    assert!(x.len() == y.len() && kept.len() * columns == 2 * x.len(), "rows of x are rows of y");
    affine.check(columns);
    isa.run(Normalize { x, columns, eps, affine, y, kept });
}

/// Row by row the gradients of [`normalize`]: `dx` is overwritten, where it is asked for, and those of weight and
/// bias, where there are some, are added to.
///
/// # Panics
/// When the sizes do not fit each other.
pub(crate) fn normalize_gradient(
    isa: Isa,
    (x, columns, kept): (&[f32], usize, &[f32]),
    weight: &[f32],
    (dy, dx): (&[f32], Option<&mut [f32]>),
    [dweight, dbias]: [&mut [f32]; 2],
) {
    assert!(x.len() == dy.len() && kept.len() * columns == 2 * x.len(), "every number has a gradient");
    assert!(dx.as_ref().is_none_or(|dx| dx.len() == x.len()), "every number has a gradient");
    Affine { weight, bias: dbias }.check(columns);
    Affine { weight: dweight, bias: &[] }.check(columns);
    isa.run(Gradient { x, columns, kept, weight, dy, dx, dweight, dbias });
}

impl Affine<'_> {
    fn check(&self, columns: usize) {
        let fits = |numbers: &[f32]| numbers.is_empty() || numbers.len() == columns;
        assert!(fits(self.weight) && fits(self.bias), "what is learned has a number a column");
    }
}

/// Adds to `count` numbers at `i`, where there are any.
///
/// # Safety
/// The slice is empty or has `i + count` numbers.
#[inline(always)]
unsafe fn add_to<V: Lanes>(numbers: &mut [f32], i: usize, count: usize, value: V) {
    if !numbers.is_empty() {
        // SAFETY: the caller vouches for it.
        unsafe {
            let at = numbers.as_mut_ptr().add(i);
            V::load_first(at, count).add(value).store_first(at, count);
        }
    }
}

struct Normalize<'a> {
    x: &'a [f32],
    columns: usize,
    eps: f32,
    affine: Affine<'a>,
    y: &'a mut [f32],
    kept: &'a mut [f32],
}

impl Kernel for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        const ONES: [f32; LANES] = [1.0; LANES];
        let columns = self.columns;
        let rows = self.x.chunks_exact(columns).zip(self.y.chunks_exact_mut(columns));
        for ((x, y), kept) in rows.zip(self.kept.chunks_exact_mut(2)) {
            let mut sum = V::splat(0.0);
            for i in (0..columns).step_by(LANES) {
                // SAFETY: `columns - i` numbers of the row are left.
                sum = sum.add(unsafe { V::load_first(x.as_ptr().add(i), LANES.min(columns - i)) });
            }
            let mean = sum.sum() / columns as f32;
            let mut squares = V::splat(0.0);
            for i in (0..columns).step_by(LANES) {
                let count = LANES.min(columns - i);
                // SAFETY: as above; lanes behind the row count 0 times.
                let (x, ones) =
                    unsafe { (V::load_first(x.as_ptr().add(i), count), V::load_first(ONES.as_ptr(), count)) };
                let distance = x.sub(V::splat(mean)).mul(ones);
                squares = distance.fma(distance, squares);
            }
            let scale = 1.0 / (squares.sum() / columns as f32 + self.eps).sqrt();
            (kept[0], kept[1]) = (mean, scale);
            for i in (0..columns).step_by(LANES) {
                let count = LANES.min(columns - i);
                // SAFETY: as above; `normalize` checked weight and bias.
                unsafe {
                    let x = V::load_first(x.as_ptr().add(i), count);
                    let weight = load_or::<V>(self.affine.weight, i, count, 1.0);
                    let bias = load_or::<V>(self.affine.bias, i, count, 0.0);
                    let normal = x.sub(V::splat(mean)).mul(V::splat(scale));
                    normal.fma(weight, bias).store_first(y.as_mut_ptr().add(i), count);
                }
            }
        }
    }
}

struct Gradient<'a> {
    x: &'a [f32],
    columns: usize,
    kept: &'a [f32],
    weight: &'a [f32],
    dy: &'a [f32],
    dx: Option<&'a mut [f32]>,
    dweight: &'a mut [f32],
    dbias: &'a mut [f32],
}

impl Kernel for Gradient<'_> {
    type Output = ();

    /// With n the normalized x and g = dy · weight: `dx = scale (g - mean g - n · mean(g n))`.
    #[inline(always)]
    fn run<V: Lanes>(mut self) {
        let columns = self.columns;
        let rows = self.x.chunks_exact(columns).zip(self.dy.chunks_exact(columns));
        for (row, ((x, dy), kept)) in rows.zip(self.kept.chunks_exact(2)).enumerate() {
            let (mean, scale) = (V::splat(kept[0]), V::splat(kept[1]));
            let (mut sum, mut product) = (V::splat(0.0), V::splat(0.0));
            for i in (0..columns).step_by(LANES) {
                let count = LANES.min(columns - i);
                // SAFETY: `count` numbers of the row are left, and of weight, dweight and dbias where they are
                // there; dy is 0 in lanes behind the row.
                unsafe {
                    let dy = V::load_first(dy.as_ptr().add(i), count);
                    let normal = V::load_first(x.as_ptr().add(i), count).sub(mean).mul(scale);
                    let g = dy.mul(load_or::<V>(self.weight, i, count, 1.0));
                    sum = sum.add(g);
                    product = g.fma(normal, product);
                    add_to(self.dweight, i, count, dy.mul(normal));
                    add_to(self.dbias, i, count, dy);
                }
            }
            let Some(dx) = &mut self.dx else { continue };
            let average = |sum: V| V::splat(sum.sum() / columns as f32);
            let (sum, product) = (average(sum), average(product));
            for i in (0..columns).step_by(LANES) {
                let count = LANES.min(columns - i);
                // SAFETY: as above.
                unsafe {
                    let dy = V::load_first(dy.as_ptr().add(i), count);
                    let normal = V::load_first(x.as_ptr().add(i), count).sub(mean).mul(scale);
                    let g = dy.mul(load_or::<V>(self.weight, i, count, 1.0));
                    let dx = dx.as_mut_ptr().add(row * columns + i);
                    g.sub(sum).sub(normal.mul(product)).mul(scale).store_first(dx, count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bits_on_every_cpu() {
        for columns in [1, 3, 16, 33] {
            let numbers = |seed: usize, len: usize| -> Vec<f32> {
                (0..len).map(|i| ((i * 7 + seed) % 13) as f32 * 0.9 - 4.0).collect()
            };
            let (x, dy, w) = (numbers(1, 5 * columns), numbers(2, 5 * columns), numbers(3, columns));
            let results = |isa| {
                let (mut y, mut kept, mut dx) = (vec![0.0; x.len()], vec![0.0; 10], vec![0.0; x.len()]);
                let (mut dw, mut db) = (vec![0.0; columns], vec![0.0; columns]);
                normalize(isa, (&x, columns, 1e-5), Affine { weight: &w, bias: &w }, &mut y, &mut kept);
                let at = (&x[..], columns, &kept[..]);
                normalize_gradient(isa, at, &w, (&dy, Some(&mut dx)), [&mut dw, &mut db]);
                [y, kept, dx, dw, db].concat()
            };
            let expected = results(Isa::portable());
            assert!(Isa::available().into_iter().all(|isa| results(isa) == expected), "{columns}");
        }
    }
}
