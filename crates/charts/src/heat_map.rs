//! A heat map: one value per module, or per pair of adapters.

use crate::colour_scale::Colour;
use crate::element::Element;
use crate::figure::{Figure, WIDTH};
use crate::number::{rounded, short_number};
use crate::scale::Scale;
use crate::text::{SIZE, fitted, width};

/// The most that the names of rows, and upright names of columns, take.
const ROW_NAMES: f64 = 150.0;
const COLUMN_NAMES: f64 = 90.0;

/// The height of a line of text in px: names closer than this would touch.
const LINE: f64 = 15.0;

/// The size of the values in the cells in px.
const VALUE: f64 = 10.0;

/// The steps of the strip that explains the colours.
const STEPS: usize = 40;

/// Rows × columns of values.
#[derive(Clone, Debug)]
pub struct HeatMap {
    /// What the values are.
    pub title: String,
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    /// What the columns are, where their names don't say it, such as `layer`.
    pub column_title: String,
    /// By row and column; `None` where there is no value.
    pub values: Vec<Vec<Option<f64>>>,
    /// The values of the first and the last colour; by default the smallest and the largest there
    /// are.
    pub range: Option<[f64; 2]>,
    /// Whether rows and columns are the same things, so that the diagonal is known and gets no
    /// colour.
    pub has_trivial_diagonal: bool,
}

/// Where the cells lie.
struct Layout {
    left: f64,
    top: f64,
    cell: [f64; 2],
    /// Whether the names of the columns stand upright.
    is_upright: bool,
    /// With how many decimals the values are written, if they have room in their cells.
    decimals: Option<usize>,
}

impl HeatMap {
    pub fn figure(&self, caption: &str) -> Figure {
        if self.rows.is_empty() || self.columns.is_empty() {
            return Figure::empty(caption);
        }
        let colours = self.colours();
        let layout = self.layout();
        let mut drawing = Element::group("heat");
        let title = fitted(&self.title, WIDTH, SIZE);
        drawing.push(Element::text("axis", [2.0, 14.0], &title).title(&self.title));
        for (row, name) in self.rows.iter().enumerate() {
            let middle = layout.top + layout.cell[1] * (row as f64 + 0.5);
            let label = fitted(name, ROW_NAMES, SIZE);
            let place = [layout.left - 6.0, middle + 4.0];
            drawing.push(Element::text("label end", place, &label).title(name));
            for (column, _) in self.columns.iter().enumerate() {
                drawing.push(self.cell(&layout, &colours, row, column));
            }
        }
        let right = layout.left + layout.cell[0] * self.columns.len() as f64;
        let bottom = layout.top + layout.cell[1] * self.rows.len() as f64;
        let mut below = bottom + self.column_names(&layout, bottom, &mut drawing);
        if !self.column_title.is_empty() {
            let middle = [(layout.left + right) / 2.0, below + 14.0];
            drawing.push(Element::text("axis middle", middle, &self.column_title));
            below += 18.0;
        }
        let left = layout.left.min(WIDTH - 200.0);
        drawing.push(legend(&colours, [left, below + 10.0]));
        let size = [(right + 8.0).max(WIDTH), below + 46.0];
        Figure::new(caption, size, drawing)
    }

    /// The row and the column of every cell.
    fn cells(&self) -> impl Iterator<Item = (usize, usize)> {
        let columns = self.columns.len();
        (0..self.rows.len()).flat_map(move |row| (0..columns).map(move |column| (row, column)))
    }

    fn value(&self, row: usize, column: usize) -> Option<f64> {
        *self.values.get(row)?.get(column)?
    }

    /// How many decimals give the largest value this many significant digits: for three, two digits
    /// of 12 and three of 1 and of 0.11.
    fn decimals(&self, digits: i32) -> usize {
        let values = self.coloured();
        let largest = values.map(f64::abs).fold(0.0, f64::max);
        let magnitude = if largest > 0.0 {
            largest.log10().ceil() as i32
        } else {
            0
        };
        (digits - magnitude).clamp(0, 5) as usize
    }

    fn widest_value(&self, decimals: usize) -> f64 {
        let values = self
            .cells()
            .filter_map(|(row, column)| self.value(row, column));
        let widths = values.map(|value| width(&cell_text(value, decimals), VALUE));
        widths.fold(0.0, f64::max)
    }

    /// The finite values that get a colour.
    fn coloured(&self) -> impl Iterator<Item = f64> {
        let cells = self.cells();
        cells
            .filter(|&(row, column)| !self.is_trivial(row, column))
            .filter_map(|(row, column)| self.value(row, column))
            .filter(|value| value.is_finite())
    }

