//! Writes the layers of a graph one after the other; every layer is called by its name, which the next ones read.

use ringspin_job::{Component, Value};
use std::collections::HashSet;

/// The name of a layer, for the inputs of others.
pub(super) type Name = String;

/// The layers so far.
#[derive(Default)]
pub(super) struct Net {
    layers: Vec<Component>,
    names: HashSet<Name>,
}

/// A convolution: filters, kernel, stride, padding.
#[derive(Clone, Copy)]
pub(super) struct Filters {
    pub(super) count: usize,
    pub(super) kernel: [usize; 2],
    pub(super) stride: usize,
    pub(super) padding: [usize; 2],
    pub(super) groups: usize,
    pub(super) bias: bool,
}

/// `count` filters of `size` rows and columns that keep the size of the image, without bias.
pub(super) fn filters(count: usize, size: usize) -> Filters {
    let padding = [size / 2; 2];
    Filters { count, kernel: [size; 2], stride: 1, padding, groups: 1, bias: false }
}

impl Net {
    /// Adds a layer called `name`.
    pub(super) fn named(
        &mut self,
        name: &str,
        kind: &str,
        inputs: &[&str],
        params: &[(&str, Value)],
    ) -> Name {
        let inputs = inputs.iter().map(|input| Value::Text((*input).into())).collect();
        let layer = Component::new("", kind).with("name", name).with("inputs", Value::List(inputs));
        let layer = params.iter().fold(layer, |layer, (key, value)| layer.with(key, value.clone()));
        self.layers.push(layer);
        self.names.insert(name.into());
        name.into()
    }

    /// Adds a layer without parameters of its own, called after what it reads.
    pub(super) fn after(&mut self, input: &str, kind: &str, params: &[(&str, Value)]) -> Name {
        let mut name = format!("{input}:{kind}");
        while self.names.contains(&name) {
            name.push('\'');
        }
        self.named(&name, kind, &[input], params)
    }

    pub(super) fn relu(&mut self, input: &str) -> Name {
        self.after(input, "relu", &[])
    }

    pub(super) fn conv(&mut self, name: &str, input: &str, filters: Filters) -> Name {
        let pair = |[h, w]: [usize; 2]| Value::List(vec![h.into(), w.into()]);
        let params = [
            ("out_channels", filters.count.into()),
            ("kernel_size", pair(filters.kernel)),
            ("stride", filters.stride.into()),
            ("padding", pair(filters.padding)),
            ("groups", filters.groups.into()),
            ("bias", filters.bias.into()),
        ];
        self.named(name, "conv2d", &[input], &params)
    }

    pub(super) fn norm(&mut self, name: &str, input: &str, eps: f64) -> Name {
        self.named(name, "batch_norm2d", &[input], &[("eps", eps.into())])
    }

    pub(super) fn linear(&mut self, name: &str, input: &str, outputs: usize) -> Name {
        self.named(name, "linear", &[input], &[("out_features", outputs.into())])
    }

    pub(super) fn max_pool(
        &mut self,
        input: &str,
        size: usize,
        stride: usize,
        params: &[(&str, Value)],
    ) -> Name {
        let all = [&[("kernel_size", size.into()), ("stride", stride.into())], params].concat();
        self.after(input, "max_pool2d", &all)
    }

    /// The mean over all pixels, as a vector.
    pub(super) fn mean(&mut self, input: &str) -> Name {
        let pool = self.after(input, "adaptive_avg_pool2d", &[("output_size", 1usize.into())]);
        self.after(&pool, "flatten", &[])
    }

    pub(super) fn dropout(&mut self, input: &str, p: f64) -> Name {
        self.after(input, "dropout", &[("p", p.into())])
    }

    /// One number of the record.
    pub(super) fn column(&mut self, name: &str, place: usize) -> Name {
        let range = [("dim", 0usize.into()), ("start", place.into()), ("end", (place + 1).into())];
        self.named(name, "slice", &["input"], &range)
    }

    /// The row of a table that one number stands for.
    pub(super) fn embedding(
        &mut self,
        name: &str,
        column: &str,
        [rows, width]: [usize; 2],
        (init, sparse): (&str, &'static str),
    ) -> Name {
        let sizes = [
            ("num_embeddings", rows.into()),
            ("embedding_dim", width.into()),
            ("init", Value::from(init)),
            ("sparse", Value::from(sparse)),
        ];
        let row = self.named(name, "embedding", &[column], &sizes);
        self.after(&row, "flatten", &[])
    }

    /// Joins layers.
    pub(super) fn join(&mut self, name: &str, kind: &str, inputs: &[Name]) -> Name {
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.named(name, kind, &inputs, &[])
    }

    pub(super) fn layers(self) -> Vec<Component> {
        self.layers
    }
}
