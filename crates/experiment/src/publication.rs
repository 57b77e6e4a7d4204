//! The publishable part of an adapter and its run, and the content of the model card.

use std::path::Path;

use eigenmix_adapter::{Adapter, CardResult, PeftConfig, Provenance, Publication};
use eigenmix_hub::{HubFile, HubId};
use eigenmix_trainer::{Evaluations, RunHistory, metrics_in};
use serde_json::{Map, Value};

use crate::BadInput;

/// The base model under which an adapter is published.
#[derive(Debug, PartialEq, Eq)]
pub struct PublicBase {
    pub id: String,
    pub revision: Option<String>,
}

impl PublicBase {
    /// The Hub id that was given, or the one that the configuration names.
    ///
    /// # Errors
    /// If it is not a Hub id: the path of a local directory would help nobody and is private.
    pub fn new(given: Option<&str>, config: &PeftConfig) -> Result<Self, BadInput> {
        if let Some(given) = given {
            let id =
                HubId::parse(given).map_err(|error| BadInput(format!("--base-model: {error}")))?;
            return Ok(Self {
                id: id.repository().to_owned(),
                revision: id.revision().map(str::to_owned),
            });
        }
        let Some(name) = config.base_model() else {
            let problem = "the adapter names no base model; give --base-model ID";
            return Err(BadInput(problem.to_owned()));
        };
        // Of a GGUF file on the Hub, its repository.
        let of_file = HubFile::parse(name).ok().flatten().map(|file| file.id);
        let id = of_file.or_else(|| HubId::parse(name).ok());
        let id = id.filter(|_| !Path::new(name).exists());
        let Some(id) = id else {
            return Err(BadInput(format!(
                "the adapter's base model `{name}` is a directory; give its Hub id with --base-model ID"
            )));
        };
        let own = config.revision().map(str::to_owned);
        Ok(Self {
            id: id.repository().to_owned(),
            revision: id.revision().map(str::to_owned).or(own),
        })
    }
}

/// The same without paths of this machine: of a path only the last part is kept.
pub fn without_paths(provenance: Provenance) -> Provenance {
    let Provenance {
        version,
        method,
        sources,
        options,
        input,
    } = provenance;
    let sources = sources.into_iter().map(|mut source| {
        if HubId::parse(&source.location).is_err() || Path::new(&source.location).exists() {
            source.location = last_part(&source.location).to_owned();
        }
        source
    });
    Provenance {
        version,
        method,
        sources: sources.collect(),
        options: value_without_paths(options),
        input,
    }
}

fn value_without_paths(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text_without_path(text)),
        Value::Array(items) => items.into_iter().map(value_without_paths).collect(),
        Value::Object(entries) => {
            let entries = entries.into_iter();
            let clean = entries.map(|(key, value)| (key, value_without_paths(value)));
            Value::Object(clean.collect::<Map<_, _>>())
        }
        other => other,
    }
}

fn text_without_path(text: String) -> String {
    // `init = "project:ADAPTER"` has a path after a word.
    if let Some((word, path)) = text.split_once(':')
        && word == "project"
    {
        return format!("{word}:{}", text_without_path(path.to_owned()));
    }
    let leads_out = ["/", "~", "./", "../", "\\"]
        .iter()
        .any(|start| text.starts_with(start));
    let has_drive = text
        .get(1..3)
        .is_some_and(|drive| drive == ":\\" || drive == ":/");
    let exists = text.contains(['/', '\\']) && Path::new(&text).exists();
    match leads_out || has_drive || exists {
        true => last_part(&text).to_owned(),
        false => text,
    }
}

fn last_part(path: &str) -> &str {
    let mut parts = path.split(['/', '\\']);
    parts.rfind(|part| !part.is_empty()).unwrap_or("")
}

