//! The parameters of methods: one table for the methods, for files and flags, and for the search.

use crate::method::MethodKind;
use crate::names::in_words;

/// A parameter of some methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parameter {
    Density,
    Drop,
    RankFraction,
    Coefficient,
    CommonFraction,
    Prune,
}

/// The description of a parameter.
#[derive(Debug)]
pub struct ParameterInfo {
    /// Its name in files: `rank_fraction`.
    pub name: &'static str,
    /// Its flag, without the hyphens in front: `rank-fraction`.
    pub flag: &'static str,
    /// The placeholder for its value in the help.
    pub symbol: &'static str,
    pub description: &'static str,
    pub default: f64,
    pub range: Range,
    /// Advice on choosing a value.
    pub advice: &'static str,
    /// The values that a search tries; `None` if it is not searched.
    pub search: Option<SearchInfo>,
}

/// The description of the search of a parameter.
#[derive(Debug)]
pub struct SearchInfo {
    /// The name of a list of its values in files.
    pub name: &'static str,
    /// The flag of a list of its values.
    pub flag: &'static str,
    /// The placeholder for such a list in the help.
    pub symbol: &'static str,
    pub description: &'static str,
    /// The default values to try, in ascending order.
    pub values: &'static [f64],
    /// The same as text.
    pub values_in_words: &'static str,
}

/// Which values a parameter can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// (0, 1].
    AboveZeroUpToOne,
    /// [0, 1).
    ZeroUpToBelowOne,
    Finite,
}

impl Range {
    pub fn contains(self, value: f64) -> bool {
        match self {
            Self::AboveZeroUpToOne => value > 0.0 && value <= 1.0,
            Self::ZeroUpToBelowOne => (0.0..1.0).contains(&value),
            Self::Finite => value.is_finite(),
        }
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::AboveZeroUpToOne => "above 0 and at most 1",
            Self::ZeroUpToBelowOne => "at least 0 and below 1",
            Self::Finite => "a finite number",
        })
    }
}

impl Parameter {
    /// In the order in which they are searched.
    pub const ALL: [Self; 6] = [
        Self::Density,
        Self::Drop,
        Self::RankFraction,
        Self::Coefficient,
        Self::CommonFraction,
        Self::Prune,
    ];

