//! `inspect --html`: a page of charts.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::LoadedAdapter;
use eigenmix_charts::{Axis, Bar, BarGroup, Bars, Page, PageTable};
use eigenmix_eigenlorax::{ProjectOptions, Subspace, project};
use eigenmix_experiment::charts::{Comparison, Curves, SpectrumSummary, module_maps};
use eigenmix_experiment::{ExperimentError, OpenedAdapter, distinct_names, message};
use eigenmix_trainer::{Run, RunHistory, metrics_in};
use rayon::prelude::*;

use super::adapter::AdapterSummary;
use super::several::SeveralAdapters;

/// The modules of more adapters than this are not shown one adapter after the other.
const SHOWN: usize = 12;

/// An adapter: where it changes its base model most.
pub(super) fn adapter(summary: &AdapterSummary) -> Page {
    let mut page = Page::new(format!("Adapter {}", summary.location()));
    describe(&mut page, &summary.to_string());
    page.figures(norms("Size of the update by module", summary));
    page
}

/// Several adapters: what they have in common, and the sizes of their updates.
pub(super) fn several(adapters: &SeveralAdapters) -> Page {
    let count = adapters.adapters.len();
    let mut page = Page::new(format!("{count} adapters"));
    page.list(adapters.adapters.iter().map(AdapterSummary::location));
    page.heading("Similarity");
    page.paragraph(OVERLAP);
    page.list(adapters.comparison.note(count).as_deref());
    page.figures(adapters.comparison.charts());
    page.heading("Size of the updates");
    let names = &adapters.comparison.adapters;
    let totals = names.iter().zip(&adapters.adapters);
    let bars = totals.map(|(name, adapter)| (name.clone(), adapter.norm()));
    page.figures([bars_of("‖ΔW‖ over all modules", "‖ΔW‖", bars)]);
    let shown = names.iter().zip(&adapters.adapters).take(SHOWN);
    page.figures(shown.flat_map(|(name, adapter)| norms(name, adapter)));
    if count > SHOWN {
        page.paragraph(&format!(
            "By module, the first {SHOWN} of {count} are shown."
        ));
    }
    page
}

/// A subspace: what it carries of its sources, and how much these have in common.
pub(super) fn subspace(path: &Path, subspace: &Subspace) -> Page {
    let mut page = Page::new(format!("Subspace {}", path.display()));
    page.paragraph(&format!(
        "{} modules, extracted from {} adapters of {}. Shares refer to the variance of the stacked factors; left is the output side, right the input side. Bands span the modules.",
        subspace.modules.len(),
        subspace.sources.len(),
        subspace.base_model.as_deref().unwrap_or("an unnamed base model")
    ));
    page.figures(SpectrumSummary::of(&subspace.spectra()).charts());
    page.heading("Sources");
    page.list(
        subspace
            .sources
            .iter()
            .map(|source| source.location.as_str()),
    );
    match Comparison::of_sources(&subspace.sources) {
        Ok(comparison) => {
            page.paragraph(OVERLAP);
            page.list(comparison.note(subspace.sources.len()).as_deref());
            page.figures(comparison.charts());
        }
        Err(error) => page.paragraph(&format!("They are not compared: {}.", message(&error))),
    }
    page.heading("Reconstruction of the sources");
    match reconstruction(&mut page, subspace) {
        Ok(()) => {}
        Err(error) => page.paragraph(&format!("Not measured: {}.", message(error.as_ref()))),
    }
    page
}

/// A run: how it went, the subspace it trained in and what it changes.
pub(super) fn run(run: &RunHistory, words: &str) -> anyhow::Result<Page> {
    let mut page = Page::new(format!("Run {}", run.path.display()));
    // The first line names the run, as the title does.
    describe(
        &mut page,
        words.split_once('\n').map_or(words, |(_, rest)| rest),
    );
    page.table(&evaluations(run));
    let curves = Curves::read([run.path.as_path()])?;
    let charts = Curves::charts(&[("this run", &curves)]);
    if !charts.is_empty() {
        page.heading("Learning curves");
        page.figures(charts);
    }
    if let Some(record) = Run::at(&run.path).basis()? {
        page.heading("Subspace of this run");
        page.figures(SpectrumSummary::of(&record.modules).charts());
    }
    let adapter = Run::at(&run.path).adapter();
    if adapter.is_dir() {
        page.heading("Update of this run");
        let summary = AdapterSummary::read(&OpenedAdapter::open(&adapter.display().to_string())?)?;
        page.figures(norms("Size of the update by module", &summary));
    }
    Ok(page)
}

