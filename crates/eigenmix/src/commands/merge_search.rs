//! `eigenmix merge --search`: the flags of a search as what is searched.

use eigenmix_adapter::Prompts;
use eigenmix_data::DataConfig;
use eigenmix_merging::{Coordinate, MergeOptions, Parameter, SearchGrid};
use eigenmix_trainer::DeviceChoice;

use crate::cli::{MergeArguments, SearchArguments};
use crate::failure::BadInput;
use crate::merge_search::SearchRequest;

/// The search that was asked for, if one was.
///
/// # Errors
/// If values are given for a parameter that the method doesn't have.
pub(super) fn request<'a>(
    arguments: &'a MergeArguments,
    options: &MergeOptions,
    device: DeviceChoice,
) -> Result<Option<SearchRequest<'a>>, BadInput> {
    let search = &arguments.search;
    let (true, Some(base)) = (search.search, &search.base) else {
        return Ok(None);
    };
    Ok(Some(SearchRequest {
        grid: grid(arguments, options)?,
        base,
        data: &search.data,
        columns: columns(search),
        prompts: prompts(search)?,
        search_rows: search.search_rows,
        batch_size: search.batch_size,
        allow_partial: arguments.allow_partial,
        device,
    }))
}

/// The default grid with the values that were given: a list by its flag, or one by the method's.
fn grid(arguments: &MergeArguments, options: &MergeOptions) -> Result<SearchGrid, BadInput> {
    let search = &arguments.search;
    let mut grid = SearchGrid::new(options.method);
    grid.patience = Some(search.patience.get());
    grid.rounds = search.rounds.get();
    let fixed = &arguments.parameters.0;
    let scales = search
        .scales
        .clone()
        .or(arguments.scale.map(|one| vec![one]));
    let scales = scales.map(|values| (Coordinate::Scale, "scales", values));
    let parameters = Parameter::ALL.into_iter().filter_map(|parameter| {
        let list = search.values.0.get(parameter).cloned();
        let values = list.or(fixed.get(parameter).map(|&one| vec![one]))?;
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

/// What `--prompt` says, if anything.
fn prompts(search: &SearchArguments) -> Result<Option<Prompts>, BadInput> {
    match search.prompts.is_empty() {
        true => Ok(None),
        false => Prompts::new(search.prompts.clone())
            .map(Some)
            .map_err(|error| BadInput(format!("--prompt: {error}"))),
    }
}

fn columns(search: &SearchArguments) -> DataConfig {
    DataConfig {
        text: search.text.clone(),
        text_pair: search.text_pair.clone(),
        label: search.label.clone(),
        ..DataConfig::new("")
    }
}
