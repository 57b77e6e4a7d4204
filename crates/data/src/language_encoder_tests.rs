//! Expected ids: `language_encoder_reference.py` beside this file prints them.

#[path = "language_encoder_seam_tests.rs"]
mod seams;

use std::error::Error;
use std::fs;
use std::path::Path;

use super::*;
use crate::{Place, Question, small_tokenizer};

const BEGIN: u32 = 277;
const END: u32 = 278;

/// `the red 😀 sky`: three of the tokens are bytes of one character.
const RED_SKY: [u32; 10] = [116, 257, 32, 260, 100, 32, 269, 152, 128, 273];

fn model_dir(is_framed: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    small_tokenizer::write(dir.path(), is_framed);
    let template = include_str!("chat_templates/chatml.jinja");
    fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    dir
}

fn row(content: LanguageContent) -> LanguageRow {
    LanguageRow {
        images: Vec::new(),
        answers: Vec::new(),
        content,
        place: Place {
            file: Path::new("train.jsonl").into(),
            line: 8,
        },
    }
}

fn pair(prompt: &str, completion: &str) -> LanguageRow {
    row(LanguageContent::PromptCompletion {
        prompt: prompt.to_owned(),
        completion: completion.to_owned(),
    })
}

fn text(text: &str) -> LanguageRow {
    row(LanguageContent::Text(text.to_owned()))
}

fn conversation() -> LanguageRow {
    let messages = [
        ("system", "a"),
        ("user", "the sky?"),
        ("assistant", "blue 😀"),
        ("user", "is red"),
        ("assistant", ""),
    ];
    row(LanguageContent::Conversation {
        messages: messages
            .map(|(role, content)| Message::new(role, content))
            .into(),
        tools: Vec::new(),
        completion_start: 0,
    })
}

fn config(train_on: TrainOn, max_length: usize) -> DataConfig {
    DataConfig {
        train_on,
        max_length,
        ..DataConfig::new("unused")
    }
}

/// Encodes with the framed tokenizer and the ChatML template.
fn encoded(
    rows: &[LanguageRow],
    train_on: TrainOn,
    max_length: usize,
) -> Result<LanguageExamples, DataError> {
    let dir = model_dir(true);
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let config = config(train_on, max_length);
    LanguageEncoder::for_rows(&tokenizer, dir.path(), &config, rows)?.encode_all(rows)
}

fn one(row: LanguageRow, train_on: TrainOn) -> LanguageExample {
    let mut examples = encoded(&[row], train_on, 128).unwrap().examples;
    assert_eq!(examples.len(), 1);
    examples.remove(0)
}

/// The indices of the targets.
fn targets(example: &LanguageExample) -> Vec<usize> {
    let trained = example.trained.iter().enumerate();
    trained
        .filter_map(|(index, trained)| trained.then_some(index))
        .collect()
}

