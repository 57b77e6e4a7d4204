//! What a base model calls the modules that an adapter names.
//!
//! The checkpoint of a bare model says `encoder.layer.0`, that of the same model within a task
//! `bert.encoder.layer.0`, and adapters exist for both.

use super::base_checkpoint::BaseCheckpoint;
use crate::BadInput;
use crate::ExperimentError;

/// How names in an adapter become names in its base model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// They are the same.
    Same,
    /// The adapter has this in front.
    AdapterPrefix(String),
    /// The base model has this in front.
    BasePrefix(String),
    /// One of the two was saved before transformers renamed the modules of vision-language models.
    Renamed(Renaming),
}

/// How transformers 4.52 renamed the modules of vision-language models: the beginnings of names in
/// the adapter, and what the base model has instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Renaming(&'static [(&'static str, &'static str)]);

/// The longer beginnings first.
const RENAMINGS: [Renaming; 6] = [
    // LLaVA, Gemma 3 and their like; to the names that they have in checkpoints, and back.
    Renaming(&[
        ("model.language_model", "language_model.model"),
        ("model.vision_tower", "vision_tower"),
        ("model.multi_modal_projector", "multi_modal_projector"),
        ("lm_head", "language_model.lm_head"),
    ]),
    // The same with CLIP's own name in between, as published, and as releases 4.52 to 4.57 name modules.
    Renaming(&[
        ("model.language_model", "language_model.model"),
        ("model.vision_tower", "vision_tower.vision_model"),
        ("model.multi_modal_projector", "multi_modal_projector"),
        ("lm_head", "language_model.lm_head"),
    ]),
    Renaming(&[("model.vision_tower", "model.vision_tower.vision_model")]),
    Renaming(&[
        ("language_model.model", "model.language_model"),
        ("vision_tower", "model.vision_tower"),
        ("multi_modal_projector", "model.multi_modal_projector"),
        ("language_model.lm_head", "lm_head"),
    ]),
    // Qwen 2-VL and its like.
    Renaming(&[
        ("model.language_model", "model"),
        ("model.visual", "visual"),
    ]),
    Renaming(&[
        ("model", "model.language_model"),
        ("visual", "model.visual"),
    ]),
];

impl Renaming {
    fn apply(self, name: &str) -> String {
        let renamed = self.0.iter().find_map(|(from, to)| {
            let rest = name.strip_prefix(from)?;
            let is_whole = rest.is_empty() || rest.starts_with('.');
            is_whole.then(|| format!("{to}{rest}"))
        });
        renamed.unwrap_or_else(|| name.to_owned())
    }
}

impl Naming {
    /// The one naming under which the base model has a weight for all `modules`.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub(super) fn find(modules: &[&str], base: &BaseCheckpoint) -> Result<Self, ExperimentError> {
        let names = base.tensor_names();
        let found = Self::fitting(modules, &names);
        let problem = match found.as_slice() {
            [naming] => return Ok(naming.clone()),
            _ if found.contains(&Self::Same) => return Ok(Self::Same),
            [] => missing(modules, &names),
            several => format!(
                "the adapter's modules fit in {} places of it, such as {} and {}",
                several.len(),
                several[0].describe(),
                several[1].describe()
            ),
        };
        let base = base.path().display();
        Err(BadInput(format!("base model `{base}`: {problem}")).into())
    }

    fn fitting(modules: &[&str], names: &[&str]) -> Vec<Self> {
        let Some(first) = modules.first() else {
            return vec![Self::Same];
        };
        let weight = format!("{first}.weight");
        let stripped = first
            .match_indices('.')
            .map(|(dot, _)| Self::AdapterPrefix(first[..dot].to_owned()));
        let extended = names.iter().filter_map(|name| {
            let prefix = name.strip_suffix(&weight)?.strip_suffix('.')?;
            Some(Self::BasePrefix(prefix.to_owned()))
        });
        let mut fitting: Vec<Self> = [Self::Same]
            .into_iter()
            .chain(stripped)
            .chain(extended)
            .chain(RENAMINGS.map(Self::Renamed))
            .collect();
        fitting.retain(|naming| modules.iter().all(|module| naming.finds(module, names)));
        // A renaming that is a mere prefix here, or changes nothing, is no second place.
        let mut places: Vec<Vec<String>> = Vec::new();
        fitting.retain(|naming| {
            let place = modules
                .iter()
                .map(|module| naming.in_base(module))
                .collect();
            let is_new = !places.contains(&place);
            places.push(place);
            is_new
        });
        fitting
    }

    /// Whether the base model, whose sorted tensors are `names`, has a weight for `module`.
    fn finds(&self, module: &str, names: &[&str]) -> bool {
        if let Self::AdapterPrefix(prefix) = self
            && strip(module, prefix).is_none()
        {
            return false;
        }
        let weight = format!("{}.weight", self.in_base(module));
        names.binary_search(&weight.as_str()).is_ok()
    }

    /// The name in the base model of what the adapter calls `name`.
    pub(super) fn in_base(&self, name: &str) -> String {
        match self {
            Self::Same => name.to_owned(),
            Self::AdapterPrefix(prefix) => strip(name, prefix).unwrap_or(name).to_owned(),
            Self::BasePrefix(prefix) => format!("{prefix}.{name}"),
            Self::Renamed(renaming) => renaming.apply(name),
        }
    }

    /// What the adapter has in front of the names of the base model.
    pub(super) fn prefix_of_adapter(&self) -> Option<&str> {
        match self {
            Self::AdapterPrefix(prefix) => Some(prefix),
            _ => None,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Same => "under the same names".to_owned(),
            Self::AdapterPrefix(prefix) => format!("without `{prefix}.`"),
            Self::BasePrefix(prefix) => format!("under `{prefix}.`"),
            Self::Renamed(Renaming(pairs)) => {
                format!("with `{}` for `{}`", pairs[0].1, pairs[0].0)
            }
        }
    }
}

