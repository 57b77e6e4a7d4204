//! What an extraction must be, whatever the adapters.

mod random_adapters;
use std::sync::atomic::{AtomicUsize, Ordering};

use eigenmix_adapter::{LoadedAdapter, LoraModule};
use eigenmix_eigenlorax::{
    Basis, Components, ExtractOptions, Extraction, Factors, ProjectOptions, Subspace, extract,
    project,
};
use eigenmix_tensors::Matrix;
use random_adapters::*;

fn sides(subspace: &Subspace) -> impl Iterator<Item = &Basis> {
    subspace
        .modules
        .values()
        .flat_map(|module| [&module.left, &module.right])
}

/// Asserts that two subspaces have the same variances and the same spans of every leading group of
/// components that is apart from the next, up to a tolerance that is smaller than any component.
fn assert_same_subspace(left: &Subspace, right: &Subspace, tolerance: f32) {
    assert!(left.modules.keys().eq(right.modules.keys()));
    for (left, right) in sides(left).zip(sides(right)) {
        assert!(relative_difference(left.variance(), right.variance()) < tolerance);
        for columns in 1..=left.columns() {
            let (left, right) = (
                projector(left.vectors(), columns),
                projector(right.vectors(), columns),
            );
            assert!(largest_difference(left.values(), right.values()) < tolerance);
        }
    }
}

/// The same adapter split differently: (B·G) · (G⁻¹·A), G lower triangular with a known inverse.
fn resplit(adapter: &LoadedAdapter) -> LoadedAdapter {
    let modules = adapter.adapter.modules.iter().map(|(path, module)| {
        let rank = module.rank();
        let shear = |factor: f32| {
            Matrix::from_fn(rank, rank, |row, col| match row as i64 - col as i64 {
                0 => 1.0,
                1 if row == 1 => factor,
                _ => 0.0,
            })
        };
        // The scale of one direction moves from A to B as well.
        let stretch = |factor: f32| {
            Matrix::from_fn(rank, rank, |row, col| match (row, col) {
                (0, 0) => factor,
                _ => f32::from(row == col),
            })
        };
        let b = module.b.product(&shear(0.75)).product(&stretch(4.0));
        let a = stretch(0.25).product(&shear(-0.75)).product(&module.a);
        (path.clone(), LoraModule::new(b, a, module.scaling))
    });
    random_adapters::adapter(&adapter.source.location, modules.collect())
}

#[test]
fn a_full_basis_reconstructs_its_sources() {
    let adapters = three_adapters();
    for factors in [Factors::Balanced, Factors::Raw] {
        let options = ExtractOptions {
            factors,
            ..ExtractOptions::new(Components::All)
        };
        let Extraction { subspace, report } = extracted(&adapters, &options);
        assert!(report.left_kept > 1.0 - 1e-6 && report.right_kept > 1.0 - 1e-6);
        for adapter in &adapters {
            let projection =
                project(adapter, &subspace, &ProjectOptions::default()).expect("a projection");
            // f32 rounding of the factors gives about 1e-7.
            assert!(projection.overall < 1e-6, "{}", projection.overall);
        }
    }
}

#[test]
fn a_weak_adapter_beside_strong_ones_is_reconstructed() {
    let mut adapters = three_adapters();
    for module in adapters[2].adapter.modules.values_mut() {
        module.b = module.b.clone().scaled(1e-5);
    }
    for factors in [Factors::Balanced, Factors::Raw] {
        let options = ExtractOptions {
            factors,
            ..ExtractOptions::new(Components::All)
        };
        let subspace = extracted(&adapters, &options).subspace;
        for basis in sides(&subspace) {
            let gram = basis.vectors().transposed().product(basis.vectors());
            let identity = Matrix::identity(basis.columns());
            assert!(largest_difference(gram.values(), identity.values()) < 1e-6);
        }
        let projection = project(&adapters[2], &subspace, &ProjectOptions::default());
        assert!(projection.expect("a projection").overall < 1e-6);
    }
}

#[test]
fn the_balanced_subspace_does_not_depend_on_how_an_update_is_split() {
    let adapters = three_adapters();
    let split: Vec<_> = adapters.iter().map(resplit).collect();
    for center in [false, true] {
        let options = ExtractOptions {
            center,
            ..ExtractOptions::new(Components::All)
        };
        let [first, second] = [&adapters, &split].map(|set| extracted(set, &options).subspace);
        // The products of the split are rounded to f32; a component differs from the next by 1e-2.
        assert_same_subspace(&first, &second, 1e-4);
    }
}

#[test]
fn the_raw_subspace_depends_on_how_an_update_is_split() {
    let adapters = three_adapters();
    let split: Vec<_> = adapters.iter().map(resplit).collect();
    let options = ExtractOptions {
        factors: Factors::Raw,
        ..ExtractOptions::new(Components::Count(4))
    };
    let [first, second] = [&adapters, &split].map(|set| extracted(set, &options).subspace);
    for (first, second) in sides(&first).zip(sides(&second)) {
        let (first, second) = (
            projector(first.vectors(), 4),
            projector(second.vectors(), 4),
        );
        assert!(largest_difference(first.values(), second.values()) > 0.05);
    }
}

