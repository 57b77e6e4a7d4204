//! How many optimizer steps a training takes.

use super::batches::Batches;
use crate::config::TrainingConfig;

/// The length of a training in optimizer steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrainingLength {
    epochs: usize,
    /// The steps of all epochs; where they exceed the limit, of as many as do.
    of_epochs: usize,
    /// `training.max_steps`.
    limit: Option<usize>,
}

impl TrainingLength {
    /// - batches: of the training split
    pub fn new(training: &TrainingConfig, batches: &Batches) -> Self {
        Self {
            epochs: training.epochs,
            of_epochs: batches.steps(training.epochs, training.max_steps),
            limit: training.max_steps,
        }
    }

    /// How many steps are taken if nothing stops the training before.
    pub fn steps(self) -> usize {
        self.limit
            .map_or(self.of_epochs, |limit| limit.min(self.of_epochs))
    }

    /// What to say where the epochs end before `training.max_steps`.
    pub fn short_epochs(self) -> Option<String> {
        let Self {
            epochs, of_epochs, ..
        } = self;
        let limit = self.limit.filter(|limit| *limit > of_epochs)?;
        Some(format!(
            "training.max_steps is {limit}, but training.epochs = {epochs} ends after {of_epochs} \
             steps; raise training.epochs to take more"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two epochs of nine examples in batches of four, two batches a step.
    fn length(limit: Option<usize>) -> TrainingLength {
        let file = "epochs = 2\nbatch_size = 4\ngradient_accumulation = 2\nlearning_rate = 0.1";
        let training: TrainingConfig = toml::from_str(file).unwrap();
        let training = TrainingConfig {
            max_steps: limit,
            ..training
        };
        let batches = Batches::new(&training, 0, vec![5; 9], vec![false; 9]).unwrap();
        TrainingLength::new(&training, &batches)
    }

    #[test]
    fn the_epochs_or_the_limit_end_a_training_whichever_comes_first() {
        for (limit, steps) in [(None, 4), (Some(3), 3), (Some(4), 4), (Some(5), 4)] {
            assert_eq!(length(limit).steps(), steps, "{limit:?}");
        }
    }

    #[test]
    fn batches_by_tokens_take_their_own_number_of_steps() {
        let file = "epochs = 3\ntokens_per_batch = 11\nlearning_rate = 0.1";
        let training: TrainingConfig = toml::from_str(file).unwrap();
        // Two of nine fit into a batch.
        let batches = Batches::new(&training, 0, vec![5; 9], vec![false; 9]).unwrap();
        assert_eq!(TrainingLength::new(&training, &batches).steps(), 15);
        let limited = |limit| {
            let training = TrainingConfig {
                max_steps: Some(limit),
                ..training.clone()
            };
            TrainingLength::new(&training, &batches)
        };
        assert_eq!(limited(7).steps(), 7);
        assert_eq!(limited(7).short_epochs(), None);
        assert_eq!(limited(99).steps(), 15);
        assert!(
            limited(99)
                .short_epochs()
                .unwrap()
                .contains("after 15 steps")
        );
    }

    #[test]
    fn more_steps_than_the_epochs_have_are_told() {
        let note = length(Some(5)).short_epochs().unwrap();
        assert!(
            note.contains("max_steps is 5") && note.contains("after 4 steps"),
            "{note}"
        );
        assert_eq!(length(Some(4)).short_epochs(), None);
        assert_eq!(length(None).short_epochs(), None);
    }
}
