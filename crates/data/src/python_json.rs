//! JSON as Python's `json.dumps` writes it, with the options that the `tojson` of chat templates has.

use std::io::{Error, Write};

use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

/// What `json.dumps` puts between values, and how it writes numbers and letters.
pub(crate) struct PythonJson {
    /// How many blanks a level is indented by; without, all is one line.
    pub indent: Option<usize>,
    /// Between values, and between a key and its value.
    pub separators: (String, String),
    /// Whether letters beyond ASCII are written as `\u…`.
    pub ensures_ascii: bool,
    depth: usize,
    has_value: bool,
}

impl PythonJson {
    /// - separators: else Python's, which are `, ` and `: `, of indented JSON `,` and `: `
    pub(crate) fn new(
        indent: Option<usize>,
        separators: Option<(String, String)>,
        ensures_ascii: bool,
    ) -> Self {
        let between = if indent.is_some() { "," } else { ", " };
        Self {
            indent,
            separators: separators.unwrap_or((between.to_owned(), ": ".to_owned())),
            ensures_ascii,
            depth: 0,
            has_value: false,
        }
    }

    fn new_line<W: Write + ?Sized>(&self, writer: &mut W) -> Result<(), Error> {
        match self.indent {
            None => Ok(()),
            Some(width) => write!(writer, "\n{:1$}", "", width * self.depth),
        }
    }

    fn open<W: Write + ?Sized>(&mut self, writer: &mut W, bracket: &str) -> Result<(), Error> {
        self.depth += 1;
        self.has_value = false;
        writer.write_all(bracket.as_bytes())
    }

    fn close<W: Write + ?Sized>(&mut self, writer: &mut W, bracket: &str) -> Result<(), Error> {
        self.depth -= 1;
        if self.has_value {
            self.new_line(writer)?;
        }
        writer.write_all(bracket.as_bytes())
    }

    fn separate<W: Write + ?Sized>(&self, writer: &mut W, is_first: bool) -> Result<(), Error> {
        if !is_first {
            writer.write_all(self.separators.0.as_bytes())?;
        }
        self.new_line(writer)
    }
}

impl Formatter for PythonJson {
    fn write_f64<W: Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> Result<(), Error> {
        writer.write_all(python_float(value).as_bytes())
    }

    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> Result<(), Error> {
        if !self.ensures_ascii {
            return writer.write_all(fragment.as_bytes());
        }
        for char in fragment.chars() {
            if char.is_ascii() {
                write!(writer, "{char}")?;
                continue;
            }
            for unit in char.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }

    fn write_char_escape<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> Result<(), Error> {
        CompactFormatter.write_char_escape(writer, escape)
    }

    fn begin_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> Result<(), Error> {
        self.open(writer, "[")
    }

    fn end_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> Result<(), Error> {
        self.close(writer, "]")
    }

    fn begin_array_value<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        is_first: bool,
    ) -> Result<(), Error> {
        self.separate(writer, is_first)
    }

    fn end_array_value<W: Write + ?Sized>(&mut self, _writer: &mut W) -> Result<(), Error> {
        self.has_value = true;
        Ok(())
    }

    fn begin_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> Result<(), Error> {
        self.open(writer, "{")
    }

    fn end_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> Result<(), Error> {
        self.close(writer, "}")
    }

    fn begin_object_key<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        is_first: bool,
    ) -> Result<(), Error> {
        self.separate(writer, is_first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> Result<(), Error> {
        writer.write_all(self.separators.1.as_bytes())
    }

    fn end_object_value<W: Write + ?Sized>(&mut self, _writer: &mut W) -> Result<(), Error> {
        self.has_value = true;
        Ok(())
    }
}

/// A number as Python's `repr` writes it: the shortest digits that are this number and no other, with an
/// exponent below 1e-4 and from 1e16 on.
pub(crate) fn python_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let parts = scientific.split_once('e');
    let Some((digits, exponent)) = parts.and_then(|(digits, exponent)| {
        let exponent: i32 = exponent.parse().ok()?;
        Some((digits, exponent))
    }) else {
        // Infinite, or none.
        return scientific.to_lowercase();
    };
    if (-4..16).contains(&exponent) {
        let written = format!("{value}");
        return match written.contains('.') {
            true => written,
            false => written + ".0",
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: `repr` of Python 3.11.
    #[test]
    fn numbers_are_written_as_python_writes_them() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (2.5, "2.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (0.0001, "0.0001"),
            (0.000_012_5, "1.25e-05"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (-1.5e300, "-1.5e+300"),
        ] {
            assert_eq!(python_float(value), expected);
        }
    }
}
