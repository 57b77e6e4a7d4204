//! The facts about a split that a suggested training file needs.

use std::collections::BTreeSet;

use eigenmix_data::Row;

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
    Numbers,
    None,
}

/// The lengths of texts in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthSurvey {
    /// The 99th percentile.
    pub usual: usize,
    pub longest: usize,
}

impl LabelSurvey {
    /// Labels are numbers if all are and one has a fraction; otherwise each is the name of a class.
    pub(super) fn of(rows: &[Row]) -> Self {
        let mut names = BTreeSet::new();
        let mut fractions = 0;
        let mut numbers = 0;
        for label in rows.iter().filter_map(|row| row.label.as_ref()) {
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
