//! One number in, one number out.

pub(crate) use super::functions::Function;
use super::functions::{Unary, WithUnary};
use super::lanes::{LANES, Lanes};
use super::{Isa, Kernel};

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

/// `dy = dy · f'(x)`, of a function whose derivative is written in terms of y = f(x).
///
/// # Panics
/// When the slices differ in length.
pub(crate) fn derive_in_place(isa: Isa, function: Function, y: &[f32], dy: &mut [f32]) {
    debug_assert!(!function.derives_from_input(), "{function:?} derives from x");
    assert_eq!(y.len(), dy.len(), "every output has a gradient");
    let (start, len) = (dy.as_mut_ptr(), dy.len());
    // SAFETY: `y` and `dy` hold `len` numbers each; `dy` is read before it is written.
    unsafe { dispatch_derivative(isa, function, y.as_ptr(), start, start, len) }
}

/// `dx = dy · f'(x)`; `from` is x or y as [`Function::derives_from_input`] says.
///
/// # Panics
/// When the slices differ in length.
pub(crate) fn derive(isa: Isa, function: Function, from: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert!(from.len() == dy.len() && from.len() == dx.len(), "every output has a gradient");
    // SAFETY: three different slices of the same length.
    unsafe { dispatch_derivative(isa, function, from.as_ptr(), dy.as_ptr(), dx.as_mut_ptr(), dy.len()) }
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
    from: *const f32,
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
                let (from, dy) = (V::load(self.from.add(i)), V::load(self.dy.add(i)));
                self.unary.derivative(from, dy).store(self.dx.add(i));
                i += LANES;
            }
            let rest = self.len - i;
            if rest > 0 {
                let from = V::load_first(self.from.add(i), rest);
                let dy = V::load_first(self.dy.add(i), rest);
                self.unary.derivative(from, dy).store_first(self.dx.add(i), rest);
            }
        }
    }
}

/// [`Map`] of a function that is still to be known.
struct MapWith {
    isa: Isa,
    x: *const f32,
    y: *mut f32,
    len: usize,
}

impl WithUnary for MapWith {
    fn with<U: Unary>(self, unary: U) {
        self.isa.run(Map { unary, x: self.x, y: self.y, len: self.len });
    }
}

/// # Safety
/// `x` and `y` point at `len` numbers each; they may be the same.
unsafe fn dispatch(isa: Isa, function: Function, x: *const f32, y: *mut f32, len: usize) {
    function.dispatch(MapWith { isa, x, y, len });
}

/// [`Derive`] of a function that is still to be known.
struct DeriveWith {
    isa: Isa,
    from: *const f32,
    dy: *const f32,
    dx: *mut f32,
    len: usize,
}

impl WithUnary for DeriveWith {
    fn with<U: Unary>(self, unary: U) {
        let DeriveWith { isa, from, dy, dx, len } = self;
        isa.run(Derive { unary, from, dy, dx, len });
    }
}

/// # Safety
/// `from`, `dy` and `dx` point at `len` numbers each; `dy` and `dx` may be the same.
unsafe fn dispatch_derivative(
    isa: Isa,
    function: Function,
    from: *const f32,
    dy: *const f32,
    dx: *mut f32,
    len: usize,
) {
    function.dispatch(DeriveWith { isa, from, dy, dx, len });
}
