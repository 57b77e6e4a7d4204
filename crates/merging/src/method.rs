//! Methods: how representations are combined.

use eigenmix_eigenlorax::decomposition::DecompositionError;
use faer::Mat;
use serde::{Deserialize, Serialize};

use crate::cart::Cart;
use crate::error::MergeError;
use crate::iso_cts::IsoCts;
use crate::linear::Linear;
use crate::names::by_name;
use crate::parameter::Parameter;
use crate::parameter_values::ParameterValues;
use crate::tsv::Tsv;

/// How the representations τ_t of T adapters, each times its weight, are combined.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Method {
    /// `Σ τ_t / T`.
    Average,
    /// `Σ τ_t`: task arithmetic (arXiv 2212.04089).
    Sum,
    /// The mean of those kept entries that agree with the elected sign (arXiv 2306.01708).
    Ties {
        /// The share of entries of each τ_t to keep, the largest by magnitude: (0, 1].
        density: f64,
    },
    /// Random entries dropped, the others divided by 1 − drop, summed (arXiv 2311.03099).
    Dare {
        /// The probability of dropping an entry: [0, 1).
        drop: f64,
    },
    /// DARE, then TIES instead of the sum.
    DareTies {
        /// The probability of dropping an entry: [0, 1).
        drop: f64,
        /// The share of the entries that TIES keeps, the dropped ones counted as zeros: (0, 1].
        density: f64,
    },
    /// The strongest singular triplets of each adapter, made orthonormal (arXiv 2412.00081).
    Tsv,
    /// The mean, plus the low-rank part of each adapter's deviation from it (arXiv 2412.12153).
    Cart {
        /// ρ: the share of singular values of each deviation to keep: (0, 1].
        rank_fraction: f64,
        /// λ_c: the factor on the sum of the deviations.
        coefficient: f64,
    },
    /// An isotropic spectrum over common and task-specific directions (arXiv 2502.04959).
    IsoCts {
        /// The share of directions that are common to the tasks: (0, 1].
        common_fraction: f64,
    },
    /// Small entries pruned, the rest scaled up for them, shared out over the tasks (arXiv
    /// 2502.17159).
    Robust {
        /// The share of entries of each τ_t to prune, the smallest by magnitude: [0, 1).
        prune: f64,
    },
}

/// A method without the values of its parameters: a name in files and flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodKind {
    Average,
    Sum,
    Ties,
    Dare,
    DareTies,
    Tsv,
    Cart,
    IsoCts,
    Robust,
}

by_name!(MethodKind, "method", "How updates become one.");

/// The description of a method.
#[derive(Debug)]
pub struct MethodInfo {
    /// Its name in files, flags and reports.
    pub name: &'static str,
    pub parameters: &'static [Parameter],
    /// Whether it resolves a conflict, which one adapter doesn't have.
    pub needs_two: bool,
    /// Whether it elects a sign, of a layer or of the model: it has a scope.
    pub elects: bool,
}

impl MethodKind {
    pub const ALL: [Self; 9] = [
        Self::Average,
        Self::Sum,
        Self::Ties,
        Self::Dare,
        Self::DareTies,
        Self::Tsv,
        Self::Cart,
        Self::IsoCts,
        Self::Robust,
    ];

