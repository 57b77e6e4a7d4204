//! A subspace that grows by further adapters.

mod random_adapters;
use std::collections::BTreeMap;

use eigenmix_adapter::{LoadedAdapter, LoraModule};
use eigenmix_eigenlorax::{
    Basis, Coefficients, Components, EigenloraxError, ExtractOptions, GrowOptions, Growth,
    ProjectOptions, Subspace, Weights, grow, project,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use random_adapters::*;

/// Two components, the mean and two random columns a side, of the adapters `a` and `b`.
fn subspace() -> Subspace {
    let options = ExtractOptions {
        center: true,
        augment: 2,
        ..ExtractOptions::new(Components::Count(3))
    };
    extracted(&three_adapters()[..2], &options).subspace
}

fn grown(subspace: &Subspace, adapters: &[LoadedAdapter], residual: f64) -> Growth {
    let options = GrowOptions {
        residual,
        ..GrowOptions::default()
    };
    grow(subspace, adapters, &options, &|_, _| {}).expect("a larger subspace")
}

fn error(subspace: &Subspace, adapter: LoadedAdapter) -> EigenloraxError {
    grow(subspace, &[adapter], &GrowOptions::default(), &|_, _| {}).expect_err("a refusal")
}

/// The columns of a basis by kind: principal, mean, random.
fn columns(basis: &Basis, range: std::ops::Range<usize>) -> Vec<Vec<f32>> {
    let vectors = basis.vectors().transposed();
    range.map(|column| vectors.row(column).to_vec()).collect()
}

#[test]
fn columns_that_were_there_stay_bit_for_bit_and_in_their_order() {
    let before = subspace();
    let after = grown(&before, &three_adapters()[2..], 0.0).subspace;
    for (path, module) in &before.modules {
        let sides = [
            (&module.left, &after.modules[path].left),
            (&module.right, &after.modules[path].right),
        ];
        for (old, new) in sides {
            let added = new.principal() - old.principal();
            assert!(added > 0, "{path}");
            assert_eq!(new.columns(), old.columns() + added);
            let kept = old.principal();
            assert_eq!(columns(new, 0..kept), columns(old, 0..kept));
            assert_eq!(
                columns(new, kept + added..new.columns()),
                columns(old, kept..old.columns()),
                "mean and random columns"
            );
            let gram = new.vectors().transposed().product(new.vectors());
            let identity = eigenmix_tensors::Matrix::identity(new.columns());
            // Columns are rounded to f32.
            assert!(largest_difference(gram.values(), identity.values()) < 1e-6);
        }
    }
}

#[test]
fn coefficients_of_earlier_adapters_are_the_same_with_zeros_for_what_came_in() {
    // All directions of `a` and `b`, so that these are reconstructed.
    let adapters = three_adapters();
    let options = ExtractOptions {
        augment: 2,
        ..ExtractOptions::new(Components::All)
    };
    let before = extracted(&adapters[..2], &options).subspace;
    let after = grown(&before, &adapters[2..], 0.0).subspace;
    for (path, module) in &adapters[0].adapter.modules {
        let old = Coefficients::of(&before.modules[path], module).expect("coefficients");
        let new = Coefficients::of(&after.modules[path], module).expect("coefficients");
        let (old_basis, new_basis) = (&before.modules[path].left, &after.modules[path].left);
        let added = new_basis.principal() - old_basis.principal();
        for row in 0..new.left.rows() {
            let expected = match row {
                row if row < old_basis.principal() => old.left.row(row).to_vec(),
                row if row < new_basis.principal() => vec![0.0; module.rank()],
                row => old.left.row(row - added).to_vec(),
            };
            // Of a stored basis f32 leaves about 1e-7 of a column of length 4 outside.
            assert!(largest_difference(new.left.row(row), &expected) < 2e-6);
        }
        // Padded with zeros they stand for the same adapter to the bit.
        let zeros =
            |matrix: &eigenmix_tensors::Matrix, basis: &Basis, grown: &Basis| {
                let added = grown.principal() - basis.principal();
                eigenmix_tensors::Matrix::from_fn(grown.columns(), matrix.cols(), |row, col| {
                    match row {
                        row if row < basis.principal() => matrix.get(row, col),
                        row if row < grown.principal() => 0.0,
                        row => matrix.get(row - added, col),
                    }
                })
            };
        let padded = Coefficients {
            left: zeros(&old.left, old_basis, new_basis),
            right: zeros(
                &old.right,
                &before.modules[path].right,
                &after.modules[path].right,
            ),
        };
        assert_eq!(
            padded.to_module(&after.modules[path]).b,
            old.to_module(&before.modules[path]).b
        );
    }
}

#[test]
fn an_adapter_that_came_in_without_a_residual_is_reconstructed() {
    let adapters = three_adapters();
    let before = subspace();
    let lost = |subspace: &Subspace| {
        let projection = project(&adapters[2], subspace, &ProjectOptions::default());
        projection.expect("a projection").overall
    };
    assert!(lost(&before) > 0.5);
    let Growth { subspace, report } = grown(&before, &adapters[2..], 0.0);
    assert!(lost(&subspace) < 1e-5, "{}", lost(&subspace));
    let left = report.adapters[0].left();
    assert!(left.residual_before() > 0.3 && left.residual_after() < 1e-11);
}

#[test]
fn the_fewest_directions_come_in_that_leave_no_more_than_the_residual() {
    let adapters = three_adapters();
    let before = subspace();
    let all = grown(&before, &adapters[2..], 0.0).report;
    let some = grown(&before, &adapters[2..], 0.3).report;
    for (path, module) in &some.adapters[0].growth {
        let whole = &all.adapters[0].growth[path];
        for (side, whole) in [(module.left, whole.left), (module.right, whole.right)] {
            assert!(side.residual_after() <= 0.3, "{path}: {side:?}");
            assert!(side.added > 0 && side.added < whole.added, "{path}");
            assert_eq!(side.outside, whole.outside);
        }
    }
    let none = grown(&before, &adapters[2..], 0.999);
    assert!(none.report.adapters[0].grown() == 0);
    let query = |subspace: &Subspace| subspace.modules[QUERY].left.vectors().clone();
    assert_eq!(query(&none.subspace), query(&before));
}

#[test]
fn the_residual_that_is_told_is_that_of_the_stored_basis() {
    let adapters = three_adapters();
    let Growth { subspace, report } = grown(&subspace(), &adapters[2..], 0.2);
    for (path, module) in &adapters[2].adapter.modules {
        let bases = &subspace.modules[path];
        let coefficients = Coefficients::of(bases, module).expect("coefficients");
        // All adapters count the same: the update has norm 1 there, and its columns that much less energy.
        let inside = coefficients.left.norm().powi(2) / module.update().norm();
        let side = report.adapters[0].growth[path].left;
        let expected = 1.0 - inside / side.energy;
        assert!((side.residual_after() - expected).abs() < 1e-5, "{path}");
    }
}

#[test]
fn variances_are_squared_norms_of_all_columns_that_came_in() {
    let adapters = three_adapters();
    let options = ExtractOptions::new(Components::All);
    let before = extracted(&adapters[..2], &options).subspace;
    let after = grown(&before, &adapters[2..], 0.0).subspace;
    for path in [QUERY, DOWN] {
        let (old, new) = (&before.modules[path].left, &after.modules[path].left);
        let whole = extracted(&adapters, &options).subspace.modules[path]
            .left
            .total_variance();
        assert!((new.total_variance() - whole).abs() < 1e-4 * whole);
        // All directions: the variances of the columns add up to it.
        assert!((new.kept() - 1.0).abs() < 1e-5);
        assert!(new.variance()[0] >= old.variance()[0]);
    }
}

#[test]
fn a_module_that_is_new_comes_in_whole_with_its_random_columns() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let query = module(QUERY, 2, &mut random);
    let only_query = adapter("a", BTreeMap::from([(QUERY.to_owned(), query)]));
    let options = ExtractOptions {
        augment: 2,
        ..ExtractOptions::new(Components::All)
    };
    let before = extracted(&[only_query], &options).subspace;
    let newcomer = random_adapter("b", 3, 8);
    let Growth { subspace, report } = grown(&before, std::slice::from_ref(&newcomer), 0.0);
    assert_eq!(report.new_modules, [DOWN]);
    let down = &subspace.modules[DOWN];
    assert_eq!((down.left.principal(), down.left.augmented()), (4, 2));
    let projection = project(&newcomer, &subspace, &ProjectOptions::default());
    assert!(projection.expect("a projection").overall < 1e-5);
}

