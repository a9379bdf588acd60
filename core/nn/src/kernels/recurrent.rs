//! One time step of recurrent cells: gates from their sums, and the gradients. Each number of a state for itself, so
//! that a kernel runs once over the rows (records) of a step.
//!
//! The formulas are in `layers::{lstm, gru, rnn}`.

use super::lanes::{LANES, Lanes, load_or};
use super::prefetch::prefetch;
use super::{Isa, Kernel, math};

/// A kind of cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Lstm,
    Gru,
    Tanh,
    Relu,
}

impl Cell {
    /// Gates: sums of a step for each number of the state.
    pub(crate) fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
            Cell::Tanh | Cell::Relu => 1,
        }
    }

    /// Numbers kept of a step for each number of the state.
    pub(crate) fn kept(self) -> usize {
        match self {
            Cell::Lstm => 5,
            Cell::Gru => 4,
            Cell::Tanh | Cell::Relu => 0,
        }
    }

    /// Whether the sums over the input and over the state are kept apart, and have gradients of their own.
    pub(crate) fn splits(self) -> bool {
        self == Cell::Gru
    }
}

/// Which records a step belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Active<'a> {
    /// The step.
    pub(crate) step: f32,
    /// Length of each record; empty when all have all steps.
    pub(crate) lengths: &'a [f32],
}

impl Active<'_> {
    #[inline(always)]
    fn holds(self, row: usize) -> bool {
        self.lengths.is_empty() || self.step < self.lengths[row]
    }
}

/// The state that a step begins with: `rows` of `hidden` numbers, `stride` apart, and what was kept of the step that
/// left it. Empty before the first step, which begins with 0.
#[derive(Clone, Copy)]
pub(crate) struct Before<'a> {
    pub(crate) h: &'a [f32],
    pub(crate) kept: &'a [f32],
}

/// A step forward: matrices of a row a record.
pub(crate) struct Step<'a> {
    pub(crate) hidden: usize,
    pub(crate) active: Active<'a>,
    /// `[gates · hidden]`: sums over the input, and over the state unless the cell [`Cell::splits`] them.
    pub(crate) input: &'a [f32],
    /// `[gates · hidden]`: sums over the state of a cell that splits them, else empty.
    pub(crate) state: &'a [f32],
    /// Added to both, or empty.
    pub(crate) bias: [&'a [f32]; 2],
    pub(crate) before: Before<'a>,
    /// `[kept · hidden]`, to be written.
    pub(crate) kept: &'a mut [f32],
    /// The new state, rows `stride` apart, to be written: 0 where the record has no such step.
    pub(crate) h: &'a mut [f32],
    pub(crate) stride: usize,
}

/// A step backward.
pub(crate) struct StepGradient<'a> {
    pub(crate) hidden: usize,
    pub(crate) active: Active<'a>,
    pub(crate) before: Before<'a>,
    pub(crate) kept: &'a [f32],
    pub(crate) h: &'a [f32],
    pub(crate) stride: usize,
    /// `[hidden]`: gradient of the new state.
    pub(crate) dh: &'a [f32],
    /// `[hidden]`: what the step after passes on beside the gates' gradients, and what this one does.
    pub(crate) carry: &'a mut [f32],
    /// `[gates · hidden]`: gradient of the sums over the input, to be written.
    pub(crate) dinput: &'a mut [f32],
    /// The same of the sums over the state, where it is another ([`Cell::splits`]).
    pub(crate) dstate: &'a mut [f32],
}

/// How many rows ahead memory is asked for.
const ROWS_AHEAD: usize = 2;

/// Makes a step.
///
/// # Panics
/// When the sizes do not fit each other.
pub(crate) fn step(isa: Isa, cell: Cell, step: Step<'_>) {
    let (hidden, gates) = (step.hidden, cell.gates() * step.hidden);
    let rows = step.input.len() / gates;
    let states = if cell.splits() { rows * gates } else { 0 };
    assert!(step.input.len() == rows * gates && step.state.len() == states, "gates of every row");
    assert!(step.bias.iter().all(|bias| bias.is_empty() || bias.len() == gates), "a bias a gate");
    step.before.check(rows, hidden, cell, step.stride);
    assert_eq!(step.kept.len(), rows * cell.kept() * hidden, "room for what is kept");
    check_state(step.h, rows, hidden, step.stride);
    step.active.check(rows);
    match cell {
        Cell::Lstm => isa.run(Forward { rows, step, cell: Lstm }),
        Cell::Gru => isa.run(Forward { rows, step, cell: Gru }),
        Cell::Tanh => isa.run(Forward { rows, step, cell: Tanh }),
        Cell::Relu => isa.run(Forward { rows, step, cell: Relu }),
    }
}

