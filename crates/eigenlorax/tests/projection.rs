//! Adapters on a subspace: coefficients, mixers, projections.

mod random_adapters;
use std::collections::BTreeMap;

use eigenmix_adapter::{LoadedAdapter, LoraModule};
use eigenmix_eigenlorax::{
    Coefficients, Components, EigenloraxError, ExtractOptions, ModuleSubspace, ProjectOptions,
    Projection, Subspace, project,
};
use eigenmix_tensors::{HostTensor, Matrix};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use random_adapters::*;

fn subspace(components: Components) -> Subspace {
    extracted(&three_adapters(), &ExtractOptions::new(components)).subspace
}

fn projected(adapter: &LoadedAdapter, subspace: &Subspace) -> Projection {
    project(adapter, subspace, &ProjectOptions::default()).expect("a projection")
}

/// U·Uᵀ·ΔW·V·Vᵀ, densely.
fn dense_projection(subspace: &ModuleSubspace, module: &LoraModule) -> Matrix {
    let left = projector(subspace.left.vectors(), subspace.left.columns());
    let right = projector(subspace.right.vectors(), subspace.right.columns());
    left.product(&module.update()).product(&right)
}

fn difference(left: &Matrix, right: &Matrix) -> Matrix {
    let values = left
        .values()
        .iter()
        .zip(right.values())
        .map(|(left, right)| left - right);
    Matrix::new(left.rows(), left.cols(), values.collect())
}

/// A module with everything that belongs to ΔW: a scaling that is not 1 and a mixer.
fn mixed_module() -> LoraModule {
    let mut random = ChaCha8Rng::seed_from_u64(77);
    let mut module = module(QUERY, 5, &mut random);
    module.mixer = Some(gaussian(5, 5, &mut random));
    module
}

#[test]
fn coefficients_and_mixer_both_stand_for_the_orthogonal_projection() {
    let subspace = subspace(Components::Count(6));
    let module = mixed_module();
    let bases = subspace.module_for(QUERY, [37, 23]).expect("it has it");
    let dense = dense_projection(bases, &module);

    let coefficients = Coefficients::of(bases, &module).expect("finite values");
    assert_eq!(
        [coefficients.left.shape(), coefficients.right.shape()],
        [[6, 5], [6, 5]]
    );
    let from_coefficients = coefficients.to_module(bases);
    assert_eq!(from_coefficients.rank(), 5);
    let from_mixer = bases.fold_mixer(&bases.mixer_of(&module));
    for update in [from_coefficients.update(), from_mixer.update()] {
        assert!(relative_difference(update.values(), dense.values()) < 1e-5);
    }
}

#[test]
fn a_mixer_is_folded_into_the_smaller_side() {
    let narrow = subspace(Components::Count(6)).modules[QUERY].clone();
    let wide = subspace(Components::All).modules[QUERY].clone();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for bases in [
        ModuleSubspace {
            left: narrow.left.clone(),
            right: wide.right.clone(),
            flattened: None,
        },
        ModuleSubspace {
            left: wide.left.clone(),
            right: narrow.right.clone(),
            flattened: None,
        },
    ] {
        let mixer = gaussian(bases.left.columns(), bases.right.columns(), &mut random);
        let module = bases.fold_mixer(&mixer);
        assert_eq!(module.rank(), 6);
        let dense = bases
            .left
            .vectors()
            .product(&mixer)
            .product(&bases.right.vectors().transposed());
        assert!(relative_difference(module.update().values(), dense.values()) < 1e-5);
    }
}

#[test]
fn the_error_is_the_relative_norm_of_what_is_lost() {
    let subspace = subspace(Components::Count(5));
    let adapter = random_adapter("new", 3, 50);
    let projection = projected(&adapter, &subspace);
    let (mut lost, mut total) = (0.0, 0.0);
    for (path, module) in &adapter.adapter.modules {
        let update = module.update();
        let missing = difference(&update, &dense_projection(&subspace.modules[path], module));
        let expected = missing.norm() / update.norm();
        assert!((projection.modules[path] - expected).abs() < 1e-6);
        assert!(expected > 0.1, "a new adapter lies mostly outside");
        let handed_back = projection.adapter.modules[path].update();
        let found = difference(&update, &handed_back).norm() / update.norm();
        assert!((projection.modules[path] - found).abs() < 1e-6);
        lost += missing.norm().powi(2);
        total += update.norm().powi(2);
    }
    assert!((projection.overall - (lost / total).sqrt()).abs() < 1e-6);
}

