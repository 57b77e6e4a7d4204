//! The flags of the parameters of merging methods, made from the table of the library: one for each
//! parameter, and one for each list of values to search.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};
use eigenmix_merging::{Given, Parameter, ParameterValues, SearchValues};

/// `--density D` and its like.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ParameterFlags(pub(crate) ParameterValues);

/// `--densities D,…` and its like.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SearchFlags(pub(crate) SearchValues);

impl Args for ParameterFlags {
    fn augment_args(command: Command) -> Command {
        command.args(Parameter::ALL.map(|parameter| {
            let info = parameter.info();
            Arg::new(info.name)
                .long(info.flag)
                .value_name(info.symbol)
                .value_parser(value_parser!(f64))
                // A value out of range is refused by the method, which says what it expects.
                .allow_negative_numbers(true)
                .help(parameter.help())
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ParameterFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let all = Parameter::ALL.into_iter();
        let given = all.filter_map(|parameter| {
            let value = matches.get_one::<f64>(<f64 as Given>::name(parameter)?)?;
            Some((parameter, *value))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (parameter, &value) in Self::from_arg_matches(matches)?.0.iter() {
            self.0.insert(parameter, value);
        }
        Ok(())
    }
}

impl Args for SearchFlags {
    fn augment_args(command: Command) -> Command {
        let all = Parameter::ALL.into_iter();
        command.args(all.filter_map(|parameter| {
            let search = parameter.info().search.as_ref()?;
            let argument = Arg::new(search.name)
                .long(search.flag)
                .value_name(search.symbol)
                .value_parser(value_parser!(f64))
                .value_delimiter(',')
                .allow_hyphen_values(true)
                .requires("search")
                .conflicts_with(parameter.info().name);
            Some(argument.help(parameter.search_help()?))
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SearchFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let all = Parameter::ALL.into_iter();
        let given = all.filter_map(|parameter| {
            let values = matches.get_many::<f64>(<Vec<f64> as Given>::name(parameter)?)?;
            Some((parameter, values.copied().collect()))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (parameter, values) in Self::from_arg_matches(matches)?.0.iter() {
            self.0.insert(parameter, values.clone());
        }
        Ok(())
    }
}
