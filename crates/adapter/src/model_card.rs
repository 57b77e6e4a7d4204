//! The README.md beside an adapter: a model card that claims nothing that was not measured.

use std::fmt;

use serde_json::json;

use crate::{Adapter, PeftConfig, Provenance};

/// A card for an adapter, as its `Display` writes it.
pub struct ModelCard<'a> {
    pub adapter: &'a Adapter,
    /// The configuration under which it is written.
    pub config: &'a PeftConfig,
    pub provenance: Option<&'a Provenance>,
    /// What is known when it is published; nothing of one that is only written.
    pub publication: Option<&'a Publication>,
}

/// What a card on the Hub says besides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Publication {
    /// Where it will be: `org/name`.
    pub repository: String,
    /// A licence's name on the Hub, such as `mit`.
    pub license: Option<String>,
    /// The Hub's name for what it does, such as `text-classification`.
    pub task: Option<String>,
    /// Ids on the Hub.
    pub datasets: Vec<String>,
    pub results: Vec<CardResult>,
}

/// Metrics that were measured on one split.
#[derive(Clone, Debug, PartialEq)]
pub struct CardResult {
    /// What people call the dataset.
    pub dataset: String,
    /// Its id on the Hub, if it has one.
    pub dataset_id: Option<String>,
    pub split: String,
    /// By name.
    pub metrics: Vec<(String, f64)>,
}

/// The text of the card for `adapter`, written under `config`.
pub(crate) fn model_card(
    adapter: &Adapter,
    config: &PeftConfig,
    provenance: Option<&Provenance>,
) -> String {
    let card = ModelCard {
        adapter,
        config,
        provenance,
        publication: None,
    };
    card.to_string()
}

impl fmt::Display for ModelCard<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(formatter)?;
        let title = self.publication.map(|publication| &publication.repository);
        let title = title.and_then(|id| id.rsplit('/').next());
        writeln!(formatter, "\n# {}\n", title.unwrap_or("LoRA adapter"))?;
        self.summary(formatter)?;
        if let Some(publication) = self.publication {
            publication.results(formatter)?;
            self.usage(publication, formatter)?;
        }
        self.origin(formatter)?;
        let open = match self.publication {
            Some(publication) if publication.license.is_some() => "",
            _ => " It states no licence.",
        };
        writeln!(
            formatter,
            "\nThis card was generated.{open} The terms of the base model and of the sources apply."
        )
    }
}

