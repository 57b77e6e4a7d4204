//! What was measured of the candidates, and which is best by it.

use std::ops::Range;

/// One candidate measured once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Score {
    /// The metric, with its sign changed where a smaller value is the better one; NaN is the worst.
    pub value: f64,
    /// Of the training.
    pub seconds: f64,
}

/// The scores of every candidate by measurement. The first candidate is the file itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    scores: Vec<Vec<Option<Score>>>,
    /// How many rows each score is the share of, where scores are shares.
    rows: Option<usize>,
}

impl Evidence {
    pub fn new(candidates: usize, measurements: usize) -> Self {
        Self {
            scores: vec![vec![None; measurements]; candidates],
            rows: None,
        }
    }

    /// The same where each score is a share of so many rows.
    pub fn of_shares_of(self, rows: Option<usize>) -> Self {
        Self { rows, ..self }
    }

    pub fn note(&mut self, candidate: usize, measurement: usize, score: Score) {
        self.scores[candidate][measurement] = Some(score);
    }

    pub fn of(&self, candidate: usize) -> &[Option<Score>] {
        &self.scores[candidate]
    }

    /// How many scores there are.
    pub fn count(&self) -> usize {
        self.scores.iter().flatten().flatten().count()
    }

    /// The mean over these measurements; `None` if one is missing.
    pub fn mean(&self, candidate: usize, of: &Range<usize>) -> Option<f64> {
        let scores = &self.scores[candidate][of.clone()];
        let values: Option<Vec<f64>> = scores.iter().map(|score| Some((*score)?.value)).collect();
        let values = values.filter(|values| !values.is_empty())?;
        Some(values.iter().sum::<f64>() / values.len() as f64)
    }

    /// The candidates of `among` with all of these measurements, the best first; those that are level
    /// in their order, which goes by what is most likely to be good.
    pub fn ranked(&self, among: &[usize], of: &Range<usize>) -> Vec<usize> {
        let mut found: Vec<(usize, f64)> = among
            .iter()
            .filter_map(|&candidate| Some((candidate, self.mean(candidate, of)?)))
            .map(|(candidate, mean)| match mean.is_nan() {
                true => (candidate, f64::NEG_INFINITY),
                false => (candidate, mean),
            })
            .collect();
        found.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        found.into_iter().map(|(candidate, _)| candidate).collect()
    }

    /// How much better than the file itself a candidate is, and the standard error of that: by the
    /// differences on the same rows, or of a single measurement by that of a share p of n rows,
    /// √(p (1 − p) / n), as of two models whose mistakes are half the same. Unknown of a single other score.
    pub fn gain(&self, candidate: usize, of: &Range<usize>) -> Option<(f64, Option<f64>)> {
        let pairs = self.scores[candidate][of.clone()]
            .iter()
            .zip(&self.scores[0][of.clone()]);
        let gains: Option<Vec<f64>> = pairs
            .map(|(one, file)| Some((*one)?.value - (*file)?.value))
            .collect();
        let gains = gains.filter(|gains| !gains.is_empty())?;
        let count = gains.len() as f64;
        let mean = gains.iter().sum::<f64>() / count;
        let squares: f64 = gains.iter().map(|gain| (gain - mean).powi(2)).sum();
        let error = match gains.len() {
            1 => self.rows.filter(|rows| *rows > 0).and_then(|rows| {
                let share = self.mean(0, of)?;
                Some((share * (1.0 - share)).max(0.0).sqrt() / (rows as f64).sqrt())
            }),
            _ => Some((squares / (count - 1.0) / count).sqrt()),
        };
        Some((mean, error))
    }

    /// The best of these candidates that beats the file itself by more than the standard error of the
    /// difference; otherwise the file.
    pub fn winner(&self, among: &[usize], of: &Range<usize>) -> usize {
        let beats = |candidate: &usize| {
            *candidate == 0
                || self
                    .gain(*candidate, of)
                    .is_some_and(|(mean, error)| mean > error.unwrap_or(0.0))
        };
        self.ranked(among, of).into_iter().find(beats).unwrap_or(0)
    }

