//! One more adapter in the basis of a module that is extracted already.
//!
//! The principal columns with their variances, `U · √Λ`, have the scatter matrix of the adapters' own
//! columns: another adapter's columns beside them give the components of all, without the files of those
//! before.

use eigenmix_adapter::LoraModule;
use faer::{Mat, MatRef, Scale};

use crate::augmentation::normalised;
use crate::basis::{Basis, ColumnCounts};
use crate::decomposition::{DecompositionError, ThinSvd, product, to_f32, with_column};
use crate::low_rank::LowRank;
use crate::options::Components;
use crate::principal::Columns;
use crate::rotation::Rotation;
use crate::subspace::ModuleSubspace;

impl ModuleSubspace {
    /// The principal components of the recycled adapters and of `update` together.
    ///
    /// - adapters: how many adapters the basis comes from
    /// - weight: how much the update counts beside one of them: its columns get `weight` times the mean
    ///   squared norm of an adapter's
    ///
    /// # Errors
    /// If a decomposition doesn't converge, which finite values don't lead to.
    ///
    /// # Panics
    /// If the subspace is flattened, as the functions below.
    pub fn joined(
        &self,
        update: &LoraModule,
        adapters: usize,
        weight: f64,
        components: Components,
    ) -> Result<Self, DecompositionError> {
        self.assert_columns();
        let update = LowRank::of(update).balanced()?;
        let side = |basis: &Basis, columns: &Mat<f64>| {
            let mean = basis.total_variance() / adapters.max(1) as f64;
            let own = columns.squared_norm_l2();
            let scale = if own > 0.0 {
                (weight * mean / own).sqrt()
            } else {
                0.0
            };
            basis.joined(&(columns * Scale(scale)), components)
        };
        Ok(Self::of_columns(
            side(&self.left, &update.left)?,
            side(&self.right, &update.right)?,
        ))
    }

    /// The directions of the recycled adapters that a task's gradient G asks for: `Uᵀ · G · V = P · Σ · Qᵀ`
    /// on all principal components, of which `U · P` and `V · Q` are kept in their order, at most `count` a
    /// side. The variances are Σ². Beyond the rank of G come those in which the adapters vary most, with no
    /// variance.
    ///
    /// # Errors
    /// If a decomposition doesn't converge, which finite values don't lead to.
    pub fn rotated(&self, gradient: &LoraModule, count: usize) -> Result<Self, DecompositionError> {
        self.assert_columns();
        let rotation = Rotation::new(self, gradient)?;
        Ok(Self::of_columns(
            rotation.of(&self.left, &rotation.left, count)?,
            rotation.of(&self.right, &rotation.right, count)?,
        ))
    }

    /// The basis with the leading directions of `update` outside it as further principal components, at
    /// most `count`: the left singular vectors of `(I − U·Uᵀ) · ΔW` and the right ones of
    /// `ΔW · (I − V·Vᵀ)`.
    ///
    /// # Errors
    /// If a decomposition doesn't converge, which finite values don't lead to.
    pub fn extended(&self, update: &LoraModule, count: usize) -> Result<Self, DecompositionError> {
        self.assert_columns();
        let update = LowRank::of(update);
        Ok(Self::of_columns(
            self.left.extended(&update.left, &update.right, count)?,
            self.right.extended(&update.right, &update.left, count)?,
        ))
    }

    /// Directions of the recycled adapters that a gradient asks for, and its own outside of them all: at most
    /// `outside` of those that [`ModuleSubspace::extended`] adds, behind so many of
    /// [`ModuleSubspace::rotated`] that there are `count` a side, or all of both.
    ///
    /// # Errors
    /// If a decomposition doesn't converge, which finite values don't lead to.
    pub fn augmented(
        &self,
        gradient: &LoraModule,
        count: usize,
        outside: usize,
    ) -> Result<Self, DecompositionError> {
        let extended = self.extended(gradient, outside.min(count))?;
        let rotation = Rotation::new(self, gradient)?;
        let side = |own: &Basis, turn: &Mat<f64>, extended: &Basis| {
            let added = own.principal()..extended.principal();
            let rotated = rotation.of(own, turn, count - added.len())?;
            let all = extended.to_f64();
            let columns = added
                .clone()
                .fold(rotated.principal_f64(), |columns, place| {
                    with_column(columns, &all.as_ref().subcols(place, 1).to_owned())
                });
            let variance = [rotated.principal_variance(), &extended.variance()[added]].concat();
            let total = rotated.total_variance() + extended.total_variance() - own.total_variance();
            Ok(own.with_columns(columns, variance, total))
        };
        Ok(Self::of_columns(
            side(&self.left, &rotation.left, &extended.left)?,
            side(&self.right, &rotation.right, &extended.right)?,
        ))
    }

