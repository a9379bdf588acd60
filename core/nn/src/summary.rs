//! What a model is and needs, as text: the table that users of Keras and PyTorch expect.

use crate::fuse::{norms_in_convolutions, prepare};
use crate::layer::ParameterKind;
use crate::model::Model;
use crate::plan::{Plan, Purpose};
use crate::workspace::round;
use ringspin_job::format_bytes;
use std::fmt::Write;

impl Model {
    /// One line a layer: output shape, parameters, operations of one record, and the memory of its outputs.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let rule = "-".repeat(78);
        let head = ["layer", "output (H × W × C)", "parameters", "MFLOP", "activations"];
        let mut line = |cells: [&str; 5]| {
            let [name, output, parameters, flop, bytes] = cells;
            // Writing to a String can not fail.
            let _ = writeln!(text, "{name:<22} {output:<20} {parameters:>12} {flop:>9} {bytes:>11}");
        };
        line(head);
        line([&rule[..22], &rule[..20], &rule[..12], &rule[..9], &rule[..11]]);
        line(["input", &self.input().to_string(), "0", "", &kib(self.input().elements())]);
        for layer in self.layers() {
            line([
                &format!("{} ({})", layer.prefix, layer.name),
                &layer.output.to_string(),
                &layer.parameters.to_string(),
                &format!("{:.3}", layer.flops as f64 * 1e-6),
                &kib(layer.output.elements()),
            ]);
        }
        line([&rule[..22], &rule[..20], &rule[..12], &rule[..9], &rule[..11]]);
        let flops: u64 = self.layers().iter().map(|layer| layer.flops).sum();
        let activations: usize = self.layers().iter().map(|layer| layer.output.elements()).sum();
        let parameters = self.parameter_count().to_string();
        line(["total", "", &parameters, &format!("{:.3}", flops as f64 * 1e-6), &kib(activations)]);
        for parameter in self.parameters() {
            let updates = match parameter.kind {
                ParameterKind::Rows { lazy: true } => {
                    "lazy: untouched rows, and what the optimizer keeps of them, stay"
                }
                ParameterKind::Rows { lazy: false } => "exact: untouched rows see a gradient of 0",
                ParameterKind::Learned | ParameterKind::Statistic => continue,
            };
            // As above.
            let _ = writeln!(text, "{}: sparse gradients; updates are {updates}", parameter.name);
        }
        text
    }

    /// Numbers of the gradients of a step of `records` records.
    fn gradient_numbers(&self, records: usize) -> usize {
        let tables = self.parameters().iter().filter(|parameter| parameter.kind.is_rows());
        let rows = tables.map(|table| {
            table
                .range
                .len()
                .min(self.looked_up(table).saturating_mul(records).saturating_mul(table.shape[1]))
        });
        self.dense_count() + rows.sum::<usize>()
    }

    /// Bytes that prediction needs for micro-batches of `records` records on `threads` threads, parameters included.
    pub fn inference_bytes(&self, records: usize, threads: usize) -> u64 {
        let round = round(self, records.max(1));
        let graph = prepare(self.graph(), round);
        let plan = Plan::new(&graph, self.input(), round, threads, Purpose::Inference);
        4 * (plan.numbers(threads) + self.parameter_count()) as u64
    }

    /// Bytes that training needs for micro-batches of `records` records on `threads` threads: parameters,
    /// gradients, and everything a [`crate::Workspace`] allocates. Optimizer state comes on top.
    pub fn memory_bytes(&self, records: usize, threads: usize) -> u64 {
        let graph = norms_in_convolutions(self.graph());
        let plan = Plan::new(&graph, self.input(), records.max(1), threads, Purpose::Training);
        4 * (plan.numbers(threads) + self.parameter_count() + self.gradient_numbers(records.max(1))) as u64
    }

    /// The same where passes update parameters at once ([`crate::Workspace::with_updates`]): gradients of those are kept
    /// nowhere.
    pub fn updating_bytes(&self, records: usize, threads: usize) -> u64 {
        let graph = norms_in_convolutions(self.graph());
        let mut plan = Plan::new(&graph, self.input(), records.max(1), threads, Purpose::Training);
        let left: usize = plan.update_at_once(&graph, threads).iter().map(ExactSizeIterator::len).sum();
        let gradients = self.gradient_numbers(records.max(1)) - left;
        4 * (plan.numbers(threads) + self.parameter_count() + gradients) as u64
    }
}

/// Bytes of so many numbers, in KiB.
fn kib(numbers: usize) -> String {
    if numbers.is_multiple_of(256) {
        format_bytes(4 * numbers as u64)
    } else {
        format!("{:.1} KiB", numbers as f64 / 256.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Model, Registry, Shape};
    use ringspin_job::{Component, ModelSpec};

    #[test]
    fn shows_layers_and_totals() {
        let spec = ModelSpec { model: Component::new("model", "lenet5"), layers: Vec::new() };
        let input = Shape::image(28, 28, 1).unwrap();
        let loss = Component::new("loss", "cross_entropy");
        let model = Model::build(&Registry::standard(), &spec, &input, &loss).unwrap();
        let text = model.summary();
        let conv = text.lines().find(|line| line.starts_with("4 (conv2d)")).unwrap();
        assert!(conv.contains("8 × 8 × 12") && conv.contains("1812") && conv.contains("0.230"), "{conv}");
        let total = text.lines().last().unwrap();
        assert!(total.contains("22278") && total.contains("0.452"), "{total}");
        // Kept beside the parameters: well below the 10 MB that all activations and gradients would need.
        let bytes = model.memory_bytes(128, 2);
        assert!((178_224..4_000_000).contains(&bytes), "{bytes}");
    }
}
