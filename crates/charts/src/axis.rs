//! An axis: title, scale and ticks.

use crate::scale::Scale;

/// One axis of a chart.
#[derive(Clone, Debug)]
pub struct Axis {
    pub title: String,
    pub(crate) is_log: bool,
    pub(crate) is_counted: bool,
    pub(crate) domain: Option<[f64; 2]>,
}

impl Axis {
    /// Divided evenly over the range of the values.
    pub fn linear(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            is_log: false,
            is_counted: false,
            domain: None,
        }
    }

    /// Divided evenly, at integers only, for counts.
    pub fn counted(title: impl Into<String>) -> Self {
        Self {
            is_counted: true,
            ..Self::linear(title)
        }
    }

    /// Divided by powers of ten; what isn't positive has no place on it.
    pub fn logarithmic(title: impl Into<String>) -> Self {
        Self {
            is_log: true,
            ..Self::linear(title)
        }
    }

    /// Divided evenly from `low` to `high`, whatever the values.
    pub fn between(title: impl Into<String>, low: f64, high: f64) -> Self {
        Self {
            domain: Some([low, high]),
            ..Self::linear(title)
        }
    }

    pub(crate) fn scale(&self, values: impl IntoIterator<Item = f64>, range: [f64; 2]) -> Scale {
        match self.domain {
            Some(domain) => Scale::exactly(domain, range),
            None => Scale::over(values, self.is_log, range),
        }
    }
}
