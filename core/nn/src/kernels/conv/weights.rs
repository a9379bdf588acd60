//! Weights rearranged once a step for the inner loops: panels of output channels, steps in the order in which they
//! are used.

use super::tile::{PANEL, panel_width};
use crate::arena::Shared;
use crate::team::Team;

/// Numbers of panels that hold `outputs` columns of `steps` steps.
pub(super) fn panels_len(outputs: usize, steps: usize) -> usize {
    (0..outputs).step_by(PANEL).map(|first| panel_width((outputs - first).min(PANEL)) * steps).sum()
}

/// Where the panel that begins with output channel `first`, a multiple of [`PANEL`], lies.
pub(super) fn panel_at(first: usize, steps: usize) -> usize {
    first * steps
}

/// One packing: `packed[panel][block of inputs][tap][input][output of the panel]`; columns that no output has are 0.
pub(super) struct PackPanels<'a> {
    /// Columns and rows of the matrix that each tap is.
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    /// Inputs of a block.
    pub(super) block: usize,
    /// Where each tap lies among the weights of an (output, input), in the order of the steps.
    pub(super) taps: &'a [usize],
    /// Numbers from an output, and from an input, to the next in the weights.
    pub(super) output_stride: usize,
    pub(super) input_stride: usize,
}

impl PackPanels<'_> {
    pub(super) fn len(&self) -> usize {
        panels_len(self.outputs, self.inputs * self.taps.len())
    }

    pub(super) fn run(&self, team: &mut Team, weights: &[f32], packed: &mut [f32]) {
        let steps = self.inputs * self.taps.len();
        let packed = Shared::new(&mut packed[..self.len()]);
        team.tasks(self.outputs.div_ceil(PANEL), &|panel, _| {
            let first = panel * PANEL;
            let columns = (self.outputs - first).min(PANEL);
            let width = panel_width(columns);
            // SAFETY: panels do not overlap, and every one has one task.
            let panel =
                unsafe { packed.write(panel_at(first, steps)..panel_at(first, steps) + width * steps) };
            self.panel(&weights[first * self.output_stride..], columns, panel);
        });
    }

    fn panel(&self, weights: &[f32], columns: usize, mut panel: &mut [f32]) {
        let width = panel_width(columns);
        for first in (0..self.inputs).step_by(self.block) {
            let inputs = self.block.min(self.inputs - first);
            let block;
            (block, panel) = panel.split_at_mut(inputs * self.taps.len() * width);
            for column in 0..width {
                let mut to = block[column..].iter_mut().step_by(width);
                if column >= columns {
                    to.for_each(|to| *to = 0.0);
                    continue;
                }
                let from = &weights[column * self.output_stride + first * self.input_stride..];
                for tap in self.taps {
                    let inputs = from[*tap..].iter().step_by(self.input_stride).take(inputs);
                    inputs.zip(&mut to).for_each(|(from, to)| *to = *from);
                }
            }
        }
    }
}