#[test]
fn the_order_of_the_adapters_does_not_matter() {
    let adapters = three_adapters();
    let reversed: Vec<_> = adapters.iter().rev().cloned().collect();
    for (factors, center) in [(Factors::Balanced, false), (Factors::Raw, true)] {
        let options = ExtractOptions {
            factors,
            center,
            augment: 2,
            ..ExtractOptions::new(Components::All)
        };
        let [first, second] = [&adapters, &reversed].map(|set| extracted(set, &options).subspace);
        assert_same_subspace(&first, &second, 1e-5);
        // Signs too.
        for (first, second) in sides(&first).zip(sides(&second)) {
            let difference =
                largest_difference(first.vectors().values(), second.vectors().values());
            assert!(difference < 1e-4);
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let adapters = three_adapters();
    let options = ExtractOptions {
        center: true,
        augment: 3,
        seed: 7,
        ..ExtractOptions::new(Components::Variance(0.8))
    };
    let with_threads = |count| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .build()
            .expect("threads");
        pool.install(|| extracted(&adapters, &options).subspace)
    };
    assert_eq!(with_threads(1), with_threads(4));
}

#[test]
fn a_share_of_the_variance_keeps_the_fewest_components_that_carry_it() {
    let options = ExtractOptions::new(Components::Variance(0.8));
    let Extraction { subspace, report } = extracted(&three_adapters(), &options);
    for basis in sides(&subspace) {
        assert!(basis.kept() >= 0.8);
        let without_last: f32 = basis.variance()[..basis.principal() - 1].iter().sum();
        assert!(f64::from(without_last) < 0.8 * basis.total_variance());
    }
    assert!(report.left_kept >= 0.8 && report.left_kept < 1.0);
    assert_eq!(report.short().count(), 0);
}

#[test]
fn asking_for_more_than_there_is_gives_what_there_is_and_says_so() {
    let options = ExtractOptions::new(Components::Count(10));
    let Extraction { subspace, report } = extracted(&three_adapters(), &options);
    // Σr is 9 for one module and 12 for the other.
    let short: Vec<_> = report.short().map(|(path, _)| path).collect();
    assert_eq!(short, [QUERY]);
    let side = report.modules[QUERY].left;
    assert_eq!(
        (side.asked, side.available, side.principal),
        (Some(10), 9, 9)
    );
    assert_eq!(subspace.modules[QUERY].left.columns(), 9);
    assert_eq!(subspace.modules[DOWN].left.columns(), 10);
}

#[test]
fn augmentation_adds_orthonormal_columns_up_to_the_width() {
    let options = ExtractOptions {
        augment: 20,
        ..ExtractOptions::new(Components::Count(9))
    };
    let Extraction { subspace, report } = extracted(&three_adapters(), &options);
    let query = &subspace.modules[QUERY];
    assert_eq!((query.left.columns(), query.left.augmented()), (29, 20));
    // d_in is 23: only 14 columns fit beside the nine.
    assert_eq!((query.right.columns(), query.right.augmented()), (23, 14));
    assert_eq!(report.modules[QUERY].right.augmented, 14);
    assert!(
        query.right.variance()[9..]
            .iter()
            .all(|&variance| variance == 0.0)
    );
    for basis in sides(&subspace) {
        let gram = basis.vectors().transposed().product(basis.vectors());
        let identity = Matrix::identity(basis.columns());
        assert!(largest_difference(gram.values(), identity.values()) < 1e-6);
    }
}

#[test]
fn the_seed_chooses_the_random_columns_and_nothing_else() {
    let options = |seed| ExtractOptions {
        augment: 2,
        seed,
        ..ExtractOptions::new(Components::Count(3))
    };
    let [first, second] = [1, 2].map(|seed| extracted(&three_adapters(), &options(seed)).subspace);
    for (first, second) in sides(&first).zip(sides(&second)) {
        assert_eq!(
            projector(first.vectors(), 3),
            projector(second.vectors(), 3)
        );
        assert_ne!(first.vectors(), second.vectors());
    }
}

#[test]
fn more_columns_than_the_width_give_the_subspace_of_fewer_with_more_weight() {
    // Thirty copies of each adapter: the columns no longer fit the width, and are summed into a
    // scatter matrix instead, 30 times that of one copy.
    let adapters = three_adapters();
    let copies: Vec<_> = (0..30).flat_map(|_| adapters.iter().cloned()).collect();
    for center in [false, true] {
        let options = ExtractOptions {
            center,
            ..ExtractOptions::new(Components::All)
        };
        let [few, many] = [&adapters, &copies].map(|set| extracted(set, &options).subspace);
        for (few, many) in sides(&few).zip(sides(&many)) {
            assert_eq!(few.columns(), many.columns());
            let scaled: Vec<f32> = many
                .variance()
                .iter()
                .map(|variance| variance / 30.0)
                .collect();
            assert!(relative_difference(&scaled, few.variance()) < 1e-5);
            for columns in 1..=few.columns() {
                let (few, many) = (
                    projector(few.vectors(), columns),
                    projector(many.vectors(), columns),
                );
                assert!(largest_difference(few.values(), many.values()) < 1e-5);
            }
        }
    }
}

#[test]
fn centring_keeps_the_mean_in_the_span() {
    let adapters = three_adapters();
    let options = ExtractOptions {
        factors: Factors::Raw,
        center: true,
        ..ExtractOptions::new(Components::Count(2))
    };
    let subspace = extracted(&adapters, &options).subspace;
    let basis = &subspace.modules[QUERY].right;
    assert!(basis.has_mean());
    assert_eq!(basis.columns(), 3);
    let mut mean = vec![0.0; 23];
    for adapter in &adapters {
        let a = &adapter.adapter.modules[QUERY].a;
        for row in 0..a.rows() {
            mean.iter_mut()
                .zip(a.row(row))
                .for_each(|(sum, value)| *sum += value / 9.0);
        }
    }
    let mean = Matrix::new(23, 1, mean);
    let inside = projector(basis.vectors(), 3).product(&mean);
    assert!(relative_difference(inside.values(), mean.values()) < 1e-5);
    // Without the mean's column, most of it would be lost.
    let principal = projector(basis.vectors(), 2).product(&mean);
    assert!(principal.norm() < 0.9 * mean.norm());
}

#[test]
fn a_module_counts_the_adapters_that_have_it() {
    let mut adapters = three_adapters();
    adapters[1].adapter.modules.remove(DOWN);
    let Extraction { subspace, report } =
        extracted(&adapters, &ExtractOptions::new(Components::All));
    assert_eq!(
        (report.modules[DOWN].adapters, report.modules[DOWN].columns),
        (2, 7)
    );
    assert_eq!(
        (
            report.modules[QUERY].adapters,
            report.modules[QUERY].columns
        ),
        (3, 9)
    );
    assert_eq!(subspace.modules[DOWN].left.columns(), 7);
}

#[test]
fn an_adapter_without_effect_is_reported_and_changes_nothing() {
    let mut adapters = three_adapters();
    let without = extracted(&adapters, &ExtractOptions::new(Components::All)).subspace;
    let mut idle = random_adapter("idle", 2, 9);
    for module in idle.adapter.modules.values_mut() {
        module.b = Matrix::zeros(module.d_out(), module.rank());
    }
    adapters.push(idle);
    let Extraction { subspace, report } =
        extracted(&adapters, &ExtractOptions::new(Components::All));
    assert_eq!(report.adapters[3].without_effect, [QUERY, DOWN]);
    assert!(report.adapters[0].without_effect.is_empty());
    assert_same_subspace(&subspace, &without, 1e-6);
}

#[test]
fn a_module_that_nobody_changes_is_left_out_and_named() {
    let mut adapters = three_adapters();
    for adapter in &mut adapters {
        let module = adapter
            .adapter
            .modules
            .get_mut(DOWN)
            .expect("every adapter has it");
        module.scaling = 0.0;
    }
    let options = ExtractOptions {
        augment: 3,
        ..ExtractOptions::new(Components::All)
    };
    let Extraction { subspace, report } = extracted(&adapters, &options);
    assert_eq!(report.left_out, [DOWN]);
    assert!(subspace.modules.keys().eq([QUERY]));
}

#[test]
fn progress_counts_every_module_once() {
    let (calls, sum) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let progress = |done, total| {
        assert_eq!(total, 2);
        calls.fetch_add(1, Ordering::Relaxed);
        sum.fetch_add(done, Ordering::Relaxed);
    };
    extract(
        &three_adapters(),
        &ExtractOptions::new(Components::All),
        &progress,
    )
    .expect("an extraction");
    assert_eq!((calls.into_inner(), sum.into_inner()), (2, 3));
}

#[test]
fn the_first_components_of_a_centred_subspace_are_those_of_a_smaller_one_and_the_mean_stays() {
    let extracted = |count| {
        let options = ExtractOptions {
            center: true,
            augment: 3,
            seed: 1,
            ..ExtractOptions::new(Components::Count(count))
        };
        extracted(&three_adapters(), &options).subspace
    };
    let (six, two) = (extracted(6), extracted(2));
    for (path, module) in &six.modules {
        let cut = module.with_components(2);
        for (cut, asked) in [
            (&cut.left, &two.modules[path].left),
            (&cut.right, &two.modules[path].right),
        ] {
            assert_eq!(cut.columns(), 2 + 1 + 3);
            assert_eq!(cut.columns(), asked.columns());
            assert_eq!(
                (cut.principal(), cut.has_mean(), cut.augmented()),
                (2, true, 3)
            );
            assert_eq!(cut.principal_variance(), asked.principal_variance());
            assert_eq!(projector(cut.vectors(), 2), projector(asked.vectors(), 2));
            let gram = cut.vectors().transposed().product(cut.vectors());
            let identity = Matrix::identity(6);
            assert!(largest_difference(gram.values(), identity.values()) < 1e-6);
        }
    }
}