#[test]
fn sources_options_and_version_are_recorded_and_survive_the_file() {
    let before = subspace();
    let Growth { subspace, .. } = grown(&before, &three_adapters()[2..], 0.1);
    let locations: Vec<&str> = subspace
        .sources
        .iter()
        .map(|source| source.location.as_str())
        .collect();
    assert_eq!(locations, ["a", "b", "c"]);
    let [update] = &subspace.updates[..] else {
        panic!("one update: {:?}", subspace.updates);
    };
    assert_eq!((update.adapters, update.options.residual), (1, 0.1));
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("subspace");
    subspace.save(&directory, false).expect("saved");
    assert_eq!(Subspace::load(&directory).expect("loaded"), subspace);
}

#[test]
fn a_new_adapter_counts_as_the_heaviest_where_there_are_weights() {
    let options = ExtractOptions {
        weights: Some(Weights::Given(vec![1.0, 3.0])),
        ..ExtractOptions::new(Components::All)
    };
    let before = extracted(&three_adapters()[..2], &options).subspace;
    let Growth { subspace, report } = grown(&before, &three_adapters()[2..], 0.0);
    assert_eq!(
        subspace.options.weights,
        Some(Weights::Given(vec![1.0, 3.0, 3.0]))
    );
    // ‖ΔW‖ is 1, so the squared norm of the balanced columns, the sum of singular values, is at
    // most √rank.
    let energy = report.adapters[0].growth[QUERY].left.energy;
    assert!((1.0..=3f64.sqrt()).contains(&energy), "{energy}");
}

