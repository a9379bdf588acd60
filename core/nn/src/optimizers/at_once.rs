//! Updates within a pass: a parameter is changed as soon as its gradient is final, by the task that computed it, as
//! PyTorch's users do with `register_post_accumulate_grad_hook`. The gradient is then still in the cache, and nobody has
//! to keep it.

use super::updater::{Section, UpdateOptions};
use super::{Due, Moment};
use crate::arena::{MAX_OWN, Shared};
use crate::kernels::Isa;
use crate::kernels::update::{average, is_finite, shape};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Numbers that are changed in one go, so that what several sweeps go over stays in the first-level cache.
const RUN: usize = 2 * 1024;

/// What says what the gradients of a pass are multiplied by, from what its records weigh ([`crate::BatchMetrics`]).
pub type Weigh<'a> = dyn Fn(f64) -> f32 + Sync + 'a;

/// Parameters that passes update.
pub(super) struct Left {
    /// Place in the flat buffers.
    pub(super) flat: Range<usize>,
    /// Whose they are, and where they begin in its arrays.
    pub(super) section: usize,
    pub(super) own: usize,
}

/// The update that a pass makes ([`crate::Workspace::learn`]), of the parameters that are left to it
/// ([`super::Updater::leave`]).
pub struct AtOnce<'a> {
    pub(super) params: Shared<'a>,
    pub(super) average: Shared<'a>,
    pub(super) sections: &'a [Section],
    /// Of every section, the arrays that its optimizer keeps.
    pub(super) arrays: &'a [[Shared<'static>; MAX_OWN]],
    /// What is left to the pass: as it was asked for, and where it lies, in order.
    pub(super) asked: &'a [Range<usize>],
    pub(super) left: &'a [Left],
    pub(super) options: UpdateOptions,
    pub(super) due: Due,
    pub(super) weigh: &'a Weigh<'a>,
    /// The first parameter without a finite gradient so far.
    pub(super) not_finite: AtomicUsize,
}

impl<'a> AtOnce<'a> {
    /// Place of the first parameter whose gradient was not finite.
    pub fn not_finite(&self) -> Option<usize> {
        let place = self.not_finite.load(Ordering::Relaxed);
        (place != usize::MAX).then_some(place)
    }

    pub(crate) fn params(&self) -> Shared<'a> {
        self.params
    }

    /// What is left to the pass.
    pub(crate) fn asked(&self) -> &[Range<usize>] {
        self.asked
    }

    /// What gradients are multiplied by where the records of the pass weigh `weight`.
    pub(crate) fn factor(&self, weight: f64) -> f32 {
        (self.weigh)(weight)
    }

    /// Changes the parameters `range` by their gradients, multiplied by `factor`. Those that do not learn stay.
    ///
    /// # Safety
    /// Nobody else reads or writes these parameters meanwhile.
    pub(crate) unsafe fn update(&self, isa: Isa, range: Range<usize>, grads: &mut [f32], factor: f32) {
        let first = self.left.partition_point(|left| left.flat.end <= range.start);
        for left in self.left[first..].iter().take_while(|left| left.flat.start < range.end) {
            let part = left.flat.start.max(range.start)..left.flat.end.min(range.end);
            for start in part.clone().step_by(RUN) {
                let run = start..(start + RUN).min(part.end);
                let grads = &mut grads[run.start - range.start..run.end - range.start];
                // SAFETY: the caller's promise; an optimizer's arrays belong to the parameters number by number.
                unsafe { self.run(isa, left, run, grads, factor) };
            }
        }
    }

    /// # Safety
    /// As of [`AtOnce::update`].
    unsafe fn run(&self, isa: Isa, left: &Left, run: Range<usize>, grads: &mut [f32], factor: f32) {
        if !is_finite(grads) {
            self.not_finite.fetch_min(run.start, Ordering::Relaxed);
        }
        if factor != 1.0 {
            grads.iter_mut().for_each(|gradient| *gradient *= factor);
        }
        let section = &self.sections[left.section];
        let start = left.own + run.start - left.flat.start;
        let own = start..start + run.len();
        // SAFETY: the caller's promise; arrays and average belong to the parameters number by number.
        let (w, mut states) = unsafe {
            let arrays = self.arrays[left.section].map(|array| array.write_if_any(own.clone()));
            (self.params.write(run.clone()), arrays)
        };
        shape(isa, section.treatment.shaping(self.options.limit()), w, grads);
        let count = section.state.arrays().len();
        section.optimizer.update(section.moment(self.due, isa), w, grads, &mut states[..count]);
        if let Some(share) = self.options.share() {
            // SAFETY: as above.
            average(isa, share, unsafe { self.average.write(run) }, w);
        }
    }
}

impl Section {
    pub(super) fn moment(&self, due: Due, isa: Isa) -> Moment {
        let rate = self.optimizer.base_rate() * due.factor * self.treatment.rate;
        Moment { update: due.update, rate, decay: self.treatment.decay, norms: [0.0; 2], isa }
    }
}
