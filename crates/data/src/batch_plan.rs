//! The order of examples and their batches in an epoch, drawn from the seed so that a run can
//! resume.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether, and how widely, training batches gather examples of similar length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LengthGrouping {
    /// Less padding, at the price of batches that are not quite a random draw.
    pub group_by_length: bool,
    /// How many batches' worth of shuffled examples are sorted by length together.
    pub window: NonZeroUsize,
}

impl Default for LengthGrouping {
    fn default() -> Self {
        const WINDOW: NonZeroUsize = NonZeroUsize::new(50).expect("50 is not zero");
        Self {
            group_by_length: true,
            window: WINDOW,
        }
    }
}

/// Which examples each batch of an epoch holds: every example once, the smaller rest in its own batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPlan {
    batches: Vec<Vec<usize>>,
}

impl BatchPlan {
    /// The plan of a training epoch; the same for the same arguments on every machine.
    ///
    /// The examples are shuffled; with grouping, each window of them is sorted by length and cut
    /// into batches; then the batches are shuffled.
    ///
    /// - lengths: `[examples]`, in tokens
    pub fn training(
        lengths: &[usize],
        batch_size: NonZeroUsize,
        grouping: LengthGrouping,
        seed: u64,
        epoch: usize,
    ) -> Self {
        let (mut examples, mut rng) = shuffled(lengths.len(), seed, epoch);
        if !grouping.group_by_length {
            return Self::cut(&examples, batch_size);
        }
        let window = batch_size.saturating_mul(grouping.window);
        for window in examples.chunks_mut(window.get()) {
            window.sort_by_key(|example| lengths[*example]);
        }
        let mut plan = Self::cut(&examples, batch_size);
        plan.batches.shuffle(&mut rng);
        plan
    }

    /// The plan of an evaluation: sorted by length, so that padding is least.
    ///
    /// - lengths: `[examples]`, in tokens
    pub fn evaluation(lengths: &[usize], batch_size: NonZeroUsize) -> Self {
        let mut examples: Vec<usize> = (0..lengths.len()).collect();
        examples.sort_by_key(|example| lengths[*example]);
        Self::cut(&examples, batch_size)
    }

    /// The plan of a training epoch whose batches hold a number of tokens rather than of examples,
    /// for models that take sequences one after the other without padding.
    ///
    /// The examples are shuffled and fill the batches in that order: a batch ends before the example
    /// that would exceed its tokens. An example longer than that is a batch of its own.
    ///
    /// - lengths: `[examples]`, in tokens
    pub fn by_tokens(
        lengths: &[usize],
        tokens_per_batch: NonZeroUsize,
        seed: u64,
        epoch: usize,
    ) -> Self {
        let (examples, _) = shuffled(lengths.len(), seed, epoch);
        Self::fill(&examples, lengths, tokens_per_batch)
    }

    /// The plan of an evaluation whose batches hold a number of tokens, in the order of the examples.
    ///
    /// - lengths: `[examples]`, in tokens
    pub fn evaluation_by_tokens(lengths: &[usize], tokens_per_batch: NonZeroUsize) -> Self {
        let examples: Vec<usize> = (0..lengths.len()).collect();
        Self::fill(&examples, lengths, tokens_per_batch)
    }

    /// The plan of a training epoch whose batches hold examples of one size, such as images of one height
    /// and width.
    ///
    /// The examples are shuffled and each is put with those of its size; batches are cut from these, and
    /// shuffled. Every size may leave a smaller rest.
    ///
    /// - sizes: `[examples]`
    pub fn by_size<S: Ord>(sizes: &[S], batch_size: NonZeroUsize, seed: u64, epoch: usize) -> Self {
        let (examples, mut rng) = shuffled(sizes.len(), seed, epoch);
        let mut plan = Self::cut_by_size(&examples, sizes, batch_size);
        plan.batches.shuffle(&mut rng);
        plan
    }

