//! The plan of a search: its request with every value filled in.

use std::num::NonZeroUsize;

use eigenmix_adapter::Prompts;
use eigenmix_data::DataConfig;
use eigenmix_merging::{Coordinate, MergeOptions, Parameter, SearchGrid};
use eigenmix_trainer::DeviceChoice;

use super::SearchRequest;
use super::request::DEFAULT_PATIENCE;
use crate::BadInput;
use crate::merge::MergeRequest;
use crate::option_names::OptionNames;

/// The values to search, and the data.
pub(crate) struct SearchPlan<'a> {
    pub grid: SearchGrid,
    /// The base model.
    pub base: &'a str,
    /// `[NAME=]DIR`, as they were given.
    pub data: &'a [String],
    /// The columns of the data.
    pub columns: DataConfig,
    /// Zero-shot prompts, instead of those of the adapters.
    pub prompts: Option<Prompts>,
    pub search_rows: Option<NonZeroUsize>,
    pub batch_size: NonZeroUsize,
    pub allow_partial: bool,
    /// How messages name the options of the request.
    pub names: OptionNames,
    pub device: DeviceChoice,
}

impl<'a> SearchPlan<'a> {
    /// The requested search, if any.
    ///
    /// # Errors
    /// If values are given for a parameter that the method doesn't have.
    pub(crate) fn of(
        request: &'a MergeRequest,
        options: &MergeOptions,
        device: DeviceChoice,
    ) -> Result<Option<Self>, BadInput> {
        let Some(search) = &request.search else {
            return Ok(None);
        };
        Ok(Some(Self {
            grid: grid(request, search, options)?,
            base: &search.base,
            data: &search.data,
            columns: columns(search),
            prompts: prompts(search, request.names)?,
            search_rows: search.search_rows,
            batch_size: search.batch_size,
            allow_partial: request.allow_partial,
            names: request.names,
            device,
        }))
    }
}

/// The default grid, with the given values: a list, or the single value that the merge sets.
///
/// # Errors
/// If values are given for a parameter that the method doesn't have, or a parameter has both a value
/// and values to search, or λ both its values and a patience beyond them.
pub(crate) fn grid(
    merge: &MergeRequest,
    search: &SearchRequest,
    options: &MergeOptions,
) -> Result<SearchGrid, BadInput> {
    let names = merge.names;
    let refusal = |problem: String| Err(BadInput(problem));
    if search.scales.is_some() && search.patience.is_some() {
        return refusal(format!(
            "{} is for values of λ beyond 1.0, and {} lists all of them; leave one of the two out",
            names.of("search.patience"),
            names.of("search.scales")
        ));
    }
    let mut grid = SearchGrid::new(options.method);
    grid.patience = Some(search.patience.unwrap_or(DEFAULT_PATIENCE).get());
    grid.rounds = search.rounds.get();
    let scale = Values {
        coordinate: Coordinate::Scale,
        single: ("scale", merge.scale),
        list: ("scales", search.scales.clone()),
    };
    let parameters = Parameter::ALL.into_iter().filter_map(|parameter| {
        let info = parameter.info();
        Some(Values {
            coordinate: Coordinate::Parameter(parameter),
            single: (info.name, merge.parameters.get(parameter).copied()),
            list: (
                info.search.as_ref()?.name,
                search.values.get(parameter).cloned(),
            ),
        })
    });
    for given in [scale].into_iter().chain(parameters) {
        let list = format!("search.{}", given.list.0);
        let mut values = match (given.single.1, given.list.1) {
            (None, None) => continue,
            (Some(value), None) => vec![value],
            (None, Some(values)) => values,
            (Some(_), Some(_)) => {
                return refusal(format!(
                    "{} sets the value and {} lists values to search; leave one of the two out",
                    names.of(given.single.0),
                    names.of(&list)
                ));
            }
        };
        if !Coordinate::of(options.method).contains(&given.coordinate) {
            let (method, name) = (options.method.name(), given.coordinate.name());
            return refusal(format!(
                "{}: method {method} has no {name}",
                names.of(&list)
            ));
        }
        values.sort_by(f64::total_cmp);
        values.dedup();
        grid = grid.with(given.coordinate, values);
    }
    Ok(grid)
}

/// What a request says about a coordinate, under its two keys.
struct Values {
    coordinate: Coordinate,
    /// The value that the merge sets.
    single: (&'static str, Option<f64>),
    /// The values to search.
    list: (&'static str, Option<Vec<f64>>),
}

/// The given prompts, if any.
fn prompts(search: &SearchRequest, names: OptionNames) -> Result<Option<Prompts>, BadInput> {
    match search.prompts.is_empty() {
        true => Ok(None),
        false => Prompts::new(search.prompts.clone())
            .map(Some)
            .map_err(|error| BadInput(format!("{}: {error}", names.of("search.prompts")))),
    }
}

fn columns(search: &SearchRequest) -> DataConfig {
    DataConfig {
        text: search.text.clone(),
        text_pair: search.text_pair.clone(),
        label: search.label.clone(),
        ..DataConfig::new("")
    }
}
