//! The values that a search tries.

use std::collections::BTreeMap;

use serde::Serialize;

use super::setting::{Coordinate, Setting};
use crate::error::MergeError;
use crate::method::Method;

/// The last default value of λ, in tenths.
const LAST_TENTH: u32 = 99;

/// The values of every coordinate of a method, and the length of the search.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SearchGrid {
    /// The values to try, in ascending order, of each coordinate that the method has.
    pub values: BTreeMap<Coordinate, Vec<f64>>,
    /// Whether λ continues beyond its last value, in tenths up to 9.9, until this many values in a
    /// row bring no improvement.
    pub patience: Option<usize>,
    /// The maximum number of rounds over the coordinates.
    pub rounds: usize,
}

impl SearchGrid {
    /// The grids of the papers: λ 0.1 … 1.0 (KnOTS), then further with patience 2 (Core Space), and
    /// the values of [`crate::SearchInfo`] for the method's parameters. One round.
    pub fn new(method: Method) -> Self {
        let values = Coordinate::of(method).into_iter().map(|coordinate| {
            let values = match coordinate {
                Coordinate::Scale => tenths(1..=10).collect(),
                Coordinate::Parameter(parameter) => {
                    let search = parameter.info().search.as_ref();
                    search.map_or_else(Vec::new, |search| search.values.to_vec())
                }
            };
            (coordinate, values)
        });
        Self {
            values: values.collect(),
            patience: Some(2),
            rounds: 1,
        }
    }

    /// Tries these values of a coordinate and no others.
    #[must_use]
    pub fn with(mut self, coordinate: Coordinate, values: Vec<f64>) -> Self {
        if coordinate == Coordinate::Scale {
            self.patience = None;
        }
        self.values.insert(coordinate, values);
        self
    }

    /// How many settings one round tries, those beyond the last λ not counted.
    pub fn settings(&self) -> usize {
        let counts = self.values.values().map(Vec::len);
        // The current value of every coordinate but the first has been tried by then.
        (counts.sum::<usize>() + 1).saturating_sub(self.values.len())
    }

    /// The values of a coordinate that are always tried.
    pub(crate) fn always_tried(&self, coordinate: Coordinate) -> &[f64] {
        self.values.get(&coordinate).map_or(&[], Vec::as_slice)
    }

    /// The values of a coordinate that are tried while patience lasts.
    pub(crate) fn tried_with_patience(&self, coordinate: Coordinate) -> impl Iterator<Item = f64> {
        let last = self.always_tried(coordinate).last().copied();
        let goes_on = coordinate == Coordinate::Scale && self.patience.is_some();
        tenths(1..=LAST_TENTH).filter(move |&value| goes_on && last.is_some_and(|it| value > it))
    }

    /// `method` with λ = 1 and every parameter moved to the nearest value of the grid.
    pub fn start(&self, method: Method) -> Setting {
        let mut setting = Setting { method, scale: 1.0 };
        for (&coordinate, values) in &self.values {
            let Some(default) = setting.get(coordinate) else {
                continue;
            };
            let distance = |value: &f64| (value - default).abs();
            let nearest = values
                .iter()
                .min_by(|left, right| distance(left).total_cmp(&distance(right)));
            if let Some(&nearest) = nearest {
                setting = setting.with(coordinate, nearest);
            }
        }
        setting
    }

    /// Refuses values that no merge can have; `adapters` is the number of merged adapters.
    ///
    /// # Errors
    /// If there is such a value, no value at all, or values don't ascend.
    pub fn check(&self, method: Method, adapters: usize) -> Result<(), MergeError> {
        if self.rounds == 0 {
            return Err(MergeError::NoRounds);
        }
        for coordinate in Coordinate::of(method) {
            let values = self.always_tried(coordinate);
            if values.is_empty() {
                return Err(MergeError::NothingToSearch {
                    what: coordinate.name(),
                });
            }
            if let Some(pair) = values.windows(2).find(|pair| pair[0] >= pair[1]) {
                return Err(MergeError::NotAscending {
                    what: coordinate.name(),
                    found: [pair[0], pair[1]],
                });
            }
            for &value in values {
                if coordinate == Coordinate::Scale && !(value.is_finite() && value > 0.0) {
                    return Err(MergeError::SearchScale { found: value });
                }
                let setting = Setting { method, scale: 1.0 };
                setting.with(coordinate, value).method.check(adapters)?;
            }
        }
        Ok(())
    }
}

