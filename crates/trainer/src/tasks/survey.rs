//! The facts about a split that a suggested training file needs.

use std::collections::BTreeSet;

use eigenmix_data::{DataConfig, DataError, LabelMap, LabelPolicy, Labelled, RawLabel, Row, Split};

use super::labelled::LabelledSource;
use crate::BaseModel;

/// How many rows to measure the length on.
const SAMPLE: usize = 2_000;

/// The facts about a split.
pub struct Survey {
    pub rows: usize,
    pub labels: LabelSurvey,
    /// The lengths of texts in tokens, if there is a tokenizer to count them.
    pub lengths: Option<LengthSurvey>,
}

/// The kind of values in the label column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelSurvey {
    Classes(usize),
    /// Rows may have several of so many labels: as lists, or as texts with this separator.
    Lists {
        labels: usize,
        separator: Option<&'static str>,
    },
    Numbers,
    None,
}

/// What often stands between the labels of a row in one cell.
const SEPARATORS: [&str; 2] = ["|", ";"];

/// The lengths of texts in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthSurvey {
    /// The 99th percentile.
    pub usual: usize,
    pub longest: usize,
}

impl LabelSurvey {
    /// Reads the rows of a split, whatever their labels are.
    ///
    /// # Errors
    /// As [`LabelledSource::rows`].
    pub(super) fn take<S: LabelledSource>(
        split: Split,
        config: &DataConfig,
    ) -> Result<(Vec<S::Row>, Self), DataError> {
        let single = S::rows(split, config, LabelPolicy::Required);
        match single {
            Ok((rows, _)) if separator_in(&rows).is_none() => {
                let labels = Self::of(&rows);
                Ok((rows, labels))
            }
            Err(error)
                if !matches!(
                    error,
                    DataError::ListOfLabels { .. } | DataError::MissingLabel { .. }
                ) =>
            {
                Err(error)
            }
            single => {
                // As the cells are, to see what separates labels in them.
                let unsplit = DataConfig {
                    label_separator: "\n".to_owned(),
                    ..config.clone()
                };
                let (rows, _) = S::rows(split, &unsplit, LabelPolicy::Lists)?;
                let separator = separator_in(&rows);
                match (separator, single) {
                    (None, Err(DataError::ListOfLabels { .. })) => {
                        let labels = count_in_lists(split, &rows)?;
                        Ok((rows, Self::Lists { labels, separator }))
                    }
                    (None, Err(error)) => Err(error),
                    (None, Ok((rows, _))) => {
                        let labels = Self::of(&rows);
                        Ok((rows, labels))
                    }
                    (Some(sign), _) => {
                        let config = DataConfig {
                            label_separator: sign.to_owned(),
                            ..config.clone()
                        };
                        let (rows, _) = S::rows(split, &config, LabelPolicy::Lists)?;
                        let labels = count_in_lists(split, &rows)?;
                        Ok((rows, Self::Lists { labels, separator }))
                    }
                }
            }
        }
    }

    /// Labels are numbers if all are and one has a fraction; otherwise each is the name of a class.
    fn of<R: Labelled>(rows: &[R]) -> Self {
        let mut names = BTreeSet::new();
        let mut fractions = 0;
        let mut numbers = 0;
        for label in rows.iter().filter_map(R::label) {
            let text = label.to_string();
            if let Ok(number) = text.parse::<f64>() {
                numbers += 1;
                fractions += usize::from(number.fract() != 0.0);
            }
            names.insert(text);
        }
        match numbers == rows.len() && fractions > 0 {
            true => Self::Numbers,
            false => Self::Classes(names.len()),
        }
    }
}

/// How many labels the lists of the training split have; of other splits it does not matter, and they
/// may have none.
fn count_in_lists<R: Labelled>(split: Split, rows: &[R]) -> Result<usize, DataError> {
    match split {
        Split::Train => LabelMap::from_lists(rows).map(|labels| labels.names().len()),
        Split::Validation | Split::Test => Ok(0),
    }
}

/// The separator of labels in texts: one that several rows have and whose parts are no more than the
/// different texts, as those of recurring labels are.
fn separator_in<R: Labelled>(rows: &[R]) -> Option<&'static str> {
    let texts: Option<Vec<&str>> = rows
        .iter()
        .filter_map(R::label)
        .filter(|label| !matches!(label, RawLabel::List(items) if items.is_empty()))
        .map(|label| match label {
            RawLabel::Text(text) => Some(text.as_str()),
            RawLabel::List(items) => match &items[..] {
                [RawLabel::Text(text)] => Some(text.as_str()),
                _ => None,
            },
            _ => None,
        })
        .collect();
    let texts = texts?;
    let different: BTreeSet<&str> = texts.iter().copied().collect();
    SEPARATORS.into_iter().find(|sign| {
        let parts = different.iter().flat_map(|text| text.split(sign));
        let parts: BTreeSet<&str> = parts.map(str::trim).collect();
        let with = texts.iter().filter(|text| text.contains(sign)).count();
        with > 1 && parts.len() <= different.len()
    })
}

impl LengthSurvey {
    /// `None` if there are no rows, or the model has no tokenizer for them.
    pub(super) fn of(rows: &[Row], base: &BaseModel) -> Option<Self> {
        let (tokenizer, limit) = (base.tokenizer().ok()?, base.max_length().ok()?);
        let sample = &rows[..rows.len().min(SAMPLE)];
        let encodings = tokenizer.encode_all(sample, limit).ok()?;
        let mut lengths: Vec<usize> = encodings
            .iter()
            .map(|encoding| encoding.ids.len())
            .collect();
        lengths.sort_unstable();
        Some(Self {
            usual: *lengths.get((lengths.len() * 99).div_ceil(100).saturating_sub(1))?,
            longest: *lengths.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use eigenmix_data::Place;

    fn separator(labels: &[&str]) -> Option<&'static str> {
        let row = |label: &&str| Row {
            text: "text".to_owned(),
            text_pair: None,
            label: Some(RawLabel::Text((*label).to_owned())),
            place: Place {
                file: Path::new("train.csv").into(),
                line: 1,
            },
        };
        separator_in(&labels.iter().map(row).collect::<Vec<Row>>())
    }

    #[test]
    fn parts_that_recur_are_labels_and_names_with_a_sign_in_them_are_not() {
        assert_eq!(separator(&["a|b", "b|c", "a", "c"]), Some("|"));
        assert_eq!(separator(&["a; b", "b;c", "a;c"]), Some(";"));
        assert_eq!(separator(&["a|b", "c|d", "a|b", "c|d"]), None);
        assert_eq!(separator(&["a", "b", "a"]), None);
    }
}
