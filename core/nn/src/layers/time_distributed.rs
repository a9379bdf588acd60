//! A layer applied to every time step: x (T, ..), y (T, ..), for a layer from (..) to (..).
//!
//! The steps of N records are N·T records of the inner layer, whose parameters are those of this one. What goes in and
//! out is channels last; where the inner layer wants or gives planar images they are converted here.

use super::relayout::{to_channels_last, to_planar};
use crate::kernels::Isa;
use crate::layer::{
    Backward, Context, Forward, Layer, Misfit, Needs, ParameterSpec, Sharded, Tabled, WeightsShard, Wide,
};
use crate::registry::{ParamDoc, Registry};
use crate::shape::{Layout, Shape};
use crate::team::Team;
use ringspin_job::ParamReader;
use std::ops::Range;

/// One line for the documentation.
pub(crate) const DOC: &str = "applies a layer to every time step (Keras TimeDistributed)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] =
    &[ParamDoc::new("layer", "required", "the layer, such as { type = \"linear\", out_features = 10 }")];

pub(crate) fn build(
    registry: &Registry,
    reader: &mut ParamReader<'_>,
    inputs: &[Shape],
) -> Result<Box<dyn Layer>, Misfit> {
    let [input] = inputs else {
        return Err(Misfit(format!("time_distributed reads one input, {} are given", inputs.len())));
    };
    // What is wrong with the inner layer has been reported where `None` comes.
    let nothing = || Ok(super::flatten::nothing(input.clone()));
    let Some(component) = reader.component("layer") else { return nothing() };
    let (steps, rest) = match input.dims() {
        [steps, rest @ ..] if !rest.is_empty() => (*steps, Shape::new(rest)?),
        _ => {
            return Err(Misfit(format!(
                "time_distributed needs sequences (T × ..), the layer before gives {input}"
            )));
        }
    };
    let Some(built) = registry.build_layer(&component, std::slice::from_ref(&rest), reader.problems()) else {
        return nothing();
    };
    let mut layer = built.map_err(|Misfit(message)| Misfit(format!("in every time step: {message}")))?;
    let wanted = layer.wants(Layout::ChannelsLast);
    let given = layer.arrange(wanted);
    let inner = layer.output().clone();
    let dims: Vec<usize> = std::iter::once(steps).chain(inner.dims().iter().copied()).collect();
    let [converts_input, converts_output] =
        [(&rest, wanted), (&inner, given)].map(|(shape, layout)| conversion(shape, layout));
    let (input, output) = (rest.elements(), Shape::new(&dims)?);
    Ok(Box::new(TimeDistributed { layer, steps, input, converts_input, converts_output, output }))
}

/// Pixels and channels of images that are planar inside.
fn conversion(shape: &Shape, layout: Layout) -> Option<[usize; 2]> {
    let image =
        shape.as_image().filter(|image| layout == Layout::Planar && image.c > 1 && image.pixels() > 1);
    image.map(|image| [image.pixels(), image.c])
}

struct TimeDistributed {
    layer: Box<dyn Layer>,
    steps: usize,
    /// Numbers of a step.
    input: usize,
    converts_input: Option<[usize; 2]>,
    converts_output: Option<[usize; 2]>,
    output: Shape,
}

/// The numbers as the inner layer has them: in `room`, where they are converted.
fn inside<'a>(conversion: Option<[usize; 2]>, numbers: &'a [f32], room: &'a mut [f32]) -> &'a [f32] {
    match conversion {
        Some([pixels, channels]) if !numbers.is_empty() => {
            to_planar(numbers, room, pixels, channels);
            room
        }
        _ => numbers,
    }
}

impl TimeDistributed {
    /// Numbers that converted inputs and outputs take.
    fn rooms(&self, records: usize) -> [usize; 2] {
        let inputs = if self.converts_input.is_some() { records * self.steps * self.input } else { 0 };
        let outputs = if self.converts_output.is_some() { records * self.output.elements() } else { 0 };
        [inputs, outputs]
    }

