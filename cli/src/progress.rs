//! A job's progress on stderr: a bar on a terminal, plain lines at a sane rate elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ringspin_control::status::{Metrics, Phase, Status};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Plain lines come this often at most, besides those for changes.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows one job.
pub struct Progress {
    bar: Option<ProgressBar>,
    phase: Option<Phase>,
    message: String,
    validated: Option<Metrics>,
    line_at: Instant,
}

impl Progress {
    /// A bar when stderr is a terminal, lines otherwise.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(5));
            bar.set_style(style("{spinner} {msg}"));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Progress { bar, phase: None, message: String::new(), validated: None, line_at: Instant::now() }
    }

    /// Shows where the job stands now.
    pub fn show(&mut self, status: &Status) {
        let entered = self.phase != Some(status.phase);
        self.phase = Some(status.phase);
        if status.validation.is_some() && status.validation != self.validated {
            self.validated.clone_from(&status.validation);
            if let Some(metrics) = &status.validation {
                self.line(&format!("validation: {metrics}"));
            }
        }
        match &self.bar {
            Some(bar) => draw(bar, status, entered),
            None => self.print(status, entered),
        }
    }

    /// One line that stays.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // Nobody is left to be told when stderr is closed.
            None => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn print(&mut self, status: &Status, entered: bool) {
        let changed = entered || (status.phase != Phase::Training && status.message != self.message);
        let due = status.phase == Phase::Training && self.line_at.elapsed() >= LINE_INTERVAL;
        if !(changed || due) || status.phase == Phase::Ended {
            return;
        }
        self.message.clone_from(&status.message);
        self.line_at = Instant::now();
        match status.phase {
            Phase::Training if !entered => self.line(&training_line(status)),
            _ => self.line(&status.message),
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

fn draw(bar: &ProgressBar, status: &Status, entered: bool) {
    if status.phase == Phase::Training && status.steps > 0 {
        if entered || bar.length() != Some(status.steps) {
            bar.set_style(style("{bar:30} {percent:>3} % {msg}"));
            bar.set_length(status.steps);
        }
        bar.set_position(status.step);
        bar.set_message(training_line(status));
    } else {
        bar.set_message(status.message.clone());
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn training_line(status: &Status) -> String {
    let metrics = status.training.as_ref().map(|metrics| format!(" {metrics}")).unwrap_or_default();
    let left =
        status.seconds_left.map(|seconds| format!(", {} left", seconds_text(seconds))).unwrap_or_default();
    format!(
        "epoch {}/{} step {}/{}{metrics}, {:.0} records/s{left}",
        (status.epoch + 1).min(status.epochs),
        status.epochs,
        status.step,
        status.steps,
        status.records_per_second,
    )
}

fn seconds_text(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
