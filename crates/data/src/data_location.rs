//! Where data are: a directory here, or a dataset on the Hub, of which only the files of the splits
//! that are read are fetched.

use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;

use eigenmix_hub::{FileRequest, Hub, HubError, Location, Repository};

use crate::diffusion::{NameProblem, names_of_instances, names_of_split, names_with_images};
use crate::error::quoted;
use crate::{
    DataConfig, DataError, DatasetCard, DiffusionDataError, FileSelection, FileTree, Split,
};

/// The data that a configuration names.
pub struct DataLocation<'a> {
    config: &'a DataConfig,
    /// None of a directory.
    dataset: Option<Dataset>,
}

/// A dataset on the Hub at one commit.
struct Dataset {
    id: PathBuf,
    repository: Repository,
    card: DatasetCard,
}

impl<'a> DataLocation<'a> {
    /// Finds the data, asking the Hub if `data.path` is no path here.
    ///
    /// # Errors
    /// If `data.path` is neither, or the Hub cannot be asked.
    pub fn open(config: &'a DataConfig) -> Result<Self, DataError> {
        Self::open_with(config, Hub::from_env)
    }

    /// The same without a download: of the Hub only what its cache has.
    ///
    /// # Errors
    /// As [`DataLocation::open`].
    pub fn at_hand(config: &'a DataConfig) -> Result<Self, DataError> {
        Self::open_with(config, || Ok(Hub::from_env()?.offline(true)))
    }

    fn open_with(
        config: &'a DataConfig,
        hub: impl FnOnce() -> Result<Hub, HubError>,
    ) -> Result<Self, DataError> {
        let id = match Location::parse_owned(&config.path) {
            Ok(Location::Path(_)) => {
                return Ok(Self {
                    config,
                    dataset: None,
                });
            }
            Ok(Location::Hub(id)) => id,
            Err(HubError::PathNotFound(path)) => return Err(DataError::NotADirectory { path }),
            Err(HubError::Location { argument, .. }) => {
                let path = argument.into();
                return Err(DataError::NotADirectory { path });
            }
            Err(error) => return Err(error.into()),
        };
        let repository = hub()?.datasets(true).open(&id)?;
        let name = DatasetCard::FILE_NAME;
        let directory = repository.fetch(&[FileRequest::optional(name)])?;
        let card = fs::read_to_string(directory.join(name)).unwrap_or_default();
        Ok(Self {
            config,
            dataset: Some(Dataset {
                id: PathBuf::from(id.to_string()),
                repository,
                card: DatasetCard::parse(&card),
            }),
        })
    }

    /// The configuration under which a split is read from a directory, its files fetched if need be.
    ///
    /// # Errors
    /// If the dataset does not have the split, or it cannot be fetched.
    pub fn split(&self, split: Split) -> Result<Cow<'a, DataConfig>, DataError> {
        let Some(dataset) = &self.dataset else {
            return Ok(Cow::Borrowed(self.config));
        };
        let names = dataset.tree().split(split, self.config, &dataset.card)?;
        let files = FileSelection::exactly(split, names.clone());
        Ok(Cow::Owned(self.fetched(dataset, &names, files)?))
    }

    /// The configuration under which [`read_captioned_split`](crate::read_captioned_split) reads a split
    /// from a directory, its files fetched if need be: its tables with the images that they name, or its
    /// folder.
    ///
    /// # Errors
    /// As [`DataLocation::split`].
    pub fn captioned_split(&self, split: Split) -> Result<Cow<'a, DataConfig>, DataError> {
        let Some(dataset) = &self.dataset else {
            return Ok(Cow::Borrowed(self.config));
        };
        let all = dataset.repository.files();
        let (names, files) = match dataset.tree().split(split, self.config, &dataset.card) {
            Ok(tables) => {
                let names = names_with_images(&tables, all);
                (names, FileSelection::exactly(split, tables))
            }
            Err(error @ DataError::MissingSplit { .. }) => {
                let names = names_of_split(all, split, self.config.config.as_deref());
                if names.is_empty() || !self.config.files.is_empty() {
                    return Err(error);
                }
                (names, FileSelection::default())
            }
            Err(error) => return Err(error),
        };
        Ok(Cow::Owned(self.fetched(dataset, &names, files)?))
    }

    /// The configuration under which [`read_dream_booth`](crate::read_dream_booth) reads a subject's images
    /// from a directory, its files fetched if need be.
    ///
    /// # Errors
    /// If the dataset has no such images, or they cannot be fetched.
    pub fn dream_booth(&self) -> Result<Cow<'a, DataConfig>, DataError> {
        let Some(dataset) = &self.dataset else {
            return Ok(Cow::Borrowed(self.config));
        };
        let wanted = self.config.instance_names();
        if wanted.is_none() {
            match self.split(Split::Train) {
                Err(DataError::MissingSplit { .. }) => {}
                found => return found,
            }
        }
        let all = dataset.repository.files();
        let refused = |name| DiffusionDataError::NoSuchImage {
            dir: dataset.id.clone(),
            name,
            found: quoted(all),
        };
        let names = names_of_instances(all, wanted).map_err(|problem| match problem {
            NameProblem::Pattern(error) => error,
            NameProblem::Nothing(name) => refused(name),
        })?;
        if names.is_empty() {
            return Err(refused("*".to_owned()).into());
        }
        let files = FileSelection::default();
        Ok(Cow::Owned(self.fetched(dataset, &names, files)?))
    }

    /// The configuration of the directory that has these files of a dataset.
    fn fetched(
        &self,
        dataset: &Dataset,
        names: &[String],
        files: FileSelection,
    ) -> Result<DataConfig, DataError> {
        let requests: Vec<FileRequest> = names.iter().map(FileRequest::required).collect();
        let directory = dataset.repository.fetch(&requests)?;
        let path = directory.into_os_string().into_string();
        let path = path.map_err(|path| DataError::NotADirectory { path: path.into() })?;
        Ok(DataConfig {
            path,
            files,
            ..self.config.clone()
        })
    }
}

impl Dataset {
    fn tree(&self) -> FileTree<'_> {
        FileTree::Repository {
            id: &self.id,
            names: self.repository.files(),
        }
    }
}
