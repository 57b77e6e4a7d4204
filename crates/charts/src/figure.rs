//! A finished chart with its caption.

use crate::element::Element;
use crate::text::escape;

/// How wide a chart is that has no reason to be wider, in px: a column of a page, or a telephone.
pub(crate) const WIDTH: f64 = 440.0;

/// A chart and what it shows.
#[derive(Clone, Debug)]
pub struct Figure {
    caption: String,
    svg: String,
    /// Wider than a column: it has a row of its own, and scrolls sideways where that is too narrow.
    is_wide: bool,
}

impl Figure {
    /// - drawing: in a coordinate system of `[width, height]` px
    pub(crate) fn new(caption: &str, [width, height]: [f64; 2], drawing: Element) -> Self {
        let svg = Element::new("svg")
            .at("width", width)
            .at("height", height)
            .attribute("viewBox", &format!("0 0 {width:.0} {height:.0}"))
            .attribute("role", "img")
            .attribute("aria-label", caption)
            .with(drawing);
        Self {
            caption: caption.to_owned(),
            svg: svg.render(),
            is_wide: width > WIDTH,
        }
    }

    /// An empty chart, which says so.
    pub(crate) fn empty(caption: &str) -> Self {
        let words = Element::text("label middle", [WIDTH / 2.0, 40.0], "nothing to show");
        Self::new(caption, [WIDTH, 70.0], words)
    }

    pub(crate) fn render(&self) -> String {
        let class = if self.is_wide { " class=\"wide\"" } else { "" };
        format!(
            "<figure{class}><figcaption>{}</figcaption><div class=\"chart\">{}</div></figure>\n",
            escape(&self.caption),
            self.svg
        )
    }
}
