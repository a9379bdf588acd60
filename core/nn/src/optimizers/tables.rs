//! Updates of tables whose gradient are single rows.
//!
//! A table is updated as its layer says (`sparse`):
//!
//! - `exact`: as if the gradient of all other rows had been there, as zeros: the same bits as with a dense gradient,
//!   whatever the optimizer (where a norm is measured, up to the order in which its f64 sum is made). Other rows are
//!   swept over without a gradient in memory, except where a gradient of 0 changes nothing (SGD without momentum,
//!   Adagrad; both without decay and penalties): then only touched rows are visited. A sweep costs what it costs with
//!   dense gradients, and is simple; rows that would catch up when they are next read would each have to go through
//!   all updates that they missed, in order, to be exact.
//! - `lazy`: rows that a step does not touch stay as they are, and so does what the optimizer keeps of them, as with
//!   PyTorch's `SparseAdam` and TensorFlow's `LazyAdam` (PyTorch adds eps before the correction of the root). Weight
//!   decay and penalties reach a row when it is touched. Optimizers that measure whole arrays (LARS, LAMB) can not do
//!   it, which [`super::Optimizers::assign`] says.
//!
//! Clipping takes the norm over touched rows and, with penalties, over all rows of exact tables. An average of the
//! weights is kept of all rows.

use super::updater::Sums;
use super::{Moment, Optimizer};
use crate::arena::{Pieces, Rows, for_pieces, for_rows};
use crate::gradients::TableGradient;
use crate::kernels::Isa;
use crate::kernels::update::{Shaping, average, shape, sum_of_squares};
use crate::layer::ParameterKind;
use crate::model::Parameter;
use crate::team::Team;
use std::ops::Range;

/// Numbers that are updated at once: what a gradient is made up in.
const PART: usize = 1024;

/// The updates of a table.
pub(super) struct TableUpdate {
    /// Place among the model's tables.
    number: usize,
    range: Range<usize>,
    /// Where the table begins in the optimizer's arrays.
    own: usize,
    lazy: bool,
    pieces: Pieces,
}

/// How a table is updated this time.
pub(super) struct How<'a> {
    pub(super) optimizer: &'a dyn Optimizer,
    pub(super) shaping: Shaping,
    pub(super) moment: Moment,
    /// Of the new weights in their average.
    pub(super) share: Option<f32>,
}

impl How<'_> {
    /// Whether a gradient of 0 leaves a row as it is.
    fn rests(&self) -> bool {
        let Shaping { l1, l2, .. } = self.shaping;
        l1 == 0.0 && l2 == 0.0 && self.optimizer.rests()
    }

    fn update(&self, w: &mut [f32], grads: &[f32], states: &mut [&mut [f32]]) {
        shaped(self.moment.isa, self.shaping, w, grads, &mut |w, g| {
            self.optimizer.update(self.moment, w, g, states);
        });
    }
}

/// Hands out gradients as `shaping` has them.
fn shaped(
    isa: Isa,
    shaping: Shaping,
    w: &mut [f32],
    grads: &[f32],
    work: &mut dyn FnMut(&mut [f32], &[f32]),
) {
    if shaping == Shaping::NONE {
        return work(w, grads);
    }
    let mut room = [0.0; PART];
    let own = &mut room[..grads.len()];
    own.copy_from_slice(grads);
    shape(isa, shaping, w, own);
    work(w, own);
}

/// Cuts a piece of a table into parts with the gradient of each: of a touched row, or zeros.
fn for_parts(gradient: &TableGradient, piece: &Range<usize>, work: &mut dyn FnMut(Range<usize>, &[f32])) {
    const ZEROS: [f32; PART] = [0.0; PART];
    let (columns, start) = (gradient.sum.columns(), gradient.range().start);
    let rows = (piece.start - start) / columns..(piece.end - start) / columns;
    let place = |row: usize| gradient.sum.rows().partition_point(|own| (*own as usize) < row);
    let untouched = |range: Range<usize>, work: &mut dyn FnMut(Range<usize>, &[f32])| {
        for start in range.clone().step_by(PART) {
            let part = start..(start + PART).min(range.end);
            work(part.clone(), &ZEROS[..part.len()]);
        }
    };
    let mut done = 0;
    for number in place(rows.start)..place(rows.end) {
        let begin = (gradient.sum.rows()[number] as usize - rows.start) * columns;
        untouched(done..begin, work);
        let values = &gradient.sum.values()[number * columns..][..columns];
        for (part, values) in values.chunks(PART).enumerate() {
            let begin = begin + part * PART;
            work(begin..begin + values.len(), values);
        }
        done = begin + columns;
    }
    untouched(done..piece.len(), work);
}