/// Makes a step back.
///
/// # Panics
/// When the sizes do not fit each other.
pub(crate) fn step_gradient(isa: Isa, cell: Cell, step: StepGradient<'_>) {
    let (hidden, gates) = (step.hidden, cell.gates() * step.hidden);
    let rows = step.dh.len() / hidden;
    assert!(step.dh.len() == rows * hidden && step.carry.len() == rows * hidden, "gradients of every row");
    assert_eq!(step.dinput.len(), rows * gates, "gates of every row");
    assert_eq!(step.dstate.len(), if cell.splits() { rows * gates } else { 0 }, "gates of every row");
    step.before.check(rows, hidden, cell, step.stride);
    assert_eq!(step.kept.len(), rows * cell.kept() * hidden, "what was kept of every row");
    check_state(step.h, rows, hidden, step.stride);
    step.active.check(rows);
    match cell {
        Cell::Lstm => isa.run(Backward { rows, step, cell: Lstm }),
        Cell::Gru => isa.run(Backward { rows, step, cell: Gru }),
        Cell::Tanh => isa.run(Backward { rows, step, cell: Tanh }),
        Cell::Relu => isa.run(Backward { rows, step, cell: Relu }),
    }
}

impl Active<'_> {
    fn check(&self, rows: usize) {
        assert!(self.lengths.is_empty() || self.lengths.len() == rows, "a length a record");
    }
}

impl Before<'_> {
    fn check(&self, rows: usize, hidden: usize, cell: Cell, stride: usize) {
        if !self.h.is_empty() {
            check_state(self.h, rows, hidden, stride);
            assert_eq!(self.kept.len(), rows * cell.kept() * hidden, "what was kept of every row");
        }
    }
}

fn check_state(h: &[f32], rows: usize, hidden: usize, stride: usize) {
    assert!(hidden <= stride && h.len() >= (rows - 1) * stride + hidden, "a state a row");
}

/// `count` numbers of a row; all of this is in bounds by the checks of [`step`] and [`step_gradient`].
#[derive(Clone, Copy)]
struct At {
    row: usize,
    /// First number of the state.
    i: usize,
    count: usize,
    hidden: usize,
}

impl At {
    /// # Safety
    /// `numbers` has `parts · hidden` numbers a row, for every row, or none.
    #[inline(always)]
    unsafe fn part<V: Lanes>(self, numbers: &[f32], parts: usize, part: usize) -> V {
        // SAFETY: the caller vouches for it; `i + count` is at most `hidden`.
        unsafe { load_or(numbers, (self.row * parts + part) * self.hidden + self.i, self.count, 0.0) }
    }

    /// Asks for the same part some rows further on: what is kept of all steps is in no cache, and a row reads from more
    /// places at once than a CPU follows by itself.
    #[inline(always)]
    fn ask(self, numbers: &[f32], parts: usize, part: usize) {
        let at = ((self.row + ROWS_AHEAD) * parts + part) * self.hidden + self.i;
        prefetch(numbers.as_ptr().wrapping_add(at), LANES);
    }

    /// # Safety
    /// As [`At::part`], and there are numbers.
    #[inline(always)]
    unsafe fn write<V: Lanes>(self, numbers: &mut [f32], parts: usize, part: usize, value: V) {
        // SAFETY: as above.
        unsafe {
            let at = numbers.as_mut_ptr().add((self.row * parts + part) * self.hidden + self.i);
            value.store_first(at, self.count);
        }
    }

    /// # Safety
    /// `h` has `hidden` numbers a row, rows `stride` apart, or none.
    #[inline(always)]
    unsafe fn state<V: Lanes>(self, h: &[f32], stride: usize) -> V {
        // SAFETY: as above.
        unsafe { load_or(h, self.row * stride + self.i, self.count, 0.0) }
    }
}

trait CellKernel: Copy {
    const GATES: usize;
    const KEPT: usize;

