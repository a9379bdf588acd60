//! Bands by vectors of f32: the twin of [`super::amx`], and what CPUs without tiles run.

use super::super::super::Kernel;
use super::super::super::lanes::{LANES, Lanes};
use super::{Band, STEP, Start, flushed};

/// Rows that are summed side by side, so that their chains hide each other's latency.
const ROWS: usize = 4;

/// A band's sums.
pub(super) struct Sums<'a>(pub(super) Band<'a>);

impl Kernel for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let band = &self.0;
        for column in (0..band.columns).step_by(LANES) {
            for line in 0..band.lines {
                let whole = band.rows / ROWS * ROWS;
                // SAFETY: `Engine::run`'s caller vouches for every row and column.
                unsafe {
                    (0..whole).step_by(ROWS).for_each(|row| rows::<V, ROWS>(band, line, row, column));
                    (whole..band.rows).for_each(|row| rows::<V, 1>(band, line, row, column));
                }
            }
        }
    }
}

/// `H` rows of one vector of columns.
///
/// # Safety
/// The band has them.
#[inline(always)]
unsafe fn rows<V: Lanes, const H: usize>(band: &Band<'_>, line: usize, row: usize, column: usize) {
    let count = (band.columns - column).min(LANES);
    let a = band.a.wrapping_add(line * band.a_line + row * band.a_row);
    let c = band.c.wrapping_add(line * band.c_line + row * band.c_row + column);
    let step_len = band.columns.next_multiple_of(LANES) * STEP / 2;
    // SAFETY: the caller vouches for rows, steps and sums.
    unsafe {
        let mut sums: [V; H] = std::array::from_fn(|i| match band.start {
            Start::Zero => V::splat(0.0),
            Start::Bias(bias) => V::load_first(bias.add(column), count),
            Start::Memory => V::load_first(c.add(i * band.c_row), count),
        });
        for (step, segment) in band.segments.iter().enumerate() {
            let (a, b) =
                (a.add(*segment as usize), band.b.add(step * step_len + column / LANES * STEP / 2 * LANES));
            let mut chains = [[V::splat(0.0); 2]; H];
            for pair in 0..STEP / 2 {
                let (even, odd) = V::load(b.add(pair * LANES)).split_bf16_pairs();
                for (i, chains) in chains.iter_mut().enumerate() {
                    let a = a.add(i * band.a_row + 2 * pair);
                    let number = |at: usize| V::splat(f32::from_bits(u32::from(a.add(at).read()) << 16));
                    chains[0] = flushed(number(0).fma(even, chains[0]));
                    chains[1] = flushed(number(1).fma(odd, chains[1]));
                }
            }
            for (sum, [even, odd]) in sums.iter_mut().zip(chains) {
                *sum = flushed(flushed(*sum).add(flushed(even.add(odd))));
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            band.bounds.clip(sum).store_first(c.add(i * band.c_row), count);
        }
    }
}

/// Clips the sums of a band.
pub(super) struct Clip<'a>(pub(super) Band<'a>);

impl Kernel for Clip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let band = &self.0;
        for line in 0..band.lines {
            for row in 0..band.rows {
                let c = band.c.wrapping_add(line * band.c_line + row * band.c_row);
                for column in (0..band.columns).step_by(LANES) {
                    let count = (band.columns - column).min(LANES);
                    // SAFETY: `Engine::run`'s caller vouches for the sums of every row.
                    unsafe {
                        let c = c.add(column);
                        band.bounds.clip(V::load_first(c, count)).store_first(c, count);
                    }
                }
            }
        }
    }
}
