//! Expected ids: the pairs that `language_encoder_reference.py` beside this file prints, made as
//! lm-evaluation-harness makes them.

use std::path::Path;

use super::*;
use crate::{DataConfig, TextTokenizer, small_tokenizer};

const BEGIN: u32 = 277;

fn encoded(
    is_framed: bool,
    max_length: usize,
    prompt: &str,
    choices: &[&str],
) -> Result<ChoiceExample, String> {
    let dir = tempfile::tempdir().unwrap();
    small_tokenizer::write(dir.path(), is_framed);
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let config = DataConfig {
        max_length,
        ..DataConfig::new("unused")
    };
    let encoder = LanguageEncoder::new(&tokenizer, None, &config).unwrap();
    let row = LanguageRow {
        images: Vec::new(),
        answers: Vec::new(),
        content: LanguageContent::MultipleChoice(Question {
            prompt: prompt.to_owned(),
            choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
            answer: 1,
        }),
        place: Place {
            file: Path::new("test.jsonl").into(),
            line: 3,
        },
    };
    encoder.choices(&row).map_err(|error| error.to_string())
}

#[test]
fn choices_have_the_tokens_that_lm_evaluation_harness_gives_them() {
    let the_sky_is = vec![BEGIN, 116, 257, 273, 276];
    let expected = ChoiceExample {
        prompt: the_sky_is.clone(),
        choices: vec![vec![32, 260, 100], vec![266, 273]],
        answer: 1,
        truncated: false,
    };
    let found = encoded(true, 64, "the sky is", &["red", "blue sky"]).unwrap();
    assert_eq!(found, expected);
    // A blank that is there already is not doubled, on either side of the border.
    assert_eq!(
        encoded(true, 64, "the sky is ", &["red", "blue sky"]),
        Ok(expected.clone())
    );
    assert_eq!(
        encoded(true, 64, "the sky is", &[" red", "blue sky"]),
        Ok(expected)
    );

    let found = encoded(true, 64, "the sky is  ", &["red", "blue"]).unwrap();
    assert_eq!(found.prompt, the_sky_is);
    assert_eq!(found.choices[0], [32, 32, 260, 100]);
    let found = encoded(true, 64, "the sky is\n\n", &["red", "blue"]).unwrap();
    assert_eq!(found.prompt, the_sky_is);
    assert_eq!(found.choices[1], [270, 265]);
}

#[test]
fn a_prompt_that_is_too_long_loses_its_beginning() {
    let found = encoded(true, 6, "the sky is", &["red", "blue sky"]).unwrap();
    assert_eq!(found.prompt, [257, 273, 276]);
    assert_eq!(found.choices, [vec![32, 260, 100], vec![266, 273]]);
    assert!(found.truncated);
    let error = encoded(true, 3, "the sky is", &["blue sky", "red"]).unwrap_err();
    let expected = "test.jsonl:3: choice 2 has 3 tokens, `data.max_length` = 3 leaves no room";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn an_empty_prompt_is_the_token_that_begins_a_text() {
    for is_framed in [true, false] {
        let found = encoded(is_framed, 64, "", &["red", "blue"]).unwrap();
        assert_eq!(found.prompt, [BEGIN]);
        assert_eq!(found.choices, [vec![32, 260, 100], vec![266]]);
    }
}

#[test]
fn a_row_of_another_form_is_no_question() {
    let dir = tempfile::tempdir().unwrap();
    small_tokenizer::write(dir.path(), true);
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let encoder = LanguageEncoder::new(&tokenizer, None, &DataConfig::new("unused")).unwrap();
    let row = LanguageRow {
        images: Vec::new(),
        answers: Vec::new(),
        content: LanguageContent::Text("the sky".to_owned()),
        place: Place {
            file: Path::new("test.jsonl").into(),
            line: 3,
        },
    };
    let error = encoder.choices(&row).unwrap_err().to_string();
    assert!(
        error.starts_with("test.jsonl:3: expected a multiple-choice question"),
        "{error}"
    );
}

#[test]
fn tokens_of_the_prompt_that_choices_do_not_share_go_with_the_choices() {
    let texts = [vec![5, 6, 7, 8], vec![5, 6, 9, 8], vec![5, 6, 7]];
    assert_eq!(common_beginning(&texts, &[3, 3, 3]), 2);
    assert_eq!(common_beginning(&texts, &[3, 1, 3]), 1);
    assert_eq!(common_beginning(&texts, &[2, 2, 2]), 2);
}
