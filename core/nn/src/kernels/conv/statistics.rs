//! Sums and sums of squares of what a convolution has just written, for the batch norm behind it.

use crate::kernels::lanes::{LANES, Lanes};
use crate::kernels::{Isa, Kernel};

/// Writes the sum of each of `columns` channels over `pixels` (rows and columns) of each image to `sums`, and the sum
/// of squares `channels` numbers further, added up pixel by pixel; `strides` are the numbers from a row, and from a pixel
/// of `channels`, to the next.
///
/// # Safety
/// The pixels are readable and nobody writes them; there is room for the sums, which nobody else uses.
pub(super) unsafe fn add_up(
    isa: Isa,
    images: impl Iterator<Item = *mut f32>,
    pixels: [usize; 2],
    strides: [usize; 2],
    columns: usize,
    sums: *mut f32,
) {
    for (i, image) in images.enumerate() {
        isa.run(Moments { from: image.cast_const(), pixels, strides, columns, sums, add: i > 0 });
    }
}

struct Moments {
    from: *const f32,
    pixels: [usize; 2],
    strides: [usize; 2],
    columns: usize,
    sums: *mut f32,
    add: bool,
}

impl Kernel for Moments {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let [line, pixel] = self.strides;
        for first in (0..self.columns).step_by(LANES) {
            let count = (self.columns - first).min(LANES);
            let (sum_at, square_at) = (self.sums.wrapping_add(first), self.sums.wrapping_add(pixel + first));
            // SAFETY: the caller of `add_up` vouches for pixels and sums; `count` channels are left.
            unsafe {
                let (mut sum, mut square) = (V::splat(0.0), V::splat(0.0));
                if self.add {
                    (sum, square) = (V::load_first(sum_at, count), V::load_first(square_at, count));
                }
                for row in 0..self.pixels[0] {
                    let from = self.from.wrapping_add(row * line + first);
                    for column in 0..self.pixels[1] {
                        let y = V::load_first(from.wrapping_add(column * pixel), count);
                        (sum, square) = (sum.add(y), y.fma(y, square));
                    }
                }
                sum.store_first(sum_at, count);
                square.store_first(square_at, count);
            }
        }
    }
}

/// Adds the parts' sums up in their order: `sums[c]` and `sums[channels + c]`, in double precision on the way.
pub(super) fn total(partials: &[f32], sums: &mut [f32]) {
    let len = sums.len();
    for (at, sum) in sums.iter_mut().enumerate() {
        *sum = partials.iter().skip(at).step_by(len).map(|part| f64::from(*part)).sum::<f64>() as f32;
    }
}
