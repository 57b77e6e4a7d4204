//! `select --html`: charts and the table on one page.

use eigenmix_charts::{Axis, Bar, BarGroup, Bars, Figure, Page, PageTable};

use super::summary::{LossSummary, SelectSummary, UnusedAdapter};

/// How many adapters the charts show.
const SHOWN: usize = 24;

impl SelectSummary {
    /// A page that opens offline.
    pub fn page(&self, title: &str) -> Page {
        let mut page = Page::new(title.to_owned());
        page.paragraph(&self.estimate());
        let is_chosen = !self.chosen.is_empty();
        if is_chosen {
            page.paragraph(&self.pool());
        }
        page.figures(self.charts());
        page.heading("All adapters");
        page.table(&PageTable {
            header: self.header(),
            rows: (0..self.adapters.len())
                .map(|place| self.row(place))
                .collect(),
        });
        if !self.unused.is_empty() {
            page.heading("Not used");
            let reasons = self.unused.iter().map(UnusedAdapter::to_string);
            let reasons: Vec<String> = reasons.collect();
            page.list(reasons.iter().map(String::as_str));
        }
        if is_chosen {
            page.heading("For the training file");
            page.list(self.training_file.lines());
        }
        page
    }

    /// The alignments and the losses of the first adapters.
    fn charts(&self) -> Vec<Figure> {
        let shown = || self.adapters.iter().take(SHOWN);
        let alignments = shown().map(|adapter| BarGroup {
            name: adapter.name.clone(),
            bars: vec![
                Some(Bar::new(adapter.alignment)),
                Some(Bar::new(adapter.score)),
            ],
        });
        let alignments = Bars {
            axis: Axis::linear("cosine with −G"),
            series: vec!["alignment".to_owned(), "score".to_owned()],
            groups: alignments.collect(),
        };
        let group = |name: &str, loss: &LossSummary| BarGroup {
            name: name.to_owned(),
            bars: vec![Some(Bar::new(loss.loss))],
        };
        let controls = [("base model", &self.base), ("random updates", &self.random)];
        let controls = controls.map(|(name, loss)| group(name, loss));
        let measured =
            shown().filter_map(|adapter| Some(group(&adapter.name, adapter.loss.as_ref()?)));
        let losses = Bars {
            axis: Axis::linear("loss"),
            series: Vec::new(),
            groups: controls.into_iter().chain(measured).collect(),
        };
        let caption = "Alignment with the gradient of the task, and the score: what those above leave of it, \
                       weighted by the loss";
        vec![
            alignments.figure(caption),
            losses.figure("Loss with the adapter applied, before any training"),
        ]
    }
}
