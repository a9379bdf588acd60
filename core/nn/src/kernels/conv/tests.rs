//! Every pass against a plain one in double precision, on every CPU and any number of threads.

use super::*;
use proptest::prelude::*;

pub(super) fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + seed * 17 + i / 7) % 31) as f32 * 0.25 - 3.5).collect()
}

/// Everything a convolution can be asked for.
#[derive(Clone, Debug)]
struct Case {
    size: ConvSize,
    records: usize,
    add: bool,
    bias: bool,
    bounds: Bounds,
    prologue: bool,
    choice: Choice,
}

/// Calls `visit(x, w, y)` with the places of every product of the convolution.
fn products(size: &ConvSize, records: usize, mut visit: impl FnMut(usize, usize, usize)) {
    let ([h, w, c], [oh, ow, k]) = (size.input, size.output);
    let (inputs, outputs) = (c / size.groups, k / size.groups);
    for n in 0..records {
        for (y, x) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
            for (i, j) in (0..size.kernel[0]).flat_map(|i| (0..size.kernel[1]).map(move |j| (i, j))) {
                let row = (y * size.stride[0] + i * size.dilation[0]).checked_sub(size.padding[0]);
                let column = (x * size.stride[1] + j * size.dilation[1]).checked_sub(size.padding[1]);
                let (Some(row), Some(column)) = (row, column) else { continue };
                if row >= h || column >= w {
                    continue;
                }
                for (o, ci) in (0..k).flat_map(|o| (0..inputs).map(move |ci| (o, ci))) {
                    let input = ((n * h + row) * w + column) * c + o / outputs * inputs + ci;
                    let tap = ((o * inputs + ci) * size.kernel[0] + i) * size.kernel[1] + j;
                    visit(input, tap, ((n * oh + y) * ow + x) * k + o);
                }
            }
        }
    }
}

struct Data {
    x: Vec<f32>,
    weights: Vec<f32>,
    dy: Vec<f32>,
    bias: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Case {
    fn data(&self) -> Data {
        let (size, records) = (&self.size, self.records);
        Data {
            x: numbers(records * size.input_len(), 1),
            weights: numbers(size.weights_len(), 2),
            dy: numbers(records * size.output_len(), 3),
            bias: numbers(size.output[2], 4),
            scale: numbers(size.input[2], 5),
            shift: numbers(size.input[2], 6),
        }
    }

    /// x as the convolution sees it.
    fn seen(&self, data: &Data) -> Vec<f64> {
        let channels = self.size.input[2];
        let see = |(i, x): (usize, &f32)| {
            let y = x.mul_add(data.scale[i % channels], data.shift[i % channels]).clamp(0.0, 6.0);
            f64::from(if self.prologue { y } else { *x })
        };
        data.x.iter().enumerate().map(see).collect()
    }

    fn rounding(&self) -> Rounding {
        match self.choice {
            choice if choice.bf16(&self.size) => Rounding::Bf16,
            Choice { winograd: true, .. } => Rounding::Mixed,
            _ => Rounding::Own,
        }
    }

    fn prologue<'a>(&self, data: &'a Data) -> Option<Prologue<'a>> {
        self.prologue.then_some(Prologue { scale: &data.scale, shift: &data.shift, bounds: Bounds::RELU6 })
    }
}

/// What rounds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounding {
    /// The terms of each sum.
    Own,
    /// Terms of neighbours too.
    Mixed,
    /// Both numbers of a product, by 2⁻⁹ each.
    Bf16,
}

/// What a pass writes starts with this where it adds.
const THERE: f32 = 0.5;

/// Whether `got` is `expected` but for rounding of terms whose magnitudes add up to `scale`: relative to each number's
/// own, but where a transform mixes the terms of neighbours to the largest.
fn close(
    what: &str,
    got: &[f32],
    expected: &[f64],
    scale: &[f64],
    rounding: Rounding,
) -> Result<(), TestCaseError> {
    let largest = if rounding == Rounding::Mixed { scale.iter().copied().fold(0.0, f64::max) } else { 0.0 };
    let unit = if rounding == Rounding::Bf16 { 1.0 / 128.0 } else { 2e-5 };
    for (i, (got, (expected, scale))) in got.iter().zip(expected.iter().zip(scale)).enumerate() {
        let off = (f64::from(*got) - expected).abs();
        prop_assert!(off <= unit * (1.0 + scale.max(largest)), "{} {}: {} {}", what, i, got, expected);
    }
    Ok(())
}

