//! Linear layers whose weights are far larger than a cache, over all records at once: every thread reads its own part
//! of the weights, once. The parts are of a fixed size, so that bits do not depend on the threads. Gradients of weights
//! are computed by shards, as those of smaller layers.

use super::linear::Linear;
use crate::arena::Shared;
use crate::kernels::gemm::{Matrix, multiply};
use crate::layer::{Backward, Forward, Wide};
use crate::team::Team;
use std::ops::Range;

/// From so many weights on they are cut between threads: 2 MiB.
pub(super) const WHOLE_WEIGHTS: usize = 512 * 1024;
/// Columns of a result that one task computes.
const COLUMNS: usize = 256;

/// A matrix of `rows × columns`, cut into parts of some columns.
#[derive(Clone, Copy)]
struct Parts {
    rows: usize,
    columns: usize,
}

/// Computes some columns of every row.
type Part<'a> = dyn Fn(Range<usize>, &mut [f32]) + Sync + 'a;
/// Puts a part of a row in its place; the last argument is its first column.
type Row<'a> = dyn Fn(&mut [f32], &[f32], usize) + Sync + 'a;

impl Parts {
    fn count(self) -> usize {
        self.columns.div_ceil(COLUMNS)
    }

    fn columns(self, part: usize) -> Range<usize> {
        part * COLUMNS..((part + 1) * COLUMNS).min(self.columns)
    }

    /// Where a part lies when the parts lie one after the other.
    fn place(self, part: usize) -> Range<usize> {
        let columns = self.columns(part);
        columns.start * self.rows..columns.end * self.rows
    }

    /// Computes every part, then puts each row together; `with` gets the finished row.
    fn fill(
        self,
        team: &mut Team,
        (scratch, result): (&mut [f32], &mut [f32]),
        part: &Part<'_>,
        row: &Row<'_>,
    ) {
        let shared = Shared::new(&mut *scratch);
        team.tasks(self.count(), &|task, _| {
            // SAFETY: parts lie apart.
            part(self.columns(task), unsafe { shared.write(self.place(task)) });
        });
        let (scratch, result) = (&*scratch, Shared::new(result));
        team.tasks(self.rows, &|i, _| {
            // SAFETY: every task has its own row.
            let to = unsafe { result.write(i * self.columns..(i + 1) * self.columns) };
            for part in 0..self.count() {
                let (columns, place) = (self.columns(part), self.place(part));
                let width = columns.len();
                row(&mut to[columns.clone()], &scratch[place][i * width..(i + 1) * width], columns.start);
            }
        });
    }
}

impl Wide for Linear {
    fn scratch(&self, records: usize, _: usize) -> usize {
        records * self.rows * self.inputs.max(self.outputs)
    }

    fn forward(&self, team: &mut Team, pass: Forward<'_>) {
        let (isa, rows) = (pass.context.isa, pass.records * self.rows);
        let (weight, bias) = pass.params.split_at(self.weights());
        let x = Matrix::new(pass.x, rows, self.inputs);
        let parts = Parts { rows, columns: self.outputs };
        let scratch = &mut pass.scratch[..rows * self.outputs];
        let part = |columns: Range<usize>, to: &mut [f32]| {
            let weight = &weight[columns.start * self.inputs..columns.end * self.inputs];
            let weight = Matrix::new(weight, columns.len(), self.inputs).transposed();
            multiply(isa, x, weight, to, columns.len(), false);
        };
        parts.fill(team, (scratch, pass.y), &part, &|to, from, first| {
            to.copy_from_slice(from);
            if self.bias {
                to.iter_mut().zip(&bias[first..]).for_each(|(to, bias)| *to += bias);
            }
        });
    }