#[test]
fn a_text_has_the_ids_that_transformers_gives_and_the_end_token() {
    for (words, ids) in [
        ("The sky is blue", vec![84, 257, 273, 276, 266]),
        ("the red 😀 sky", RED_SKY.to_vec()),
        (
            "Question: the sky?\n\nAnswer:",
            vec![
                81, 117, 101, 115, 116, 105, 111, 110, 58, 258, 273, 63, 270, 65, 110, 115, 119,
                101, 114, 58,
            ],
        ),
        ("trailing  ", vec![116, 114, 97, 105, 108, 259, 103, 274]),
    ] {
        let example = one(text(words), TrainOn::Completion);
        assert_eq!(
            example.ids,
            [vec![BEGIN], ids, vec![END]].concat(),
            "{words}"
        );
        assert_eq!(
            targets(&example),
            (1..example.ids.len()).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_long_text_is_split_rather_than_cut() {
    let whole = one(text("the red 😀 sky"), TrainOn::Completion).ids;
    let split = encoded(&[text("the red 😀 sky"), text("")], TrainOn::Completion, 5).unwrap();
    let chunks: Vec<&[u32]> = split
        .examples
        .iter()
        .map(|chunk| chunk.ids.as_slice())
        .collect();
    assert_eq!(chunks, [&whole[..5], &whole[4..9], &whole[8..]]);
    assert_eq!(
        (split.dropped, split.truncated),
        (1, 0),
        "the empty text is dropped"
    );
}

#[test]
fn a_conversation_has_the_ids_of_apply_chat_template_and_learns_the_assistants_turns() {
    let expected = [
        279, 115, 121, 115, 116, 101, 109, 10, 97, 280, 10, 279, 117, 115, 101, 114, 10, 116, 257,
        273, 63, 280, 10, 279, 97, 115, 115, 275, 116, 97, 110, 116, 10, 265, 32, 269, 152, 128,
        280, 10, 279, 117, 115, 101, 114, 10, 275, 32, 260, 100, 280, 10, 279, 97, 115, 115, 275,
        116, 97, 110, 116, 10, 280, 10,
    ];
    let example = one(conversation(), TrainOn::Completion);
    assert_eq!(example.ids, expected);
    // `blue 😀<|im_end|>\n`, then `<|im_end|>\n` of the empty turn.
    assert_eq!(
        targets(&example),
        [(33..40).collect::<Vec<_>>(), vec![62, 63]].concat()
    );
    let everything = one(conversation(), TrainOn::All);
    assert_eq!(everything.ids, expected);
    assert_eq!(
        targets(&everything),
        (1..expected.len()).collect::<Vec<_>>()
    );
}

/// Learning what stands between two renderings is learning what the assistant said, in every template.
#[test]
fn what_is_learnt_reads_as_the_assistants_turns_in_every_template() {
    for (template, turns) in [
        (
            include_str!("chat_templates/chatml.jinja"),
            "blue 😀<|im_end|>\n<|im_end|>\n",
        ),
        (
            include_str!("chat_templates/headers.jinja"),
            "blue 😀<|eot|><|eot|>",
        ),
        (
            include_str!("chat_templates/turns.jinja"),
            "blue 😀<end_of_turn>\n<end_of_turn>\n",
        ),
        (
            include_str!("chat_templates/inst.jinja"),
            " blue 😀</s> </s>",
        ),
    ] {
        let dir = model_dir(true);
        fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
        let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
        let mut conversation = conversation();
        let LanguageContent::Conversation { messages, .. } = &mut conversation.content else {
            unreachable!("it is one");
        };
        // Not every template takes a system message.
        messages.remove(0);
        let text = ChatTemplate::load(dir.path(), None)
            .unwrap()
            .render(messages, &[], false)
            .unwrap();
        let rows = [conversation];
        let config = config(TrainOn::Completion, 512);
        let encoder = LanguageEncoder::for_rows(&tokenizer, dir.path(), &config, &rows).unwrap();
        let example = encoder.encode(&rows[0]).unwrap().remove(0);
        assert_eq!(tokenizer.decode(&example.ids, false).unwrap(), text);
        let learnt: Vec<u32> = targets(&example)
            .into_iter()
            .map(|index| example.ids[index])
            .collect();
        assert_eq!(tokenizer.decode(&learnt, false).unwrap(), turns);
        let begins = example.ids.iter().filter(|id| **id == BEGIN).count();
        assert_eq!(
            begins,
            text.matches("<s>").count(),
            "the frame is not added again"
        );
    }
}

#[test]
fn a_conversation_with_a_prompt_learns_only_the_completion() {
    let mut conversation = conversation();
    if let LanguageContent::Conversation {
        completion_start, ..
    } = &mut conversation.content
    {
        *completion_start = 4;
    }
    assert_eq!(targets(&one(conversation, TrainOn::Completion)), [62, 63]);
}

#[test]
fn a_token_that_straddles_the_border_counts_with_the_completion() {
    // ` blue` is one token, with the blank of the prompt.
    let example = one(pair("The sky is ", "blue"), TrainOn::Completion);
    assert_eq!(example.ids, [BEGIN, 84, 257, 273, 276, 266, END]);
    assert_eq!(targets(&example), [5, 6]);
    let example = one(pair("The sky is", " blue"), TrainOn::Completion);
    assert_eq!(targets(&example), [5, 6]);
    let example = one(pair("The sky i", "s blue"), TrainOn::Completion);
    assert_eq!(targets(&example), [4, 5, 6]);
    let example = one(pair("The sky is ", "blue"), TrainOn::All);
    assert_eq!(targets(&example), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn all_tokens_of_one_character_are_on_the_same_side() {
    let framed = [&[BEGIN], RED_SKY.as_slice(), &[END]].concat();
    let example = one(pair("the red ", "😀 sky"), TrainOn::Completion);
    assert_eq!(example.ids, framed);
    assert_eq!(targets(&example), [7, 8, 9, 10, 11]);
    let example = one(pair("the red 😀", " sky"), TrainOn::Completion);
    assert_eq!(targets(&example), [10, 11]);
}

#[test]
fn blanks_at_the_border_are_tokens_like_others() {
    // Two blanks in the completion, one of them a token of its own: ` `, ` sky`.
    let example = one(pair("The", "  sky"), TrainOn::Completion);
    assert_eq!(example.ids, [BEGIN, 84, 257, 32, 273, END]);
    assert_eq!(targets(&example), [3, 4, 5]);
    let example = one(pair("The  ", "sky"), TrainOn::Completion);
    assert_eq!(targets(&example), [4, 5]);
}

#[test]
fn an_end_token_that_is_written_out_is_not_doubled() {
    let example = one(pair("The sky", " is</s>"), TrainOn::Completion);
    assert_eq!(example.ids, [BEGIN, 84, 257, 273, 276, END]);
    assert_eq!(targets(&example), [4, 5]);
}

#[test]
fn examples_are_cut_at_their_end_and_counted_where_nothing_is_left_to_learn() {
    let rows = [
        pair("The sky is", " blue"),
        pair("The", " sky is blue"),
        pair("", ""),
    ];
    let encoded = encoded(&rows, TrainOn::Completion, 5).unwrap();
    let of_second = LanguageExample {
        ids: vec![BEGIN, 84, 257, 273, 276],
        trained: vec![false, false, false, true, true],
        truncated: true,
    };
    let of_third = LanguageExample {
        ids: vec![BEGIN, END],
        trained: vec![false, true],
        truncated: false,
    };
    assert_eq!(encoded.examples, [of_second, of_third]);
    assert_eq!((encoded.dropped, encoded.truncated), (1, 1));
}

#[test]
fn rows_without_anything_to_learn_are_an_error() {
    let question = row(LanguageContent::Conversation {
        messages: vec![Message::new("user", "the sky?")],
        tools: Vec::new(),
        completion_start: 0,
    });
    let error = encoded(&[question.clone(), question], TrainOn::Completion, 64).unwrap_err();
    let expected = "none of the 2 rows has a token left to train on within `data.max_length` = 64";
    assert!(error.to_string().starts_with(expected), "{error}");
    let error = encoded(&[text("a")], TrainOn::All, 1).unwrap_err();
    assert!(error.to_string().contains("expected at least 2"), "{error}");
}

#[test]
fn a_question_is_learnt_by_its_right_choice() {
    let question = row(LanguageContent::MultipleChoice(Question {
        prompt: "The sky is ".to_owned(),
        choices: vec!["red".to_owned(), "blue".to_owned()],
        answer: 1,
    }));
    let example = one(question, TrainOn::Completion);
    assert_eq!(example.ids, [BEGIN, 84, 257, 273, 276, 266, END]);
    assert_eq!(targets(&example), [5, 6]);
}

#[test]
fn a_template_that_rewrites_history_is_refused_with_the_message() {
    let dir = model_dir(true);
    // Shows what the assistant said only at the conversation's end.
    let template = "{% for message in messages %}{{ message.role }}:{% if loop.last or \
                    message.role == 'user' %}{{ message.content }}{% endif %};{% endfor %}";
    fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let rows = [conversation()];
    let of = |train_on| {
        let config = config(train_on, 128);
        LanguageEncoder::for_rows(&tokenizer, dir.path(), &config, &rows)
            .unwrap()
            .encode_all(&rows)
    };
    let error = of(TrainOn::Completion).unwrap_err();
    assert!(error.to_string().starts_with("train.jsonl:8: "), "{error}");
    let source = error.source().unwrap().to_string();
    assert!(
        source.contains("the conversation up to it is not the beginning"),
        "{source}"
    );
    assert!(source.contains("the tokens of message 3"), "{source}");
    assert!(of(TrainOn::All).is_ok());
}

#[test]
fn each_turn_is_an_example_where_the_template_leaves_thoughts_out_of_the_history() {
    let dir = model_dir(true);
    let template = include_str!("chat_templates/thinking.jinja");
    fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let messages = [
        ("user", "the sky?"),
        ("assistant", "<think>\nup\n</think>\n\nblue"),
        ("user", "is red?"),
        ("assistant", "no"),
    ]
    .map(|(role, content)| Message::new(role, content));
    let rows = [row(LanguageContent::Conversation {
        messages: messages.to_vec(),
        tools: Vec::new(),
        completion_start: 0,
    })];
    let encoded = |train_on| {
        let config = config(train_on, 256);
        let encoder = LanguageEncoder::for_rows(&tokenizer, dir.path(), &config, &rows)?;
        encoder.encode_all(&rows)
    };
    let error = encoded(TrainOn::Completion).unwrap_err();
    let source = error.source().unwrap().to_string();
    assert!(
        source.contains("set `data.train_on = \"each-turn\"`"),
        "{source}"
    );

    let examples = encoded(TrainOn::EachTurn).unwrap().examples;
    let template = ChatTemplate::load(dir.path(), None).unwrap();
    for (example, turns, learnt) in [
        (&examples[0], 2, "<think>\nup\n</think>\n\nblue<|im_end|>\n"),
        (&examples[1], 4, "<think>\n\n</think>\n\nno<|im_end|>\n"),
    ] {
        let text = template.render(&messages[..turns], &[], false).unwrap();
        assert_eq!(tokenizer.decode(&example.ids, false).unwrap(), text);
        let ids: Vec<u32> = targets(example)
            .into_iter()
            .map(|index| example.ids[index])
            .collect();
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), learnt);
    }
    assert_eq!(examples.len(), 2);
}

#[test]
fn turns_beyond_the_maximal_length_are_counted() {
    // The first turn ends with token 40, the second begins with token 63.
    let encoded = encoded(&[conversation()], TrainOn::EachTurn, 62).unwrap();
    assert_eq!(encoded.examples.len(), 1);
    assert_eq!(targets(&encoded.examples[0]), (33..40).collect::<Vec<_>>());
    assert_eq!((encoded.dropped, encoded.truncated), (1, 0));
}

#[test]
fn conversations_need_a_template() {
    let dir = model_dir(true);
    fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let config = config(TrainOn::Completion, 64);
    let for_rows = |rows: &[LanguageRow]| {
        LanguageEncoder::for_rows(&tokenizer, dir.path(), &config, rows).map(|_| ())
    };
    let error = for_rows(&[pair("a", "b"), conversation()]).unwrap_err();
    assert!(
        error.to_string().contains("has no chat template"),
        "{error}"
    );
    assert!(for_rows(&[pair("a", "b")]).is_ok());
    let encoder = LanguageEncoder::new(&tokenizer, None, &config).unwrap();
    let error = encoder.encode(&conversation()).unwrap_err();
    assert!(error.to_string().contains("train.jsonl:8"), "{error}");
}

#[test]
fn a_prompt_ends_where_the_model_is_to_go_on() {
    let dir = model_dir(true);
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let config = config(TrainOn::Completion, 64);
    let rows = [conversation()];
    let encoder = LanguageEncoder::for_rows(&tokenizer, dir.path(), &config, &rows).unwrap();
    let messages = [
        Message::new("system", "a"),
        Message::new("user", "the sky?"),
    ];
    let asked = [
        279, 115, 121, 115, 116, 101, 109, 10, 97, 280, 10, 279, 117, 115, 101, 114, 10, 116, 257,
        273, 63, 280, 10, 279, 97, 115, 115, 275, 116, 97, 110, 116, 10,
    ];
    assert_eq!(encoder.chat_prompt(&messages, &[]).unwrap(), asked);
    let whole = encoder.encode(&conversation()).unwrap().remove(0);
    let prompt = encoder.prompt(&conversation()).unwrap();
    assert_eq!(
        prompt,
        whole.ids[..62],
        "all but the assistant's last words"
    );
    let prompt = encoder.prompt(&pair("The sky is", " blue")).unwrap();
    assert_eq!(prompt, [BEGIN, 84, 257, 273, 276]);
}

#[test]
fn without_a_frame_the_first_token_of_a_completion_is_no_target() {
    let dir = model_dir(false);
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let config = config(TrainOn::Completion, 64);
    let encoder = LanguageEncoder::new(&tokenizer, None, &config).unwrap();
    let example = encoder.encode(&pair("", "The sky")).unwrap().remove(0);
    assert_eq!(example.ids, [84, 257, 273, END]);
    assert_eq!(targets(&example), [1, 2, 3]);
}
