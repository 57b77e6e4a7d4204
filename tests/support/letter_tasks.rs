//! Tasks for little decoders: one language of letters, and several things to do with them.
//!
//! With an instruction a text says what to do, `reversed 2 : a d f b =` and after it `d h f c`:
//! every letter moved on by two, last to first. A base model learns to follow all instructions. The
//! tasks for adapters show the letters alone, `: a d f b =`, so that only the weights can say what
//! to do with them.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Random;

const LETTERS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
/// How many letters a text has.
const LENGTH: usize = 4;
/// How far letters are moved.
pub const SHIFTS: [usize; 4] = [1, 2, 3, 4];

/// The operation on letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterTask {
    /// By how many places each letter moves on in the alphabet, whose end is followed by its beginning.
    pub shift: usize,
    /// Whether the last letter comes first.
    pub reversed: bool,
}

/// Whether a text contains the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    Given,
    Left,
}

impl LetterTask {
    pub fn all() -> Vec<Self> {
        let both = |shift| [false, true].map(|reversed| Self { shift, reversed });
        SHIFTS.into_iter().flat_map(both).collect()
    }

    pub fn name(self) -> String {
        format!("{}-{}", self.order(), self.shift)
    }

    fn order(self) -> &'static str {
        match self.reversed {
            true => "reversed",
            false => "forward",
        }
    }

    pub fn prompt(self, letters: &[usize], instruction: Instruction) -> String {
        let shown = joined(letters);
        match instruction {
            Instruction::Given => format!("{} {} : {shown} =", self.order(), self.shift),
            Instruction::Left => format!("as usual : {shown} ="),
        }
    }

    /// What is right after the prompt.
    pub fn completion(self, letters: &[usize]) -> String {
        let mut moved: Vec<usize> = letters
            .iter()
            .map(|letter| (letter + self.shift) % LETTERS.len())
            .collect();
        if self.reversed {
            moved.reverse();
        }
        joined(&moved)
    }
}

fn joined(letters: &[usize]) -> String {
    let names: Vec<&str> = letters.iter().map(|&letter| LETTERS[letter]).collect();
    names.join(" ")
}

/// Draws letters; those of the test split are never drawn for the others.
pub fn draw_letters(random: &mut Random, test: bool) -> [usize; LENGTH] {
    loop {
        let count = LETTERS.len() as f32;
        let letters = [(); LENGTH].map(|()| (0.5 * (random.number() + 1.0) * count) as usize);
        if (letters.iter().sum::<usize>() % 4 == 0) == test {
            return letters;
        }
    }
}

/// Writes `dir/SPLIT.jsonl` with `prompt` and `completion` for `train`, `validation` and `test`.
///
/// - counts: rows of each split for every task
pub fn write_letter_tasks(
    dir: &Path,
    tasks: &[LetterTask],
    instruction: Instruction,
    counts: [usize; 3],
    seed: u64,
) {
    fs::create_dir_all(dir).expect("a directory");
    let mut random = Random(seed);
    for (split, count) in ["train", "validation", "test"].into_iter().zip(counts) {
        let mut rows = String::new();
        for _ in 0..count {
            for task in tasks {
                let letters = draw_letters(&mut random, split == "test");
                let prompt = task.prompt(&letters, instruction);
                let completion = format!(" {}", task.completion(&letters));
                let row = json!({"prompt": prompt, "completion": completion});
                rows += &format!("{row}\n");
            }
        }
        fs::write(dir.join(format!("{split}.jsonl")), rows).expect("a file");
    }
}

/// Writes what a decoder of the LLaMA family is before it has weights: sizes and a tokenizer.
pub fn write_decoder(dir: &Path) {
    const END: &str = "<end>";
    let words = [
        END,
        "<unknown>",
        ":",
        "=",
        "forward",
        "reversed",
        "as",
        "usual",
    ]
    .map(str::to_owned);
    let words = words
        .into_iter()
        .chain(SHIFTS.map(|shift| shift.to_string()))
        .chain(LETTERS.map(str::to_owned));
    let vocabulary: Map<String, Value> = words
        .enumerate()
        .map(|(id, word)| (word, json!(id)))
        .collect();
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary.len(),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": true,
        "eos_token_id": 0
    });
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [{"id": 0, "content": END, "single_word": false, "lstrip": false,
                          "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null,
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unknown>"}
    });
    let names = json!({"eos_token": END, "tokenizer_class": "PreTrainedTokenizerFast"});
    fs::create_dir_all(dir).expect("a directory");
    for (name, content) in [
        ("config.json", config),
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", names),
    ] {
        fs::write(dir.join(name), content.to_string()).expect("a file");
    }
}
