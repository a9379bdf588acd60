//! One number in, one number out.

use super::lanes::{LANES, Lanes};
use super::{Isa, Kernel, math};

/// A function that is applied to every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function.
    Sigmoid,
    /// max(x, 0).
    Relu,
    /// e to the power of x, for x ≤ 0.
    #[cfg(test)]
    ExpOfNegative,
}

impl Function {
    /// Whether a larger number never gives a smaller one.
    pub(crate) fn rises(self) -> bool {
        matches!(self, Function::Tanh | Function::Sigmoid | Function::Relu)
    }
}

/// `y = f(x)`.
///
/// # Panics
/// When the slices differ in length.
pub(crate) fn map(isa: Isa, function: Function, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "map reads as many numbers as it writes");
    // SAFETY: both pointers stand for `len` numbers of two different slices.
    unsafe { dispatch(isa, function, x.as_ptr(), y.as_mut_ptr(), x.len()) }
}

/// `x = f(x)`.
pub(crate) fn map_in_place(isa: Isa, function: Function, x: &mut [f32]) {
    let (start, len) = (x.as_mut_ptr(), x.len());
    // SAFETY: reading and writing the same slice: every vector is read before it is written.
    unsafe { dispatch(isa, function, start, start, len) }
}

/// `dy = dy · f'(x)`, with f' written in terms of y = f(x).
///
/// # Panics
/// When the slices differ in length.
pub(crate) fn derive_in_place(isa: Isa, function: Function, y: &[f32], dy: &mut [f32]) {
    assert_eq!(y.len(), dy.len(), "every output has a gradient");
    let (start, len) = (dy.as_mut_ptr(), dy.len());
    // SAFETY: `y` and `dy` hold `len` numbers each; `dy` is read before it is written.
    unsafe { dispatch_derivative(isa, function, y.as_ptr(), start, start, len) }
}

/// `dx = dy · f'(x)`, with f' written in terms of y = f(x).
///
/// # Panics
/// When the slices differ in length.
pub(crate) fn derive(isa: Isa, function: Function, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert!(y.len() == dy.len() && y.len() == dx.len(), "every output has a gradient");
    // SAFETY: three different slices of the same length.
    unsafe { dispatch_derivative(isa, function, y.as_ptr(), dy.as_ptr(), dx.as_mut_ptr(), y.len()) }
}

trait Unary: Copy {
    fn apply<V: Lanes>(self, x: V) -> V;
    /// `dy · f'(x)` from y.
    fn derivative<V: Lanes>(self, y: V, dy: V) -> V;
}

#[derive(Clone, Copy)]
struct Tanh;
impl Unary for Tanh {
    #[inline(always)]
    fn apply<V: Lanes>(self, x: V) -> V {
        math::tanh(x)
    }
    #[inline(always)]
    fn derivative<V: Lanes>(self, y: V, dy: V) -> V {
        V::splat(1.0).sub(y.mul(y)).mul(dy)
    }
}

#[derive(Clone, Copy)]
struct Sigmoid;
impl Unary for Sigmoid {
    #[inline(always)]
    fn apply<V: Lanes>(self, x: V) -> V {
        math::sigmoid(x)
    }
    #[inline(always)]
    fn derivative<V: Lanes>(self, y: V, dy: V) -> V {
        V::splat(1.0).sub(y).mul(y).mul(dy)
    }
}

#[derive(Clone, Copy)]
struct Relu;
impl Unary for Relu {
    #[inline(always)]
    fn apply<V: Lanes>(self, x: V) -> V {
        // 0 > NaN is false, so that NaN stays.
        V::splat(0.0).if_greater(x, V::splat(0.0), x)
    }
    #[inline(always)]
    fn derivative<V: Lanes>(self, y: V, dy: V) -> V {
        y.if_greater(V::splat(0.0), dy, V::splat(0.0))
    }
}

#[cfg(test)]
#[derive(Clone, Copy)]
struct ExpOfNegative;
#[cfg(test)]
impl Unary for ExpOfNegative {
    #[inline(always)]
    fn apply<V: Lanes>(self, x: V) -> V {
        math::exp_of_negative(x)
    }
    #[inline(always)]
    fn derivative<V: Lanes>(self, y: V, dy: V) -> V {
        y.mul(dy)
    }
}

struct Map<U> {
    unary: U,
    x: *const f32,
    y: *mut f32,
    len: usize,
}

impl<U: Unary> Kernel for Map<U> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let mut i = 0;
        // SAFETY: `dispatch` promises `len` numbers behind both pointers.
        unsafe {
            while i + LANES <= self.len {
                self.unary.apply(V::load(self.x.add(i))).store(self.y.add(i));
                i += LANES;
            }
            let rest = self.len - i;
            if rest > 0 {
                self.unary.apply(V::load_first(self.x.add(i), rest)).store_first(self.y.add(i), rest);
            }
        }
    }
}

struct Derive<U> {
    unary: U,
    y: *const f32,
    dy: *const f32,
    dx: *mut f32,
    len: usize,
}

impl<U: Unary> Kernel for Derive<U> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let mut i = 0;
        // SAFETY: `dispatch_derivative` promises `len` numbers behind all pointers.
        unsafe {
            while i + LANES <= self.len {
                let (y, dy) = (V::load(self.y.add(i)), V::load(self.dy.add(i)));
                self.unary.derivative(y, dy).store(self.dx.add(i));
                i += LANES;
            }
            let rest = self.len - i;
            if rest > 0 {
                let (y, dy) = (V::load_first(self.y.add(i), rest), V::load_first(self.dy.add(i), rest));
                self.unary.derivative(y, dy).store_first(self.dx.add(i), rest);
            }
        }
    }
}

/// # Safety
/// `x` and `y` point at `len` numbers each; they may be the same.
unsafe fn dispatch(isa: Isa, function: Function, x: *const f32, y: *mut f32, len: usize) {
    match function {
        Function::Tanh => isa.run(Map { unary: Tanh, x, y, len }),
        Function::Sigmoid => isa.run(Map { unary: Sigmoid, x, y, len }),
        Function::Relu => isa.run(Map { unary: Relu, x, y, len }),
        #[cfg(test)]
        Function::ExpOfNegative => isa.run(Map { unary: ExpOfNegative, x, y, len }),
    }
}

/// # Safety
/// `y`, `dy` and `dx` point at `len` numbers each; `dy` and `dx` may be the same.
unsafe fn dispatch_derivative(
    isa: Isa,
    function: Function,
    y: *const f32,
    dy: *const f32,
    dx: *mut f32,
    len: usize,
) {
    match function {
        Function::Tanh => isa.run(Derive { unary: Tanh, y, dy, dx, len }),
        Function::Sigmoid => isa.run(Derive { unary: Sigmoid, y, dy, dx, len }),
        Function::Relu => isa.run(Derive { unary: Relu, y, dy, dx, len }),
        #[cfg(test)]
        Function::ExpOfNegative => isa.run(Derive { unary: ExpOfNegative, y, dy, dx, len }),
    }
}

/// Adds `row` to every row of `matrix`.
pub(crate) fn add_row(matrix: &mut [f32], row: &[f32]) {
    for target in matrix.chunks_exact_mut(row.len()) {
        target.iter_mut().zip(row).for_each(|(target, value)| *target += value);
    }
}

/// Adds every row of `matrix`, which has rows of `columns`, to `sums`.
pub(crate) fn sum_rows(matrix: &[f32], columns: usize, sums: &mut [f32]) {
    for row in matrix.chunks_exact(columns) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}
