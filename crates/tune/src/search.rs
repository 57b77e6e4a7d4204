//! The search of the best candidate by successive halving.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use eigenmix_data::metrics::Metric;
use eigenmix_experiment::{ConfigFile, ExperimentError, Listener, Progress, Silent, message};
use eigenmix_tensors::{FileError, write_file};
use eigenmix_trainer::{
    Device, MetricValue, Observer, Outcome, Processes, RunOptions, TrainConfig, TrainerError,
    Training,
};
use toml::Value;

use crate::candidate::Candidate;
use crate::clock::Clock;
use crate::evidence::{Evidence, Score};
use crate::report::{TriedCandidate, TuneReport};
use crate::rungs::{Rung, Schedule};
use crate::tuning::TuneRequest;

/// Where the runs of candidates are while they are measured: `.NAME.trials` beside the directory NAME of the
/// tuning.
const TRIALS: &str = "trials";

/// A candidate with the number of its adapter's parameters.
pub(crate) struct Counted {
    pub candidate: Candidate,
    pub parameters: u64,
}

/// What a search found.
pub(crate) struct Found {
    /// How many candidates began.
    begun: usize,
    out_of_time: bool,
    /// `None` if it was stopped.
    pub winner: Option<usize>,
}

/// How a round of measuring ended.
enum RoundEnd {
    Over,
    OutOfTime,
    Stopped,
}

/// What became of one training.
enum Trial {
    Measured(Score),
    Failed(TrainerError),
    Stopped,
}

/// A search in progress.
pub(crate) struct Search<'a> {
    request: &'a TuneRequest<'a>,
    clock: Clock,
    schedule: Schedule,
    /// The file itself is the first.
    candidates: Vec<Counted>,
    metric: Metric,
    device: Device,
    evidence: Evidence,
    failures: BTreeMap<usize, String>,
    /// How many rows the winner is trained on: what depends on it is measured as it will be.
    rows: usize,
}

/// The training that a changed file describes.
///
/// # Errors
/// If it is not valid.
pub(crate) fn changed(
    file: &ConfigFile,
    candidate: &Candidate,
) -> Result<TrainConfig, ExperimentError> {
    let config = eigenmix_experiment::train_config(&candidate.apply(file.table()));
    Ok(config.map_err(|problems| file.error(problems))?)
}

/// Whether a metric is a share of rows that are right, or about that.
fn is_share(metric: Metric) -> bool {
    match metric {
        Metric::Accuracy
        | Metric::F1
        | Metric::MacroF1
        | Metric::MicroF1
        | Metric::ExactMatch
        | Metric::VqaAccuracy => true,
        Metric::Matthews
        | Metric::Pearson
        | Metric::Spearman
        | Metric::Mse
        | Metric::Perplexity
        | Metric::DenoisingLoss => false,
    }
}

impl<'a> Search<'a> {
    /// A search that has not begun.
    ///
    /// # Errors
    /// If the device cannot be opened.
    pub fn new(
        request: &'a TuneRequest<'a>,
        clock: Clock,
        schedule: Schedule,
        candidates: Vec<Counted>,
        (metric, measured, rows): (Metric, usize, usize),
    ) -> Result<Self, ExperimentError> {
        Ok(Self {
            evidence: Evidence::new(candidates.len(), schedule.measurements.len())
                .of_shares_of((is_share(metric) && schedule.fewest == 1).then_some(measured)),
            device: request.device.open()?,
            failures: BTreeMap::new(),
            request,
            clock,
            schedule,
            candidates,
            metric,
            rows,
        })
    }

    pub fn candidate(&self, place: usize) -> &Candidate {
        &self.candidates[place].candidate
    }

    pub fn seconds(&self) -> f64 {
        self.clock.elapsed()
    }

