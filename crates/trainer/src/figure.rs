//! Figures in JSON, which has no number for what is none: `NaN`, `Infinity` and `-Infinity` are
//! written as these words, so that a figure that could not be computed is read back as that instead of
//! being taken for a missing one. What earlier releases wrote as `null` is read as NaN.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

const WORDS: [(&str, f64); 3] = [
    ("NaN", f64::NAN),
    ("Infinity", f64::INFINITY),
    ("-Infinity", f64::NEG_INFINITY),
];

/// A figure as it stands in JSON.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure(pub f64);

impl Figure {
    /// The figure that a value in a file stands for, if it is one.
    pub fn of(value: &Value) -> Option<f64> {
        match value {
            Value::Null => Some(f64::NAN),
            Value::String(text) => word(text),
            other => other.as_f64(),
        }
    }
}

fn word(text: &str) -> Option<f64> {
    let found = WORDS.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value)
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            value if value.is_finite() => serializer.serialize_f64(value),
            value if value.is_nan() => serializer.serialize_str("NaN"),
            value if value > 0.0 => serializer.serialize_str("Infinity"),
            _ => serializer.serialize_str("-Infinity"),
        }
    }
}

impl<'de> Deserialize<'de> for Figure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Stored {
            Number(f64),
            Word(String),
            Null,
        }
        match Stored::deserialize(deserializer)? {
            Stored::Number(value) => Ok(Self(value)),
            Stored::Null => Ok(Self(f64::NAN)),
            Stored::Word(text) => word(&text).map(Self).ok_or_else(|| {
                serde::de::Error::custom(format!("`{text}` is neither a number nor NaN"))
            }),
        }
    }
}

/// For one figure: `#[serde(with = "…::one")]`.
pub mod one {
    use super::*;

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        Figure(*value).serialize(serializer)
    }

    /// # Errors
    /// If what stands there is not a number, not a word for none, and not null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Figure::deserialize(deserializer)?.0)
    }
}

/// For figures by name.
pub mod named {
    use super::*;

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        figures: &BTreeMap<String, f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(figures.iter().map(|(name, value)| (name, Figure(*value))))
    }
}

/// For figures by name that may not be there at all.
pub mod optional {
    use super::*;

    type Figures = BTreeMap<String, f64>;

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        figures: &Option<Figures>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match figures {
            Some(figures) => named::serialize(figures, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// # Errors
    /// If what stands there is not a number, not a word for none, and not null.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Figures>, D::Error> {
        let found = Option::<BTreeMap<String, Figure>>::deserialize(deserializer)?;
        let plain = |(name, figure): (String, Figure)| (name, figure.0);
        Ok(found.map(|figures| figures.into_iter().map(plain).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_written_as_a_word_and_read_back() {
        for (value, text) in [
            (0.25, "0.25"),
            (f64::NAN, "\"NaN\""),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ] {
            assert_eq!(serde_json::to_string(&Figure(value)).unwrap(), text);
            let read: Figure = serde_json::from_str(text).unwrap();
            assert_eq!(read.0.to_bits(), value.to_bits(), "{text}");
        }
        let read: Figure = serde_json::from_str("null").unwrap();
        assert!(read.0.is_nan(), "as earlier releases wrote it");
        assert!(serde_json::from_str::<Figure>("\"much\"").is_err());
    }
}
