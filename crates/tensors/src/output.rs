//! Output that is either complete or absent.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::Builder;

use crate::FileError;

/// Writes `bytes` to `path`, replacing what was there in one step.
///
/// # Errors
/// If the file cannot be written (the disk is full, the directory is read-only, …); what was at
/// `path` is then still there.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_file_with(path, |writer| writer.write_all(bytes))
}

/// Like [`write_file`], for output that is produced piece by piece.
///
/// The bytes go to a temporary file beside `path`, which is synchronised and renamed, so that
/// neither a reader nor a memory map of the old file ever sees a half-written one.
///
/// # Errors
/// If `fill` fails or the file cannot be written.
pub fn write_file_with(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    let name = output_name(path)?;
    let parent = parent_of(path);
    let write = || -> io::Result<()> {
        let mut builder = Builder::new();
        let prefix = hidden_prefix(name);
        // The temporary default would leave the result readable by its owner alone.
        let staged =
            permitted(builder.prefix(&prefix).suffix(".partial"), 0o666).tempfile_in(&parent)?;
        let mut writer = BufWriter::with_capacity(1 << 20, staged.as_file());
        fill(&mut writer)?;
        writer.flush()?;
        drop(writer);
        staged.as_file().sync_all()?;
        staged.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(FileError::io("write", path))
}

/// Makes the directory `target` from what `fill` writes into the empty directory it is given.
///
/// `fill` works in a temporary directory beside `target`, which is renamed once `fill` has
/// succeeded. With `force` an existing target is moved aside first and removed only when the new one
/// is in place. On failure nothing new is left behind and an existing target is as it was.
///
/// # Errors
/// [`FileError::AlreadyExists`] without `force`, whatever `fill` returns, and I/O errors.
pub fn write_directory<E: From<FileError>>(
    target: &Path,
    force: bool,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let name = output_name(target)?;
    if exists(target) && !force {
        return Err(FileError::AlreadyExists(target.to_owned()).into());
    }
    let parent = parent_of(target);
    let created = create_ancestors(&parent)?;
    let result = stage_directory(target, &parent, name, fill);
    if result.is_err() {
        // Only directories that this call made, and only while they are empty.
        for ancestor in &created {
            let _ = fs::remove_dir(ancestor);
        }
    }
    result
}

fn stage_directory<E: From<FileError>>(
    target: &Path,
    parent: &Path,
    name: &OsStr,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let prefix = hidden_prefix(name);
    let staged = permitted(Builder::new().prefix(&prefix).suffix(".partial"), 0o777)
        .tempdir_in(parent)
        .map_err(FileError::io("create a directory beside", target))?;
    fill(staged.path())?;

    let moved_aside = if exists(target) {
        let aside = Builder::new()
            .prefix(&prefix)
            .suffix(".replaced")
            .tempdir_in(parent)
            .map_err(FileError::io("create a directory beside", target))?;
        let old = aside.path().join("old");
        fs::rename(target, &old).map_err(FileError::io("move aside", target))?;
        Some((aside, old))
    } else {
        None
    };

    if let Err(source) = fs::rename(staged.path(), target) {
        if let Some((aside, old)) = moved_aside
            && fs::rename(&old, target).is_err()
        {
            // The old directory is worth more than a tidy parent: it stays where it is.
            let _ = aside.keep();
        }
        return Err(FileError::io("write", target)(source).into());
    }
    let _ = staged.keep();
    if let Some((aside, _)) = moved_aside {
        let leftover = aside.path().to_owned();
        aside
            .close()
            .map_err(FileError::io("remove the replaced", &leftover))?;
    }
    sync_directory(parent);
    Ok(())
}

/// The directories above `target` that had to be made, deepest first.
fn create_ancestors(parent: &Path) -> Result<Vec<PathBuf>, FileError> {
    let missing: Vec<PathBuf> = parent
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists())
        .map(Path::to_owned)
        .collect();
    fs::create_dir_all(parent).map_err(FileError::io("create", parent))?;
    Ok(missing)
}

