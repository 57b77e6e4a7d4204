//! The labels of texts and images that may have several, or none.

use eigenmix_data::{
    DataConfig, LabelMap, PredictedColumn, PredictedValues, Row, Threshold, probability,
};
use eigenmix_experiment::BadInput;
use eigenmix_trainer::Classifier;
use serde::Serialize;

use super::labelled_rows::Labeller;
use super::table_output::PREDICTION;

/// Tells the labels whose probability is at least a threshold.
pub(super) struct SetLabeller<'a> {
    names: Vec<String>,
    threshold: Threshold,
    separator: &'a str,
}

impl<'a> SetLabeller<'a> {
    /// # Errors
    /// If a label has the separator in its name, so that nobody could tell one label from two.
    pub(super) fn new(
        classifier: &Classifier,
        threshold: Threshold,
        config: &'a DataConfig,
    ) -> Result<Self, BadInput> {
        let separator = &config.label_separator;
        let names = match &classifier.labels {
            Some(labels) => LabelMap::names(labels).to_vec(),
            None => (0..classifier.outputs())
                .map(|output| output.to_string())
                .collect(),
        };
        if let Some(name) = names.iter().find(|name| name.contains(separator.as_str())) {
            return Err(BadInput(format!(
                "the label `{name}` has the separator {separator:?} in it; --set label_separator=SIGN \
                 takes another"
            )));
        }
        Ok(Self {
            names,
            threshold,
            separator,
        })
    }
}

impl Labeller for SetLabeller<'_> {
    type Prediction = LabelSet;

    fn prediction(&self, row: Row, logits: &[f32]) -> LabelSet {
        let mut applying = self.threshold.labels_of(logits, logits.len());
        let mut labels: Vec<AppliedLabel> = applying
            .pop()
            .unwrap_or_default()
            .into_iter()
            .map(|output| AppliedLabel {
                label: self
                    .names
                    .get(output)
                    .cloned()
                    .unwrap_or_else(|| output.to_string()),
                probability: probability(logits[output]),
            })
            .collect();
        // Stable, so that of equals the first output leads.
        labels.sort_by(|left, right| right.probability.total_cmp(&left.probability));
        LabelSet {
            text: row.text,
            text_pair: row.text_pair,
            labels,
            separator: self.separator.to_owned(),
        }
    }

    fn column_names(&self) -> Vec<String> {
        vec![PREDICTION.to_owned(), "score".to_owned()]
    }

    fn columns(&self, names: &[&str], predictions: &[LabelSet]) -> Vec<PredictedColumn> {
        let texts = [
            predictions.iter().map(LabelSet::names).collect(),
            predictions.iter().map(LabelSet::scores).collect(),
        ];
        let column = |(name, texts): (&&str, Vec<String>)| PredictedColumn {
            name: (*name).to_owned(),
            values: PredictedValues::Texts(texts),
        };
        names.iter().zip(texts).map(column).collect()
    }
}

/// The labels of a text, or of an image by its path, the most probable first.
#[derive(Serialize)]
pub(super) struct LabelSet {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text_pair: Option<String>,
    labels: Vec<AppliedLabel>,
    #[serde(skip)]
    separator: String,
}

#[derive(Serialize)]
struct AppliedLabel {
    label: String,
    probability: f64,
}

impl LabelSet {
    fn names(&self) -> String {
        let names: Vec<&str> = self.labels.iter().map(|one| one.label.as_str()).collect();
        names.join(&self.separator)
    }

    fn scores(&self) -> String {
        let scores = self.labels.iter();
        let scores: Vec<String> = scores
            .map(|one| format!("{:.4}", one.probability))
            .collect();
        scores.join(&self.separator)
    }
}

impl std::fmt::Display for LabelSet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (names, scores) = (self.names(), self.scores());
        write!(formatter, "{names}\t{scores}\t{}", self.text)?;
        match &self.text_pair {
            Some(pair) => write!(formatter, "\t{pair}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use eigenmix_data::Place;

    #[test]
    fn labels_from_the_threshold_on_are_told_with_the_most_probable_first() {
        let labeller = SetLabeller {
            names: ["a", "b", "c"].map(str::to_owned).to_vec(),
            threshold: Threshold::default(),
            separator: "|",
        };
        let row = || Row {
            text: "text".to_owned(),
            text_pair: None,
            label: None,
            place: Place {
                file: Path::new("-").into(),
                line: 1,
            },
        };
        let several = labeller.prediction(row(), &[0.0, -1.0, 3.0]);
        // 1 / (1 + e^−3) = 0.9526.
        assert_eq!(several.to_string(), "c|a\t0.9526|0.5000\ttext");
        let none = labeller.prediction(row(), &[-1.0, -1.0, -1.0]);
        assert_eq!(none.to_string(), "\t\ttext");
        assert_eq!(
            serde_json::to_value(&none).expect("JSON"),
            serde_json::json!({"text": "text", "labels": []})
        );
        let columns = labeller.columns(&["prediction", "score"], &[several, none]);
        let texts = |texts: [&str; 2]| PredictedValues::Texts(texts.map(str::to_owned).to_vec());
        assert_eq!(columns[0].values, texts(["c|a", ""]));
        assert_eq!(columns[1].values, texts(["0.9526|0.5000", ""]));
    }
}
