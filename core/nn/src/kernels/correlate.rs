//! Convolution of few channels, written as sums over *taps*.
//!
//! A tap is a place in a source buffer from which a run of `pixels` numbers is read; `out[o][p]` is the sum
//! over taps `t` of `weights[o][t] · source[taps[t] + p]`. What the taps mean (channel, kernel row, kernel
//! column, stride, dilation) is the caller's business: `layers::conv_planar` lays the source out so that each
//! tap is one contiguous run over all output pixels. Vectors run along pixels, so that no lane idles however
//! few the channels are.
//!
//! Sums run over taps in their order, whatever the instructions, hence the same bits on every CPU.

use super::lanes::{LANES, Lanes};
use super::{Isa, Kernel};

/// `out[o · out_stride + p] = start + Σₜ weights[o · taps.len() + t] · source[taps[t] + p]` for p below `pixels`.
pub(crate) struct Correlate<'a> {
    /// `[outputs][taps]`
    pub(crate) weights: &'a [f32],
    /// Where each tap begins in `source`.
    pub(crate) taps: &'a [u32],
    /// Readable up to `taps[t] + pixels`, rounded up to whole vectors, for every t.
    pub(crate) source: &'a [f32],
    /// What each output starts from; nothing: 0.
    pub(crate) start: Option<&'a [f32]>,
    /// Outputs, `out_stride` numbers apart.
    pub(crate) out: &'a mut [f32],
    /// Numbers from one output to the next.
    pub(crate) out_stride: usize,
    /// Numbers of one output.
    pub(crate) pixels: usize,
}

/// Runs [`Correlate`].
///
/// # Panics
/// When a slice is too short for what the others say.
pub(crate) fn correlate(isa: Isa, job: Correlate<'_>) {
    let padded = job.pixels.next_multiple_of(LANES);
    let end = job.taps.iter().max().map_or(0, |tap| *tap as usize + padded);
    assert!(end <= job.source.len(), "every tap lies within the source");
    let outputs = job.outputs();
    assert_eq!(job.weights.len(), outputs * job.taps.len(), "every output has a weight for every tap");
    assert!(
        outputs == 0 || (outputs - 1) * job.out_stride + job.pixels <= job.out.len(),
        "outputs have room"
    );
    assert!(job.start.is_none_or(|start| start.len() == outputs), "every output has a start");
    isa.run(job);
}

/// Output rows of a register tile.
const ROWS: usize = 6;

impl Correlate<'_> {
    fn outputs(&self) -> usize {
        match self.start {
            Some(start) => start.len(),
            None if self.taps.is_empty() => self.out.len().div_ceil(self.out_stride),
            None => self.weights.len() / self.taps.len(),
        }
    }

    /// A tile of `R` outputs from `o` on and `C` vectors of pixels from `p` on.
    ///
    /// # Safety
    /// Outputs and pixels of the tile exist; only the last vector may stand over the end of the pixels.
    #[inline(always)]
    unsafe fn tile<V: Lanes, const R: usize, const C: usize>(&mut self, o: usize, p: usize) {
        let taps = self.taps.len();
        let mut sums = [[V::splat(0.0); C]; R];
        if let Some(start) = self.start {
            for (r, sums) in sums.iter_mut().enumerate() {
                *sums = [V::splat(start[o + r]); C];
            }
        }
        // SAFETY: `correlate` checked that every tap has whole vectors for all pixels, and that weights and
        // outputs are there for every output.
        unsafe {
            let weights = self.weights.as_ptr().add(o * taps);
            for (t, tap) in self.taps.iter().enumerate() {
                let source = self.source.as_ptr().add(*tap as usize + p);
                let mut vectors = [V::splat(0.0); C];
                for (c, vector) in vectors.iter_mut().enumerate() {
                    *vector = V::load(source.add(c * LANES));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let weight = V::splat(*weights.add(r * taps + t));
                    for (sum, vector) in sums.iter_mut().zip(vectors) {
                        *sum = vector.fma(weight, *sum);
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                let out = self.out.as_mut_ptr().add((o + r) * self.out_stride + p);
                for (c, sum) in sums.into_iter().enumerate() {
                    let left = self.pixels - p - c * LANES;
                    if left >= LANES {
                        sum.store(out.add(c * LANES));
                    } else {
                        sum.store_first(out.add(c * LANES), left);
                    }
                }
            }
        }
    }

    /// All pixels of `R` outputs from `o` on.
    #[inline(always)]
    fn rows<V: Lanes, const R: usize>(&mut self, o: usize) {
        let mut p = 0;
        // SAFETY: tiles of four vectors are taken while four whole ones are left; the last single one may
        // stand over the end, which `tile` allows.
        unsafe {
            while V::WIDE && p + 4 * LANES <= self.pixels {
                self.tile::<V, R, 4>(o, p);
                p += 4 * LANES;
            }
            while p < self.pixels {
                self.tile::<V, R, 1>(o, p);
                p += LANES;
            }
        }
    }
}

impl Kernel for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(mut self) {
        let outputs = self.outputs();
        let mut o = 0;
        while o < outputs {
            match outputs - o {
                1 => self.rows::<V, 1>(o),
                2 => self.rows::<V, 2>(o),
                3 => self.rows::<V, 3>(o),
                4 => self.rows::<V, 4>(o),
                5 => self.rows::<V, 5>(o),
                _ => self.rows::<V, ROWS>(o),
            }
            o += ROWS;
        }
    }
}