    /// The table.
    pub const fn info(self) -> &'static MethodInfo {
        use Parameter::{Coefficient, CommonFraction, Density, Drop, Prune, RankFraction};
        /// A row: its name, whether it needs two adapters, whether it elects, its parameters.
        macro_rules! row {
            ($name:literal, $needs_two:literal, $elects:literal, $parameters:expr) => {
                &MethodInfo {
                    name: $name,
                    parameters: $parameters,
                    needs_two: $needs_two,
                    elects: $elects,
                }
            };
        }
        match self {
            Self::Average => row!("average", false, false, &[]),
            Self::Sum => row!("sum", false, false, &[]),
            Self::Ties => row!("ties", true, true, &[Density]),
            Self::Dare => row!("dare", false, false, &[Drop]),
            Self::DareTies => row!("dare-ties", true, true, &[Density, Drop]),
            Self::Tsv => row!("tsv", true, false, &[]),
            Self::Cart => row!("cart", true, false, &[RankFraction, Coefficient]),
            Self::IsoCts => row!("iso-cts", false, false, &[CommonFraction]),
            Self::Robust => row!("robust", false, false, &[Prune]),
        }
    }

    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The method with these values of its parameters, and the defaults of the others.
    ///
    /// # Errors
    /// If a parameter is given that it doesn't have.
    pub fn with(self, values: &ParameterValues) -> Result<Method, MergeError> {
        let foreign = values
            .iter()
            .find(|(parameter, _)| !self.info().parameters.contains(parameter));
        if let Some((parameter, _)) = foreign {
            return Err(MergeError::OptionOfOthers {
                option: parameter.info().name,
                owners: parameter.owners_in_words(),
            });
        }
        let value = |parameter: Parameter| {
            let given = values.get(parameter).copied();
            given.unwrap_or(parameter.info().default)
        };
        Ok(match self {
            Self::Average => Method::Average,
            Self::Sum => Method::Sum,
            Self::Ties => Method::Ties {
                density: value(Parameter::Density),
            },
            Self::Dare => Method::Dare {
                drop: value(Parameter::Drop),
            },
            Self::DareTies => Method::DareTies {
                drop: value(Parameter::Drop),
                density: value(Parameter::Density),
            },
            Self::Tsv => Method::Tsv,
            Self::Cart => Method::Cart {
                rank_fraction: value(Parameter::RankFraction),
                coefficient: value(Parameter::Coefficient),
            },
            Self::IsoCts => Method::IsoCts {
                common_fraction: value(Parameter::CommonFraction),
            },
            Self::Robust => Method::Robust {
                prune: value(Parameter::Prune),
            },
        })
    }
}

/// The part of the representations that a method needs.
pub(crate) enum Recipe {
    /// Whole matrices, in any orthonormal coordinates.
    Matrices(Box<dyn MatrixMethod>),
    /// Single entries.
    Entries(EntryMethod),
}

/// A method that depends on linear combinations and singular values only.
pub(crate) trait MatrixMethod: Sync {
    /// The merge of `tasks`, which are of one shape.
    ///
    /// `size` is the number of singular values of a representation, which is more than that of the
    /// matrices where these are coordinates of a low-rank one.
    ///
    /// # Errors
    /// If a decomposition doesn't converge, which finite values don't lead to.
    fn combine(&self, tasks: &[Mat<f64>], size: usize) -> Result<Mat<f64>, DecompositionError>;
}

/// A method that goes from entry to entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryMethod {
    /// DARE's probability; 0 drops nothing.
    pub(crate) drop: f64,
    pub(crate) combination: Combination,
}

/// How kept entries are combined.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Combination {
    Sum,
    /// The mean of those that agree with the elected sign.
    Election {
        /// TIES' density.
        density: f64,
    },
    /// Rows scaled up for what was pruned, and shared out.
    Complement {
        /// RobustMerge's share of pruned entries.
        prune: f64,
    },
}

impl Method {
    pub(crate) fn recipe(self) -> Recipe {
        match self {
            Self::Average => Recipe::Matrices(Box::new(Linear { divides: true })),
            // Dropping nothing leaves the sum, which needs no dense entries.
            Self::Sum | Self::Dare { drop: 0.0 } => {
                Recipe::Matrices(Box::new(Linear { divides: false }))
            }
            Self::Tsv => Recipe::Matrices(Box::new(Tsv)),
            Self::Cart {
                rank_fraction,
                coefficient,
            } => Recipe::Matrices(Box::new(Cart {
                rank_fraction,
                coefficient,
            })),
            Self::Ties { density } => Recipe::Entries(EntryMethod {
                drop: 0.0,
                combination: Combination::Election { density },
            }),
            Self::Dare { drop } => Recipe::Entries(EntryMethod {
                drop,
                combination: Combination::Sum,
            }),
            Self::DareTies { drop, density } => Recipe::Entries(EntryMethod {
                drop,
                combination: Combination::Election { density },
            }),
            Self::IsoCts { common_fraction } => {
                Recipe::Matrices(Box::new(IsoCts { common_fraction }))
            }
            Self::Robust { prune } => Recipe::Entries(EntryMethod {
                drop: 0.0,
                combination: Combination::Complement { prune },
            }),
        }
    }

