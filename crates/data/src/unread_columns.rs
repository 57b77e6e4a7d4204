//! Which columns rows have that nothing reads: every one is named once a split, or a misspelt name of an
//! optional column would pass for one that is absent.

use serde_json::Value;

use crate::split::Split;

/// The columns of the rows of a split.
#[derive(Debug, Default)]
pub(crate) struct ColumnTally {
    names: Vec<String>,
    unread: Vec<(String, usize)>,
}

impl ColumnTally {
    /// Takes note of a column.
    ///
    /// - rows: how many further rows have something in it
    pub(crate) fn see(&mut self, column: &str, is_read: bool, rows: usize) {
        if !self.names.iter().any(|seen| seen == column) {
            self.names.push(column.to_owned());
        }
        if is_read || rows == 0 {
            return;
        }
        match self.unread.iter_mut().find(|(name, _)| name == column) {
            Some((_, count)) => *count += rows,
            None => self.unread.push((column.to_owned(), rows)),
        }
    }

    /// All columns, in the order in which they came.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    /// Those that nothing reads, each with how many rows have something in it.
    pub(crate) fn into_unread(self) -> Vec<(String, usize)> {
        self.unread
    }
}

/// Whether a cell says something: all but null, an empty list and an empty text do.
pub(crate) fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(values) => !values.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}

/// What to say of the columns that nothing reads, if there are any.
///
/// - unread: each with how many rows have something in it
/// - rows: how many rows the split has
/// - settings: the keys that name the columns to read, as the subject of "names" or "name"
pub fn unread_note(
    unread: &[(String, usize)],
    split: Split,
    rows: usize,
    settings: &str,
) -> Option<String> {
    if unread.is_empty() {
        return None;
    }
    let columns: Vec<String> = unread
        .iter()
        .map(|(column, rows)| format!("`{column}` (in {rows})"))
        .collect();
    Some(format!(
        "the {split} split has {rows} rows, of which these columns are not read: {}; {settings} those \
         to read",
        columns.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_are_not_read_are_counted_and_named() {
        let mut tally = ColumnTally::default();
        tally.see("text", true, 2);
        tally.see("id", false, 2);
        tally.see("empty", false, 0);
        tally.see("id", false, 3);
        assert_eq!(tally.names(), ["text", "id", "empty"]);
        let unread = tally.into_unread();
        let note = unread_note(&unread, Split::Train, 6, "data.columns names").unwrap();
        let expected = "the train split has 6 rows, of which these columns are not read: `id` (in 5); \
                        data.columns names those to read";
        assert_eq!(note, expected);
        assert_eq!(
            unread_note(&[], Split::Train, 6, "data.columns names"),
            None
        );
    }
}
