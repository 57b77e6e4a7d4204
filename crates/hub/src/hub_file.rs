//! A file of a repository on the Hub, as an argument names it.

use std::path::Path;

use eigenmix_gguf::is_gguf_name;

use crate::{HubError, HubId};

/// One file of a repository with weights: `org/name:file.gguf`, `org/name:folder/file.safetensors@revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    pub id: HubId,
    /// Its path in the repository.
    pub name: String,
}

impl HubFile {
    /// Nothing where the argument names no file in a repository, or is an existing path.
    ///
    /// # Errors
    /// If the repository or the name of the file is malformed.
    pub fn parse(argument: &str) -> Result<Option<Self>, HubError> {
        let Some((repository, file)) = argument.split_once(':') else {
            return Ok(None);
        };
        if Path::new(argument).exists() {
            return Ok(None);
        }
        let refused = |problem| HubError::Location {
            argument: argument.to_owned(),
            problem,
        };
        if repository.contains('@') {
            return Err(refused(
                "the revision follows the file: `org/name:file.gguf@revision`",
            ));
        }
        let (name, revision) = match file.split_once('@') {
            Some((name, revision)) => (name, format!("@{revision}")),
            None => (file, String::new()),
        };
        let is_safetensors = Path::new(name)
            .extension()
            .is_some_and(|end| end == "safetensors");
        if !is_gguf_name(name) && !is_safetensors {
            return Err(refused(
                "what follows `:` is not the name of a .gguf or .safetensors file",
            ));
        }
        let id = HubId::parse(&format!("{repository}{revision}"))?;
        let name = name.to_owned();
        Ok(Some(Self { id, name }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_its_repository_and_before_the_revision() {
        let file = HubFile::parse("org/name:Q4/a.gguf@v1").unwrap().unwrap();
        assert_eq!(file.id, HubId::parse("org/name@v1").unwrap());
        assert_eq!(file.name, "Q4/a.gguf");
        let main = HubFile::parse("org/name:a.GGUF").unwrap().unwrap();
        assert_eq!((main.id.revision(), main.name.as_str()), (None, "a.GGUF"));
        assert_eq!(HubFile::parse("org/name@v1").unwrap(), None);
    }

    #[test]
    fn what_names_no_file_of_weights_is_refused() {
        let name = "is not the name of a .gguf or .safetensors file";
        for (argument, reason) in [
            ("org/name:model.bin", name),
            ("org/name:", name),
            ("org/name:.gguf", name),
            ("org/name@v1:a.gguf", "the revision follows the file"),
            ("org/na me:a.gguf", "a character other than"),
            ("org/name:a.gguf@../x", "revision"),
        ] {
            let error = HubFile::parse(argument).unwrap_err().to_string();
            let repository = argument.split(':').next().unwrap();
            assert!(
                error.contains(repository) && error.contains(reason),
                "{error}"
            );
        }
    }
}