/// The bits of `run` on every CPU and for 1, 2 and 3 threads, which must be the same.
fn everywhere(
    what: &str,
    bf16: bool,
    run: impl Fn(&mut Team, Isa) -> Vec<f32>,
) -> Result<Vec<f32>, TestCaseError> {
    let mut first: Option<Vec<f32>> = None;
    let best = Isa::best().with_bf16(bf16);
    for isa in Isa::available().into_iter().map(|isa| isa.with_bf16(bf16)) {
        for threads in 1..=3 {
            if threads > 1 && isa != best {
                continue;
            }
            let got = run(&mut Team::new(threads).expect("threads"), isa);
            let expected = first.get_or_insert_with(|| got.clone());
            let same = got.iter().zip(expected.iter()).all(|(a, b)| a.to_bits() == b.to_bits());
            prop_assert!(same, "{} on {} with {} threads", what, isa, threads);
        }
    }
    Ok(first.unwrap_or_default())
}

fn check_forward(case: &Case) -> Result<(), TestCaseError> {
    let (size, records, data) = (&case.size, case.records, case.data());
    let (k, seen) = (size.output[2], case.seen(&data));
    let y_len = records * size.output_len();
    let y = everywhere("forward", case.choice.bf16, |team, isa| {
        let pass = Forward::plan(size, case.choice);
        let mut packed = vec![f32::NAN; pass.packed()];
        pass.pack(team, isa, &data.weights, &mut packed);
        let mut scratch = vec![f32::NAN; pass.scratch(records, team.threads())];
        let mut y = vec![if case.add { THERE } else { f32::NAN }; y_len];
        let begin = match (case.add, case.bias) {
            (true, _) => Begin::Present,
            (false, true) => Begin::Bias(&data.bias),
            (false, false) => Begin::Zero,
        };
        let args = ForwardArgs {
            records,
            x: &data.x,
            weights: &packed,
            y: &mut y,
            begin,
            bounds: case.bounds,
            prologue: case.prologue(&data),
        };
        pass.run(team, isa, args, &mut scratch);
        y
    })?;
    let start = |i: usize| match (case.add, case.bias) {
        (true, _) => f64::from(THERE),
        (false, true) => f64::from(data.bias[i % k]),
        (false, false) => 0.0,
    };
    let mut expected: Vec<f64> = (0..y_len).map(start).collect();
    let mut scale = vec![0.0; y_len];
    products(size, records, |x, w, y| {
        let product = seen[x] * f64::from(data.weights[w]);
        expected[y] += product;
        scale[y] += product.abs();
    });
    let Bounds { least, most } = case.bounds;
    expected.iter_mut().for_each(|y| *y = y.clamp(least.into(), most.into()));
    close("y", &y, &expected, &scale, case.rounding())
}

fn check_backward_data(case: &Case) -> Result<(), TestCaseError> {
    let (size, records, data) = (&case.size, case.records, case.data());
    let x_len = records * size.input_len();
    let dx = everywhere("backward-data", case.choice.bf16, |team, isa| {
        let pass = BackwardData::plan(size, case.choice);
        let mut packed = vec![f32::NAN; pass.packed()];
        pass.pack(team, isa, &data.weights, &mut packed);
        let mut scratch = vec![f32::NAN; pass.scratch(records, team.threads())];
        let mut dx = vec![if case.add { THERE } else { f32::NAN }; x_len];
        let args = BackwardDataArgs { records, dy: &data.dy, weights: &packed, dx: &mut dx, add: case.add };
        pass.run(team, isa, args, &mut scratch);
        dx
    })?;
    let mut expected = vec![if case.add { f64::from(THERE) } else { 0.0 }; x_len];
    let mut scale = vec![0.0; x_len];
    products(size, records, |x, w, y| {
        let product = f64::from(data.dy[y]) * f64::from(data.weights[w]);
        expected[x] += product;
        scale[x] += product.abs();
    });
    close("dx", &dx, &expected, &scale, case.rounding())
}

