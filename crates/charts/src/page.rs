//! An HTML page of text, tables and charts that needs no other file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::figure::Figure;
use crate::text::escape;

const STYLE: &str = include_str!("style.css");

/// A page, written from its top to its bottom.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    body: String,
}

/// A table with a header; the first column holds names, the others values.
#[derive(Clone, Debug, Default)]
pub struct PageTable {
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// Images in rows and columns, each with a name.
#[derive(Clone, Debug, Default)]
pub struct ImageGrid {
    /// The names of the columns, that of the rows' names first.
    pub header: Vec<String>,
    pub rows: Vec<ImageRow>,
}

/// A row of images.
#[derive(Clone, Debug, Default)]
pub struct ImageRow {
    pub name: String,
    /// PNG files; nothing where there is none.
    pub images: Vec<Option<Vec<u8>>>,
}

impl Page {
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            body: String::new(),
        }
    }

    pub fn heading(&mut self, heading: &str) {
        let heading = format!("<h2>{}</h2>\n", escape(heading));
        self.body.push_str(&heading);
    }

    pub fn paragraph(&mut self, text: &str) {
        let paragraph = format!("<p>{}</p>\n", escape(text));
        self.body.push_str(&paragraph);
    }

    pub fn list<'a>(&mut self, items: impl IntoIterator<Item = &'a str>) {
        let items = items.into_iter();
        let items: String = items
            .map(|item| format!("<li>{}</li>\n", escape(item)))
            .collect();
        if !items.is_empty() {
            self.body.push_str(&format!("<ul>\n{items}</ul>\n"));
        }
    }

    pub fn table(&mut self, table: &PageTable) {
        let row = |cells: &[String], name: &str, other: &str| -> String {
            let cells = cells.iter().enumerate().map(|(column, cell)| {
                let cell_tag = if column == 0 { name } else { other };
                let tag = cell_tag.split(' ').next().unwrap_or(cell_tag);
                format!("<{cell_tag}>{}</{tag}>", escape(cell))
            });
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        let column = "th scope=\"col\"";
        let header = row(&table.header, column, column);
        let rows = table.rows.iter();
        let rows: String = rows
            .map(|cells| row(cells, "th scope=\"row\"", "td"))
            .collect();
        let table = format!(
            "<div class=\"table\" tabindex=\"0\"><table>\n<thead>{header}</thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
        );
        self.body.push_str(&table);
    }

    /// Images as a table; they are in the page itself.
    pub fn images(&mut self, grid: &ImageGrid) {
        let header = grid.header.iter();
        let header = header.map(|name| format!("<th scope=\"col\">{}</th>", escape(name)));
        let header: String = header.collect();
        let cell = |(column, image): (usize, &Option<Vec<u8>>), row: &str| match image {
            Some(png) => {
                let column = grid.header.get(column + 1).map_or("", String::as_str);
                let name = escape(&format!("{row}, {column}"));
                let data = STANDARD.encode(png);
                format!("<td><img alt=\"{name}\" src=\"data:image/png;base64,{data}\"></td>")
            }
            None => "<td></td>".to_owned(),
        };
        let rows = grid.rows.iter().map(|row| {
            let cells = row.images.iter().enumerate();
            let cells: String = cells.map(|image| cell(image, &row.name)).collect();
            format!(
                "<tr><th scope=\"row\">{}</th>{cells}</tr>\n",
                escape(&row.name)
            )
        });
        let rows: String = rows.collect();
        self.body.push_str(&format!(
            "<div class=\"table\" tabindex=\"0\"><table class=\"images\">\n<thead><tr>{header}</tr></thead>\n\
             <tbody>\n{rows}</tbody>\n</table></div>\n"
        ));
    }

    /// Charts side by side, as many as fit.
    pub fn figures(&mut self, figures: impl IntoIterator<Item = Figure>) {
        let figures: String = figures.into_iter().map(|figure| figure.render()).collect();
        if !figures.is_empty() {
            let figures = format!("<div class=\"figures\">\n{figures}</div>\n");
            self.body.push_str(&figures);
        }
    }

    /// The whole file.
    pub fn render(&self) -> String {
        let (title, body) = (escape(&self.title), &self.body);
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <main>\n<h1>{title}</h1>\n{body}</main>\n</body>\n</html>\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mark::COLOURS;
    use crate::{Axis, LineChart, Point, Series};

    #[test]
    fn a_page_loads_nothing_and_escapes_everything() {
        let mut page = Page::new("a <b>");
        page.heading("<h>");
        page.paragraph("x & y");
        page.list(["\"one\""]);
        page.table(&PageTable {
            header: vec!["method".into(), "accuracy".into()],
            rows: vec![vec!["<lora>".into(), "0.5".into()]],
        });
        let chart = LineChart {
            x: Axis::linear("step"),
            y: Axis::linear("loss"),
            series: vec![Series::new("<s>", vec![Point::new(0.0, 1.0)])],
        };
        page.figures([chart.figure("\"<c>\"")]);
        let text = page.render();
        for outside in ["http", "url(", "@import", "src=", "href=", "<script"] {
            assert!(!text.contains(outside), "{outside}");
        }
        for markup in ["<b>", "<h>", "<lora>", "<s>", "<c>"] {
            assert!(!text.contains(markup), "{markup}");
        }
        assert!(text.contains("<th scope=\"row\">&lt;lora&gt;</th><td>0.5</td>"));
    }

    #[test]
    fn images_are_in_the_page_itself_with_what_they_are() {
        let mut page = Page::new("a");
        page.images(&ImageGrid {
            header: vec!["arm".into(), "step 0".into(), "step <9>".into()],
            rows: vec![ImageRow {
                name: "\"lora\"".into(),
                images: vec![None, Some(vec![1, 2, 3, 4])],
            }],
        });
        let text = page.render();
        let image = "<td></td><td><img alt=\"&quot;lora&quot;, step &lt;9&gt;\" \
                     src=\"data:image/png;base64,AQIDBA==\"></td>";
        assert!(text.contains(image), "{text}");
        assert!(!text.contains("http"));
    }

    #[test]
    fn every_colour_is_set_for_light_and_for_dark() {
        for index in 0..COLOURS {
            let set = format!("--series-{index}:");
            assert_eq!(STYLE.matches(&set).count(), 2, "{set}");
            assert!(STYLE.contains(&format!(".series-{index} ")), "{index}");
        }
    }
}
