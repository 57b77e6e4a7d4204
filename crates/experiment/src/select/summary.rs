//! The result of a selection: as text and as JSON.

use std::fmt;
use std::time::Duration;

use eigenmix_eigenlorax::Share;
use eigenmix_trainer::{MeasuredLoss, Prospect, SelectedAdapter, Selection};
use serde::Serialize;

use crate::starter::quoted;
use crate::table::Table;

/// The result of a selection, for display and as JSON.
#[derive(Debug, Serialize)]
pub struct SelectSummary {
    /// The best first.
    pub adapters: Vec<AdapterSelection>,
    /// The locations of the chosen ones.
    pub chosen: Vec<String>,
    /// The adapters that cannot be recycled for this task.
    pub unused: Vec<UnusedAdapter>,
    pub gradient_examples: usize,
    /// How far the gradients of two halves of these examples agree.
    pub agreement: f64,
    pub loss_examples: usize,
    /// Of the base model alone.
    pub base: LossSummary,
    /// Under random updates with the singular values of the first adapter.
    pub random: LossSummary,
    /// The share of the gradient in the directions of the chosen adapters together.
    pub share: Share,
    pub prospect: Prospect,
    /// By how much the lowest loss of a chosen adapter is below that of random updates, and the standard
    /// error of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advantage: Option<[f64; 2]>,
    /// What to put into a training file; empty if none is chosen.
    pub training_file: String,
    pub seconds: f64,
    #[serde(skip)]
    best_loss: Option<usize>,
    #[serde(skip)]
    is_lower: bool,
    #[serde(skip)]
    most_aligned: Option<(usize, f64)>,
}

/// What was found of one adapter.
#[derive(Debug, Serialize)]
pub struct AdapterSelection {
    pub name: String,
    pub location: String,
    pub chosen: bool,
    /// Whether it has next to nothing that those above it do not have.
    pub redundant: bool,
    /// The share of the gradient in its directions.
    pub share: Share,
    /// ⟨−G, ΔW⟩ / (‖G‖ ‖ΔW‖).
    pub alignment: f64,
    /// The standard deviation of that for random updates.
    pub alignment_chance: f64,
    /// The alignment with what those above it leave of the gradient, times the weight of its loss.
    pub score: f64,
    /// The share of its update that is no combination of those above it.
    pub novelty: f64,
    /// The one above it that it is most like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Nearest>,
    /// With the adapter applied; only of the first ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<LossSummary>,
    /// ‖ΔW‖.
    pub norm: f64,
}

/// Another adapter, and the cosine of the updates.
#[derive(Debug, Serialize)]
pub struct Nearest {
    pub name: String,
    pub cosine: f64,
}

/// A loss, and the metric of the task where a head was fitted.
#[derive(Debug, Serialize)]
pub struct LossSummary {
    #[serde(with = "eigenmix_trainer::one_metric")]
    pub loss: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<MetricSummary>,
}

/// A metric by its name.
#[derive(Debug, Serialize)]
pub struct MetricSummary {
    pub name: String,
    #[serde(with = "eigenmix_trainer::one_metric")]
    pub value: f64,
}

/// An adapter that cannot be recycled, and why.
#[derive(Clone, Debug, Serialize)]
pub struct UnusedAdapter {
    pub location: String,
    pub reason: String,
}

impl LossSummary {
    fn new(measured: &MeasuredLoss) -> Self {
        let metric = measured.metric.as_ref();
        Self {
            loss: measured.mean(),
            metric: metric.map(|(name, value)| MetricSummary {
                name: name.clone(),
                value: *value,
            }),
        }
    }
}

impl fmt::Display for LossSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "loss {:.4}", self.loss)?;
        match &self.metric {
            Some(metric) => write!(formatter, ", {} {:.4}", metric.name, metric.value),
            None => Ok(()),
        }
    }
}

