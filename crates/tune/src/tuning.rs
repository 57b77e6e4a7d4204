//! A tuning from its file to the winner's run.

use std::fs;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use eigenmix_data::Split;
use eigenmix_experiment::{BadInput, ConfigFile, Destination, ExperimentError, Listener};
use eigenmix_tensors::{FileError, write_file};
use eigenmix_trainer::{BaseModel, DeviceChoice, MemoryEstimate, TrainConfig, Training};

use crate::candidate::Candidate;
use crate::clock::Clock;
use crate::measurement::Measurement;
use crate::report::TuneReport;
use crate::rungs::Schedule;
use crate::search::{Counted, Search, changed};
use crate::space::candidates;

/// How many folds there are where the data have no validation split.
const FOLDS: usize = 5;

/// From so many training rows on, candidates are first tried on shares of them.
const MANY_ROWS: usize = 2_000;

/// The shares that are trained on, as 1 over these.
const SHARES: [usize; 3] = [4, 2, 1];

/// A head has no part in the parameters that are counted, so that any number of outputs will do.
const ANY_LABELS: usize = 2;

/// A tuning.
pub struct TuneRequest<'a> {
    /// The training file.
    pub file: &'a ConfigFile,
    /// Where the report, the winner's file and its run go.
    pub out: &'a Destination,
    /// The time for all of it.
    pub budget: Duration,
    /// Measure on so many folds of the training rows, even where there is a validation split.
    pub folds: Option<usize>,
    /// The most parameters that an adapter may train.
    pub most_parameters: Option<u64>,
    pub device: DeviceChoice,
    /// Set from outside to stop after the current step.
    pub stop: &'a AtomicBool,
}

/// Tries changes of a training file within a budget of time, trains the best on all rows and writes the
/// report, the file and the run of it.
///
/// # Errors
/// If the file or what it names is not as expected, the output exists, or the training of the file itself
/// or of the winner fails. A stop from outside is no error: the report says it.
pub fn tune(request: &TuneRequest, listener: &dyn Listener) -> Result<TuneReport, ExperimentError> {
    let clock = Clock::start(request.budget);
    let config = request.file.train_config()?;
    check(request, &config)?;
    let training = Training::prepare(config.clone())?;
    let rows = training.rows(Split::Train).unwrap_or(0);
    let candidates = counted(request, &config, rows)?;
    let (schedule, measured_on) = schedule(request, &training)?;
    training.notes().for_each(|note| listener.note(&note));
    let metric = training.first_metric();
    let measured = training.rows(Split::Validation).unwrap_or(0);
    drop(training);
    let mut search = Search::new(
        request,
        clock,
        schedule,
        candidates,
        (metric, measured, rows),
    )?;
    let found = search.run(listener)?;
    let mut report = search.report(&found, measured_on);
    let Some(winner) = found.winner else {
        return Ok(report);
    };
    // Only now is there something to put in the place of an earlier result.
    begin(request.out)?;
    write(request.out, &report)?;
    let action = format!("the winner ({})", search.candidate(winner));
    let outcome = search.train_winner(winner, &mut *listener.training(&action))?;
    report.outcome = Some(outcome);
    report.seconds = search.seconds();
    write(request.out, &report)?;
    Ok(report)
}

fn write(out: &Destination, report: &TuneReport) -> Result<(), ExperimentError> {
    let text = serde_json::to_vec_pretty(report)?;
    Ok(write_file(&out.path().join(TuneReport::FILE_NAME), &text)?)
}

/// Refuses what cannot be tuned, and outputs that hold an input.
fn check(request: &TuneRequest, config: &TrainConfig) -> Result<(), ExperimentError> {
    if let Some(fold) = config.data.fold {
        return Err(BadInput(format!(
            "data.fold = \"{fold}\" holds rows out for good; remove it, since tuning makes folds itself \
             (--folds)"
        ))
        .into());
    }
    let out = request.out;
    out.keep_apart_from_training(request.file.path(), config)
}

/// What candidates are measured on, and the words for it.
fn schedule(
    request: &TuneRequest,
    training: &Training,
) -> Result<(Schedule, String), ExperimentError> {
    let rows = training.rows(Split::Train).unwrap_or(0);
    let validation = training.rows(Split::Validation);
    let folds = match (request.folds, validation) {
        (Some(folds), _) if folds < 2 || folds > rows => {
            return Err(BadInput(format!(
                "--folds {folds}: expected 2 to {rows}, since there are {rows} rows to train on"
            ))
            .into());
        }
        (Some(folds), _) => Some(folds),
        (None, Some(_)) => None,
        (None, None) if rows < 2 => {
            return Err(BadInput(format!(
                "the data have no validation split and {rows} training rows: nothing to measure on"
            ))
            .into());
        }
        (None, None) => Some(FOLDS.min(rows)),
    };
    Ok(match folds {
        Some(folds) => (
            Schedule::of_folds(Measurement::folds(folds).collect()),
            format!("folds of the {rows} training rows"),
        ),
        None => {
            let shares = SHARES
                .iter()
                .filter(|part| **part == 1 || rows >= MANY_ROWS);
            let shares = shares.map(|&part| Measurement::Share { part, rows });
            (
                Schedule::of_shares(shares.collect()),
                format!("the validation split ({} rows)", validation.unwrap_or(0)),
            )
        }
    })
}

/// The candidates that train no more parameters than they may.
///
/// - rows: how many there are to train on
fn counted(
    request: &TuneRequest,
    config: &TrainConfig,
    rows: usize,
) -> Result<Vec<Counted>, ExperimentError> {
    let base = BaseModel::open_config(&config.base.model)?;
    let count = |candidate: Candidate| -> Result<Counted, ExperimentError> {
        let config = changed(request.file, &candidate)?;
        let parameters = MemoryEstimate::new(&config, &base, ANY_LABELS)?.adapter_parameters;
        Ok(Counted {
            candidate,
            parameters,
        })
    };
    let most = request.most_parameters.unwrap_or(u64::MAX);
    let mut found = vec![count(Candidate::default())?];
    if found[0].parameters > most {
        return Err(BadInput(format!(
            "--parameters {most}: the file itself trains {} parameters; give it fewer components, a lower \
             rank or fewer target modules",
            found[0].parameters
        ))
        .into());
    }
    for candidate in candidates(request.file.table(), config, rows)
        .into_iter()
        .skip(1)
    {
        // A change that does not fit the model, such as a gradient where there is none, is no candidate.
        if let Ok(counted) = count(candidate)
            && counted.parameters <= most
        {
            found.push(counted);
        }
    }
    Ok(found)
}

/// Makes the output directory, in the place of an earlier one where that is allowed.
fn begin(out: &Destination) -> Result<(), ExperimentError> {
    let path = out.path();
    if out.force() && path.exists() {
        fs::remove_dir_all(path).map_err(FileError::io("remove", path))?;
    }
    fs::create_dir_all(path).map_err(FileError::io("create", path))?;
    Ok(())
}