    /// The plan of an evaluation whose batches hold examples of one size: by size, then in the order of
    /// the examples.
    ///
    /// - sizes: `[examples]`
    pub fn evaluation_by_size<S: Ord>(sizes: &[S], batch_size: NonZeroUsize) -> Self {
        let examples: Vec<usize> = (0..sizes.len()).collect();
        Self::cut_by_size(&examples, sizes, batch_size)
    }

    fn cut_by_size<S: Ord>(examples: &[usize], sizes: &[S], batch_size: NonZeroUsize) -> Self {
        let mut of_size: BTreeMap<&S, Vec<usize>> = BTreeMap::new();
        for &example in examples {
            of_size.entry(&sizes[example]).or_default().push(example);
        }
        let batches = of_size.into_values();
        let batches = batches.flat_map(|examples| Self::cut(&examples, batch_size).batches);
        Self {
            batches: batches.collect(),
        }
    }

    /// Ends a batch before the example that would exceed its tokens.
    fn fill(examples: &[usize], lengths: &[usize], tokens_per_batch: NonZeroUsize) -> Self {
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let mut room = 0;
        for &example in examples {
            let length = lengths[example];
            match batches.last_mut() {
                Some(batch) if length <= room => batch.push(example),
                _ => {
                    batches.push(vec![example]);
                    room = tokens_per_batch.get();
                }
            }
            room = room.saturating_sub(length);
        }
        Self { batches }
    }

    fn cut(examples: &[usize], batch_size: NonZeroUsize) -> Self {
        Self {
            batches: examples
                .chunks(batch_size.get())
                .map(<[usize]>::to_vec)
                .collect(),
        }
    }

    /// The examples of each batch.
    pub fn batches(&self) -> &[Vec<usize>] {
        &self.batches
    }

    /// The part of all positions in the padded batches that holds no token, in [0, 1).
    ///
    /// - lengths: `[examples]`, those that the plan was made from
    pub fn padding_fraction(&self, lengths: &[usize]) -> f64 {
        let mut tokens = 0;
        let mut positions = 0;
        for batch in &self.batches {
            let of_batch = batch.iter().map(|example| lengths[*example]);
            positions += batch.len() * of_batch.clone().max().unwrap_or(0);
            tokens += of_batch.sum::<usize>();
        }
        if positions == 0 {
            return 0.0;
        }
        1.0 - tokens as f64 / positions as f64
    }
}

