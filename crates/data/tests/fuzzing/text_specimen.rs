//! The valid texts that are changed: one of every form of rows, and what may lie beside a tokenizer.

/// A file of rows and its configuration.
#[derive(Clone, Debug)]
pub struct TextSpecimen {
    /// With the ending that says its format.
    pub name: &'static str,
    pub content: &'static str,
    /// The column of a second text.
    pub text_pair: Option<&'static str>,
}

pub const CARD: &str = "---
dataset_info:
  features:
  - {name: text, dtype: string}
  - name: label
    dtype: {class_label: {names: {'0': negative, '1': positive}}}
configs:
- config_name: default
  data_files:
  - {split: train, path: 'train.*'}
  - split: test
    path: [a.csv, 'b-*.csv']
---
# Words
";

/// All forms of rows.
pub const SPECIMENS: [TextSpecimen; 16] = [
    rows("train.jsonl", LABELLED),
    rows(
        "train.json",
        r#"[{"text": "a fine film", "label": 1, "id": 7}, {"text": "too long", "label": 0.0, "id": 8}]"#,
    ),
    rows(
        "train.csv",
        "text,label,id\na fine film,1,7\n\"two, \"\"long\"\"\nlines\",0,8\n,,9\n",
    ),
    rows(
        "train.csv",
        "text;label\r\na fine film;1\r\n\"too; long\";0\r\n",
    ),
    rows(
        "train.tsv",
        "text\tlabel\tyes, or no\na, b\tx\t1\nc\ty\t2\n",
    ),
    TextSpecimen {
        text_pair: Some("hypothesis"),
        ..rows("train.jsonl", PAIRS)
    },
    rows(
        "train.jsonl",
        r#"{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}, {"role": "assistant", "content": "Hello.", "weight": 1, "reasoning_content": "greet"}], "tools": [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]}
{"messages": [{"role": "user", "content": "What time is it?"}, {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}}]}, {"role": "tool", "tool_call_id": "1", "content": "12:00"}, {"role": "assistant", "content": "Noon.", "train": true}]}
"#,
    ),
    rows(
        "train.jsonl",
        r#"{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}], "system": "Be brief."}
{"conversations": [{"from": "human", "value": "And?"}, {"from": "gpt", "value": "Well."}], "system": null}
"#,
    ),
    rows(
        "train.json",
        r#"[{"instruction": "Add.", "input": "1 1", "output": "2", "system": "", "history": [["Say a", "a"]]}, {"instruction": "Stop.", "input": "", "output": ""}]"#,
    ),
    rows(
        "train.jsonl",
        r#"{"instruction": "Who?", "context": "A dog.", "response": "The dog.", "category": "closed_qa"}
{"instruction": "Why?", "context": "", "response": "So.", "category": "open_qa"}
"#,
    ),
    rows(
        "train.jsonl",
        r#"{"question": "Which?", "choices": {"text": ["one", "two"], "label": ["A", "B"]}, "answer": "B"}
{"question": "What?", "choices": {"text": ["three", "four"], "label": ["A", "B"]}, "answer": "A"}
"#,
    ),
    rows(
        "train.jsonl",
        r#"{"question": "Which?", "choices": ["one", "two"], "answer": 1}
{"question": "What?", "choices": ["three", "four", "five"], "answer": 0}
"#,
    ),
    rows(
        "train.csv",
        "prompt,completion\n1 + 1 =, 2\n\"say \"\"a\"\"\",a\n",
    ),
    rows(
        "train.jsonl",
        r#"{"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Hello."}]}
"#,
    ),
    rows(
        "train.jsonl",
        r#"{"image": "a.png", "label": "red"}
{"image": "b.png", "label": "blue"}
"#,
    ),
    rows("train.csv", "text\none\ntwo\n"),
];

const LABELLED: &str = r#"{"text": "a fine film", "label": "good", "id": 12345678901234567, "score": 0.1}
{"text": "too long", "label": "bad", "id": null, "more": {"a": [1, 2.5, "é"]}}
{"text": "fine \ud83d\ude00", "label": 3.0}
"#;

const PAIRS: &str = r#"{"text": "it rains", "hypothesis": "it is wet", "label": true}
{"text": "a", "hypothesis": "b", "label": -1}
"#;

const fn rows(name: &'static str, content: &'static str) -> TextSpecimen {
    TextSpecimen {
        name,
        content,
        text_pair: None,
    }
}

/// A tokenizer of words.
pub const TOKENIZER: &str = r#"{
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [
        {"id": 0, "content": "[UNK]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
        {"id": 4, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
    ],
    "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": {"type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [4], "tokens": ["</s>"]}}},
    "decoder": null,
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "hi": 1, "hello": 2, ".": 3, "</s>": 4}, "unk_token": "[UNK]"}
}"#;

pub const TOKENIZER_CONFIG: &str = r#"{
    "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": {"content": "</s>", "lstrip": false},
    "unk_token": "[UNK]", "truncation_side": "right", "model_max_length": 512,
    "chat_template": [{"name": "default", "template": "{% for m in messages %}{{ m.content }}{% endfor %}"}]
}"#;

pub const CHAT_TEMPLATE: &str = "{%- for message in messages %}
{{- '<|' + message['role'] + '|>' + message.content | trim + eos_token }}
{%- if message.tool_calls is defined %}{{ message.tool_calls | tojson(indent=2) }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}";

pub const CONTRACT: &str = r#"{"task": "causal-lm", "text": "premise", "text_pair": "hypothesis", "label": "gold",
    "max_length": 16, "format": "messages", "columns": {"messages": "turns"}, "train_on": "all",
    "prompt_template": "{{ prompt }}!", "chat_template": "chat_template.jinja"}"#;