    /// Scratch of the inner layer, and room for inputs, outputs and their gradients.
    fn with_rooms(&self, records: usize, inner: usize) -> usize {
        inner + 2 * self.rooms(records).iter().sum::<usize>()
    }

    fn context(&self, context: Context) -> Context {
        Context {
            first_record: context.first_record * self.steps,
            scale: context.scale / self.steps as f32,
            ..context
        }
    }

    fn run_forward(&self, pass: Forward<'_>, run: &mut dyn FnMut(Forward<'_>)) {
        let [inputs, outputs] = self.rooms(pass.records);
        let (room_x, rest) = pass.scratch.split_at_mut(inputs);
        let (room_y, scratch) = rest.split_at_mut(outputs);
        run(Forward {
            records: pass.records * self.steps,
            params: pass.params,
            packed: pass.packed,
            x: inside(self.converts_input, pass.x, room_x),
            others: &[],
            y: if self.converts_output.is_some() { &mut *room_y } else { &mut *pass.y },
            saved: pass.saved,
            scratch,
            context: self.context(pass.context),
        });
        if let Some([pixels, channels]) = self.converts_output {
            to_channels_last(room_y, pass.y, pixels, channels);
        }
    }

    fn run_backward(&self, pass: Backward<'_>, run: &mut dyn FnMut(Backward<'_>)) {
        let [inputs, outputs] = self.rooms(pass.records);
        let (room_x, rest) = pass.scratch.split_at_mut(inputs);
        let (room_dx, rest) = rest.split_at_mut(inputs);
        let (room_y, rest) = rest.split_at_mut(outputs);
        let (room_dy, scratch) = rest.split_at_mut(outputs);
        if let Some([pixels, channels]) = self.converts_output {
            to_planar(pass.dy, room_dy, pixels, channels);
        }
        let mut dx = pass.dx;
        run(Backward {
            records: pass.records * self.steps,
            params: pass.params,
            packed: pass.packed,
            x: inside(self.converts_input, pass.x, room_x),
            others: &[],
            y: inside(self.converts_output, pass.y, room_y),
            saved: pass.saved,
            dy: if self.converts_output.is_some() { room_dy } else { pass.dy },
            dx: dx.as_deref_mut().map(|dx| if self.converts_input.is_some() { &mut *room_dx } else { dx }),
            add: false,
            dothers: &mut [],
            dparams: pass.dparams,
            accumulate: pass.accumulate,
            scratch,
            context: self.context(pass.context),
        });
        if let (Some([pixels, channels]), Some(dx)) = (self.converts_input, dx) {
            to_channels_last(room_dx, dx, pixels, channels);
        }
    }
}

impl Layer for TimeDistributed {
    fn output(&self) -> &Shape {
        &self.output
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        self.layer.parameters()
    }

    fn flops(&self) -> u64 {
        self.steps as u64 * self.layer.flops()
    }

    fn whole_below(&self, input: usize) -> Option<usize> {
        self.layer.whole_below(input)
    }

    fn needs(&self) -> Needs {
        self.layer.needs()
    }

    fn least_records(&self) -> usize {
        self.layer.least_records().div_ceil(self.steps)
    }

    fn rows(&self) -> usize {
        self.layer.rows() * self.steps
    }

    fn saved(&self, records: usize) -> usize {
        self.layer.saved(records * self.steps)
    }

    fn scratch(&self, records: usize) -> usize {
        self.with_rooms(records, self.layer.scratch(records * self.steps))
    }

    fn packed(&self, learns: bool) -> usize {
        self.layer.packed(learns)
    }

    fn pack(&self, isa: Isa, params: &[f32], packed: &mut [f32]) {
        self.layer.pack(isa, params, packed);
    }

    fn forward(&self, pass: Forward<'_>) {
        self.run_forward(pass, &mut |pass| self.layer.forward(pass));
    }

    fn backward(&self, pass: Backward<'_>) {
        self.run_backward(pass, &mut |pass| self.layer.backward(pass));
    }

