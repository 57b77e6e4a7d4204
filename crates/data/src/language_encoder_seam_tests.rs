//! Where texts meet special tokens, each other, and turns that are not learnt.

use serde_json::{Map, json};

use super::*;

#[test]
fn a_text_that_begins_with_the_first_token_gets_no_second_one() {
    let dir = model_dir(true);
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let begin = tokenizer.decode(&[BEGIN], false).unwrap();
    let encoder = LanguageEncoder::new(&tokenizer, None, &DataConfig::new("unused")).unwrap();
    let ids = |row: &LanguageRow| encoder.encode(row).unwrap()[0].ids.clone();
    let framed = format!("{begin}the sky");
    assert_eq!(ids(&text(&framed)), ids(&text("the sky")));
    assert_eq!(
        ids(&text(&framed))
            .iter()
            .filter(|id| **id == BEGIN)
            .count(),
        1
    );
    assert_eq!(ids(&pair(&framed, " red")), ids(&pair("the sky", " red")));
    let prompt = encoder.text_prompt(&framed).unwrap();
    assert_eq!(prompt, encoder.text_prompt("the sky").unwrap());
}

#[test]
fn a_blank_at_the_end_of_a_prompt_is_asked_for_as_it_was_trained() {
    let dir = model_dir(true);
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let encoder = LanguageEncoder::new(&tokenizer, None, &DataConfig::new("unused")).unwrap();
    for row in [
        pair("the ", "sky red"),
        pair("the", " sky"),
        pair("a b: ", "red"),
    ] {
        let example = encoder.encode(&row).unwrap().remove(0);
        let first = example.trained.iter().position(|trained| *trained).unwrap();
        assert_eq!(
            encoder.prompt(&row).unwrap(),
            example.ids[..first],
            "{row:?}"
        );
    }
}

#[test]
fn turns_of_no_weight_are_not_learnt_and_rows_without_an_answer_are_counted_with_their_roles() {
    let dir = model_dir(true);
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let LanguageContent::Conversation { mut messages, .. } = conversation().content else {
        panic!("a conversation");
    };
    let talk = |messages: &[Message]| {
        row(LanguageContent::Conversation {
            messages: messages.to_vec(),
            tools: Vec::new(),
            completion_start: 0,
        })
    };
    let asked = talk(&messages[..2]);
    let rows = [talk(&messages), asked];
    let config = DataConfig::new("unused");
    let encoder = LanguageEncoder::for_rows(&tokenizer, dir.path(), &config, &rows).unwrap();
    let encoded = encoder.encode_all(&rows).unwrap();
    assert_eq!((encoded.dropped, encoded.unanswered), (1, 1));
    assert_eq!(encoded.unanswered_roles, ["system", "user"]);
    let before = encoded.examples[0].targets();
    messages[2].fields.insert("weight".to_owned(), 0.into());
    let weighed = encoder.encode(&talk(&messages)).unwrap().remove(0);
    assert_eq!(weighed.ids, encoded.examples[0].ids);
    assert!(weighed.targets() < before);
}

#[test]
fn of_everything_the_messages_that_say_so_are_not_learnt() {
    let dir = model_dir(true);
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let mut row = conversation();
    let LanguageContent::Conversation { messages, .. } = &mut row.content else {
        panic!("a conversation");
    };
    messages[0].fields.insert("train".to_owned(), false.into());
    messages[2].fields.insert("weight".to_owned(), 0.into());
    let example = one(row, TrainOn::All);
    let learnt: Vec<u32> = targets(&example)
        .into_iter()
        .map(|index| example.ids[index])
        .collect();
    let expected = "<|im_start|>user\nthe sky?<|im_end|>\n<|im_start|>assistant\n\
                    <|im_start|>user\nis red<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n";
    assert_eq!(tokenizer.decode(&learnt, false).unwrap(), expected);
}

/// A conversation in which the assistant calls a tool twice and answers.
fn calling() -> LanguageRow {
    let call = |day: &str| Message {
        parts: None,
        role: "assistant".to_owned(),
        content: None,
        fields: Map::from_iter([(
            "tool_calls".to_owned(),
            json!([{"type": "function", "function": {"name": "sky", "arguments": {"day": day}}}]),
        )]),
    };
    let messages = vec![
        Message::new("user", "the sky?"),
        call("today"),
        Message::new("tool", "red"),
        call("then"),
        Message::new("tool", "blue"),
        Message::new("tool", "or so"),
        Message::new("assistant", "is blue"),
    ];
    row(LanguageContent::Conversation {
        messages,
        tools: vec![json!({"type": "function", "function": {"name": "sky"}})],
        completion_start: 0,
    })
}

#[test]
fn calls_of_tools_are_learnt_and_their_results_are_not() {
    let dir = model_dir(true);
    let template = include_str!("chat_templates/tools_chatml.jinja");
    fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let config = DataConfig {
        max_length: 2048,
        ..DataConfig::new("unused")
    };
    let rows = [calling()];
    let encoder = LanguageEncoder::for_rows(&tokenizer, dir.path(), &config, &rows).unwrap();
    let example = encoder.encode(&rows[0]).unwrap().remove(0);
    let text = tokenizer.decode(&example.ids, false).unwrap();
    assert!(text.contains("<tools>\n{\"type\": \"function\""), "{text}");
    let learnt: Vec<u32> = targets(&example)
        .into_iter()
        .map(|index| example.ids[index])
        .collect();
    let call = |day: &str| {
        let call = format!("{{\"name\": \"sky\", \"arguments\": {{\"day\": \"{day}\"}}}}");
        format!("<tool_call>\n{call}\n</tool_call><|im_end|>\n")
    };
    let expected = [
        call("today"),
        call("then"),
        "is blue<|im_end|>\n".to_owned(),
    ]
    .concat();
    assert_eq!(tokenizer.decode(&learnt, false).unwrap(), expected);

    // What is asked is what stands before the answer.
    let prompt = tokenizer.decode(&encoder.prompt(&rows[0]).unwrap(), false);
    let answer = text.find("is blue").unwrap();
    assert_eq!(prompt.unwrap(), text[..answer]);
}

#[test]
fn generation_ends_where_a_call_ends_even_if_answers_end_otherwise() {
    let dir = model_dir(true);
    let template = "{% for m in messages %}{% if m.tool_calls %}{{ m.tool_calls[0].function.name \
                    }}</s><|im_end|>\n{% else %}{{ m.content }}<|im_start|>{% endif %}{% endfor %}";
    fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let config = DataConfig::new("unused");
    let rows = [calling()];
    let encoder = LanguageEncoder::for_rows(&tokenizer, dir.path(), &config, &rows).unwrap();
    assert_eq!(encoder.turn_end().unwrap(), Some(279));
    let stops = encoder.stop_ids().unwrap();
    assert!(stops.contains(&279) && stops.contains(&280), "{stops:?}");
}
