//! Which modules of a base model an adapter adapts: PEFT's `check_target_module_exists`.

use crate::AdapterError;
use crate::pattern::ModulePattern;

/// The value of `target_modules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetModules {
    /// Module paths or their last components.
    Names(Vec<String>),
    /// A Python regular expression that must match the whole path.
    Regex(String),
    /// `all-linear`: every linear layer but the output layer.
    AllLinear,
}

/// The value of `exclude_modules`, or of `target_modules` when it is not `all-linear`.
#[derive(Clone, Debug)]
pub(crate) enum ModuleSet {
    Names(Vec<String>),
    Expression(ModulePattern),
}

impl ModuleSet {
    fn names_exactly(&self, module: &str) -> bool {
        matches!(self, Self::Names(names) if names.iter().any(|name| name == module))
    }

    fn contains(&self, module: &str) -> bool {
        match self {
            Self::Names(names) => names.iter().any(|name| is_suffix_of(name, module)),
            Self::Expression(pattern) => pattern.matches(module),
        }
    }
}

/// `layers_to_transform`, and where in a path the index of a layer stands.
#[derive(Clone, Debug)]
pub(crate) struct LayerSelection {
    pub(crate) indices: Vec<usize>,
    pub(crate) patterns: Vec<ModulePattern>,
}

impl LayerSelection {
    fn contains(&self, module: &str) -> bool {
        self.patterns
            .iter()
            .find_map(|pattern| pattern.layer_index(module))
            .is_some_and(|layer| self.indices.contains(&layer))
    }
}

/// Everything in a configuration that decides whether a module is adapted, compiled.
#[derive(Clone, Debug)]
pub(crate) struct ModuleSelection {
    /// `None` stands for `all-linear`.
    pub(crate) targets: Option<ModuleSet>,
    pub(crate) excluded: Option<ModuleSet>,
    pub(crate) layers: Option<LayerSelection>,
    pub(crate) saved: Vec<String>,
}

impl ModuleSelection {
    /// Whether the module is left out by name.
    pub(crate) fn excludes(&self, module: &str) -> bool {
        let excluded = self.excluded.as_ref();
        excluded.is_some_and(|excluded| excluded.contains(module))
    }

    /// Whether the linear layer at path `module` is adapted.
    pub(crate) fn contains(&self, module: &str, is_output_layer: bool) -> bool {
        if self.excludes(module) {
            return false;
        }
        // A module that is trained and saved whole is never adapted as well.
        if self.saved.iter().any(|saved| has_component(module, saved)) {
            return false;
        }
        let Some(targets) = &self.targets else {
            return !is_output_layer;
        };
        if !targets.contains(module) {
            return false;
        }
        // PEFT restricts to layers only what was found by a suffix: a full path names its layer itself.
        match (&self.layers, targets) {
            (Some(layers), ModuleSet::Names(_)) if !targets.names_exactly(module) => {
                layers.contains(module)
            }
            _ => true,
        }
    }
}

impl TargetModules {
    pub(crate) fn compile(&self) -> Result<Option<ModuleSet>, AdapterError> {
        Ok(match self {
            Self::Names(names) => Some(ModuleSet::Names(names.clone())),
            Self::Regex(expression) => {
                Some(ModuleSet::Expression(ModulePattern::whole(expression)?))
            }
            Self::AllLinear => None,
        })
    }
}

