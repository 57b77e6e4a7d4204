//! The directions of a pool of adapters in the order in which a task's gradient asks for them.

use eigenmix_adapter::LoraModule;
use faer::{Mat, MatRef};

use crate::basis::Basis;
use crate::decomposition::{DecompositionError, ThinSvd, beside, product};
use crate::low_rank::LowRank;
use crate::subspace::ModuleSubspace;

/// `Uᵀ · G · V = P · Σ · Qᵀ` as far as it has a rank.
pub(crate) struct Rotation {
    /// P: `[p, k]`.
    pub left: Mat<f64>,
    /// Q: `[q, k]`.
    pub right: Mat<f64>,
    /// Σ: `[k]`.
    values: Vec<f64>,
}

impl Rotation {
    pub fn new(module: &ModuleSubspace, gradient: &LoraModule) -> Result<Self, DecompositionError> {
        let gradient = LowRank::of(gradient);
        let seen = LowRank {
            left: product(
                module.left.principal_f64().transpose(),
                gradient.left.as_ref(),
            ),
            right: product(
                module.right.principal_f64().transpose(),
                gradient.right.as_ref(),
            ),
        };
        // Directions beyond its rank would be whatever the decomposition leaves there.
        let ThinSvd { u, s, v } = seen.directions()?;
        Ok(Self {
            left: u,
            right: v,
            values: s,
        })
    }

    /// At most `count` directions of one side.
    ///
    /// - turn: P or Q
    pub fn of(
        &self,
        basis: &Basis,
        turn: &Mat<f64>,
        count: usize,
    ) -> Result<Basis, DecompositionError> {
        let count = count.min(basis.principal());
        let asked = turn.ncols().min(count);
        let mut values = self.values[..asked].to_vec();
        values.resize(count, 0.0);
        let turn = turn.as_ref().subcols(0, asked);
        let turned = match count - asked {
            0 => turn.to_owned(),
            missing => {
                let rest = varying_most(turn, basis.principal_variance(), missing)?;
                beside(basis.principal(), [turn, rest.as_ref()])
            }
        };
        let columns = product(basis.principal_f64().as_ref(), turned.as_ref());
        Ok(basis.with_principal(columns, &values))
    }
}

/// The `count` directions outside `turn` `[p, k]` in which coordinates with these variances vary most.
fn varying_most(
    turn: MatRef<'_, f64>,
    variance: &[f32],
    count: usize,
) -> Result<Mat<f64>, DecompositionError> {
    let size = variance.len();
    // Components without variance still have a direction.
    let strongest = variance.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let spread = |place: usize| f64::from(variance[place].max(1e-6 * strongest)).sqrt();
    let spreads = Mat::from_fn(size, size, |row, column| match row == column {
        true => spread(row),
        false => 0.0,
    });
    let inside = product(turn, product(turn.transpose(), spreads.as_ref()).as_ref());
    let ThinSvd { u, .. } = ThinSvd::new((spreads - inside).as_ref())?;
    Ok(u.as_ref().subcols(0, count).to_owned())
}
