//! The line of each key of a file.

use std::collections::HashMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::KeyPath;

/// The lines of a TOML file, from 1, by the paths of its keys.
pub struct Lines(HashMap<KeyPath, usize>);

/// A line of the file, if known, and a message about it.
pub type Placed = (Option<usize>, String);

impl Lines {
    /// The lines of every key in `text`, and where it is not TOML.
    pub fn of(text: &str) -> (Self, Vec<Placed>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut lines = Self(HashMap::new());
        lines.add_table(text, &KeyPath::default(), table.get_ref());
        let mistakes = errors.iter().map(|error| {
            let line = error.span().map(|span| line_at(text, span.start));
            (line, error.message().to_owned())
        });
        (lines, mistakes.collect())
    }

    /// The line of `path`, or of the nearest thing around it.
    pub fn of_path(&self, path: &KeyPath) -> Option<usize> {
        match self.0.get(path) {
            Some(line) => Some(*line),
            None => self.of_path(&path.parent()?),
        }
    }

    fn add_table(&mut self, text: &str, path: &KeyPath, table: &DeTable) {
        for (key, value) in table {
            let path = path.key(key.get_ref());
            self.0.insert(path.clone(), line_at(text, key.span().start));
            self.add_value(text, &path, value);
        }
    }

    fn add_value(&mut self, text: &str, path: &KeyPath, value: &Spanned<DeValue>) {
        match value.get_ref() {
            DeValue::Table(table) => self.add_table(text, path, table),
            DeValue::Array(list) => {
                for (index, item) in list.iter().enumerate() {
                    let path = path.index(index);
                    let line = line_at(text, item.span().start);
                    self.0.insert(path.clone(), line);
                    self.add_value(text, &path, item);
                }
            }
            _ => {}
        }
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_the_line_that_it_stands_in() {
        let text = "a = 1\n[b]\nc.d = [1,\n  { e = 2 }]\n[[f]]\ng = 1\n[[f]]\nh.i = 3\n";
        let (lines, mistakes) = Lines::of(text);
        assert!(mistakes.is_empty());
        let line = |path: KeyPath| lines.of_path(&path);
        let top = KeyPath::default();
        assert_eq!(line(KeyPath::dotted("a")), Some(1));
        assert_eq!(line(KeyPath::dotted("b.c.d")), Some(3));
        assert_eq!(line(KeyPath::dotted("b.c.d").index(1).key("e")), Some(4));
        assert_eq!(line(top.key("f").index(1).key("h").key("i")), Some(8));
        assert_eq!(line(top.key("f").index(0).key("missing")), Some(5));
        assert_eq!(line(KeyPath::dotted("nowhere")), None);
    }

    #[test]
    fn several_syntax_errors_are_reported_with_their_lines() {
        let (_, mistakes) = Lines::of("a = 1\nb = \nc = [1\nd = 4\n");
        let lines: Vec<_> = mistakes.iter().map(|(line, _)| *line).collect();
        assert!(lines.contains(&Some(2)) && lines.len() > 1, "{mistakes:?}");
    }
}
