//! Adapters for parts of a diffusion model: a directory for each part, or one file for all.

use std::path::Path;

use eigenmix_adapter::{Adapter, AdapterError};
use eigenmix_models::{Adaptation, AdaptedTables, Checkpoint, Description, LoadReport, ModelError};

use crate::{DiffusionError, Kind, Part};

/// An adapter, its modules by part.
#[derive(Clone, Debug)]
pub struct PipelineAdapter {
    location: String,
    /// Each with its modules named as in the part.
    parts: Vec<(Part, Adapter)>,
    /// The names of what is of no part.
    strangers: Vec<String>,
}

impl PipelineAdapter {
    /// The adapters of a directory with a PEFT adapter for each part.
    ///
    /// - read: reads an adapter from a directory
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn from_directories<E: From<AdapterError>>(
        directory: &Path,
        mut read: impl FnMut(&Path) -> Result<Adapter, E>,
    ) -> Result<Option<Self>, E> {
        let mut parts = Vec::new();
        for part in Part::ALL {
            let directory = directory.join(part.name());
            if directory.join("adapter_config.json").is_file() {
                parts.push((part, read(&directory)?));
            }
        }
        let location = directory.display().to_string();
        Ok((!parts.is_empty()).then_some(Self {
            location,
            parts,
            strangers: Vec::new(),
        }))
    }

    /// An adapter whose modules begin with the part that they are of, as in diffusers' and kohya's files,
    /// or that is for one part alone, as PEFT's.
    ///
    /// - location: what the user called it; the last directory of it may name the part
    pub fn of(location: &str, adapter: Adapter) -> Self {
        let location = location.to_owned();
        let is_of_pipeline = adapter
            .modules
            .keys()
            .any(|path| part_of_name(path).is_some());
        if !is_of_pipeline {
            let part = part_of(&location, &adapter);
            return Self {
                location,
                parts: vec![(part, adapter)],
                strangers: Vec::new(),
            };
        }
        let names = adapter.modules.keys().chain(adapter.heads.keys());
        let names = names.chain(adapter.biases.keys());
        let strangers = names.filter(|name| part_of_name(name).is_none());
        let strangers = strangers.cloned().collect();
        let parts = Part::ALL.into_iter().filter_map(|part| {
            let own = part_named(&adapter, part);
            (!own.modules.is_empty()).then_some((part, own))
        });
        Self {
            location,
            parts: parts.collect(),
            strangers,
        }
    }

    /// The parts that it has something for.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        self.parts.iter().map(|(part, _)| *part)
    }

    pub fn location(&self) -> &str {
        &self.location
    }

    /// What it has for a part.
    pub fn part(&self, part: Part) -> Option<&Adapter> {
        let mut parts = self.parts.iter();
        parts
            .find(|(own, _)| *own == part)
            .map(|(_, adapter)| adapter)
    }

    /// What it has, by name, if that is nothing for any of these parts.
    pub fn without(&self, parts: &[Part]) -> Option<String> {
        if parts.iter().any(|part| self.part(*part).is_some()) {
            return None;
        }
        let found: Vec<&str> = self.parts().map(Part::name).collect();
        Some(found.join(", "))
    }

    /// Refuses an adapter with something that is of no part of any model.
    ///
    /// # Errors
    /// If it has.
    pub fn check_whole(&self) -> Result<(), DiffusionError> {
        match self.strangers.first() {
            Some(first) => Err(DiffusionError::NoPart {
                location: self.location.clone(),
                first: first.clone(),
                count: self.strangers.len(),
            }),
            None => Ok(()),
        }
    }

    /// Refuses an adapter that shows by its parts that it is for another kind of model.
    ///
    /// # Errors
    /// If it does.
    pub fn check_kind(&self, kind: Kind) -> Result<(), DiffusionError> {
        let has_second = self.part(Part::TextEncoder2).is_some();
        match (kind, has_second) {
            (Kind::Sd, true) => Err(self.other_base(Kind::Xl, kind)),
            _ => Ok(()),
        }
    }

    fn other_base(&self, adapter: Kind, base: Kind) -> DiffusionError {
        DiffusionError::OtherBase {
            location: self.location.clone(),
            adapter: adapter.name(),
            base: base.name(),
        }
    }

    /// What it places on a part of a model, and how it matched; nothing if it has nothing for it.
    ///
    /// - kind: of the model
    ///
    /// # Errors
    /// If a module has another shape than the layer, or, unless `allow_partial`, if modules are in the
    /// adapter only, or its configuration targets some that it lacks.
    pub fn adaptation(
        &self,
        part: Part,
        kind: Kind,
        description: &Description,
        checkpoint: &Checkpoint,
        allow_partial: bool,
    ) -> Result<Option<(Adaptation, LoadReport)>, DiffusionError> {
        let Some(adapter) = self.part(part) else {
            return Ok(None);
        };
        let other = match kind {
            Kind::Sd => Kind::Xl,
            Kind::Xl => Kind::Sd,
        };
        let tables = AdaptedTables::default();
        let refused = |source: ModelError| match &source {
            ModelError::UpdateShape { .. } if is_deep(adapter) != (kind == Kind::Xl) => {
                self.other_base(other, kind)
            }
            _ => DiffusionError::Part { part, source },
        };
        let (adaptation, report) =
            Adaptation::from_adapter(adapter, description, tables, checkpoint).map_err(refused)?;
        if part == Part::Unet
            && !report.unexpected.is_empty()
            && is_deep(adapter) != (kind == Kind::Xl)
            && !allow_partial
        {
            return Err(self.other_base(other, kind));
        }
        report
            .ensure_complete(description, allow_partial)
            .map_err(|source| DiffusionError::Part { part, source })?;
        Ok(Some((adaptation, report)))
    }
}

/// The part that a name begins with.
fn part_of_name(name: &str) -> Option<Part> {
    let (first, _) = name.split_once('.')?;
    Part::ALL.into_iter().find(|part| part.name() == first)
}

/// Whether an adapter's transformers have more than one layer, as only SDXL's do.
fn is_deep(adapter: &Adapter) -> bool {
    adapter
        .modules
        .keys()
        .any(|path| path.contains("transformer_blocks.1."))
}

/// Of an adapter for one part: which, by the directory's name or by the names of its modules.
fn part_of(location: &str, adapter: &Adapter) -> Part {
    let directory = Path::new(location).file_name();
    let directory = directory.and_then(|name| name.to_str());
    let named = Part::ALL
        .into_iter()
        .find(|part| Some(part.name()) == directory);
    named.unwrap_or_else(|| {
        let is_text = |path: &String| path.contains("self_attn") || path.contains(".mlp.fc");
        match adapter.modules.keys().any(is_text) {
            true => Part::TextEncoder,
            false => Part::Unet,
        }
    })
}

/// The part of an adapter whose names begin with that of `part`, without it.
fn part_named(adapter: &Adapter, part: Part) -> Adapter {
    let strip = |name: &str| {
        let inner = name.strip_prefix(part.name())?.strip_prefix('.')?;
        Some(inner.to_owned())
    };
    let mut own = adapter.clone();
    own.modules = (adapter.modules.iter())
        .filter_map(|(path, module)| Some((strip(path)?, module.clone())))
        .collect();
    own.heads = (adapter.heads.iter())
        .filter_map(|(name, tensor)| Some((strip(name)?, tensor.clone())))
        .collect();
    own.biases = (adapter.biases.iter())
        .filter_map(|(name, tensor)| Some((strip(name)?, tensor.clone())))
        .collect();
    own
}
