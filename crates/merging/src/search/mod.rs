//! Search of λ and of a method's parameters, coordinate by coordinate, as the papers do.
//!
//! λ multiplies the result of every method, so a scan of λ needs one merge: a function that scores
//! a [`Setting`] should keep the last merge, as settings of one method follow each other.

mod grid;
mod setting;

use serde::Serialize;

pub use grid::SearchGrid;
pub use setting::{Coordinate, Setting};

use crate::error::MergeError;
use crate::method::Method;

/// A setting that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Trial {
    pub setting: Setting,
    /// Higher is better.
    pub score: f64,
}

/// The result of a search.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SearchOutcome {
    pub best: Trial,
    /// All trials in order, each setting once.
    pub trials: Vec<Trial>,
}

/// Searches the setting of `method` with the highest score.
///
/// It starts from λ = 1 and the method's own parameters, moved onto the grid. A round goes through
/// the coordinates, λ first, and moves each to the value with the highest score while the others
/// stay; of equal scores the first wins, so the smallest value. Rounds end when one changes
/// nothing, at the latest after `grid.rounds`. NaN is worse than any other score.
///
/// # Errors
/// If the grid has a value that no merge of this many `adapters` can have, or if `score` fails.
pub fn search<E: From<MergeError>>(
    method: Method,
    adapters: usize,
    grid: &SearchGrid,
    score: impl FnMut(&Setting) -> Result<f64, E>,
) -> Result<SearchOutcome, E> {
    grid.check(method, adapters)?;
    let mut searcher = Searcher {
        grid,
        score,
        trials: Vec::new(),
    };
    let mut current = grid.start(method);
    for _ in 0..grid.rounds {
        let before = current;
        for coordinate in Coordinate::of(method) {
            current = searcher.scan(current, coordinate)?;
        }
        if current == before {
            break;
        }
    }
    Ok(SearchOutcome {
        best: searcher.trial(current)?,
        trials: searcher.trials,
    })
}

struct Searcher<'a, F> {
    grid: &'a SearchGrid,
    score: F,
    trials: Vec<Trial>,
}

impl<E, F: FnMut(&Setting) -> Result<f64, E>> Searcher<'_, F> {
    /// `current` with the best value of one coordinate.
    fn scan(&mut self, current: Setting, coordinate: Coordinate) -> Result<Setting, E> {
        let grid = self.grid;
        let mut scan = Scan::default();
        for &value in grid.always_tried(coordinate) {
            scan.consider(self.trial(current.with(coordinate, value))?);
        }
        for value in grid.tried_with_patience(coordinate) {
            if grid
                .patience
                .is_some_and(|patience| scan.in_vain >= patience)
            {
                break;
            }
            scan.consider(self.trial(current.with(coordinate, value))?);
        }
        // A λ from beyond the grid that an earlier round found: this scan may have ended before it.
        if let Some(known) = self.known(&current) {
            scan.consider(known);
        }
        Ok(scan.best.map_or(current, |best| best.setting))
    }

    fn known(&self, setting: &Setting) -> Option<Trial> {
        let mut trials = self.trials.iter();
        trials.find(|trial| trial.setting == *setting).copied()
    }

    fn trial(&mut self, setting: Setting) -> Result<Trial, E> {
        if let Some(known) = self.known(&setting) {
            return Ok(known);
        }
        let score = (self.score)(&setting)?;
        let trial = Trial { setting, score };
        self.trials.push(trial);
        Ok(trial)
    }
}

/// The state of a scan of one coordinate.
#[derive(Default)]
struct Scan {
    /// The best so far, the first if several are equal.
    best: Option<Trial>,
    /// How many values in a row brought no improvement.
    in_vain: usize,
}

impl Scan {
    fn consider(&mut self, trial: Trial) {
        match self.best {
            Some(best) if !is_better(trial.score, best.score) => self.in_vain += 1,
            _ => {
                self.best = Some(trial);
                self.in_vain = 0;
            }
        }
    }
}