const OVERLAP: &str = "The cosine is that of the updates ΔW over all modules. The overlap of two subspaces is the share of the smaller one that lies in the larger one: 1 if one contains the other, 0 if they are orthogonal. Adapters whose A was drawn from one seed overlap on the right side by accident.";

/// The metrics of every split that was evaluated.
fn evaluations(run: &RunHistory) -> PageTable {
    let rows = run.evaluations.iter().flat_map(|(split, evaluations)| {
        let last = metrics_in(&evaluations.last).into_iter();
        last.map(move |(name, value)| {
            let best = evaluations.best.get(&name);
            let step = best.and_then(|best| best.step);
            vec![
                format!("{split} {name}"),
                format!("{value:.4}"),
                best.map_or_else(String::new, |best| format!("{:.4}", best.value)),
                step.map_or_else(String::new, |step| step.to_string()),
            ]
        })
    });
    let header = ["evaluation", "last", "best", "at step"];
    PageTable {
        header: header.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

/// The printed lines, except the table that is shown as a chart.
fn describe(page: &mut Page, words: &str) {
    let lines = words.lines().take_while(|line| !line.is_empty());
    page.list(lines.map(str::trim));
}

fn norms(caption: &str, summary: &AdapterSummary) -> Vec<eigenmix_charts::Figure> {
    module_maps(caption, "‖ΔW‖", &summary.norms(), None)
}

fn bars_of(
    caption: &str,
    axis: &str,
    bars: impl Iterator<Item = (String, f64)>,
) -> eigenmix_charts::Figure {
    let groups = bars.map(|(name, value)| BarGroup {
        name,
        bars: vec![Some(Bar::new(value))],
    });
    let bars = Bars {
        axis: Axis::linear(axis),
        series: Vec::new(),
        groups: groups.collect(),
    };
    bars.figure(caption)
}

/// ‖ΔW − ΔŴ‖ / ‖ΔW‖ of the sources, one by one and by module.
fn reconstruction(page: &mut Page, subspace: &Subspace) -> anyhow::Result<()> {
    let sources = subspace.sources.par_iter().take(Comparison::MOST);
    let opened: Vec<Result<OpenedAdapter, ExperimentError>> = sources
        .map(|source| OpenedAdapter::open(&source.location))
        .collect();
    let opened = opened.into_iter().collect::<Result<Vec<_>, _>>()?;
    let names = distinct_names(&opened)?;
    let options = ProjectOptions {
        allow_base_mismatch: true,
    };
    let mut overall = Vec::new();
    // Σ of the squares, and of how many.
    let mut by_module: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for (name, adapter) in names.into_iter().zip(&opened) {
        let projection = project(&LoadedAdapter::read(&adapter.file)?, subspace, &options)?;
        overall.push((name, projection.overall));
        for (path, error) in projection.modules {
            let (squares, count) = by_module.entry(path).or_default();
            *squares += error.powi(2);
            *count += 1.0;
        }
    }
    let by_module = by_module.into_iter();
    let by_module: BTreeMap<String, f64> = by_module
        .map(|(path, (squares, count))| (path, (squares / count).sqrt()))
        .collect();
    let axis = "‖ΔW − ΔŴ‖ / ‖ΔW‖";
    page.figures([bars_of(
        "Relative error of each source",
        axis,
        overall.into_iter(),
    )]);
    page.figures(module_maps(
        "Relative error by module, root mean square over the sources",
        axis,
        &by_module,
        None,
    ));
    Ok(())
}
