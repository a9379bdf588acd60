//! Updates of a whole model: which optimizer changes which part of the flat buffers, with clipping, penalties and
//! an average of the weights.
//!
//! For every parameter that learns, in this order: `g = dw + l1 · sign w + l2 · w`; magnitudes limited to
//! `clip_value`; all gradients together scaled so that their norm is `clip_norm` at most; the optimizer's step;
//! `average = ema_decay · average + (1 - ema_decay) · w`.
//!
//! Tables whose gradient are single rows are updated by `tables`, in the same order; what is left to passes by `at_once`.
//!
//! Work is cut into pieces that do not depend on the number of threads, and sums are added in the order of the
//! pieces, so that threads do not change a bit.

use super::at_once::{AtOnce, Left, Weigh};
use super::groups::{Group, Treatment};
use super::tables::{How, TableUpdate};
use super::{Optimizer, Optimizers, StateSpec};
use crate::arena::{MAX_OWN, Pieces, Shared, for_pieces};
use crate::gradients::Gradients;
use crate::kernels::update::{Shaping, average, shape, sum_of_squares};
use crate::layer::ParameterKind;
use crate::model::Parameter;
use crate::pages::zeros;
use crate::team::Team;
use ringspin_job::Problems;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Numbers one task updates: small enough to share the work and to stay in a core's cache, large enough not to
/// notice the sharing.
const CHUNK: usize = 16 * 1024;
/// Added to the norm that gradients are clipped by, as PyTorch's `clip_grad_norm_` does.
const NORM_EPS: f64 = 1e-6;

/// What is done to all parameters alike.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UpdateOptions {
    /// Largest norm of all gradients together; larger ones are scaled down (PyTorch `clip_grad_norm_`).
    pub clip_norm: Option<f64>,
    /// Largest magnitude of a gradient, limited before the norm is taken (PyTorch `clip_grad_value_`).
    pub clip_value: Option<f64>,
    /// What the running average of the weights keeps of itself in an update; none: no average is kept.
    pub ema_decay: Option<f64>,
}

/// Which update it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Due {
    /// Updates made with this one, from 1.
    pub update: u64,
    /// What every optimizer's rate is multiplied by: the schedule's word.
    pub factor: f64,
}

/// The arrays an optimizer keeps between updates, for the parameters it changes.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerState {
    specs: Vec<StateSpec>,
    ranges: Vec<Range<usize>>,
    arrays: Vec<Vec<f32>>,
}

impl OptimizerState {
    fn new(specs: Vec<StateSpec>, ranges: Vec<Range<usize>>) -> Self {
        let count = ranges.iter().map(ExactSizeIterator::len).sum();
        let arrays = specs.iter().map(|spec| {
            let mut array = zeros(count);
            if spec.start != 0.0 {
                array.fill(spec.start);
            }
            array
        });
        let arrays = arrays.collect();
        OptimizerState { specs, ranges, arrays }
    }

    /// Names of the arrays.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.specs.iter().map(|spec| spec.name)
    }

    /// The parameters they belong to, as ranges of the flat buffers: their numbers lie in the arrays in this order,
    /// without gaps.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// The arrays, in the order of the names.
    pub fn arrays(&self) -> &[Vec<f32>] {
        &self.arrays
    }

    /// The arrays, for restoring them.
    pub fn arrays_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.arrays.iter_mut().map(|array| &mut array[..])
    }
}

/// The parameters of one group.
pub(super) struct Section {
    pub(super) optimizer: Box<dyn Optimizer>,
    pub(super) treatment: Treatment,
    /// Of what is dense, and not left to passes.
    pieces: Pieces,
    tables: Vec<TableUpdate>,
    pub(super) state: OptimizerState,
    /// Of every array, where the optimizer asks for them.
    norms: Vec<[f64; 2]>,
}