fn is_better(score: f64, than: f64) -> bool {
    score > than || (than.is_nan() && !score.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIES: Method = Method::Ties { density: 0.2 };

    fn density(setting: &Setting) -> f64 {
        let density = setting.method.get(crate::Parameter::Density);
        density.expect("ties has a density")
    }

    fn found(method: Method, grid: &SearchGrid, score: impl Fn(&Setting) -> f64) -> SearchOutcome {
        search(method, 2, grid, |setting| {
            Ok::<_, MergeError>(score(setting))
        })
        .expect("a search")
    }

    fn scales(outcome: &SearchOutcome) -> Vec<f64> {
        let settings = outcome.trials.iter().map(|trial| trial.setting.scale);
        settings.collect()
    }

    #[test]
    fn the_top_of_a_hill_is_found_in_one_round_where_coordinates_do_not_interact() {
        let grid = SearchGrid::new(TIES);
        let hill =
            |setting: &Setting| -(setting.scale - 0.6).powi(2) - (density(setting) - 0.9).powi(2);
        let outcome = found(TIES, &grid, hill);
        assert_eq!(outcome.best.setting.scale, 0.6);
        assert_eq!(density(&outcome.best.setting), 0.9);
        assert_eq!(outcome.best.score, 0.0);
        // Ten scales, and nine densities besides the one they were tried with.
        assert_eq!(outcome.trials.len(), 10 + 9);
        assert_eq!(grid.settings(), 10 + 9);
    }

    #[test]
    fn a_scan_of_scales_keeps_the_method_so_that_one_merge_serves_it() {
        let outcome = found(TIES, &SearchGrid::new(TIES), |setting| {
            setting.scale.min(0.7)
        });
        let methods = outcome.trials.iter().map(|trial| trial.setting.method);
        let mut distinct: Vec<Method> = methods.collect();
        distinct.dedup();
        assert_eq!(distinct.len(), 10, "{distinct:?}");
    }

    #[test]
    fn scales_go_on_beyond_one_until_patience_is_spent() {
        let grid = SearchGrid::new(Method::Sum);
        let outcome = found(Method::Sum, &grid, |setting| -(setting.scale - 1.4).abs());
        assert_eq!(outcome.best.setting.scale, 1.4);
        assert_eq!(scales(&outcome)[10..], [1.1, 1.2, 1.3, 1.4, 1.5, 1.6]);
    }

    #[test]
    fn patience_counts_from_the_best_before_one_too() {
        let grid = SearchGrid::new(Method::Sum);
        // 0.9 and 1.0 brought no improvement already.
        let outcome = found(Method::Sum, &grid, |setting| -(setting.scale - 0.8).abs());
        assert_eq!(scales(&outcome).last(), Some(&1.0));
        // Only 1.0 is, so 1.1 is tried.
        let outcome = found(Method::Sum, &grid, |setting| -(setting.scale - 0.9).abs());
        assert_eq!(scales(&outcome).last(), Some(&1.1));
    }

    #[test]
    fn a_score_that_grows_without_end_ends_with_the_grid() {
        let outcome = found(Method::Sum, &SearchGrid::new(Method::Sum), |setting| {
            setting.scale
        });
        assert_eq!(outcome.best.setting.scale, 9.9);
        assert_eq!(outcome.trials.len(), 99);
    }

    #[test]
    fn of_equal_scores_the_smallest_value_wins() {
        let outcome = found(TIES, &SearchGrid::new(TIES), |setting| {
            f64::from(u8::from(setting.scale >= 0.4))
        });
        assert_eq!(outcome.best.setting.scale, 0.4);
        assert_eq!(density(&outcome.best.setting), 0.1);
    }

    #[test]
    fn further_rounds_climb_a_ridge_and_end_when_nothing_changes() {
        // A ridge along λ = density: from density 0.2, one round can only reach its foot.
        let ridge = |setting: &Setting| {
            let density = density(setting);
            density.min(0.5) - 1.5 * (setting.scale - density).abs()
        };
        let mut grid = SearchGrid::new(TIES);
        let one = found(TIES, &grid, ridge);
        assert_eq!(
            (one.best.setting.scale, density(&one.best.setting)),
            (0.2, 0.2)
        );
        // The slopes of this one leave room for steps.
        let gentle = |setting: &Setting| {
            let density = density(setting);
            -(density - 0.6).powi(2) - 0.5 * (setting.scale - density).powi(2)
        };
        let one = found(TIES, &grid, gentle);
        grid.rounds = 50;
        let many = found(TIES, &grid, gentle);
        assert!(many.best.score > one.best.score);
        let best = many.best.setting;
        assert_eq!((best.scale, density(&best)), (0.6, 0.6));
        assert!(many.trials.len() < 100, "{}", many.trials.len());
        for (index, trial) in many.trials.iter().enumerate() {
            let earlier = &many.trials[..index];
            assert!(earlier.iter().all(|other| other.setting != trial.setting));
        }
    }

    #[test]
    fn a_scale_that_an_earlier_round_found_beyond_the_grid_is_not_lost() {
        // At density 0.2 the best λ is 1.5; at 0.7 there is a hump that ends the scan before it.
        let score = |setting: &Setting| match density(setting) {
            0.2 => 1.0 - (setting.scale - 1.5).abs(),
            0.7 if setting.scale == 1.5 => 5.0,
            0.7 => 1.0 - (setting.scale - 0.3).abs(),
            _ => -9.0,
        };
        let mut grid = SearchGrid::new(TIES);
        grid.rounds = 3;
        let outcome = found(TIES, &grid, score);
        let best = outcome.best;
        assert_eq!((best.setting.scale, best.score), (1.5, 5.0));
    }

    #[test]
    fn a_score_that_is_not_a_number_never_wins() {
        let outcome = found(Method::Sum, &SearchGrid::new(Method::Sum), |setting| {
            if setting.scale == 0.3 { -7.0 } else { f64::NAN }
        });
        assert_eq!(outcome.best.setting.scale, 0.3);
    }

    #[test]
    fn what_the_score_fails_with_comes_back() {
        let failing = search(Method::Sum, 2, &SearchGrid::new(Method::Sum), |_| {
            Err(MergeError::NoRank)
        });
        assert!(matches!(failing, Err(MergeError::NoRank)));
    }
}