    /// The method without the values of its parameters.
    pub fn kind(self) -> MethodKind {
        match self {
            Self::Average => MethodKind::Average,
            Self::Sum => MethodKind::Sum,
            Self::Ties { .. } => MethodKind::Ties,
            Self::Dare { .. } => MethodKind::Dare,
            Self::DareTies { .. } => MethodKind::DareTies,
            Self::Tsv => MethodKind::Tsv,
            Self::Cart { .. } => MethodKind::Cart,
            Self::IsoCts { .. } => MethodKind::IsoCts,
            Self::Robust { .. } => MethodKind::Robust,
        }
    }

    /// Its name in files, flags and reports.
    pub fn name(self) -> &'static str {
        self.kind().name()
    }

    /// Where it keeps a parameter, if it has it.
    fn slot(&mut self, parameter: Parameter) -> Option<&mut f64> {
        match (self, parameter) {
            (Self::Ties { density } | Self::DareTies { density, .. }, Parameter::Density) => {
                Some(density)
            }
            (Self::Dare { drop } | Self::DareTies { drop, .. }, Parameter::Drop) => Some(drop),
            (Self::Cart { rank_fraction, .. }, Parameter::RankFraction) => Some(rank_fraction),
            (Self::Cart { coefficient, .. }, Parameter::Coefficient) => Some(coefficient),
            (Self::IsoCts { common_fraction }, Parameter::CommonFraction) => Some(common_fraction),
            (Self::Robust { prune }, Parameter::Prune) => Some(prune),
            _ => None,
        }
    }

    /// The value of a parameter, if the method has it.
    pub fn get(mut self, parameter: Parameter) -> Option<f64> {
        self.slot(parameter).copied()
    }

    /// The same method with another value of a parameter; one that lacks it stays as it is.
    #[must_use]
    pub fn with(mut self, parameter: Parameter, value: f64) -> Self {
        if let Some(slot) = self.slot(parameter) {
            *slot = value;
        }
        self
    }

    /// Refuses parameters out of their range, and too few adapters.
    pub(crate) fn check(self, adapters: usize) -> Result<(), MergeError> {
        for &parameter in self.kind().info().parameters {
            match self.get(parameter) {
                Some(found) if !parameter.info().range.contains(found) => {
                    return Err(MergeError::OutOfRange { parameter, found });
                }
                _ => {}
            }
        }
        if adapters < 2 && self.kind().info().needs_two {
            return Err(MergeError::NeedsTwoAdapters {
                method: self.name(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Method> {
        let given = ParameterValues::default();
        let kinds = MethodKind::ALL.into_iter();
        kinds.map(move |kind| kind.with(&given).expect("defaults"))
    }

    #[test]
    fn a_method_has_exactly_the_parameters_of_the_table() {
        for method in all() {
            for parameter in Parameter::ALL {
                let has = method.kind().info().parameters.contains(&parameter);
                let changed = method.with(parameter, 0.125);
                assert_eq!(method.get(parameter).is_some(), has, "{method:?}");
                assert_eq!(changed.get(parameter), has.then_some(0.125), "{method:?}");
                assert_eq!(changed != method, has, "{method:?} {parameter:?}");
            }
        }
    }

    #[test]
    fn reports_call_a_method_and_its_parameters_as_files_do() {
        for method in all() {
            let json = serde_json::to_value(method).expect("JSON");
            let parameters = method.kind().info().parameters;
            if parameters.is_empty() {
                assert_eq!(json, method.name());
            }
            for &parameter in parameters {
                let value = &json[method.name()][parameter.info().name];
                assert_eq!(value.as_f64(), method.get(parameter), "{json}");
            }
            assert_eq!(
                serde_json::from_value::<Method>(json).expect("read"),
                method
            );
        }
    }

    #[test]
    fn defaults_are_in_range_and_only_conflicts_need_two() {
        for method in all() {
            method.check(2).expect("defaults in range");
            assert_eq!(method.check(1).is_err(), method.kind().info().needs_two);
        }
    }
}
