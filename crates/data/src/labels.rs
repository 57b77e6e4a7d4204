//! Which output of a classifier stands for which label, agreed on by data, model and adapter.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::byte_order_mark::without_mark;
use crate::error::{DataError, quoted};
use crate::labelled::Labelled;
use crate::row::{Place, RawLabel, integer_of};

/// Which output of a classifier stands for which label: output `i` for `names()[i]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMap {
    names: Vec<String>,
    outputs: HashMap<String, usize>,
    /// Whether integers that are no name themselves count outputs.
    names_are_words: bool,
}

impl LabelMap {
    /// The labels that occur in training data: words sorted, numerals in numeric order.
    ///
    /// The order does not depend on that of the rows, and labels 0, 1, …, n − 1 are their own output.
    /// Call it before a few-shot draw, which may leave labels out.
    ///
    /// # Errors
    /// When a row has no label or one that names no class, or there are fewer than two classes.
    pub fn from_train<R: Labelled>(rows: &[R]) -> Result<Self, DataError> {
        let mut names = BTreeSet::new();
        for row in rows {
            names.insert(class_of(row)?);
        }
        let labels = Self::in_order(names)?;
        match labels.names.len() {
            0 | 1 => Err(DataError::TooFewClasses {
                found: quoted(&labels.names),
            }),
            _ => Ok(labels),
        }
    }

    /// Words sorted, numerals in numeric order.
    ///
    /// # Errors
    /// When there are none.
    pub(crate) fn in_order(names: BTreeSet<String>) -> Result<Self, DataError> {
        let mut names: Vec<String> = as_integers(names).into_iter().collect();
        if let Some(numbers) = names.iter().map(|name| numeral(name)).collect() {
            let mut numbers: Vec<i64> = numbers;
            numbers.sort_unstable();
            names = numbers.iter().map(i64::to_string).collect();
        }
        Self::from_names(names)
    }

    /// The labels of an existing classifier, in the order of its outputs.
    ///
    /// # Errors
    /// When a name occurs twice or there is none.
    pub fn from_names(names: Vec<String>) -> Result<Self, DataError> {
        let bad_list = |problem: String| DataError::BadLabelList {
            place: quoted(&names),
            problem,
        };
        if names.is_empty() {
            return Err(bad_list("expected at least one label".to_owned()));
        }
        let mut outputs = HashMap::with_capacity(names.len());
        for (output, name) in names.iter().enumerate() {
            if let Some(earlier) = outputs.insert(name.clone(), output) {
                let problem = format!("outputs {earlier} and {output} are both called `{name}`");
                return Err(bad_list(problem));
            }
        }
        let names_are_words = names.iter().all(|name| numeral(name).is_none());
        Ok(Self {
            names,
            outputs,
            names_are_words,
        })
    }

    /// The same labels in the order in which a classifier has them already, under their names in the
    /// data; nothing where it is for other labels. Blanks around a name and its case do not count.
    pub fn in_order_of(&self, classifier: &[String]) -> Option<Self> {
        let plain = |name: &str| name.trim().to_lowercase();
        let own: HashMap<String, &String> =
            self.names.iter().map(|name| (plain(name), name)).collect();
        if own.len() != self.names.len() || classifier.len() != self.names.len() {
            return None;
        }
        let ordered: Option<Vec<String>> = classifier
            .iter()
            .map(|name| own.get(&plain(name)).map(|own| (*own).clone()))
            .collect();
        Self::from_names(ordered?).ok()
    }

    /// The `labels.json` of an adapter or the `id2label` of a model: `{"0": "yes", "1": "no"}`.
    ///
    /// # Errors
    /// When the keys are not 0, 1, …, n − 1, or two outputs have the same name.
    pub fn from_output_names(names: &BTreeMap<String, String>) -> Result<Self, DataError> {
        let ordered: Option<Vec<String>> = (0..names.len())
            .map(|output| names.get(&output.to_string()).cloned())
            .collect();
        let Some(ordered) = ordered else {
            let keys: Vec<&String> = names.keys().collect();
            return Err(DataError::BadLabelList {
                place: quoted(&keys),
                problem: format!("expected the keys `0` to `{}`, each once", names.len() - 1),
            });
        };
        Self::from_names(ordered)
    }

