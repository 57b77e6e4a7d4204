//! The start of a training that follows from its data: `adapter.init = "auto"`. Before the first step zero and
//! the average of the recycled adapters are each applied to the frozen base model and judged on the training's
//! own examples; the choice is kept in the run, so that a resumed training tells the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use eigenmix_moslora::{Mixer, Update};
use eigenmix_tensors::{FileError, Matrix, write_file};
use serde::{Deserialize, Serialize};

use super::selection::{MeasuredLoss, Measurement};
use super::{NetworkTraining, Observer, RunOptions};
use crate::TrainerError;
use crate::init::Init;
use crate::run::Run;
use crate::run_output;

/// On how many examples a start is judged, at most.
const EXAMPLES: usize = 512;

/// The share of the loss from zero by which the average has to be below it. Adapters of unrelated tasks lower it
/// by some hundredths, and a training that starts from them ends no better.
const LEAST_GAIN: f64 = 0.1;

/// How many standard errors of the difference the average has to be below zero, too.
const LEAST_ERRORS: f64 = 1.0;

/// The start that the data chose, and by what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChosenStart {
    /// "zero" or "merge".
    pub init: Init,
    /// On how many examples of the training split the losses were measured.
    pub examples: usize,
    /// The loss of the task from ΔW = 0, before anything is trained: the mean over the examples, each under a
    /// head that was fitted without it; of a language model that over the predicted tokens. `None` of one that
    /// is not finite.
    pub zero_loss: Option<f64>,
    /// The same from the average of the recycled adapters.
    pub merge_loss: Option<f64>,
    /// The standard error of the difference of the two.
    pub standard_error: Option<f64>,
}

impl ChosenStart {
    /// Takes the average of the adapters where it is clearly better than zero.
    ///
    /// - least_gain: the share of the loss from zero by which it has to be better
    pub(crate) fn new(
        zero: &MeasuredLoss,
        merge: &MeasuredLoss,
        examples: usize,
        least_gain: f64,
    ) -> Self {
        let [advantage, error] = merge.advantage_over(zero);
        // A comparison with what is no number is false.
        let is_better = advantage > least_gain * zero.mean() && advantage > LEAST_ERRORS * error;
        let finite = |value: f64| value.is_finite().then_some(value);
        Self {
            init: match is_better {
                true => Init::Merge,
                false => Init::Zero,
            },
            examples,
            zero_loss: finite(zero.mean()),
            merge_loss: finite(merge.mean()),
            standard_error: finite(error),
        }
    }

    /// Reads what a run kept.
    ///
    /// # Errors
    /// If it can't be read.
    pub(crate) fn read(path: &Path) -> Result<Self, TrainerError> {
        let text = std::fs::read(path).map_err(FileError::io("read", path))?;
        serde_json::from_slice(&text).map_err(|error| TrainerError::Checkpoint {
            path: path.to_owned(),
            problem: error.to_string(),
        })
    }

    /// Keeps it in a run.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn write(&self, run: &Path) -> Result<(), TrainerError> {
        let path = run.join(Run::START);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| FileError::io("write", &path)(error.into()))?;
        Ok(write_file(&path, &text)?)
    }
}

/// Sets updates to ΔW = 0 on the same basis, as `adapter.init = "zero"` makes them. False, and nothing is
/// changed, where one of them has another mixer than a full one: EigenLoRAx's other factor is drawn anew.
pub(crate) fn set_to_zero(updates: &mut BTreeMap<String, Update>) -> bool {
    let is_full = |update: &Update| matches!(update.mixer, Mixer::Full(_));
    if !updates.values().all(is_full) {
        return false;
    }
    for update in updates.values_mut() {
        if let Mixer::Full(mixer) = &mut update.mixer {
            let [rows, cols] = mixer.matrix.shape();
            mixer.matrix = Matrix::zeros(rows, cols);
        }
    }
    true
}

impl fmt::Display for ChosenStart {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let number =
            |value: Option<f64>| value.map_or("no number".to_owned(), |it| format!("{it:.4}"));
        let (zero, merge) = (number(self.zero_loss), number(self.merge_loss));
        let [start, reason] = match self.init {
            Init::Merge => ["the average of the recycled adapters", ""],
            _ => ["zero", ", which is not enough to start from them"],
        };
        write!(
            formatter,
            "the training starts from {start}: before any training their average brings the loss on {} of its \
             examples from {zero} to {merge} (standard error of the difference {}){reason}",
            self.examples,
            number(self.standard_error),
        )
    }
}

