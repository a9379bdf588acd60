//! What follows from validations: whether to go on, and which weights are the best so far.
//!
//! Pure: every rank decides from the same numbers, which are sums over all ranks.

use ringspin_job::SelectionSpec;
use ringspin_nn::Validated;

/// What the last of some validations means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It is better than all before.
    pub best: bool,
    /// Training ends, and why.
    pub stop: Option<String>,
}

/// Judges the last of `validations`.
pub fn judge(spec: &SelectionSpec, validations: &[Validated]) -> Verdict {
    let monitor = &spec.monitor;
    let values = || validations.iter().map(|validated| validated.value(&monitor.metric));
    let (mut best, mut is_best) = (monitor.worst(), false);
    for value in values() {
        is_best = monitor.is_better(value, best, 0.0);
        best = if is_best { value } else { best };
    }
    let (mut goal, mut since) = (monitor.worst(), 0);
    for value in values() {
        if monitor.is_better(value, goal, spec.min_delta) {
            (goal, since) = (value, 0);
        } else {
            since += 1;
        }
    }
    let stop = spec.patience.filter(|patience| since >= *patience).map(|_| {
        let times = if since == 1 { "validation was".into() } else { format!("{since} validations were") };
        let name = &monitor.metric;
        if goal.is_finite() {
            format!("training ends: the last {times} no better than a {name} of {goal:.6}")
        } else {
            format!("training ends: the last {times} without a {name} that is a number")
        }
    });
    Verdict { best: is_best, stop }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringspin_job::Monitor;

    fn verdicts(spec: &SelectionSpec, losses: &[f64]) -> Vec<(bool, bool)> {
        let validated =
            |loss: &f64| Validated::new(0, *loss).with("f1", Some(-loss)).with("mae", Some(*loss));
        let validations: Vec<Validated> = losses.iter().map(validated).collect();
        (1..=losses.len())
            .map(|seen| {
                let verdict = judge(spec, &validations[..seen]);
                (verdict.best, verdict.stop.is_some())
            })
            .collect()
    }

    #[test]
    fn training_ends_after_so_many_validations_that_are_no_better() {
        let spec = SelectionSpec {
            monitor: Monitor::new("loss", "auto"),
            patience: Some(2),
            min_delta: 0.1,
            keep_best: true,
        };
        let losses = [2.0, 1.95, 1.5, 1.45, f64::NAN, 1.0];
        let [yes, no] = [true, false];
        // 1.95 and 1.45 are the best so far, but not by 0.1.
        let expected = [(yes, no), (yes, no), (yes, no), (yes, no), (no, yes), (yes, no)];
        assert_eq!(verdicts(&spec, &losses), expected);
        let of = |metric: &str| SelectionSpec { monitor: Monitor::new(metric, "auto"), ..spec.clone() };
        assert_eq!(verdicts(&of("f1"), &losses), expected, "of shares, more is better");
        assert_eq!(verdicts(&of("mae"), &losses), expected, "of errors, less is");
        let never = SelectionSpec { patience: None, ..spec.clone() };
        assert!(verdicts(&never, &[1.0; 50]).iter().all(|(_, stop)| !stop));
        let patient = SelectionSpec { patience: Some(1), ..spec };
        assert_eq!(verdicts(&patient, &[f64::NAN, 1.0, 1.0]), [(no, yes), (yes, no), (no, yes)]);
    }

    #[test]
    fn the_reason_says_what_was_not_reached() {
        let spec = SelectionSpec {
            monitor: Monitor::new("loss", "min"),
            patience: Some(1),
            min_delta: 0.0,
            keep_best: false,
        };
        let validated = |loss| Validated::new(0, loss);
        let stop = judge(&spec, &[0.5, 0.5].map(validated)).stop.unwrap();
        assert_eq!(stop, "training ends: the last validation was no better than a loss of 0.500000");
        let spec = SelectionSpec { monitor: Monitor::new("top1", "max"), patience: Some(2), ..spec };
        let stop = judge(&spec, &[0.5, 0.5].map(validated)).stop.unwrap();
        assert_eq!(stop, "training ends: the last 2 validations were without a top1 that is a number");
    }
}
