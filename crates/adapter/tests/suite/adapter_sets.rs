//! What adapters have to agree on before they are used together.

use std::borrow::Cow;
use std::collections::BTreeMap;

use eigenmix_adapter::{
    Adapter, AdapterError, AdapterSet, AdapterSetError, AdapterSource, LayerKind, LoadedAdapter,
    LoraModule, ModuleShape, PeftConfig, Source, TargetModules,
};
use eigenmix_tensors::Matrix;
use serde_json::Value;

const QUERY: &str = "layers.0.attention.query";
const DOWN: &str = "layers.0.mlp.down";

/// `[d_out, d_in]` of rank `rank`, with no two entries alike.
fn module([d_out, d_in]: [usize; 2], rank: usize) -> LoraModule {
    let entry = |row: usize, col: usize| (3 * row + col + 1) as f32 / 7.0;
    let (b, a) = (
        Matrix::from_fn(d_out, rank, entry),
        Matrix::from_fn(rank, d_in, entry),
    );
    LoraModule::new(b, a, 0.5)
}

fn adapter(name: &str, modules: &[(&str, LoraModule)]) -> LoadedAdapter {
    let modules: BTreeMap<String, LoraModule> = modules
        .iter()
        .map(|(path, module)| ((*path).to_owned(), module.clone()))
        .collect();
    let targets = TargetModules::Names(modules.keys().cloned().collect());
    let config = PeftConfig::lora("org/base", 2, targets, &[], None, &BTreeMap::new());
    LoadedAdapter {
        source: Source {
            location: name.to_owned(),
            sha256: format!("sha256 of {name}"),
        },
        adapter: Adapter::new(config.expect("plain names"), modules),
    }
}

/// `a` and `b` with both modules, `c` with the query alone.
fn three_adapters() -> Vec<LoadedAdapter> {
    vec![
        adapter(
            "a",
            &[(QUERY, module([7, 5], 2)), (DOWN, module([3, 6], 1))],
        ),
        adapter(
            "b",
            &[(QUERY, module([7, 5], 4)), (DOWN, module([3, 6], 2))],
        ),
        adapter("c", &[(QUERY, module([7, 5], 3))]),
    ]
}

fn query(adapter: &mut LoadedAdapter) -> &mut LoraModule {
    adapter.adapter.modules.get_mut(QUERY).expect("a query")
}

fn set_config(adapter: &mut LoadedAdapter, key: &str, value: Value) {
    let config = &mut adapter.adapter.config;
    *config = config.with(key, value).expect("a value that is read");
}

fn refusal(adapters: &[LoadedAdapter]) -> AdapterSetError {
    AdapterSet::new(adapters, false).expect_err("a refusal")
}

/// The refusal of the values, which come after everything else.
fn refusal_of_values(adapters: &[LoadedAdapter]) -> AdapterSetError {
    let set = AdapterSet::new(adapters, false).expect("shapes agree");
    let mut modules = set.modules().iter();
    let refused = modules.find_map(|(path, members)| {
        let mut updates = set.updates(path, members);
        updates.find_map(Result::err)
    });
    refused.expect("a refusal")
}

fn assert_says(error: &AdapterSetError, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "no {part} in: {message}");
    }
}

#[test]
fn a_set_tells_which_adapters_have_which_module() {
    let adapters = three_adapters();
    let set = AdapterSet::new(&adapters, false).expect("a set");
    assert_eq!(set.base_model(), Some("org/base"));
    let found: Vec<_> = set
        .modules()
        .iter()
        .map(|(path, members)| {
            let indices = members.adapters.as_slice();
            (path.as_str(), indices, members.shape, members.columns)
        })
        .collect();
    assert_eq!(
        found,
        [
            (QUERY, &[0, 1, 2][..], [7, 5], 9),
            (DOWN, &[0, 1][..], [3, 6], 3)
        ]
    );
    let partial: Vec<&str> = set.partial().map(|(path, _)| path).collect();
    assert_eq!(partial, [DOWN]);
    let (path, members) = &set.modules()[0];
    let ranks: Vec<(usize, usize)> = set
        .updates(path, members)
        .map(|update| update.expect("finite factors"))
        .map(|(index, module)| (index, module.rank()))
        .collect();
    assert_eq!(ranks, [(0, 2), (1, 4), (2, 3)]);
}

#[test]
fn nothing_at_all_is_refused() {
    assert!(matches!(refusal(&[]), AdapterSetError::NoAdapters));
    let empty = [adapter("a", &[]), adapter("b", &[])];
    assert!(matches!(
        refusal(&empty),
        AdapterSetError::NoModules { adapters: 2 }
    ));
}

