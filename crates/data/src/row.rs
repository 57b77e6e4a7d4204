//! A row of a table with a text and a label, and the place that errors name it by.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// One example as its file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub text: String,
    pub text_pair: Option<String>,
    /// `None` only where [`LabelPolicy::Optional`] allowed it.
    pub label: Option<RawLabel>,
    pub place: Place,
}

/// Where a row was read, shown as `train.jsonl:17`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<Path>,
    /// From 1: the line in a text file, the row in a parquet file; 0 stands for the whole file.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => self.file.display().fmt(formatter),
            line => write!(formatter, "{}:{line}", self.file.display()),
        }
    }
}

/// A label as its file has it, before a [`LabelMap`](super::LabelMap) or a regression gives it meaning.
///
/// CSV has no types: its labels are all `Text`, and numerals are understood where they are used.
/// `true` and `false` are the integers 1 and 0.
#[derive(Clone, Debug, PartialEq)]
pub enum RawLabel {
    Text(String),
    Integer(i64),
    Number(f64),
    /// A number that the file's metadata or the dataset's card has a name for.
    Class {
        name: String,
        number: i64,
    },
    /// The labels of a row that may have several, or none.
    List(Vec<RawLabel>),
}

impl RawLabel {
    /// The name of the class this label stands for, without the blanks around it; a number with a
    /// fraction names none, and neither do blanks alone.
    ///
    /// `1.0` is class `1`: tables with a gap in an integer column are often saved as floats.
    pub(crate) fn class_name(&self) -> Option<String> {
        // Above 2^53 two integers share one float, so the float no longer tells which was meant.
        const LARGEST_EXACT: f64 = (1_u64 << 53) as f64;
        match self {
            Self::Text(text) => Some(text.trim())
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            Self::Class { name, .. } => Some(name.clone()),
            Self::Integer(integer) => Some(integer.to_string()),
            Self::Number(number) if number.fract() == 0.0 && number.abs() <= LARGEST_EXACT => {
                Some((*number as i64).to_string())
            }
            Self::Number(_) | Self::List(_) => None,
        }
    }

    /// The integer that a label without a name is, in any of the spellings of tables.
    pub(crate) fn whole_number(&self) -> Option<i64> {
        match self {
            Self::Class { .. } | Self::List(_) => None,
            Self::Text(text) => integer_of(text.trim()).or_else(|| text.trim().parse().ok()),
            other => other.class_name()?.parse().ok(),
        }
    }
}

/// The integer that was written as a float, as pandas does where a column of integers has a gap:
/// `3` for `3.0`.
pub(crate) fn integer_of(name: &str) -> Option<i64> {
    let (whole, zeros) = name.split_once('.')?;
    let is_zero = !zeros.is_empty() && zeros.bytes().all(|digit| digit == b'0');
    whole
        .parse::<i64>()
        .ok()
        .filter(|number| is_zero && number.to_string() == whole)
}

impl fmt::Display for RawLabel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Integer(integer) => integer.fmt(formatter),
            Self::Number(number) => number.fmt(formatter),
            Self::Class { name, .. } => formatter.write_str(name),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::to_string).collect();
                write!(formatter, "[{}]", items.join(", "))
            }
        }
    }
}

/// Whether rows may come without a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelPolicy {
    /// Training and evaluation: a row without a label is an error, and so is one with a list.
    Required,
    /// The same where a row may have several labels: all become lists, which may be empty.
    Lists,
    /// Prediction: labels are read where they are.
    Optional,
}

impl LabelPolicy {
    /// Whether every row has to say which labels it has.
    pub(crate) fn is_required(self) -> bool {
        self != Self::Optional
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_as_file_and_line() {
        let place = Place {
            file: Path::new("data/train.jsonl").into(),
            line: 17,
        };
        assert_eq!(place.to_string(), "data/train.jsonl:17");
    }

    #[test]
    fn only_whole_numbers_name_a_class() {
        assert_eq!(RawLabel::Number(3.0).class_name().as_deref(), Some("3"));
        assert_eq!(RawLabel::Integer(-1).class_name().as_deref(), Some("-1"));
        assert_eq!(RawLabel::Number(2.5).class_name(), None);
        assert_eq!(RawLabel::Number(f64::NAN).class_name(), None);
        assert_eq!(RawLabel::Number(1e300).class_name(), None);
    }
}
