//! Adapters against the gradient of a task: identities, and what copies of every kind come to.

use std::borrow::Cow;

use eigenmix_adapter::LoraModule;
use eigenmix_eigenlorax::{
    EigenloraxError, LowRank, PoolAlignment, PoolModule, greedy_order, pool_share, range_of,
    test_matrix,
};
use eigenmix_tensors::Matrix;

const D_OUT: usize = 60;
const D_IN: usize = 44;
const MODULES: [&str; 2] = ["layers.0.query", "layers.1.value"];

/// An adapter, module by module; `None` where it has none.
type Adapter = [Option<LoraModule>; 2];

/// Random factors of rank `rank`, alpha / r = 2.
fn random(rank: usize, seed: u64) -> Adapter {
    MODULES.map(|path| {
        let b = test_matrix(&format!("{path}/b"), D_OUT, rank, seed);
        let a = test_matrix(&format!("{path}/a"), D_IN, rank, seed).transposed();
        Some(LoraModule::new(b, a, 2.0))
    })
}

/// The modules of an adapter one by one.
fn map(adapter: &Adapter, change: impl Fn(usize, &LoraModule) -> LoraModule) -> Adapter {
    [0, 1].map(|place| adapter[place].as_ref().map(|module| change(place, module)))
}

/// Σ factor · ΔW, with the ranks added up.
fn sum(parts: &[(f32, &Adapter)]) -> Adapter {
    [0, 1].map(|place| {
        let modules = || {
            parts
                .iter()
                .filter_map(|(factor, adapter)| Some((*factor, adapter[place].as_ref()?.folded())))
        };
        let rank = modules().map(|(_, (b, _))| b.cols()).sum();
        let column = |row: usize, mut column: usize| {
            for (factor, (b, _)) in modules() {
                if column < b.cols() {
                    return factor * b.get(row, column);
                }
                column -= b.cols();
            }
            unreachable!("a column of one of them")
        };
        let row = |mut row: usize, column: usize| {
            for (_, (_, a)) in modules() {
                if row < a.rows() {
                    return a.get(row, column);
                }
                row -= a.rows();
            }
            unreachable!("a row of one of them")
        };
        let (b, a) = (
            Matrix::from_fn(D_OUT, rank, column),
            Matrix::from_fn(rank, D_IN, row),
        );
        Some(LoraModule::new(b, a, 1.0))
    })
}

/// Turned by random orthonormal matrices on both sides.
fn rotated(adapter: &Adapter, seed: u64) -> Adapter {
    map(adapter, |place, module| {
        let turn =
            |side: &str, size| range_of(&test_matrix(&format!("{place}{side}"), size, size, seed));
        LoraModule {
            b: turn("out", D_OUT).product(&module.b),
            a: module.a.product(&turn("in", D_IN)),
            ..module.clone()
        }
    })
}

fn norm(adapter: &Adapter) -> f64 {
    let modules = adapter.iter().flatten();
    let squares = modules.map(|module| module.update().norm().powi(2));
    squares.sum::<f64>().sqrt()
}

fn module<'a>(
    gradient: &'a Adapter,
    adapters: &'a [Adapter],
    place: usize,
) -> Result<PoolModule<'a>, EigenloraxError> {
    let updates = adapters.iter().enumerate();
    Ok(PoolModule {
        path: MODULES[place].to_owned(),
        gradient: gradient[place]
            .as_ref()
            .expect("a gradient in every module"),
        updates: updates
            .filter_map(|(index, adapter)| Some((index, Cow::Borrowed(adapter[place].as_ref()?))))
            .collect(),
    })
}

fn aligned(gradient: &Adapter, adapters: &[Adapter]) -> PoolAlignment {
    PoolAlignment::new(adapters.len(), 2, |place| module(gradient, adapters, place))
        .expect("finite values")
}