    /// Writes what is kept, and returns the new state.
    ///
    /// # Safety
    /// The sizes of `step` were checked.
    unsafe fn forward<V: Lanes>(self, step: &mut Step<'_>, at: At) -> V;

    /// Writes the gradients of the sums and what is passed on.
    ///
    /// # Safety
    /// The sizes of `step` were checked.
    unsafe fn backward<V: Lanes>(self, step: &mut StepGradient<'_>, at: At);
}

struct Forward<'a, C> {
    rows: usize,
    step: Step<'a>,
    cell: C,
}

impl<C: CellKernel> Kernel for Forward<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(mut self) {
        let (hidden, stride) = (self.step.hidden, self.step.stride);
        for row in 0..self.rows {
            if !self.step.active.holds(row) {
                self.step.kept[row * C::KEPT * hidden..][..C::KEPT * hidden].fill(0.0);
                self.step.h[row * stride..][..hidden].fill(0.0);
                continue;
            }
            for i in (0..hidden).step_by(LANES) {
                let at = At { row, i, count: LANES.min(hidden - i), hidden };
                // SAFETY: `step` checked all sizes.
                unsafe {
                    let h = self.cell.forward::<V>(&mut self.step, at);
                    h.store_first(self.step.h.as_mut_ptr().add(row * stride + i), at.count);
                }
            }
        }
    }
}

struct Backward<'a, C> {
    rows: usize,
    step: StepGradient<'a>,
    cell: C,
}

impl<C: CellKernel> Kernel for Backward<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(mut self) {
        let hidden = self.step.hidden;
        for row in 0..self.rows {
            if !self.step.active.holds(row) {
                let gates = row * C::GATES * hidden..(row + 1) * C::GATES * hidden;
                self.step.dinput[gates.clone()].fill(0.0);
                if !self.step.dstate.is_empty() {
                    self.step.dstate[gates].fill(0.0);
                }
                self.step.carry[row * hidden..][..hidden].fill(0.0);
                continue;
            }
            for i in (0..hidden).step_by(LANES) {
                let at = At { row, i, count: LANES.min(hidden - i), hidden };
                // SAFETY: `step_gradient` checked all sizes.
                unsafe { self.cell.backward::<V>(&mut self.step, at) };
            }
        }
    }
}

/// Sum of a gate over input and state, with biases.
///
/// # Safety
/// The sizes of `step` were checked.
#[inline(always)]
unsafe fn gate<V: Lanes, C: CellKernel>(step: &Step<'_>, at: At, gate: usize) -> V {
    let first = At { row: 0, ..at };
    // SAFETY: the caller vouches for it.
    unsafe {
        let bias =
            first.part::<V>(step.bias[0], C::GATES, gate).add(first.part(step.bias[1], C::GATES, gate));
        at.part::<V>(step.input, C::GATES, gate).add(at.part(step.state, C::GATES, gate)).add(bias)
    }
}

/// Gradients below this are 0. Over many steps they shrink to numbers that a CPU calculates with a hundred times more
/// slowly, and that change no weight.
const LEAST_GRADIENT: f32 = 1e-30;

#[inline(always)]
fn without_least<V: Lanes>(d: V) -> V {
    // What is no number stays.
    V::splat(LEAST_GRADIENT).if_greater(d.abs(), V::splat(0.0), d)
}

/// `d · y (1 - y)`: the gradient below a sigmoid.
#[inline(always)]
fn below_sigmoid<V: Lanes>(d: V, y: V) -> V {
    d.mul(V::splat(1.0).sub(y).mul(y))
}

/// `d (1 - y²)`: the gradient below a tanh.
#[inline(always)]
fn below_tanh<V: Lanes>(d: V, y: V) -> V {
    d.mul(V::splat(1.0).sub(y.mul(y)))
}

#[derive(Clone, Copy)]
struct Lstm;

impl CellKernel for Lstm {
    const GATES: usize = 4;
    /// The gates and the cell.
    const KEPT: usize = 5;

    #[inline(always)]
    unsafe fn forward<V: Lanes>(self, step: &mut Step<'_>, at: At) -> V {
        // SAFETY: the caller vouches for it.
        unsafe {
            let i = math::sigmoid(gate::<V, Self>(step, at, 0));
            let f = math::sigmoid(gate::<V, Self>(step, at, 1));
            let g = math::tanh(gate::<V, Self>(step, at, 2));
            let o = math::sigmoid(gate::<V, Self>(step, at, 3));
            let c = f.fma(at.part(step.before.kept, 5, 4), i.mul(g));
            for (part, value) in [i, f, g, o, c].into_iter().enumerate() {
                at.ask(step.kept, 5, part);
                at.write(step.kept, 5, part, value);
            }
            o.mul(math::tanh(c))
        }
    }

