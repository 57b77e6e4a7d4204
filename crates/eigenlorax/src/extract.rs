//! From adapters to the subspace that they share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use eigenmix_adapter::LoraModule;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::augmentation::Augmentation;
use crate::decomposition::DecompositionError;
use crate::error::EigenloraxError;
use crate::low_rank::LowRank;
use crate::principal::{Columns, PrincipalBasis};
use crate::report::{AdapterReport, ExtractReport, ModuleReport, SideReport};
use crate::source::{AdapterSource, ModuleShape};
use crate::strangers::strangers;
use crate::subspace::{ModuleSubspace, Subspace};

/// What to extract, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtractOptions {
    /// How many principal components a side keeps.
    pub components: Components,
    /// In which form the factors of an adapter are stacked.
    #[serde(default)]
    pub factors: Factors,
    /// Whether the mean column is subtracted first, and kept as a component of its own.
    #[serde(default)]
    pub center: bool,
    /// How many random columns are added to each side, orthonormal to the others.
    #[serde(default)]
    pub augment: usize,
    /// The seed of the random columns.
    #[serde(default)]
    pub seed: u64,
    /// Whether adapters that name different base models may go into one subspace.
    #[serde(default)]
    pub allow_base_mismatch: bool,
}

impl ExtractOptions {
    /// Balanced factors, not centred, nothing random.
    pub fn new(components: Components) -> Self {
        Self {
            components,
            factors: Factors::default(),
            center: false,
            augment: 0,
            seed: 0,
            allow_base_mismatch: false,
        }
    }
}

/// How many principal components to keep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Components {
    /// So many a side, or all there are if there are fewer.
    Count(usize),
    /// The fewest that carry this share, in (0, 1], of the variance of their side.
    Variance(f64),
    /// All there are: the sources can be reconstructed.
    All,
}

impl Components {
    /// The number asked for, where it is a number.
    pub fn asked(self) -> Option<usize> {
        match self {
            Self::Count(count) => Some(count),
            Self::Variance(_) | Self::All => None,
        }
    }

    /// How many of the components with these variances, largest first, to keep out of a total
    /// variance of `total`.
    pub(crate) fn chosen(self, variances: &[f64], total: f64) -> usize {
        match self {
            Self::Count(count) => count.min(variances.len()),
            Self::All => variances.len(),
            Self::Variance(share) => {
                let mut carried = 0.0;
                let sufficient = variances.iter().position(|variance| {
                    carried += variance;
                    carried >= share * total
                });
                sufficient.map_or(variances.len(), |last| last + 1)
            }
        }
    }

    fn check(self) -> Result<(), EigenloraxError> {
        match self {
            Self::Count(0) => Err(EigenloraxError::NoComponents),
            Self::Variance(share) if !(share > 0.0 && share <= 1.0) => {
                Err(EigenloraxError::VarianceShare { found: share })
            }
            _ => Ok(()),
        }
    }
}

/// In which form the factors of one adapter and module are stacked, `ΔW = s·B·W·A`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Factors {
    /// `U·√S` and `V·√S` of `ΔW = U·S·Vᵀ`: the subspace depends on ΔW only.
    #[default]
    Balanced,
    /// `s·B·W` and `Aᵀ` as the file has them, as in the EigenLoRAx paper: scaling and mixer belong
    /// to the left side, and the subspace depends on how ΔW happened to be split.
    Raw,
}

impl Factors {
    /// The columns of both sides: `[d_out, rank]` and `[d_in, rank]`.
    pub(crate) fn of(self, module: &LoraModule) -> Result<LowRank, DecompositionError> {
        let update = LowRank::of(module);
        match self {
            Self::Balanced => update.balanced(),
            Self::Raw => Ok(update),
        }
    }
}

/// A subspace and the account of how it came about.
#[derive(Clone, Debug)]
pub struct Extraction {
    pub subspace: Subspace,
    pub report: ExtractReport,
}