    fn backward(&self, team: &mut Team, pass: Backward<'_>) {
        let (isa, rows) = (pass.context.isa, pass.records * self.rows);
        let Some(dx) = pass.dx else { return };
        let weight = &pass.params[..self.weights()];
        let dy = Matrix::new(pass.dy, rows, self.outputs);
        let parts = Parts { rows, columns: self.inputs };
        let scratch = &mut pass.scratch[..rows * self.inputs];
        let part = |columns: Range<usize>, to: &mut [f32]| {
            let weight = Matrix::strided(&weight[columns.start..], self.outputs, columns.len(), self.inputs);
            multiply(isa, dy, weight, to, columns.len(), false);
        };
        parts.fill(team, (scratch, dx), &part, &|to, from, _| to.copy_from_slice(from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::noise;
    use crate::kernels::Isa;
    use crate::layer::{Context, Layer, Sharded, WeightsShard};
    use crate::random::RandomKey;
    use crate::shape::Shape;

    /// Outputs and all gradients, block by block or all at once.
    fn run(linear: &Linear, records: usize, threads: Option<usize>) -> [Vec<f32>; 3] {
        let rows = records * linear.rows;
        let params = noise(1, linear.weights() + linear.outputs);
        let (x, mut dy) = (noise(2, rows * linear.inputs), noise(3, rows * linear.outputs));
        let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
        let mut dparams = vec![0.5; params.len()];
        let scratch = &mut vec![f32::NAN; Wide::scratch(linear, records, 1)];
        let context = Context {
            isa: Isa::best(),
            training: true,
            key: RandomKey::default(),
            layer: 0,
            first_record: 0,
            scale: 1.0,
        };
        let (params, x) = (&params[..], &x[..]);
        let mut packed = vec![f32::NAN; Layer::packed(linear, true)];
        linear.pack(context.isa, params, &mut packed);
        let forward = Forward {
            records,
            params,
            packed: &packed,
            x,
            others: &[],
            y: &mut y,
            saved: &mut [],
            scratch,
            context,
        };
        let mut team = Team::new(threads.unwrap_or(1)).unwrap();
        match threads {
            Some(_) => Wide::forward(linear, &mut team, forward),
            None => Layer::forward(linear, forward),
        }
        let backward = Backward {
            records,
            params,
            packed: &packed,
            x,
            others: &[],
            y: &[],
            saved: &[],
            dy: &mut dy,
            dx: Some(&mut dx),
            add: false,
            dothers: &mut [],
            dparams: Some(&mut dparams),
            accumulate: true,
            scratch: &mut vec![f32::NAN; Wide::scratch(linear, records, 1)],
            context,
        };
        match threads {
            Some(threads) => {
                Wide::backward(linear, &mut team, backward);
                let (isa, shards) = (context.isa, linear.shards(records, threads));
                for shard in 0..shards {
                    let (weight, bias) = dparams.split_at_mut(linear.weights());
                    let [first, second] = linear.shard_ranges(shard, shards);
                    let second = second.start - weight.len()..second.end - weight.len();
                    let dparams = [&mut weight[first], &mut bias[second]];
                    let (dy, accumulate) = (&dy[..], true);
                    linear.weights_shard(WeightsShard {
                        shard,
                        shards,
                        records,
                        x,
                        dy,
                        dparams,
                        accumulate,
                        isa,
                    });
                }
            }
            None => Layer::backward(linear, backward),
        }
        [y, dx, dparams]
    }

    #[test]
    fn parts_have_the_bits_of_the_whole() {
        for (records, rows, inputs, outputs) in [(1, 1, 3, 700), (5, 2, 600, 17), (3, 1, 300, 520)] {
            let output = Shape::new(&[rows, outputs]).unwrap();
            let linear = Linear { rows, inputs, outputs, bias: true, output };
            let (expected, blocks) = (run(&linear, records, Some(1)), run(&linear, records, None));
            for (own, block) in expected.iter().flatten().zip(blocks.iter().flatten()) {
                assert!((own - block).abs() <= 1e-4 * (1.0 + block.abs()), "{own}, block by block {block}");
            }
            for threads in [2, 3] {
                let got = run(&linear, records, Some(threads));
                for (got, expected) in got.iter().zip(&expected) {
                    let bits = |numbers: &[f32]| numbers.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    if cfg!(not(feature = "blas")) {
                        assert_eq!(bits(got), bits(expected), "{inputs} to {outputs}, {threads} threads");
                    }
                }
            }
        }
    }
}