    #[inline(always)]
    unsafe fn backward<V: Lanes>(self, step: &mut StepGradient<'_>, at: At) {
        (0..5).for_each(|part| at.ask(step.kept, 5, part));
        at.ask(step.before.kept, 5, 4);
        // SAFETY: the caller vouches for it.
        unsafe {
            let [i, f, g, o, c]: [V; 5] = std::array::from_fn(|part| at.part(step.kept, 5, part));
            let before: V = at.part(step.before.kept, 5, 4);
            let (dh, t): (V, V) = (at.part(step.dh, 1, 0), math::tanh(c));
            let dc = below_tanh(dh.mul(o), t).add(at.part(step.carry, 1, 0));
            at.write(step.carry, 1, 0, without_least(dc.mul(f)));
            let gradients = [
                below_sigmoid(dc.mul(g), i),
                below_sigmoid(dc.mul(before), f),
                below_tanh(dc.mul(i), g),
                below_sigmoid(dh.mul(t), o),
            ];
            for (part, value) in gradients.into_iter().enumerate() {
                at.write(step.dinput, 4, part, without_least(value));
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Gru;

impl CellKernel for Gru {
    const GATES: usize = 3;
    /// The gates, and the sum over the state of the last.
    const KEPT: usize = 4;

    #[inline(always)]
    unsafe fn forward<V: Lanes>(self, step: &mut Step<'_>, at: At) -> V {
        let first = At { row: 0, ..at };
        // SAFETY: the caller vouches for it.
        unsafe {
            let r = math::sigmoid(gate::<V, Self>(step, at, 0));
            let z = math::sigmoid(gate::<V, Self>(step, at, 1));
            let state: V = at.part::<V>(step.state, 3, 2).add(first.part(step.bias[1], 3, 2));
            let input: V = at.part::<V>(step.input, 3, 2).add(first.part(step.bias[0], 3, 2));
            let n = math::tanh(r.fma(state, input));
            for (part, value) in [r, z, n, state].into_iter().enumerate() {
                at.ask(step.kept, 4, part);
                at.write(step.kept, 4, part, value);
            }
            z.fma(at.state::<V>(step.before.h, step.stride).sub(n), n)
        }
    }

    #[inline(always)]
    unsafe fn backward<V: Lanes>(self, step: &mut StepGradient<'_>, at: At) {
        (0..4).for_each(|part| at.ask(step.kept, 4, part));
        // SAFETY: the caller vouches for it.
        unsafe {
            let [r, z, n, state]: [V; 4] = std::array::from_fn(|part| at.part(step.kept, 4, part));
            let before: V = at.state(step.before.h, step.stride);
            let dh = at.part::<V>(step.dh, 1, 0).add(at.part(step.carry, 1, 0));
            at.write(step.carry, 1, 0, without_least(dh.mul(z)));
            let dn = below_tanh(dh.mul(V::splat(1.0).sub(z)), n);
            let dr = below_sigmoid(dn.mul(state), r);
            let dz = below_sigmoid(dh.mul(before.sub(n)), z);
            for (part, value) in [dr, dz, dn].into_iter().enumerate() {
                at.write(step.dinput, 3, part, without_least(value));
            }
            for (part, value) in [dr, dz, dn.mul(r)].into_iter().enumerate() {
                at.write(step.dstate, 3, part, without_least(value));
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Tanh;

impl CellKernel for Tanh {
    const GATES: usize = 1;
    const KEPT: usize = 0;

    #[inline(always)]
    unsafe fn forward<V: Lanes>(self, step: &mut Step<'_>, at: At) -> V {
        // SAFETY: the caller vouches for it.
        math::tanh(unsafe { gate::<V, Self>(step, at, 0) })
    }

    #[inline(always)]
    unsafe fn backward<V: Lanes>(self, step: &mut StepGradient<'_>, at: At) {
        // SAFETY: the caller vouches for it.
        unsafe {
            let d = below_tanh(at.part::<V>(step.dh, 1, 0), at.state(step.h, step.stride));
            at.write(step.dinput, 1, 0, without_least(d));
        }
    }
}

#[derive(Clone, Copy)]
struct Relu;

impl CellKernel for Relu {
    const GATES: usize = 1;
    const KEPT: usize = 0;

    #[inline(always)]
    unsafe fn forward<V: Lanes>(self, step: &mut Step<'_>, at: At) -> V {
        let (zero, x) = (V::splat(0.0), unsafe {
            // SAFETY: the caller vouches for it.
            gate::<V, Self>(step, at, 0)
        });
        zero.if_greater(x, zero, x)
    }

    #[inline(always)]
    unsafe fn backward<V: Lanes>(self, step: &mut StepGradient<'_>, at: At) {
        let zero = V::splat(0.0);
        // SAFETY: the caller vouches for it.
        unsafe {
            let (h, dh) = (at.state::<V>(step.h, step.stride), at.part::<V>(step.dh, 1, 0));
            at.write(step.dinput, 1, 0, without_least(h.if_greater(zero, dh, zero)));
        }
    }
}