fn check_backward_weights(case: &Case) -> Result<(), TestCaseError> {
    let (size, records, data) = (&case.size, case.records, case.data());
    let (k, seen, len) = (size.output[2], case.seen(&data), size.weights_len());
    let begin = if case.add { THERE } else { f32::NAN };
    let got = everywhere("backward-weights", case.choice.bf16, |team, isa| {
        let pass = BackwardWeights::plan(size, case.choice);
        let mut scratch = vec![f32::NAN; pass.scratch(records, team.threads())];
        let (mut dweights, mut dbias) = (vec![begin; len], vec![begin; k]);
        let args = BackwardWeightsArgs {
            records,
            x: &data.x,
            dy: &data.dy,
            prologue: case.prologue(&data),
            dweights: &mut dweights,
            dbias: case.bias.then_some(&mut dbias[..]),
            add: case.add,
        };
        pass.run(team, isa, args, &mut scratch);
        if case.bias {
            dweights.extend(dbias);
        }
        dweights
    })?;
    let mut expected = vec![if case.add { f64::from(THERE) } else { 0.0 }; len + k];
    let mut scale = vec![0.0; len + k];
    products(size, records, |x, w, y| {
        let product = f64::from(data.dy[y]) * seen[x];
        expected[w] += product;
        scale[w] += product.abs();
    });
    for (i, dy) in data.dy.iter().enumerate() {
        expected[len + i % k] += f64::from(*dy);
        scale[len + i % k] += f64::from(dy.abs());
    }
    close("dweights", &got, &expected, &scale, case.rounding())
}

