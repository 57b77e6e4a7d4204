//! What was tried, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use eigenmix_experiment::Table;
use eigenmix_trainer::{MetricValue, Outcome};
use serde::Serialize;

/// The result of a tuning.
#[derive(Debug, Serialize)]
pub struct TuneReport {
    pub out: PathBuf,
    /// The name of the metric that candidates are compared by.
    pub metric: &'static str,
    /// What they were measured on, such as `folds of the training rows`.
    pub measured_on: String,
    /// The budget, in seconds.
    pub budget: f64,
    /// All that took, the last training included.
    pub seconds: f64,
    /// Whether the time was over before the last round was.
    pub out_of_time: bool,
    /// Candidates that there was no time for.
    pub untried: usize,
    /// The candidates, the best first.
    pub candidates: Vec<TriedCandidate>,
    /// The place of the winner among them; `None` if the tuning was stopped before.
    pub winner: Option<usize>,
    /// The training of the winner on all rows.
    pub outcome: Option<Outcome>,
}

/// One candidate and its measurements.
#[derive(Debug, Serialize)]
pub struct TriedCandidate {
    /// What of the file is changed.
    pub changes: String,
    /// Trained parameters of the adapter.
    pub parameters: u64,
    /// The mean over what it was last compared on.
    pub mean: Option<MetricValue>,
    /// How much better than the file itself it was there, with its sign so that more is better.
    pub gain: Option<MetricValue>,
    /// The standard error of the gain, by the measurements of both on the same rows.
    pub gain_error: Option<MetricValue>,
    /// The metric by what it was measured on.
    pub measurements: BTreeMap<String, MetricValue>,
    /// The seconds of its trainings.
    pub seconds: f64,
    /// Why it is out, if its training failed.
    pub failure: Option<String>,
}

impl TuneReport {
    pub const FILE_NAME: &'static str = "report.json";
    /// The training file of the winner, in the directory of the tuning.
    pub const WINNER: &'static str = "winner.toml";
    /// The run of the winner, in the directory of the tuning.
    pub const RUN: &'static str = "run";

    /// The training file of the winner.
    pub fn winner_file(out: &Path) -> PathBuf {
        out.join(Self::WINNER)
    }

    /// The run of the winner.
    pub fn run(out: &Path) -> PathBuf {
        out.join(Self::RUN)
    }
}

impl fmt::Display for TuneReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "`{}`: {} settings tried in {:.1} s of {:.0}, by {} on {}",
            self.out.display(),
            self.candidates.len(),
            self.seconds,
            self.budget,
            self.metric,
            self.measured_on
        )?;
        if self.untried > 0 {
            writeln!(
                formatter,
                "  {} more were not tried; a larger --budget begins with more",
                self.untried
            )?;
        }
        if self.out_of_time {
            writeln!(
                formatter,
                "  the time was over before the last round: the choice goes by what was measured till then"
            )?;
        }
        let header = [
            "",
            self.metric,
            "gain",
            "measured",
            "parameters",
            "seconds",
            "changes",
        ];
        let mut table = Table::with_header(header).with_text_in([6]);
        for (place, candidate) in self.candidates.iter().enumerate() {
            let number = |value: Option<MetricValue>| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{:.4}", value.0))
            };
            let gain = match (candidate.gain, candidate.gain_error) {
                (Some(gain), Some(error)) => format!("{:+.4} ± {:.4}", gain.0, error.0),
                (Some(gain), None) => format!("{:+.4}", gain.0),
                (None, _) => "-".to_owned(),
            };
            let changes = match &candidate.failure {
                Some(failure) => format!("{} (failed: {failure})", candidate.changes),
                None => candidate.changes.clone(),
            };
            table.push([
                if self.winner == Some(place) { "*" } else { "" }.to_owned(),
                number(candidate.mean),
                gain,
                candidate.measurements.len().to_string(),
                candidate.parameters.to_string(),
                format!("{:.1}", candidate.seconds),
                changes,
            ]);
        }
        write!(formatter, "\n{table}")?;
        let means = self
            .candidates
            .iter()
            .filter_map(|candidate| candidate.mean);
        let (least, most) = means
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), mean| {
                (least.min(mean.0), most.max(mean.0))
            });
        if self.candidates.len() > 1 && least >= most {
            write!(
                formatter,
                "\nall were measured the same: these rows cannot tell them apart"
            )?;
        }
        let outcome = match &self.outcome {
            Some(outcome) if self.winner.is_some() && !outcome.interrupted => outcome,
            _ => return write!(formatter, "\nstopped before a winner was trained"),
        };
        write!(
            formatter,
            "\n* trained on all rows: `{}`; `{}` repeats it",
            Self::run(&self.out).display(),
            Self::winner_file(&self.out).display()
        )?;
        for (name, value) in outcome.test.iter().flatten() {
            write!(formatter, "\n  test  {name} {value:.4}")?;
        }
        Ok(())
    }
}
