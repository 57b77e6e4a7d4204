//! Writes `page.html` with two charts and a table, which opens in a browser without any other file:
//!
//! ```text
//! cargo run -p eigenmix-charts --example page
//! ```

use eigenmix_charts::{Axis, Bar, BarGroup, Bars, LineChart, Page, PageTable, Point, Series};

fn main() -> std::io::Result<()> {
    let curve = |name: &str, rate: f64| {
        let point =
            |step: i32| Point::new(f64::from(step), 0.2 + 2.0 * (-rate * f64::from(step)).exp());
        Series::new(name, (1..=50).map(point).collect())
    };
    let losses = LineChart {
        x: Axis::linear("step"),
        y: Axis::linear("training loss"),
        series: vec![curve("lora", 0.05), curve("eigenmix", 0.09)],
    };
    let accuracy = Bars {
        axis: Axis::linear("accuracy"),
        series: vec!["validation".to_owned()],
        groups: vec![
            BarGroup {
                name: "lora".to_owned(),
                bars: vec![Some(Bar::new(0.81))],
            },
            BarGroup {
                name: "eigenmix".to_owned(),
                bars: vec![Some(Bar::new(0.84))],
            },
        ],
    };

    let mut page = Page::new("Two methods");
    page.paragraph("Made-up values, to show what a page looks like.");
    page.figures([
        losses.figure("Learning curves"),
        accuracy.figure("Accuracy"),
    ]);
    page.heading("Trained parameters");
    page.table(&PageTable {
        header: ["method", "parameters"].map(str::to_owned).to_vec(),
        rows: vec![
            ["lora", "294,912"].map(str::to_owned).to_vec(),
            ["eigenmix", "18,432"].map(str::to_owned).to_vec(),
        ],
    });
    std::fs::write("page.html", page.render())?;
    println!("wrote page.html");
    Ok(())
}
