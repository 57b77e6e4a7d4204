//! Draws of a few training rows a class, nested so that learning curves compare like with like.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::config::DataConfig;
use crate::error::DataError;
use crate::labelled::Labelled;
use crate::labels::class_of;
use crate::language_error::LanguageError;
use crate::target::TargetKind;

/// The stream of random numbers that draws use; epochs use those from 0 up.
const STREAM: u64 = u64::MAX;

/// The training rows that `examples_per_class` and `max_examples` leave, in the order of the file.
///
/// A draw of fewer examples is contained in a draw of more with the same seed, so learning curves
/// over the number of shots compare nested sets.
///
/// # Errors
/// When a class has too few examples, a number asked for is zero, or `examples_per_class` is set
/// for a regression or for rows that may have several labels.
pub fn draw_examples<R: Labelled>(
    rows: Vec<R>,
    config: &DataConfig,
    kind: TargetKind,
    seed: u64,
) -> Result<Vec<R>, DataError> {
    refuse_zero("examples_per_class", config.examples_per_class)?;
    refuse_zero("max_examples", config.max_examples)?;
    let mut rng = stream(seed);
    let mut kept: Vec<usize> = (0..rows.len()).collect();
    if let Some(shots) = config.examples_per_class {
        kept = match kind {
            TargetKind::Classification => draw_per_class(&rows, shots, &mut rng)?,
            TargetKind::MultiLabel => return Err(DataError::FewShotLabels),
            TargetKind::Regression => return Err(DataError::FewShotRegression),
        };
    }
    draw_at_most(&mut kept, config.max_examples, &mut rng);
    Ok(keep(rows, kept))
}

/// The training rows without classes that `max_examples` leaves, in the order of the file.
///
/// Nested as those of [`draw_examples`] are.
///
/// # Errors
/// When none is asked for, or `examples_per_class` is set: there are no classes.
pub fn draw_rows<R>(rows: Vec<R>, config: &DataConfig, seed: u64) -> Result<Vec<R>, DataError> {
    if config.examples_per_class.is_some() {
        return Err(LanguageError::NoClasses.into());
    }
    refuse_zero("max_examples", config.max_examples)?;
    let mut kept: Vec<usize> = (0..rows.len()).collect();
    draw_at_most(&mut kept, config.max_examples, &mut stream(seed));
    Ok(keep(rows, kept))
}

fn refuse_zero(setting: &'static str, number: Option<usize>) -> Result<(), DataError> {
    match number {
        Some(0) => Err(DataError::NoExamplesAskedFor { setting, found: 0 }),
        _ => Ok(()),
    }
}

fn stream(seed: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(STREAM);
    rng
}

fn draw_at_most(kept: &mut Vec<usize>, most: Option<usize>, rng: &mut ChaCha8Rng) {
    if let Some(most) = most {
        kept.shuffle(rng);
        kept.truncate(most);
    }
}

/// The rows whose indices are given, in their order.
fn keep<T>(rows: Vec<T>, indices: Vec<usize>) -> Vec<T> {
    let mut is_kept = vec![false; rows.len()];
    for index in indices {
        is_kept[index] = true;
    }
    let rows = rows.into_iter().zip(is_kept);
    rows.filter_map(|(row, is_kept)| is_kept.then_some(row))
        .collect()
}