    /// The leading singular directions of one update, at most `count`; their variances are its squared
    /// singular values.
    ///
    /// # Errors
    /// If the SVD doesn't converge, which finite values don't lead to.
    pub fn of_update(update: &LoraModule, count: usize) -> Result<Self, DecompositionError> {
        let ThinSvd { u, s, v } = LowRank::of(update).directions()?;
        let count = count.min(s.len());
        let energy = s.iter().map(|value| value.powi(2)).sum();
        let side = |vectors: &Mat<f64>| {
            let variance = s[..count].iter().map(|value| value.powi(2) as f32);
            Basis::of_columns(
                vectors.as_ref().subcols(0, count),
                variance.collect(),
                energy,
            )
        };
        Ok(Self::of_columns(side(&u), side(&v)))
    }
}

impl Basis {
    /// The principal columns in f64: `[d, principal]`.
    pub(crate) fn principal_f64(&self) -> Mat<f64> {
        self.to_f64()
            .as_ref()
            .subcols(0, self.principal())
            .to_owned()
    }

    /// The components of the principal columns with their variances and of further columns `[d, r]`.
    fn joined(
        &self,
        columns: &Mat<f64>,
        components: Components,
    ) -> Result<Self, DecompositionError> {
        let mut own = self.principal_f64();
        for (column, &variance) in self.principal_variance().iter().enumerate() {
            let mut column = own.as_mut().col_mut(column);
            column *= Scale(f64::from(variance).sqrt());
        }
        let mut all = Columns::new(self.width(), own.ncols() + columns.ncols());
        all.push(own.as_ref());
        all.push(columns.as_ref());
        let joined = all.into_basis(components, false, None)?.basis;
        // What truncation lost of the adapters still belongs to the whole.
        let lost = (self.total_variance() - self.kept_variance()).max(0.0);
        let total = joined.total_variance() + lost;
        Ok(self.with_columns(joined.to_f64(), joined.variance().to_vec(), total))
    }

    /// Other principal columns, of these singular values.
    pub(crate) fn with_principal(&self, columns: Mat<f64>, values: &[f64]) -> Self {
        let variance: Vec<f32> = values.iter().map(|value| value.powi(2) as f32).collect();
        let total = values.iter().map(|value| value.powi(2)).sum();
        self.with_columns(columns, variance, total)
    }

    fn extended(
        &self,
        near: &Mat<f64>,
        far: &Mat<f64>,
        count: usize,
    ) -> Result<Self, DecompositionError> {
        let own = self.to_f64();
        let outside = LowRank {
            left: near
                - product(
                    own.as_ref(),
                    product(own.transpose(), near.as_ref()).as_ref(),
                ),
            right: far.clone(),
        };
        let directions = outside.directions()?;
        let room = self.width() - self.columns();
        let count = count.min(directions.s.len()).min(room);
        let mut columns = self.principal_f64();
        let mut variance = self.principal_variance().to_vec();
        let mut total = self.total_variance();
        for place in 0..count {
            let direction = directions.u.as_ref().subcols(place, 1).to_owned();
            if let Some((direction, _)) = normalised(direction, &columns) {
                columns = with_column(columns, &direction);
                variance.push(directions.s[place].powi(2) as f32);
                total += directions.s[place].powi(2);
            }
        }
        Ok(self.with_columns(columns, variance, total))
    }

    /// Other principal columns, and after them the mean and the random columns of this basis as far as
    /// they lie outside.
    fn with_columns(&self, principal: Mat<f64>, mut variance: Vec<f32>, total: f64) -> Self {
        let mut counts = ColumnCounts {
            principal: principal.ncols(),
            has_mean: false,
            augmented: 0,
        };
        let own = self.to_f64();
        let mut columns = principal;
        for place in self.principal()..self.columns() {
            let column = own.as_ref().subcols(place, 1).to_owned();
            let Some((direction, _)) = normalised(column, &columns) else {
                continue;
            };
            columns = with_column(columns, &direction);
            variance.push(self.variance()[place]);
            match self.has_mean() && place == self.principal() {
                true => counts.has_mean = true,
                false => counts.augmented += 1,
            }
        }
        Self::new(to_f32(columns.as_ref()), variance, total, counts)
    }

