//! Horizontal bars in groups, with their deviations: values of named things side by side.

use crate::axis::Axis;
use crate::element::Element;
use crate::figure::{Figure, WIDTH};
use crate::legend::{Entry, Sign, legend};
use crate::mark::Mark;
use crate::number::short_number;
use crate::scale::Scale;
use crate::text::{SIZE, fitted, width};

/// The thickness of a bar and the room between groups, in px.
const BAR: f64 = 14.0;
const GAP: f64 = 10.0;

/// The most that the names of groups take of the width.
const NAMES: f64 = 140.0;

/// Bars in groups: horizontal, so that long names have room and no two labels meet.
#[derive(Clone, Debug)]
pub struct Bars {
    pub axis: Axis,
    /// What the bars of a group are, in their order; shown where there are several.
    pub series: Vec<String>,
    pub groups: Vec<BarGroup>,
}

/// The bars of one thing.
#[derive(Clone, Debug)]
pub struct BarGroup {
    pub name: String,
    /// One for each series; `None` where there is no value.
    pub bars: Vec<Option<Bar>>,
}

/// A value and its standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    pub value: f64,
    pub deviation: f64,
}

impl Bar {
    /// A value without a deviation.
    pub fn new(value: f64) -> Self {
        Self {
            value,
            deviation: 0.0,
        }
    }

    fn text(&self) -> String {
        match self.deviation > 0.0 {
            true => format!(
                "{} ± {}",
                short_number(self.value),
                short_number(self.deviation)
            ),
            false => short_number(self.value),
        }
    }

    fn ends(&self) -> [f64; 3] {
        let Self { value, deviation } = *self;
        [value, value - deviation, value + deviation]
    }
}

impl Bars {
    pub fn figure(&self, caption: &str) -> Figure {
        let bars = || {
            self.groups
                .iter()
                .flat_map(|group| group.bars.iter().flatten())
        };
        let finite: Vec<&Bar> = bars().filter(|bar| bar.value.is_finite()).collect();
        if finite.is_empty() {
            return Figure::empty(caption);
        }
        let names = self.groups.iter().map(|group| width(&group.name, SIZE));
        let left = names.fold(30.0, f64::max).min(NAMES) + 10.0;
        let texts = finite.iter().map(|bar| width(&bar.text(), SIZE));
        let right = WIDTH - texts.fold(0.0, f64::max) - 12.0;
        // A bar starts at 0, or its length would be meaningless.
        let values = finite.iter().flat_map(|bar| bar.ends()).chain([0.0]);
        let scale = self.axis.scale(values, [left, right]);
        let mut drawing = Element::group("bars");
        let mut y = 24.0;
        for group in &self.groups {
            let height = BAR * group.bars.len() as f64;
            let name = fitted(&group.name, NAMES, SIZE);
            let place = [left - 8.0, y + height / 2.0 + 4.0];
            drawing.push(Element::text("label end", place, &name).title(&group.name));
            for (index, bar) in group.bars.iter().enumerate() {
                let top = y + BAR * index as f64;
                let bar = self.bar(&scale, group, index, bar.as_ref(), top);
                drawing.push(bar);
            }
            y += height + GAP;
        }
        if let Some(zero) = scale.position(0.0) {
            drawing.push(Element::line("zero", [zero, 20.0], [zero, y - GAP + 4.0]));
        }
        let title = fitted(&self.axis.title, WIDTH, SIZE);
        drawing.push(Element::text("axis", [2.0, 14.0], &title).title(&self.axis.title));
        let entries: Vec<Entry> = match self.series.len() {
            0 | 1 => Vec::new(),
            _ => {
                let series = self.series.iter().enumerate();
                series
                    .map(|(index, name)| Entry {
                        name,
                        sign: Sign::Marker(Mark(index)),
                    })
                    .collect()
            }
        };
        let (legend, height) = legend(&entries, [20.0, y], WIDTH - 20.0);
        drawing.push(legend);
        Figure::new(caption, [WIDTH, y + height + 4.0], drawing)
    }

    fn bar(
        &self,
        scale: &Scale,
        group: &BarGroup,
        index: usize,
        bar: Option<&Bar>,
        top: f64,
    ) -> Element {
        let mark = Mark(index);
        let middle = top + BAR / 2.0;
        let zero = scale.position(0.0).unwrap_or_default();
        let place = bar.and_then(|bar| Some((bar, scale.position(bar.value)?)));
        let Some((bar, end)) = place else {
            let words = bar.map_or_else(|| "—".to_owned(), Bar::text);
            return Element::text("label faint", [zero + 6.0, middle + 4.0], &words);
        };
        let series = match self.series.get(index) {
            Some(series) if self.series.len() > 1 => format!(", {series}"),
            _ => String::new(),
        };
        let title = format!("{}{series}: {}", group.name, bar.text());
        let mut drawing = Element::new("g").title(&title);
        let (from, to) = (zero.min(end), zero.max(end));
        let class = format!("bar {}", mark.class());
        let size = [to - from, BAR - 3.0];
        drawing.push(Element::rectangle(&class, [from, top + 1.5], size));
        let mut tip = end.max(zero);
        if bar.deviation > 0.0 {
            let [_, low, high] = bar.ends();
            if let (Some(low), Some(high)) = (scale.position(low), scale.position(high)) {
                drawing.push(Element::line("error", [low, middle], [high, middle]));
                for x in [low, high] {
                    let (above, below) = ([x, middle - 3.0], [x, middle + 3.0]);
                    drawing.push(Element::line("error", above, below));
                }
                tip = tip.max(high);
            }
        }
        if self.series.len() > 1 {
            drawing.push(mark.marker([end, middle]));
            tip = tip.max(end + 4.0);
        }
        let label = Element::text("label", [tip + 6.0, middle + 4.0], &bar.text());
        drawing.with(label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(groups: Vec<BarGroup>) -> String {
        let bars = Bars {
            axis: Axis::linear("accuracy"),
            series: vec!["base".into(), "merged".into()],
            groups,
        };
        bars.figure("Tasks").render()
    }

    #[test]
    fn a_bar_of_half_the_axis_is_half_as_long() {
        let scale = Scale::exactly([0.0, 1.0], [100.0, 300.0]);
        let bars = Bars {
            axis: Axis::between("accuracy", 0.0, 1.0),
            series: vec![],
            groups: vec![],
        };
        let group = BarGroup {
            name: "a".into(),
            bars: vec![],
        };
        let drawn = bars.bar(&scale, &group, 0, Some(&Bar::new(0.5)), 0.0);
        assert!(drawn.render().contains("x=\"100\" y=\"1.5\" width=\"100\""));
    }

    #[test]
    fn missing_values_are_named_and_not_drawn() {
        let nan = Some(Bar::new(f64::NAN));
        let group = |name: &str, bars| BarGroup {
            name: name.into(),
            bars,
        };
        let drawn = bars(vec![
            group("home", vec![Some(Bar::new(0.5)), None]),
            group("<gym>", vec![nan, Some(Bar::new(-0.25))]),
        ]);
        assert!(drawn.contains("—") && drawn.contains("not a number"));
        assert!(drawn.contains("&lt;gym&gt;") && !drawn.contains("NaN"));
        assert_eq!(drawn.matches("class=\"bar").count(), 3);
        assert!(bars(vec![]).contains("nothing to show"));
        assert!(bars(vec![group("a", vec![nan, None])]).contains("nothing to show"));
    }
}