/// The examples of an epoch in random order, and what is drawn from next.
fn shuffled(count: usize, seed: u64, epoch: usize) -> (Vec<usize>, ChaCha8Rng) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64);
    let mut examples: Vec<usize> = (0..count).collect();
    examples.shuffle(&mut rng);
    (examples, rng)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(batch_size: usize) -> NonZeroUsize {
        NonZeroUsize::new(batch_size).unwrap()
    }

    fn shuffled_only() -> LengthGrouping {
        LengthGrouping {
            group_by_length: false,
            ..LengthGrouping::default()
        }
    }

    /// Lengths between 4 and 40 without any order.
    fn lengths(examples: usize) -> Vec<usize> {
        (0..examples).map(|example| 4 + example * 29 % 37).collect()
    }

    fn assert_each_once(plan: &BatchPlan, examples: usize) {
        let mut seen: Vec<usize> = plan.batches().concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..examples).collect::<Vec<usize>>());
    }

    #[test]
    fn every_plan_holds_each_example_once_and_one_smaller_rest() {
        let lengths = lengths(103);
        for plan in [
            BatchPlan::training(&lengths, size(8), LengthGrouping::default(), 1, 0),
            BatchPlan::training(&lengths, size(8), shuffled_only(), 1, 0),
            BatchPlan::evaluation(&lengths, size(8)),
        ] {
            assert_each_once(&plan, 103);
            let mut sizes: Vec<usize> = plan.batches().iter().map(Vec::len).collect();
            sizes.sort_unstable();
            assert_eq!(sizes, [vec![7], vec![8; 12]].concat());
        }
    }

    #[test]
    fn batches_by_size_are_of_one_size_and_hold_each_example_once() {
        let sizes: Vec<[usize; 2]> = (0..50)
            .map(|index| [64, 64 * (1 + index * 7 % 3)])
            .collect();
        let plan = BatchPlan::by_size(&sizes, size(4), 5, 2);
        assert_eq!(plan, BatchPlan::by_size(&sizes, size(4), 5, 2));
        assert_ne!(plan, BatchPlan::by_size(&sizes, size(4), 5, 3));
        for plan in [plan.clone(), BatchPlan::evaluation_by_size(&sizes, size(4))] {
            assert_each_once(&plan, 50);
            for batch in plan.batches() {
                assert!(
                    batch
                        .iter()
                        .all(|example| sizes[*example] == sizes[batch[0]])
                );
            }
            // Of 17, 17 and 16 examples.
            let mut lengths: Vec<usize> = plan.batches().iter().map(Vec::len).collect();
            lengths.sort_unstable();
            assert_eq!(lengths, [vec![1, 1], vec![4; 12]].concat());
        }
        let of_batches = plan.batches().iter().map(|batch| sizes[batch[0]]);
        assert!(!of_batches.is_sorted(), "sizes come in no order");
    }

    #[test]
    fn evaluation_by_size_keeps_the_order_of_equals() {
        let plan = BatchPlan::evaluation_by_size(&["b", "a", "b", "a", "b"], size(2));
        assert_eq!(plan.batches(), [vec![1, 3], vec![0, 2], vec![4]]);
    }

    #[test]
    fn seed_and_epoch_decide_the_plan() {
        let lengths = lengths(60);
        let plan = |seed, epoch| {
            BatchPlan::training(&lengths, size(4), LengthGrouping::default(), seed, epoch)
        };
        assert_eq!(plan(5, 2), plan(5, 2));
        assert_ne!(plan(5, 2), plan(5, 3));
        assert_ne!(plan(5, 2), plan(6, 2));
    }

    /// Recorded once: another machine, or another release of rand, must shuffle the same way, or a
    /// resumed run would see other batches than it would have seen.
    #[test]
    fn the_shuffle_is_the_same_everywhere() {
        let plan = BatchPlan::training(&[1; 12], size(5), shuffled_only(), 42, 3);
        assert_eq!(plan.batches(), RECORDED);
    }

    const RECORDED: [&[usize]; 3] = [&[8, 3, 7, 5, 0], &[10, 11, 2, 1, 6], &[4, 9]];

    #[test]
    fn grouping_saves_most_of_the_padding() {
        let lengths = lengths(740);
        let grouped = BatchPlan::training(&lengths, size(8), LengthGrouping::default(), 9, 0);
        let shuffled = BatchPlan::training(&lengths, size(8), shuffled_only(), 9, 0);
        let sorted = BatchPlan::evaluation(&lengths, size(8));
        let fraction = |plan: &BatchPlan| plan.padding_fraction(&lengths);
        assert!(fraction(&shuffled) > 0.3, "{}", fraction(&shuffled));
        assert!(fraction(&grouped) < 0.05, "{}", fraction(&grouped));
        assert!(fraction(&sorted) <= fraction(&grouped));
    }

    #[test]
    fn batches_are_sorted_within_a_window_only() {
        let lengths = lengths(80);
        let grouping = LengthGrouping {
            group_by_length: true,
            window: size(2),
        };
        let narrow = BatchPlan::training(&lengths, size(4), grouping, 9, 0);
        let wide = BatchPlan::training(&lengths, size(4), LengthGrouping::default(), 9, 0);
        for batch in narrow.batches() {
            assert!(batch.is_sorted_by_key(|example| lengths[*example]));
        }
        assert!(narrow.padding_fraction(&lengths) > 2.0 * wide.padding_fraction(&lengths));
    }

    #[test]
    fn the_batches_of_a_window_do_not_come_by_length() {
        let lengths = lengths(80);
        let plan = BatchPlan::training(&lengths, size(4), LengthGrouping::default(), 9, 0);
        assert!(!plan.batches().is_sorted_by_key(|batch| lengths[batch[0]]));
    }

    #[test]
    fn evaluation_goes_from_short_to_long_and_keeps_the_order_of_equals() {
        let plan = BatchPlan::evaluation(&[7, 3, 9, 3, 7], size(2));
        assert_eq!(plan.batches(), [vec![1, 3], vec![0, 4], vec![2]]);
    }

    #[test]
    fn the_padding_fraction_counts_the_positions_without_a_token() {
        let lengths = [7, 3, 9, 3, 7];
        // Batches [1, 3], [0, 4] and [2] have no padding; [0, 1], [2, 3], [4] have 4 + 6 of 39.
        assert_eq!(
            BatchPlan::evaluation(&lengths, size(2)).padding_fraction(&lengths),
            0.0
        );
        let plan = BatchPlan::cut(&[0, 1, 2, 3, 4], size(2));
        assert!((plan.padding_fraction(&lengths) - 10.0 / 39.0).abs() < 1e-15);
        assert_eq!(
            BatchPlan::evaluation(&[], size(2)).padding_fraction(&[]),
            0.0
        );
    }

    #[test]
    fn batches_by_tokens_hold_each_example_once_and_keep_to_their_budget() {
        let lengths = lengths(103);
        for plan in [
            BatchPlan::by_tokens(&lengths, size(100), 1, 0),
            BatchPlan::evaluation_by_tokens(&lengths, size(100)),
        ] {
            assert_each_once(&plan, 103);
            let tokens =
                |batch: &[usize]| -> usize { batch.iter().map(|example| lengths[*example]).sum() };
            for batch in plan.batches() {
                assert!(tokens(batch) <= 100, "{batch:?}");
            }
            for pair in plan.batches().windows(2) {
                let with_next = tokens(&pair[0]) + lengths[pair[1][0]];
                assert!(
                    with_next > 100,
                    "a batch ends only where the next one does not fit"
                );
            }
        }
    }

    #[test]
    fn seed_and_epoch_decide_the_plan_by_tokens() {
        let lengths = lengths(60);
        let plan = |seed, epoch| BatchPlan::by_tokens(&lengths, size(90), seed, epoch);
        assert_eq!(plan(5, 2), plan(5, 2));
        assert_ne!(plan(5, 2), plan(5, 3));
        assert_ne!(plan(5, 2), plan(6, 2));
    }

    #[test]
    fn plans_by_tokens_and_by_examples_see_the_same_shuffle() {
        let plan = BatchPlan::by_tokens(&[3; 12], size(15), 42, 3);
        assert_eq!(
            plan.batches(),
            RECORDED,
            "five examples of three tokens fill a batch"
        );
    }

    #[test]
    fn an_example_over_the_budget_is_a_batch_of_its_own() {
        let plan = BatchPlan::evaluation_by_tokens(&[4, 6, 1, 25, 2, 8, 0], size(10));
        assert_eq!(
            plan.batches(),
            [vec![0, 1], vec![2], vec![3], vec![4, 5, 6]]
        );
        let nothing = BatchPlan::by_tokens(&[], size(10), 0, 0);
        assert!(nothing.batches().is_empty());
    }

    #[test]
    fn grouping_is_configured_by_words() {
        let grouping: LengthGrouping = toml::from_str("group_by_length = false").unwrap();
        assert_eq!(grouping, shuffled_only());
        assert!(toml::from_str::<LengthGrouping>("window = 0").is_err());
        assert!(toml::from_str::<LengthGrouping>("windows = 3").is_err());
    }
}