/// The content of the model card of an adapter from a run, or from elsewhere.
pub fn publication(
    repository: &HubId,
    license: Option<&str>,
    adapter: &Adapter,
    run: Option<&RunHistory>,
) -> Publication {
    let task = run.and_then(|run| text_in(&run.config, "task", "kind"));
    let task = match (task, adapter.config.task_type()) {
        (Some("image-classification"), _) if adapter.prompts.is_some() => {
            Some("zero-shot-image-classification")
        }
        (Some("image-classification"), _) => Some("image-classification"),
        (Some("causal-lm"), _) | (_, Some("CAUSAL_LM")) => Some("text-generation"),
        (Some("sequence-classification"), _) | (_, Some("SEQ_CLS")) => Some("text-classification"),
        _ => None,
    };
    let data = run.and_then(|run| text_in(&run.config, "data", "path"));
    let dataset_id = data
        .filter(|data| !Path::new(data).exists())
        .and_then(|data| HubId::parse(data).ok())
        .map(|id| id.repository().to_owned());
    let dataset = match (&dataset_id, data) {
        (Some(id), _) => id.clone(),
        (None, Some(path)) => last_part(path).to_owned(),
        (None, None) => String::new(),
    };
    let evaluations = run.and_then(reported);
    let results = evaluations.map(|(split, evaluations)| CardResult {
        dataset,
        dataset_id: dataset_id.clone(),
        split: split.to_owned(),
        metrics: metrics_in(&evaluations.last)
            .into_iter()
            .filter(|(name, _)| name != "loss")
            .collect(),
    });
    Publication {
        repository: repository.repository().to_owned(),
        license: license.map(str::to_owned),
        task: task.map(str::to_owned),
        datasets: dataset_id.into_iter().collect(),
        results: results.into_iter().collect(),
    }
}

/// The metrics of the saved state: those on the test split; those on the validation split only if
/// the last state was saved.
fn reported(run: &RunHistory) -> Option<(&str, &Evaluations)> {
    let of = |split: &str| {
        let (name, evaluations) = run.evaluations.get_key_value(split)?;
        Some((name.as_str(), evaluations))
    };
    of("test").or_else(|| match text_in(&run.config, "training", "keep") {
        Some("best") => None,
        _ => of("validation"),
    })
}

fn text_in<'a>(config: &'a toml::Table, table: &str, key: &str) -> Option<&'a str> {
    config.get(table)?.get(key)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use eigenmix_adapter::Source;
    use serde_json::json;

    fn config(base: Option<&str>) -> PeftConfig {
        let mut raw = json!({"peft_type": "LORA", "r": 2, "target_modules": ["query"]});
        if let Some(base) = base {
            raw["base_model_name_or_path"] = base.into();
        }
        let Value::Object(raw) = raw else {
            unreachable!()
        };
        PeftConfig::from_map(raw, Path::new("adapter_config.json")).expect("a configuration")
    }

    #[test]
    fn a_base_model_on_the_hub_is_named_and_a_directory_is_asked_about() {
        let named = PublicBase::new(None, &config(Some("org/base"))).expect("a base");
        assert_eq!((named.id.as_str(), named.revision), ("org/base", None));
        let given = PublicBase::new(Some("org/base@v2"), &config(Some("/disk/of/mine/base")));
        let given = given.expect("a base");
        let expected = ("org/base", Some("v2".to_owned()));
        assert_eq!((given.id.as_str(), given.revision), expected);
        // Tests run in the directory of the crate, where `src/run` is one.
        for base in [
            Some("/disk/of/mine/base"),
            Some("../base"),
            Some("src/run"),
            None,
        ] {
            let error = PublicBase::new(None, &config(base)).expect_err("an error");
            assert!(error.to_string().contains("--base-model"), "{error}");
        }
    }

    #[test]
    fn paths_keep_their_last_part_and_nothing_else_changes() {
        let provenance = Provenance {
            version: "1".to_owned(),
            method: "train/eigenmix".to_owned(),
            sources: [
                "/disk/of/mine/adapters/banking",
                "src/run",
                "org/adapter@v1",
            ]
            .map(|location| Source {
                location: location.to_owned(),
                sha256: "0".to_owned(),
            })
            .to_vec(),
            options: json!({
                "subspace": "/disk/of/mine/subspaces/all",
                "init": "project:/disk/of/mine/adapters/gym",
                "adapters": ["../adapters/a", "org/b", "C:\\adapters\\c"],
                "rank": 4,
                "target_modules": "all-linear",
            }),
            input: None,
        };
        let clean = without_paths(provenance);
        let places: Vec<&str> = clean
            .sources
            .iter()
            .map(|source| &*source.location)
            .collect();
        assert_eq!(places, ["banking", "run", "org/adapter@v1"]);
        let expected = json!({
            "subspace": "all",
            "init": "project:gym",
            "adapters": ["a", "org/b", "c"],
            "rank": 4,
            "target_modules": "all-linear",
        });
        assert_eq!(clean.options, expected);
    }
}
