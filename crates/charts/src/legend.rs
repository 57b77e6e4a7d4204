//! The legend: marks and names of the series, in rows below a chart.

use crate::element::Element;
use crate::mark::Mark;
use crate::text::{SIZE, fitted, width};

/// The height of a row in px.
const ROW: f64 = 18.0;

/// The mark with a piece of its line, and the room around it, in px.
const MARK: f64 = 34.0;

/// The room behind a name in px.
const GAP: f64 = 14.0;

/// An entry of a legend.
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) sign: Sign,
}

/// What is shown in front of the name.
pub(crate) enum Sign {
    /// A marker on a piece of its line.
    Line(Mark),
    Marker(Mark),
    /// A line without a series.
    Front,
}

/// Entries laid out in `room` px; the drawing begins at `[left, top]`. Returns it and its height.
pub(crate) fn legend(entries: &[Entry], [left, top]: [f64; 2], room: f64) -> (Element, f64) {
    let mut group = Element::group("legend");
    let (mut x, mut row) = (0.0, 0.0);
    for Entry { name, sign } in entries {
        let label = fitted(name, room - MARK, SIZE);
        let needed = MARK + width(&label, SIZE);
        if x > 0.0 && x + needed > room {
            x = 0.0;
            row += 1.0;
        }
        let middle = top + row * ROW + ROW / 2.0;
        let (from, to) = ([left + x, middle], [left + x + 24.0, middle]);
        let centre = [left + x + 12.0, middle];
        let mut entry = Element::new("g").title(name);
        match sign {
            Sign::Line(mark) => {
                entry.push(stroke(*mark, &[from, to]));
                entry.push(mark.marker(centre));
            }
            Sign::Marker(mark) => entry.push(mark.marker(centre)),
            Sign::Front => entry.push(Element::line("front", from, to)),
        }
        entry.push(Element::text(
            "label",
            [left + x + 29.0, middle + 4.0],
            &label,
        ));
        group.push(entry);
        x += needed + GAP;
    }
    let rows = if entries.is_empty() { 0.0 } else { row + 1.0 };
    (group, rows * ROW)
}

/// The line of a series.
pub(crate) fn stroke(mark: Mark, points: &[[f64; 2]]) -> Element {
    let line = Element::path(&format!("stroke {}", mark.class()), points);
    match mark.dashes() {
        Some(dashes) => line.attribute("stroke-dasharray", dashes),
        None => line,
    }
}
