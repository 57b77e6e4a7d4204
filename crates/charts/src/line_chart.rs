//! Lines over a common axis, such as learning curves.

use crate::axis::Axis;
use crate::element::Element;
use crate::figure::Figure;
use crate::frame::PlotFrame;
use crate::legend::{Entry, Sign, stroke};
use crate::mark::Mark;
use crate::number::short_number;

/// More points than this in a line are thinned: the chart has fewer pixels.
const POINTS: usize = 400;

/// About how many points of a line get a marker.
const MARKERS: usize = 12;

/// Lines, with the spread around each as a band.
#[derive(Clone, Debug)]
pub struct LineChart {
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    /// In the order in which they are connected.
    pub points: Vec<Point>,
}

impl Series {
    pub fn new(name: impl Into<String>, points: Vec<Point>) -> Self {
        Self {
            name: name.into(),
            points,
        }
    }
}

/// A value and the range in which it may as well lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    pub low: f64,
    pub high: f64,
}

impl Point {
    /// A value without a range.
    pub fn new(x: f64, y: f64) -> Self {
        Self {
            x,
            y,
            low: y,
            high: y,
        }
    }

    /// A value with a range around it.
    pub fn between(x: f64, y: f64, low: f64, high: f64) -> Self {
        Self { x, y, low, high }
    }

    fn is_drawn(&self, x: &Axis, y: &Axis) -> bool {
        let fits = |value: f64, axis: &Axis| value.is_finite() && (!axis.is_log || value > 0.0);
        fits(self.x, x) && fits(self.y, y)
    }
}

impl LineChart {
    pub fn figure(&self, caption: &str) -> Figure {
        let drawn: Vec<Vec<Point>> = self
            .series
            .iter()
            .map(|series| self.drawn(series))
            .collect();
        let all = || drawn.iter().flatten();
        if all().next().is_none() {
            return Figure::empty(caption);
        }
        let xs = all().map(|point| point.x);
        let ys = all().flat_map(|point| [point.y, point.low, point.high]);
        let mut frame = PlotFrame::new(&self.x, &self.y, xs, ys);
        for (index, points) in drawn.iter().enumerate() {
            if let Some(band) = band(&frame, points, Mark(index)) {
                frame.push(band);
            }
        }
        for (index, (series, points)) in self.series.iter().zip(&drawn).enumerate() {
            let lines = lines(&frame, series, points, index);
            frame.push(lines);
        }
        let entries: Vec<Entry> = self
            .series
            .iter()
            .enumerate()
            .filter(|(index, _)| !drawn[*index].is_empty())
            .map(|(index, series)| Entry {
                name: &series.name,
                sign: Sign::Line(Mark(index)),
            })
            .collect();
        frame.finish(caption, &entries)
    }

    /// The points that have a place, thinned but for the last.
    fn drawn(&self, series: &Series) -> Vec<Point> {
        let points = series.points.iter();
        let points: Vec<Point> = points
            .filter(|point| point.is_drawn(&self.x, &self.y))
            .copied()
            .collect();
        let every = points.len().div_ceil(POINTS).max(1);
        let last = points.len().saturating_sub(1);
        let kept = points.into_iter().enumerate();
        kept.filter(|(index, _)| index % every == 0 || *index == last)
            .map(|(_, point)| point)
            .collect()
    }
}

/// The area between the low and the high ends, where there is one.
fn band(frame: &PlotFrame, points: &[Point], mark: Mark) -> Option<Element> {
    if !points.iter().any(|point| point.low < point.high) {
        return None;
    }
    // What has no place of its own, such as log 0, is drawn where the value is.
    let end = |point: &Point, value: f64| {
        let place = frame.position(point.x, value);
        place.or_else(|| frame.position(point.x, point.y))
    };
    let highs = points.iter().filter_map(|point| end(point, point.high));
    let lows = points
        .iter()
        .rev()
        .filter_map(|point| end(point, point.low));
    let outline: Vec<[f64; 2]> = highs.chain(lows).collect();
    let class = format!("band {}", mark.class());
    Some(Element::path(&class, &outline))
}

fn lines(frame: &PlotFrame, series: &Series, points: &[Point], index: usize) -> Element {
    let mark = Mark(index);
    let mut group = Element::new("g");
    let places: Vec<(Point, [f64; 2])> = points
        .iter()
        .filter_map(|point| Some((*point, frame.position(point.x, point.y)?)))
        .collect();
    let path: Vec<[f64; 2]> = places.iter().map(|(_, place)| *place).collect();
    group.push(stroke(mark, &path).title(&series.name));
    let every = places.len().div_ceil(MARKERS).max(1);
    // Each line has its markers elsewhere, so that lines which coincide show both.
    let offset = index % every;
    for (number, (point, place)) in places.iter().enumerate() {
        if number % every == offset || number + 1 == places.len() {
            let title = tooltip(&series.name, point);
            group.push(Element::new("g").title(&title).with(mark.marker(*place)));
        }
    }
    group
}

fn tooltip(name: &str, point: &Point) -> String {
    let Point { x, y, low, high } = *point;
    let range = match low < high {
        true => format!(" ({} to {})", short_number(low), short_number(high)),
        false => String::new(),
    };
    format!("{name}: {} at {}{range}", short_number(y), short_number(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<Point>) -> LineChart {
        LineChart {
            x: Axis::linear("step"),
            y: Axis::linear("loss"),
            series: vec![Series::new("a & b", points)],
        }
    }

    #[test]
    fn a_line_runs_through_its_points_and_leaves_out_what_has_no_place() {
        let points = vec![
            Point::new(0.0, 0.0),
            Point::new(5.0, f64::NAN),
            Point::new(10.0, 1.0),
        ];
        let drawn = chart(points).figure("Loss").render();
        // From the lower left corner to the upper right one: 26 px above, 18 px right of the plot.
        assert!(drawn.contains("246L422 26"), "{drawn}");
        assert!(
            !drawn.contains("NaN") && drawn.contains("a &amp; b"),
            "{drawn}"
        );
    }

    #[test]
    fn a_band_is_drawn_where_there_is_a_spread_only() {
        let spread = vec![Point::between(0.0, 1.0, 0.5, 1.5), Point::new(1.0, 2.0)];
        assert!(chart(spread).figure("x").render().contains("band"));
        let single = vec![Point::new(0.0, 1.0)];
        assert!(!chart(single).figure("x").render().contains("band"));
    }

    #[test]
    fn a_chart_of_nothing_says_so() {
        let nothing = [vec![], vec![Point::new(f64::INFINITY, 1.0)]];
        for points in nothing {
            assert!(
                chart(points)
                    .figure("x")
                    .render()
                    .contains("nothing to show")
            );
        }
    }

    #[test]
    fn a_long_line_is_thinned_and_keeps_its_ends() {
        let points: Vec<Point> = (0..100_001)
            .map(|x| Point::new(f64::from(x), 1.0))
            .collect();
        let chart = chart(points);
        let drawn = chart.drawn(&chart.series[0]);
        assert!(drawn.len() <= POINTS + 1);
        assert_eq!((drawn[0].x, drawn[drawn.len() - 1].x), (0.0, 100_000.0));
    }
}