/// `dweights[o][t] += Σᵣ Σₚ dy[r][o][p] · source[r][taps[t] + p]` over records r and pixels p: the gradient of
/// [`Correlate`] with respect to its weights.
pub(crate) struct CorrelateWeights<'a> {
    /// `[records][outputs][pixels]`, records `dy_stride` apart.
    pub(crate) dy: &'a [f32],
    /// Numbers from one record of `dy` to the next.
    pub(crate) dy_stride: usize,
    /// `[records]` sources, `source_stride` apart; finite up to whole vectors behind every tap.
    pub(crate) source: &'a [f32],
    /// Numbers from one record of `source` to the next.
    pub(crate) source_stride: usize,
    /// Where each tap begins in a record's source.
    pub(crate) taps: &'a [u32],
    /// `[outputs][taps]`
    pub(crate) dweights: &'a mut [f32],
    /// Numbers of one output.
    pub(crate) pixels: usize,
    /// Records.
    pub(crate) records: usize,
}

/// Runs [`CorrelateWeights`].
///
/// # Panics
/// When a slice is too short for what the others say.
pub(crate) fn correlate_weights(isa: Isa, job: CorrelateWeights<'_>) {
    let (outputs, last) = (job.dweights.len() / job.taps.len(), job.records - 1);
    let padded = job.pixels.next_multiple_of(LANES);
    let end = job.taps.iter().max().map_or(0, |tap| *tap as usize + padded);
    assert!(last * job.source_stride + end <= job.source.len(), "every tap lies within the source");
    assert!(last * job.dy_stride + outputs * job.pixels <= job.dy.len(), "every output has a gradient");
    isa.run(job);
}

impl CorrelateWeights<'_> {
    /// A tile of `R` outputs from `o` on and `T` taps from `t` on.
    ///
    /// # Safety
    /// Outputs and taps of the tile exist.
    #[inline(always)]
    unsafe fn tile<V: Lanes, const R: usize, const T: usize>(&mut self, o: usize, t: usize) {
        let mut sums = [[V::splat(0.0); T]; R];
        let whole = self.pixels / LANES * LANES;
        // SAFETY: `correlate_weights` checked that all records have gradients and taps up to whole vectors.
        unsafe {
            for record in 0..self.records {
                let dy = self.dy.as_ptr().add(record * self.dy_stride + o * self.pixels);
                let source = self.source.as_ptr().add(record * self.source_stride);
                // Loops instead of closures here and below: a closure that is not inlined would be compiled
                // without the instructions of this kernel.
                let mut taps = [source; T];
                for (i, tap) in taps.iter_mut().enumerate() {
                    *tap = source.add(*self.taps.get_unchecked(t + i) as usize);
                }
                let mut rows = [V::splat(0.0); R];
                let mut p = 0;
                while p < whole {
                    for (r, row) in rows.iter_mut().enumerate() {
                        *row = V::load(dy.add(r * self.pixels + p));
                    }
                    accumulate(&mut sums, &rows, &taps, p);
                    p += LANES;
                }
                if p < self.pixels {
                    for (r, row) in rows.iter_mut().enumerate() {
                        *row = V::load_first(dy.add(r * self.pixels + p), self.pixels - p);
                    }
                    accumulate(&mut sums, &rows, &taps, p);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (i, sum) in sums.into_iter().enumerate() {
                self.dweights[(o + r) * self.taps.len() + t + i] += sum.sum();
            }
        }
    }

    /// All taps of `R` outputs from `o` on.
    #[inline(always)]
    fn rows<V: Lanes, const R: usize>(&mut self, o: usize) {
        let mut t = 0;
        while t < self.taps.len() {
            let count = (self.taps.len() - t).min(if V::WIDE { 5 } else { 2 });
            // SAFETY: tiles take no more taps than are left.
            unsafe {
                match count {
                    1 => self.tile::<V, R, 1>(o, t),
                    2 => self.tile::<V, R, 2>(o, t),
                    3 => self.tile::<V, R, 3>(o, t),
                    4 => self.tile::<V, R, 4>(o, t),
                    _ => self.tile::<V, R, 5>(o, t),
                }
            }
            t += count;
        }
    }
}

/// `sums[r][i] += dy[r] · taps[i][p..]`
///
/// # Safety
/// Every tap has a whole vector at `p`.
#[inline(always)]
unsafe fn accumulate<V: Lanes, const R: usize, const T: usize>(
    sums: &mut [[V; T]; R],
    dy: &[V; R],
    taps: &[*const f32; T],
    p: usize,
) {
    for (i, tap) in taps.iter().enumerate() {
        // SAFETY: the caller vouches for the vector.
        let source = unsafe { V::load(tap.add(p)) };
        for (sums, dy) in sums.iter_mut().zip(dy) {
            sums[i] = dy.fma(source, sums[i]);
        }
    }
}

impl Kernel for CorrelateWeights<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(mut self) {
        let outputs = self.dweights.len() / self.taps.len();
        let mut o = 0;
        while o < outputs {
            let count = (outputs - o).min(if V::WIDE { 4 } else { 2 });
            match count {
                1 => self.rows::<V, 1>(o),
                2 => self.rows::<V, 2>(o),
                3 => self.rows::<V, 3>(o),
                _ => self.rows::<V, 4>(o),
            }
            o += count;
        }
    }
}

