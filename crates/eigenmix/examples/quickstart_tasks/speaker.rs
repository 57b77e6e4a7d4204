//! Makes sentences from the phrase book.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use crate::phrase_book::{Form, PhraseBook, Phrases, Slots, Topic};
use crate::splitmix::SplitMix;

// How often a sentence has each of its optional parts.
const OPENING: f64 = 0.12;
const CLOSING: f64 = 0.12;
const ASIDE: f64 = 0.1;
const MARK: f64 = 0.4;
const CONTRACTION: f64 = 0.25;

/// What the staff of one topic hear.
pub struct Speaker<'a> {
    book: &'a PhraseBook,
    slots: &'a Slots,
    pub actions: BTreeMap<String, Phrases>,
}

impl<'a> Speaker<'a> {
    pub fn new(book: &'a PhraseBook, name: &str, topic: &'a Topic) -> Result<Self> {
        Ok(Self {
            book,
            slots: &topic.slots,
            actions: book.actions(name, topic)?,
        })
    }

    /// A sentence that wants `action`: opening, aside and sentence proper, closing.
    pub fn say(&self, action: &str, form: Form, random: &mut SplitMix) -> Result<String> {
        let template = random.choose_early(self.actions[action].of(form));
        let core = self.fill(template, random)?;
        let asks = matches!(form, Form::Question)
            || core.starts_with("could you")
            || core.starts_with("can you");
        let mut sentence = core;
        let mut ends_in_core = true;
        if random.chance(ASIDE) {
            let asides: Vec<&String> = self
                .actions
                .iter()
                .filter(|(other, _)| *other != action)
                .flat_map(|(_, phrases)| &phrases.aside)
                .collect();
            let aside = self.phrase(&asides, random)?;
            let joint = random.choose(&self.book.joints);
            ends_in_core = joint.ends_with("{core}");
            sentence = joint
                .replace("{aside}", &aside)
                .replace("{core}", &sentence);
        }
        if random.chance(OPENING) {
            sentence = format!("{} , {sentence}", self.phrase(&self.book.openings, random)?);
        }
        let marked = random.chance(MARK);
        if marked {
            sentence.push_str(if asks && ends_in_core { "?" } else { "." });
        }
        if random.chance(CLOSING) {
            let closing = self.phrase(&self.book.closings, random)?;
            sentence = if marked {
                format!("{sentence} {closing}.")
            } else {
                format!("{sentence} , {closing}")
            };
        }
        Ok(self
            .run_together(&with_articles(&sentence), random)
            .replace(" ,", ","))
    }

    fn phrase(&self, templates: &[impl AsRef<str>], random: &mut SplitMix) -> Result<String> {
        let template = random.choose(templates).as_ref();
        self.fill(template, random)
    }

    /// Replaces the innermost slot or choice until none is left.
    fn fill(&self, template: &str, random: &mut SplitMix) -> Result<String> {
        let mut text = template.to_owned();
        while let Some(close) = text.find(['}', ']']) {
            let Some(open) = text[..close].rfind(['{', '[']) else {
                bail!("`{template}` closes what it never opened");
            };
            let inside = &text[open + 1..close];
            let chosen = if text[open..].starts_with('{') {
                self.word(inside, &text, random)
                    .with_context(|| format!("`{template}`: there is no slot `{inside}` here"))?
            } else {
                let alternatives: Vec<&str> = inside.split('|').collect();
                (*random.choose(&alternatives)).to_owned()
            };
            text.replace_range(open..=close, &chosen);
        }
        ensure!(
            !text.contains(['{', '[']),
            "`{template}` opens what it never closes"
        );
        Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// A word for the slot, if it can be one that the text does not have yet.
    fn word(&self, slot: &str, text: &str, random: &mut SplitMix) -> Option<String> {
        let words = self.slots.get(slot).or_else(|| self.book.slots.get(slot))?;
        let unused: Vec<&String> = words.iter().filter(|word| !text.contains(*word)).collect();
        Some(
            if unused.is_empty() {
                random.choose(words)
            } else {
                random.choose(&unused)
            }
            .to_string(),
        )
    }

    fn run_together(&self, sentence: &str, random: &mut SplitMix) -> String {
        let mut spoken = format!(" {sentence} ");
        for (long, short) in &self.book.contractions {
            if random.chance(CONTRACTION) {
                spoken = spoken.replace(&format!(" {long} "), &format!(" {short} "));
            }
        }
        spoken.trim().to_owned()
    }
}

/// Single spaces, and `an` in place of `a` where the next word wants it.
fn with_articles(sentence: &str) -> String {
    let words: Vec<&str> = sentence.split_whitespace().collect();
    let articled = words.iter().enumerate().map(|(index, word)| {
        let next = words.get(index + 1).copied().unwrap_or("");
        let vowel = next.starts_with(['a', 'e', 'i', 'o', 'u']) && next != "used";
        if *word == "a" && vowel { "an" } else { word }
    });
    articled.collect::<Vec<_>>().join(" ")
}
