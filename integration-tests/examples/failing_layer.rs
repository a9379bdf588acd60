//! A program around the library with a layer of its own that has a mistake: what tests submit to see how a panic
//! in a user's code ends.

use ringspin::App;
use ringspin::job::ParamReader;
use ringspin::nn::{Backward, Forward, Layer, Misfit, Needs, Shape};
use std::sync::{Mutex, PoisonError};

/// Passes records on, until it panics, or takes memory that nobody foresaw.
struct Failing {
    shape: Shape,
    step: u64,
    takes_mib: usize,
}

/// What was taken, and stays.
static TAKEN: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

impl Layer for Failing {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        let at = pass.context.key;
        if at.step >= self.step && self.takes_mib > 0 {
            TAKEN.lock().unwrap_or_else(PoisonError::into_inner).push(vec![1; self.takes_mib << 20]);
        } else {
            assert!(at.step < self.step || at.lane != 0, "a mistake of the user's");
        }
        pass.y.copy_from_slice(pass.x);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            dx.copy_from_slice(pass.dy);
        }
    }
}

fn build(params: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let step = params.count("step", 0, None) as u64;
    let takes_mib = params.count("takes_mib", 0, Some(0));
    Ok(Box::new(Failing { shape: input.clone(), step, takes_mib }))
}

fn main() -> std::process::ExitCode {
    let mut app = App::new();
    app.registry().layer("failing", build);
    app.main()
}
