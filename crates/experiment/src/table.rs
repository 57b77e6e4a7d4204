//! Aligned columns of text.

use std::fmt;

/// Rows of cells; the first column is flush left, the others flush right.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a first row of column names.
    pub fn with_header<C: Into<String>>(header: impl IntoIterator<Item = C>) -> Self {
        let mut table = Self::default();
        table.push(header);
        table
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
                line.push_str(&match column {
                    0 => format!("{cell:<width$}"),
                    _ => format!("  {cell:>width$}"),
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
    fn names_are_flush_left_and_figures_flush_right() {
        let mut table = Table::with_header(["adapter", "error"]);
        table.push(["home", "0.1234"]);
        table.push(["Ödland", "1"]);
        assert_eq!(
            table.to_string(),
            "adapter   error\nhome     0.1234\nÖdland        1"
        );
    }
}
