//! The `config.json` of a merged model: that of the base model, with the adapter's labels.

use eigenmix_adapter::{Adapter, Labels};
use eigenmix_data::TargetKind;
use eigenmix_models::untie;
use eigenmix_trainer::set_problem_type;
use serde_json::{Map, Value, json};

use super::output_layer::set_vocabulary;

/// Where heads for sequences keep the weight `[labels, width]` of their outputs.
const OUTPUT_WEIGHTS: [&str; 3] = [
    "classifier.out_proj.weight",
    "classifier.weight",
    "score.weight",
];

/// The endings of the classes in transformers that a classifier can be made from, longest first.
const CLASS_ENDINGS: [&str; 5] = [
    "LMHeadModel",
    "ForPreTraining",
    "ForMaskedLM",
    "ForCausalLM",
    "Model",
];
const CLASSIFIER_ENDING: &str = "ForSequenceClassification";

/// The text of `config.json`.
///
/// - target: what the labels of the adapter's head are, if they are known to be several a row
/// - is_untied: whether the output layer has a weight of its own now
/// - vocabulary: the number of tokens, if it changed
pub(super) fn merged_config(
    base: &Map<String, Value>,
    adapter: &Adapter,
    target: Option<TargetKind>,
    is_untied: bool,
    vocabulary: Option<usize>,
) -> String {
    let mut config = base.clone();
    if is_untied {
        untie(&mut config);
    }
    if let Some(tokens) = vocabulary {
        set_vocabulary(&mut config, tokens);
    }
    let is_classifier = adapter.config.task_type() == Some("SEQ_CLS");
    let labels = adapter.labels.clone().or_else(|| numbered_labels(adapter));
    if let Some(Labels(names)) = labels.filter(|_| !adapter.heads.is_empty()) {
        let indexed = names.iter().enumerate();
        let id2label: Map<String, Value> = indexed
            .clone()
            .map(|(index, name)| (index.to_string(), json!(name)))
            .collect();
        let label2id: Map<String, Value> = indexed
            .map(|(index, name)| (name.clone(), json!(index)))
            .collect();
        config.insert("id2label".to_owned(), Value::Object(id2label));
        config.insert("label2id".to_owned(), Value::Object(label2id));
        // transformers derives it from the labels, and contradicts itself where both are there.
        config.shift_remove("num_labels");
    }
    if let Some(target) = target.filter(|_| !adapter.heads.is_empty()) {
        set_problem_type(&mut config, target);
    }
    if is_classifier
        && !adapter.heads.is_empty()
        && let Some(class) = classifier_class(&config)
    {
        config.insert("architectures".to_owned(), json!([class]));
    }
    format!("{:#}\n", Value::Object(config))
}

/// The labels that transformers invents for a head which has none.
fn numbered_labels(adapter: &Adapter) -> Option<Labels> {
    let weight = OUTPUT_WEIGHTS
        .iter()
        .find_map(|name| adapter.heads.get(*name))?;
    let outputs = *weight.shape.first()?;
    Some(Labels(
        (0..outputs).map(|index| format!("LABEL_{index}")).collect(),
    ))
}

/// `BertModel` or `BertForMaskedLM` → `BertForSequenceClassification`.
fn classifier_class(config: &Map<String, Value>) -> Option<String> {
    let class = config.get("architectures")?.get(0)?.as_str()?;
    let family = CLASS_ENDINGS
        .iter()
        .find_map(|ending| class.strip_suffix(ending))?;
    Some(format!("{family}{CLASSIFIER_ENDING}"))
}

#[cfg(test)]
mod tests {
    use eigenmix_tensors::HostTensor;
    use std::collections::BTreeMap;

    use super::*;
    use eigenmix_adapter::{PeftConfig, TargetModules};

    fn adapter(labels: Option<Labels>) -> Adapter {
        let targets = TargetModules::Names(vec!["query".to_owned()]);
        let heads = ["classifier".to_owned()];
        let config = PeftConfig::lora(
            "base",
            2,
            targets,
            &heads,
            Some("SEQ_CLS"),
            &BTreeMap::new(),
        )
        .expect("a configuration");
        let mut adapter = Adapter::new(config, BTreeMap::new());
        let weight = HostTensor {
            shape: vec![2, 3],
            values: vec![0.0; 6],
        };
        adapter.heads.insert("classifier.weight".to_owned(), weight);
        adapter.labels = labels;
        adapter
    }

    fn merged(base: Value, adapter: &Adapter) -> Value {
        let base = base.as_object().expect("an object");
        serde_json::from_str(&merged_config(base, adapter, None, false, None)).expect("JSON")
    }

    #[test]
    fn labels_and_class_are_those_of_the_classifier_and_the_rest_stays() {
        let labels = Labels(vec!["no".to_owned(), "yes".to_owned()]);
        let base = json!({"architectures": ["BertModel"], "hidden_size": 3, "num_labels": 5});
        assert_eq!(
            merged(base, &adapter(Some(labels))),
            json!({
                "architectures": ["BertForSequenceClassification"],
                "hidden_size": 3,
                "id2label": {"0": "no", "1": "yes"},
                "label2id": {"no": 0, "yes": 1}
            })
        );
    }

    #[test]
    fn a_head_without_labels_gets_as_many_as_it_has_outputs() {
        let config = merged(json!({}), &adapter(None));
        assert_eq!(config["id2label"], json!({"0": "LABEL_0", "1": "LABEL_1"}));
    }

    #[test]
    fn a_head_of_several_labels_a_row_says_so() {
        let base = json!({});
        let base = base.as_object().expect("an object");
        let text = merged_config(
            base,
            &adapter(None),
            Some(TargetKind::MultiLabel),
            false,
            None,
        );
        let config: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(config["problem_type"], "multi_label_classification");
    }

    #[test]
    fn without_a_head_nothing_changes() {
        let mut plain = adapter(None);
        plain.heads.clear();
        let base = json!({"architectures": ["BertModel"], "num_labels": 5});
        assert_eq!(merged(base.clone(), &plain), base);
    }
}
