//! Similarities of adapters against their dense updates, and the identities they have.

mod random_adapters;
use std::collections::BTreeMap;

use eigenmix_adapter::{AdapterSetError, LoadedAdapter};
use eigenmix_eigenlorax::decomposition::{ThinSvd, product, to_f64};
use eigenmix_eigenlorax::{EigenloraxError, SharedEnergy, similarity};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use random_adapters::{DOWN, QUERY, adapter, module, random_adapter, three_adapters};

#[test]
fn the_cosine_is_that_of_the_dense_updates_of_all_modules() {
    let adapters = three_adapters();
    let dense: Vec<Vec<f64>> = adapters
        .iter()
        .map(|loaded| {
            let modules = loaded.adapter.modules.values();
            let values = modules.flat_map(|module| module.update().into_values());
            values.map(f64::from).collect()
        })
        .collect();
    let dot = |left: &[f64], right: &[f64]| -> f64 {
        left.iter()
            .zip(right)
            .map(|(left, right)| left * right)
            .sum()
    };
    let found = similarity(&adapters).expect("similarities");
    for (i, left) in dense.iter().enumerate() {
        for (j, right) in dense.iter().enumerate() {
            let expected = dot(left, right) / (dot(left, left) * dot(right, right)).sqrt();
            let cosine = found.cosine[i][j].expect("a similarity");
            // The dense updates are rounded to f32.
            assert!(
                (cosine - expected).abs() < 1e-6,
                "{i}, {j}: {cosine}, {expected}"
            );
            assert_eq!(found.cosine[i][j], found.cosine[j][i]);
        }
    }
}

#[test]
fn another_factorisation_and_the_opposite_sign_span_the_same_subspaces() {
    let first = random_adapter("first", 3, 7);
    let mut second = first.clone();
    for module in second.adapter.modules.values_mut() {
        module.scaling *= -2.0;
        // Columns of B and rows of A in another order: the same product.
        let rank = module.rank();
        let [b, a] = [&module.b, &module.a].map(Clone::clone);
        module.b = eigenmix_tensors::Matrix::from_fn(b.rows(), rank, |row, col| {
            b.get(row, rank - 1 - col)
        });
        module.a = eigenmix_tensors::Matrix::from_fn(rank, a.cols(), |row, col| {
            a.get(rank - 1 - row, col)
        });
    }
    let found = similarity(&[first, second]).expect("similarities");
    assert!((found.cosine[0][1].expect("a similarity") + 1.0).abs() < 1e-9);
    for overlap in [&found.left_overlap, &found.right_overlap] {
        assert!((overlap[0][1].expect("a similarity") - 1.0).abs() < 1e-9);
    }
}

#[test]
fn a_shared_a_is_seen_on_the_right_side_only() {
    let first = random_adapter("first", 3, 1);
    let mut second = random_adapter("second", 3, 2);
    for (path, module) in &mut second.adapter.modules {
        module.a = first.adapter.modules[path].a.clone();
    }
    let found = similarity(&[first, second]).expect("similarities");
    assert!((found.right_overlap[0][1].expect("a similarity") - 1.0).abs() < 1e-9);
    // Random subspaces of 3 or 4 out of 29 or 37 dimensions overlap by about 0.1.
    let left = found.left_overlap[0][1].expect("a similarity");
    assert!(left > 0.02 && left < 0.3, "{left}");
}

#[test]
fn what_a_pair_does_not_share_has_no_overlap_and_no_cosine() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut only = |path: &str| {
        let modules = BTreeMap::from([(path.to_owned(), module(path, 2, &mut random))]);
        adapter(path, modules)
    };
    let mut zero = only(QUERY);
    let query = zero.adapter.modules.get_mut(QUERY).expect("a module");
    query.scaling = 0.0;
    let found = similarity(&[only(QUERY), only(DOWN), zero]).expect("similarities");
    assert_eq!(found.cosine[0][1], Some(0.0));
    assert_eq!(found.left_overlap[0][1], None);
    assert_eq!(found.cosine[0][2], None);
    assert_eq!(found.right_overlap[2][2], None);
    let nobody: [LoadedAdapter; 0] = [];
    let error = similarity(&nobody).expect_err("an error");
    assert!(matches!(
        error,
        EigenloraxError::Set(AdapterSetError::NoAdapters)
    ));
}

#[test]
fn shared_energy_is_that_of_dense_projections_and_chance_that_of_random_ones() {
    let mut adapters = three_adapters();
    let mut copy = adapters[1].clone();
    for module in copy.adapter.modules.values_mut() {
        module.scaling *= -3.0;
    }
    adapters.push(copy);
    let found = SharedEnergy::of(&adapters, true).expect("energies");
    let one_way = |first: &LoadedAdapter, second: &LoadedAdapter| {
        let (mut held, mut whole, mut chance) = (0.0, 0.0, 0.0);
        for (path, module) in &first.adapter.modules {
            let update = to_f64(&module.update());
            let energy = update.squared_norm_l2();
            let other = &second.adapter.modules[path];
            let ThinSvd { u, v, .. } = ThinSvd::new(to_f64(&other.update()).as_ref()).expect("it");
            let rank = other.rank();
            let (u, v) = (u.as_ref().subcols(0, rank), v.as_ref().subcols(0, rank));
            let seen = product(product(u.transpose(), update.as_ref()).as_ref(), v);
            held += seen.squared_norm_l2();
            whole += energy;
            let size = (update.nrows() * update.ncols()) as f64;
            chance += energy * (rank * rank) as f64 / size;
        }
        [held / whole, chance / whole]
    };
    for (i, first) in adapters.iter().enumerate() {
        for (j, second) in adapters.iter().enumerate() {
            let (forth, back) = (one_way(first, second), one_way(second, first));
            let expected = [0, 1].map(|kind| f64::midpoint(forth[kind], back[kind]));
            // The dense updates are rounded to f32.
            assert!((found.share[i][j] - expected[0]).abs() < 1e-6);
            assert!((found.chance[i][j] - expected[1]).abs() < 1e-6);
        }
    }
    assert!((found.share[1][3] - 1.0).abs() < 1e-9);
}
