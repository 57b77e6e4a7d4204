//! How the series of a chart are distinguished: by colour, marker and dashes.

use crate::element::Element;

/// As many colours as can be distinguished; the style sheet has them as `--series-0` and on.
pub(crate) const COLOURS: usize = 8;

/// The dashes of lines in px; the first line is whole.
const DASHES: [&str; 5] = ["", "7 3", "2 3", "9 3 2 3", "4 2"];

/// The half size of a marker in px.
const HALF: f64 = 4.0;

/// The look of a series by its place among the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(pub(crate) usize);

impl Mark {
    /// The class that gives the colour.
    pub(crate) fn class(self) -> String {
        format!("series-{}", self.0 % COLOURS)
    }

    /// The dashes of a line, where it has any.
    pub(crate) fn dashes(self) -> Option<&'static str> {
        let dashes = DASHES[self.0 % DASHES.len()];
        (!dashes.is_empty()).then_some(dashes)
    }

    /// The marker around a point. After all colours are used, markers are shifted against them, so
    /// that no two of 64 series look the same.
    pub(crate) fn marker(self, [x, y]: [f64; 2]) -> Element {
        let class = format!("marker {}", self.class());
        let by = |offsets: &[[f64; 2]]| -> Vec<[f64; 2]> {
            let moved = offsets
                .iter()
                .map(|[dx, dy]| [x + HALF * dx, y + HALF * dy]);
            moved.collect()
        };
        let filled = |offsets: &[[f64; 2]]| Element::path(&class, &by(offsets));
        let shape = (self.0 + self.0 / COLOURS) % COLOURS;
        match shape {
            0 => Element::new("circle")
                .class(&class)
                .at("cx", x)
                .at("cy", y)
                .at("r", HALF),
            1 => Element::rectangle(&class, [x - 3.5, y - 3.5], [7.0, 7.0]),
            2 => filled(&[[0.0, -1.2], [1.1, 0.9], [-1.1, 0.9], [0.0, -1.2]]),
            3 => filled(&[
                [0.0, -1.3],
                [1.1, 0.0],
                [0.0, 1.3],
                [-1.1, 0.0],
                [0.0, -1.3],
            ]),
            4 => filled(&[[0.0, 1.2], [1.1, -0.9], [-1.1, -0.9], [0.0, 1.2]]),
            5 => {
                let class = format!("stroke {}", self.class());
                Element::group(&class)
                    .with(Element::path("", &by(&[[-1.0, -1.0], [1.0, 1.0]])))
                    .with(Element::path("", &by(&[[-1.0, 1.0], [1.0, -1.0]])))
            }
            6 => Element::new("circle")
                .class(&format!("stroke {}", self.class()))
                .at("cx", x)
                .at("cy", y)
                .at("r", HALF),
            _ => {
                let class = format!("stroke {}", self.class());
                Element::group(&class)
                    .with(Element::path("", &by(&[[-1.2, 0.0], [1.2, 0.0]])))
                    .with(Element::path("", &by(&[[0.0, -1.2], [0.0, 1.2]])))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn sixty_four_series_look_different_without_their_dashes() {
        let looks: BTreeSet<String> = (0..64)
            .map(|index| Mark(index).marker([0.0, 0.0]).render())
            .collect();
        assert_eq!(looks.len(), 64);
    }
}
