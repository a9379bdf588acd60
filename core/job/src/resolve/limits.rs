//! What no single key shows to be wrong: keys that contradict each other, and keys of nothing.

use crate::Origin;
use crate::spec::*;

/// More lanes than this, or workers, are a typing mistake: ApplicationMaster and workers keep something for each.
const MAX_LANES: usize = 1 << 16;
/// More batches are not summed for one step: fixed-point sums need room for all of them.
const MAX_ACCUMULATED: u64 = 1 << 20;

use super::reader::Reader;

/// Keys of layers that there are not.
pub(super) fn stray_layers(reader: &mut Reader<'_>, layer_count: usize) {
    let strays: Vec<(String, Origin)> = reader
        .settings
        .iter()
        .filter(|(key, _)| {
            key.strip_prefix("model.layers").is_some_and(|rest| {
                let number = rest.strip_prefix('[').and_then(|rest| rest.split_once("]."));
                number.and_then(|(number, _)| number.parse().ok()).is_none_or(|i: usize| i >= layer_count)
            })
        })
        .map(|(key, setting)| (key, setting.origin))
        .collect();
    for (key, origin) in strays {
        let message = format!(
            "no such layer: the job lists {layer_count} as [[model.layers]]; theirs are model.layers[0].out_features \
             and the like"
        );
        reader.problems.add(&origin, key, message);
    }
}

/// What hangs on validations needs some, and what belongs to early stopping needs that.
pub(super) fn selection(spec: &JobSpec, reader: &mut Reader<'_>) {
    let mut idle: Vec<(&str, &str)> = Vec::new();
    if let Some(validation) = &spec.validation
        && let Err(message) = spec.selection.monitor.check(&validation.metrics)
    {
        let origin = reader.origin("early_stopping.monitor");
        reader.problems.add(&origin, "early_stopping.monitor", message);
    }
    if spec.validation.is_none() {
        let needs = "needs validation data (validation.path, .images, .files)";
        idle.extend(spec.selection.patience.map(|_| ("early_stopping.patience", needs)));
        idle.extend(spec.selection.keep_best.then_some(("keep_best", needs)));
    }
    if spec.selection.patience.is_none() {
        idle.push(("early_stopping.min_delta", "does nothing without early_stopping.patience"));
        if !spec.selection.keep_best {
            for key in ["early_stopping.monitor", "early_stopping.mode"] {
                idle.push((key, "does nothing without early_stopping.patience or keep_best"));
            }
        }
    }
    for (key, message) in idle.into_iter().filter(|(key, _)| reader.settings.differs(key)) {
        let origin = reader.origin(key);
        reader.problems.add(&origin, key, message);
    }
}

/// Values that are right by themselves and wrong together.
pub(super) fn contradictions(spec: &JobSpec, reader: &mut Reader<'_>) {
    let mut wrong = |key: &str, message: String| {
        let origin = reader.settings.get(key).map_or(Origin::Default, |setting| setting.origin);
        reader.problems.add(&origin, key, message);
    };
    if spec.workers.min > spec.workers.max {
        wrong("workers.min", format!("is {} but workers.max is {}", spec.workers.min, spec.workers.max));
    }
    if spec.lanes < spec.workers.max {
        wrong(
            "lanes",
            format!(
                "{} lanes leave some of {} workers without work; use at least workers.max",
                spec.lanes, spec.workers.max
            ),
        );
    }
    if spec.lanes > MAX_LANES {
        wrong("lanes", format!("is {}; at most {MAX_LANES} can be dealt to", spec.lanes));
    }
    if spec.numerics.mode == NumericsMode::Reproducible && spec.network.wire == WirePrecision::Bf16 {
        wrong(
            "network.wire",
            "\"bf16\" rounds on the way, numerics.mode = \"reproducible\" must not; choose one".into(),
        );
    }
    if spec.numerics.fraction_bits > 52 {
        wrong("numerics.fraction_bits", "at most 52: an f64 has no more".into());
    }
    if spec.network.heartbeat_timeout < spec.network.heartbeat * 2 {
        wrong("network.heartbeat_timeout", "must be at least twice network.heartbeat".into());
    }
    for (key, limit) in [("clip_value", spec.updates.clip_value), ("clip_norm", spec.updates.clip_norm)] {
        if limit == Some(0.0) {
            wrong(key, "must be greater than 0: nothing would be learned".into());
        }
    }
    if spec.updates.ema_decay == Some(1.0) {
        wrong("ema_decay", "must be less than 1: the average would stay as it began".into());
    }
    if spec.updates.accumulate_steps > MAX_ACCUMULATED {
        let message = format!("is {}; at most {MAX_ACCUMULATED}", spec.updates.accumulate_steps);
        wrong("accumulate_steps", message);
    }
    if spec.input.std.iter().any(|std| *std <= 0.0) {
        wrong("input.std", "must be greater than 0".into());
    }
}