impl SelectSummary {
    /// - adapters: the name and the location of each adapter that was compared
    pub(super) fn new(
        found: &Selection,
        adapters: &[(String, String)],
        unused: Vec<UnusedAdapter>,
        time: Duration,
    ) -> Self {
        let one = |(place, adapter): (usize, &SelectedAdapter)| {
            let (name, location) = &adapters[adapter.index];
            AdapterSelection {
                name: name.clone(),
                location: location.clone(),
                chosen: place < found.chosen,
                redundant: found.is_redundant(place),
                share: adapter.alignment.share,
                alignment: adapter.alignment.cosine,
                alignment_chance: adapter.alignment.cosine_chance,
                score: adapter.rank.score,
                novelty: adapter.rank.novelty,
                nearest: adapter.rank.nearest.map(|(other, cosine)| Nearest {
                    name: adapters[other].0.clone(),
                    cosine,
                }),
                loss: adapter.loss.as_ref().map(LossSummary::new),
                norm: adapter.alignment.norm,
            }
        };
        let adapters: Vec<AdapterSelection> = found.adapters.iter().enumerate().map(one).collect();
        let chosen: Vec<String> = adapters[..found.chosen]
            .iter()
            .map(|adapter| adapter.location.clone())
            .collect();
        Self {
            training_file: lines(&chosen),
            adapters,
            chosen,
            unused,
            gradient_examples: found.gradient_examples,
            agreement: found.agreement,
            loss_examples: found.loss_examples,
            base: LossSummary::new(&found.base),
            random: LossSummary::new(&found.control),
            share: found.share,
            prospect: found.prospect(),
            advantage: found.advantage(),
            seconds: time.as_secs_f64(),
            best_loss: found.lowest_loss(),
            is_lower: found.is_lower(),
            most_aligned: found.most_aligned(),
        }
    }

    /// In a sentence or two, whether recycling will pay.
    pub fn estimate(&self) -> String {
        let Some((place, over)) = self.most_aligned else {
            return "Recycling will probably not pay: no adapter is aligned with the gradient of the task more \
                    than random updates are. A basis of the task's own gradient (adapter.gradient = true) \
                    needs no adapters."
                .to_owned();
        };
        let aligned = format!(
            "the alignment of `{}` with the task's gradient is {over:.0} times the standard deviation of that of \
             random updates",
            self.adapters[place].name
        );
        let loss = self.loss_words();
        let verdict = match self.prospect {
            Prospect::Good => format!("Recycling will probably pay: {aligned}, and {loss}."),
            Prospect::Mixed if self.is_lower => format!(
                "Recycling may pay: {loss}; but {aligned}, fewer than the {:.0} that tell it from chance.",
                Selection::ALIGNED
            ),
            Prospect::Mixed => format!("Recycling may pay: {aligned}, but {loss}."),
            Prospect::Poor => format!("Recycling will probably not pay: {aligned}, and {loss}."),
        };
        match self.agreement < NOISE {
            true => format!(
                "{verdict} The gradients of two halves of the examples hardly agree ({:.2}), so the order is \
                 uncertain.",
                self.agreement
            ),
            false => verdict,
        }
    }

    /// What the chosen adapters do for the loss.
    fn loss_words(&self) -> String {
        let (Some(place), Some([mean, error])) = (self.best_loss, self.advantage) else {
            return "no loss could be measured".to_owned();
        };
        let (best, distance) = (&self.adapters[place].name, mean.abs());
        match (mean > 0.0, self.is_lower) {
            (true, true) => format!(
                "applied as it is, `{best}` has a loss {distance:.3} ± {error:.3} below that of random updates of \
                 that size"
            ),
            (true, false) => format!(
                "none certainly lowers the loss as it is: `{best}`, by {distance:.3} ± {error:.3} against random \
                 updates of that size"
            ),
            (false, _) => format!(
                "none lowers the loss as it is: that of `{best}` is {distance:.3} ± {error:.3} above that of random \
                 updates of that size"
            ),
        }
    }

    /// What the pool holds of the gradient.
    pub(super) fn pool(&self) -> String {
        format!(
            "The directions of {} hold {:.2} % of the gradient, {:.1} times what as many \
             random ones hold.",
            counted(
                self.chosen.len(),
                "the chosen adapter",
                "chosen adapters together"
            ),
            100.0 * self.share.found,
            self.share.over_chance()
        )
    }

