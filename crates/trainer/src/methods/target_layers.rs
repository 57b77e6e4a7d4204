//! The layers that `adapter.target_modules` names.

use std::collections::BTreeMap;

use eigenmix_adapter::{PeftConfig, TargetModules, is_saved_by};
use eigenmix_data::closest_name;
use eigenmix_models::{Description, LinearLayer};
use eigenmix_moslora::Update;

use crate::TrainerError;
use crate::adapted_model::AdaptedModel;
use crate::adapter_config::{AdapterConfig, TargetModulesConfig};

/// The layers that the configuration names; by default queries and values, as in PEFT.
///
/// # Errors
/// If one of the names matches no layer.
pub(crate) fn targeted<'d>(
    config: &AdapterConfig,
    base: &dyn AdaptedModel,
    description: &'d Description,
) -> Result<Vec<&'d LinearLayer>, TrainerError> {
    let targets = match &config.target_modules {
        Some(targets) => target_modules(targets),
        None => {
            let names = base.default_targets().iter();
            TargetModules::Names(names.map(|name| (*name).to_owned()).collect())
        }
    };
    let layers = description.layers.iter().collect();
    let chosen = choose(&targets, layers, "layer of the base model")?;
    let is_adapted =
        |layer: &&LinearLayer| !is_saved(config, &layer.path) && base.is_computed(&layer.path);
    let adapted: Vec<&LinearLayer> = chosen.iter().copied().filter(is_adapted).collect();
    match (adapted.first(), chosen.first()) {
        (None, Some(first)) => Err(TrainerError::NothingAdapted {
            example: first.path.clone(),
            reason: match base.is_computed(&first.path) {
                true => "trained whole (adapter.modules_to_save)",
                false => ABOVE_FEATURES,
            },
        }),
        _ => Ok(adapted),
    }
}

/// Why a layer of a tower is not adapted.
const ABOVE_FEATURES: &str = "above the tower's features and not computed";

/// Refuses a training of updates that have no effect, and of nothing else.
///
/// - saved: modules that are trained whole beside them
///
/// # Errors
/// [`TrainerError::NothingAdapted`].
pub(crate) fn require_effect(
    base: &dyn AdaptedModel,
    updates: &BTreeMap<String, Update>,
    saved: &[String],
) -> Result<(), TrainerError> {
    let mut paths = updates.keys();
    match updates.keys().next() {
        Some(first) if saved.is_empty() && !paths.any(|path| base.is_computed(path)) => {
            Err(TrainerError::NothingAdapted {
                example: first.clone(),
                reason: ABOVE_FEATURES,
            })
        }
        _ => Ok(()),
    }
}

/// What to say of layers that are not computed, and so adapted without effect or not at all.
pub(crate) fn uncomputed_note(
    config: &AdapterConfig,
    base: &dyn AdaptedModel,
    description: &Description,
    adapted: &BTreeMap<String, Update>,
) -> Option<String> {
    let is_above = |layer: &&LinearLayer| !base.is_computed(&layer.path);
    let above: Vec<&LinearLayer> = description.layers.iter().filter(is_above).collect();
    let kept: Vec<&str> = (above.iter().map(|layer| layer.path.as_str()))
        .filter(|path| adapted.contains_key(*path))
        .collect();
    if let Some(first) = kept.first() {
        return Some(format!(
            "{} layers of the tower above its features, such as `{first}`, are not computed: what the \
             adapter has for them stays as it is",
            kept.len()
        ));
    }
    if let (true, Some(first)) = (config.method.trains_everything(), above.first()) {
        return Some(format!(
            "{} layers of the tower above its features, such as `{}`, are not computed, and stay as they are",
            above.len(),
            first.path
        ));
    }
    let without = AdapterConfig {
        modules_to_save: Vec::new(),
        ..config.clone()
    };
    let targets = without.target_modules.as_ref().map(target_modules)?;
    let left_out = choose(&targets, above, "layer of the base model").ok()?;
    let first = left_out.first()?;
    Some(format!(
        "{} layers of the tower above its features, such as `{}`, are not computed, and so not adapted",
        left_out.len(),
        first.path
    ))
}

/// Whether a layer is one of the tower of a vision-language model.
pub(crate) fn is_of_tower(path: &str) -> bool {
    path.starts_with("model.vision_tower.")
}

/// Whether a layer is trained whole, and so not adapted.
pub(crate) fn is_saved(config: &AdapterConfig, path: &str) -> bool {
    let mut saved = config.modules_to_save.iter();
    saved.any(|module| is_saved_by(path, module))
}

/// The layers of the base model that a subspace, or adapters to compose, have modules for; where the configuration names
/// targets, only these.
///
/// - modules: the paths of these modules
///
/// # Errors
/// If one of the names matches no such layer, unless there is none at all.
pub(crate) fn on_modules<'d, 'm>(
    config: &AdapterConfig,
    description: &'d Description,
    modules: impl Iterator<Item = &'m str>,
) -> Result<Vec<&'d LinearLayer>, TrainerError> {
    let layers: Vec<&LinearLayer> = modules.filter_map(|path| description.layer(path)).collect();
    match &config.target_modules {
        Some(targets) if !layers.is_empty() => {
            let among = match config.method.is_composition() {
                true => "module of the adapters",
                false => "module of the subspace",
            };
            choose(&target_modules(targets), layers, among)
        }
        _ => Ok(layers),
    }
}

