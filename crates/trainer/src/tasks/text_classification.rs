//! Classification or regression of texts or pairs of texts.

use eigenmix_data::metrics::Metric;
use eigenmix_data::{
    DataConfig, DataError, Encoding, EpochAugmentation, InputContract, LabelPolicy,
    PredictionTable, Row, Split, TargetKind, TextTokenizer, read_text_split, unread_note,
};
use eigenmix_models::{Architecture, Batch, HeadKind, TokenBatch};

use super::labelled::{Inputs, LabelledReader, LabelledSource, count_labels};
use super::length_limit::check_length;
use super::{LabelSurvey, LengthSurvey, LineReader, Survey, Task, TaskReader};
use crate::{BaseModel, TrainerError};

pub(super) struct TextClassification;

impl Task for TextClassification {
    fn name(&self) -> &'static str {
        "sequence-classification"
    }

    fn peft_name(&self) -> Option<&'static str> {
        Some("SEQ_CLS")
    }

    fn settings(&self) -> &'static [&'static str] {
        &["text", "text_pair", "label", "label_separator"]
    }

    fn models(&self) -> &'static str {
        "encoders and decoders classify texts"
    }

    fn fits(&self, architecture: &Architecture) -> bool {
        architecture.takes_texts() && architecture.supports(self.head(2, false))
    }

    fn is_of_head(&self, head: HeadKind) -> bool {
        head.labels().is_some()
    }

    fn head(&self, labels: usize, _from_prompts: bool) -> HeadKind {
        HeadKind::Classification { labels }
    }

    fn check_length(
        &self,
        architecture: &Architecture,
        config: &DataConfig,
    ) -> Result<(), TrainerError> {
        check_length(architecture, config)
    }

    fn open<'a>(
        &self,
        base: &'a BaseModel,
        config: &'a DataConfig,
        _metrics: &[Metric],
    ) -> Result<Box<dyn TaskReader + 'a>, TrainerError> {
        check_length(&base.architecture, config)?;
        let source = Texts(base.tokenizer()?);
        Ok(Box::new(LabelledReader::new(source, config, base)?))
    }

    fn count_labels(
        &self,
        config: &DataConfig,
        target: TargetKind,
    ) -> Result<Option<usize>, TrainerError> {
        count_labels::<Texts>(config, target)
    }

    fn line_reader(
        &self,
        base: &BaseModel,
        config: &DataConfig,
    ) -> Result<Option<Box<dyn LineReader>>, TrainerError> {
        check_length(&base.architecture, config)?;
        Ok(Some(Box::new(TextLines {
            tokenizer: base.tokenizer()?,
            config: config.clone(),
        })))
    }

    fn survey(
        &self,
        split: Split,
        config: &DataConfig,
        base: Option<&BaseModel>,
    ) -> Result<Survey, TrainerError> {
        let (rows, of_rows) = LabelSurvey::take::<Texts>(split, config)?;
        let (mut labels, mut lengths) = (LabelSurvey::None, None);
        if split == Split::Train {
            labels = of_rows;
            lengths = base.and_then(|base| LengthSurvey::of(&rows, base));
        }
        Ok(Survey {
            rows: rows.len(),
            labels,
            lengths,
        })
    }

    fn columns<'c>(&self, config: &'c DataConfig) -> Vec<(&'static str, &'c str)> {
        let pair = config.text_pair.as_deref();
        let pair = pair.map(|column| ("text_pair", column));
        let text = ("text", config.text.as_str());
        let label = ("label", config.label.as_str());
        [Some(text), pair, Some(label)]
            .into_iter()
            .flatten()
            .collect()
    }

    fn usual_max_length(&self) -> Option<(usize, &'static str)> {
        Some((128, "the tokens could not be counted"))
    }
}

/// Texts in tokens.
pub struct TextInputs(pub Vec<Encoding>);

impl Inputs for TextInputs {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn lengths(&self) -> Vec<usize> {
        self.0.iter().map(|one| one.ids.len()).collect()
    }

    fn truncated(&self) -> usize {
        self.0.iter().filter(|one| one.truncated).count()
    }

    fn batch(
        &self,
        examples: &[usize],
        _showing: Option<EpochAugmentation>,
    ) -> Result<Batch, TrainerError> {
        Ok(batch(examples.iter().map(|&example| &self.0[example])))
    }
}

fn batch<'e>(encodings: impl Iterator<Item = &'e Encoding>) -> Batch {
    let sequences = encodings.map(|encoding| (&encoding.ids[..], &encoding.type_ids[..]));
    TokenBatch::from_sequences(sequences).into()
}

/// Rows of texts, and what reads them.
struct Texts(TextTokenizer);

impl LabelledSource for Texts {
    type Row = Row;

    fn rows(
        split: Split,
        config: &DataConfig,
        labels: LabelPolicy,
    ) -> Result<(Vec<Row>, Vec<String>), DataError> {
        let found = read_text_split(config.directory(), split, config, labels)?;
        let settings = "data.text, data.text_pair and data.label name";
        let note = unread_note(&found.unread, split, found.rows.len(), settings);
        Ok((found.rows, note.into_iter().collect()))
    }

    fn inputs(&self, rows: Vec<Row>, config: &DataConfig) -> Result<Box<dyn Inputs>, TrainerError> {
        let encodings = self.0.encode_all(&rows, config.max_length)?;
        Ok(Box::new(TextInputs(encodings)))
    }

    fn contract(&self, config: &DataConfig) -> InputContract {
        InputContract {
            task: TextClassification.name().to_owned(),
            text: Some(config.text.clone()),
            text_pair: config.text_pair.clone(),
            label: Some(config.label.clone()),
            max_length: Some(config.max_length),
            ..InputContract::default()
        }
    }

    fn tokenizer(&self) -> Option<&TextTokenizer> {
        Some(&self.0)
    }

    fn into_tokenizer(self) -> Option<TextTokenizer> {
        Some(self.0)
    }
}

/// A text or a pair of texts per row.
struct TextLines {
    tokenizer: TextTokenizer,
    config: DataConfig,
}

impl LineReader for TextLines {
    fn rows(&self, table: &PredictionTable) -> Result<Vec<Row>, DataError> {
        table.texts(&self.config)
    }

    fn batch(&self, rows: &[Row]) -> Result<(Batch, usize), TrainerError> {
        let encodings = self.tokenizer.encode_all(rows, self.config.max_length)?;
        let cut = encodings.iter().filter(|one| one.truncated).count();
        Ok((batch(encodings.iter()), cut))
    }
}