/// A part of each of some arrays.
fn parts<'a, 'b>(arrays: &'a mut [&'b mut [f32]], part: &Range<usize>) -> [&'a mut [f32]; 4]
where
    'b: 'a,
{
    let mut arrays = arrays.iter_mut();
    std::array::from_fn(|_| arrays.next().map_or(&mut [][..], |array| &mut array[part.clone()]))
}

impl TableUpdate {
    /// Updates of the model's table `number`, in tasks of about `chunk` numbers.
    pub(super) fn new(number: usize, parameter: &Parameter, own: usize, chunk: usize) -> TableUpdate {
        let (range, columns) = (parameter.range.clone(), parameter.shape[1]);
        let most = (chunk / columns).max(1) * columns;
        let pieces = Pieces::cut_behind(own, std::slice::from_ref(&range), most);
        TableUpdate { number, range, own, lazy: parameter.kind == ParameterKind::Rows { lazy: true }, pieces }
    }

    /// Sums that the updates measure at a time.
    pub(super) fn sums(&self) -> usize {
        self.pieces.list().len()
    }

    /// This table's among the gradients of all.
    ///
    /// # Panics
    /// When it is another table's.
    pub(super) fn gradient<'a>(&self, tables: &'a [TableGradient]) -> &'a TableGradient {
        let gradient = &tables[self.number];
        assert_eq!(*gradient.range(), self.range, "gradients of tables are in the order of the model's");
        gradient
    }

    fn rows<'a>(&self, gradient: &'a TableGradient) -> Rows<'a> {
        let (rows, columns) = (gradient.sum.rows(), gradient.sum.columns());
        Rows { rows, columns, flat: self.range.start, own: self.own }
    }

    /// The sum of the squares of all gradients as `shaping` has them.
    pub(super) fn square_sum(
        &self,
        team: &mut Team,
        (isa, shaping): (Isa, Shaping),
        params: &mut [f32],
        gradient: &TableGradient,
        sums: &[Sums],
    ) -> f64 {
        let squares = |w: &mut [f32], grads: &[f32]| {
            let mut sum = 0.0;
            shaped(isa, shaping, w, grads, &mut |_, g| sum = sum_of_squares(isa, g));
            sum
        };
        if self.lazy || (shaping.l1 == 0.0 && shaping.l2 == 0.0) {
            // Other gradients are 0.
            let columns = gradient.sum.columns();
            let (table, rows) = (&mut params[self.range.clone()], gradient.sum.rows().iter());
            let rows = rows.zip(gradient.sum.values().chunks_exact(columns)).map(|(row, grads)| {
                let w = &mut table[*row as usize * columns..][..columns];
                w.chunks_mut(PART).zip(grads.chunks(PART)).map(|(w, grads)| squares(w, grads)).sum::<f64>()
            });
            return rows.sum();
        }
        for_pieces(team, &self.pieces, [params], &mut [], &|index, [w], _| {
            let mut sum = 0.0;
            for_parts(gradient, &self.pieces.list()[index].flat, &mut |part, grads| {
                sum += squares(&mut w[part], grads);
            });
            sums[index].set([sum, 0.0]);
        });
        sums[..self.pieces.list().len()].iter().map(|sum| sum.get()[0]).sum()
    }

    /// Measures the table for an optimizer that asks for it; returns the norms.
    fn measure(
        &self,
        team: &mut Team,
        how: &How<'_>,
        (params, states): (&mut [f32], &mut [Vec<f32>]),
        gradient: &TableGradient,
        sums: &[Sums],
    ) -> [f64; 2] {
        let count = states.len();
        for_pieces(team, &self.pieces, [params], states, &|index, [w], states| {
            let mut total = [0.0; 2];
            for_parts(gradient, &self.pieces.list()[index].flat, &mut |part, grads| {
                let states = &mut parts(states, &part)[..count];
                shaped(how.moment.isa, how.shaping, &mut w[part], grads, &mut |w, g| {
                    let sum = how.optimizer.measure(how.moment, w, g, states);
                    total.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
                });
            });
            sums[index].set(total);
        });
        let sums = sums[..self.pieces.list().len()].iter().map(Sums::get);
        sums.fold([0.0; 2], |total, sum| [total[0] + sum[0], total[1] + sum[1]]).map(f64::sqrt)
    }

    /// Updates the table, and its part of the average.
    pub(super) fn update(
        &self,
        team: &mut Team,
        mut how: How<'_>,
        (params, kept, states): (&mut [f32], &mut [f32], &mut [Vec<f32>]),
        gradient: &TableGradient,
        sums: &[Sums],
    ) {
        let count = states.len();
        if how.optimizer.measures() {
            how.moment.norms = self.measure(team, &how, (params, states), gradient, sums);
        }
        let how = &how;
        if self.lazy || how.rests() {
            let columns = gradient.sum.columns();
            for_rows(team, self.rows(gradient), [params], states, &|number, [w], states| {
                let grads = &gradient.sum.values()[number * columns..][..columns];
                for (i, grads) in grads.chunks(PART).enumerate() {
                    let part = i * PART..i * PART + grads.len();
                    how.update(&mut w[part.clone()], grads, &mut parts(states, &part)[..count]);
                }
            });
        } else {
            for_pieces(team, &self.pieces, [params], states, &|index, [w], states| {
                for_parts(gradient, &self.pieces.list()[index].flat, &mut |part, grads| {
                    how.update(&mut w[part.clone()], grads, &mut parts(states, &part)[..count]);
                });
            });
        }
        if let Some(share) = how.share {
            for_pieces(team, &self.pieces, [params, kept], &mut [], &|_, [w, kept], _| {
                average(how.moment.isa, share, kept, w);
            });
        }
    }
}