impl ModelCard<'_> {
    /// The head in YAML, of which JSON's strings are part.
    fn head(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base_model = self.config.base_model();
        writeln!(formatter, "---")?;
        if let Some(base_model) = base_model {
            writeln!(formatter, "base_model: {}", json!(base_model))?;
        }
        let is_of_pipeline = self.adapter.is_of_pipeline();
        let library = if is_of_pipeline { "diffusers" } else { "peft" };
        writeln!(formatter, "library_name: {library}")?;
        if let Some(publication) = self.publication {
            publication.head(formatter)?;
        }
        writeln!(formatter, "tags:")?;
        if self.provenance.is_some() || self.publication.is_some() {
            writeln!(formatter, "- eigenmix")?;
        }
        writeln!(formatter, "- lora")?;
        if is_of_pipeline {
            writeln!(formatter, "- text-to-image")?;
        }
        if let Some(tag) = self.method_tag() {
            writeln!(formatter, "- {}", json!(tag))?;
        }
        if let Some(base_model) = base_model {
            let tag = format!("base_model:adapter:{base_model}");
            writeln!(formatter, "- {}", json!(tag))?;
        }
        if let Some(publication) = self.publication {
            publication.index(formatter)?;
        }
        writeln!(formatter, "---")
    }

    /// The method by which it was trained or merged, where that is not plain LoRA.
    fn method_tag(&self) -> Option<&str> {
        let mut words = self.provenance?.method.split(['/', ' ']);
        let tag = match words.next()? {
            "train" => words.next()?,
            "merge" => "merge",
            _ => return None,
        };
        (!["lora", "eigenmix"].contains(&tag)).then_some(tag)
    }

    fn summary(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (adapter, config) = (self.adapter, self.config);
        let ranks = adapter.modules.values().map(|module| module.rank());
        let rank = match (ranks.clone().min(), ranks.max()) {
            (Some(low), Some(high)) if low != high => format!("ranks {low} to {high}"),
            (Some(rank), _) => format!("rank {rank}"),
            _ => "no rank".to_owned(),
        };
        // Of the factors as they are written: a mixer is folded into B by then.
        let parameters: usize = adapter
            .modules
            .values()
            .map(|module| module.rank() * (module.d_in() + module.d_out()))
            .sum();
        writeln!(
            formatter,
            "A plain {} {} adapter for `{}`: {} modules, {rank}, {parameters} parameters, scaling 1.",
            if adapter.is_of_pipeline() {
                "diffusers"
            } else {
                "PEFT"
            },
            if config.use_dora() { "DoRA" } else { "LoRA" },
            config.base_model().unwrap_or("an unnamed base model"),
            adapter.modules.len(),
        )?;
        if !adapter.heads.is_empty() {
            let names = adapter.heads.keys().map(|name| format!("`{name}`"));
            let names: Vec<String> = names.collect();
            writeln!(formatter, "It brings its own head: {}.", names.join(", "))?;
        }
        if let Some(labels) = &adapter.labels {
            writeln!(
                formatter,
                "Its {} labels are in `{}`.",
                labels.len(),
                crate::Labels::FILE_NAME
            )?;
        }
        Ok(())
    }

    /// How diffusers loads it.
    fn pipeline_usage(&self, id: &str, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.config.base_model().unwrap_or("BASE_MODEL");
        writeln!(
            formatter,
            "\n## Use\n\n```python\nfrom diffusers import DiffusionPipeline\n\n\
             pipeline = DiffusionPipeline.from_pretrained({})\npipeline.load_lora_weights({})\n```\n\n\
             or, without Python:\n\n```sh\n\
             eigenmix generate --base {base} --adapter {id} --prompt TEXT --out images\n```",
            json!(base),
            json!(id)
        )
    }

    /// How PEFT loads it.
    fn usage(&self, publication: &Publication, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, base) = (&publication.repository, self.config.base_model());
        if self.adapter.is_of_pipeline() {
            return self.pipeline_usage(id, formatter);
        }
        writeln!(formatter, "\n## Use\n\n```python")?;
        match (self.config.task_type(), base) {
            (Some("SEQ_CLS"), base) => {
                let labels = self.adapter.labels.as_ref().map(|labels| labels.len());
                let labels = labels.or_else(|| {
                    let mut heads = self.adapter.heads.values();
                    heads.find_map(|head| head.shape.first().copied())
                });
                // A base model may be a classifier itself, whose head has to give way.
                let labels = labels.map_or(String::new(), |count| {
                    format!(", num_labels={count}, ignore_mismatched_sizes=True")
                });
                auto_model("SequenceClassification", id, &labels, base, formatter)?;
            }
            (Some("CAUSAL_LM"), base) => auto_model("CausalLM", id, "", base, formatter)?,
            (_, base) => writeln!(
                formatter,
                "from peft import PeftModel\nfrom transformers import AutoModel\n\n\
                 base = AutoModel.from_pretrained({})\nmodel = PeftModel.from_pretrained(base, {})",
                json!(base.unwrap_or("BASE_MODEL")),
                json!(id)
            )?,
        }
        writeln!(formatter, "```\n\nor, without Python:\n\n```sh")?;
        writeln!(
            formatter,
            "eigenmix predict --base {} --adapter {id} --input FILE\n```",
            base.unwrap_or("BASE_MODEL")
        )
    }

    fn origin(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(provenance) = self.provenance else {
            return Ok(());
        };
        if self.publication.is_some() {
            writeln!(formatter, "\n## Origin")?;
        }
        writeln!(
            formatter,
            "\nMade by Eigenmix {} with `{}`; every option is in `{}`.",
            provenance.version,
            provenance.method,
            Provenance::FILE_NAME
        )?;
        if provenance.sources.is_empty() {
            return Ok(());
        }
        writeln!(formatter, "\n## Sources\n")?;
        for source in &provenance.sources {
            let (location, sha256) = (&source.location, &source.sha256);
            writeln!(formatter, "- `{location}` (sha256 `{sha256}`)")?;
        }
        Ok(())
    }
}