fn strip<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix)?.strip_prefix('.')
}

/// The module that no naming finds, and a weight of the same last name if there is one.
fn missing(modules: &[&str], names: &[&str]) -> String {
    let absent = modules
        .iter()
        .find(|module| Naming::fitting(&[module], names).is_empty());
    let Some(&module) = absent.or(modules.first()) else {
        return "the adapter has no modules".to_owned();
    };
    let last = module.rsplit('.').next().unwrap_or(module);
    let ending = format!(".{last}.weight");
    let similar = names.iter().find(|name| name.ends_with(&ending));
    let example = similar.or(names.first()).copied().unwrap_or("nothing");
    format!(
        "it has no weight for the adapter's module `{module}`, but for instance `{example}`; is it an adapter of another base model?"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: [&str; 3] = [
        "embeddings.weight",
        "encoder.layer.0.query.weight",
        "encoder.layer.0.value.weight",
    ];

    fn namings(modules: &[&str], names: &[&str]) -> Vec<Naming> {
        Naming::fitting(modules, names)
    }

    #[test]
    fn equal_names_are_the_same() {
        let modules = ["encoder.layer.0.query", "encoder.layer.0.value"];
        assert_eq!(namings(&modules, &BARE), [Naming::Same]);
    }

    #[test]
    fn a_prefix_on_either_side_is_found() {
        let modules = ["bert.encoder.layer.0.query", "bert.encoder.layer.0.value"];
        let found = namings(&modules, &BARE);
        assert_eq!(found, [Naming::AdapterPrefix("bert".into())]);
        assert_eq!(found[0].in_base(modules[0]), "encoder.layer.0.query");

        let wrapped = ["model.bert.encoder.layer.0.query.weight"];
        let found = namings(&["encoder.layer.0.query"], &wrapped);
        assert_eq!(found, [Naming::BasePrefix("model.bert".into())]);
    }

    #[test]
    fn a_shared_ending_alone_is_no_match() {
        // There is a `dense`, but not the one of the layer.
        let names = ["dense.weight", "encoder.layer.0.query.weight"];
        let modules = [
            "bert.encoder.layer.0.output.dense",
            "bert.encoder.layer.0.query",
        ];
        assert_eq!(namings(&modules, &names), []);
        assert!(missing(&modules, &names).contains("`dense.weight`"));
    }

    #[test]
    fn names_from_before_and_after_the_renaming_of_vision_language_models_are_one() {
        for (module, weight) in [
            (
                "model.language_model.layers.0.q",
                "language_model.model.layers.0.q",
            ),
            (
                "language_model.model.layers.0.q",
                "model.language_model.layers.0.q",
            ),
            ("model.layers.0.q", "model.language_model.layers.0.q"),
            ("model.language_model.layers.0.q", "model.layers.0.q"),
        ] {
            let names = [format!("{weight}.weight")];
            let found = namings(&[module], &[names[0].as_str()]);
            assert_eq!(found.len(), 1, "{module}");
            assert_eq!(found[0].in_base(module), weight);
        }
        let names = [
            "language_model.model.layers.0.q.weight",
            "vision_tower.layers.0.q.weight",
        ];
        let modules = [
            "model.language_model.layers.0.q",
            "model.vision_tower.layers.0.q",
        ];
        let found = namings(&modules, &names);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].in_base(modules[1]), "vision_tower.layers.0.q");
    }

    #[test]
    fn two_towers_that_both_fit_are_ambiguous() {
        let names = ["text.layers.0.q.weight", "vision.layers.0.q.weight"];
        assert_eq!(namings(&["layers.0.q"], &names).len(), 2);
    }
}
