//! What the labels of a checkpoint mean, in the words of transformers.

use eigenmix_data::TargetKind;
use serde_json::{Map, Value};

/// The key of `config.json`.
const KEY: &str = "problem_type";
/// Its value where the labels of a classifier do not exclude each other.
pub(crate) const MULTI_LABEL: &str = "multi_label_classification";

/// Sets `problem_type` where transformers would not guess it, or the base model's is another.
pub fn set_problem_type(config: &mut Map<String, Value>, target: TargetKind) {
    let problem = match target {
        TargetKind::Classification => "single_label_classification",
        TargetKind::MultiLabel => MULTI_LABEL,
        TargetKind::Regression => "regression",
    };
    let says_another = config.get(KEY).is_some_and(|found| !found.is_null());
    if target == TargetKind::MultiLabel || says_another {
        config.insert(KEY.to_owned(), problem.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(config: &Value, target: TargetKind) -> Value {
        let mut config = config.as_object().expect("an object").clone();
        set_problem_type(&mut config, target);
        Value::Object(config)
    }

    #[test]
    fn several_labels_are_always_said_and_anything_else_where_the_base_says_another() {
        let plain = json!({"hidden_size": 4});
        let multi = json!({"hidden_size": 4, "problem_type": "multi_label_classification"});
        let single = json!({"hidden_size": 4, "problem_type": "single_label_classification"});
        assert_eq!(set(&plain, TargetKind::MultiLabel), multi);
        assert_eq!(set(&single, TargetKind::MultiLabel), multi);
        assert_eq!(set(&multi, TargetKind::Classification), single);
        assert_eq!(set(&plain, TargetKind::Classification), plain);
        assert_eq!(set(&plain, TargetKind::Regression), plain);
    }
}