#[test]
fn unequal_base_models_are_refused_unless_allowed() {
    let mut adapters = three_adapters();
    set_config(
        &mut adapters[1],
        "base_model_name_or_path",
        "org/other".into(),
    );
    assert_says(
        &refusal(&adapters),
        &["`a`", "`b`", "org/base", "org/other"],
    );
    let set = AdapterSet::new(&adapters, true).expect("allowed");
    assert_eq!(set.base_model(), Some("org/base"));
}

#[test]
fn an_adapter_without_a_base_model_agrees_with_any() {
    let mut adapters = three_adapters();
    set_config(&mut adapters[0], "base_model_name_or_path", Value::Null);
    let set = AdapterSet::new(&adapters, false).expect("modules in common");
    assert_eq!(set.base_model(), Some("org/base"));
}

#[test]
fn unequal_shapes_are_refused_with_both_adapters_and_shapes() {
    let mut adapters = three_adapters();
    *query(&mut adapters[2]) = module([7, 6], 3);
    assert_says(
        &refusal(&adapters),
        &[QUERY, "`a`", "`c`", "[7, 5]", "[7, 6]"],
    );
    // Whatever is allowed, ΔW of two shapes have no sum.
    assert!(AdapterSet::new(&adapters, true).is_err());
}

#[test]
fn one_module_as_layers_of_two_kinds_is_refused() {
    let mut adapters = three_adapters();
    query(&mut adapters[1]).layer = LayerKind::Convolution { kernel: vec![1, 1] };
    let parts = [
        QUERY,
        "`a`",
        "`b`",
        "a linear layer",
        "a convolution of 1 × 1",
    ];
    assert_says(&refusal(&adapters), &parts);
    query(&mut adapters[1]).layer = LayerKind::Embedding;
    assert_says(&refusal(&adapters), &["an embedding"]);
}

#[test]
fn adapters_without_a_common_module_must_name_the_same_base_model() {
    let mut adapters = vec![
        adapter("a", &[(QUERY, module([7, 5], 2))]),
        adapter("b", &[(DOWN, module([3, 6], 2))]),
    ];
    // Both name org/base.
    let set = AdapterSet::new(&adapters, false).expect("one base model");
    assert_eq!(set.modules().len(), 2);
    set_config(&mut adapters[1], "base_model_name_or_path", Value::Null);
    assert_says(&refusal(&adapters), &["`a`", "`b`", QUERY, DOWN]);
    let allowed = AdapterSet::new(&adapters, true).expect("allowed");
    assert_eq!(allowed.modules().len(), 2);
}

#[test]
fn an_adapter_related_to_any_earlier_one_is_related_to_the_set() {
    let mut adapters = vec![
        adapter("a", &[(QUERY, module([7, 5], 2))]),
        adapter(
            "b",
            &[(QUERY, module([7, 5], 1)), (DOWN, module([3, 6], 2))],
        ),
        adapter("c", &[(DOWN, module([3, 6], 2))]),
    ];
    for adapter in &mut adapters {
        set_config(adapter, "base_model_name_or_path", Value::Null);
    }
    let set = AdapterSet::new(&adapters, false).expect("a chain of common modules");
    assert_eq!(set.base_model(), None);
}

#[test]
fn what_adapters_have_in_common_does_not_depend_on_their_order() {
    let mut adapters = vec![
        adapter("a", &[(QUERY, module([7, 5], 2))]),
        adapter("c", &[(DOWN, module([3, 6], 2))]),
        adapter(
            "b",
            &[(QUERY, module([7, 5], 1)), (DOWN, module([3, 6], 2))],
        ),
    ];
    for adapter in &mut adapters {
        set_config(adapter, "base_model_name_or_path", Value::Null);
    }
    assert!(AdapterSet::new(&adapters, false).is_ok());
    // The second is related to the first through the base model that the third names.
    set_config(&mut adapters[1], "base_model_name_or_path", "x".into());
    set_config(&mut adapters[2], "base_model_name_or_path", "x".into());
    adapters[2].adapter.modules.remove(DOWN);
    assert!(AdapterSet::new(&adapters, false).is_ok());
}

#[test]
fn a_dora_magnitude_is_refused_as_a_configuration_and_as_a_value() {
    let mut adapters = three_adapters();
    set_config(&mut adapters[2], "use_dora", true.into());
    let error = refusal(&adapters);
    assert!(matches!(error, AdapterSetError::Magnitude { .. }));
    assert_says(&error, &["`c`", "use_dora"]);

    let mut adapters = three_adapters();
    query(&mut adapters[1]).magnitude = Some(vec![1.0; 7]);
    let error = refusal_of_values(&adapters);
    assert!(matches!(error, AdapterSetError::Magnitude { .. }));
    assert_says(&error, &["`b`", QUERY]);
}

