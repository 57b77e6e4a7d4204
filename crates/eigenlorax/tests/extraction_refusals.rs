//! What an extraction refuses, and how it says so.

mod random_adapters;
use std::collections::BTreeMap;

use eigenmix_adapter::{AdapterSetError, LoadedAdapter};
use eigenmix_eigenlorax::{Components, EigenloraxError, ExtractOptions, extract, similarity};
use eigenmix_tensors::Matrix;
use random_adapters::*;

fn refusal(adapters: &[LoadedAdapter], options: &ExtractOptions) -> EigenloraxError {
    match extract(adapters, options, &|_, _| panic!("nothing may be computed")) {
        Err(error) => error,
        Ok(_) => panic!("an extraction that must be refused"),
    }
}

/// `a` and `b` for other base models than each other.
fn of_two_models() -> Vec<LoadedAdapter> {
    let mut adapters = three_adapters();
    let config = &mut adapters[1].adapter.config;
    *config = config
        .with("base_model_name_or_path", "org/other".into())
        .expect("a name");
    adapters
}

#[test]
fn adapters_that_do_not_belong_together_are_refused_before_anything_is_computed() {
    let error = refusal(&of_two_models(), &ExtractOptions::new(Components::All));
    assert!(matches!(
        error,
        EigenloraxError::Set(AdapterSetError::BaseModels { .. })
    ));
}

#[test]
fn a_mismatch_that_is_allowed_leaves_the_first_base_model() {
    let mut options = ExtractOptions::new(Components::All);
    options.allow_base_mismatch = true;
    let subspace = extracted(&of_two_models(), &options).subspace;
    assert_eq!(subspace.base_model.as_deref(), Some("org/base"));
}

#[test]
fn adapters_of_any_base_model_can_be_compared() {
    let compared = similarity(&of_two_models()).expect("equal shapes");
    assert!(compared.cosine[0][1].is_some());
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
    let EigenloraxError::Set(AdapterSetError::NotFinite { adapter, .. }) = &error else {
        panic!("{error}");
    };
    assert_eq!(adapter, "c");
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
    let all = ExtractOptions::new(Components::All);
    assert!(matches!(
        refusal(&[], &all),
        EigenloraxError::Set(AdapterSetError::NoAdapters)
    ));
    assert!(matches!(
        refusal(&[empty], &all),
        EigenloraxError::Set(AdapterSetError::NoModules { .. })
    ));
    // Adapters that have modules, but change none.
    let mut zero = three_adapters();
    for module in zero
        .iter_mut()
        .flat_map(|it| it.adapter.modules.values_mut())
    {
        module.scaling = 0.0;
    }
    let error = extract(&zero, &all, &|_, _| {}).expect_err("no direction");
    assert!(matches!(
        error,
        EigenloraxError::NothingToExtract { adapters: 3 }
    ));
}
