//! The batches of a training's epochs.

use eigenmix_data::{BatchPlan, LengthGrouping};

use super::micro_batches::divided;
use crate::batch_size::{BatchSize, BatchSizeError};
use crate::config::TrainingConfig;

/// How the training examples fall into batches, the same whenever a run is resumed.
pub(crate) struct Batches {
    /// The rows of each example: tokens of a text, patches of an image.
    lengths: Vec<usize>,
    /// Which examples have images between their words.
    have_images: Vec<bool>,
    /// Of images that only go together where both sides are the same: height and width of each.
    sizes: Option<Vec<[usize; 2]>>,
    size: BatchSize,
    grouping: LengthGrouping,
    seed: u64,
    /// How many batches make a step.
    accumulation: usize,
}

impl Batches {
    /// - lengths: of the training examples, in rows
    /// - have_images: which of them have images between their words
    ///
    /// # Errors
    /// If the configuration does not say the size of a batch.
    pub fn new(
        training: &TrainingConfig,
        seed: u64,
        lengths: Vec<usize>,
        have_images: Vec<bool>,
    ) -> Result<Self, BatchSizeError> {
        Ok(Self {
            lengths,
            have_images,
            sizes: None,
            size: training.size_of_batches()?,
            grouping: training.batching,
            seed,
            accumulation: training.gradient_accumulation.get(),
        })
    }

    /// Batches of images of one size each.
    ///
    /// - sizes: height and width of each
    ///
    /// # Errors
    /// As [`Batches::new`].
    pub fn of_sizes(
        training: &TrainingConfig,
        seed: u64,
        sizes: Vec<[usize; 2]>,
    ) -> Result<Self, BatchSizeError> {
        let lengths = sizes.iter().map(|[height, width]| height * width);
        let mut batches = Self::new(training, seed, lengths.collect(), vec![false; sizes.len()])?;
        batches.sizes = Some(sizes);
        Ok(batches)
    }

    /// The batches of an epoch.
    pub fn plan(&self, epoch: usize) -> BatchPlan {
        match (self.size, &self.sizes) {
            (BatchSize::Examples(examples), Some(sizes)) => {
                BatchPlan::by_size(sizes, examples, self.seed, epoch)
            }
            (BatchSize::Examples(examples), None) => {
                // Texts with images are longer than all others where batches are grouped, so that those
                // with and those without come apart.
                let longest = self.lengths.iter().copied().max().unwrap_or(0);
                let pairs = self.lengths.iter().zip(&self.have_images);
                let grouped: Vec<usize> = pairs
                    .map(|(&length, &has_images)| match has_images {
                        true => longest + 1 + length,
                        false => length,
                    })
                    .collect();
                BatchPlan::training(&grouped, examples, self.grouping, self.seed, epoch)
            }
            (BatchSize::Tokens(tokens), _) => {
                BatchPlan::by_tokens(&self.lengths, tokens, self.seed, epoch)
            }
        }
    }

    /// What goes through the model at once in a step: its batches, each divided into `parts`.
    pub fn micro_batches(&self, batches: &[Vec<usize>], parts: usize) -> Vec<Vec<usize>> {
        let batches = batches.iter();
        batches
            .flat_map(|batch| divided(batch, parts, &self.lengths))
            .collect()
    }

    /// How many steps the first epochs take. Batches by tokens are not as many in every epoch, since
    /// it depends on the order which examples share one.
    ///
    /// - limit: counting ends with the epoch that exceeds this many steps
    pub fn steps(&self, epochs: usize, limit: Option<usize>) -> usize {
        let steps = |batches: usize| batches.div_ceil(self.accumulation);
        match self.size {
            // As many of every size in every epoch.
            BatchSize::Examples(_) if self.sizes.is_some() => {
                epochs * steps(self.plan(0).batches().len())
            }
            BatchSize::Examples(examples) => {
                epochs * steps(self.lengths.len().div_ceil(examples.get()))
            }
            BatchSize::Tokens(_) => {
                let mut taken = 0;
                for epoch in 0..epochs {
                    if limit.is_some_and(|limit| taken > limit) {
                        break;
                    }
                    taken += steps(self.plan(epoch).batches().len());
                }
                taken
            }
        }
    }

