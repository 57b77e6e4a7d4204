//! Flattened subspaces: whole factors as directions.

mod random_adapters;

use eigenmix_adapter::LoadedAdapter;
use eigenmix_eigenlorax::{
    Coefficients, Components, EigenloraxError, ExtractOptions, Factors, Flattened, GrowOptions,
    LowRank, ProjectOptions, Subspace, SubspaceKind, Weights, extract, grow, project,
};
use eigenmix_tensors::Matrix;
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
            // ‖vec(B)‖² is the sum of the squared products with all directions, of which two are kept.
            let [directions, _] = bases.side_by_side();
            let kept: f64 = adapters
                .iter()
                .map(|adapter| {
                    let update = LowRank::of(&adapter.adapter.modules[path]);
                    let b = match factors {
                        Factors::Balanced => update.balanced().expect("balanced factors").left,
                        Factors::Raw => update.left,
                    };
                    let rank = b.ncols();
                    let product = |direction: usize| -> f64 {
                        let entries =
                            (0..b.nrows()).flat_map(|row| (0..rank).map(move |own| (row, own)));
                        let of = |row, own| f64::from(directions.get(row, direction * rank + own));
                        entries.map(|(row, own)| b[(row, own)] * of(row, own)).sum()
                    };
                    (0..2)
                        .map(|direction| product(direction).powi(2))
                        .sum::<f64>()
                })
                .sum();
            let all = all.iter().copied().map(f64::from).collect::<Vec<_>>();
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
    let replicated = |numbers: &Matrix| {
        Matrix::from_fn(4 * RANK, RANK, |row, column| match row % RANK == column {
            true => numbers.get(row / RANK, 0),
            false => 0.0,
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
fn what_was_trained_on_the_subspace_is_found_again() {
    let adapters = four();
    let subspace = extracted(&adapters, &options(Components::All)).subspace;
    let bases = &subspace.modules[QUERY];
    // Numbers of a training, which know nothing of how the sources are split.
    let column = |values: [f32; 4]| Matrix::new(4, 1, values.to_vec());
    let trained = Coefficients {
        left: column([0.3, -1.2, 0.7, 2.0]),
        right: column([1.5, 0.2, -0.9, 0.4]),
    };
    let module = trained.to_module(bases);
    let found = Coefficients::of(bases, &module).expect("coefficients");
    let difference = relative_difference(
        found.to_module(bases).update().values(),
        module.update().values(),
    );
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn an_adapter_without_weight_does_not_count_in_the_mean() {
    let adapters = four();
    for (kind, factors) in [
        (SubspaceKind::Flattened, Factors::Balanced),
        (SubspaceKind::Columns, Factors::Raw),
    ] {
        let of = |adapters: &[LoadedAdapter], weights: Vec<f64>| {
            let options = ExtractOptions {
                kind,
                factors,
                center: true,
                weights: Some(Weights::Given(weights)),
                ..options(Components::Count(2))
            };
            extracted(adapters, &options).subspace.modules
        };
        let zero = of(&adapters, vec![1.0, 1.0, 1.0, 0.0]);
        let without = of(&adapters[..3], vec![1.0; 3]);
        assert_eq!(zero, without, "{kind:?}");
    }
}

#[test]
fn a_file_whose_options_are_at_odds_with_its_bases_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("flattened");
    let subspace = extracted(&four(), &options(Components::All)).subspace;
    subspace.save(&path, false).expect("written");
    let file = path.join("subspace.json");
    let json = std::fs::read_to_string(&file).expect("the description");
    for (then, now, problem) in [
        (
            "\"kind\": \"flattened\"",
            "\"kind\": \"columns\"",
            "another kind",
        ),
        (
            "\"weights\": \"norms\"",
            "\"weights\": [1.0]",
            "there are 1",
        ),
        ("\"rank\": 3", "\"rank\": 5", "no factors of rank 5"),
    ] {
        assert!(json.contains(then), "{json}");
        std::fs::write(&file, json.replace(then, now)).expect("written");
        let refused = Subspace::load(&path).unwrap_err().to_string();
        assert!(refused.contains(problem), "{refused}");
    }
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
