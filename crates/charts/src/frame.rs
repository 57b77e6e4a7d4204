//! The plot area of a chart with two axes: grid, ticks, titles and the legend below.

use crate::axis::Axis;
use crate::element::Element;
use crate::figure::{Figure, WIDTH};
use crate::legend::{Entry, legend};
use crate::number::short_number;
use crate::scale::Scale;
use crate::text::{SIZE, fitted, width};

/// The height of the plot area in px.
const HEIGHT: f64 = 220.0;

/// The room above it for the title of the vertical axis.
const TOP: f64 = 26.0;

/// The room right of it: half of the last tick's label.
const RIGHT: f64 = 18.0;

/// The room below it for ticks and the title of the horizontal axis.
const BOTTOM: f64 = 42.0;

/// The room that a tick label of the horizontal axis needs beside itself.
const TICK_GAP: f64 = 12.0;

/// Two scales and what is drawn around them.
pub(crate) struct PlotFrame {
    pub(crate) x: Scale,
    pub(crate) y: Scale,
    left: f64,
    drawing: Element,
}

impl PlotFrame {
    pub(crate) fn new(
        x_axis: &Axis,
        y_axis: &Axis,
        xs: impl IntoIterator<Item = f64>,
        ys: impl IntoIterator<Item = f64>,
    ) -> Self {
        let y = y_axis.scale(ys, [TOP + HEIGHT, TOP]);
        let y_ticks: Vec<(f64, String)> = labelled(&y, 6, y_axis.is_counted);
        let widest = y_ticks.iter().map(|(_, label)| width(label, SIZE));
        let left = widest.fold(20.0, f64::max) + 10.0;
        let right = WIDTH - RIGHT;
        let x = x_axis.scale(xs, [left, right]);

        let mut drawing = Element::group("frame");
        for (tick, label) in &y_ticks {
            let Some(height) = y.position(*tick) else {
                continue;
            };
            drawing.push(Element::line("grid", [left, height], [right, height]));
            drawing.push(Element::text(
                "label end",
                [left - 6.0, height + 4.0],
                label,
            ));
        }
        for (tick, label) in thinned(&x, right - left, x_axis.is_counted) {
            let Some(across) = x.position(tick) else {
                continue;
            };
            let bottom = TOP + HEIGHT;
            drawing.push(Element::line("grid", [across, TOP], [across, bottom]));
            let half = width(&label, SIZE) / 2.0;
            // The outermost labels stay inside the chart.
            let centre = across.min(WIDTH - half).max(half);
            drawing.push(Element::text(
                "label middle",
                [centre, bottom + 16.0],
                &label,
            ));
        }
        let title = |class: &str, position, title: &str, room: f64| {
            Element::text(class, position, &fitted(title, room, SIZE)).title(title)
        };
        drawing.push(title("axis", [2.0, 14.0], &y_axis.title, WIDTH - 4.0));
        let middle = (left + right) / 2.0;
        drawing.push(title(
            "axis middle",
            [middle, TOP + HEIGHT + 34.0],
            &x_axis.title,
            right - left,
        ));
        Self {
            x,
            y,
            left,
            drawing,
        }
    }

    /// The borders of the plot area: above and below, and right.
    pub(crate) fn borders(&self) -> ([f64; 2], f64) {
        ([TOP, TOP + HEIGHT], WIDTH - RIGHT)
    }

    /// Where a point lies in px, if it has a place.
    pub(crate) fn position(&self, x: f64, y: f64) -> Option<[f64; 2]> {
        Some([self.x.position(x)?, self.y.position(y)?])
    }

    pub(crate) fn push(&mut self, element: Element) {
        self.drawing.push(element);
    }

    /// The chart with its legend.
    pub(crate) fn finish(mut self, caption: &str, entries: &[Entry]) -> Figure {
        let top = TOP + HEIGHT + BOTTOM;
        let left = self.left.min(40.0);
        let (legend, height) = legend(entries, [left, top], WIDTH - left);
        self.drawing.push(legend);
        Figure::new(caption, [WIDTH, top + height + 4.0], self.drawing)
    }
}

/// Ticks with labels that all differ.
fn labelled(scale: &Scale, count: usize, is_counted: bool) -> Vec<(f64, String)> {
    let mut ticks: Vec<(f64, String)> = scale
        .ticks(count)
        .into_iter()
        .filter(|tick| !is_counted || (tick - tick.round()).abs() < 1e-9)
        .map(|tick| (tick, short_number(tick)))
        .collect();
    ticks.dedup_by(|next, last| next.1 == last.1);
    ticks
}

/// As many ticks as have room for their labels beside each other in `room` px.
fn thinned(scale: &Scale, room: f64, is_counted: bool) -> Vec<(f64, String)> {
    for count in (2..=8).rev() {
        let ticks = labelled(scale, count, is_counted);
        // Of halves and quarters too few are whole: rather fewer steps of another size.
        let is_even = !is_counted || ticks.len() == scale.ticks(count).len();
        if is_even && do_fit(scale, &ticks) {
            return ticks;
        }
    }
    let mut ticks = labelled(scale, 1, is_counted);
    let fitting = (room / 80.0).max(2.0) as usize;
    let every = ticks.len().div_ceil(fitting).max(1);
    let mut index = 0;
    ticks.retain(|_| {
        index += 1;
        (index - 1) % every == 0
    });
    ticks
}

/// Whether no label touches the next one.
fn do_fit(scale: &Scale, ticks: &[(f64, String)]) -> bool {
    ticks.windows(2).all(|pair| {
        let [(first, first_label), (second, second_label)] = pair else {
            return true;
        };
        let halves = (width(first_label, SIZE) + width(second_label, SIZE)) / 2.0;
        match (scale.position(*first), scale.position(*second)) {
            (Some(first), Some(second)) => second - first >= halves + TICK_GAP,
            _ => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_thin_out_until_their_labels_have_room() {
        for (values, room) in [([0.0, 123_456_789.0], 120.0), ([1e-7, 3e-7], 200.0)] {
            let scale = Scale::over(values, false, [0.0, room]);
            let ticks = thinned(&scale, room, false);
            assert!(ticks.len() >= 2 && do_fit(&scale, &ticks), "{ticks:?}");
        }
        let wide = Scale::over([0.0, 100.0], false, [0.0, 420.0]);
        let wide = thinned(&wide, 420.0, false);
        assert!(wide.len() >= 5, "{wide:?}");
    }

    #[test]
    fn counted_things_have_whole_ticks() {
        for last in [1.0, 2.0, 3.0, 16.0, 20.0, 256.0] {
            let scale = Scale::over([1.0, last], false, [0.0, 400.0]);
            let ticks = thinned(&scale, 400.0, true);
            let are_whole = ticks.iter().all(|(tick, _)| tick.fract() == 0.0);
            assert!(!ticks.is_empty() && are_whole, "{last}: {ticks:?}");
        }
    }
}
