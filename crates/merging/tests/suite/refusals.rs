//! What is refused, before anything is computed.

use eigenmix_adapter::{AdapterSetError, LayerKind};
use eigenmix_merging::{MergeError, MergeOptions, Method, Space};

use crate::random_adapters::{DOWN, QUERY, merged, random_adapter, refusal, three_adapters};

fn core(method: Method) -> MergeOptions {
    MergeOptions::new(Space::Core, method)
}

#[test]
fn parameters_out_of_range_are_named_with_what_was_found() {
    let adapters = three_adapters();
    let bad = [
        (Method::Ties { density: 0.0 }, "found 0;"),
        (Method::Ties { density: 1.5 }, "density"),
        (Method::Ties { density: f64::NAN }, "NaN"),
        (Method::Dare { drop: 1.0 }, "found 1;"),
        (Method::Dare { drop: -0.1 }, "-0.1"),
        (
            Method::DareTies {
                drop: 0.5,
                density: -1.0,
            },
            "density",
        ),
        (
            Method::Cart {
                rank_fraction: 0.0,
                coefficient: 1.0,
            },
            "rank fraction",
        ),
        (
            Method::Cart {
                rank_fraction: 0.5,
                coefficient: f64::INFINITY,
            },
            "coefficient",
        ),
    ];
    for (method, expected) in bad {
        let message = refusal(&adapters, &core(method)).to_string();
        assert!(message.contains(expected), "{message}");
    }
    let no_rank = MergeOptions {
        rank: Some(0),
        ..core(Method::Sum)
    };
    assert!(matches!(refusal(&adapters, &no_rank), MergeError::NoRank));
    let no_number = MergeOptions {
        scale: f64::NAN,
        ..core(Method::Sum)
    };
    assert!(refusal(&adapters, &no_number).to_string().contains("scale"));
}

#[test]
fn weights_must_be_one_for_each_adapter_and_finite() {
    let adapters = three_adapters();
    let with_weights = |weights: &[f64]| MergeOptions {
        weights: Some(weights.to_vec()),
        ..core(Method::Sum)
    };
    let message = refusal(&adapters, &with_weights(&[1.0, 2.0])).to_string();
    assert!(
        message.contains("2 weights") && message.contains("3 adapters"),
        "{message}"
    );
    let message = refusal(&adapters, &with_weights(&[1.0, f64::NAN, 2.0])).to_string();
    assert!(message.contains("a weight"), "{message}");
}

#[test]
fn a_method_that_resolves_conflicts_needs_two_adapters() {
    let one = [random_adapter("one", 3, 5)];
    for method in [
        Method::Ties { density: 0.2 },
        Method::DareTies {
            drop: 0.1,
            density: 0.2,
        },
        Method::Tsv,
        Method::Cart {
            rank_fraction: 0.1,
            coefficient: 1.0,
        },
    ] {
        let message = refusal(&one, &core(method)).to_string();
        assert!(
            message.contains(method.name()) && message.contains("at least two"),
            "{message}"
        );
    }
    assert!(matches!(
        refusal(&[], &core(Method::Sum)),
        MergeError::Set(AdapterSetError::NoAdapters)
    ));
}

#[test]
fn adapters_that_do_not_belong_together_are_refused_unless_allowed() {
    let mut adapters = three_adapters();
    adapters[2].adapter.config = adapters[2]
        .adapter
        .config
        .with("base_model_name_or_path", "org/other".into())
        .expect("a name");
    let options = core(Method::Sum);
    assert!(matches!(
        refusal(&adapters, &options),
        MergeError::Set(AdapterSetError::BaseModels { .. })
    ));
    let allowed = MergeOptions {
        allow_base_mismatch: true,
        ..options
    };
    let merge = merged(&adapters, &allowed);
    assert_eq!(merge.adapter.config.base_model(), Some("org/base"));
}

#[test]
fn more_than_a_low_rank_update_is_refused() {
    let mut adapters = three_adapters();
    let module = adapters[1]
        .adapter
        .modules
        .get_mut(QUERY)
        .expect("a module");
    module.magnitude = Some(vec![1.0; 37]);
    let options = core(Method::Sum);
    let error = refusal(&adapters, &options);
    assert!(
        matches!(&error, MergeError::Set(AdapterSetError::Magnitude { module, adapter }) if module == QUERY && adapter == "b")
    );

    let mut adapters = three_adapters();
    let module = adapters[1]
        .adapter
        .modules
        .get_mut(QUERY)
        .expect("a module");
    module.bias = Some(vec![1.0; 37]);
    assert!(matches!(
        refusal(&adapters, &options),
        MergeError::LoraBias { .. }
    ));

    // A file says so in its configuration, before any module is read.
    for key in ["use_dora", "lora_bias"] {
        let mut adapters = three_adapters();
        let config = &mut adapters[2].adapter.config;
        *config = config.with(key, true.into()).expect("a flag");
        let message = refusal(&adapters, &options).to_string();
        assert!(
            message.contains(key) && message.contains("`c`"),
            "{message}"
        );
    }
}

#[test]
fn a_merge_that_changes_nothing_is_refused() {
    let mut adapters = three_adapters();
    adapters[1] = adapters[0].clone();
    adapters.truncate(2);
    let cancelling = MergeOptions {
        weights: Some(vec![1.0, -1.0]),
        ..core(Method::Sum)
    };
    let error = refusal(&adapters, &cancelling);
    assert!(
        matches!(error, MergeError::NothingLeft { adapters: 2 }),
        "{error}"
    );
    let nothing = MergeOptions {
        scale: 0.0,
        ..core(Method::Sum)
    };
    assert!(matches!(
        refusal(&adapters, &nothing),
        MergeError::NothingLeft { .. }
    ));
}

#[test]
fn the_kind_of_a_layer_survives_a_merge() {
    let kind = LayerKind::Convolution { kernel: vec![1, 1] };
    let mut adapters = three_adapters();
    for adapter in &mut adapters {
        let module = adapter.adapter.modules.get_mut(QUERY).expect("a module");
        module.layer = kind.clone();
    }
    let merged = merged(&adapters, &core(Method::Tsv)).adapter;
    assert_eq!(merged.modules[QUERY].layer, kind);
    assert_eq!(merged.modules[DOWN].layer, LayerKind::Linear);
}
