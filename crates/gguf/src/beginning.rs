//! What the first bytes of a GGUF file tell, where the rest is not at hand.

use crate::cursor::Cursor;
use crate::file::MAGIC;
use crate::value::GgufValue;

/// A text of the metadata of a file of which only the first bytes are given. Nothing if it has no such text
/// within them, or they are not those of a GGUF file.
///
/// - key: such as `general.type`, which writers put in front
pub fn text_in_beginning(bytes: &[u8], key: &str) -> Option<String> {
    const VERSION: u64 = 4;
    let mut cursor = Cursor::new(bytes);
    if cursor.take(MAGIC.len() as u64).ok()? != MAGIC {
        return None;
    }
    cursor.take(VERSION).ok()?;
    let _tensor_count = cursor.u64().ok()?;
    let value_count = cursor.u64().ok()?;
    for _ in 0..value_count {
        let found = cursor.text().ok()?;
        let value = cursor.value(&found).ok()?;
        if found == key {
            return match value {
                GgufValue::String(text) => Some(text),
                _ => None,
            };
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use eigenmix_quant::Encoding;

    use super::*;
    use crate::{GgufOutput, write_gguf};

    #[test]
    fn a_text_is_found_as_soon_as_it_is_there_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.gguf");
        let metadata = [
            ("general.file_type".to_owned(), GgufValue::from(1u32)),
            ("general.type".to_owned(), GgufValue::from("adapter")),
        ];
        let row = [0; 4];
        let output = GgufOutput::new("row", [1, 1], Encoding::F32, &row);
        write_gguf(&path, &metadata, &[output]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        // The prefix, two counts, and both pairs.
        let end = 24 + (8 + 17 + 4 + 4) + (8 + 12 + 4 + 8 + 7);
        let found = |length: usize| text_in_beginning(&bytes[..length], "general.type");
        assert_eq!(found(end).as_deref(), Some("adapter"));
        assert_eq!(found(end - 1), None);
        assert_eq!(found(0), None);
        assert_eq!(text_in_beginning(&bytes, "general.file_type"), None);
        assert_eq!(text_in_beginning(&bytes, "general.name"), None);
        assert_eq!(text_in_beginning(b"no such file", "general.type"), None);
    }
}
