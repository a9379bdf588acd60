//! Any text as the model of a job: it is a model, or the text is said to be wrong. `scripts/fuzz` runs it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringspin_job::{JobSpec, Settings};
use ringspin_nn::{Model, Registry, Shape};

/// What a job needs besides.
const REST: &str = "input.path = \"data\"\noutput.path = \"out\"\n";

fuzz_target!(|text: &str| {
    let mut settings = Settings::new();
    settings.file("job.toml", &format!("{REST}{text}"));
    let Ok(job) = JobSpec::resolve(settings) else { return };
    let (registry, records) = (Registry::standard(), Shape::image(9, 7, 3).expect("a small image"));
    if let Ok(model) = Model::build(&registry, &job.model, &records, &job.loss) {
        model.memory_bytes(2, 1);
        model.inference_bytes(2, 1);
    }
});