/// What PEFT calls the targets of a training file.
fn target_modules(targets: &TargetModulesConfig) -> TargetModules {
    match targets {
        TargetModulesConfig::Names(names) => TargetModules::Names(names.clone()),
        TargetModulesConfig::Pattern(pattern) if pattern == "all-linear" => {
            TargetModules::AllLinear
        }
        TargetModulesConfig::Pattern(pattern) => TargetModules::Regex(pattern.clone()),
    }
}

/// Those of the layers that the targets match, in their order.
///
/// - among: what the layers are, for messages
///
/// # Errors
/// If one of several names matches none: it is misspelt, or for another model.
fn choose<'d>(
    targets: &TargetModules,
    layers: Vec<&'d LinearLayer>,
    among: &'static str,
) -> Result<Vec<&'d LinearLayer>, TrainerError> {
    let parts: Vec<TargetModules> = match targets {
        TargetModules::Names(names) if !names.is_empty() => {
            let alone = |name: &String| TargetModules::Names(vec![name.clone()]);
            names.iter().map(alone).collect()
        }
        whole => vec![whole.clone()],
    };
    let mut are_targets = vec![false; layers.len()];
    let mut unmatched = Vec::new();
    for part in parts {
        let matcher = PeftConfig::lora("", 1, part.clone(), &[], None, &BTreeMap::new())?;
        let mut is_matched = false;
        for (layer, is_target) in layers.iter().zip(&mut are_targets) {
            if matcher.targets(&layer.path, layer.head) {
                (*is_target, is_matched) = (true, true);
            }
        }
        if !is_matched {
            unmatched.push(name(&part));
        }
    }
    if unmatched.is_empty() {
        let chosen = layers.into_iter().zip(are_targets);
        return Ok(chosen
            .filter_map(|(layer, is_target)| is_target.then_some(layer))
            .collect());
    }
    let advice = unmatched.iter().find_map(|name| meant(name, &layers));
    Err(TrainerError::NoTargets {
        among,
        names: format!("`{}`", unmatched.join("`, `")),
        advice: match (advice, layers.first()) {
            (Some(meant), _) => format!("; did you mean `{meant}`?"),
            (None, Some(layer)) => format!("; one is `{}`", layer.path),
            (None, None) => String::new(),
        },
    })
}

/// A name, pattern or word as the training file has it.
fn name(targets: &TargetModules) -> String {
    match targets {
        TargetModules::Names(names) => names.concat(),
        TargetModules::Regex(pattern) => pattern.clone(),
        TargetModules::AllLinear => "all-linear".to_owned(),
    }
}

/// The last components of a layer's path, as many as `name` has, that it was most likely meant to be.
fn meant<'d>(name: &str, layers: &[&'d LinearLayer]) -> Option<&'d str> {
    let dots = name.matches('.').count();
    let last = |layer: &&'d LinearLayer| {
        let mut borders = layer.path.rmatch_indices('.');
        let start = borders.nth(dots).map_or(0, |(dot, _)| dot + 1);
        &layer.path[start..]
    };
    let endings: Vec<&str> = layers.iter().map(last).collect();
    closest_name(name, &endings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> Vec<LinearLayer> {
        let paths = [
            "layer.0.attention.query",
            "layer.0.attention.value",
            "layer.0.output.dense",
            "classifier",
        ];
        let layer = |path: &str| LinearLayer {
            path: path.to_owned(),
            d_out: 3,
            d_in: 2,
            bias: false,
            transposed: false,
            head: path == "classifier",
        };
        paths.map(layer).into()
    }

    fn chosen(targets: &TargetModules) -> Result<Vec<String>, String> {
        let layers = layers();
        let chosen = choose(targets, layers.iter().collect(), "layer of the base model");
        let chosen = chosen.map_err(|error| error.to_string())?;
        Ok(chosen.iter().map(|layer| layer.path.clone()).collect())
    }

    fn names(names: &[&str]) -> TargetModules {
        TargetModules::Names(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn names_patterns_and_all_linear_choose_layers_in_their_order() {
        let two = ["layer.0.attention.query", "layer.0.output.dense"];
        assert_eq!(chosen(&names(&["output.dense", "query"])).unwrap(), two);
        let pattern = TargetModules::Regex(r".*\.(query|dense)".to_owned());
        assert_eq!(chosen(&pattern).unwrap(), two);
        assert_eq!(chosen(&TargetModules::AllLinear).unwrap().len(), 3);
    }

    #[test]
    fn one_misspelt_name_among_several_is_refused_with_the_one_meant() {
        let message = chosen(&names(&["value", "qeury"])).unwrap_err();
        assert_eq!(
            message,
            "no layer of the base model matches `qeury` of adapter.target_modules; did you mean \
             `query`?"
        );
        let message = chosen(&names(&["output.dnse", "value", "output.xyz"])).unwrap_err();
        assert!(
            message.contains("`output.dnse`, `output.xyz`")
                && message.contains("did you mean `output.dense`?"),
            "{message}"
        );
        let pattern = TargetModules::Regex(r".*\.c_attn".to_owned());
        let message = chosen(&pattern).unwrap_err();
        assert!(
            message.contains(r"`.*\.c_attn`") && message.contains("layer.0.attention.query"),
            "{message}"
        );
        assert!(chosen(&names(&[])).is_err());
    }
}
