//! The definition of a method.

use eigenmix_eigenlorax::{Coefficients, ModuleSubspace};
use eigenmix_moslora::{Factor, Update};
use eigenmix_tensors::Matrix;

use crate::TrainerError;
use crate::adapter_config::AdapterConfig;

/// A method.
pub(crate) struct Definition {
    /// The name in configurations.
    pub name: &'static str,
    pub recipe: Recipe,
    /// How many parameters it trains in one layer.
    pub trained: fn(&LayerSizes) -> usize,
    /// Whether it has its own mixer, which is initialised by `adapter.mixer`.
    pub has_mixer: bool,
}

/// How a method adapts a model.
#[derive(Clone, Copy)]
pub(crate) enum Recipe {
    /// Every targeted layer gets factors of its own.
    Factors { update: fn(&FactorLayer) -> Update },
    /// Every module of a subspace gets coefficients on its frozen basis.
    Basis {
        update: fn(BasisLayer) -> Result<Update, TrainerError>,
        /// Whether the coefficients may start from random values.
        starts_randomly: bool,
    },
    /// The updates of other adapters stand side by side, and their weights are trained.
    Composition,
    /// No adapter: every weight is trained.
    Everything,
}

/// A layer that gets factors of its own.
pub(crate) struct FactorLayer<'a> {
    pub config: &'a AdapterConfig,
    pub path: &'a str,
    /// [d_out, d_in]
    pub shape: [usize; 2],
    pub seed: u64,
}

impl FactorLayer<'_> {
    /// An update of this layer with the Aᵀ that `adapter.factor_init` asks for.
    pub fn started(&self, mut update: Update) -> Update {
        if let Some(init) = self.config.factor_init {
            let [_, d_in] = self.shape;
            let rank = self.config.rank.unwrap_or(1);
            update.right = Factor::trained(init.right(self.path, self.seed, d_in, rank));
        }
        update
    }
}

/// A layer that gets coefficients on a basis.
pub(crate) struct BasisLayer<'a> {
    pub config: &'a AdapterConfig,
    pub path: &'a str,
    pub module: &'a ModuleSubspace,
    /// The initial values, in units of ΔW.
    pub started: Option<Started>,
    pub seed: u64,
}

/// Where the coefficients on a basis start, in units of ΔW.
pub(crate) enum Started {
    /// M `[p, q]`.
    Mixer(Matrix),
    /// On a flattened subspace: a number for each direction, `[p, 1]` and `[q, 1]`.
    Directions(Coefficients),
}

/// The sizes of a layer W `[d_out, d_in]` and of an update on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerSizes {
    pub rank: usize,
    pub d_out: usize,
    pub d_in: usize,
    /// The columns of the basis on the left and on the right, if there is one.
    pub p: usize,
    pub q: usize,
    /// The weights of adapters, if it is composed of some.
    pub adapters: usize,
    /// If the columns of the basis are whole factors, their rank.
    pub flattened: Option<usize>,
}
