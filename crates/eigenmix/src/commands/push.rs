//! `eigenmix push`: an adapter to the Hub.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context;
use eigenmix_adapter::{
    AdapterError, Companion, Dialect, ModelCard, PeftConfig, Provenance, SaveOptions, Style,
};
use eigenmix_experiment::BadInput;
use eigenmix_experiment::ByteCount;
use eigenmix_experiment::{OpenedAdapter, OptionNames};
use eigenmix_experiment::{PublicBase, publication, without_paths};
use eigenmix_hub::{Commit, Committed, Hub, HubId, UploadContent, UploadFile};
use eigenmix_tensors::FileError;
use eigenmix_trainer::{Run, RunHistory};
use serde::Serialize;

use crate::cli::PushArguments;
use crate::console::Console;

const CARD: &str = "README.md";

pub(crate) fn run(arguments: &PushArguments, console: &Console) -> anyhow::Result<()> {
    let repository = destination(&arguments.repository)?;
    let source = OpenedAdapter::open(&arguments.source)?;
    source.require_whole(arguments.allow_partial, OptionNames::Flags, console)?;
    let base = PublicBase::new(arguments.base_model.as_deref(), source.file.config())?;
    let run_path = Path::new(&arguments.source);
    let run = match Run::is_at(run_path) {
        true => Some(RunHistory::read(&Run::at(run_path))?),
        false => None,
    };

    let mut adapter = source.file.load()?;
    adapter.config = adapter
        .config
        .with("base_model_name_or_path", base.id.into())?;
    if base.revision.is_some() || adapter.config.revision().is_some() {
        adapter.config = adapter.config.with("revision", base.revision.into())?;
    }
    let provenance = provenance(&source.path)?.map(without_paths);
    let publication = publication(
        &repository,
        arguments.license.as_deref(),
        &adapter,
        run.as_ref(),
    );

    // What is uploaded is what would be exported, byte for byte.
    let staging = tempfile::tempdir().context("cannot make a temporary directory")?;
    let exported = staging.path().join("adapter");
    let options = SaveOptions {
        force: false,
        provenance: provenance.clone(),
        companions: published(source.input()?.companions()?),
    };
    let config = match adapter.is_of_pipeline() {
        // In the form that diffusers reads.
        true => {
            adapter.save_as(&exported, &Style::new(Dialect::Diffusers), &options)?;
            adapter.config.clone()
        }
        false => {
            adapter.save(&exported, &options)?;
            PeftConfig::read(&exported.join(PeftConfig::FILE_NAME))?
        }
    };
    let card = ModelCard {
        adapter: &adapter,
        config: &config,
        provenance: provenance.as_ref(),
        publication: Some(&publication),
    };
    let card = card.to_string();
    let mut files = files_in(&exported, &card)?;
    if arguments.coefficients {
        files.push(coefficients(run_path)?);
    }
    refuse_paths(&files)?;

    let committed = match arguments.dry_run {
        true => None,
        false => Some(Hub::from_env()?.commit(&Commit {
            id: &repository,
            private: arguments.private,
            branch: arguments.revision.as_deref(),
            message: &arguments.message,
            create_pr: arguments.create_pr,
            files: &files,
        })?),
    };
    console.result(&PushResult::new(&repository, committed, &files, card)?)
}

/// The repository to push to.
fn destination(argument: &str) -> anyhow::Result<HubId> {
    let id = HubId::parse(argument)?;
    let problem = if id.revision().is_some() {
        "name a branch with --revision"
    } else if !id.repository().contains('/') {
        "a repository has an owner, as in me/travel-lora"
    } else {
        return Ok(id);
    };
    Err(BadInput(format!("`{argument}`: {problem}")).into())
}

/// How the adapter in `directory` was made, if it says so.
fn provenance(directory: &Path) -> Result<Option<Provenance>, FileError> {
    let path = directory.join(Provenance::FILE_NAME);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(_) if !path.exists() => return Ok(None),
        Err(error) => return Err(FileError::io("read", &path)(error)),
    };
    let read = serde_json::from_slice(&text);
    read.map(Some)
        .map_err(|source| FileError::Json { path, source })
}

