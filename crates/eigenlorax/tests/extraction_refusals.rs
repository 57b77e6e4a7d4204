//! What an extraction refuses, and how it says so.

mod random_adapters;
use std::collections::BTreeMap;

use eigenmix_adapter::{LayerKind, LoraModule};
use eigenmix_eigenlorax::{Components, EigenloraxError, ExtractOptions, LoadedAdapter, extract};
use eigenmix_tensors::Matrix;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use random_adapters::*;

fn refusal(adapters: &[LoadedAdapter], options: &ExtractOptions) -> EigenloraxError {
    match extract(adapters, options, &|_, _| panic!("nothing may be computed")) {
        Err(error) => error,
        Ok(_) => panic!("an extraction that must be refused"),
    }
}

#[test]
fn unequal_shapes_are_refused_with_both_adapters_and_shapes() {
    let mut adapters = three_adapters();
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let other = LoraModule::new(
        gaussian(37, 2, &mut random),
        gaussian(2, 24, &mut random),
        1.0,
    );
    adapters[2].adapter.modules.insert(QUERY.to_owned(), other);
    let message = refusal(&adapters, &ExtractOptions::new(Components::All)).to_string();
    for part in [QUERY, "`a`", "`c`", "[37, 23]", "[37, 24]"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn unequal_base_models_are_refused_unless_allowed() {
    let mut adapters = three_adapters();
    let config = &mut adapters[1].adapter.config;
    *config = config
        .with("base_model_name_or_path", "org/other".into())
        .expect("a name");
    let mut options = ExtractOptions::new(Components::All);
    let message = refusal(&adapters, &options).to_string();
    for part in ["`a`", "`b`", "org/base", "org/other"] {
        assert!(message.contains(part), "{message}");
    }
    options.allow_base_mismatch = true;
    assert_eq!(
        extracted(&adapters, &options)
            .subspace
            .base_model
            .as_deref(),
        Some("org/base")
    );
}

#[test]
fn a_dora_magnitude_is_refused() {
    let mut adapters = three_adapters();
    let module = adapters[0]
        .adapter
        .modules
        .get_mut(QUERY)
        .expect("every adapter has it");
    module.magnitude = Some(vec![1.0; 37]);
    let error = extract(&adapters, &ExtractOptions::new(Components::All), &|_, _| {})
        .expect_err("a magnitude");
    assert!(matches!(&error, EigenloraxError::Magnitude { adapter, .. } if adapter == "a"));
}

#[test]
fn values_that_are_not_finite_are_refused() {
    let mut adapters = three_adapters();
    let module = adapters[2]
        .adapter
        .modules
        .get_mut(QUERY)
        .expect("every adapter has it");
    module.a = Matrix::from_fn(3, 23, |row, _| if row == 1 { f32::NAN } else { 0.5 });
    let error =
        extract(&adapters, &ExtractOptions::new(Components::All), &|_, _| {}).expect_err("a NaN");
    assert!(matches!(&error, EigenloraxError::NotFinite { adapter, .. } if adapter == "c"));
}

#[test]
fn options_out_of_range_and_nothing_to_extract_are_refused() {
    let adapters = three_adapters();
    let refused = |components| refusal(&adapters, &ExtractOptions::new(components));
    assert!(matches!(
        refused(Components::Count(0)),
        EigenloraxError::NoComponents
    ));
    for share in [0.0, -0.5, 1.01, f64::NAN] {
        let error = refused(Components::Variance(share));
        assert!(matches!(error, EigenloraxError::VarianceShare { .. }));
    }
    let empty = random_adapters::adapter("empty", BTreeMap::new());
    for adapters in [vec![], vec![empty]] {
        let error = refusal(&adapters, &ExtractOptions::new(Components::All));
        assert!(matches!(error, EigenloraxError::NothingToExtract { .. }));
    }
}

#[test]
fn one_module_as_layers_of_two_kinds_is_refused() {
    let mut adapters = three_adapters();
    let module = adapters[2]
        .adapter
        .modules
        .get_mut(QUERY)
        .expect("a module");
    module.layer = LayerKind::Embedding;
    let message = refusal(&adapters, &ExtractOptions::new(Components::All)).to_string();
    for part in [QUERY, "`a`", "`c`", "a linear layer", "an embedding"] {
        assert!(message.contains(part), "{message}");
    }
}
