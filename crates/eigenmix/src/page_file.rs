//! The file of a requested page, checked before the work.

use std::path::{Path, PathBuf};

use eigenmix_charts::Page;
use eigenmix_tensors::{FileError, write_file};

use eigenmix_experiment::BadInput;

/// A file that may be written: it does not exist yet, or `--force` allows overwriting it.
#[derive(Clone, Debug)]
pub(crate) struct PageFile {
    path: PathBuf,
}

impl PageFile {
    /// # Errors
    /// If the file exists and `force` is not set, it is not a file, or there is no directory for it.
    pub(crate) fn new(path: &Path, force: bool) -> anyhow::Result<Self> {
        if path.is_dir() {
            let problem = format!(
                "`{}` is a directory; name a file to write, such as `{}`",
                path.display(),
                path.join("report.html").display()
            );
            return Err(BadInput(problem).into());
        }
        if path.symlink_metadata().is_ok() && !force {
            return Err(FileError::AlreadyExists(path.to_owned()).into());
        }
        require_directory_of(path)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// # Errors
    /// If it cannot be written; an existing file then remains.
    pub(crate) fn write(&self, page: &Page) -> anyhow::Result<()> {
        Ok(write_file(&self.path, page.render().as_bytes())?)
    }
}

/// Refuses a file to be written in a directory that is not there, before the work for it.
///
/// # Errors
/// If there is none.
pub(crate) fn require_directory_of(file: &Path) -> Result<(), BadInput> {
    let directory = file.parent().unwrap_or(Path::new(""));
    if directory == Path::new("") || directory.is_dir() {
        return Ok(());
    }
    Err(BadInput(format!(
        "`{}` cannot be written, because the directory `{}` does not exist; create it first",
        file.display(),
        directory.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_replaced_with_force_only_and_a_directory_never() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("page.html");
        PageFile::new(&path, false).expect("a new file");
        std::fs::write(&path, "mine").expect("a file");
        let error = PageFile::new(&path, false).expect_err("an error");
        assert!(error.to_string().contains("page.html"), "{error}");
        let page = PageFile::new(&path, true).expect("a file to replace");
        page.write(&Page::new("theirs")).expect("written");
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(text.contains("theirs"));
        assert!(PageFile::new(root.path(), true).is_err());
        let error = PageFile::new(&root.path().join("none/page.html"), false).unwrap_err();
        assert!(
            error.to_string().contains("none` does not exist"),
            "{error}"
        );
    }
}