    /// What to say where examples are longer than the tokens of a batch.
    pub fn long_examples(&self) -> Option<String> {
        let BatchSize::Tokens(tokens) = self.size else {
            return None;
        };
        let longer = self.lengths.iter().filter(|length| **length > tokens.get());
        let count = longer.clone().count();
        let longest = longer.max()?;
        Some(format!(
            "{count} of {} training examples are longer than training.tokens_per_batch = {tokens}, \
             the longest {longest} tokens; each of them is a batch of its own",
            self.lengths.len()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(training: &str, lengths: &[usize]) -> Batches {
        let file = format!("epochs = 2\nlearning_rate = 0.1\n{training}");
        Batches::new(
            &toml::from_str(&file).unwrap(),
            3,
            lengths.to_vec(),
            vec![false; lengths.len()],
        )
        .unwrap()
    }

    /// Lengths between 4 and 40 without any order.
    fn lengths(examples: usize) -> Vec<usize> {
        (0..examples).map(|example| 4 + example * 29 % 37).collect()
    }

    #[test]
    fn the_steps_of_batches_by_tokens_are_those_of_the_plans_of_all_epochs() {
        for accumulation in [1, 3] {
            let training = format!("tokens_per_batch = 90\ngradient_accumulation = {accumulation}");
            let batches = batches(&training, &lengths(103));
            let of_epoch = |epoch| batches.plan(epoch).batches().len().div_ceil(accumulation);
            let all: usize = (0..20).map(of_epoch).sum();
            assert_eq!(batches.steps(20, None), all);
            // Epochs differ, so a multiple of the first would be wrong.
            assert_ne!(all, 20 * of_epoch(0));
            let taken = batches.steps(20, Some(all / 2));
            assert!((all / 2 + 1..all).contains(&taken), "{taken} of {all}");
        }
    }

    #[test]
    fn the_steps_of_batches_by_examples_are_as_many_in_every_epoch() {
        let batches = batches("batch_size = 4\ngradient_accumulation = 2", &lengths(9));
        assert_eq!(batches.steps(5, None), 10);
        let groups = batches.plan(1).batches().len().div_ceil(2);
        assert_eq!(groups, 2);
    }

    #[test]
    fn images_of_one_size_share_a_batch_and_every_epoch_has_as_many_steps() {
        let training = "batch_size = 4\ngradient_accumulation = 2\nepochs = 3\nlearning_rate = 0.1";
        let sizes: Vec<[usize; 2]> = (0..11).map(|index| [8, 8 + 4 * (index % 3)]).collect();
        let training = toml::from_str(training).unwrap();
        let batches = Batches::of_sizes(&training, 3, sizes.clone()).unwrap();
        for epoch in 0..3 {
            let plan = batches.plan(epoch);
            assert_eq!(plan.batches().len(), 3);
            for batch in plan.batches() {
                assert!(batch.iter().all(|image| sizes[*image] == sizes[batch[0]]));
            }
        }
        assert_eq!(batches.steps(5, None), 5 * 2);
    }

    #[test]
    fn examples_that_are_longer_than_a_batch_are_told() {
        let note = batches("tokens_per_batch = 20", &[7, 21, 20, 50]).long_examples();
        let note = note.unwrap();
        assert!(note.starts_with("2 of 4 training examples"), "{note}");
        assert!(note.contains("longest 50 tokens"), "{note}");
        let fitting = batches("tokens_per_batch = 50", &[7, 21, 20, 50]);
        assert_eq!(fitting.long_examples(), None);
        let by_examples = batches("batch_size = 2", &[7, 21, 20, 50]);
        assert_eq!(by_examples.long_examples(), None);
    }
}