    /// Principal columns that come from no adapter.
    pub(crate) fn of_columns(columns: MatRef<'_, f64>, variance: Vec<f32>, total: f64) -> Self {
        let counts = ColumnCounts {
            principal: columns.ncols(),
            has_mean: false,
            augmented: 0,
        };
        Self::new(to_f32(columns), variance, total, counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decomposition::{deviation_from_orthonormal, to_f64};
    use crate::options::ExtractOptions;
    use crate::range_sketch::test_matrix;
    use crate::{Subspace, Weights, extract};
    use eigenmix_adapter::{Adapter, LoadedAdapter, PeftConfig, Source, TargetModules};
    use std::collections::BTreeMap;

    const SHAPE: [usize; 2] = [24, 17];

    fn update(seed: u64, rank: usize) -> LoraModule {
        let b = test_matrix("b", SHAPE[0], rank, seed);
        let a = test_matrix("a", SHAPE[1], rank, seed).transposed();
        LoraModule::new(b, a, 0.5)
    }

    fn adapter(seed: u64) -> LoadedAdapter {
        let targets = TargetModules::Names(vec!["query".to_owned()]);
        let config = PeftConfig::lora("base", 3, targets, &[], None, &BTreeMap::new()).unwrap();
        let modules = BTreeMap::from([("query".to_owned(), update(seed, 3))]);
        LoadedAdapter {
            source: Source {
                location: format!("adapter {seed}"),
                sha256: String::new(),
            },
            adapter: Adapter::new(config, modules),
        }
    }

    fn subspace(seeds: &[u64], options: &ExtractOptions) -> Subspace {
        let adapters: Vec<_> = seeds.iter().map(|&seed| adapter(seed)).collect();
        extract(&adapters, options, &|_, _| {}).unwrap().subspace
    }

    /// The share ‖Uᵀ·ΔW·V‖² / ‖ΔW‖² of an update that the whole basis can express.
    fn share_of(module: &ModuleSubspace, update: &LoraModule) -> f64 {
        let inside = to_f64(&module.mixer_of(update)).squared_norm_l2();
        inside / LowRank::of(update).norm().powi(2)
    }

    fn is_orthonormal(module: &ModuleSubspace) -> bool {
        let sides = [&module.left, &module.right];
        sides
            .iter()
            .all(|side| deviation_from_orthonormal(side.to_f64().as_ref()) < 1e-5)
    }

    /// The projector on the columns, which does not know their signs.
    fn projector(basis: &Basis) -> Mat<f64> {
        product(basis.to_f64().as_ref(), basis.to_f64().transpose())
    }

    #[test]
    fn an_adapter_joined_later_gives_the_components_of_all_at_once() {
        let by_norms = |components| ExtractOptions {
            weights: Some(Weights::Norms),
            ..ExtractOptions::new(components)
        };
        let first = subspace(&[1, 2], &by_norms(Components::All));
        let third = LowRank::of(&update(3, 3)).balanced().unwrap();
        // The weight at which it counts by its own norm, on the left.
        let mean = first.modules["query"].left.total_variance() / 2.0;
        let weight = third.left.squared_norm_l2() / mean;
        let five = Components::Count(5);
        let joined = first.modules["query"]
            .joined(&update(3, 3), 2, weight, five)
            .unwrap();
        let at_once = subspace(&[1, 2, 3], &by_norms(five));
        let at_once = &at_once.modules["query"];
        assert!(is_orthonormal(&joined));
        let difference = projector(&joined.left) - projector(&at_once.left);
        assert!(difference.norm_max() < 1e-5, "{}", difference.norm_max());
        for (one, other) in joined.left.variance().iter().zip(at_once.left.variance()) {
            assert!((one / other - 1.0).abs() < 1e-5, "{one} {other}");
        }
    }

    #[test]
    fn a_louder_source_has_more_of_itself_in_a_basis_of_few_components() {
        let module = &subspace(&[1, 2], &ExtractOptions::new(Components::All)).modules["query"];
        let share = |weight| {
            let three = Components::Count(3);
            let joined = module.joined(&update(3, 3), 2, weight, three).unwrap();
            share_of(&joined, &update(3, 3))
        };
        let shares = [share(0.0), share(1.0), share(100.0)];
        assert!(shares[0] < shares[1] && shares[1] < shares[2], "{shares:?}");
        assert!(shares[2] > 0.98, "{shares:?}");
    }

    #[test]
    fn a_rotation_keeps_what_the_gradient_asks_for_of_the_same_space() {
        let module = &subspace(&[1, 2], &ExtractOptions::new(Components::All)).modules["query"];
        let gradient = update(3, 4);
        let whole = module.rotated(&gradient, 6).unwrap();
        assert!(is_orthonormal(&whole));
        assert!((projector(&whole.left) - projector(&module.left)).norm_max() < 1e-5);
        let two = module.rotated(&gradient, 2).unwrap();
        let unturned = module.with_components(2);
        assert!(share_of(&two, &gradient) > share_of(&unturned, &gradient));
        // The mixer's gradient on the rotated basis is diagonal: Pᵀ(UᵀGV)Q = Σ.
        let mixer = to_f64(&whole.mixer_of(&gradient));
        for row in 0..mixer.nrows() {
            for col in (0..mixer.ncols()).filter(|&col| col != row) {
                assert!(mixer[(row, col)].abs() < 1e-4);
            }
        }
    }

    #[test]
    fn an_augmented_basis_is_half_of_the_pool_and_half_outside_of_all_of_it() {
        let module = &subspace(&[1, 2], &ExtractOptions::new(Components::All)).modules["query"];
        let gradient = update(3, 4);
        let found = module.augmented(&gradient, 5, 2).unwrap();
        assert!(is_orthonormal(&found));
        assert_eq!((found.left.principal(), found.right.principal()), (5, 5));
        let inside = product(
            module.left.to_f64().transpose(),
            found.left.to_f64().as_ref(),
        );
        for column in 0..5 {
            let share = inside
                .as_ref()
                .subcols(column, 1)
                .to_owned()
                .squared_norm_l2();
            let expected = if column < 3 { 1.0 } else { 0.0 };
            assert!((share - expected).abs() < 1e-5, "{column}: {share}");
        }
    }

    #[test]
    fn beyond_the_rank_of_the_gradient_come_directions_in_which_the_adapters_vary() {
        let module = &subspace(&[1, 2], &ExtractOptions::new(Components::All)).modules["query"];
        let turned = module.rotated(&update(3, 2), 5).unwrap();
        assert!(is_orthonormal(&turned));
        assert_eq!((turned.left.principal(), turned.right.principal()), (5, 5));
        // Weighted by the variances, the five hold more of the adapters than any two and the weakest three.
        let held = |basis: &Basis| {
            let inside = product(
                basis.to_f64().transpose(),
                module.left.principal_f64().as_ref(),
            );
            let variance = module.left.principal_variance();
            let of = |place: usize| {
                let column = inside.as_ref().subcols(place, 1).to_owned();
                column.squared_norm_l2() * f64::from(variance[place])
            };
            (0..variance.len()).map(of).sum::<f64>()
        };
        let two = module.rotated(&update(3, 2), 2).unwrap();
        let variance = module.left.principal_variance();
        let strongest: f32 = variance.iter().take(3).sum();
        let weakest: f32 = variance.iter().rev().take(3).sum();
        let gained = held(&turned.left) - held(&two.left);
        assert!(gained > f64::from(weakest) && gained < f64::from(strongest) + 1e-6);
    }

    #[test]
    fn a_side_that_the_adapters_span_has_as_many_directions_of_theirs_instead() {
        let three = subspace(&[1, 2, 3], &ExtractOptions::new(Components::All));
        let module = &three.modules["query"];
        assert_eq!(module.right.principal(), 9);
        for (count, outside) in [(9, 4), (12, 6), (usize::MAX, usize::MAX)] {
            let found = module.augmented(&update(7, 4), count, outside).unwrap();
            assert!(is_orthonormal(&found));
            let both = [&found.left, &found.right].map(Basis::principal);
            assert_eq!(both, [count.min(13); 2], "{count}");
        }
        let full = ModuleSubspace::random("query", SHAPE, [17, 17], 1);
        let found = full.augmented(&update(7, 4), 17, 4).unwrap();
        let both = [&found.left, &found.right].map(Basis::principal);
        assert_eq!(both, [17, 17]);
        assert!(is_orthonormal(&found));
    }

    #[test]
    fn the_basis_of_one_update_is_its_own() {
        let found = ModuleSubspace::of_update(&update(3, 4), 9).unwrap();
        assert_eq!(found.left.principal(), 4);
        assert!(share_of(&found, &update(3, 4)) > 1.0 - 1e-6);
        let two = ModuleSubspace::of_update(&update(3, 4), 2).unwrap();
        assert!((share_of(&two, &update(3, 4)) - two.left.kept()).abs() < 1e-5);
    }

    #[test]
    fn an_extended_basis_holds_all_of_an_update_and_keeps_the_columns_before() {
        let options = ExtractOptions {
            center: true,
            augment: 2,
            ..ExtractOptions::new(Components::Count(4))
        };
        let module = &subspace(&[1, 2], &options).modules["query"];
        let extended = module.extended(&update(3, 3), 3).unwrap();
        assert!(is_orthonormal(&extended));
        assert_eq!(extended.left.principal(), 4 + 3);
        assert_eq!(
            (extended.left.has_mean(), extended.left.augmented()),
            (true, 2)
        );
        assert!(share_of(&extended, &update(3, 3)) > 1.0 - 1e-6);
        let first = |basis: &Basis| basis.to_f64().as_ref().subcols(0, 4).to_owned();
        assert!((first(&extended.left) - first(&module.left)).norm_max() < 1e-6);
    }
}