fn output_name(path: &Path) -> Result<&OsStr, FileError> {
    path.file_name()
        .ok_or_else(|| FileError::OutputName(path.to_owned()))
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Whether anything is at `path`, a dangling link included.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn hidden_prefix(name: &OsStr) -> String {
    format!(".{}.", name.to_string_lossy())
}

#[cfg(unix)]
fn permitted<'a, 'name>(
    builder: &'a mut Builder<'name, 'name>,
    mode: u32,
) -> &'a mut Builder<'name, 'name> {
    use std::os::unix::fs::PermissionsExt;
    builder.permissions(fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn permitted<'a, 'name>(
    builder: &'a mut Builder<'name, 'name>,
    _mode: u32,
) -> &'a mut Builder<'name, 'name> {
    builder
}

/// Makes a rename survive a power failure, if the platform can.
fn sync_directory(directory: &Path) {
    if let Ok(handle) = File::open(directory) {
        let _ = handle.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn fill_with(text: &'static str) -> impl FnOnce(&Path) -> Result<(), FileError> {
        move |staging| write_file(&staging.join("content"), text.as_bytes())
    }

    #[test]
    fn a_directory_appears_with_its_content_and_nothing_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("new/deeper/result");
        write_directory(&target, false, fill_with("hello")).unwrap();
        assert_eq!(fs::read_to_string(target.join("content")).unwrap(), "hello");
        assert_eq!(entries(target.parent().unwrap()), ["result"]);
    }

    #[test]
    fn an_existing_directory_is_refused_without_force() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("result");
        write_directory(&target, false, fill_with("old")).unwrap();
        let error = write_directory(&target, false, fill_with("new")).unwrap_err();
        assert!(matches!(error, FileError::AlreadyExists(path) if path == target));
        assert_eq!(fs::read_to_string(target.join("content")).unwrap(), "old");
    }

    #[test]
    fn force_replaces_the_whole_directory() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("result");
        write_directory(&target, false, fill_with("old")).unwrap();
        fs::write(target.join("stale"), "left over").unwrap();
        write_directory(&target, true, fill_with("new")).unwrap();
        assert_eq!(fs::read_to_string(target.join("content")).unwrap(), "new");
        assert_eq!(entries(&target), ["content"]);
        assert_eq!(entries(root.path()), ["result"]);
    }

    #[test]
    fn a_failure_leaves_the_old_directory_and_no_trace_of_the_new() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("result");
        write_directory(&target, false, fill_with("old")).unwrap();
        let failing = |staging: &Path| {
            fs::write(staging.join("content"), "half").unwrap();
            Err(FileError::NotFound("what is read".into()))
        };
        write_directory(&target, true, failing).unwrap_err();
        assert_eq!(fs::read_to_string(target.join("content")).unwrap(), "old");
        assert_eq!(entries(root.path()), ["result"]);

        let elsewhere = root.path().join("a/b/result");
        write_directory(&elsewhere, false, failing).unwrap_err();
        assert_eq!(entries(root.path()), ["result"]);
    }

    #[test]
    fn a_target_without_a_name_is_refused() {
        let error = write_directory(Path::new(".."), true, fill_with("x")).unwrap_err();
        assert!(matches!(error, FileError::OutputName(_)));
    }

    #[test]
    fn a_file_is_replaced_whole_and_a_failed_write_keeps_the_old_one() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        write_file(&path, b"first").unwrap();
        let error = write_file_with(&path, |writer| {
            writer.write_all(b"sec")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(entries(root.path()), ["file"]);
    }

    #[cfg(unix)]
    #[test]
    fn output_is_as_readable_as_any_other_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let plain = root.path().join("plain");
        fs::write(&plain, "x").unwrap();
        let ours = root.path().join("ours");
        write_file(&ours, b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