/// Extracts the subspace that `adapters` share, per module and side: the principal components of
/// the stacked columns `[B₁ … B_T]` `[d_out, Σr]` and `[A₁ᵀ … A_Tᵀ]` `[d_in, Σr]`
/// (EigenLoRAx, arXiv 2502.04700, the column stack).
///
/// A module counts the adapters that have it. `progress` is told how many modules are done, out of
/// how many, from whichever thread finished one. The result is the same bit for bit on any number
/// of threads.
///
/// # Errors
/// Before anything is computed: if there is nothing to extract, if an option is out of range, if
/// the adapters name different base models, or if they disagree on the shape of a module. Then: if
/// a module can't be read, isn't finite, or has a DoRA magnitude.
pub fn extract<S: AdapterSource>(
    adapters: &[S],
    options: &ExtractOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Extraction, EigenloraxError> {
    options.components.check()?;
    let base_model = common_base_model(adapters, options.allow_base_mismatch)?;
    let stacks = stacks(adapters)?;
    if !options.allow_base_mismatch {
        require_common_modules(adapters)?;
    }

    let done = AtomicUsize::new(0);
    let extracted: Vec<ExtractedModule> = stacks
        .par_iter()
        .map(|(path, stack)| {
            let module = extract_module(adapters, path, stack, options)?;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, stacks.len());
            Ok(module)
        })
        .collect::<Result<_, EigenloraxError>>()?;

    let mut report = ExtractReport::of_adapters(
        adapters
            .par_iter()
            .map(AdapterReport::of)
            .collect::<Result<_, EigenloraxError>>()?,
    );
    let mut modules = BTreeMap::new();
    for (path, module) in stacks.into_keys().zip(extracted) {
        for adapter in module.without_effect {
            report.adapters[adapter].without_effect.push(path.clone());
        }
        for adapter in module.biased {
            report.adapters[adapter].biased.push(path.clone());
        }
        // Random columns alone would recycle nothing.
        let sides = [&module.subspace.left, &module.subspace.right];
        if sides.iter().any(|side| side.columns() == side.augmented) {
            report.left_out.push(path);
            continue;
        }
        report.add(path.clone(), module.report, &module.subspace);
        modules.insert(path, module.subspace);
    }
    if modules.is_empty() {
        return Err(EigenloraxError::NothingToExtract {
            adapters: adapters.len(),
        });
    }
    let subspace = Subspace {
        base_model,
        sources: report
            .adapters
            .iter()
            .map(|adapter| adapter.source.clone())
            .collect(),
        options: options.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        modules,
    };
    Ok(Extraction { subspace, report })
}

/// The base model that the adapters name; those that name none agree with any.
fn common_base_model<S: AdapterSource>(
    adapters: &[S],
    allow_mismatch: bool,
) -> Result<Option<String>, EigenloraxError> {
    let mut named = adapters
        .iter()
        .filter_map(|adapter| Some((adapter, adapter.base_model()?)));
    let Some((first, base_model)) = named.next() else {
        return Ok(None);
    };
    match named.find(|(_, other)| *other != base_model) {
        Some((second, other)) if !allow_mismatch => Err(EigenloraxError::BaseModels {
            first: first.location().to_owned(),
            first_base: base_model.to_owned(),
            second: second.location().to_owned(),
            second_base: other.to_owned(),
        }),
        _ => Ok(Some(base_model.to_owned())),
    }
}

/// Refuses adapters of which nothing shows that they are for the same model.
fn require_common_modules<S: AdapterSource>(adapters: &[S]) -> Result<(), EigenloraxError> {
    let Some([first, second]) = strangers(adapters)? else {
        return Ok(());
    };
    let example = |adapter: &S| {
        let mut shapes = adapter.shapes()?.into_iter();
        Ok::<_, EigenloraxError>(shapes.next().map(|(path, _)| path).unwrap_or_default())
    };
    Err(EigenloraxError::NothingInCommon {
        first: first.location().to_owned(),
        first_module: example(first)?,
        second: second.location().to_owned(),
        second_module: example(second)?,
    })
}

/// Which adapters have a module, and what they agree on.
pub(crate) struct Stack {
    shape: ModuleShape,
    /// Indices into the adapters, in their order.
    pub(crate) adapters: Vec<usize>,
    /// Σr: the sum of their ranks.
    columns: usize,
}