    /// The table.
    pub const fn info(self) -> &'static ParameterInfo {
        match self {
            Self::Density => &ParameterInfo {
                name: "density",
                flag: "density",
                symbol: "D",
                description: "the share of entries to keep, above 0 and at most 1",
                default: 0.2,
                range: Range::AboveZeroUpToOne,
                advice: "0.2 keeps the largest 20 %",
                search: Some(SearchInfo {
                    name: "densities",
                    flag: "densities",
                    symbol: "D,…",
                    description: "the densities to try",
                    values: &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
                    values_in_words: "0.1 to 1.0 in steps of 0.1",
                }),
            },
            Self::Drop => &ParameterInfo {
                name: "drop",
                flag: "drop",
                symbol: "P",
                description: "the probability of dropping an entry",
                default: 0.5,
                range: Range::ZeroUpToBelowOne,
                advice: "0.9 drops nine entries in ten",
                search: Some(SearchInfo {
                    name: "drops",
                    flag: "drops",
                    symbol: "P,…",
                    description: "the probabilities to try",
                    values: &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99],
                    values_in_words: "0.1 to 0.9 in steps of 0.1, and 0.99",
                }),
            },
            Self::RankFraction => &ParameterInfo {
                name: "rank_fraction",
                flag: "rank-fraction",
                symbol: "RHO",
                description: "the share of singular values to keep",
                default: 0.16,
                range: Range::AboveZeroUpToOne,
                advice: "the paper tries 0.04, 0.08, 0.16 and 0.32",
                search: Some(SearchInfo {
                    name: "rank_fractions",
                    flag: "rank-fractions",
                    symbol: "RHO,…",
                    description: "the rank fractions to try",
                    values: &[0.04, 0.08, 0.16, 0.32],
                    values_in_words: "0.04, 0.08, 0.16, 0.32",
                }),
            },
            Self::Coefficient => &ParameterInfo {
                name: "coefficient",
                flag: "coefficient",
                symbol: "C",
                description: "the factor on the deviations from the mean",
                default: 1.0,
                range: Range::Finite,
                advice: "1 adds them as they are",
                search: None,
            },
            Self::CommonFraction => &ParameterInfo {
                name: "common_fraction",
                flag: "common-fraction",
                symbol: "K",
                description: "the share of directions that are common to the tasks",
                default: 0.8,
                range: Range::AboveZeroUpToOne,
                advice: "the paper has 0.8; 1 leaves none to the tasks",
                search: Some(SearchInfo {
                    name: "common_fractions",
                    flag: "common-fractions",
                    symbol: "K,…",
                    description: "the shares of common directions to try",
                    values: &[0.2, 0.4, 0.6, 0.8, 1.0],
                    values_in_words: "0.2 to 1.0 in steps of 0.2",
                }),
            },
            Self::Prune => &ParameterInfo {
                name: "prune",
                flag: "prune",
                symbol: "P",
                description: "the share of entries to prune, the smallest by magnitude",
                default: 0.2,
                range: Range::ZeroUpToBelowOne,
                advice: "0.2 prunes the smallest 20 %",
                search: Some(SearchInfo {
                    name: "prunes",
                    flag: "prunes",
                    symbol: "P,…",
                    description: "the shares to prune to try",
                    values: &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
                    values_in_words: "0 to 0.9 in steps of 0.1",
                }),
            },
        }
    }

    /// Its name in sentences.
    pub fn words(self) -> String {
        self.info().name.replace('_', " ")
    }

    /// The methods that have it.
    pub fn methods(self) -> Vec<MethodKind> {
        let mut methods = MethodKind::ALL.to_vec();
        methods.retain(|method| method.info().parameters.contains(&self));
        methods
    }

    /// Its help: `ties, dare-ties: the share … [default: 0.2]`.
    pub fn help(self) -> String {
        let info = self.info();
        format!(
            "{}: {} [default: {}]",
            self.owners(),
            info.description,
            info.default
        )
    }

    /// The help of the list of its values to search, if it is searched.
    pub fn search_help(self) -> Option<String> {
        let search = self.info().search.as_ref()?;
        Some(format!(
            "{}: {} [default: {}]",
            self.owners(),
            search.description,
            search.values_in_words
        ))
    }

    fn owners(self) -> String {
        let names: Vec<&str> = self.methods().into_iter().map(MethodKind::name).collect();
        names.join(", ")
    }

    /// `ties and dare-ties`: the methods that have it.
    pub(crate) fn owners_in_words(self) -> String {
        let names: Vec<&str> = self.methods().into_iter().map(MethodKind::name).collect();
        in_words(&names, "and")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_searched_values_are_in_range_and_ascend() {
        for parameter in Parameter::ALL {
            let info = parameter.info();
            assert!(info.range.contains(info.default), "{parameter:?}");
            let values = info.search.as_ref().map_or(&[][..], |search| search.values);
            assert!(values.iter().all(|&value| info.range.contains(value)));
            assert!(values.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn a_flag_is_the_name_with_hyphens() {
        for parameter in Parameter::ALL {
            let info = parameter.info();
            assert_eq!(info.flag, info.name.replace('_', "-"));
            if let Some(search) = &info.search {
                assert_eq!(search.flag, search.name.replace('_', "-"));
                assert_eq!(search.symbol, format!("{},…", info.symbol));
            }
        }
    }

    #[test]
    fn every_parameter_belongs_to_a_method_and_no_two_share_a_name() {
        let mut names: Vec<&str> = Parameter::ALL
            .into_iter()
            .map(|parameter| parameter.info())
            .flat_map(|info| [Some(info.name), info.search.as_ref().map(|it| it.name)])
            .flatten()
            .collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for parameter in Parameter::ALL {
            assert!(!parameter.methods().is_empty(), "{parameter:?}");
        }
    }

    #[test]
    fn the_help_says_whose_it_is_and_its_default() {
        assert_eq!(
            Parameter::Density.help(),
            "ties, dare-ties: the share of entries to keep, above 0 and at most 1 [default: 0.2]"
        );
        assert_eq!(
            Parameter::Drop.search_help().as_deref(),
            Some(
                "dare, dare-ties: the probabilities to try [default: 0.1 to 0.9 in steps of 0.1, and 0.99]"
            )
        );
        assert_eq!(Parameter::Coefficient.search_help(), None);
    }

    #[test]
    fn a_range_ends_where_it_says() {
        let inside = |range: Range, values: &[f64]| -> Vec<bool> {
            values.iter().map(|&value| range.contains(value)).collect()
        };
        let values = [0.0, 0.5, 1.0, f64::NAN, f64::INFINITY];
        assert_eq!(
            inside(Range::AboveZeroUpToOne, &values),
            [false, true, true, false, false]
        );
        assert_eq!(
            inside(Range::ZeroUpToBelowOne, &values),
            [true, true, false, false, false]
        );
        assert_eq!(
            inside(Range::Finite, &values),
            [true, true, true, false, false]
        );
    }
}
