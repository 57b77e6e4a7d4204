//! Charts as inline SVG, and HTML pages of them that open offline: no script, font or image from
//! anywhere, colours by CSS custom properties, so that one file is read in light and in dark.
//!
//! Colour is never the only cue: series also have markers and dashes, cells their value. Every text
//! is escaped, shortened to its space, and complete in a `<title>`. Values that are not finite are
//! left out; an empty chart says so.
//!
//! ```
//! use eigenmix_charts::{Axis, LineChart, Page, Point, Series};
//!
//! let loss = Series::new("lora", vec![Point::new(1.0, 2.3), Point::new(10.0, 0.7)]);
//! let chart = LineChart {
//!     x: Axis::linear("step"),
//!     y: Axis::linear("training loss"),
//!     series: vec![loss],
//! };
//! let mut page = Page::new("A run");
//! page.figures([chart.figure("Learning curve")]);
//! assert!(page.render().contains("<svg"));
//! ```

mod axis;
mod bars;
mod colour_scale;
mod element;
mod figure;
mod frame;
mod heat_map;
mod legend;
mod line_chart;
mod mark;
mod number;
mod page;
mod scale;
mod scatter;
mod text;

pub use axis::Axis;
pub use bars::{Bar, BarGroup, Bars};
pub use figure::Figure;
pub use heat_map::HeatMap;
pub use line_chart::{LineChart, Point, Series};
pub use number::short_number;
pub use page::{ImageGrid, ImageRow, Page, PageTable};
pub use scatter::{Better, Scatter, ScatterPoint};
