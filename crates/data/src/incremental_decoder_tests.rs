//! Pieces of text come as early as they can, and together are the whole text.

use super::*;
use crate::small_tokenizer;

/// `the red 😀 sky` and the end token, from `language_encoder_reference.py`.
const IDS: [u32; 11] = [116, 257, 32, 260, 100, 32, 269, 152, 128, 273, 278];

fn tokenizer() -> TextTokenizer {
    let dir = tempfile::tempdir().unwrap();
    small_tokenizer::write(dir.path(), true);
    TextTokenizer::from_dir(dir.path()).unwrap()
}

#[test]
fn a_text_is_decoded_with_or_without_special_tokens() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.decode(&IDS, true).unwrap(), "the red 😀 sky");
    assert_eq!(tokenizer.decode(&IDS, false).unwrap(), "the red 😀 sky</s>");
    assert_eq!(tokenizer.decode(&[], true).unwrap(), "");
}

#[test]
fn a_character_is_shown_once_all_its_tokens_are_there() {
    let tokenizer = tokenizer();
    let mut decoder = IncrementalDecoder::new(&tokenizer, true);
    let pieces = IDS.map(|id| decoder.push(id).unwrap());
    assert_eq!(
        pieces,
        ["t", "he", " ", "re", "d", " ", "", "", "😀", " sky", ""]
    );
    assert_eq!(decoder.finish().unwrap(), "");
}

#[test]
fn a_character_that_is_never_completed_is_shown_at_the_end() {
    let tokenizer = tokenizer();
    let mut decoder = IncrementalDecoder::new(&tokenizer, true);
    let pieces = [116, 269, 152].map(|id| decoder.push(id).unwrap());
    assert_eq!(pieces, ["t", "", ""]);
    assert_eq!(decoder.finish().unwrap(), "\u{fffd}");

    let mut decoder = IncrementalDecoder::new(&tokenizer, true);
    let pieces = [269, 116, 273].map(|id| decoder.push(id).unwrap());
    assert_eq!(
        pieces,
        ["", "\u{fffd}t", " sky"],
        "what follows decides that it is broken"
    );
}

#[test]
fn the_pieces_make_up_the_whole() {
    let tokenizer = tokenizer();
    for text in ["", "The sky's  blue\n\n😀é東", "<|im_start|>a<|im_end|>"] {
        let ids = tokenizer.encode(text, None, 99).unwrap().ids;
        let mut decoder = IncrementalDecoder::new(&tokenizer, false);
        let mut pieces = String::new();
        for id in &ids {
            pieces.push_str(&decoder.push(*id).unwrap());
        }
        pieces.push_str(&decoder.finish().unwrap());
        assert_eq!(pieces, format!("<s>{text}"));
    }
}