/// Four lines for a class of models that PEFT finds by itself.
fn auto_model(
    class: &str,
    id: &str,
    labels: &str,
    base: Option<&str>,
    formatter: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let (id, base) = (json!(id), json!(base.unwrap_or("BASE_MODEL")));
    writeln!(
        formatter,
        "from peft import AutoPeftModelFor{class}\nfrom transformers import AutoTokenizer\n\n\
         model = AutoPeftModelFor{class}.from_pretrained({id}{labels})\n\
         tokenizer = AutoTokenizer.from_pretrained({base})"
    )
}

impl Publication {
    fn head(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = [("pipeline_tag", &self.task), ("license", &self.license)];
        for (key, value) in keys {
            if let Some(value) = value {
                writeln!(formatter, "{key}: {}", json!(value))?;
            }
        }
        if !self.datasets.is_empty() {
            writeln!(formatter, "datasets:")?;
        }
        for dataset in &self.datasets {
            writeln!(formatter, "- {}", json!(dataset))?;
        }
        Ok(())
    }

    /// `model-index`, from which the Hub shows figures beside the card.
    fn index(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(task) = self.task.as_ref().filter(|_| !self.results.is_empty()) else {
            return Ok(());
        };
        let name = self.repository.rsplit('/').next().unwrap_or_default();
        writeln!(
            formatter,
            "model-index:\n- name: {}\n  results:",
            json!(name)
        )?;
        for result in &self.results {
            let (name, kind) = (&result.dataset, result.dataset_id.as_ref());
            writeln!(
                formatter,
                "  - task:\n      type: {}\n    dataset:\n      name: {}\n      type: {}\n      split: {}\n    metrics:",
                json!(task),
                json!(name),
                json!(kind.unwrap_or(name)),
                json!(result.split)
            )?;
            for (name, value) in &result.metrics {
                let (kind, name) = (json!(metric_type(name)), json!(name));
                // What is not finite has no JSON; the Hub refuses it as well.
                if value.is_finite() {
                    writeln!(
                        formatter,
                        "    - type: {kind}\n      name: {name}\n      value: {value}"
                    )?;
                }
            }
        }
        Ok(())
    }

    fn results(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.results.is_empty() {
            return Ok(());
        }
        writeln!(formatter, "\n## Figures\n")?;
        writeln!(
            formatter,
            "| dataset | split | figure | value |\n|---|---|---|---|"
        )?;
        for result in &self.results {
            for (name, value) in &result.metrics {
                let (dataset, split) = (&result.dataset, &result.split);
                writeln!(formatter, "| {dataset} | {split} | {name} | {value:.4} |")?;
            }
        }
        Ok(())
    }
}

