//! Values of metrics: how they are compared, and their form in JSON.
//!
//! JSON has no NaN and no infinities. They are written as the texts `"NaN"`, `"Infinity"` and
//! `"-Infinity"`, so that a metric that could not be computed is not mistaken for a missing one.
//! Earlier releases wrote `null`, which is read as NaN.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

const NAMES: [(&str, f64); 3] = [
    ("NaN", f64::NAN),
    ("Infinity", f64::INFINITY),
    ("-Infinity", f64::NEG_INFINITY),
];

/// Whether `value` is better than `best`. A NaN is never better, and any number is better than a NaN.
pub(crate) fn is_better(value: f64, best: f64, higher_is_better: bool) -> bool {
    match higher_is_better {
        _ if best.is_nan() => !value.is_nan(),
        true => value > best,
        false => value < best,
    }
}

/// The value of a metric, in its form in JSON.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricValue(pub f64);

impl MetricValue {
    /// The metric value that a JSON value stands for, if it is one.
    pub fn of(value: &Value) -> Option<f64> {
        match value {
            Value::Null => Some(f64::NAN),
            Value::String(text) => named_value(text),
            other => other.as_f64(),
        }
    }
}

fn named_value(text: &str) -> Option<f64> {
    let found = NAMES.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value)
}

impl Serialize for MetricValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            value if value.is_finite() => serializer.serialize_f64(value),
            value if value.is_nan() => serializer.serialize_str("NaN"),
            value if value > 0.0 => serializer.serialize_str("Infinity"),
            _ => serializer.serialize_str("-Infinity"),
        }
    }
}

impl<'de> Deserialize<'de> for MetricValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Stored {
            Number(f64),
            Name(String),
            Null,
        }
        match Stored::deserialize(deserializer)? {
            Stored::Number(value) => Ok(Self(value)),
            Stored::Null => Ok(Self(f64::NAN)),
            Stored::Name(text) => named_value(&text).map(Self).ok_or_else(|| {
                serde::de::Error::custom(format!("`{text}` is neither a number nor NaN"))
            }),
        }
    }
}

/// Serialises one value, as in `#[serde(with = "…::one")]`.
pub mod one {
    use super::*;

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        MetricValue(*value).serialize(serializer)
    }

    /// # Errors
    /// If it is not a number, none of the three texts, and not null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(MetricValue::deserialize(deserializer)?.0)
    }
}

/// Serialises values by their names.
pub mod named {
    use super::*;

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        values: &BTreeMap<String, f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            values
                .iter()
                .map(|(name, value)| (name, MetricValue(*value))),
        )
    }
}

/// Serialises optional values by their names.
pub mod optional {
    use super::*;

    type Metrics = BTreeMap<String, f64>;

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(
        values: &Option<Metrics>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match values {
            Some(values) => named::serialize(values, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// # Errors
    /// If it is not a number, none of the three texts, and not null.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Metrics>, D::Error> {
        let found = Option::<BTreeMap<String, MetricValue>>::deserialize(deserializer)?;
        let plain = |(name, value): (String, MetricValue)| (name, value.0);
        Ok(found.map(|values| values.into_iter().map(plain).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_and_the_infinities_are_written_as_texts_and_read_back() {
        for (value, text) in [
            (0.25, "0.25"),
            (f64::NAN, "\"NaN\""),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ] {
            assert_eq!(serde_json::to_string(&MetricValue(value)).unwrap(), text);
            let read: MetricValue = serde_json::from_str(text).unwrap();
            assert_eq!(read.0.to_bits(), value.to_bits(), "{text}");
        }
        let read: MetricValue = serde_json::from_str("null").unwrap();
        assert!(read.0.is_nan(), "as earlier releases wrote it");
        assert!(serde_json::from_str::<MetricValue>("\"much\"").is_err());
    }
}