impl Section {
    /// `numbers` says which of the model's tables each table is.
    fn new(group: Group, parameters: &[&Parameter], numbers: &[usize]) -> Section {
        let Group { optimizer, treatment, .. } = group;
        let ranges: Vec<Range<usize>> = parameters.iter().map(|parameter| parameter.range.clone()).collect();
        // Tables lie behind everything else.
        let dense = parameters.iter().filter(|parameter| !parameter.kind.is_rows()).count();
        let mut own = ranges[..dense].iter().map(ExactSizeIterator::len).sum();
        let tables = parameters[dense..].iter().zip(numbers).map(|(parameter, number)| {
            let begin = own;
            own += parameter.range.len();
            TableUpdate::new(*number, parameter, begin, CHUNK)
        });
        let tables = tables.collect();
        let (mut whole, mut norms) = (ranges[..dense].to_vec(), Vec::new());
        if optimizer.measures() {
            norms = vec![[0.0; 2]; dense];
        } else {
            join(&mut whole, &|_| false);
        }
        let state = OptimizerState::new(optimizer.states(), ranges);
        Section { optimizer, treatment, pieces: Pieces::cut(&whole, CHUNK), tables, state, norms }
    }

    /// Cuts what is dense into pieces anew, without what `is_left`, and returns that, with where it begins in the arrays.
    fn leave(&mut self, is_left: &dyn Fn(usize) -> bool) -> Vec<(Range<usize>, usize)> {
        let dense = self.state.ranges.len() - self.tables.len();
        let mut whole = self.state.ranges[..dense].to_vec();
        join(&mut whole, is_left);
        self.pieces = Pieces::cut(&whole, CHUNK);
        let mut own = 0;
        let places = whole.into_iter().map(|range| {
            own += range.len();
            (range.clone(), own - range.len())
        });
        let left = places.filter(|(range, _)| is_left(range.start)).collect();
        self.pieces.retain(|piece| !is_left(piece.flat.start));
        left
    }

    /// Most sums that are measured at a time.
    fn sums(&self) -> usize {
        let tables = self.tables.iter().map(TableUpdate::sums).max();
        self.pieces.list().len().max(tables.unwrap_or(0))
    }
}

/// Joins neighbours, unless they are in different parts: an optimizer that knows no arrays needs no pieces of its own
/// for each.
fn join(ranges: &mut Vec<Range<usize>>, part: &dyn Fn(usize) -> bool) {
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in ranges.drain(..) {
        match joined.last_mut() {
            Some(last) if last.end == range.start && part(last.start) == part(range.start) => {
                last.end = range.end;
            }
            _ => joined.push(range),
        }
    }
    *ranges = joined;
}

/// Two sums of a piece, written by whichever thread has it.
#[derive(Default)]
pub(super) struct Sums([AtomicU64; 2]);