    fn wide(&self) -> Option<&dyn Wide> {
        self.layer.wide().is_some().then_some(self)
    }

    fn sharded(&self) -> Option<&dyn Sharded> {
        // Shards read what the engine keeps, which is not converted.
        let same = self.converts_input.is_none() && self.converts_output.is_none();
        self.layer.sharded().filter(|_| same).map(|_| self as &dyn Sharded)
    }

    fn tabled(&self) -> Option<&dyn Tabled> {
        // Inputs and rows of gradients are counted over all records, with steps or without.
        self.layer.tabled()
    }
}

impl TimeDistributed {
    fn inner_wide(&self) -> &dyn Wide {
        self.layer.wide().expect("asked only when the inner layer is wide")
    }

    fn inner_sharded(&self) -> &dyn Sharded {
        self.layer.sharded().expect("asked only when the inner layer is sharded")
    }
}

impl Wide for TimeDistributed {
    fn scratch(&self, records: usize, threads: usize) -> usize {
        self.with_rooms(records, self.inner_wide().scratch(records * self.steps, threads))
    }

    fn mixes_records(&self) -> bool {
        self.layer.wide().is_some_and(|wide| wide.mixes_records())
    }

    fn forward(&self, team: &mut Team, pass: Forward<'_>) {
        self.run_forward(pass, &mut |pass| self.inner_wide().forward(team, pass));
    }

    fn backward(&self, team: &mut Team, pass: Backward<'_>) {
        self.run_backward(pass, &mut |pass| self.inner_wide().backward(team, pass));
    }
}

impl Sharded for TimeDistributed {
    fn shards(&self, records: usize, threads: usize) -> usize {
        self.inner_sharded().shards(records * self.steps, threads)
    }

    fn shard_ranges(&self, shard: usize, shards: usize) -> [Range<usize>; 2] {
        self.inner_sharded().shard_ranges(shard, shards)
    }

    fn weights_shard(&self, pass: WeightsShard<'_>) {
        let records = pass.records * self.steps;
        self.inner_sharded().weights_shard(WeightsShard { records, ..pass });
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;
    use crate::layer::Misfit;
    use crate::registry::Registry;
    use crate::shape::Shape;
    use ringspin_job::{Component, Problems, Value};
    use std::collections::BTreeMap;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("time_distributed", 5e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("time_distributed", 4e-3);
    }

    #[test]
    fn mistakes_inside_are_reported_with_their_path() {
        let build = |layer: &[(&str, Value)], dims: &[usize]| {
            let layer: BTreeMap<String, Value> =
                layer.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
            let component =
                Component::new("model.layers[1]", "time_distributed").with("layer", Value::Table(layer));
            let mut problems = Problems::new();
            let shape = Shape::new(dims).unwrap();
            let built = Registry::standard().build_layer(&component, &[shape], &mut problems).unwrap();
            (built.err(), problems.to_string())
        };
        let linear = ("type", Value::from("linear"));
        let (_, text) = build(&[linear.clone(), ("out_faetures", Value::Int(3))], &[4, 3]);
        assert!(text.contains("model.layers[1].layer.out_faetures"), "{text}");
        let (_, text) = build(&[("type", Value::from("linaer"))], &[4, 3]);
        assert!(text.contains("model.layers[1].layer: unknown layer \"linaer\"; did you mean"), "{text}");
        let (_, text) = build(&[("out_features", Value::Int(3))], &[4, 3]);
        assert!(text.contains("model.layers[1].layer: expected a layer"), "{text}");
        let (misfit, _) = build(&[("type", Value::from("conv2d"))], &[4, 3]);
        assert!(misfit.is_some_and(|Misfit(text)| text.contains("in every time step: conv2d needs images")));
        let (misfit, _) = build(&[linear, ("out_features", Value::Int(3))], &[4]);
        assert!(misfit.is_some_and(|Misfit(text)| text.contains("needs sequences")));
    }
}