    fn is_trivial(&self, row: usize, column: usize) -> bool {
        self.has_trivial_diagonal && row == column
    }

    /// From values to places between 0 and 1 of the colour scale.
    fn colours(&self) -> Scale {
        if let Some(range) = self.range {
            return Scale::exactly(range, [0.0, 1.0]);
        }
        let extent = self
            .coloured()
            .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| {
                [low.min(value), high.max(value)]
            });
        Scale::exactly(extent, [0.0, 1.0])
    }

    fn layout(&self) -> Layout {
        let names = self.rows.iter().map(|name| width(name, SIZE));
        let left = names.fold(20.0, f64::max).min(ROW_NAMES) + 10.0;
        let cell = match self.columns.len() {
            0..=8 => 40.0,
            9..=12 => 32.0,
            13..=16 => 26.0,
            17..=40 => 20.0,
            _ => 12.0,
        };
        let widest = self.columns.iter().map(|name| width(name, SIZE));
        let widest = widest.fold(0.0, f64::max);
        // Numeric names are thinned instead.
        let are_numbers = self.columns.iter().all(|name| name.parse::<f64>().is_ok());
        let decimals = [3, 2].map(|digits| self.decimals(digits)).into_iter();
        Layout {
            left,
            top: 24.0,
            cell: [cell, if self.rows.len() > 40 { LINE } else { 22.0 }],
            is_upright: widest > cell - 4.0 && !are_numbers,
            decimals: decimals
                .into_iter()
                .find(|&decimals| self.widest_value(decimals) <= cell - 3.0),
        }
    }

    fn cell(&self, layout: &Layout, colours: &Scale, row: usize, column: usize) -> Element {
        let [cell_width, cell_height] = layout.cell;
        let corner = [
            layout.left + cell_width * column as f64,
            layout.top + cell_height * row as f64,
        ];
        let size = [cell_width - 1.0, cell_height - 1.0];
        let names = format!("{}, {}", self.rows[row], self.column_name(column));
        let value = self.value(row, column);
        let (title, text) = match value {
            Some(value) => (format!("{names}: {}", short_number(value)), Some(value)),
            None => (format!("{names}: no value"), None),
        };
        let mut group = Element::new("g").title(&title);
        let place = value.and_then(|value| colours.position(value));
        let class = match place {
            Some(place) if !self.is_trivial(row, column) => {
                let colour = Colour::at(place);
                let cell = Element::rectangle("cell", corner, size);
                group.push(cell.attribute("fill", &colour.hexadecimal()));
                if colour.is_light() {
                    "value dark"
                } else {
                    "value light"
                }
            }
            _ => {
                group.push(Element::rectangle("cell missing", corner, size));
                "value faint"
            }
        };
        if let Some(decimals) = layout.decimals {
            let text = text.map_or_else(|| "–".to_owned(), |value| cell_text(value, decimals));
            let middle = [corner[0] + size[0] / 2.0, corner[1] + size[1] / 2.0 + 3.5];
            group.push(Element::text(class, middle, &text));
        }
        group
    }

    fn column_name(&self, column: usize) -> String {
        let name = &self.columns[column];
        match self.column_title.is_empty() {
            true => name.clone(),
            false => format!("{} {name}", self.column_title),
        }
    }

    /// Names below the columns; returns their height.
    fn column_names(&self, layout: &Layout, bottom: f64, drawing: &mut Element) -> f64 {
        let middle = |column: usize| layout.left + layout.cell[0] * (column as f64 + 0.5);
        if layout.is_upright {
            let mut height = 0.0f64;
            let every = (LINE / layout.cell[0]).ceil() as usize;
            for (column, name) in self.columns.iter().enumerate().step_by(every.max(1)) {
                let label = fitted(name, COLUMN_NAMES, SIZE);
                height = height.max(width(&label, SIZE));
                let (x, y) = (middle(column) + 4.0, bottom + 6.0);
                let text = Element::text("label end", [x, y], &label).title(name);
                drawing.push(text.attribute("transform", &format!("rotate(-90 {x:.2} {y:.2})")));
            }
            return height + 10.0;
        }
        let widest = self.columns.iter().map(|name| width(name, SIZE));
        let every = ((widest.fold(0.0, f64::max) + 6.0) / layout.cell[0]).ceil() as usize;
        for (column, name) in self.columns.iter().enumerate().step_by(every.max(1)) {
            let label = fitted(name, COLUMN_NAMES, SIZE);
            let place = [middle(column), bottom + 14.0];
            drawing.push(Element::text("label middle", place, &label).title(name));
        }
        18.0
    }
}