fn draw_per_class(
    rows: &[impl Labelled],
    shots: usize,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<usize>, DataError> {
    let mut classes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        classes.entry(class_of(row)?).or_default().push(index);
    }
    let mut kept = Vec::with_capacity(classes.len() * shots);
    for (class, mut members) in classes {
        if members.len() < shots {
            return Err(DataError::TooFewExamples {
                class,
                expected: shots,
                found: members.len(),
            });
        }
        members.shuffle(rng);
        kept.extend_from_slice(&members[..shots]);
    }
    kept.sort_unstable();
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{LanguageRow, Place, RawLabel, Row};

    /// Ten rows each of the classes 0, 1 and 2, in turn, with their index as text.
    fn rows() -> Vec<Row> {
        (0..30_usize)
            .map(|index| Row {
                text: index.to_string(),
                text_pair: None,
                label: Some(RawLabel::Text((index % 3).to_string())),
                place: Place {
                    file: Path::new("train.jsonl").into(),
                    line: index + 1,
                },
            })
            .collect()
    }

    fn draw(per_class: Option<usize>, most: Option<usize>, seed: u64) -> Vec<usize> {
        let config = DataConfig {
            examples_per_class: per_class,
            max_examples: most,
            ..DataConfig::new("unused")
        };
        let drawn = draw_examples(rows(), &config, TargetKind::Classification, seed).unwrap();
        drawn.iter().map(|row| row.text.parse().unwrap()).collect()
    }

    #[test]
    fn without_limits_every_row_stays() {
        assert_eq!(draw(None, None, 3), (0..30).collect::<Vec<usize>>());
    }

    #[test]
    fn each_class_gives_as_many_as_asked_in_file_order() {
        let drawn = draw(Some(4), None, 3);
        assert_eq!(drawn.len(), 12);
        assert!(drawn.is_sorted());
        for class in 0..3 {
            assert_eq!(drawn.iter().filter(|index| *index % 3 == class).count(), 4);
        }
    }

    #[test]
    fn the_seed_decides_the_draw() {
        assert_eq!(draw(Some(4), None, 3), draw(Some(4), None, 3));
        assert_ne!(draw(Some(4), None, 3), draw(Some(4), None, 4));
        assert_ne!(draw(None, Some(9), 3), draw(None, Some(9), 4));
    }

    #[test]
    fn a_smaller_draw_is_contained_in_a_larger_one() {
        let larger = draw(Some(6), None, 7);
        assert!(
            draw(Some(2), None, 7)
                .iter()
                .all(|index| larger.contains(index))
        );
        let larger = draw(None, Some(20), 7);
        assert!(
            draw(None, Some(5), 7)
                .iter()
                .all(|index| larger.contains(index))
        );
    }

    #[test]
    fn both_limits_apply_and_the_second_may_exceed_what_is_left() {
        assert_eq!(draw(Some(4), Some(5), 1).len(), 5);
        assert_eq!(draw(Some(4), Some(100), 1), draw(Some(4), None, 1));
    }

    #[test]
    fn too_few_examples_of_a_class_are_an_error() {
        let config = DataConfig {
            examples_per_class: Some(11),
            ..DataConfig::new("unused")
        };
        let error = draw_examples(rows(), &config, TargetKind::Classification, 0)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("class `0` has 10 training examples"),
            "{error}"
        );
        assert!(error.contains("asks for 11"), "{error}");
    }

    #[test]
    fn regressions_have_no_classes_to_draw_from() {
        let config = DataConfig {
            examples_per_class: Some(2),
            ..DataConfig::new("unused")
        };
        let error = draw_examples(rows(), &config, TargetKind::Regression, 0).unwrap_err();
        assert!(matches!(error, DataError::FewShotRegression));
        let error = draw_examples(rows(), &config, TargetKind::MultiLabel, 0).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("use `data.max_examples`"), "{message}");
    }

    #[test]
    fn language_rows_are_drawn_as_other_rows_are() {
        use crate::LanguageContent;

        let language_rows: Vec<LanguageRow> = rows()
            .into_iter()
            .map(|row| LanguageRow {
                images: Vec::new(),
                answers: Vec::new(),
                content: LanguageContent::Text(row.text),
                place: row.place,
            })
            .collect();
        let config = DataConfig {
            max_examples: Some(9),
            ..DataConfig::new("unused")
        };
        let drawn = draw_rows(language_rows.clone(), &config, 3).unwrap();
        let lines: Vec<usize> = drawn.iter().map(|row| row.place.line - 1).collect();
        assert_eq!(lines, draw(None, Some(9), 3));

        let config = DataConfig {
            examples_per_class: Some(2),
            ..config
        };
        let error = draw_rows(language_rows, &config, 3).unwrap_err();
        assert!(
            error.to_string().contains("use `data.max_examples`"),
            "{error}"
        );
    }

    #[test]
    fn a_draw_of_nothing_is_refused() {
        let config = DataConfig {
            max_examples: Some(0),
            ..DataConfig::new("unused")
        };
        let error = draw_examples(rows(), &config, TargetKind::Regression, 0).unwrap_err();
        assert!(
            error.to_string().contains("`data.max_examples` is 0"),
            "{error}"
        );
    }
}