    pub(super) fn header(&self) -> Vec<String> {
        let metric = self.base.metric.as_ref().map(|metric| metric.name.clone());
        let names = [
            "adapter",
            "share of G",
            "× chance",
            "alignment",
            "× chance",
            "score",
            "new",
            "loss",
        ];
        let names = names.iter().map(|&name| name.to_owned());
        let note = [String::new()];
        names.chain(metric).chain(note).collect()
    }

    pub(super) fn row(&self, place: usize) -> Vec<String> {
        let adapter = &self.adapters[place];
        let missing = || "—".to_owned();
        let mark = if adapter.chosen { "*" } else { " " };
        let over_chance = match adapter.alignment_chance > 0.0 {
            true => format!("{:.1}", adapter.alignment / adapter.alignment_chance),
            false => missing(),
        };
        let mut row = vec![
            format!("{:>2} {mark} {}", place + 1, adapter.name),
            format!("{:.3} %", 100.0 * adapter.share.found),
            format!("{:.1}", adapter.share.over_chance()),
            format!("{:.4}", adapter.alignment),
            over_chance,
            format!("{:.4}", adapter.score),
            format!("{:.0} %", 100.0 * adapter.novelty),
        ];
        let loss = adapter.loss.as_ref();
        row.push(loss.map_or_else(missing, |loss| format!("{:.4}", loss.loss)));
        if self.base.metric.is_some() {
            let metric = loss.and_then(|loss| loss.metric.as_ref());
            row.push(metric.map_or_else(missing, |metric| format!("{:.4}", metric.value)));
        }
        row.push(note(adapter));
        row
    }
}

/// Gradients of two halves with a smaller cosine are mostly noise.
const NOISE: f64 = 0.1;

/// Two adapters with a cosine above this are copies of one another, up to rounding or a factor.
const COPY: f64 = 0.999;

fn note(adapter: &AdapterSelection) -> String {
    match &adapter.nearest {
        Some(nearest) if nearest.cosine.abs() > COPY => format!("a copy of {}", nearest.name),
        _ if adapter.redundant => "a combination of those above".to_owned(),
        Some(nearest) if nearest.cosine.abs() > LIKE => {
            format!("like {} ({:.2})", nearest.name, nearest.cosine)
        }
        _ => String::new(),
    }
}

/// A cosine above this is worth a note.
const LIKE: f64 = 0.5;

/// The lines for a training file.
fn lines(chosen: &[String]) -> String {
    if chosen.is_empty() {
        return String::new();
    }
    let names = chosen
        .iter()
        .map(|location| format!("    {},\n", quoted(location)));
    format!("[adapter]\nadapters = [\n{}]", names.collect::<String>())
}

/// One thing, or the number of many.
fn counted(count: usize, one: &str, many: &str) -> String {
    match count {
        1 => one.to_owned(),
        _ => format!("{count} {many}"),
    }
}

impl fmt::Display for UnusedAdapter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.location, self.reason)
    }
}

impl fmt::Display for SelectSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.header().len();
        let mut table = Table::with_header(self.header()).with_text_in([columns - 1]);
        for place in 0..self.adapters.len() {
            table.push(self.row(place));
        }
        write!(
            formatter,
            "{} compared in {:.1} s\n  gradient    over {} examples, of which two halves agree by {:.2}\n  base model  {} on {} examples\n  random      {}, updates of the size of the first adapter\n\n{table}\n",
            counted(self.adapters.len(), "1 adapter", "adapters"),
            self.seconds,
            self.gradient_examples,
            self.agreement,
            self.base,
            self.loss_examples,
            self.random,
        )?;
        for unused in &self.unused {
            write!(formatter, "\nnot used: {unused}")?;
        }
        if !self.unused.is_empty() {
            writeln!(formatter)?;
        }
        write!(formatter, "\n{}", self.estimate())?;
        if !self.chosen.is_empty() {
            write!(formatter, "\n{}\n\n{}", self.pool(), self.training_file)?;
        }
        Ok(())
    }
}
