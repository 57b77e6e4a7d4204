//! The cells of a table as its file has them, to be written again with more columns: in the same
//! words, separated and ended alike, whatever the columns are called.

use std::io;

use ::csv::{StringRecord, Terminator, WriterBuilder};

use crate::byte_order_mark::BYTE_ORDER_MARK;
use crate::csv::separator;
use crate::prediction_table::PredictedColumn;

/// A table of cells.
pub(crate) struct CsvSource {
    separator: u8,
    /// Whether it begins with a byte order mark, without which Excel takes it for another encoding.
    has_mark: bool,
    /// Whether lines end as on Windows.
    has_carriage_returns: bool,
    pub(crate) header: StringRecord,
    pub(crate) records: Vec<StringRecord>,
}

impl CsvSource {
    /// The form of a file, as yet without its cells.
    pub(crate) fn new(content: &[u8], is_tsv: bool) -> Self {
        let first_line = content.split(|byte| *byte == b'\n').next();
        Self {
            separator: separator(content, is_tsv),
            has_mark: content.starts_with(BYTE_ORDER_MARK),
            has_carriage_returns: first_line.is_some_and(|line| line.ends_with(b"\r")),
            header: StringRecord::new(),
            records: Vec::new(),
        }
    }

    /// The file with columns behind its own.
    ///
    /// # Errors
    /// Never, as memory takes all of it.
    pub(crate) fn with_columns(&self, columns: &[PredictedColumn]) -> Result<Vec<u8>, io::Error> {
        let out = match self.has_mark {
            true => BYTE_ORDER_MARK.to_vec(),
            false => Vec::new(),
        };
        let mut writer = WriterBuilder::new()
            .delimiter(self.separator)
            .terminator(match self.has_carriage_returns {
                true => Terminator::CRLF,
                false => Terminator::Any(b'\n'),
            })
            .from_writer(out);
        let names = columns.iter().map(|column| column.name.as_str());
        writer.write_record(self.header.iter().chain(names))?;
        for (row, record) in self.records.iter().enumerate() {
            let cells = record.iter().map(str::to_owned);
            let more = columns.iter().map(|column| column.values.text(row));
            writer.write_record(cells.chain(more))?;
        }
        writer.into_inner().map_err(|error| error.into_error())
    }
}
