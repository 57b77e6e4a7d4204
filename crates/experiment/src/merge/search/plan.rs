//! The plan of a search: its request with every value filled in.

use std::num::NonZeroUsize;

use eigenmix_adapter::Prompts;
use eigenmix_data::DataConfig;
use eigenmix_merging::{Coordinate, MergeOptions, Parameter, SearchGrid};
use eigenmix_trainer::DeviceChoice;

use super::SearchRequest;
use crate::BadInput;
use crate::merge::MergeRequest;

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
            prompts: prompts(search)?,
            search_rows: search.search_rows,
            batch_size: search.batch_size,
            allow_partial: request.allow_partial,
            device,
        }))
    }
}

/// The default grid, with the given values: a list, or the single value that the merge sets.
fn grid(
    merge: &MergeRequest,
    search: &SearchRequest,
    options: &MergeOptions,
) -> Result<SearchGrid, BadInput> {
    let mut grid = SearchGrid::new(options.method);
    grid.patience = Some(search.patience.get());
    grid.rounds = search.rounds.get();
    let scales = search.scales.clone().or(merge.scale.map(|one| vec![one]));
    let scales = scales.map(|values| (Coordinate::Scale, "scales", values));
    let parameters = Parameter::ALL.into_iter().filter_map(|parameter| {
        let list = search.values.get(parameter).cloned();
        let values = list.or(merge.parameters.get(parameter).map(|&one| vec![one]))?;
        let flag = parameter.info().search.as_ref()?.flag;
        Some((Coordinate::Parameter(parameter), flag, values))
    });
    for (coordinate, flag, mut values) in scales.into_iter().chain(parameters) {
        if !Coordinate::of(options.method).contains(&coordinate) {
            let method = options.method.name();
            let problem = format!("--{flag}: method {method} has no {}", coordinate.name());
            return Err(BadInput(problem));
        }
        values.sort_by(f64::total_cmp);
        values.dedup();
        grid = grid.with(coordinate, values);
    }
    Ok(grid)
}

/// The prompts of `--prompt`, if any.
fn prompts(search: &SearchRequest) -> Result<Option<Prompts>, BadInput> {
    match search.prompts.is_empty() {
        true => Ok(None),
        false => Prompts::new(search.prompts.clone())
            .map(Some)
            .map_err(|error| BadInput(format!("--prompt: {error}"))),
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