/// The files of an exported adapter, with another card.
fn files_in(directory: &Path, card: &str) -> anyhow::Result<Vec<UploadFile>> {
    let mut files = vec![UploadFile {
        name: CARD.to_owned(),
        content: UploadContent::Bytes(card.as_bytes().to_vec()),
    }];
    let entries = fs::read_dir(directory).map_err(FileError::io("read", directory))?;
    for entry in entries {
        let entry = entry.map_err(FileError::io("read", directory))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != CARD {
            let content = UploadContent::Path(entry.path());
            files.push(UploadFile { name, content });
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

fn coefficients(run: &Path) -> Result<UploadFile, BadInput> {
    let path = Run::at(run).coefficients();
    match path.is_file() {
        true => Ok(UploadFile {
            name: Run::COEFFICIENTS.to_owned(),
            content: UploadContent::Path(path),
        }),
        false => Err(BadInput(format!(
            "--coefficients: `{}` has no {}; only runs of eigenlorax and eigenmix have one",
            run.display(),
            Run::COEFFICIENTS
        ))),
    }
}

/// The last check before sending: no text contains the home directory or the current directory.
fn refuse_paths(files: &[UploadFile]) -> anyhow::Result<()> {
    let home = std::env::home_dir();
    let here = std::env::current_dir().ok();
    let private: Vec<String> = [home, here]
        .into_iter()
        .flatten()
        .map(|path| path.to_string_lossy().into_owned())
        // The root is part of every path.
        .filter(|path| path.len() > 1)
        .collect();
    for file in files {
        if file.name.ends_with(".safetensors") || VOCABULARIES.contains(&file.name.as_str()) {
            continue;
        }
        let text = match &file.content {
            UploadContent::Bytes(bytes) => bytes.clone(),
            UploadContent::Path(path) => fs::read(path).map_err(FileError::io("read", path))?,
        };
        let text = String::from_utf8_lossy(&text);
        if let Some(found) = private.iter().find(|path| text.contains(path.as_str())) {
            let problem = format!(
                "`{}` contains the local path `{found}`; remove it before publishing",
                file.name
            );
            return Err(BadInput(problem).into());
        }
    }
    Ok(())
}

/// Files of tokens, among which there may be any piece of a path.
const VOCABULARIES: [&str; 5] = [
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
];

/// Tokenizer and chat template without where the tokenizer once lay, which its configuration remembers
/// and nothing reads.
fn published(companions: Vec<Companion>) -> Vec<Companion> {
    let companions = companions.into_iter();
    let without_place = |mut companion: Companion| {
        let parsed = serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>;
        if companion.name == "tokenizer_config.json"
            && let Ok(mut config) = parsed(&companion.content)
            && config.shift_remove("name_or_path").is_some()
        {
            companion.content = format!("{:#}\n", serde_json::Value::Object(config)).into_bytes();
        }
        companion
    };
    companions.map(without_place).collect()
}

#[derive(Serialize)]
struct PushResult {
    repository: String,
    /// None of a dry run.
    commit: Option<String>,
    url: Option<String>,
    pull_request: Option<String>,
    files: Vec<PushedFile>,
    card: String,
}

#[derive(Serialize)]
struct PushedFile {
    name: String,
    bytes: u64,
}

impl PushResult {
    fn new(
        repository: &HubId,
        committed: Option<Committed>,
        files: &[UploadFile],
        card: String,
    ) -> Result<Self, AdapterError> {
        let files: Result<Vec<PushedFile>, AdapterError> = files
            .iter()
            .map(|file| {
                let bytes = file.content.size();
                Ok(PushedFile {
                    name: file.name.clone(),
                    bytes: bytes.map_err(FileError::io("read", file.name.as_ref()))?,
                })
            })
            .collect();
        let (commit, url, pull_request) = match committed {
            Some(made) => (Some(made.commit), Some(made.url), made.pull_request),
            None => (None, None, None),
        };
        Ok(Self {
            repository: repository.to_string(),
            commit,
            url,
            pull_request,
            files: files?,
            card,
        })
    }
}

impl fmt::Display for PushResult {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.pull_request, &self.url) {
            (Some(url), _) => writeln!(formatter, "`{}`: proposed, {url}", self.repository)?,
            (None, Some(url)) => writeln!(formatter, "`{}`: uploaded, {url}", self.repository)?,
            (None, None) => writeln!(formatter, "`{}`: nothing was sent", self.repository)?,
        }
        let width = self.files.iter().map(|file| file.name.len()).max();
        let width = width.unwrap_or_default();
        let lines: Vec<String> = self
            .files
            .iter()
            .map(|file| format!("  {:width$}  {}", file.name, ByteCount(file.bytes)))
            .collect();
        formatter.write_str(&lines.join("\n"))?;
        match self.commit {
            Some(_) => Ok(()),
            None => write!(formatter, "\n\n{}", self.card.trim_end()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_tokenizer_is_not_published_and_the_rest_of_it_is() {
        let companion = |name: &str, content: &str| Companion {
            name: name.to_owned(),
            content: content.as_bytes().to_vec(),
        };
        let config = r#"{"eos_token": "</s>", "name_or_path": "models/base"}"#;
        let files = vec![
            companion("tokenizer_config.json", config),
            companion("chat_template.jinja", "{{ messages }}"),
        ];
        let published = published(files.clone());
        let text = String::from_utf8_lossy(&published[0].content);
        assert!(
            text.contains("</s>") && !text.contains("models/base"),
            "{text}"
        );
        assert_eq!(published[1], files[1]);
    }
}
