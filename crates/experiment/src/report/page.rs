//! `report.html`: the comparison as tables and charts.

use std::collections::BTreeSet;

use eigenmix_charts::{
    Axis, Bar, BarGroup, Bars, Better, Figure, Page, PageTable, Scatter, ScatterPoint,
};
use eigenmix_data::metrics::lower_is_better;

use super::{ArmReport, Compared, Report};
use crate::charts::Curves;

/// The page of an experiment.
///
/// - compared: the recycled adapters against each other
pub(super) fn page(report: &Report, compared: &Compared) -> Page {
    let mut page = Page::new(report.output.as_str());
    let seeds: BTreeSet<u64> = report
        .arms
        .iter()
        .flat_map(|arm| &arm.seeds)
        .copied()
        .collect();
    page.paragraph(&format!(
        "{} {}, {} {}. Values are mean ± standard deviation over the seeds.",
        report.arms.len(),
        if report.arms.len() == 1 {
            "arm"
        } else {
            "arms"
        },
        seeds.len(),
        if seeds.len() == 1 { "seed" } else { "seeds" },
    ));
    let rows = report.rows();
    page.table(&PageTable {
        header: rows.header,
        rows: rows.rows,
    });
    if report.arms.iter().any(|arm| arm.peak_memory.is_some()) {
        page.paragraph(
            "Peak memory is the largest resident set of the whole process during a training, mapped files such as the base model included.",
        );
    }
    let effects: Vec<String> = report
        .recycling()
        .iter()
        .map(|effect| effect.to_string())
        .collect();
    if !effects.is_empty() {
        page.heading("Whether recycling helped");
        page.list(effects.iter().map(String::as_str));
    }
    let failures = report.failures();
    if !failures.is_empty() {
        page.heading("Not finished");
        page.list(failures.iter().map(String::as_str));
    }
    let metrics = metrics(report);
    if !metrics.is_empty() {
        page.heading("Results");
        page.figures(metrics);
    }
    super::samples::show(report, &mut page);
    let curves: Vec<(&str, &Curves)> = report
        .arms
        .iter()
        .map(|arm| (arm.name.as_str(), &arm.curves))
        .collect();
    let curves = Curves::charts(&curves);
    if !curves.is_empty() {
        page.heading("Learning curves");
        page.paragraph("Means over the seeds; the bands are ± one standard deviation.");
        page.figures(curves);
    }
    for (arms, subspace) in subspaces(report) {
        page.heading(&format!("Subspace of {}", arms.join(", ")));
        page.paragraph(&format!(
            "Extracted from {} adapters. Shares refer to the variance of the stacked factors; left is the output side, right the input side. Bands span the modules.",
            subspace.sources.len()
        ));
        page.figures(subspace.spectrum.charts());
    }
    for compared in &compared.sets {
        page.heading(&format!(
            "Recycled adapters of {}",
            compared.arms.join(", ")
        ));
        if let Some(note) = compared.comparison.note(compared.of) {
            page.paragraph(&note);
        }
        page.figures(compared.comparison.charts());
    }
    let notes = report.arms.iter().flat_map(|arm| &arm.notes);
    let notes: Vec<&str> = notes.chain(&compared.notes).map(String::as_str).collect();
    if !notes.is_empty() {
        page.heading("Not shown");
        page.list(notes);
    }
    page
}

/// Each metric as bars, and against the trained parameters.
fn metrics(report: &Report) -> Vec<Figure> {
    let mut charts = Vec::new();
    for metric in report.metrics() {
        let arms = report.arms.iter();
        let groups = arms.map(|arm| BarGroup {
            name: arm.name.clone(),
            bars: vec![arm.metrics.get(metric).map(|spread| Bar {
                value: spread.mean,
                deviation: spread.deviation,
            })],
        });
        let bars = Bars {
            axis: Axis::linear(metric),
            series: Vec::new(),
            groups: groups.collect(),
        };
        charts.push(bars.figure(&format!("{metric} of the arms")));
        let points = report.arms.iter().map(|arm| {
            let spread = arm.metrics.get(metric);
            let parameters = arm.adapter_parameters;
            // What is missing has no place in the chart.
            ScatterPoint {
                name: arm.name.clone(),
                x: parameters.map_or(f64::NAN, |count| count as f64),
                y: spread.map_or(f64::NAN, |spread| spread.mean),
                deviation: spread.map_or(0.0, |spread| spread.deviation),
            }
        });
        let scatter = Scatter {
            x: Axis::logarithmic("trained parameters, head excluded"),
            y: Axis::linear(metric),
            points: points.collect(),
            better: match lower_is_better(metric) {
                true => Better::Lower,
                false => Better::Higher,
            },
        };
        charts.push(scatter.figure(&format!("{metric} against trained parameters")));
    }
    charts
}

/// The subspaces with the arms that have them, each subspace once.
fn subspaces(report: &Report) -> Vec<(Vec<&str>, &super::ArmSubspace)> {
    let mut found: Vec<(Vec<&str>, &super::ArmSubspace)> = Vec::new();
    for ArmReport { name, subspace, .. } in &report.arms {
        let Some(subspace) = subspace else {
            continue;
        };
        match found.iter_mut().find(|(_, other)| *other == subspace) {
            Some((arms, _)) => arms.push(name),
            None => found.push((vec![name], subspace)),
        }
    }
    found
}
