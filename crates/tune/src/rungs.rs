//! Successive halving: how many candidates a budget allows, and what each rung measures.

use std::ops::Range;

use crate::measurement::Measurement;

/// One round of measuring the candidates that are left.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rung {
    /// What is measured anew, by place in [`Schedule::measurements`].
    pub new: Range<usize>,
    /// What candidates are compared by after it.
    pub compared: Range<usize>,
}

/// What is measured, round by round.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schedule {
    pub measurements: Vec<Measurement>,
    pub rungs: Vec<Rung>,
    /// With fewer measurements than these of both, a change does not take the place of the file.
    pub fewest: usize,
}

impl Schedule {
    /// Folds, each of which adds to what is known: one, then one more, two more, four more.
    pub fn of_folds(measurements: Vec<Measurement>) -> Self {
        let mut rungs = Vec::new();
        let mut end = 1;
        let mut start = 0;
        while start < measurements.len() {
            let upto = end.min(measurements.len());
            rungs.push(Rung {
                new: start..upto,
                compared: 0..upto,
            });
            (start, end) = (upto, end * 2);
        }
        Self {
            // The spread of a difference shows from two folds on; each of them may have very few rows.
            fewest: measurements.len().min(2),
            measurements,
            rungs,
        }
    }

    /// Shares of the training rows, each of which says more than the smaller ones together.
    pub fn of_shares(measurements: Vec<Measurement>) -> Self {
        let rungs = (0..measurements.len()).map(|at| Rung {
            new: at..at + 1,
            compared: at..at + 1,
        });
        Self {
            rungs: rungs.collect(),
            fewest: 1,
            measurements,
        }
    }

    /// How many candidates are left at a rung of those that begin: half of those of the rung before,
    /// rounded up, and no fewer than two, since the file itself is always one of them.
    pub fn left(begin: usize, rung: usize) -> usize {
        let halved = (0..rung).fold(begin, |left, _| left.div_ceil(2));
        halved.max(begin.min(2))
    }

    /// Who is left after a rung: the file itself, which every change is compared with, and the best others.
    /// After the last rung nobody is left out: of those measured alike the best may be within its spread, and
    /// one behind it win.
    ///
    /// - ranked: the best first
    /// - begin: how many began
    pub fn going_on(&self, ranked: Vec<usize>, begin: usize, rung: usize) -> Vec<usize> {
        if rung + 1 >= self.rungs.len() {
            return ranked;
        }
        let others = ranked.into_iter().filter(|candidate| *candidate != 0);
        let count = Self::left(begin, rung + 1).saturating_sub(1);
        std::iter::once(0).chain(others.take(count)).collect()
    }

    /// What it costs to begin with so many candidates, in trainings on all rows.
    pub fn cost(&self, begin: usize) -> f64 {
        let rungs = self.rungs.iter().enumerate();
        rungs
            .map(|(at, rung)| {
                let each: f64 = self.measurements[rung.new.clone()]
                    .iter()
                    .map(|measurement| measurement.cost())
                    .sum();
                Self::left(begin, at) as f64 * each
            })
            .sum()
    }

    /// The most candidates that `affordable` trainings on all rows allow, of `available`; two at least,
    /// if there are two.
    pub fn candidates(&self, affordable: f64, available: usize) -> usize {
        let fits = |count: &usize| self.cost(*count) <= affordable;
        let most = (2..=available).rev().find(fits);
        most.unwrap_or(available.min(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Evidence, Score};

    fn folds(count: usize) -> Schedule {
        Schedule::of_folds(Measurement::folds(count).take(count).collect())
    }

    #[test]
    fn folds_add_up_and_double() {
        let rungs = folds(5).rungs;
        let new: Vec<_> = rungs.iter().map(|rung| rung.new.clone()).collect();
        assert_eq!(new, [0..1, 1..2, 2..4, 4..5]);
        assert!(rungs.iter().all(|rung| rung.compared == (0..rung.new.end)));
    }

    #[test]
    fn half_of_the_candidates_go_on_and_two_to_the_end() {
        let left: Vec<usize> = (0..5).map(|rung| Schedule::left(9, rung)).collect();
        assert_eq!(left, [9, 5, 3, 2, 2]);
        assert_eq!(Schedule::left(1, 3), 1);
    }

    #[test]
    fn behind_a_noisy_best_a_steady_third_wins_after_the_last_rung() {
        let schedule = folds(2);
        let mut evidence = Evidence::new(3, 2);
        for (candidate, values) in [[0.5, 0.5], [0.9, 0.3], [0.54, 0.55]].iter().enumerate() {
            for (at, &value) in values.iter().enumerate() {
                let seconds = 1.0;
                evidence.note(candidate, at, Score { value, seconds });
            }
        }
        let of = &schedule.rungs[1].compared;
        let ranked = evidence.ranked(&[0, 1, 2], of);
        assert_eq!(ranked, [1, 2, 0]);
        let left = schedule.going_on(ranked.clone(), 5, 1);
        assert_eq!(evidence.winner(&left, of), 2);
        // Before it, the file goes on with the best: two of three.
        assert_eq!(schedule.going_on(ranked, 3, 0), [0, 1]);
    }

    #[test]
    fn the_budget_decides_how_many_begin() {
        let schedule = folds(4);
        // 8 · 1 + 4 · 1 + 2 · 2 folds of three quarters of the rows each.
        assert!((schedule.cost(8) - 12.0).abs() < 1e-9);
        assert_eq!(schedule.candidates(12.0, 30), 8);
        assert_eq!(schedule.candidates(11.9, 30), 7);
        assert_eq!(schedule.candidates(1e9, 30), 30);
        assert_eq!(schedule.candidates(0.1, 30), 2);
        assert_eq!(schedule.candidates(0.1, 1), 1);
    }
}
