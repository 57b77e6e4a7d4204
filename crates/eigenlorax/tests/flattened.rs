//! Flattened subspaces: whole factors as directions.

mod random_adapters;

use eigenmix_adapter::LoadedAdapter;
use eigenmix_eigenlorax::{
    Coefficients, Components, EigenloraxError, ExtractOptions, Factors, Flattened, GrowOptions,
    ProjectOptions, Subspace, SubspaceKind, Weights, extract, grow, project,
};
use random_adapters::*;

const RANK: usize = 3;

/// Four adapters of one rank in each module.
fn four() -> Vec<LoadedAdapter> {
    let names = ["a", "b", "c", "d"].into_iter().zip(1..);
    names
        .map(|(name, seed)| random_adapter(name, RANK, seed))
        .collect()
}

fn options(components: Components) -> ExtractOptions {
    ExtractOptions {
        kind: SubspaceKind::Flattened,
        weights: Some(Weights::Norms),
        ..ExtractOptions::new(components)
    }
}

#[test]
fn every_source_is_a_number_for_each_adapter_and_side() {
    let adapters = four();
    let subspace = extracted(&adapters, &options(Components::All)).subspace;
    for (path, rank) in [(QUERY, RANK), (DOWN, RANK + 1)] {
        let [d_out, d_in] = shape_of(path);
        let bases = subspace.module_for(path, [d_out, d_in]).expect("it has it");
        let factors = Factors::Balanced;
        assert_eq!(bases.flattened, Some(Flattened { rank, factors }));
        let shapes = [&bases.left, &bases.right].map(|side| side.vectors().shape());
        assert_eq!(shapes, [[d_out * rank, 4], [d_in * rank, 4]]);
        for adapter in &adapters {
            let module = &adapter.adapter.modules[path];
            let coefficients = Coefficients::of(bases, module).expect("coefficients");
            let shapes = [coefficients.left.shape(), coefficients.right.shape()];
            assert_eq!(shapes, [[4, 1], [4, 1]]);
            let found = coefficients.to_module(bases);
            assert_eq!(found.rank(), rank);
            let difference = relative_difference(found.update().values(), module.update().values());
            assert!(difference < 1e-5, "{path}: {difference}");
        }
    }
}

#[test]
fn what_few_directions_lose_of_the_vectors_is_the_variance_of_the_others() {
    let adapters = four();
    for factors in [Factors::Balanced, Factors::Raw] {
        let of = |components| ExtractOptions {
            factors,
            ..options(components)
        };
        let all = extracted(&adapters, &of(Components::All)).subspace;
        let two = extracted(&adapters, &of(Components::Count(2))).subspace;
        for path in [QUERY, DOWN] {
            let all = all.modules[path].left.variance().to_vec();
            let bases = &two.modules[path];
            // ‖vec(B)‖² is the sum of the squared coefficients on all directions, of which two are kept.
            let kept: f32 = adapters
                .iter()
                .map(|adapter| {
                    let module = &adapter.adapter.modules[path];
                    let found = Coefficients::of(bases, module).expect("coefficients");
                    let values = found.left.values().iter();
                    values.map(|value| value.powi(2)).sum::<f32>()
                })
                .sum();
            assert!((kept / (all[0] + all[1]) - 1.0).abs() < 1e-5, "{factors:?}");
            assert!(all[2] > 0.1 * all[0], "the others have a variance");
        }
    }
}

#[test]
fn the_directions_side_by_side_are_the_basis_of_the_adapted_layer() {
    let adapters = four();
    let subspace = extracted(&adapters, &options(Components::All)).subspace;
    let bases = &subspace.modules[QUERY];
    let module = &adapters[2].adapter.modules[QUERY];
    let coefficients = Coefficients::of(bases, module).expect("coefficients");
    // U · (b ⊗ I) = B.
    let [left, right] = bases.side_by_side();
    let replicated = |numbers: &eigenmix_tensors::Matrix| {
        eigenmix_tensors::Matrix::from_fn(4 * RANK, RANK, |row, column| {
            match row % RANK == column {
                true => numbers.get(row / RANK, 0),
                false => 0.0,
            }
        })
    };
    let b = left.product(&replicated(&coefficients.left));
    let a = right.product(&replicated(&coefficients.right)).transposed();
    let difference = relative_difference(b.product(&a).values(), module.update().values());
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn adapters_of_several_ranks_are_refused_and_one_of_another_rank_is_projected() {
    let mut adapters = four();
    let other = random_adapter("other", RANK + 2, 9);
    let subspace = extracted(&adapters, &options(Components::All)).subspace;
    let found = project(&other, &subspace, &ProjectOptions::default()).expect("a projection");
    assert_eq!(found.adapter.modules[QUERY].rank(), RANK);
    assert!(found.overall > 0.5, "it has nothing in common with them");
    adapters.push(other);
    let refused = extract(&adapters, &options(Components::All), &|_, _| {}).unwrap_err();
    let EigenloraxError::UnequalRanks { adapter, rank, .. } = &refused else {
        panic!("{refused}");
    };
    assert_eq!((adapter.as_str(), *rank), ("other", RANK + 2), "{refused}");
}

#[test]
fn it_is_read_as_it_was_written_and_does_not_grow() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("flattened");
    let centred = ExtractOptions {
        center: true,
        augment: 1,
        ..options(Components::Count(2))
    };
    let subspace = extracted(&four(), &centred).subspace;
    subspace.save(&path, false).expect("written");
    assert_eq!(Subspace::load(&path).expect("read"), subspace);
    let more = [random_adapter("e", RANK, 5)];
    let refused = grow(&subspace, &more, &GrowOptions::default(), &|_, _| {}).unwrap_err();
    assert!(matches!(refused, EigenloraxError::FlattenedGrowth));
}
