//! The table of a language model's tokens and its output layer, which are one tensor where they are
//! tied.

use eigenmix_adapter::is_input_table;
use eigenmix_tensors::{FileError, TensorFile};
use serde_json::{Map, Value, json};

use crate::decoder_family::DecoderFamily;

const FIELD: &str = "tie_word_embeddings";

/// The field of config.json in which a model within a model has its own configuration.
const NESTED: &str = "text_config";

/// The two tensors of a checkpoint, and whether they are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTables {
    /// The table's name, `[tokens, width]`.
    pub table: String,
    /// The output layer's name, `[tokens, width]`, whether or not the checkpoint has it.
    pub output: String,
    /// Whether the checkpoint has a tensor of that name, be it a copy of the table.
    pub has_output: bool,
    /// Whether both are the table, as transformers 5 reads the checkpoint: its configuration says so
    /// (or its architecture, where the configuration is silent) and it has no output layer that differs
    /// from the table.
    pub is_tied: bool,
    /// Whether they are two although the configuration says that they are tied.
    pub is_untied_by_values: bool,
}

impl TokenTables {
    /// Those of a checkpoint, if it has a table.
    ///
    /// - config: its `config.json`
    /// - names: those of its tensors
    /// - file_of: the file that has a tensor
    ///
    /// # Errors
    /// If a tensor cannot be read.
    pub fn of<'a, 'b>(
        config: &Value,
        mut names: impl Iterator<Item = &'a str>,
        file_of: impl Fn(&str) -> Option<&'b TensorFile>,
    ) -> Result<Option<Self>, FileError> {
        let is_table = |name: &&str| name.ends_with(".weight") && is_input_table(name);
        let Some(table) = names.find(is_table) else {
            return Ok(None);
        };
        let output = output_of(table);
        let copy = file_of(&output);
        let said = ties(config);
        let differs = match (file_of(table), copy) {
            (Some(file), Some(copy)) if said => !are_equal((file, table), (copy, &output))?,
            _ => false,
        };
        Ok(Some(Self {
            table: table.to_owned(),
            has_output: copy.is_some(),
            is_tied: said && !differs,
            is_untied_by_values: differs,
            output,
        }))
    }

    /// What a user has to know, if the configuration is not followed.
    pub fn note(&self) -> Option<String> {
        self.is_untied_by_values.then(|| {
            format!(
                "config.json says {FIELD} = true, but `{}` and `{}` differ, so they are read as two tensors, as transformers 5 does; write false there if that is meant, and delete `{}` if it is not",
                self.table, self.output, self.output
            )
        })
    }
}

/// Whether a configuration says that the output layer is the table; where it is silent, whether its
/// architecture ties them.
pub(crate) fn ties(config: &Value) -> bool {
    let said = |config: &Value| config.get(FIELD)?.as_bool();
    let inner = config.get(NESTED);
    if let Some(said) = said(config).or_else(|| inner.and_then(said)) {
        return said;
    }
    let family = inner.unwrap_or(config).get("model_type");
    let family = family.and_then(Value::as_str);
    // transformers ties unless an architecture says otherwise.
    family
        .and_then(DecoderFamily::from_model_type)
        .is_none_or(DecoderFamily::ties_unless_told)
}

/// Writes into a `config.json` that the two are tensors of their own.
pub fn untie(config: &mut Map<String, Value>) {
    config.insert(FIELD.to_owned(), json!(false));
    if let Some(Value::Object(inner)) = config.get_mut(NESTED) {
        inner.insert(FIELD.to_owned(), json!(false));
    }
}

/// The name of the output layer's weight over the tokens of `table`.
fn output_of(table: &str) -> String {
    // LLaVA's, before its modules were renamed.
    let model = match table.starts_with("language_model.model.") {
        true => "language_model.",
        false => "",
    };
    // GPT-NeoX's.
    let name = match table.ends_with("embed_in.weight") {
        true => "embed_out",
        false => "lm_head",
    };
    format!("{model}{name}.weight")
}

/// Whether two tensors hold the same numbers.
fn are_equal(first: (&TensorFile, &str), second: (&TensorFile, &str)) -> Result<bool, FileError> {
    let ((file, name), (other_file, other)) = (first, second);
    let (shape, dtype) = file.tensor(name)?;
    let (other_shape, other_dtype) = other_file.tensor(other)?;
    Ok(shape == other_shape
        && match dtype == other_dtype {
            true => file.view(name)? == other_file.view(other)?,
            false => file.read_f32(name)? == other_file.read_f32(other)?,
        })
}

#[cfg(test)]
mod tests {
    use eigenmix_tensors::{TensorOutput, write_tensor_file};

    use super::*;

    const TABLE: &str = "model.embed_tokens.weight";

    fn tables(config: &Value, output: Option<[f32; 2]>) -> TokenTables {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("model.safetensors");
        let mut tensors = vec![TensorOutput::f32(TABLE, [2, 1], &[1.0, 2.0])];
        if let Some(output) = &output {
            tensors.push(TensorOutput::f32("lm_head.weight", [2, 1], output));
        }
        write_tensor_file(&path, tensors).expect("a file");
        let file = TensorFile::open(&path).expect("a file");
        let found = TokenTables::of(config, file.names(), |name| {
            file.contains(name).then_some(&file)
        });
        found.expect("readable").expect("a table")
    }

    #[test]
    fn two_different_tables_are_two_whatever_the_configuration_says() {
        let said = json!({"tie_word_embeddings": true});
        let nested = json!({"text_config": {"tie_word_embeddings": true}});
        for config in [said, nested, json!({"model_type": "gemma2"})] {
            for (output, is_tied) in [
                (None, true),
                (Some([1.0, 2.0]), true),
                (Some([1.0, 2.5]), false),
            ] {
                let found = tables(&config, output);
                assert_eq!(found.is_tied, is_tied, "{config} {output:?}");
                assert_eq!(found.note().is_some(), !is_tied);
                assert_eq!(found.has_output, output.is_some());
            }
        }
    }

    #[test]
    fn equal_tables_that_nothing_ties_are_two() {
        for config in [
            json!({"tie_word_embeddings": false, "model_type": "gemma2"}),
            json!({"model_type": "llama"}),
        ] {
            let found = tables(&config, Some([1.0, 2.0]));
            assert!(!found.is_tied && found.note().is_none());
        }
    }

    #[test]
    fn the_output_layer_has_the_name_that_goes_with_the_table() {
        for (table, output) in [
            (TABLE, "lm_head.weight"),
            ("transformer.wte.weight", "lm_head.weight"),
            ("gpt_neox.embed_in.weight", "embed_out.weight"),
            (
                "language_model.model.embed_tokens.weight",
                "language_model.lm_head.weight",
            ),
        ] {
            assert_eq!(output_of(table), output);
        }
    }

    #[test]
    fn untying_reaches_a_nested_configuration() {
        let mut config =
            json!({"tie_word_embeddings": true, "text_config": {"tie_word_embeddings": true}});
        untie(config.as_object_mut().expect("an object"));
        let expected =
            json!({"tie_word_embeddings": false, "text_config": {"tie_word_embeddings": false}});
        assert_eq!(config, expected);
    }
}
