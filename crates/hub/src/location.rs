//! The meaning of an ADAPTER or MODEL argument: a local path, or a repository on the Hub.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::HubError;

/// The longest name that the Hub gives to an owner or a repository.
const NAME_LIMIT: usize = 96;

/// A parsed argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// An existing local path.
    Path(PathBuf),
    /// A repository on the Hub.
    Hub(HubId),
}

/// A repository on the Hub: `org/name` (or `name` alone, as the oldest models are called), with an
/// optional branch, tag or commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    repository: String,
    revision: Option<String>,
}

impl Location {
    /// An existing path wins; everything else must be a well-formed Hub id.
    ///
    /// # Errors
    /// If `argument` is neither.
    pub fn parse(argument: &str) -> Result<Self, HubError> {
        let path = PathBuf::from(argument);
        if !argument.is_empty() && path.exists() {
            return Ok(Self::Path(path));
        }
        HubId::parse(argument).map(Self::Hub)
    }

    /// The same where an id needs an owner: an argument that is not a local path but looks like a
    /// misspelt one is not requested from the Hub. An owner is rarely the name of a local
    /// directory; with a revision, the argument is certainly an id.
    ///
    /// # Errors
    /// As [`Location::parse`], and [`HubError::PathNotFound`] for a misspelt path.
    pub fn parse_owned(argument: &str) -> Result<Self, HubError> {
        match Self::parse(argument)? {
            Self::Hub(_) if is_misspelt_path(argument) => {
                Err(HubError::PathNotFound(argument.into()))
            }
            location => Ok(location),
        }
    }
}

fn is_misspelt_path(argument: &str) -> bool {
    if argument.contains('@') {
        return false;
    }
    match argument.split_once('/') {
        None => true,
        Some((parent, _)) => Path::new(parent).is_dir(),
    }
}

impl HubId {
    /// Parses `org/name`, `org/name@revision`, `name` or `name@revision`.
    ///
    /// # Errors
    /// If `argument` is not of that form.
    pub fn parse(argument: &str) -> Result<Self, HubError> {
        let (repository, revision) = match argument.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (argument, None),
        };
        let problem =
            repository_problem(repository).or_else(|| revision.and_then(revision_problem));
        if let Some(problem) = problem {
            return Err(HubError::Location {
                argument: argument.to_owned(),
                problem,
            });
        }
        Ok(Self {
            repository: repository.to_owned(),
            revision: revision.map(str::to_owned),
        })
    }

    /// `org/name` without the revision.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The requested revision; `None` stands for the Hub's `main`.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.revision {
            Some(revision) => write!(formatter, "{}@{revision}", self.repository),
            None => formatter.write_str(&self.repository),
        }
    }
}

fn repository_problem(repository: &str) -> Option<&'static str> {
    let names: Vec<&str> = repository.split('/').collect();
    if names.len() > 2 {
        return Some("a Hub id has at most one slash");
    }
    names.into_iter().find_map(|name| {
        if name.is_empty() {
            return Some("a name is empty");
        }
        if name.len() > NAME_LIMIT {
            return Some("a name is longer than 96 characters");
        }
        if !name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
        {
            return Some("a name has a character other than letters, digits, `-`, `_` and `.`");
        }
        if name.starts_with(['-', '.']) || name.ends_with(['-', '.']) {
            return Some("a name begins or ends with `-` or `.`");
        }
        if name.contains("--") || name.contains("..") {
            return Some("a name contains `--` or `..`");
        }
        None
    })
}

fn revision_problem(revision: &str) -> Option<&'static str> {
    let fits = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
    };
    if revision.split('/').all(fits) {
        return None;
    }
    Some("what follows `@` is not a branch, tag or commit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_split_into_repository_and_revision() {
        let id = HubId::parse("org/some-adapter_v1.5@refs/pr/3").unwrap();
        assert_eq!(id.repository(), "org/some-adapter_v1.5");
        assert_eq!(id.revision(), Some("refs/pr/3"));
        assert_eq!(id.to_string(), "org/some-adapter_v1.5@refs/pr/3");
        assert_eq!(HubId::parse("gpt2").unwrap().revision(), None);
    }

    #[test]
    fn an_existing_path_wins_over_a_hub_id() {
        let directory = tempfile::tempdir().unwrap();
        let argument = directory.path().to_str().unwrap();
        assert_eq!(
            Location::parse(argument).unwrap(),
            Location::Path(directory.path().to_owned())
        );
        assert!(matches!(
            Location::parse("no-such/adapter").unwrap(),
            Location::Hub(_)
        ));
    }

    #[test]
    fn a_name_without_an_owner_or_in_a_directory_here_is_a_path_that_is_not_there() {
        // Tests run in the directory of the crate.
        for argument in ["no-such-adapter", "src/no-such-adapter"] {
            let error = Location::parse_owned(argument).unwrap_err();
            assert!(matches!(error, HubError::PathNotFound(_)), "{error}");
        }
        for argument in ["org/name", "name@v1", "src/name@v1"] {
            let location = Location::parse_owned(argument).unwrap();
            assert!(matches!(location, Location::Hub(_)), "{argument}");
        }
    }

    #[test]
    fn what_is_neither_is_an_error_that_says_both() {
        for argument in [
            "",
            "a/b/c",
            "../adapters/x",
            "./x",
            "/no/such/path",
            "org/",
            "org/na me",
            "org/name@",
            "org/name@../../etc",
            "org/..",
            "-x/y",
            "a--b/c",
        ] {
            let error = Location::parse(argument).unwrap_err().to_string();
            assert!(
                error.contains("existing path") && error.contains("org/name"),
                "{error}"
            );
        }
    }
}
