//! Cross-validation: folds of the training rows, one of which is held out to measure on.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::labelled::Labelled;
use crate::labels::class_of;
use crate::target::TargetKind;

/// The stream of random numbers that folds use; few-shot draws use the last one, epochs those from 0 up.
const STREAM: u64 = u64::MAX - 1;

/// One of the folds of the training rows: `K/N` in files, K from 1 to N.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Fold {
    /// From 0.
    index: usize,
    count: usize,
}

/// Training rows in two parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded<R> {
    /// To train on, in the order of the file.
    pub kept: Vec<R>,
    /// To measure on, in the order of the file.
    pub held_out: Vec<R>,
}

impl Fold {
    /// The folds that rows are put into: each row is held out in exactly one of them.
    ///
    /// # Panics
    /// If `count` is below two.
    pub fn all(count: usize) -> impl Iterator<Item = Self> {
        assert!(count > 1, "one fold leaves nothing to train on");
        (0..count).map(move |index| Self { index, count })
    }

    /// Parts rows with labels. Each class is spread over the folds as evenly as it can be, so that the
    /// folds have the same share of it; numbers and rows with several labels are spread whatever they
    /// are.
    ///
    /// # Errors
    /// If there are fewer rows than folds, or a row has no class.
    pub fn part<R: Labelled>(
        self,
        rows: Vec<R>,
        kind: TargetKind,
        seed: u64,
    ) -> Result<Folded<R>, DataError> {
        let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, row) in rows.iter().enumerate() {
            let group = match kind {
                TargetKind::Classification => class_of(row)?,
                TargetKind::MultiLabel | TargetKind::Regression => String::new(),
            };
            groups.entry(group).or_default().push(index);
        }
        self.part_groups(rows, groups.into_values(), seed)
    }

    /// Parts rows without classes, whatever they are.
    ///
    /// # Errors
    /// If there are fewer rows than folds.
    pub fn part_rows<R>(self, rows: Vec<R>, seed: u64) -> Result<Folded<R>, DataError> {
        let all = (0..rows.len()).collect();
        self.part_groups(rows, [all].into_iter(), seed)
    }

    fn part_groups<R>(
        self,
        rows: Vec<R>,
        groups: impl Iterator<Item = Vec<usize>>,
        seed: u64,
    ) -> Result<Folded<R>, DataError> {
        if rows.len() < self.count {
            return Err(DataError::TooFewForFolds {
                fold: self,
                rows: rows.len(),
            });
        }
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(STREAM);
        let mut is_held_out = vec![false; rows.len()];
        // Rows are dealt like cards, one class after the other without a new start, so that the folds
        // differ by one row at most, in all and in each class.
        let mut dealt = 0;
        for mut members in groups {
            members.shuffle(&mut random);
            for row in members {
                is_held_out[row] = dealt % self.count == self.index;
                dealt += 1;
            }
        }
        let (mut kept, mut held_out) = (Vec::new(), Vec::new());
        for (row, is_held_out) in rows.into_iter().zip(is_held_out) {
            match is_held_out {
                true => held_out.push(row),
                false => kept.push(row),
            }
        }
        Ok(Folded { kept, held_out })
    }
}

impl std::fmt::Display for Fold {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.index + 1, self.count)
    }
}

impl TryFrom<String> for Fold {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(fold, count)| {
            Some((fold.parse::<usize>().ok()?, count.parse::<usize>().ok()?))
        });
        match numbers {
            Some((fold, count)) if fold >= 1 && fold <= count && count >= 2 => Ok(Self {
                index: fold - 1,
                count,
            }),
            _ => Err(format!(
                "found the fold `{text}`, expected the number of a fold, a stroke and how many there \
                 are, two or more, such as \"1/5\""
            )),
        }
    }
}

impl From<Fold> for String {
    fn from(fold: Fold) -> Self {
        fold.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Place, RawLabel, Row};

    /// Rows with the labels given, with their index as text.
    fn rows(labels: &[&str]) -> Vec<Row> {
        let row = |(index, label): (usize, &&str)| Row {
            text: index.to_string(),
            text_pair: None,
            label: Some(RawLabel::Text((*label).to_owned())),
            place: Place {
                file: Path::new("train.jsonl").into(),
                line: index + 1,
            },
        };
        labels.iter().enumerate().map(row).collect()
    }

    /// The indices of the rows that a fold holds out, with those that it keeps.
    fn part(labels: &[&str], fold: Fold, kind: TargetKind, seed: u64) -> [Vec<usize>; 2] {
        let folded = fold.part(rows(labels), kind, seed).unwrap();
        [folded.held_out, folded.kept]
            .map(|rows| rows.iter().map(|row| row.text.parse().unwrap()).collect())
    }

    #[test]
    fn each_row_is_held_out_once_and_kept_otherwise() {
        let labels = ["a", "b", "a", "a", "b", "c", "b", "a", "c", "a", "b"];
        for kind in [TargetKind::Classification, TargetKind::MultiLabel] {
            let mut held_out = Vec::new();
            for fold in Fold::all(3) {
                let [out, kept] = part(&labels, fold, kind, 4);
                assert!(out.is_sorted() && kept.is_sorted());
                let mut both = [out.clone(), kept].concat();
                both.sort_unstable();
                assert_eq!(both, (0..11).collect::<Vec<_>>());
                held_out.extend(out);
            }
            held_out.sort_unstable();
            assert_eq!(held_out, (0..11).collect::<Vec<_>>());
        }
    }

    #[test]
    fn folds_have_as_many_rows_of_each_class() {
        let labels = ["a", "b", "c"].repeat(7);
        for fold in Fold::all(5) {
            let [out, _] = part(&labels, fold, TargetKind::Classification, 0);
            assert!((4..=5).contains(&out.len()));
            for class in 0..3 {
                let members = out.iter().filter(|row| *row % 3 == class).count();
                assert!((1..=2).contains(&members), "{out:?}");
            }
        }
    }

    #[test]
    fn the_seed_decides_the_folds() {
        let labels = ["a", "b"].repeat(20);
        let fold = Fold::all(4).next().unwrap();
        let part = |seed| part(&labels, fold, TargetKind::Classification, seed);
        assert_eq!(part(1), part(1));
        assert_ne!(part(1), part(2));
    }

    #[test]
    fn fewer_rows_than_folds_are_refused_with_both_numbers() {
        let fold = Fold::all(4).nth(1).unwrap();
        let error = fold.part(rows(&["a", "b"]), TargetKind::Classification, 0);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("`2/4`") && error.contains("2 rows"),
            "{error}"
        );
    }

    #[test]
    fn folds_are_read_as_they_are_written() {
        for fold in Fold::all(3) {
            assert_eq!(Fold::try_from(fold.to_string()), Ok(fold));
        }
        for wrong in ["0/5", "6/5", "1/1", "5", "1/", "a/b", "1/5/7", "-1/5", ""] {
            let error = Fold::try_from(wrong.to_owned()).unwrap_err();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
    }
}
