//! `eigenmix merge --search`: the flags of a search as what is searched.

use eigenmix_adapter::Prompts;
use eigenmix_data::DataConfig;
use eigenmix_merging::{Coordinate, MergeOptions, SearchGrid};
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
    let one = |value: Option<f64>| value.map(|value| vec![value]);
    let lists = [
        (
            Coordinate::Scale,
            "--scales",
            &search.scales,
            one(arguments.scale),
        ),
        (
            Coordinate::Density,
            "--densities",
            &search.densities,
            one(arguments.density),
        ),
        (
            Coordinate::Drop,
            "--drops",
            &search.drops,
            one(arguments.drop),
        ),
        (
            Coordinate::RankFraction,
            "--rank-fractions",
            &search.rank_fractions,
            one(arguments.rank_fraction),
        ),
    ];
    for (coordinate, flag, list, fixed) in lists {
        let Some(mut values) = list.clone().or(fixed) else {
            continue;
        };
        if !Coordinate::of(options.method).contains(&coordinate) {
            let method = options.method.name();
            let problem = format!("{flag}: method {method} has no {}", coordinate.name());
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