    /// The longest training of a candidate, in seconds per training on all rows.
    pub fn seconds(&self, candidate: usize, cost: impl Fn(usize) -> f64) -> Option<f64> {
        let scores = self.scores[candidate].iter().enumerate();
        scores
            .filter_map(|(at, score)| Some((*score)?.seconds / cost(at)))
            .reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(values: &[&[f64]]) -> Evidence {
        let mut evidence = Evidence::new(values.len(), values[0].len());
        for (candidate, values) in values.iter().enumerate() {
            for (at, &value) in values.iter().enumerate() {
                let seconds = 2.0;
                evidence.note(candidate, at, Score { value, seconds });
            }
        }
        evidence
    }

    #[test]
    fn the_best_mean_is_first_and_what_is_missing_is_left_out() {
        let mut found = evidence(&[&[0.5, 0.7], &[0.9, 0.8], &[f64::NAN, 1.0]]);
        found
            .scores
            .push(vec![Some(found.scores[1][0].unwrap()), None]);
        assert_eq!(found.ranked(&[0, 1, 2, 3], &(0..2)), [1, 0, 2]);
        assert_eq!(found.ranked(&[0, 1, 2, 3], &(0..1)), [1, 3, 0, 2]);
    }

    #[test]
    fn what_is_level_stays_in_its_order() {
        let found = evidence(&[&[0.5], &[0.5], &[0.5]]);
        assert_eq!(found.ranked(&[2, 0, 1], &(0..1)), [2, 0, 1]);
        assert_eq!(found.winner(&[2, 0, 1], &(0..1)), 0);
    }

    #[test]
    fn a_change_has_to_beat_the_file_by_more_than_the_spread() {
        // Gains of 0.1, -0.06 and 0.05: 0.03 on average, with a standard error of 0.047.
        let lucky = evidence(&[&[0.5, 0.5, 0.5], &[0.6, 0.44, 0.55]]);
        let (mean, error) = lucky.gain(1, &(0..3)).unwrap();
        assert!((mean - 0.03).abs() < 1e-12 && (error.unwrap() - 0.047_258).abs() < 1e-6);
        assert_eq!(lucky.winner(&[0, 1], &(0..3)), 0);
        let steady = evidence(&[&[0.5, 0.6, 0.7], &[0.53, 0.63, 0.73]]);
        assert_eq!(steady.winner(&[0, 1], &(0..3)), 1);
    }

    #[test]
    fn of_one_measurement_the_error_is_that_of_a_share() {
        let found = evidence(&[&[0.8], &[0.82], &[0.84]]).of_shares_of(Some(160));
        let (_, error) = found.gain(1, &(0..1)).unwrap();
        assert!((error.unwrap() - 0.4 / 160.0_f64.sqrt()).abs() < 1e-12);
        assert_eq!(found.winner(&[0, 1], &(0..1)), 0);
        assert_eq!(found.winner(&[0, 1, 2], &(0..1)), 2);
    }

    #[test]
    fn the_second_best_wins_where_only_the_best_is_within_the_spread() {
        let found = evidence(&[&[0.5, 0.5, 0.5], &[0.9, 0.3, 0.5], &[0.55, 0.54, 0.56]]);
        assert_eq!(found.ranked(&[0, 1, 2], &(0..3))[0], 1);
        assert_eq!(found.winner(&[0, 1, 2], &(0..3)), 2);
    }

    #[test]
    fn seconds_are_those_of_a_training_on_all_rows() {
        let found = evidence(&[&[0.5, 0.7]]);
        let cost = |at: usize| [0.25, 0.5][at];
        assert_eq!(found.seconds(0, cost), Some(8.0));
    }
}
