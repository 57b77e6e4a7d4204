//! Progress of a long step: a bar on a terminal, an occasional line elsewhere.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// How often a line is written if there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// All bars, one below the other: the cell of an experiment below the experiment.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Prints something without tearing the bars.
pub(crate) fn suspend(print: impl FnOnce()) {
    BARS.suspend(print);
}

/// A count on its way to a total; may be advanced from many threads.
pub(crate) struct Progress {
    bar: ProgressBar,
    action: String,
    unit: &'static str,
    /// When the last line was written; `None` if a bar or nothing is shown.
    lines: Option<Mutex<Instant>>,
    /// The progress of the program that called the command, which shows it in place of the bar.
    host: Option<Box<dyn eigenmix_experiment::Progress>>,
}

impl Progress {
    pub(crate) fn new(action: &str, total: usize, unit: &'static str, quiet: bool) -> Self {
        let shows_bar = !quiet && io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::hidden());
        let template =
            format!("{{prefix}} {{bar:30}} {{pos}}/{{len}} {unit} {{rate}} {{eta}} {{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
                // A rate that cannot be written is not worth an error.
                let _ = write!(text, "{:.1}/s", state.per_sec());
            };
            bar.set_style(style.with_key("rate", rate));
        }
        bar.set_prefix(action.to_owned());
        let bar = if shows_bar { BARS.add(bar) } else { bar };
        bar.tick();
        Self {
            bar,
            action: action.to_owned(),
            unit,
            lines: (!quiet && !shows_bar).then(|| Mutex::new(Instant::now())),
            host: None,
        }
    }

    /// A progress that the program that called the command shows as it likes.
    pub(crate) fn of_host(host: Box<dyn eigenmix_experiment::Progress>) -> Self {
        let mut progress = Self::new("", 0, "", true);
        progress.host = Some(host);
        progress
    }

    /// One more step is done.
    pub(crate) fn advance(&self) {
        if let Some(host) = &self.host {
            return host.advance();
        }
        self.bar.inc(1);
        self.write_line_if_due();
    }

    /// This many steps were done before: they count for the position, not for the rate.
    pub(crate) fn start_at(&self, position: usize) {
        if let Some(host) = &self.host {
            return host.set(position, "");
        }
        self.bar.set_position(position as u64);
        self.bar.reset_eta();
    }

    /// `position` steps are done; `message` adds a detail such as the loss.
    pub(crate) fn set(&self, position: usize, message: impl Into<String>) {
        if let Some(host) = &self.host {
            return host.set(position, &message.into());
        }
        self.bar.set_message(message.into());
        // A total may have been a guess.
        let total = self.bar.length().unwrap_or_default();
        self.bar.set_length(total.max(position as u64));
        self.bar.set_position(position as u64);
        self.write_line_if_due();
    }

    fn write_line_if_due(&self) {
        let Some(lines) = &self.lines else { return };
        let Ok(mut last) = lines.lock() else { return };
        if last.elapsed() < LINE_INTERVAL {
            return;
        }
        *last = Instant::now();
        // If standard error is closed, the message is dropped.
        let _ = writeln!(io::stderr().lock(), "{}", self.line());
    }

    fn line(&self) -> String {
        let message = self.bar.message();
        format!(
            "{}: {} of {} {}, {:.1}/s, {} s left{}{message}",
            self.action,
            self.bar.position(),
            self.bar.length().unwrap_or_default(),
            self.unit,
            self.bar.per_sec(),
            self.bar.eta().as_secs(),
            if message.is_empty() { "" } else { ", " },
        )
    }
}

impl eigenmix_experiment::Progress for Progress {
    fn advance(&self) {
        Progress::advance(self);
    }

    fn set(&self, position: usize, message: &str) {
        Progress::set(self, position, message);
    }
}

impl Drop for Progress {
    /// Removes the bar: what matters is in the result.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_action_count_unit_and_message() {
        let progress = Progress::new("training", 40, "steps", true);
        progress.set(10, "loss 0.5");
        let line = progress.line();
        assert!(line.starts_with("training: 10 of 40 steps, "), "{line}");
        assert!(line.ends_with(" s left, loss 0.5"), "{line}");
    }
}
