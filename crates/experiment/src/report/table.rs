//! The comparison of the arms as a table, for the terminal, Markdown and the page.

use std::collections::BTreeSet;
use std::fmt;

use super::{ArmReport, Report};
use crate::byte_count::ByteCount;
use crate::spread::Spread;
use crate::table::Table;

/// A header and the rows below it.
pub(super) struct Rows {
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Report {
    /// The metrics that any arm has, but for those of parts of the data, whose names have a slash.
    pub(super) fn metrics(&self) -> BTreeSet<&str> {
        let metrics = self.arms.iter().flat_map(|arm| arm.metrics.keys());
        let whole = metrics.filter(|metric| !metric.contains('/'));
        whole.map(String::as_str).collect()
    }

    /// One arm per row.
    pub(super) fn rows(&self) -> Rows {
        let metrics = self.metrics();
        // The number of seeds is shown only where it differs.
        let counts: BTreeSet<usize> = self.arms.iter().map(|arm| arm.seeds.len()).collect();
        let has_seeds = counts.len() > 1;
        let is_measured =
            |of: fn(&ArmReport) -> Option<Spread>| self.arms.iter().any(|arm| of(arm).is_some());
        let has_speed = is_measured(|arm| arm.examples_per_second);
        let has_memory = is_measured(|arm| arm.peak_memory);

        let mut header: Vec<String> = ["arm", "trained parameters", "head parameters", "size"]
            .map(str::to_owned)
            .to_vec();
        header.extend(metrics.iter().map(|metric| (*metric).to_owned()));
        header.push("seconds".to_owned());
        let optional = [
            (has_speed, "examples/s"),
            (has_memory, "peak memory"),
            (has_seeds, "seeds"),
        ];
        let names = optional.iter().filter(|(is_there, _)| *is_there);
        header.extend(names.map(|(_, name)| (*name).to_owned()));
        let row = |arm: &ArmReport| {
            let count = arm.seeds.len();
            let shown = |spread: Option<&Spread>, digits| {
                spread.map_or_else(String::new, |spread| {
                    mean_and_deviation(spread, count, digits)
                })
            };
            let number = |number: Option<usize>| {
                number.map_or_else(String::new, |number| number.to_string())
            };
            let mut row = vec![
                arm.name.clone(),
                number(arm.adapter_parameters),
                number(arm.head_parameters),
                arm.bytes
                    .map_or_else(String::new, |bytes| ByteCount(bytes).to_string()),
            ];
            row.extend(
                metrics
                    .iter()
                    .map(|metric| shown(arm.metrics.get(*metric), 4)),
            );
            row.push(shown(arm.seconds.as_ref(), 1));
            if has_speed {
                row.push(shown(arm.examples_per_second.as_ref(), 1));
            }
            if has_memory {
                let bytes = arm.peak_memory.map(|spread| ByteCount(spread.mean as u64));
                row.push(bytes.map_or_else(String::new, |bytes| bytes.to_string()));
            }
            if has_seeds {
                row.push(count.to_string());
            }
            row
        };
        Rows {
            header,
            rows: self.arms.iter().map(row).collect(),
        }
    }

    /// One line per cell without an outcome.
    pub(super) fn failures(&self) -> Vec<String> {
        let failures = self.arms.iter().flat_map(|arm| {
            let name = &arm.name;
            arm.failures
                .iter()
                .map(move |failure| format!("{name}, seed {}: {}", failure.seed, failure.problem))
        });
        failures.collect()
    }

    /// The comparison in Markdown.
    pub(super) fn markdown(&self) -> String {
        let Rows { header, rows } = self.rows();
        let cell = |cell: &String| cell.replace('|', "\\|").replace('\n', " ");
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(cell).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = format!("# {}\n\n", self.output);
        text += &line(&header);
        text += &format!("|---|{}\n", "---:|".repeat(header.len() - 1));
        rows.iter().for_each(|row| text += &line(row));
        let effects = self.recycling();
        if !effects.is_empty() {
            text += "\n## Whether recycling helped\n\n";
            for effect in effects {
                text += &format!("- {effect}\n");
            }
        }
        let failures = self.failures();
        if !failures.is_empty() {
            text += "\n## Not finished\n\n";
            for failure in failures {
                text += &format!("- {}\n", failure.replace('\n', " "));
            }
        }
        text
    }
}

fn mean_and_deviation(spread: &Spread, seeds: usize, digits: usize) -> String {
    match seeds {
        1 => format!("{:.digits$}", spread.mean),
        _ => format!("{:.digits$} ± {:.digits$}", spread.mean, spread.deviation),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rows { header, rows } = self.rows();
        let mut table = Table::with_header(header);
        rows.into_iter().for_each(|row| table.push(row));
        table.fmt(formatter)?;
        for effect in self.recycling() {
            write!(formatter, "\n{effect}")?;
        }
        for failure in self.failures() {
            write!(formatter, "\nnot finished: {failure}")?;
        }
        Ok(())
    }
}