/// Divided rather than added up, so that 0.3 is exactly 0.3.
fn tenths(range: std::ops::RangeInclusive<u32>) -> impl Iterator<Item = f64> {
    range.map(|tenths| f64::from(tenths) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameter::Parameter;

    const DARE_TIES: Method = Method::DareTies {
        drop: 0.5,
        density: 0.2,
    };

    #[test]
    fn the_default_grid_is_that_of_the_papers() {
        let grid = SearchGrid::new(DARE_TIES);
        let to_one = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
        assert_eq!(grid.always_tried(Coordinate::Scale), to_one);
        assert_eq!(
            grid.always_tried(Coordinate::Parameter(Parameter::Density)),
            to_one
        );
        assert_eq!(
            grid.always_tried(Coordinate::Parameter(Parameter::Drop))[8..],
            [0.9, 0.99]
        );
        assert!(
            grid.always_tried(Coordinate::Parameter(Parameter::RankFraction))
                .is_empty()
        );
        let further: Vec<f64> = grid.tried_with_patience(Coordinate::Scale).collect();
        assert_eq!((further[0], further[6], further[88]), (1.1, 1.7, 9.9));
        assert_eq!(
            grid.tried_with_patience(Coordinate::Parameter(Parameter::Density))
                .count(),
            0
        );
    }

    #[test]
    fn scales_that_somebody_names_are_all_there_are() {
        let grid = SearchGrid::new(Method::Sum).with(Coordinate::Scale, vec![0.3, 0.7]);
        assert_eq!(grid.tried_with_patience(Coordinate::Scale).count(), 0);
        assert_eq!(grid.settings(), 2);
    }

    #[test]
    fn a_search_starts_on_the_grid_nearest_to_the_method() {
        let grid = SearchGrid::new(DARE_TIES).with(
            Coordinate::Parameter(Parameter::Density),
            vec![0.05, 0.25, 0.3],
        );
        let start = grid.start(DARE_TIES);
        let expected = Method::DareTies {
            drop: 0.5,
            density: 0.25,
        };
        assert_eq!((start.method, start.scale), (expected, 1.0));
    }

    #[test]
    fn what_no_merge_has_is_refused_with_what_was_found() {
        let ties = Method::Ties { density: 0.2 };
        let of = |coordinate, values: &[f64]| {
            let grid = SearchGrid::new(ties).with(coordinate, values.to_vec());
            let error = grid.check(ties, 2).expect_err("a refusal");
            error.to_string()
        };
        assert!(of(Coordinate::Parameter(Parameter::Density), &[0.5, 1.5]).contains("1.5"));
        assert!(of(Coordinate::Scale, &[0.0, 0.5]).contains("found 0"));
        assert!(of(Coordinate::Scale, &[0.5, f64::INFINITY]).contains("inf"));
        assert!(of(Coordinate::Scale, &[0.7, 0.5]).contains("0.7"));
        assert!(of(Coordinate::Parameter(Parameter::Density), &[]).contains("density"));
        let no_rounds = SearchGrid {
            rounds: 0,
            ..SearchGrid::new(ties)
        };
        assert!(matches!(
            no_rounds.check(ties, 2),
            Err(MergeError::NoRounds)
        ));
        assert!(matches!(
            SearchGrid::new(ties).check(ties, 1),
            Err(MergeError::NeedsTwoAdapters { .. })
        ));
    }
}
