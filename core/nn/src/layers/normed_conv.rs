//! A batch norm, with or without a ReLU, and the convolution that alone reads it. What lies between the two is never
//! written: the convolution norms its input as it reads it, forward and again for the gradient of its weights, so that
//! a sweep over memory and the room for a value are saved.
//!
//! x (H, W, C), y (H', W', K). Parameters: those of the norm, then those of the convolution.

use super::batch_norm::{BatchNorm, Measured};
use super::conv_whole::Whole;
use super::conv2d::Conv2d;
use crate::layer::{Backward, Forward, Layer, Needs, ParameterSpec, Wide};
use crate::shape::Shape;
use crate::team::Team;
use std::any::Any;
use std::sync::Arc;

pub(crate) struct NormedConv {
    norm: BatchNorm,
    /// A [`Conv2d`].
    conv: Arc<dyn Layer>,
}

impl NormedConv {
    /// Whether the two can be one.
    pub(crate) fn fits(norm: &BatchNorm, conv: &Conv2d) -> bool {
        norm.is_alone() && conv.whole_kernel().is_some()
    }

    /// Of two that fit.
    pub(crate) fn new(norm: BatchNorm, conv: Arc<dyn Layer>) -> Self {
        NormedConv { norm, conv }
    }

    /// Parameters of the norm.
    fn norm_params(&self) -> usize {
        self.norm.parameters().iter().map(ParameterSpec::elements).sum()
    }

    fn whole(&self) -> &Whole {
        let conv: &dyn Any = &*self.conv;
        let whole = conv.downcast_ref::<Conv2d>().and_then(Conv2d::whole_kernel);
        whole.expect("only such convolutions fit")
    }
}

impl Layer for NormedConv {
    fn output(&self) -> &Shape {
        self.conv.output()
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        let mut parameters = self.norm.parameters();
        parameters.extend(self.conv.parameters());
        parameters
    }

    fn flops(&self) -> u64 {
        self.norm.flops() + self.conv.flops()
    }

    fn needs(&self) -> Needs {
        Needs { input: true, ..self.conv.needs() }
    }

    fn saved(&self, records: usize) -> usize {
        self.norm.saved(records)
    }

    fn forward(&self, _: Forward<'_>) {
        unreachable!("batch norm takes all records at once");
    }

    fn backward(&self, _: Backward<'_>) {
        unreachable!("batch norm takes all records at once");
    }

    fn wide(&self) -> Option<&dyn Wide> {
        Some(self)
    }
}

impl Wide for NormedConv {
    fn scratch(&self, records: usize, threads: usize) -> usize {
        Wide::scratch(&self.norm, records, threads).max(self.whole().scratch(records, threads))
    }

    fn forward(&self, team: &mut Team, pass: Forward<'_>) {
        let (norm, conv) = pass.params.split_at(self.norm_params());
        let input = Measured { params: norm, x: pass.x, context: pass.context };
        self.norm.measure(team, input, pass.saved, pass.scratch);
        let prologue = self.norm.prologue(pass.saved);
        self.whole().forward_from(team, Forward { params: conv, saved: &mut [], ..pass }, Some(prologue));
    }

    fn backward(&self, team: &mut Team, pass: Backward<'_>) {
        let (norm, conv) = pass.params.split_at(self.norm_params());
        let (dnorm, dconv) = pass.dparams.unwrap_or_default().split_at_mut(norm.len());
        let dx = pass.dx.expect("what a batch norm reads learns");
        let prologue = self.norm.prologue(pass.saved);
        let behind = Backward {
            params: conv,
            dparams: Some(dconv),
            dx: Some(&mut *dx),
            dothers: &mut [],
            scratch: &mut *pass.scratch,
            ..pass
        };
        self.whole().backward_from(team, behind, Some(prologue));
        let before = Backward {
            records: pass.records,
            params: norm,
            packed: &[],
            x: pass.x,
            others: &[],
            y: &[],
            saved: pass.saved,
            dy: dx,
            dx: None,
            add: false,
            dothers: &mut [],
            dparams: Some(dnorm),
            accumulate: pass.accumulate,
            scratch: pass.scratch,
            context: pass.context,
        };
        self.norm.backward_in_place(team, before);
    }
}