impl NetworkTraining {
    /// Chooses the start, if the configuration leaves it to the data and there is a choice.
    ///
    /// # Errors
    /// If the run exists already, or the losses can't be measured.
    pub(super) fn choose_start(
        &mut self,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<Option<ChosenStart>, TrainerError> {
        if self.config.adapter.init() != Init::Auto || self.start != Init::Merge {
            return Ok(None);
        }
        let output = Path::new(&self.config.output);
        let kept = output.join(Run::START);
        // Without a checkpoint nothing was trained from that start, and it is measured anew.
        let is_kept = options.processes.as_first_finds(|| {
            let is_begun = !Run::at(output).checkpoints().is_empty();
            options.resume && is_begun && kept.is_file()
        })?;
        let chosen = match is_kept {
            true => ChosenStart::read(&kept)?,
            false => {
                run_output::refuse_existing(output, options)?;
                // Both models share their weights, which are let go before the training loads its own.
                let sharing = self.base.sharing(self.config.base.weights)?;
                let own = std::mem::replace(&mut self.base.checkpoint, sharing);
                let measured = self.measure_starts(options, observer);
                self.base.checkpoint = own;
                measured?
            }
        };
        self.notes.push(chosen.to_string());
        if chosen.init != self.start {
            self.start = chosen.init.clone();
            // With the gradient of the task the basis is another one, and is made later.
            if self.config.adapter.gradient_config().is_none() && !set_to_zero(&mut self.updates) {
                self.put_into_basis(None)?;
            }
        }
        Ok(Some(chosen))
    }

    /// Measures both starts on the same examples of the training split, drawn by the seed.
    fn measure_starts(
        &self,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<ChosenStart, TrainerError> {
        let examples = self.drawn_examples(EXAMPLES);
        let total = 2 * examples.len();
        let state = RefCell::new((0, observer));
        let advance = |count: usize| {
            let (done, observer) = &mut *state.borrow_mut();
            *done += count;
            observer.starts_measured(*done, total);
        };
        let measurement = Measurement {
            training: self,
            chosen: &examples,
            device: &options.device.clone().inner(),
            progress: &advance,
        };
        let zero = measurement.run(BTreeMap::new())?;
        let frozen =
            |(path, update): (&String, &Update)| (path.clone(), Update::from_lora(&update.fold()));
        let merge = measurement.run(self.updates.iter().map(frozen).collect())?;
        Ok(ChosenStart::new(&zero, &merge, examples.len(), LEAST_GAIN))
    }
}

#[cfg(test)]
mod tests {
    use eigenmix_moslora::EigenloraxStart;

    use super::*;

    fn chosen(zero: &[f64], merge: &[f64]) -> ChosenStart {
        let [zero, merge] = [zero, merge].map(MeasuredLoss::of_examples);
        ChosenStart::new(&zero, &merge, 4, LEAST_GAIN)
    }

    #[test]
    fn the_average_is_taken_where_it_lowers_the_loss_by_a_tenth_and_by_a_standard_error() {
        let zero = [1.0, 1.2, 0.8, 1.0];
        for (merge, init) in [
            ([0.85, 1.05, 0.65, 0.85], Init::Merge),
            // By less than a tenth.
            ([0.92, 1.12, 0.72, 0.92], Init::Zero),
            // By 0.15, and a standard error of 0.25.
            ([0.1, 1.2, 0.8, 1.3], Init::Zero),
            ([1.5, 1.7, 1.3, 1.5], Init::Zero),
            ([f64::NAN, 0.1, 0.1, 0.1], Init::Zero),
        ] {
            assert_eq!(chosen(&zero, &merge).init, init, "{merge:?}");
        }
    }

    #[test]
    fn a_full_mixer_is_set_to_zero_on_its_basis_and_factored_ones_are_drawn_anew() {
        let basis = |rows| Matrix::from_fn(rows, 2, |row, col| f32::from(u8::from(row == col)));
        let mixer = Matrix::new(2, 2, vec![1.0, -2.0, 0.5, 3.0]);
        let update = |start| eigenmix_moslora::eigenmix(basis(4), basis(3), 1.5, 0.1, start);
        let named = |update: Update| BTreeMap::from([("layer".to_owned(), update)]);
        let mut updates = named(update(Some(mixer)));
        assert!(set_to_zero(&mut updates));
        assert_eq!(updates, named(update(None)));

        let start = EigenloraxStart::Random;
        let (left, right) = (basis(4), basis(3));
        let factored = eigenmix_moslora::eigenlorax("layer", 1, left, right, 2, 1.0, 0.0, start);
        let mut updates = named(factored.clone());
        assert!(!set_to_zero(&mut updates));
        assert_eq!(updates, named(factored));
    }

    #[test]
    fn a_choice_says_why_and_is_read_back_as_written() {
        let place = tempfile::tempdir().expect("a directory");
        for (merge, words) in [
            (
                [0.5, 0.7, 0.3, 0.5],
                "from the average of the recycled adapters: ",
            ),
            (
                [0.99, 1.2, 0.8, 1.0],
                "which is not enough to start from them",
            ),
            ([f64::INFINITY, 1.2, 0.8, 1.0], "from 1.0000 to no number"),
        ] {
            let chosen = chosen(&[1.0, 1.2, 0.8, 1.0], &merge);
            chosen.write(place.path()).expect("a file");
            let read = ChosenStart::read(&place.path().join(Run::START)).expect("a choice");
            assert_eq!(read, chosen);
            let text = chosen.to_string();
            assert!(text.contains(words), "{text}");
        }
    }
}