#[test]
fn an_adapter_that_is_the_gradients_best_approximation_is_above_all_others() {
    let gradient = random(6, 1);
    let step = map(&gradient, |_, module| LoraModule {
        scaling: 0.01 * module.scaling,
        ..module.clone()
    });
    let against = map(&gradient, |_, module| LoraModule {
        scaling: -module.scaling,
        ..module.clone()
    });
    let half = sum(&[(1.0, &gradient), (1.0, &random(6, 2))]);
    let adapters = [random(6, 3), half, against, step];
    let found = aligned(&gradient, &adapters);
    let best = found.adapters[3];
    assert!((best.cosine - 1.0).abs() < 1e-5 && (best.share.found - 1.0).abs() < 1e-5);
    // A step uphill has the same directions.
    let uphill = found.adapters[2];
    assert!((uphill.cosine + 1.0).abs() < 1e-5 && (uphill.share.found - 1.0).abs() < 1e-5);
    let cosines: Vec<f64> = found.adapters.iter().map(|one| one.cosine).collect();
    let order = greedy_order(&found.cosines, &cosines, &[1.0; 4], 4);
    assert_eq!(order[0].adapter, 3);
    assert!((order[0].score - 1.0).abs() < 1e-5 && order[0].nearest.is_none());
    // Nothing is left of the gradient for the others.
    assert!(order[1..].iter().all(|ranked| ranked.score.abs() < 1e-5));
}

#[test]
fn the_share_and_the_cosine_are_those_of_the_full_matrices() {
    let (gradient, adapter) = (
        random(5, 1),
        sum(&[(0.5, &random(3, 2)), (0.2, &random(5, 1))]),
    );
    let found = aligned(&gradient, std::slice::from_ref(&adapter)).adapters[0];
    let (mut inside, mut energy, mut product) = (0.0, 0.0, 0.0);
    for (gradient, adapter) in gradient.iter().flatten().zip(adapter.iter().flatten()) {
        let (full, update) = (gradient.update(), adapter.update());
        let (left, right) = (range_of(&update), range_of(&update.transposed()));
        // The update has rank 8, so that the first eight columns span it.
        let first =
            |matrix: &Matrix| Matrix::from_fn(matrix.rows(), 8, |row, col| matrix.get(row, col));
        let core = first(&left)
            .transposed()
            .product(&full)
            .product(&first(&right));
        inside += core.norm().powi(2);
        energy += full.norm().powi(2);
        let pairs = full.values().iter().zip(update.values());
        product += pairs
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum::<f64>();
    }
    let cosine = product / (energy.sqrt() * norm(&adapter));
    assert!(
        (found.cosine - cosine).abs() < 1e-5,
        "{} {cosine}",
        found.cosine
    );
    assert!((found.share.found - inside / energy).abs() < 1e-4);
    let chance = 64.0 / (D_OUT * D_IN) as f64;
    assert!((found.share.chance - chance).abs() < 1e-9);
    assert!((found.norm / norm(&adapter) - 1.0).abs() < 1e-5);
}

#[test]
fn a_rotated_copy_falls_to_chance() {
    let gradient = random(6, 1);
    let near = sum(&[(1.0, &gradient), (1.0, &random(4, 2))]);
    let copies: Vec<Adapter> = (0..40).map(|seed| rotated(&near, seed)).collect();
    let found = aligned(&gradient, &copies);
    let count = copies.len() as f64;
    let share: f64 = found
        .adapters
        .iter()
        .map(|one| one.share.over_chance())
        .sum();
    // 40 copies with 100 · 6 products of directions each: a few percent of deviation.
    assert!((share / count - 1.0).abs() < 0.1, "{}", share / count);
    let squares = found
        .adapters
        .iter()
        .map(|one| (one.cosine / one.cosine_chance).powi(2));
    let square = squares.sum::<f64>() / count;
    // The mean of 40 squares of standard normal numbers: 1 ± 0.22.
    assert!((square - 1.0).abs() < 0.7, "{square}");
    let original = aligned(&gradient, std::slice::from_ref(&near)).adapters[0];
    assert!(
        original.cosine > 20.0 * original.cosine_chance,
        "{original:?}"
    );
}

#[test]
fn copies_and_combinations_of_what_is_chosen_are_redundant_whatever_their_factors() {
    let gradient = random(6, 1);
    let one = sum(&[(1.0, &gradient), (1.0, &random(6, 2))]);
    let other = sum(&[(0.5, &gradient), (1.0, &random(6, 3))]);
    // The same update three times as large, its factors split otherwise.
    let copy = map(&one, |_, module| LoraModule {
        b: module.b.clone().scaled(12.0),
        a: module.a.clone().scaled(0.5),
        scaling: 0.5 * module.scaling,
        ..module.clone()
    });
    let both = sum(&[(0.3, &one), (-0.8, &other)]);
    let adapters = [one, copy, other, both];
    let found = aligned(&gradient, &adapters);
    let cosines: Vec<f64> = found.adapters.iter().map(|one| one.cosine).collect();
    assert!((cosines[0] - cosines[1]).abs() < 1e-6);
    let order = greedy_order(&found.cosines, &cosines, &[1.0; 4], 4);
    let places: Vec<usize> = order.iter().map(|ranked| ranked.adapter).collect();
    // Rounding decides which of the copies is first.
    assert!(places[0] < 2 && places[1] == 2, "{places:?}");
    for ranked in &order[2..] {
        assert!(ranked.novelty < 1e-6 && ranked.score < 1e-3, "{ranked:?}");
    }
    let copy = order
        .iter()
        .skip(1)
        .find(|ranked| ranked.adapter < 2)
        .expect("finite values");
    let (nearest, cosine) = copy.nearest.expect("finite values");
    assert!(nearest == places[0] && (cosine - 1.0).abs() < 1e-6);
}

