//! The tokens of one example for a language model, with a mask of those that are learnt.

use std::ops::Range;

/// The tokens of one example and which of them are learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanguageExample {
    /// `[tokens]`
    pub ids: Vec<u32>,
    /// `[tokens]`: whether token `i` is a target, predicted from the tokens up to `i - 1`; the first
    /// never is.
    pub trained: Vec<bool>,
    /// Whether the example was longer than `max_length` and has been cut at its end.
    pub truncated: bool,
}

impl LanguageExample {
    /// How many tokens the loss is taken of.
    pub fn targets(&self) -> usize {
        self.trained.iter().filter(|trained| **trained).count()
    }

    /// The first `max_length` of the tokens, or `None` where none of those is a target.
    pub(crate) fn cut(ids: &[u32], trained: &[bool], max_length: usize) -> Option<Self> {
        let kept = ids.len().min(max_length);
        let example = Self::part(ids, trained, 0..kept);
        let example = Self {
            truncated: kept < ids.len(),
            ..example
        };
        (example.targets() > 0).then_some(example)
    }

    /// All tokens in consecutive chunks of at most `max_length` (at least 2), of which each begins
    /// with the last token of the one before: so every token but the first is a target once.
    pub(crate) fn chunks(ids: &[u32], max_length: usize) -> Vec<Self> {
        let targets = 1..ids.len();
        let trained = vec![true; ids.len()];
        targets
            .step_by(max_length - 1)
            .map(|first_target| {
                let end = ids.len().min(first_target + max_length - 1);
                Self::part(ids, &trained, first_target - 1..end)
            })
            .collect()
    }

    fn part(ids: &[u32], trained: &[bool], tokens: Range<usize>) -> Self {
        let mut trained = trained[tokens.clone()].to_vec();
        // Nothing is there to predict it from.
        if let Some(first) = trained.first_mut() {
            *first = false;
        }
        Self {
            ids: ids[tokens].to_vec(),
            trained,
            truncated: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_every_token_and_each_but_the_first_is_a_target_once() {
        for length in 2..30_usize {
            let ids: Vec<u32> = (100..100 + u32::try_from(length).unwrap()).collect();
            for max_length in 2..12 {
                let chunks = LanguageExample::chunks(&ids, max_length);
                let targets: Vec<u32> = chunks
                    .iter()
                    .flat_map(|chunk| chunk.ids.iter().zip(&chunk.trained))
                    .filter_map(|(id, trained)| trained.then_some(*id))
                    .collect();
                assert_eq!(targets, ids[1..]);
                assert!(chunks.iter().all(|chunk| chunk.ids.len() <= max_length));
                assert!(
                    chunks
                        .iter()
                        .all(|chunk| !chunk.trained[0] && !chunk.truncated)
                );
            }
        }
        assert_eq!(LanguageExample::chunks(&[7], 5), []);
    }

    #[test]
    fn an_example_is_cut_at_its_end_and_dropped_without_targets() {
        let ids = [5, 6, 7, 8, 9];
        let trained = [true, false, false, true, true];
        let whole = LanguageExample::cut(&ids, &trained, 5).unwrap();
        assert_eq!(whole.trained, [false, false, false, true, true]);
        assert_eq!((whole.targets(), whole.truncated), (2, false));
        let cut = LanguageExample::cut(&ids, &trained, 4).unwrap();
        assert_eq!(cut.ids, [5, 6, 7, 8]);
        assert_eq!((cut.targets(), cut.truncated), (1, true));
        assert_eq!(LanguageExample::cut(&ids, &trained, 3), None);
    }
}