    /// Measures candidates, round by round, while there is time.
    ///
    /// # Errors
    /// If the training of the file itself fails, or files cannot be written.
    pub fn run(&mut self, listener: &dyn Listener) -> Result<Found, ExperimentError> {
        let stopped = |begun| Found {
            begun,
            out_of_time: false,
            winner: None,
        };
        let first = self.schedule.rungs[0].clone();
        if !self.try_candidate(0, first.new.start, listener)? {
            return Ok(stopped(1));
        }
        let affordable = self.clock.affords(self.seconds_of(0));
        if affordable < 1.0 {
            listener.note(&format!(
                "a training of the file takes {:.0} s, so that the budget is over before anything is \
                 compared with it",
                self.seconds_of(0)
            ));
        }
        let begun = self.schedule.candidates(affordable, self.candidates.len());
        let rungs = self.schedule.rungs.clone();
        let sizes = rungs.iter().enumerate();
        let total = sizes.map(|(rung, round)| Schedule::left(begun, rung) * round.new.len());
        let progress = listener.progress("tuning", total.sum(), "trainings");
        let mut left: Vec<usize> = (0..begun).collect();
        let mut compared = first.compared;
        let mut out_of_time = false;
        for (rung, round) in rungs.into_iter().enumerate() {
            // The file alone is the winner, however often it is measured.
            if left.len() < 2 {
                break;
            }
            let end = self.round(&round, &left, &*progress, listener)?;
            left.retain(|candidate| !self.failures.contains_key(candidate));
            let ranked = self.evidence.ranked(&left, &round.compared);
            match end {
                RoundEnd::Stopped => return Ok(stopped(begun)),
                RoundEnd::OutOfTime => {
                    out_of_time = true;
                    // The file and another one are enough to compare.
                    if ranked.len() > 1 && ranked.contains(&0) {
                        (left, compared) = (ranked, round.compared);
                    }
                    break;
                }
                RoundEnd::Over => {
                    compared = round.compared;
                    left = self.schedule.going_on(ranked, begun, rung);
                }
            }
        }
        drop(progress);
        let winner = match compared.len() >= self.schedule.fewest {
            true => self.evidence.winner(&left, &compared),
            false => 0,
        };
        Ok(Found {
            begun,
            out_of_time,
            winner: Some(winner),
        })
    }

    /// Measures what the round measures anew of every candidate that is left.
    fn round(
        &mut self,
        round: &Rung,
        left: &[usize],
        progress: &dyn Progress,
        listener: &dyn Listener,
    ) -> Result<RoundEnd, ExperimentError> {
        for &candidate in left {
            for measurement in round.new.clone() {
                let is_known = self.evidence.of(candidate)[measurement].is_some();
                if is_known || self.failures.contains_key(&candidate) {
                    continue;
                }
                let cost = self.schedule.measurements[measurement].cost();
                let seconds = cost * self.seconds_of(candidate);
                if !self.clock.allows(seconds, self.last(left)) {
                    return Ok(RoundEnd::OutOfTime);
                }
                let name = self.candidate(candidate).to_string();
                progress.set(self.evidence.count() + self.failures.len(), &name);
                if !self.try_candidate(candidate, measurement, listener)? {
                    return Ok(RoundEnd::Stopped);
                }
            }
        }
        Ok(RoundEnd::Over)
    }

    /// Trains and measures a candidate and keeps what came of it; false if it was stopped.
    ///
    /// # Errors
    /// If it is the file itself and its training fails, since nothing can be compared then.
    fn try_candidate(
        &mut self,
        candidate: usize,
        measurement: usize,
        listener: &dyn Listener,
    ) -> Result<bool, ExperimentError> {
        match self.measure(candidate, measurement)? {
            Trial::Measured(score) => {
                listener.detail(&format!(
                    "{} of {}: {} {:.4}, {:.1} s",
                    self.candidate(candidate),
                    self.schedule.measurements[measurement],
                    self.metric.name(),
                    self.signed(score.value),
                    score.seconds
                ));
                self.evidence.note(candidate, measurement, score);
            }
            Trial::Failed(error) if candidate == 0 => return Err(error.into()),
            Trial::Failed(error) => {
                let reason = message(&error);
                listener.note(&format!(
                    "left out ({}): {reason}",
                    self.candidate(candidate)
                ));
                self.failures.insert(candidate, reason);
            }
            Trial::Stopped => return Ok(false),
        }
        Ok(true)
    }

    /// The longest that a training of a candidate on all rows took; of one that was not measured, as long
    /// as that of the file.
    fn seconds_of(&self, candidate: usize) -> f64 {
        let cost = |at: usize| self.schedule.measurements[at].cost();
        let own = self.evidence.seconds(candidate, cost);
        own.or_else(|| self.evidence.seconds(0, cost))
            .unwrap_or(0.0)
    }

    /// The longest that the last training may take, by those that may win.
    fn last(&self, left: &[usize]) -> f64 {
        let seconds = left.iter().map(|&candidate| self.seconds_of(candidate));
        seconds.fold(0.0, f64::max)
    }

    /// The metric as it is, of a value of which more is better, and the other way round.
    fn signed(&self, value: f64) -> f64 {
        match self.metric.higher_is_better() {
            true => value,
            false => -value,
        }
    }

