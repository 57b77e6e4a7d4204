//! A merge as files and flags describe it, and the options that result.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::MergeError;
use crate::knots_space::KnotsRows;
use crate::method::MethodKind;
use crate::names::in_words;
use crate::options::{MergeOptions, Scope};
use crate::parameter_values::ParameterValues;
use crate::space::Space;

/// A merge as a file or a command line describes it: what is left out has the defaults of its
/// method and space.
///
/// ```
/// use eigenmix_merging::{RequestedOptions, Method};
///
/// let request = r#"{"space": "core", "method": "dare-ties", "drop": 0.9}"#;
/// let request: RequestedOptions = serde_json::from_str(request)?;
/// let options = request.options()?;
/// assert_eq!(options.method, Method::DareTies { drop: 0.9, density: 0.2 });
///
/// let request = r#"{"space": "core", "method": "sum", "density": 0.3}"#;
/// let request: RequestedOptions = serde_json::from_str(request)?;
/// let refused = request.options().unwrap_err();
/// assert_eq!(refused.to_string(), "density is for ties and dare-ties only");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestedOptions {
    pub space: Space,
    pub method: MethodKind,
    /// The method's parameters, by name.
    #[serde(flatten)]
    pub parameters: ParameterValues,
    /// This and the fields below: as in [`MergeOptions`].
    #[serde(default)]
    pub isotropize: bool,
    #[serde(default)]
    pub scale: Option<f64>,
    #[serde(default)]
    pub weights: Option<Vec<f64>>,
    /// Of methods that elect a sign.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// Of the KnOTS space: [`KnotsRows::Unscaled`].
    #[serde(default)]
    pub unscaled_rows: bool,
    #[serde(default)]
    pub compress: Option<NonZeroUsize>,
    #[serde(default)]
    pub rank: Option<NonZeroUsize>,
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub allow_base_mismatch: bool,
}

impl RequestedOptions {
    /// `method` in `space` with every default.
    pub fn new(space: Space, method: MethodKind) -> Self {
        Self {
            space,
            method,
            parameters: ParameterValues::default(),
            isotropize: false,
            scale: None,
            weights: None,
            scope: None,
            unscaled_rows: false,
            compress: None,
            rank: None,
            seed: 0,
            allow_base_mismatch: false,
        }
    }

    /// The resulting options. Ranges are checked when they are used, as they depend on the
    /// adapters.
    ///
    /// # Errors
    /// [`MergeError::OptionOfOthers`] if an option is given that the method or the space doesn't
    /// have.
    pub fn options(&self) -> Result<MergeOptions, MergeError> {
        if self.scope.is_some() && !self.method.info().elects {
            let mut electing = MethodKind::ALL.to_vec();
            electing.retain(|method| method.info().elects);
            let electing: Vec<&str> = electing.into_iter().map(MethodKind::name).collect();
            return Err(MergeError::OptionOfOthers {
                option: "scope",
                owners: in_words(&electing, "and"),
            });
        }
        if self.unscaled_rows && self.space != Space::Knots {
            return Err(MergeError::OptionOfOthers {
                option: "unscaled_rows",
                owners: "the knots space".to_owned(),
            });
        }
        let method = self.method.with(&self.parameters)?;
        let defaults = MergeOptions::new(self.space, method);
        Ok(MergeOptions {
            isotropize: self.isotropize,
            scale: self.scale.unwrap_or(defaults.scale),
            weights: self.weights.clone(),
            scope: self.scope.unwrap_or(defaults.scope),
            knots_rows: match self.unscaled_rows {
                true => KnotsRows::Unscaled,
                false => KnotsRows::ScaledBySigma,
            },
            compress: self.compress.map(NonZeroUsize::get),
            rank: self.rank.map(NonZeroUsize::get),
            seed: self.seed,
            allow_base_mismatch: self.allow_base_mismatch,
            ..defaults
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Method, Parameter};

    #[test]
    fn what_is_left_out_has_the_defaults_of_the_method_and_the_space() {
        for kind in MethodKind::ALL {
            for space in Space::ALL {
                let options = RequestedOptions::new(space, kind)
                    .options()
                    .expect("options");
                assert_eq!(options, MergeOptions::new(space, options.method));
                assert_eq!(options.method.kind(), kind);
            }
        }
        let cart = RequestedOptions::new(Space::Full, MethodKind::Cart);
        let expected = Method::Cart {
            rank_fraction: 0.16,
            coefficient: 1.0,
        };
        assert_eq!(cart.options().expect("options").method, expected);
    }

    #[test]
    fn a_parameter_of_another_method_is_refused_with_the_methods_that_have_it() {
        for kind in MethodKind::ALL {
            for parameter in Parameter::ALL {
                let mut request = RequestedOptions::new(Space::Core, kind);
                request.parameters.insert(parameter, 0.25);
                let belongs = parameter.methods().contains(&kind);
                match request.options() {
                    Ok(options) => {
                        assert!(belongs, "{kind} {parameter:?}");
                        assert_eq!(options.method.get(parameter), Some(0.25));
                    }
                    Err(error) => {
                        assert!(!belongs, "{kind} {parameter:?}");
                        let message = error.to_string();
                        assert!(message.starts_with(parameter.info().name), "{message}");
                        assert!(message.contains(parameter.methods()[0].name()), "{message}");
                    }
                }
            }
        }
    }

    #[test]
    fn options_of_other_methods_and_spaces_are_refused() {
        let mut request = RequestedOptions::new(Space::Core, MethodKind::Tsv);
        request.scope = Some(Scope::Model);
        let message = request.options().expect_err("a refusal").to_string();
        assert_eq!(message, "scope is for ties and dare-ties only");
        request.scope = None;
        request.unscaled_rows = true;
        let message = request.options().expect_err("a refusal").to_string();
        assert_eq!(message, "unscaled_rows is for the knots space only");
        request.space = Space::Knots;
        let options = request.options().expect("options");
        assert_eq!(options.knots_rows, KnotsRows::Unscaled);
    }
}