/// The Hub's name for a figure.
fn metric_type(name: &str) -> &str {
    match name {
        "macro_f1" | "macro-f1" => "f1",
        "matthews" => "matthews_correlation",
        "pearson" => "pearsonr",
        "spearman" => "spearmanr",
        "exact-match" => "exact_match",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Labels, LoraModule, TargetModules};
    use eigenmix_tensors::{HostTensor, Matrix};

    fn adapter(task: Option<&str>) -> Adapter {
        let targets = TargetModules::Names(vec!["query".to_owned()]);
        let none = BTreeMap::new();
        let config = PeftConfig::lora("org/base", 2, targets, &[], task, &none).unwrap();
        let (b, a) = (
            Matrix::from_fn(5, 2, |_, _| 1.0),
            Matrix::from_fn(2, 3, |_, _| 1.0),
        );
        let module = LoraModule::new(b, a, 1.0);
        let mut adapter = Adapter::new(config, BTreeMap::from([("query".to_owned(), module)]));
        let head = HostTensor {
            shape: vec![4, 5],
            values: vec![0.0; 20],
        };
        adapter.heads.insert("classifier.weight".to_owned(), head);
        adapter
    }

    fn publication() -> Publication {
        Publication {
            repository: "me/new \"one\"".to_owned(),
            license: Some("mit".to_owned()),
            task: Some("text-classification".to_owned()),
            datasets: vec!["org/data".to_owned()],
            results: vec![CardResult {
                dataset: "data".to_owned(),
                dataset_id: Some("org/data".to_owned()),
                split: "test".to_owned(),
                metrics: vec![
                    ("accuracy".to_owned(), 0.9375),
                    ("loss".to_owned(), f64::NAN),
                ],
            }],
        }
    }

    #[test]
    fn a_card_that_is_only_written_says_what_the_adapter_is() {
        let adapter = adapter(None);
        let card = model_card(&adapter, &adapter.config, None);
        let expected = "---\nbase_model: \"org/base\"\nlibrary_name: peft\ntags:\n- lora\n- \"base_model:adapter:org/base\"\n---\n\n# LoRA adapter\n\nA plain PEFT LoRA adapter for `org/base`: 1 modules, rank 2, 16 parameters, scaling 1.\n";
        assert!(card.starts_with(expected), "{card}");
        assert!(!card.contains("```"), "{card}");
    }

    #[test]
    fn a_published_card_has_figures_for_the_hub_and_for_people() {
        let mut adapter = adapter(Some("SEQ_CLS"));
        adapter.labels = Some(Labels(["a", "b", "c", "d"].map(str::to_owned).to_vec()));
        let provenance = Provenance {
            version: "1".to_owned(),
            method: "train/eigenlorax".to_owned(),
            sources: Vec::new(),
            options: json!({}),
            input: None,
        };
        let publication = publication();
        let card = ModelCard {
            adapter: &adapter,
            config: &adapter.config,
            provenance: Some(&provenance),
            publication: Some(&publication),
        };
        let card = card.to_string();
        for part in [
            "pipeline_tag: \"text-classification\"\nlicense: \"mit\"\ndatasets:\n- \"org/data\"\n",
            "tags:\n- eigenmix\n- lora\n- \"eigenlorax\"\n",
            "model-index:\n- name: \"new \\\"one\\\"\"\n",
            "    - type: \"accuracy\"\n      name: \"accuracy\"\n      value: 0.9375\n---\n",
            "| data | test | accuracy | 0.9375 |",
            "from_pretrained(\"me/new \\\"one\\\"\", num_labels=4, ignore_mismatched_sizes=True)",
            "Its 4 labels",
        ] {
            assert!(card.contains(part), "{part}\n{card}");
        }
    }

    #[test]
    fn each_kind_of_task_is_loaded_by_its_own_class() {
        let publication = publication();
        for (task, expected) in [
            (Some("SEQ_CLS"), "AutoPeftModelForSequenceClassification"),
            (Some("CAUSAL_LM"), "AutoPeftModelForCausalLM"),
            (None, "PeftModel.from_pretrained(base, "),
        ] {
            let adapter = adapter(task);
            let card = ModelCard {
                adapter: &adapter,
                config: &adapter.config,
                provenance: None,
                publication: Some(&publication),
            };
            assert!(card.to_string().contains(expected), "{card}");
        }
    }
}