#[test]
fn what_is_not_of_this_subspace_is_refused() {
    let before = subspace();
    let again = error(&before, three_adapters().remove(0));
    assert!(
        matches!(again, EigenloraxError::SourceTwice { .. }),
        "{again}"
    );

    let mut foreign = random_adapter("d", 2, 9);
    let base = serde_json::json!("org/other");
    foreign.adapter.config = foreign
        .adapter
        .config
        .with("base_model_name_or_path", base)
        .expect("a configuration");
    let foreign = error(&before, foreign);
    assert!(
        matches!(foreign, EigenloraxError::SubspaceBaseModel { .. }),
        "{foreign}"
    );

    let with = |path: &str, like: &str| {
        let module: LoraModule = module(like, 2, &mut ChaCha8Rng::seed_from_u64(4));
        adapter("d", BTreeMap::from([(path.to_owned(), module)]))
    };
    let shape = error(&before, with(QUERY, DOWN));
    assert!(
        matches!(shape, EigenloraxError::SubspaceShape { .. }),
        "{shape}"
    );
    let name = error(&before, with(&format!("model.{QUERY}"), QUERY));
    assert!(matches!(name, EigenloraxError::OtherName { .. }), "{name}");

    for residual in [-0.1, 1.0, f64::NAN] {
        let options = GrowOptions {
            residual,
            ..GrowOptions::default()
        };
        let refused = grow(&before, &three_adapters()[2..], &options, &|_, _| {});
        let refused = refused.expect_err("a refusal");
        assert!(matches!(refused, EigenloraxError::ResidualShare { .. }));
    }
}
