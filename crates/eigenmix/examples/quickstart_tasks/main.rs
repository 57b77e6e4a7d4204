//! Makes the quick start's texts, labels, tokenizer and base-model configuration from its phrase book.
//!
//!     cargo run --release --example quickstart_tasks
//!
//! reads `datasets/quickstart/phrases.toml` and writes beside it `base/` (all but the weights),
//! `pretraining/` and `tasks/TOPIC/`. The same phrase book gives the same bytes on every machine.

mod base_model;
mod phrase_book;
mod speaker;
mod splitmix;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use base_model::{MAX_POSITIONS, write_base};
use phrase_book::{FORMS, PhraseBook, Role, pieces, telling_words};
use speaker::Speaker;
use splitmix::SplitMix;

const SEED: u64 = 20_260;
/// [CLS] and [SEP].
const FRAME_TOKENS: usize = 2;

/// Rows a class in (file name, action of a task, class of the pretraining).
const SPLITS: [(&str, usize, usize); 3] =
    [("train", 60, 90), ("validation", 15, 9), ("test", 30, 9)];

/// Takes new sentences of which the tokenizer knows every word.
struct Collector {
    vocabulary: BTreeSet<String>,
    said: HashSet<String>,
}

impl Collector {
    /// The next new sentence that `say` comes up with.
    fn fresh(&mut self, mut say: impl FnMut() -> Result<Option<String>>) -> Result<String> {
        for _ in 0..100_000 {
            let Some(sentence) = say()? else { continue };
            let pieces = pieces(&sentence);
            ensure!(
                pieces.len() + FRAME_TOKENS <= MAX_POSITIONS,
                "`{sentence}` has {} pieces, the model takes {}",
                pieces.len(),
                MAX_POSITIONS - FRAME_TOKENS
            );
            if let Some(unknown) = pieces
                .iter()
                .find(|piece| !self.vocabulary.contains(*piece))
            {
                bail!("`{unknown}` of `{sentence}` is not in the vocabulary");
            }
            if self.said.insert(sentence.clone()) {
                return Ok(sentence);
            }
        }
        bail!("the phrases are used up; write more of them");
    }
}

/// Writes one file a split, with equally many rows of each class.
/// - classes: label and sentences, at least as many as all splits together take
fn write_splits(
    folder: &Path,
    classes: &mut [(String, Vec<String>)],
    sizes: [(&str, usize); 3],
    random: &mut SplitMix,
) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    // New sentences get rarer as they are collected; the splits must not differ in that.
    for (_, sentences) in classes.iter_mut() {
        random.shuffle(sentences);
    }
    let mut start = 0;
    for (split, rows_a_class) in sizes {
        let mut lines: Vec<String> = classes
            .iter()
            .flat_map(|(label, sentences)| {
                sentences[start..start + rows_a_class]
                    .iter()
                    .map(move |text| format!("{}\n", json!({ "text": text, "label": label })))
            })
            .collect();
        random.shuffle(&mut lines);
        write(&folder.join(format!("{split}.jsonl")), &lines.concat())?;
        start += rows_a_class;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn main() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/quickstart");
    let source = folder.join("phrases.toml");
    let text =
        fs::read_to_string(&source).with_context(|| format!("reading {}", source.display()))?;
    let book: PhraseBook =
        toml::from_str(&text).with_context(|| format!("parsing {}", source.display()))?;

    let vocabulary = book.vocabulary();
    write_base(&folder.join("base"), &vocabulary)?;
    let mut collector = Collector {
        vocabulary,
        said: HashSet::new(),
    };
    let mut random = SplitMix(SEED);

    let telling = telling_words(&book.topics);
    let mut pretraining = Vec::new();
    for (name, topic) in &book.topics {
        let speaker = Speaker::new(&book, name, topic)?;
        let actions: Vec<&String> = speaker.actions.keys().collect();

        if topic.role != Role::Pretraining {
            let mut classes = Vec::new();
            for action in &actions {
                let sentences = (0..SPLITS.iter().map(|(_, rows, _)| rows).sum())
                    .map(|_| {
                        collector.fresh(|| {
                            let (form, _) = *random.choose(&FORMS);
                            speaker.say(action, form, &mut random).map(Some)
                        })
                    })
                    .collect::<Result<Vec<_>>>()?;
                classes.push(((*action).clone(), sentences));
            }
            write_splits(
                &folder.join("tasks").join(name),
                &mut classes,
                SPLITS.map(|(split, rows, _)| (split, rows)),
                &mut random,
            )?;
        }

        // The base model learns what people want from topics that are no task; of the tasks' topics it
        // only learns their words, by telling topic and form.
        let rows: usize = SPLITS.iter().map(|(_, _, rows)| rows).sum();
        if topic.role == Role::Pretraining {
            for action in &actions {
                let sentences = (0..rows)
                    .map(|_| {
                        collector.fresh(|| {
                            let (form, _) = *random.choose(&FORMS);
                            speaker.say(action, form, &mut random).map(Some)
                        })
                    })
                    .collect::<Result<Vec<_>>>()?;
                pretraining.push((format!("{name}_{action}"), sentences));
            }
            continue;
        }
        for (form, form_name) in FORMS {
            let sentences = (0..rows)
                .map(|_| {
                    collector.fresh(|| {
                        let sentence =
                            speaker.say(random.choose(&actions).as_str(), form, &mut random)?;
                        // Without such a word the topic, half of the label, would be unknown.
                        let tells = pieces(&sentence)
                            .iter()
                            .any(|word| telling[name.as_str()].contains(word));
                        Ok(tells.then_some(sentence))
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            pretraining.push((format!("{name}_{form_name}"), sentences));
        }
    }
    write_splits(
        &folder.join("pretraining"),
        &mut pretraining,
        SPLITS.map(|(split, _, rows)| (split, rows)),
        &mut random,
    )?;

    println!(
        "{} sentences, {} pieces, under {}",
        collector.said.len(),
        collector.vocabulary.len(),
        folder.display()
    );
    Ok(())
}