impl Sums {
    pub(super) fn set(&self, sums: [f64; 2]) {
        for (own, sum) in self.0.iter().zip(sums) {
            own.store(sum.to_bits(), Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self) -> [f64; 2] {
        [0, 1].map(|i| f64::from_bits(self.0[i].load(Ordering::Relaxed)))
    }
}

/// All that updates of a model need and keep.
pub struct Updater {
    sections: Vec<Section>,
    options: UpdateOptions,
    base_rate: f64,
    /// Parameters, and those of them with dense gradients.
    counts: [usize; 2],
    /// One for each piece of the largest section.
    sums: Vec<Sums>,
    /// As long as the parameters; empty without `ema_decay`.
    average: Vec<f32>,
    /// What is not learned ([`ParameterKind::Statistic`]).
    statistics: Vec<Range<usize>>,
    /// Whether there is an average yet.
    averaged: bool,
    /// What is left to passes: as it was asked for, and where it lies, in order.
    asked: Vec<Range<usize>>,
    left: Vec<Left>,
    /// Whether a pass has its part of the next update.
    begun: bool,
    /// Room for [`AtOnce::arrays`].
    arrays: Vec<[Shared<'static>; MAX_OWN]>,
}

impl Updater {
    /// Prepares updates of a model's parameters.
    ///
    /// # Errors
    /// As [`Optimizers::assign`].
    pub fn new(
        optimizers: Optimizers,
        parameters: &[Parameter],
        options: UpdateOptions,
    ) -> Result<Updater, Problems> {
        let assigned = optimizers.assign(parameters)?;
        let end = |last: Option<&Parameter>| last.map_or(0, |last| last.range.end);
        let tables = || parameters.iter().filter(|parameter| parameter.kind.is_rows());
        let count = end(parameters.last());
        let dense = end(parameters.iter().rfind(|parameter| !parameter.kind.is_rows()));
        let base_rate = optimizers.base_rate();
        let sections = optimizers.into_groups().into_iter().enumerate().filter_map(|(number, group)| {
            let own = parameters.iter().zip(&assigned);
            let own = own
                .filter(|(parameter, group)| **group == number && parameter.kind != ParameterKind::Statistic);
            let own: Vec<&Parameter> = own.map(|(parameter, _)| parameter).collect();
            let is_own = |table: &Parameter| own.iter().any(|parameter| parameter.range == table.range);
            let numbers = tables().enumerate().filter(|(_, table)| is_own(table)).map(|(number, _)| number);
            let numbers: Vec<usize> = numbers.collect();
            (!group.treatment.frozen && !own.is_empty()).then(|| Section::new(group, &own, &numbers))
        });
        let sections: Vec<Section> = sections.collect();
        let most = sections.iter().map(Section::sums).max().unwrap_or(0);
        let average = if options.ema_decay.is_some() { zeros(count) } else { Vec::new() };
        let sums = (0..most).map(|_| Sums::default()).collect();
        let statistics = parameters.iter().filter(|parameter| parameter.kind == ParameterKind::Statistic);
        let mut statistics: Vec<Range<usize>> = statistics.map(|parameter| parameter.range.clone()).collect();
        join(&mut statistics, &|_| false);
        let counts = [count, dense];
        let arrays = Vec::with_capacity(sections.len());
        Ok(Updater {
            sections,
            options,
            base_rate,
            counts,
            sums,
            average,
            statistics,
            averaged: false,
            asked: Vec::new(),
            left: Vec::new(),
            begun: false,
            arrays,
        })
    }

    /// Leaves parameters to the passes, which update them at once ([`Updater::at_once`]); [`Updater::update`] then has
    /// to do with the others alone.
    ///
    /// # Panics
    /// When a step depends on more than single numbers: `clip_norm`, or an optimizer that [measures](Optimizer::measures).
    pub fn leave(&mut self, ranges: &[Range<usize>]) {
        let measures = self.sections.iter().any(|section| section.optimizer.measures());
        assert!(
            self.options.clip_norm.is_none() && !measures,
            "a step that depends on whole arrays can not be made in parts"
        );
        self.asked = ranges.to_vec();
        let is_left = |place: usize| ranges.iter().any(|range| range.contains(&place));
        self.left.clear();
        for (section, own) in self.sections.iter_mut().enumerate() {
            let left = own.leave(&is_left).into_iter();
            self.left.extend(left.map(|(flat, own)| Left { flat, section, own }));
        }
        self.left.sort_by_key(|left| left.flat.start);
    }

    /// Whether the parameter at a place of the flat buffers is [left](Updater::leave) to passes.
    pub fn is_left(&self, place: usize) -> bool {
        self.asked.iter().any(|range| range.contains(&place))
    }

    /// The update `due` of what was [left](Updater::leave) to passes, for the next of them. [`Updater::update`] has to
    /// follow, for the rest.
    ///
    /// # Panics
    /// When the parameters are not as many as the model's.
    pub fn at_once<'a>(&'a mut self, due: Due, params: &'a mut [f32], weigh: &'a Weigh<'a>) -> AtOnce<'a> {
        assert_eq!(params.len(), self.counts[0], "the flat buffers are those of the model");
        self.begun = true;
        self.arrays.clear();
        for section in &mut self.sections {
            let mut arrays = section.state.arrays.iter_mut();
            self.arrays.push(std::array::from_fn(|_| {
                let array = Shared::new(arrays.next().map_or(&mut [], |array| &mut array[..]));
                // SAFETY: what is returned borrows the updater, and is all that uses it.
                unsafe { array.unbound() }
            }));
        }
        AtOnce {
            params: Shared::new(params),
            average: Shared::new(&mut self.average),
            sections: &self.sections,
            arrays: &self.arrays,
            asked: &self.asked,
            left: &self.left,
            options: self.options,
            due,
            weigh,
            not_finite: AtomicUsize::new(usize::MAX),
        }
    }

    /// The learning rate of the job's own optimizer, before the schedule.
    pub fn base_rate(&self) -> f64 {
        self.base_rate
    }

    /// What the optimizers keep, group by group.
    pub fn states(&self) -> impl Iterator<Item = &OptimizerState> {
        self.sections.iter().map(|section| &section.state)
    }

    /// The same, for restoring it.
    pub fn states_mut(&mut self) -> impl Iterator<Item = &mut OptimizerState> {
        self.sections.iter_mut().map(|section| &mut section.state)
    }

    /// The running average of the parameters; `None` before the first update and without `ema_decay`.
    pub fn average(&self) -> Option<&[f32]> {
        self.averaged.then_some(&self.average[..])
    }

    /// Where an average that another updater had is restored to; empty without `ema_decay`.
    pub fn restore_average(&mut self) -> &mut [f32] {
        self.averaged = !self.average.is_empty();
        &mut self.average
    }

    /// Makes one update with all threads of `team`, of all that is not [left](Updater::leave) to passes. Gradients are
    /// changed by clipping and penalties.
    ///
    /// # Panics
    /// When parameters or gradients are not as many as the model's, and when no pass had its part of the update.
    pub fn update(&mut self, team: &mut Team, due: Due, params: &mut [f32], gradients: &mut Gradients) {
        let lengths = [params.len(), gradients.dense.len()];
        assert_eq!(lengths, self.counts, "the flat buffers are those of the model");
        assert!(
            std::mem::take(&mut self.begun) || self.left.is_empty(),
            "what is left to passes is updated by one"
        );
        let scale = self.options.clip_norm.map(|most| {
            let norm = self.norm(team, params, gradients);
            (most / (norm + NORM_EPS)).min(1.0) as f32
        });
        let limit = self.options.limit();
        let (isa, share) = (team.isa(), self.options.share());
        let Gradients { dense: grads, tables: rows } = gradients;
        for section in &mut self.sections {
            let moment = section.moment(due, isa);
            let Section { optimizer, treatment, pieces, tables, state, norms } = section;
            let shaping = match scale {
                // The rest was done for the norm.
                Some(scale) => Shaping { scale, ..Shaping::NONE },
                None => treatment.shaping(limit),
            };
            if optimizer.measures() {
                for_pieces(team, pieces, [params, grads], &mut state.arrays, &|index, [w, g], states| {
                    shape(isa, shaping, w, g);
                    self.sums[index].set(optimizer.measure(moment, w, g, states));
                });
                add_up(norms, pieces, &self.sums);
            }
            let flat = [&mut *params, &mut *grads, &mut self.average];
            for_pieces(team, pieces, flat, &mut state.arrays, &|index, [w, g, kept], states| {
                let mut moment = moment;
                if optimizer.measures() {
                    moment.norms = norms[pieces.list()[index].of];
                } else {
                    shape(isa, shaping, w, g);
                }
                optimizer.update(moment, w, g, states);
                if let Some(share) = share {
                    average(isa, share, kept, w);
                }
            });
            for table in tables {
                let shaping = Shaping { scale: scale.unwrap_or(1.0), ..treatment.shaping(limit) };
                let how = How { optimizer: &**optimizer, shaping, moment, share };
                let arrays = (&mut *params, &mut self.average[..], &mut state.arrays[..]);
                table.update(team, how, arrays, table.gradient(rows), &self.sums);
            }
        }
        for range in &self.statistics {
            let (params, grads) = (&mut params[range.clone()], &grads[range.clone()]);
            params.iter_mut().zip(grads).for_each(|(own, change)| *own -= change);
            if share.is_some() {
                // They are averages already.
                self.average[range.clone()].copy_from_slice(params);
            }
        }
        if share.is_some() && !self.averaged {
            // It begins as a copy, of what does not learn too.
            self.average.copy_from_slice(params);
            self.averaged = true;
        }
    }

    /// Adds penalties, limits magnitudes, and returns the norm of what comes out.
    fn norm(&mut self, team: &mut Team, params: &mut [f32], gradients: &mut Gradients) -> f64 {
        let (isa, limit, mut sum) = (team.isa(), self.options.limit(), 0.0);
        let Gradients { dense: grads, tables: rows } = gradients;
        for Section { treatment, pieces, tables, .. } in &self.sections {
            for_pieces(team, pieces, [params, grads], &mut [], &|index, [w, g], _| {
                shape(isa, treatment.shaping(limit), w, g);
                self.sums[index].set([sum_of_squares(isa, g), 0.0]);
            });
            sum = self.sums[..pieces.list().len()].iter().fold(sum, |sum, own| sum + own.get()[0]);
            for table in tables {
                let shaping = treatment.shaping(limit);
                sum += table.square_sum(team, (isa, shaping), params, table.gradient(rows), &self.sums);
            }
        }
        sum.sqrt()
    }
}

impl UpdateOptions {
    pub(super) fn limit(&self) -> f32 {
        self.clip_value.map_or(f32::INFINITY, |limit| limit as f32)
    }

    /// Of the new weights in their average.
    pub(super) fn share(&self) -> Option<f32> {
        self.ema_decay.map(|decay| (1.0 - decay) as f32)
    }
}

impl Treatment {
    pub(super) fn shaping(&self, limit: f32) -> Shaping {
        Shaping { l1: self.l1, l2: self.l2, limit, scale: 1.0 }
    }
}

/// The norms of arrays from the sums of their pieces.
fn add_up(norms: &mut [[f64; 2]], pieces: &Pieces, sums: &[Sums]) {
    norms.fill([0.0; 2]);
    for (piece, sums) in pieces.list().iter().zip(sums) {
        for (norm, sum) in norms[piece.of].iter_mut().zip(sums.get()) {
            *norm += sum;
        }
    }
    norms.iter_mut().flatten().for_each(|norm| *norm = norm.sqrt());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{assert_close, noise, parameters, tensors};
    use crate::registry::Registry;
    use ringspin_job::{Component, Value};

    fn optimizers(name: &str, params: &[(&str, Value)]) -> Optimizers {
        let component = params.iter().fold(Component::new("optimizer", name), |component, (key, value)| {
            component.with(key, value.clone())
        });
        Registry::standard().build_optimizers(&component).unwrap()
    }

    #[test]
    fn groups_clipping_penalties_schedule_and_average_agree_with_pytorch() {
        let optimizers = optimizers(
            "sgd",
            &[
                ("lr", 0.1.into()),
                ("momentum", 0.9.into()),
                ("weight_decay", 0.01.into()),
                ("groups[0].match", "2.bias".into()),
                ("groups[0].freeze", true.into()),
                ("groups[1].match", "0.*".into()),
                ("groups[1].name", "adamw".into()),
                ("groups[1].lr", 0.02.into()),
                ("groups[1].l1", 0.05.into()),
                ("groups[1].l2", 0.1.into()),
                ("groups[2].match", "*.weight".into()),
                ("groups[2].lr_factor", 0.5.into()),
                ("groups[2].weight_decay_factor", 3.into()),
            ],
        );
        let arrays = [("0.weight", 0..15), ("0.bias", 15..18), ("2.weight", 18..24), ("2.bias", 24..26)];
        let options = UpdateOptions { clip_norm: Some(1.0), clip_value: Some(0.6), ema_decay: Some(0.8) };
        let mut updater = Updater::new(optimizers, &parameters(&arrays), options).unwrap();
        let gather = |seed: u64| -> Vec<f32> {
            (0..).zip(&arrays).flat_map(|(i, (_, range))| noise(seed + i, range.len())).collect()
        };
        let (mut params, mut team) = (gather(10), Team::new(2).unwrap());
        let golden = tensors("updater");
        for step in 0..6 {
            let due = Due { update: step + 1, factor: 0.5f64.powi(step as i32 / 2) };
            updater.update(&mut team, due, &mut params, &mut gather(100 + 10 * step).into());
            assert_close(&params, &golden[&step.to_string()], 2e-6, "parameters");
            let average = updater.average().unwrap();
            assert_close(average, &golden[&format!("{step}.average")], 2e-6, "average");
        }
        let states: Vec<usize> =
            updater.states().flat_map(|state| state.arrays()).map(|array| array.len()).collect();
        assert_eq!(states, [18, 18, 6], "what is frozen takes no memory");
        assert_eq!(updater.states().map(|state| state.ranges().len()).collect::<Vec<_>>(), [2, 1]);
    }

    /// Parameters, average and states after three updates of arrays longer than a piece.
    fn three_updates(threads: usize) -> (Vec<f32>, Vec<f32>, Vec<OptimizerState>) {
        let optimizers = optimizers(
            "lamb",
            &[
                ("groups[0].match", "b".into()),
                ("groups[0].freeze", true.into()),
                ("groups[1].match", "d".into()),
                ("groups[1].name", "rmsprop".into()),
                ("groups[1].momentum", 0.9.into()),
            ],
        );
        let arrays = [("a", 0..40_000), ("b", 40_000..40_100), ("c", 40_100..40_101), ("d", 40_101..90_000)];
        let options = UpdateOptions { clip_norm: Some(0.1), clip_value: None, ema_decay: Some(0.5) };
        let mut updater = Updater::new(optimizers, &parameters(&arrays), options).unwrap();
        let (mut params, mut team) = (noise(1, 90_000), Team::new(threads).unwrap());
        for update in 1..=3 {
            let due = Due { update, factor: 1.0 };
            updater.update(&mut team, due, &mut params, &mut noise(100 + update, 90_000).into());
        }
        assert_eq!(params[40_000..40_100], noise(1, 90_000)[40_000..40_100], "what is frozen stays");
        (params, updater.average().unwrap().to_vec(), updater.states().cloned().collect())
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let expected = three_updates(1);
        assert!(expected.0.iter().all(|number| number.is_finite()));
        for threads in [2, 3, 5] {
            assert_eq!(three_updates(threads), expected, "{threads} threads");
        }
    }

    #[test]
    fn an_updater_goes_on_where_another_was() {
        let build = || {
            let options = UpdateOptions { ema_decay: Some(0.9), ..UpdateOptions::default() };
            Updater::new(optimizers("adam", &[]), &parameters(&[("a", 0..50)]), options).unwrap()
        };
        let (mut first, mut team) = (build(), Team::new(1).unwrap());
        let mut params = noise(1, 50);
        first.update(&mut team, Due { update: 1, factor: 1.0 }, &mut params, &mut noise(2, 50).into());
        let (mut second, mut again) = (build(), params.clone());
        for (from, to) in first.states().zip(second.states_mut()) {
            assert_eq!(from.names().collect::<Vec<_>>(), ["exp_avg", "exp_avg_sq"]);
            from.arrays().iter().zip(to.arrays_mut()).for_each(|(from, to)| to.copy_from_slice(from));
        }
        second.restore_average().copy_from_slice(first.average().unwrap());
        for (updater, params) in [(&mut first, &mut params), (&mut second, &mut again)] {
            updater.update(&mut team, Due { update: 2, factor: 0.5 }, params, &mut noise(3, 50).into());
        }
        assert_eq!((params, first.average()), (again, second.average()));
    }
}
