//! Points by two metrics, such as accuracy against trained parameters, and their Pareto front.

use crate::axis::Axis;
use crate::element::Element;
use crate::figure::Figure;
use crate::frame::PlotFrame;
use crate::legend::{Entry, Sign};
use crate::mark::Mark;
use crate::number::short_number;

/// Points with names.
#[derive(Clone, Debug)]
pub struct Scatter {
    pub x: Axis,
    pub y: Axis,
    pub points: Vec<ScatterPoint>,
    /// Which way is better on the vertical axis; on the horizontal one less always is.
    pub better: Better,
}

/// Which values of a metric are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
}

/// A point and the standard deviation of its height.
#[derive(Clone, Debug)]
pub struct ScatterPoint {
    pub name: String,
    pub x: f64,
    pub y: f64,
    pub deviation: f64,
}

impl Scatter {
    pub fn figure(&self, caption: &str) -> Figure {
        let fits = |value: f64, axis: &Axis| value.is_finite() && (!axis.is_log || value > 0.0);
        let drawn = |point: &ScatterPoint| fits(point.x, &self.x) && fits(point.y, &self.y);
        // A point keeps its mark where others have no place, and so its looks from chart to chart.
        let marked: Vec<(Mark, &ScatterPoint)> = (0..)
            .map(Mark)
            .zip(&self.points)
            .filter(|(_, point)| drawn(point))
            .collect();
        let points: Vec<&ScatterPoint> = marked.iter().map(|(_, point)| *point).collect();
        if points.is_empty() {
            return Figure::empty(caption);
        }
        let xs = points.iter().map(|point| point.x);
        let ys = points.iter().flat_map(|point| {
            [
                point.y - point.deviation,
                point.y,
                point.y + point.deviation,
            ]
        });
        let mut frame = PlotFrame::new(&self.x, &self.y, xs, ys);
        let front = pareto_front(&points, self.better);
        if !front.is_empty() {
            let path = self.staircase(&frame, &front);
            frame.push(Element::path("front", &path).title("Pareto front"));
        }
        for &(mark, point) in &marked {
            let is_on_front = front.iter().any(|other| std::ptr::eq(*other, point));
            if let Some(drawing) = draw(&frame, point, mark, is_on_front) {
                frame.push(drawing);
            }
        }
        let entries = marked.iter().map(|(mark, point)| Entry {
            name: &point.name,
            sign: Sign::Marker(*mark),
        });
        let line = Entry {
            name: "Pareto front",
            sign: Sign::Front,
        };
        let entries: Vec<Entry> = entries.chain((!front.is_empty()).then_some(line)).collect();
        frame.finish(caption, &entries)
    }

    /// The border of what the front dominates: from the edge of the chart to the smallest point,
    /// level until the next point is better, and level to the other edge.
    fn staircase(&self, frame: &PlotFrame, front: &[&ScatterPoint]) -> Vec<[f64; 2]> {
        let mut path: Vec<[f64; 2]> = Vec::new();
        let ([top, bottom], right) = frame.borders();
        for point in front {
            let Some([x, y]) = frame.position(point.x, point.y) else {
                continue;
            };
            path.push(match (path.last(), self.better) {
                (Some(&[_, level]), _) => [x, level],
                (None, Better::Higher) => [x, bottom],
                (None, Better::Lower) => [x, top],
            });
            path.push([x, y]);
        }
        path.extend(path.last().map(|&[_, level]| [right, level]));
        path
    }
}

/// The points that no other is at least as good as in both metrics and better in one, by x.
fn pareto_front<'a>(points: &[&'a ScatterPoint], better: Better) -> Vec<&'a ScatterPoint> {
    let gain = |point: &ScatterPoint| match better {
        Better::Higher => point.y,
        Better::Lower => -point.y,
    };
    let is_dominated = |point: &ScatterPoint| {
        points.iter().any(|other| {
            let is_as_good = other.x <= point.x && gain(other) >= gain(point);
            is_as_good && (other.x < point.x || gain(other) > gain(point))
        })
    };
    let mut front: Vec<&ScatterPoint> = points
        .iter()
        .copied()
        .filter(|point| !is_dominated(point))
        .collect();
    front.sort_by(|left, right| left.x.total_cmp(&right.x));
    front
}

fn draw(frame: &PlotFrame, point: &ScatterPoint, mark: Mark, is_on_front: bool) -> Option<Element> {
    let place = frame.position(point.x, point.y)?;
    let deviation = match point.deviation > 0.0 {
        true => format!(" ± {}", short_number(point.deviation)),
        false => String::new(),
    };
    let front = if is_on_front {
        ", on the Pareto front"
    } else {
        ""
    };
    let title = format!(
        "{}: {}{deviation} at {}{front}",
        point.name,
        short_number(point.y),
        short_number(point.x)
    );
    let mut group = Element::new("g").title(&title);
    let ends = [point.y - point.deviation, point.y + point.deviation];
    let ends = ends.map(|end| frame.position(point.x, end));
    if let ([Some(low), Some(high)], true) = (ends, point.deviation > 0.0) {
        group.push(Element::line("error", low, high));
        for [x, y] in [low, high] {
            group.push(Element::line("error", [x - 3.0, y], [x + 3.0, y]));
        }
    }
    group.push(mark.marker(place));
    Some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, x: f64, y: f64) -> ScatterPoint {
        ScatterPoint {
            name: name.to_owned(),
            x,
            y,
            deviation: 0.0,
        }
    }

    fn front(points: &[ScatterPoint], better: Better) -> Vec<&str> {
        let points: Vec<&ScatterPoint> = points.iter().collect();
        let front = pareto_front(&points, better);
        front.iter().map(|point| point.name.as_str()).collect()
    }

    #[test]
    fn the_front_holds_what_nothing_beats_in_both_figures() {
        let points = [
            point("large", 100.0, 0.9),
            point("small", 10.0, 0.7),
            point("middle", 50.0, 0.9),
            point("bad", 60.0, 0.6),
            point("twin", 10.0, 0.7),
        ];
        assert_eq!(front(&points, Better::Higher), ["small", "twin", "middle"]);
        assert_eq!(front(&points, Better::Lower), ["small", "twin", "bad"]);
        assert!(front(&[], Better::Higher).is_empty());
    }

    #[test]
    fn points_without_a_place_are_left_out() {
        let chart = |points| Scatter {
            x: Axis::logarithmic("parameters"),
            y: Axis::linear("accuracy"),
            points,
            better: Better::Higher,
        };
        let drawn = chart(vec![point("none", 0.0, 0.5), point("one", 10.0, 0.5)]);
        let drawn = drawn.figure("x").render();
        assert!(drawn.contains("one") && !drawn.contains("none"), "{drawn}");
        let empty = chart(vec![point("none", 0.0, 0.5), point("nan", 1.0, f64::NAN)]);
        assert!(empty.figure("x").render().contains("nothing to show"));
    }
}