/// A value in a cell.
fn cell_text(value: f64, decimals: usize) -> String {
    match value == 0.0 || !value.is_finite() || value.abs() >= 1e4 {
        true => rounded(value, 2),
        false => format!("{value:.decimals$}").replace('-', "−"),
    }
}

/// A strip of the colours with the values of its ends and its middle.
fn legend(colours: &Scale, [left, top]: [f64; 2]) -> Element {
    const WIDTH: f64 = 160.0;
    let mut group = Element::group("legend");
    for step in 0..STEPS {
        let place = (step as f64 + 0.5) / STEPS as f64;
        // Half a pixel over the next one, or gaps shine through.
        let size = [WIDTH / STEPS as f64 + 0.5, 10.0];
        let corner = [left + WIDTH * step as f64 / STEPS as f64, top];
        let strip = Element::rectangle("strip", corner, size);
        group.push(strip.attribute("fill", &Colour::at(place).hexadecimal()));
    }
    let [low, high] = colours.domain();
    let middle = low + (high - low) / 2.0;
    let mut labels = [low, middle, high].map(short_number).to_vec();
    labels.dedup();
    let places: &[f64] = match labels.len() {
        3 => &[0.0, 0.5, 1.0],
        _ => &[0.0, 1.0],
    };
    for (label, place) in labels.iter().zip(places) {
        let x = left + WIDTH * place;
        group.push(Element::line("error", [x, top + 10.0], [x, top + 14.0]));
        let below = [x, top + 27.0];
        group.push(Element::text("label middle", below, label));
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: Vec<Vec<Option<f64>>>) -> HeatMap {
        HeatMap {
            title: "variance kept".into(),
            rows: vec!["query".into(), "value".into()],
            columns: vec!["0".into(), "1".into()],
            column_title: "layer".into(),
            values,
            range: None,
            has_trivial_diagonal: false,
        }
    }

    #[test]
    fn the_smallest_and_the_largest_value_have_the_ends_of_the_scale() {
        let map = map(vec![vec![Some(0.25), Some(0.5)], vec![Some(0.75), None]]);
        let drawn = map.figure("x").render();
        let cell = |title: &str| {
            let start = drawn.find(title).expect("the cell");
            drawn[start..]
                .split("fill=\"")
                .nth(1)
                .map(|rest| &rest[..7])
        };
        assert_eq!(cell("query, layer 0: 0.25"), Some("#00224e"));
        assert_eq!(cell("value, layer 0: 0.75"), Some("#fee838"));
        assert!(drawn.contains("value, layer 1: no value"));
    }

    #[test]
    fn small_values_with_a_minus_have_room() {
        let mut map = map(vec![vec![Some(0.0979), Some(-0.000_77)]]);
        map.columns = (0..8).map(|column| column.to_string()).collect();
        assert!(map.figure("x").render().contains(">−0.001<"));
    }

    #[test]
    fn the_diagonal_of_a_comparison_takes_no_part_in_the_scale() {
        let mut map = map(vec![vec![Some(1.0), Some(0.1)], vec![Some(0.2), Some(1.0)]]);
        map.has_trivial_diagonal = true;
        assert_eq!(map.colours().domain(), [0.1, 0.2]);
        assert_eq!(map.figure("x").render().matches("cell missing").count(), 2);
    }

    #[test]
    fn the_values_of_a_map_have_the_same_decimals() {
        let mut map = map(vec![vec![Some(0.987), Some(-0.0007)]]);
        assert_eq!([map.decimals(3), map.decimals(2)], [3, 2]);
        assert_eq!(cell_text(-0.007, 2), "−0.01");
        map.values = vec![vec![Some(12.0), Some(f64::INFINITY)]];
        assert_eq!(map.decimals(3), 1);
        assert_eq!(cell_text(f64::INFINITY, 1), "∞");
        map.values = vec![vec![Some(1.0), Some(0.05)]];
        map.has_trivial_diagonal = true;
        assert_eq!(map.decimals(2), 3);
    }

    #[test]
    fn no_rows_ragged_rows_and_impossible_values_still_give_a_chart() {
        let mut empty = map(vec![]);
        assert!(empty.figure("x").render().contains("no value"));
        empty.rows.clear();
        assert!(empty.figure("x").render().contains("nothing to show"));
        let odd = map(vec![vec![Some(f64::NAN)], vec![Some(f64::INFINITY), None]]);
        let drawn = odd.figure("x").render();
        assert!(drawn.contains("not a number") && !drawn.contains("NaN"));
        let same = map(vec![vec![Some(0.5); 2], vec![Some(0.5); 2]]);
        assert!(same.figure("x").render().contains("0.5"));
    }
}