/// All modules of all adapters, with every shape checked before anything is computed.
pub(crate) fn stacks<S: AdapterSource>(
    adapters: &[S],
) -> Result<BTreeMap<String, Stack>, EigenloraxError> {
    let mut stacks: BTreeMap<String, Stack> = BTreeMap::new();
    for (index, adapter) in adapters.iter().enumerate() {
        for (path, shape) in adapter.shapes()? {
            let Some(stack) = stacks.get_mut(&path) else {
                let stack = Stack {
                    columns: shape.rank,
                    shape,
                    adapters: vec![index],
                };
                stacks.insert(path, stack);
                continue;
            };
            if [shape.d_out, shape.d_in] != [stack.shape.d_out, stack.shape.d_in] {
                return Err(EigenloraxError::UnequalShapes {
                    module: path,
                    first: adapters[stack.adapters[0]].location().to_owned(),
                    first_shape: [stack.shape.d_out, stack.shape.d_in],
                    second: adapter.location().to_owned(),
                    second_shape: [shape.d_out, shape.d_in],
                });
            }
            if shape.layer != stack.shape.layer {
                return Err(EigenloraxError::UnequalLayers {
                    module: path,
                    first: adapters[stack.adapters[0]].location().to_owned(),
                    first_layer: stack.shape.layer.clone(),
                    second: adapter.location().to_owned(),
                    second_layer: shape.layer,
                });
            }
            stack.adapters.push(index);
            stack.columns += shape.rank;
        }
    }
    if stacks.is_empty() {
        return Err(EigenloraxError::NothingToExtract {
            adapters: adapters.len(),
        });
    }
    Ok(stacks)
}

/// What one module gave.
struct ExtractedModule {
    subspace: ModuleSubspace,
    report: ModuleReport,
    /// Indices of the adapters whose update of this module is zero.
    without_effect: Vec<usize>,
    /// Indices of the adapters in which B has a bias.
    biased: Vec<usize>,
}

fn extract_module<S: AdapterSource>(
    adapters: &[S],
    path: &str,
    stack: &Stack,
    options: &ExtractOptions,
) -> Result<ExtractedModule, EigenloraxError> {
    let mut left = Columns::new(stack.shape.d_out, stack.columns);
    let mut right = Columns::new(stack.shape.d_in, stack.columns);
    let (mut without_effect, mut biased) = (Vec::new(), Vec::new());
    let failed = |source| EigenloraxError::Decomposition {
        module: path.to_owned(),
        source,
    };
    for &index in &stack.adapters {
        let module = adapters[index].module(path)?;
        check_module(&module, path, adapters[index].location())?;
        if module.has_no_effect() {
            without_effect.push(index);
        }
        if module.bias.is_some() {
            biased.push(index);
        }
        let factors = options.factors.of(&module).map_err(failed)?;
        left.push(factors.left.as_ref());
        right.push(factors.right.as_ref());
    }
    let basis = |columns: Columns, side| {
        let augmentation = Augmentation {
            columns: options.augment,
            seed: options.seed,
            module: path,
            side,
        };
        columns.into_basis(options.components, options.center, &augmentation)
    };
    let (left, right) = rayon::join(|| basis(left, "left"), || basis(right, "right"));
    let (left, right) = (left.map_err(failed)?, right.map_err(failed)?);
    let side_report = |side: &PrincipalBasis| {
        SideReport::of(&side.basis, options.components.asked(), side.available)
    };
    Ok(ExtractedModule {
        report: ModuleReport {
            adapters: stack.adapters.len(),
            columns: stack.columns,
            left: side_report(&left),
            right: side_report(&right),
        },
        subspace: ModuleSubspace {
            left: left.basis,
            right: right.basis,
        },
        without_effect,
        biased,
    })
}

/// Refuses what has no place in a low-rank update, or in a decomposition.
pub(crate) fn check_module(
    module: &LoraModule,
    path: &str,
    location: &str,
) -> Result<(), EigenloraxError> {
    if module.magnitude.is_some() {
        return Err(EigenloraxError::Magnitude {
            module: path.to_owned(),
            adapter: location.to_owned(),
        });
    }
    let mixer_is_finite = module.mixer.as_ref().is_none_or(|mixer| mixer.is_finite());
    if !(module.a.is_finite()
        && module.b.is_finite()
        && mixer_is_finite
        && module.scaling.is_finite())
    {
        return Err(EigenloraxError::NotFinite {
            module: path.to_owned(),
            adapter: location.to_owned(),
        });
    }
    Ok(())
}
