//! Prints the batches of an epoch over a file of JSON lines with the columns `text` and `label`:
//!
//! ```text
//! cargo run -p eigenmix-data --example batches -- train.jsonl 8
//! ```

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::Path;

use eigenmix_data::{BatchPlan, DataConfig, LabelMap, LabelPolicy, LengthGrouping, read_file};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("expected a .jsonl file")?;
    let batch_size: NonZeroUsize = arguments.next().as_deref().unwrap_or("8").parse()?;

    let rows = read_file(
        Path::new(&file),
        &DataConfig::new("."),
        LabelPolicy::Required,
    )?;
    let labels = LabelMap::from_train(&rows)?;
    println!("{} rows of {} classes", rows.len(), labels.names().len());

    // `TextTokenizer::encode_all` would say how many tokens each row has; words will do here.
    let lengths: Vec<usize> = rows
        .iter()
        .map(|row| row.text.split_whitespace().count())
        .collect();
    let plan = BatchPlan::training(&lengths, batch_size, LengthGrouping::default(), 7, 0);
    for (number, batch) in plan.batches().iter().enumerate() {
        println!("batch {}", number + 1);
        for &index in batch {
            let (row, output) = (&rows[index], labels.encode(&rows[index])?);
            println!("  {} (output {output}): {}", row.place, row.text);
        }
    }
    println!(
        "{:.1} % of all positions are padding",
        100.0 * plan.padding_fraction(&lengths)
    );
    Ok(())
}
