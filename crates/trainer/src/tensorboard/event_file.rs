//! An event file of a run, open for appending.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use eigenmix_tensors::FileError;

use super::event::{EncodedImage, What, encoded};
use super::record::framed;
use crate::TrainerError;

const PREFIX: &str = "events.out.tfevents.";

/// `events.out.tfevents.SECONDS.HOST.PROCESS`, as TensorBoard looks for it.
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Starts a new file in `run`. If a training resumes after `resumed` steps, its first event
    /// makes readers drop the later steps of earlier files, which are written again.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(run: &Path, resumed: Option<usize>) -> Result<Self, TrainerError> {
        // Readers go by the names: a new file must come after those that are there.
        let seconds = match latest(run)? {
            Some(latest) => (now() as u64).max(latest.saturating_add(1)),
            None => now() as u64,
        };
        let name = format!("{PREFIX}{seconds:010}.{}.{}", host(), std::process::id());
        let path = run.join(name);
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(&path)
            .map_err(FileError::io("create", &path))?;
        let mut events = Self { path, file };
        events.write(0, &What::FileVersion)?;
        // Readers take only the second start for a restart, so the first file has one as well.
        events.write(resumed.map_or(0, |step| step + 1), &What::Start)?;
        Ok(events)
    }

    /// Writes the values of a step, each under its tag.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn scalars(&mut self, step: usize, scalars: &[(String, f64)]) -> Result<(), FileError> {
        self.write(step, &What::Scalars(scalars))
    }

    /// Writes an image of a step under its tag.
    ///
    /// - size: height and width
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn image(
        &mut self,
        step: usize,
        tag: &str,
        size: [usize; 2],
        png: &[u8],
    ) -> Result<(), FileError> {
        self.write(step, &What::Image(&EncodedImage { tag, size, png }))
    }

    fn write(&mut self, step: usize, what: &What) -> Result<(), FileError> {
        let record = framed(&encoded(now(), step, what));
        self.file
            .write_all(&record)
            .map_err(FileError::io("write", &self.path))
    }
}

/// Seconds since 1970; 0 on a clock that is before.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// The seconds in the name of the newest event file in `run`.
fn latest(run: &Path) -> Result<Option<u64>, TrainerError> {
    let entries = std::fs::read_dir(run).map_err(FileError::io("read", run))?;
    let seconds = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        let rest = name.to_str()?.strip_prefix(PREFIX)?;
        rest.split('.').next()?.parse().ok()
    });
    Ok(seconds.max())
}

/// The name of this machine, without characters that a file name cannot have; `localhost` if
/// unknown.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME"))
        .or_else(|_| std::env::var("COMPUTERNAME"))
        .unwrap_or_default();
    let plain: String = name
        .trim()
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-')
        .collect();
    match plain.is_empty() {
        true => "localhost".to_owned(),
        false => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::records;
    use super::*;

    fn written(events: &EventFile) -> Vec<Vec<u8>> {
        records(&std::fs::read(&events.path).unwrap())
    }

    /// What comes after the wall time: 1 byte of key and 8 of the value.
    fn without_time(event: &[u8]) -> &[u8] {
        assert_eq!(event[0], 0x09);
        &event[9..]
    }

    #[test]
    fn events_are_the_bytes_that_tensorboard_writes() {
        let run = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(run.path(), None).unwrap();
        let scalars = [
            ("train/loss".to_owned(), 0.5),
            ("train/learning_rate".to_owned(), 0.001),
        ];
        events.scalars(300, &scalars).unwrap();
        let found = written(&events);
        assert_eq!(without_time(&found[0]), b"\x10\x00\x1a\x0dbrain.Event:2");
        assert_eq!(without_time(&found[1]), b"\x10\x00\x3a\x02\x08\x01");
        // tensorboard 2.21: event = Event(step=300), then
        // event.summary.value.add(tag=…, simple_value=…) twice, event.SerializeToString()
        let expected = b"\x10\xac\x02*/\n\x11\n\ntrain/loss\x15\x00\x00\x00?\n\x1a\n\x13train/learning_rate\x15o\x12\x83:";
        assert_eq!(without_time(&found[2]), expected);
    }

    #[test]
    fn a_resumed_training_has_a_later_file_that_starts_after_its_checkpoint() {
        let run = tempfile::tempdir().unwrap();
        let first = EventFile::create(run.path(), None).unwrap();
        let second = EventFile::create(run.path(), Some(40)).unwrap();
        let third = EventFile::create(run.path(), Some(60)).unwrap();
        assert!(first.path < second.path && second.path < third.path);
        let found = written(&second);
        // tensorboard 2.21: Event(step=41, session_log=SessionLog(status=SessionLog.START))
        assert_eq!(without_time(&found[1]), b"\x10\x29\x3a\x02\x08\x01");
    }
}