    /// Reads a `labels.json`.
    ///
    /// # Errors
    /// When the file cannot be read, is not an object of strings, or is no list of outputs.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let content = fs::read(path).map_err(|source| DataError::Io {
            path: path.to_owned(),
            source,
        })?;
        let names = serde_json::from_slice(without_mark(&content)).map_err(|source| {
            DataError::MalformedJson {
                path: path.to_owned(),
                source,
            }
        })?;
        Self::from_output_names(&names)
    }

    /// The content of a `labels.json`, in the order of the outputs.
    pub fn to_json(&self) -> Value {
        let names = self.names.iter().enumerate();
        let object: Map<String, Value> = names
            .map(|(output, name)| (output.to_string(), Value::from(name.as_str())))
            .collect();
        Value::Object(object)
    }

    /// The name of each output.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The output that stands for a label, or `None` where it is unknown.
    ///
    /// A label is a name first, with or without the blanks around it, then the integer that `3.0` was
    /// before a table made it a float. Where the names are words and nothing says what an integer
    /// means, it is an output's number.
    pub fn output_of(&self, label: &RawLabel) -> Option<usize> {
        let known = |name: &str| self.outputs.get(name).copied();
        let name = label.class_name()?;
        if let Some(output) = known(&label.to_string()).or_else(|| known(&name)) {
            return Some(output);
        }
        if let RawLabel::Class { number, .. } = label {
            // A classifier of numbers, trained where nothing named them.
            return known(&number.to_string());
        }
        let integer = integer_of(&name);
        if let Some(output) = integer.and_then(|integer| known(&integer.to_string())) {
            return Some(output);
        }
        let number = integer.or_else(|| numeral(&name));
        let number = number.filter(|_| self.names_are_words)?;
        usize::try_from(number)
            .ok()
            .filter(|output| *output < self.names.len())
    }

    /// The output that stands for a row's label.
    ///
    /// # Errors
    /// When the row has no label or an unknown one.
    pub fn encode(&self, row: &impl Labelled) -> Result<usize, DataError> {
        self.known_output(label_of(row)?, row.place())
    }

    /// # Errors
    /// When the label is unknown.
    pub(crate) fn known_output(&self, label: &RawLabel, place: &Place) -> Result<usize, DataError> {
        self.output_of(label)
            .ok_or_else(|| DataError::UnknownLabel {
                place: place.clone(),
                label: label.to_string(),
                known: quoted(&self.names),
            })
    }
}

/// The class that a row belongs to, by name.
pub(crate) fn class_of(row: &impl Labelled) -> Result<String, DataError> {
    class_name_of(label_of(row)?, row.place())
}

/// # Errors
/// When the label names no class.
pub(crate) fn class_name_of(label: &RawLabel, place: &Place) -> Result<String, DataError> {
    label.class_name().ok_or_else(|| DataError::NotAClass {
        place: place.clone(),
        label: label.to_string(),
    })
}

pub(crate) fn label_of(row: &impl Labelled) -> Result<&RawLabel, DataError> {
    row.label().ok_or_else(|| DataError::MissingLabel {
        place: row.place().clone(),
    })
}

/// The names as integers, if all are such or floats that were such: `1.0`, `2.0`; else as they are,
/// since `1.0` among `1.1` is the name of a version.
fn as_integers(names: BTreeSet<String>) -> BTreeSet<String> {
    let integers: Option<BTreeSet<String>> = names
        .iter()
        .map(|name| Some(integer_of(name).or_else(|| numeral(name))?.to_string()))
        .collect();
    integers.unwrap_or(names)
}

