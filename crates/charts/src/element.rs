//! An element of SVG.

use crate::text::{escape, write_coordinate};

/// An element, built attribute by attribute and written once.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    name: &'static str,
    attributes: String,
    content: String,
}

impl Element {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            attributes: String::new(),
            content: String::new(),
        }
    }

    /// A group with the class `class`.
    pub(crate) fn group(class: &str) -> Self {
        Self::new("g").class(class)
    }

    /// Text at a position; `class` decides its size and where it is anchored.
    pub(crate) fn text(class: &str, [x, y]: [f64; 2], text: &str) -> Self {
        let mut element = Self::new("text").class(class).at("x", x).at("y", y);
        element.content = escape(text);
        element
    }

    /// A straight line.
    pub(crate) fn line(class: &str, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) -> Self {
        let line = Self::new("line").class(class).at("x1", x1).at("y1", y1);
        line.at("x2", x2).at("y2", y2)
    }

    pub(crate) fn rectangle(class: &str, [x, y]: [f64; 2], [width, height]: [f64; 2]) -> Self {
        let corner = Self::new("rect").class(class).at("x", x).at("y", y);
        corner.at("width", width).at("height", height)
    }

    /// A path through `points`, straight from one to the next.
    pub(crate) fn path(class: &str, points: &[[f64; 2]]) -> Self {
        let mut path = String::new();
        for (index, [x, y]) in points.iter().enumerate() {
            path.push(if index == 0 { 'M' } else { 'L' });
            write_coordinate(&mut path, *x);
            path.push(' ');
            write_coordinate(&mut path, *y);
        }
        Self::new("path").class(class).attribute("d", &path)
    }

    pub(crate) fn class(self, class: &str) -> Self {
        self.attribute("class", class)
    }

    /// An attribute in px.
    pub(crate) fn at(mut self, name: &str, value: f64) -> Self {
        self.attributes.push_str(&format!(" {name}=\""));
        write_coordinate(&mut self.attributes, value);
        self.attributes.push('"');
        self
    }

    pub(crate) fn attribute(mut self, name: &str, value: &str) -> Self {
        let attribute = format!(" {name}=\"{}\"", escape(value));
        self.attributes.push_str(&attribute);
        self
    }

    /// What is shown where the pointer rests; must come before other content.
    pub(crate) fn title(mut self, title: &str) -> Self {
        let title = format!("<title>{}</title>", escape(title));
        self.content.insert_str(0, &title);
        self
    }

    pub(crate) fn with(mut self, child: Self) -> Self {
        self.push(child);
        self
    }

    pub(crate) fn push(&mut self, child: Self) {
        self.content.push_str(&child.render());
    }

    pub(crate) fn render(&self) -> String {
        let Self {
            name,
            attributes,
            content,
        } = self;
        match content.is_empty() {
            true => format!("<{name}{attributes}/>"),
            false => format!("<{name}{attributes}>{content}</{name}>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_written_with_its_title_first_and_everything_escaped() {
        let label = Element::text("label", [1.0, 2.5], "a<b").title("\"a<b\"");
        assert_eq!(
            label.render(),
            "<text class=\"label\" x=\"1\" y=\"2.5\"><title>&quot;a&lt;b&quot;</title>a&lt;b</text>"
        );
        let path = Element::path("line", &[[0.0, 1.0], [2.0, 3.25]]);
        assert_eq!(path.render(), "<path class=\"line\" d=\"M0 1L2 3.25\"/>");
    }
}