#[test]
fn a_copy_with_noise_is_below_a_weaker_adapter_of_its_own() {
    let gradient = random(6, 1);
    let strong = sum(&[(1.0, &gradient), (1.0, &random(6, 2))]);
    let weak = sum(&[(0.3, &gradient), (1.0, &random(6, 3))]);
    let noise = random(6, 4);
    let size = (norm(&strong) / norm(&noise)) as f32;
    let noisy = sum(&[(1.0, &strong), (size, &noise)]);
    let adapters = [noisy, weak, strong];
    let found = aligned(&gradient, &adapters);
    let cosines: Vec<f64> = found.adapters.iter().map(|one| one.cosine).collect();
    assert!(
        cosines[0] > cosines[1],
        "by alignment alone it would be second"
    );
    let order = greedy_order(&found.cosines, &cosines, &[1.0; 3], 3);
    let places: Vec<usize> = order.iter().map(|ranked| ranked.adapter).collect();
    assert_eq!(places, [2, 1, 0]);
    assert!((order[2].novelty - 0.5).abs() < 0.1);
}

#[test]
fn weights_decide_among_the_aligned_and_lift_nothing_that_is_not() {
    let cosines = vec![
        vec![1.0, 0.0, 0.0],
        vec![0.0, 1.0, 0.0],
        vec![0.0, 0.0, 1.0],
    ];
    let order = |weights: &[f64]| -> Vec<usize> {
        let order = greedy_order(&cosines, &[0.5, 0.4, -0.1], weights, 3);
        order.iter().map(|ranked| ranked.adapter).collect()
    };
    assert_eq!(order(&[1.0, 1.0, 1.0]), [0, 1, 2]);
    assert_eq!(order(&[0.5, 1.0, 1.0]), [1, 0, 2]);
    // What was not weighed at all still comes before what points uphill.
    assert_eq!(order(&[0.0, 0.0, 1.0]), [0, 1, 2]);
}

#[test]
fn a_module_that_an_adapter_lacks_counts_against_it() {
    let gradient = random(6, 1);
    let mut half = gradient.clone();
    half[1] = None;
    let found = aligned(&gradient, &[half.clone(), gradient.clone()]);
    let energy = |place: usize| {
        let module = gradient[place].as_ref().expect("finite values");
        module.update().norm().powi(2)
    };
    let share = energy(0) / (energy(0) + energy(1));
    assert!((found.adapters[0].share.found - share).abs() < 1e-5);
    assert!((found.adapters[0].cosine - share.sqrt()).abs() < 1e-5);
    assert!((found.cosines[0][1] - share.sqrt()).abs() < 1e-5);
}

#[test]
fn the_share_of_several_together_is_that_of_their_joint_directions() {
    let gradient = random(6, 1);
    let pool = [random(4, 2), random(3, 3), random(4, 2)];
    let found = pool_share(2, |place| module(&gradient, &pool, place)).expect("finite values");
    // The third has the directions of the first.
    let chance = 49.0 / (D_OUT * D_IN) as f64;
    assert!((found.chance - chance).abs() < 1e-9, "{found:?}");
    let joint = sum(&[(1.0, &pool[0]), (1.0, &pool[1])]);
    let expected = aligned(&gradient, std::slice::from_ref(&joint)).adapters[0].share;
    assert!((found.found - expected.found).abs() < 1e-6);
    let whole = [gradient.clone(), random(2, 5)];
    let all = pool_share(2, |place| module(&gradient, &whole, place)).expect("finite values");
    assert!((all.found - 1.0).abs() < 1e-5);
    let rank = LowRank::of(gradient[0].as_ref().expect("finite values"))
        .directions()
        .expect("finite values");
    assert_eq!(rank.s.len(), 6);
}
