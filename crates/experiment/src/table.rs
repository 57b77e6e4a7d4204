//! Aligned columns of text.

use std::fmt;

/// Rows of cells; the first column and columns of text are flush left, the others flush right.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    /// Which columns hold text.
    text: Vec<usize>,
}

impl Table {
    /// A table with a first row of column names.
    pub fn with_header<C: Into<String>>(header: impl IntoIterator<Item = C>) -> Self {
        let mut table = Self::default();
        table.push(header);
        table
    }

    /// The same with these columns, counted from 0, flush left: they hold text, not numbers.
    #[must_use]
    pub fn with_text_in(mut self, columns: impl IntoIterator<Item = usize>) -> Self {
        self.text.extend(columns);
        self
    }

    pub fn push<C: Into<String>>(&mut self, row: impl IntoIterator<Item = C>) {
        self.rows.push(row.into_iter().map(Into::into).collect());
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect()
    }
}

impl fmt::Display for Table {
    /// Without a newline at the end.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                let is_text = column == 0 || self.text.contains(&column);
                line.push_str(&match is_text {
                    true => format!("{gap}{cell:<width$}"),
                    false => format!("{gap}{cell:>width$}"),
                });
            }
            let end = if index + 1 < self.rows.len() {
                "\n"
            } else {
                ""
            };
            write!(formatter, "{}{end}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn names_are_left_aligned_and_numbers_right_aligned() {
        let mut table = Table::with_header(["adapter", "error"]);
        table.push(["home", "0.1234"]);
        table.push(["Ödland", "1"]);
        assert_eq!(
            table.to_string(),
            "adapter   error\nhome     0.1234\nÖdland        1"
        );
    }

    #[test]
    fn columns_of_text_are_flush_left_too() {
        let mut table = Table::with_header(["device", "kind", "bytes"]).with_text_in([1]);
        table.push(["cpu", "processor", "9"]);
        table.push(["cuda", "GPU", "12"]);
        assert_eq!(
            table.to_string(),
            "device  kind       bytes\ncpu     processor      9\ncuda    GPU           12"
        );
    }
}