    /// Trains a candidate and measures it.
    fn measure(&self, candidate: usize, measurement: usize) -> Result<Trial, ExperimentError> {
        let config = changed(self.request.file, self.candidate(candidate))?;
        let mut config = self.schedule.measurements[measurement].of(config);
        config.adapter = config.adapter.joining_for(self.rows);
        let trials = self.trials();
        let run = trials.join(format!("{candidate}-{measurement}"));
        config.output = run.to_string_lossy().into_owned();
        let clock = Clock::start(self.request.budget);
        let outcome = self.train(config, &mut Silent);
        let seconds = clock.elapsed();
        // Nothing of it is needed any more.
        match fs::remove_dir_all(&trials) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(FileError::io("remove", &trials)(error).into()),
        }
        Ok(match outcome {
            Err(error) => Trial::Failed(error),
            Ok(outcome) if outcome.interrupted => Trial::Stopped,
            Ok(outcome) => {
                let metrics = outcome.validation.unwrap_or_default();
                let value = metrics.get(self.metric.name()).copied();
                let value = self.signed(value.unwrap_or(f64::NAN));
                Trial::Measured(Score { value, seconds })
            }
        })
    }

    /// Beside the output, which an earlier result may hold until there is a winner.
    fn trials(&self) -> PathBuf {
        let out = self.request.out.path();
        let name = out.file_name().unwrap_or_default().to_string_lossy();
        out.with_file_name(format!(".{name}.{TRIALS}"))
    }

    fn train(
        &self,
        config: TrainConfig,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainerError> {
        let options = RunOptions {
            device: self.device.clone(),
            resume: false,
            force: true,
            stop: self.request.stop,
            processes: &Processes::alone(),
        };
        if options.stop.load(Ordering::Relaxed) {
            return Ok(Outcome {
                interrupted: true,
                ..Outcome::default()
            });
        }
        Training::prepare(config)?.run(&options, observer)
    }

    /// Writes the winner's file and trains it on all rows.
    ///
    /// # Errors
    /// If the file cannot be written or the training fails.
    pub fn train_winner(
        &self,
        winner: usize,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, ExperimentError> {
        let out = self.request.out.path();
        let run = TuneReport::run(out).to_string_lossy().into_owned();
        let mut table = self.candidate(winner).apply(self.request.file.table());
        table.insert("output".to_owned(), Value::String(run));
        let text = toml::to_string_pretty(&table)
            .map_err(|error| eigenmix_experiment::BadInput(error.to_string()))?;
        write_file(&TuneReport::winner_file(out), text.as_bytes())?;
        let config = eigenmix_experiment::train_config(&table)
            .map_err(|problems| self.request.file.error(problems))?;
        Ok(self.train(config, observer)?)
    }

    /// All that was measured, the best first.
    pub fn report(&self, found: &Found, measured_on: String) -> TuneReport {
        let all: Vec<usize> = (0..found.begun).collect();
        // Those that went furthest first, and of these the best.
        let mut order: Vec<usize> = Vec::new();
        for rung in self.schedule.rungs.iter().rev() {
            let ranked = self.evidence.ranked(&all, &rung.compared);
            order.extend(
                ranked
                    .into_iter()
                    .filter(|place| !order.contains(place))
                    .collect::<Vec<_>>(),
            );
        }
        let seen: BTreeSet<usize> = order.iter().copied().collect();
        order.extend(all.iter().filter(|place| !seen.contains(place)));
        order.retain(|place| {
            self.evidence.of(*place).iter().any(Option::is_some)
                || self.failures.contains_key(place)
        });
        TuneReport {
            out: self.request.out.path().to_owned(),
            metric: self.metric.name(),
            measured_on,
            budget: self.request.budget.as_secs_f64(),
            seconds: self.clock.elapsed(),
            out_of_time: found.out_of_time,
            untried: self.candidates.len() - order.len(),
            winner: found
                .winner
                .and_then(|winner| order.iter().position(|&at| at == winner)),
            candidates: order.iter().map(|&place| self.tried(place)).collect(),
            outcome: None,
        }
    }

    fn tried(&self, place: usize) -> TriedCandidate {
        let scores = self.evidence.of(place);
        let rungs = self.schedule.rungs.iter().rev();
        let last = rungs
            .map(|rung| &rung.compared)
            .find(|compared| self.evidence.mean(place, compared).is_some());
        let gain = last.and_then(|compared| self.evidence.gain(place, compared));
        let measured = scores.iter().enumerate().filter_map(|(at, score)| {
            let name = self.schedule.measurements[at].to_string();
            Some((name, MetricValue(self.signed((*score)?.value))))
        });
        TriedCandidate {
            changes: self.candidate(place).to_string(),
            parameters: self.candidates[place].parameters,
            mean: last
                .and_then(|compared| self.evidence.mean(place, compared))
                .map(|mean| MetricValue(self.signed(mean))),
            gain: gain.map(|(mean, _)| MetricValue(mean)),
            gain_error: gain.and_then(|(_, error)| error).map(MetricValue),
            measurements: measured.collect(),
            seconds: scores.iter().flatten().map(|score| score.seconds).sum(),
            failure: self.failures.get(&place).cloned(),
        }
    }
}