/// Adds the sum of each of `sums.len()` rows of `pixels` numbers to `sums`.
pub(crate) fn add_row_sums(isa: Isa, rows: &[f32], pixels: usize, sums: &mut [f32]) {
    for (row, sum) in rows.chunks_exact(pixels).zip(sums) {
        *sum += isa.run(Sum(row));
    }
}

struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<V: Lanes>(self) -> f32 {
        let mut sum = V::splat(0.0);
        for part in self.0.chunks(LANES) {
            // SAFETY: the chunk holds `part.len()` numbers, at most sixteen.
            sum = sum.add(unsafe { V::load_first(part.as_ptr(), part.len()) });
        }
        sum.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 31 + seed * 17) % 29) as f32 * 0.25 - 3.0).collect()
    }

    /// Sizes on both sides of every tile border.
    const SIZES: [(usize, usize, usize); 8] =
        [(1, 1, 1), (2, 3, 16), (3, 5, 15), (5, 9, 17), (6, 25, 64), (7, 2, 70), (12, 11, 130), (13, 4, 7)];

    #[test]
    fn correlations_are_right_and_the_same_on_every_cpu() {
        for (outputs, count, pixels) in SIZES {
            let taps: Vec<u32> = (0..count as u32).map(|t| (t * 7) % 40).collect();
            let (weights, source) = (numbers(outputs * count, 1), numbers(200, 2));
            let (start, stride) = (numbers(outputs, 3), pixels + 2);
            let run = |isa| {
                let mut out = vec![9.0; outputs * stride];
                let start = Some(&start[..]);
                let job = Correlate {
                    weights: &weights,
                    taps: &taps,
                    source: &source,
                    start,
                    out: &mut out,
                    out_stride: stride,
                    pixels,
                };
                correlate(isa, job);
                out
            };
            let expected = run(Isa::portable());
            for (i, got) in expected.iter().enumerate() {
                let (o, p) = (i / stride, i % stride);
                if p >= pixels {
                    assert_eq!(*got, 9.0, "numbers between the outputs are left alone");
                    continue;
                }
                let terms =
                    taps.iter().zip(&weights[o * count..]).map(|(tap, w)| w * source[*tap as usize + p]);
                assert!((start[o] + terms.sum::<f32>() - got).abs() < 1e-3);
            }
            for isa in Isa::available() {
                assert_eq!(run(isa), expected, "{isa} {outputs} {count} {pixels}");
            }
        }
    }

    #[test]
    fn weight_gradients_are_right_and_the_same_on_every_cpu() {
        for (outputs, count, pixels) in SIZES {
            let records = 3;
            let taps: Vec<u32> = (0..count as u32).map(|t| (t * 7) % 40).collect();
            let (dy, source) = (numbers(records * outputs * pixels, 1), numbers(records * 190, 2));
            let run = |isa| {
                let mut dweights = vec![1.0; outputs * count];
                let job = CorrelateWeights {
                    dy: &dy,
                    dy_stride: outputs * pixels,
                    source: &source,
                    source_stride: 190,
                    taps: &taps,
                    dweights: &mut dweights,
                    pixels,
                    records,
                };
                correlate_weights(isa, job);
                dweights
            };
            let expected = run(Isa::portable());
            for (i, got) in expected.iter().enumerate() {
                let (o, t) = (i / count, i % count);
                let mut sum = 1.0f64;
                for r in 0..records {
                    for p in 0..pixels {
                        let x = source[r * 190 + taps[t] as usize + p];
                        sum += f64::from(dy[(r * outputs + o) * pixels + p] * x);
                    }
                }
                assert!((sum - f64::from(*got)).abs() < 1e-3 * (1.0 + sum.abs()), "{sum} {got}");
            }
            for isa in Isa::available() {
                assert_eq!(run(isa), expected, "{isa} {outputs} {count} {pixels}");
            }
        }
    }
}
