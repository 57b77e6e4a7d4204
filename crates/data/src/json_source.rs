//! The objects of a JSON file as they are written there, to be written again with more fields: every
//! number keeps its digits, and a name that is there twice stays so, which a parsed value would lose.

use std::ops::Range;

use serde_json::Value;

/// A text of objects: one after the other, or in an array.
pub(crate) struct JsonSource {
    text: Vec<u8>,
    /// Where each object is, braces included.
    objects: Vec<Range<usize>>,
}

impl JsonSource {
    /// - text: valid JSON: objects, or one array of them
    pub(crate) fn new(text: Vec<u8>) -> Self {
        let first = text.iter().find(|byte| b"[{".contains(byte));
        // In an array the objects are one level deeper.
        let outside = usize::from(first == Some(&b'['));
        let (mut depth, mut start, mut objects) = (0_usize, 0, Vec::new());
        let mut letters = Letters::default();
        for (at, byte) in text.iter().enumerate() {
            if letters.is_in_string(*byte) {
                continue;
            }
            match byte {
                b'{' | b'[' => {
                    if depth == outside {
                        start = at;
                    }
                    depth += 1;
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    if depth == outside && *byte == b'}' {
                        objects.push(start..at + 1);
                    }
                }
                _ => {}
            }
        }
        Self { text, objects }
    }

    /// Each object in a line of its own, without the blanks between its parts, with `fields` of it by
    /// its index.
    pub(crate) fn lines_with(&self, fields: impl Fn(usize) -> Vec<(String, Value)>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len());
        for (index, object) in self.objects.iter().enumerate() {
            let mut letters = Letters::default();
            let inner = object.start..object.end - 1;
            out.extend(
                self.text[inner]
                    .iter()
                    .copied()
                    .filter(|byte| letters.is_in_string(*byte) || !byte.is_ascii_whitespace()),
            );
            append(&mut out, fields(index), ",");
            out.extend(b"}\n");
        }
        out
    }

    /// The whole as it stands, with `fields` of each object by its index.
    pub(crate) fn whole_with(&self, fields: impl Fn(usize) -> Vec<(String, Value)>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len());
        let mut copied = 0;
        for (index, object) in self.objects.iter().enumerate() {
            let inner = self.text[copied..object.end - 1].trim_ascii_end();
            out.extend(inner);
            append(&mut out, fields(index), ", ");
            copied += inner.len();
        }
        out.extend(self.text[copied..].trim_ascii_end());
        out.push(b'\n');
        out
    }
}

/// Appends fields to an object that is open still.
fn append(out: &mut Vec<u8>, fields: Vec<(String, Value)>, separator: &str) {
    let colon = separator.replace(',', ":");
    for (name, value) in fields {
        if out.last() != Some(&b'{') {
            out.extend(separator.as_bytes());
        }
        out.extend(Value::from(name).to_string().as_bytes());
        out.extend(colon.as_bytes());
        out.extend(value.to_string().as_bytes());
    }
}

/// Which bytes are those of strings, quotes included.
#[derive(Default)]
struct Letters {
    in_string: bool,
    is_escaped: bool,
}

impl Letters {
    /// Of the next byte.
    fn is_in_string(&mut self, byte: u8) -> bool {
        match (self.in_string, byte) {
            (false, b'"') => self.in_string = true,
            (false, _) => return false,
            (true, _) if self.is_escaped => self.is_escaped = false,
            (true, b'\\') => self.is_escaped = true,
            (true, b'"') => self.in_string = false,
            (true, _) => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(index: usize) -> Vec<(String, Value)> {
        vec![
            ("p".to_owned(), index.into()),
            ("q".to_owned(), "\"".into()),
        ]
    }

    #[test]
    fn lines_keep_digits_names_and_strings() {
        let text =
            "{\"a\": 12345678901234567890123, \"a\": 1.50, \"b }\\\" {\": [ {} ]}\r\n\n{ }\n";
        let source = JsonSource::new(text.as_bytes().to_vec());
        let expected = "{\"a\":12345678901234567890123,\"a\":1.50,\"b }\\\" {\":[{}],\"p\":0,\"q\":\"\\\"\"}\n\
                        {\"p\":1,\"q\":\"\\\"\"}\n";
        let written = String::from_utf8(source.lines_with(fields)).unwrap();
        assert_eq!(written, expected);
    }

    #[test]
    fn an_array_keeps_its_layout() {
        let text = "[\n  {\n    \"a\": 1e5\n  },\n  {}\n]";
        let source = JsonSource::new(text.as_bytes().to_vec());
        let written = String::from_utf8(source.whole_with(|index| {
            let mut fields = fields(index);
            fields.truncate(1);
            fields
        }));
        let expected = "[\n  {\n    \"a\": 1e5, \"p\": 0\n  },\n  {\"p\": 1}\n]\n";
        assert_eq!(written.unwrap(), expected);
    }
}