#[test]
fn values_that_are_not_finite_are_refused_with_module_and_adapter() {
    let spoil: [fn(&mut LoraModule); 4] = [
        |module| module.a = Matrix::from_fn(2, 5, |_, _| f32::NAN),
        |module| module.b = Matrix::from_fn(7, 2, |_, _| f32::INFINITY),
        |module| module.mixer = Some(Matrix::from_fn(2, 2, |_, _| f32::NAN)),
        |module| module.scaling = f32::NAN,
    ];
    for spoil in spoil {
        let mut adapters = three_adapters();
        spoil(query(&mut adapters[0]));
        let error = refusal_of_values(&adapters);
        assert!(matches!(error, AdapterSetError::NotFinite { .. }));
        assert_says(&error, &["`a`", QUERY]);
    }
}

/// An adapter that lists its modules twice, which no file does.
#[derive(Debug)]
struct Stuttering(LoadedAdapter);

impl AdapterSource for Stuttering {
    fn location(&self) -> &str {
        self.0.location()
    }

    fn source(&self) -> Source {
        self.0.source()
    }

    fn config(&self) -> &PeftConfig {
        self.0.config()
    }

    fn shapes(&self) -> Result<Vec<(String, ModuleShape)>, AdapterError> {
        let shapes = self.0.shapes()?;
        Ok([shapes.clone(), shapes].concat())
    }

    fn module(&self, path: &str) -> Result<Cow<'_, LoraModule>, AdapterError> {
        self.0.module(path)
    }

    fn whole_tensors(&self) -> Result<Vec<String>, AdapterError> {
        self.0.whole_tensors()
    }
}

#[test]
fn a_module_that_an_adapter_lists_twice_is_refused() {
    let adapters = three_adapters().into_iter().map(Stuttering);
    let adapters: Vec<Stuttering> = adapters.collect();
    let error = AdapterSet::new(&adapters, false).expect_err("twice");
    assert!(matches!(error, AdapterSetError::ModuleTwice { .. }));
    assert_says(&error, &["`a`", "layers.0"]);
}

#[test]
fn one_layer_under_two_names_is_a_conflict_that_names_both() {
    let renamed = "model.language_model.layers.0.q_proj";
    let adapters = [
        adapter("old", &[("model.layers.0.q_proj", module([7, 5], 2))]),
        adapter("new", &[(renamed, module([7, 5], 2))]),
    ];
    let error = refusal(&adapters);
    assert!(matches!(error, AdapterSetError::TwoNames { .. }), "{error}");
    let message = error.to_string();
    for part in [
        "`old`",
        "`new`",
        "`model.layers.0.q_proj`",
        renamed,
        "save it again",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn names_are_compared_between_adapters_that_may_be_of_one_base_model() {
    let renamed = "model.language_model.layers.0.q_proj";
    let mut adapters = [
        adapter("old", &[("model.layers.0.q_proj", module([7, 5], 2))]),
        adapter("new", &[(renamed, module([7, 5], 2))]),
    ];
    for base in [Value::Null, "org/base".into()] {
        set_config(&mut adapters[1], "base_model_name_or_path", base);
        let error = AdapterSet::of_any_bases(&adapters).expect_err("two names");
        assert!(matches!(error, AdapterSetError::TwoNames { .. }), "{error}");
    }
    set_config(
        &mut adapters[1],
        "base_model_name_or_path",
        "org/other".into(),
    );
    let set = AdapterSet::of_any_bases(&adapters).expect("two base models");
    assert_eq!(set.modules().len(), 2);
    // Who allows the mismatch says that both names mean one model.
    let error = AdapterSet::new(&adapters, true).expect_err("two names");
    assert!(matches!(error, AdapterSetError::TwoNames { .. }), "{error}");
}

#[test]
fn two_towers_of_one_model_are_united() {
    let (text, image) = (
        "text_model.encoder.layers.0.q_proj",
        "vision_model.encoder.layers.0.q_proj",
    );
    let adapters = [
        adapter("text", &[(text, module([7, 5], 2))]),
        adapter("image", &[(image, module([7, 5], 2))]),
    ];
    let set = AdapterSet::new(&adapters, false).expect("both towers");
    assert_eq!(set.modules().len(), 2);
}

#[test]
fn an_adapter_that_has_both_layers_shows_that_they_are_two() {
    let (plain, longer) = ("layers.0.q_proj", "bert.layers.0.q_proj");
    let adapters = [
        adapter(
            "both",
            &[(plain, module([7, 5], 2)), (longer, module([7, 5], 2))],
        ),
        adapter("one", &[(longer, module([7, 5], 2))]),
    ];
    let set = AdapterSet::new(&adapters, false).expect("two layers");
    assert_eq!(set.modules().len(), 2);
}