/// Whether `name` is `path` or its last components.
fn is_suffix_of(name: &str, path: &str) -> bool {
    path.strip_suffix(name)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether `modules_to_save` covers the module or tensor at `path` if it has `name`: PEFT saves every
/// module whose path ends with it, be it in the middle of a component (`norm` is
/// `post_attention_layernorm` as well), with all that is below. (Where it looks for targets, it leaves
/// out whole components only.)
pub fn is_saved_by(path: &str, name: &str) -> bool {
    let ends = path.match_indices('.').map(|(end, _)| end);
    let mut ends = ends.chain([path.len()]);
    !name.is_empty() && ends.any(|end| path[..end].ends_with(name))
}

/// Whether `name` is `path`, or a run of whole components anywhere in it.
pub(crate) fn has_component(path: &str, name: &str) -> bool {
    !name.is_empty()
        && path.match_indices(name).any(|(start, _)| {
            let end = start + name.len();
            (start == 0 || path[..start].ends_with('.'))
                && (end == path.len() || path[end..].starts_with('.'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_told_by_the_end_of_a_path_as_peft_does() {
        for (path, name) in [
            ("model.norm.weight", "norm"),
            ("model.layers.0.post_attention_layernorm.weight", "norm"),
            (
                "model.layers.0.input_layernorm",
                "model.layers.0.input_layernorm",
            ),
            ("classifier.out.bias", "classifier"),
            ("lm_head.weight", "head"),
        ] {
            assert!(is_saved_by(path, name), "{path} {name}");
        }
        for (path, name) in [
            ("model.norms.weight", "norm"),
            ("model.embed_tokens.weight", "embed"),
            ("model.norm.weight", ""),
        ] {
            assert!(!is_saved_by(path, name), "{path} {name}");
        }
    }

    fn selection(targets: TargetModules) -> ModuleSelection {
        ModuleSelection {
            targets: targets.compile().unwrap(),
            excluded: None,
            layers: None,
            saved: Vec::new(),
        }
    }

    fn names(list: &[&str]) -> TargetModules {
        TargetModules::Names(list.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn a_name_targets_whole_components_only() {
        let chosen = selection(names(&["query", "output.dense"]));
        assert!(chosen.contains("bert.encoder.layer.0.attention.self.query", false));
        assert!(chosen.contains("bert.encoder.layer.0.output.dense", false));
        assert!(!chosen.contains("bert.encoder.layer.0.intermediate.dense", false));
        assert!(!chosen.contains("bert.subquery", false));
    }

    #[test]
    fn all_linear_leaves_the_output_layer_alone() {
        let chosen = selection(TargetModules::AllLinear);
        assert!(chosen.contains("model.layers.0.mlp.up_proj", false));
        assert!(!chosen.contains("lm_head", true));
    }

    #[test]
    fn a_regular_expression_must_match_the_whole_path() {
        let chosen = selection(TargetModules::Regex(r".*\.[qv]_proj".into()));
        assert!(chosen.contains("model.layers.0.self_attn.v_proj", false));
        assert!(!chosen.contains("model.layers.0.self_attn.v_proj.inner", false));
        assert!(!chosen.contains("q_proj", false));
    }

    #[test]
    fn exclusion_wins_over_targets() {
        let mut chosen = selection(names(&["q_proj"]));
        chosen.excluded = Some(ModuleSet::Names(vec!["layers.0.q_proj".into()]));
        assert!(!chosen.contains("model.layers.0.q_proj", false));
        assert!(chosen.contains("model.layers.1.q_proj", false));
    }

    #[test]
    fn a_module_that_is_saved_whole_is_not_adapted() {
        let mut chosen = selection(names(&["dense"]));
        chosen.saved = vec!["classifier".into()];
        assert!(!chosen.contains("classifier.dense", false));
        assert!(chosen.contains("pre_classifier.dense", false));
    }

    #[test]
    fn layers_restrict_suffixes_but_not_full_paths() {
        let mut chosen = selection(names(&["q_proj", "model.layers.5.v_proj"]));
        chosen.layers = Some(LayerSelection {
            indices: vec![0, 2],
            patterns: vec![ModulePattern::any_layer().unwrap()],
        });
        assert!(chosen.contains("model.layers.2.q_proj", false));
        assert!(!chosen.contains("model.layers.1.q_proj", false));
        assert!(!chosen.contains("model.final.q_proj", false));
        assert!(chosen.contains("model.layers.5.v_proj", false));
    }
}