/// The integer that `name` is the usual spelling of: `7`, but not `007`, which is a word.
fn numeral(name: &str) -> Option<i64> {
    name.parse::<i64>()
        .ok()
        .filter(|number| number.to_string() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Row;

    fn row(label: RawLabel) -> Row {
        Row {
            text: "text".to_owned(),
            text_pair: None,
            label: Some(label),
            place: Place {
                file: Path::new("test.jsonl").into(),
                line: 12,
            },
        }
    }

    fn words(labels: &[&str]) -> Vec<Row> {
        labels
            .iter()
            .map(|label| row(RawLabel::Text((*label).to_owned())))
            .collect()
    }

    #[test]
    fn labels_that_a_classifier_has_take_its_order_and_keep_their_spelling() {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>()
        };
        let labels = LabelMap::from_names(names(&["Negative", "neutral", "positive"])).unwrap();
        let ordered = labels.in_order_of(&names(&["positive", "negative ", "neutral"]));
        assert_eq!(
            ordered.unwrap().names(),
            ["positive", "Negative", "neutral"]
        );
        for other in [
            names(&["positive", "negative"]),
            names(&["positive", "negative", "mixed"]),
            names(&["positive", "positive", "negative"]),
        ] {
            assert_eq!(labels.in_order_of(&other), None, "{other:?}");
        }
    }

    #[test]
    fn words_are_sorted_whatever_the_order_of_the_rows() {
        let labels = LabelMap::from_train(&words(&["pear", "apple", "pear", "fig"])).unwrap();
        assert_eq!(labels.names(), ["apple", "fig", "pear"]);
        let shuffled = LabelMap::from_train(&words(&["fig", "pear", "apple"])).unwrap();
        assert_eq!(labels, shuffled);
    }

    #[test]
    fn integers_are_in_numeric_order_and_map_to_themselves() {
        let rows: Vec<Row> = [10, 2, 0, 1, 9, 3, 4, 8, 5, 6, 7]
            .map(|label| row(RawLabel::Integer(label)))
            .into();
        let labels = LabelMap::from_train(&rows).unwrap();
        for label in 0..11 {
            assert_eq!(
                labels.output_of(&RawLabel::Integer(label)),
                usize::try_from(label).ok()
            );
        }
        assert_eq!(labels.output_of(&RawLabel::Integer(11)), None);
        assert_eq!(labels.output_of(&RawLabel::Number(10.0)), Some(10));
    }

    #[test]
    fn numerals_in_text_are_the_same_classes_as_integers() {
        let labels = LabelMap::from_train(&words(&["10", "9", "-1"])).unwrap();
        assert_eq!(labels.names(), ["-1", "9", "10"]);
        assert_eq!(labels.output_of(&RawLabel::Integer(9)), Some(1));
        assert_eq!(
            labels.output_of(&RawLabel::Integer(1)),
            None,
            "a numeral is a name here"
        );
    }

    #[test]
    fn one_word_among_numerals_makes_all_of_them_words() {
        let labels = LabelMap::from_train(&words(&["404", "1000", "not found", "007"])).unwrap();
        assert_eq!(labels.names(), ["007", "1000", "404", "not found"]);
    }

    #[test]
    fn integers_count_the_outputs_of_a_list_of_words() {
        let names = ["negative", "positive"].map(str::to_owned).into();
        let labels = LabelMap::from_names(names).unwrap();
        assert_eq!(labels.output_of(&RawLabel::Integer(1)), Some(1));
        assert_eq!(labels.output_of(&RawLabel::Text("0".to_owned())), Some(0));
        assert_eq!(labels.output_of(&RawLabel::Integer(2)), None);
        assert_eq!(labels.output_of(&RawLabel::Integer(-1)), None);
    }

    #[test]
    fn floats_that_were_integers_are_the_same_classes() {
        let floats = LabelMap::from_train(&words(&["1.0", "0.0", "2.0"])).unwrap();
        assert_eq!(floats.names(), ["0", "1", "2"]);
        assert_eq!(floats.output_of(&RawLabel::Integer(2)), Some(2));
        let integers = LabelMap::from_train(&words(&["5", "7"])).unwrap();
        assert_eq!(
            integers.output_of(&RawLabel::Text("7.0".to_owned())),
            Some(1)
        );
        let versions = LabelMap::from_train(&words(&["1.0", "1.1"])).unwrap();
        assert_eq!(versions.names(), ["1.0", "1.1"]);
    }

    #[test]
    fn labels_that_differ_by_blanks_are_one_class() {
        let labels = LabelMap::from_train(&words(&["yes", "no ", " yes"])).unwrap();
        assert_eq!(labels.names(), ["no", "yes"]);
        let spelt = |label: &str| labels.output_of(&RawLabel::Text(label.to_owned()));
        assert_eq!((spelt("yes\t"), spelt("no")), (Some(1), Some(0)));
        assert!(LabelMap::from_train(&words(&["yes", "  "])).is_err());
    }

    #[test]
    fn a_named_class_is_found_by_its_name_and_by_its_number_where_there_are_only_numbers() {
        let class = |name: &str, number| RawLabel::Class {
            name: name.to_owned(),
            number,
        };
        let by_name = LabelMap::from_train(&words(&["entailment", "contradiction"])).unwrap();
        assert_eq!(by_name.output_of(&class("entailment", 0)), Some(1));
        assert_eq!(by_name.output_of(&class("neutral", 1)), None);
        let by_number = LabelMap::from_train(&words(&["0", "1"])).unwrap();
        assert_eq!(by_number.output_of(&class("neutral", 1)), Some(1));
    }

    #[test]
    fn an_unknown_label_names_itself_its_place_and_the_known_ones() {
        let labels = LabelMap::from_train(&words(&["yes", "no"])).unwrap();
        let error = labels
            .encode(&words(&["maybe"])[0])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("test.jsonl:12: unknown label `maybe`"),
            "{error}"
        );
        assert!(error.contains("`no`, `yes`"), "{error}");
    }

    #[test]
    fn fractions_and_single_classes_are_no_classification() {
        let rows = [row(RawLabel::Number(0.5)), row(RawLabel::Number(1.0))];
        let error = LabelMap::from_train(&rows).unwrap_err();
        assert!(matches!(error, DataError::NotAClass { .. }), "{error}");
        let error = LabelMap::from_train(&words(&["one", "one"])).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("at least 2 classes, found `one`"),
            "{error}"
        );
    }

    #[test]
    fn labels_json_survives_writing_and_reading() {
        let names: Vec<String> = (0..12)
            .map(|index| format!("class {}", 20 - index))
            .collect();
        let labels = LabelMap::from_names(names).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels.json");
        fs::write(&path, labels.to_json().to_string()).unwrap();
        assert_eq!(LabelMap::read(&path).unwrap(), labels);
    }

    #[test]
    fn label_lists_with_gaps_or_repeats_are_refused() {
        let gap = r#"{"0": "a", "2": "b"}"#;
        let error = LabelMap::from_output_names(&serde_json::from_str(gap).unwrap()).unwrap_err();
        assert!(
            error.to_string().contains("expected the keys `0` to `1`"),
            "{error}"
        );
        let error = LabelMap::from_names(["a", "b", "a"].map(str::to_owned).into()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("outputs 0 and 2 are both called `a`"),
            "{error}"
        );
        assert!(LabelMap::from_output_names(&BTreeMap::new()).is_err());
    }
}