#[test]
fn a_tiny_error_is_told_from_none() {
    let subspace = subspace(Components::All);
    let mut adapter = three_adapters().remove(0);
    assert!(projected(&adapter, &subspace).modules[QUERY] < 5e-7);

    // A change of B by 1e-5 of its norm in random directions, most of which lie outside.
    let module = adapter.adapter.modules[QUERY].clone();
    let noise = gaussian(37, 2, &mut ChaCha8Rng::seed_from_u64(8));
    let noise = noise
        .clone()
        .scaled((-1e-5 * module.b.norm() / noise.norm()) as f32);
    let changed = LoraModule {
        b: difference(&module.b, &noise),
        ..module
    };
    adapter.adapter.modules.insert(QUERY.to_owned(), changed);
    let error = projected(&adapter, &subspace).modules[QUERY];
    assert!((3e-6..3e-5).contains(&error), "{error}");
}

#[test]
fn heads_labels_and_biases_come_along() {
    let subspace = subspace(Components::Count(5));
    let mut adapter = random_adapter("new", 3, 50);
    let head = HostTensor {
        shape: vec![2],
        values: vec![0.25, -1.0],
    };
    adapter
        .adapter
        .heads
        .insert("classifier.bias".to_owned(), head.clone());
    for module in adapter.adapter.modules.values_mut() {
        module.bias = Some(vec![0.5; module.d_out()]);
    }
    let projection = projected(&adapter, &subspace).adapter;
    assert_eq!(projection.heads["classifier.bias"], head);
    let scaling = adapter.adapter.modules[QUERY].scaling;
    let bias = projection.modules[QUERY].bias.as_ref().expect("a bias");
    assert_eq!(*bias, vec![0.5 * scaling; 37]);
    assert_eq!(projection.modules[QUERY].scaling, 1.0);
}

#[test]
fn a_module_outside_the_subspace_is_skipped_named_and_counted_as_lost() {
    let adapters = three_adapters();
    let mut subspace = subspace(Components::All);
    subspace.modules.remove(DOWN);
    let projection = projected(&adapters[0], &subspace);
    assert_eq!(projection.skipped, [DOWN]);
    assert!(projection.adapter.modules.keys().eq([QUERY]));
    assert!(projection.adapter.config.targets(QUERY, false));
    assert!(!projection.adapter.config.targets(DOWN, false));
    let norm = |path| adapters[0].adapter.modules[path].update().norm();
    let expected = norm(DOWN) / norm(DOWN).hypot(norm(QUERY));
    assert!((projection.overall - expected).abs() < 1e-6);
}

#[test]
fn an_update_of_zero_has_no_error_and_keeps_its_rank() {
    let mut adapter = random_adapter("idle", 2, 9);
    for module in adapter.adapter.modules.values_mut() {
        module.scaling = 0.0;
    }
    let projection = projected(&adapter, &subspace(Components::Count(3)));
    assert_eq!((projection.overall, projection.modules[QUERY]), (0.0, 0.0));
    // Of the same rank, so that it can be saved and trained like any other.
    assert_eq!(projection.adapter.modules[QUERY].rank(), 2);
}

#[test]
fn what_does_not_belong_to_the_subspace_is_refused() {
    let subspace = subspace(Components::Count(3));
    let refusal = |adapter: &LoadedAdapter| {
        project(adapter, &subspace, &ProjectOptions::default()).expect_err("it does not belong")
    };

    let mut stranger = random_adapter("stranger", 2, 6);
    let config = &stranger.adapter.config;
    stranger.adapter.config = config
        .with("base_model_name_or_path", "org/other".into())
        .expect("a name");
    let message = refusal(&stranger).to_string();
    assert!(
        message.contains("org/other") && message.contains("org/base"),
        "{message}"
    );
    let allowed = ProjectOptions {
        allow_base_mismatch: true,
    };
    project(&stranger, &subspace, &allowed).expect("a projection");

    let mut random = ChaCha8Rng::seed_from_u64(6);
    let other = LoraModule::new(
        gaussian(37, 2, &mut random),
        gaussian(2, 24, &mut random),
        1.0,
    );
    let wide = adapter("wide", BTreeMap::from([(QUERY.to_owned(), other)]));
    let message = refusal(&wide).to_string();
    assert!(
        message.contains("[37, 23]") && message.contains("[37, 24]"),
        "{message}"
    );

    let elsewhere = module(QUERY, 2, &mut random);
    let elsewhere = adapter(
        "elsewhere",
        BTreeMap::from([("h.0.key".to_owned(), elsewhere)]),
    );
    assert!(matches!(
        refusal(&elsewhere),
        EigenloraxError::NoCommonModule { .. }
    ));
    let missing = subspace
        .module_for("h.0.key", [37, 23])
        .expect_err("it lacks it");
    assert!(missing.to_string().contains("h.0.key"));
}