/// Sizes on both sides of the borders of vectors, panels, tiles and blocks.
fn cases() -> impl Strategy<Value = Case> {
    let image = (1usize..20, 1usize..20, 1usize..4);
    let channels = (1usize..70, 1usize..70, prop_oneof![3 => Just(1usize), 1 => Just(2usize)]);
    let window =
        ([1usize..6, 1usize..6], [1usize..4, 1usize..4], [0usize..4, 0usize..4], [1usize..3, 1usize..3]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (image, channels, window, flags).prop_filter_map("the window fits", |(image, channels, window, flags)| {
        let ((h, w, records), (inputs, outputs, groups)) = (image, channels);
        let (kernel, stride, padding, dilation) = window;
        let pixels = |axis: usize, size: usize| {
            let span = (kernel[axis] - 1) * dilation[axis] + 1;
            Some((size + 2 * padding[axis]).checked_sub(span)? / stride[axis] + 1)
        };
        let size = ConvSize {
            input: [h, w, inputs * groups],
            output: [pixels(0, h)?, pixels(1, w)?, outputs * groups],
            kernel,
            stride,
            padding,
            dilation,
            groups,
        };
        let (add, bias, relu, prologue) = flags;
        Some(Case {
            size,
            records,
            add,
            bias,
            bounds: Bounds::RELU6.when(relu),
            prologue,
            choice: Choice { winograd: false, bf16: false },
        })
    })
}

/// The same for filters of one pixel.
fn pointwise_cases() -> impl Strategy<Value = Case> {
    cases().prop_filter_map("no padding is needed", |mut case| {
        let pixels = |axis: usize| (case.size.input[axis] - 1) / case.size.stride[axis] + 1;
        case.size.output = [pixels(0), pixels(1), case.size.output[2]];
        (case.size.kernel, case.size.padding, case.size.dilation) = ([1; 2], [0; 2], [1; 2]);
        Some(case)
    })
}

/// The same for a filter a channel.
fn depthwise_cases() -> impl Strategy<Value = Case> {
    cases().prop_map(|mut case| {
        let channels = (case.size.input[2] / case.size.groups).max(2);
        (case.size.input[2], case.size.output[2], case.size.groups) = (channels, channels, channels);
        case
    })
}

/// The same for 3 × 3 with stride 1, by F(4×4, 3×3).
fn winograd_cases() -> impl Strategy<Value = Case> {
    cases().prop_filter_map("the window fits", |mut case| {
        let padding = case.size.padding.map(|padding| padding.min(2));
        let channels = [case.size.input[2], case.size.output[2]].map(|all| all / case.size.groups);
        let pixels =
            |axis: usize| (case.size.input[axis] + 2 * padding[axis]).checked_sub(2).filter(|size| *size > 0);
        let output = [pixels(0)?, pixels(1)?, channels[1]];
        let [h, w, _] = case.size.input;
        let (input, ones) = ([h, w, channels[0]], [1; 2]);
        let (kernel, stride, dilation) = ([3; 2], ones, ones);
        case.size = ConvSize { input, output, kernel, stride, padding, dilation, groups: 1 };
        case.choice = Choice { winograd: true, bf16: false };
        Some(case).filter(|case| case.choice.winograd(&case.size))
    })
}

/// The same with operands rounded to bf16: of any size, and of one pixel.
fn bf16_cases() -> impl Strategy<Value = Case> {
    prop_oneof![cases(), pointwise_cases()].prop_filter_map("enough channels", |mut case| {
        case.choice.bf16 = true;
        Some(case).filter(|case| case.choice.bf16(&case.size))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn bf16_is_right_and_the_same_everywhere(case in bf16_cases()) {
        check_forward(&case)?;
        check_backward_data(&case)?;
        check_backward_weights(&case)?;
    }

    #[test]
    fn forward_is_right_and_the_same_everywhere(case in cases()) {
        check_forward(&case)?;
    }

    #[test]
    fn backward_data_is_right_and_the_same_everywhere(case in cases()) {
        check_backward_data(&case)?;
    }

    #[test]
    fn backward_weights_is_right_and_the_same_everywhere(case in cases()) {
        check_backward_weights(&case)?;
    }

    #[test]
    fn filters_of_one_pixel_are_right_and_the_same_everywhere(case in pointwise_cases()) {
        check_forward(&case)?;
        check_backward_data(&case)?;
        check_backward_weights(&case)?;
    }

    #[test]
    fn depthwise_is_right_and_the_same_everywhere(case in depthwise_cases()) {
        check_forward(&case)?;
        check_backward_data(&case)?;
        check_backward_weights(&case)?;
    }

    #[test]
    fn winograd_is_right_and_the_same_everywhere(case in winograd_cases()) {
        check_forward(&case)?;
        check_backward_data(&case)?;
        check_backward_weights(&case)?;
    }
}

/// A convolution of single pixels and the depthwise one behind it have the bits that each has by itself.
#[test]
fn two_together_are_the_same_as_one_after_the_other() {
    let choice = Choice { winograd: false, bf16: false };
    for (image, inputs, channels) in
        [([7, 9], 3, 2), ([5, 4], 16, 17), ([1, 1], 8, 40), ([33, 20], 24, 70), ([40, 64], 9, 64)]
    {
        for (kernel, stride, padding, records) in
            [(3, 1, 1, 1), (3, 2, 1, 2), (3, 1, 0, 3), (5, 2, 2, 1), (2, 3, 1, 2), (1, 1, 0, 1), (2, 7, 6, 1)]
        {
            if image.iter().any(|side| side + 2 * padding < kernel) {
                continue;
            }
            let first = ConvSize::new([image[0], image[1], inputs], channels, 1, 1, 0);
            let second = ConvSize::new(first.output, channels, kernel, stride, padding);
            let sizes = [first, ConvSize { groups: channels, ..second }];
            let plans = sizes.map(|size| Forward::plan(&size, choice));
            let x = numbers(records * sizes[0].input_len(), 1);
            let bias = [numbers(channels, 2), numbers(channels, 3)];
            let bounds = [Bounds::RELU6, Bounds::RELU];
            for (isa, threads) in
                Isa::available().into_iter().flat_map(|isa| [1, 3].map(|count| (isa, count)))
            {
                let mut team = Team::new(threads).unwrap().with_isa(isa);
                let packed = [0, 1].map(|i| {
                    let mut packed = vec![f32::NAN; plans[i].packed()];
                    plans[i].pack(&mut team, isa, &numbers(sizes[i].weights_len(), 4 + i), &mut packed);
                    packed
                });
                let mut values = vec![x.clone()];
                for i in [0, 1] {
                    let mut y = vec![f32::NAN; records * sizes[i].output_len()];
                    let args = ForwardArgs {
                        records,
                        x: &values[i],
                        weights: &packed[i],
                        y: &mut y,
                        begin: Begin::Bias(&bias[i]),
                        bounds: bounds[i],
                        prologue: None,
                    };
                    plans[i].run(
                        &mut team,
                        isa,
                        args,
                        &mut vec![f32::NAN; plans[i].scratch(records, threads)],
                    );
                    values.push(y);
                }
                let mut y = vec![f32::NAN; values[2].len()];
                let scratch = &mut vec![f32::NAN; plans[0].scratch_expanded(&plans[1], records, threads)];
                let args = ExpandedArgs {
                    records,
                    x: &x,
                    weights: [&packed[0], &packed[1]],
                    bias: [&bias[0], &bias[1]],
                    bounds,
                    y: &mut y,
                };
                plans[0].run_expanded(&plans[1], (&mut team, isa), args, scratch);
                let bits = |numbers: &[f32]| numbers.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(
                    bits(&y),
                    bits(&values[2]),
                    "{image:?} {channels} {kernel} {stride} {isa} {threads}"
                );
            }
        }
    }
}
