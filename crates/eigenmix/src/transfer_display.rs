//! Transfers from and to the Hub: a bar each on a terminal, plain lines elsewhere, and one line for
//! each finished file.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use eigenmix_hub::{Transfer, TransferDirection, TransferObserver, TransferProgress};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use eigenmix_experiment::ByteCount;

/// How often a line is written if there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Shows transfers on standard error.
pub(crate) struct TransferDisplay {
    /// `None` if there is no terminal.
    bars: Option<MultiProgress>,
}

impl TransferDisplay {
    pub(crate) fn new() -> Self {
        Self {
            bars: io::stderr().is_terminal().then(MultiProgress::new),
        }
    }
}

impl TransferObserver for TransferDisplay {
    fn begin(&self, transfer: Transfer<'_>) -> Box<dyn TransferProgress> {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(transfer.size));
            let template = "{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(transfer.name.to_owned());
            bar.set_position(transfer.resumed_at);
            bar.reset_eta();
            (bars.clone(), bar)
        });
        Box::new(TransferLine {
            name: transfer.name.to_owned(),
            direction: transfer.direction,
            size: transfer.size,
            resumed_at: transfer.resumed_at,
            position: transfer.resumed_at,
            started: Instant::now(),
            last_line: Instant::now(),
            bar,
        })
    }
}

/// One transfer, as it is shown.
struct TransferLine {
    name: String,
    direction: TransferDirection,
    size: u64,
    resumed_at: u64,
    position: u64,
    started: Instant,
    /// When the last line was written.
    last_line: Instant,
    bar: Option<(MultiProgress, ProgressBar)>,
}

impl TransferLine {
    fn say(&self, line: &str) {
        let write = || {
            // If standard error is closed, the message is dropped.
            let _ = writeln!(io::stderr().lock(), "{line}");
        };
        match &self.bar {
            Some((bars, _)) => bars.suspend(write),
            None => write(),
        }
    }

    /// Bytes per second, of those that were transferred.
    fn rate(&self) -> ByteCount {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-3);
        let bytes = self.position.saturating_sub(self.resumed_at);
        ByteCount((bytes as f64 / seconds) as u64)
    }

    fn under_way(&self) -> String {
        let action = match self.direction {
            TransferDirection::Download => "downloading",
            TransferDirection::Upload => "uploading",
        };
        format!(
            "{action} {}: {} of {}, {}/s",
            self.name,
            ByteCount(self.position),
            ByteCount(self.size),
            self.rate()
        )
    }

    fn done(&self) -> String {
        let action = match self.direction {
            TransferDirection::Download => "downloaded",
            TransferDirection::Upload => "uploaded",
        };
        let kept = match self.resumed_at {
            0 => String::new(),
            kept => format!(", {} of them before", ByteCount(kept)),
        };
        format!(
            "{action} {}: {}{kept}, {:.1} s, {}/s",
            self.name,
            ByteCount(self.size),
            self.started.elapsed().as_secs_f64(),
            self.rate()
        )
    }
}

impl TransferProgress for TransferLine {
    fn reached(&mut self, position: u64) {
        // A server without range requests starts from the beginning.
        self.resumed_at = self.resumed_at.min(position);
        self.position = position;
        if let Some((_, bar)) = &self.bar {
            bar.set_position(position);
        } else if self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            self.say(&self.under_way());
        }
    }

    fn finished(&mut self) {
        // Another process may have fetched it.
        let line = match self.position == self.size {
            true => self.done(),
            false => format!("{}: already downloaded by another process", self.name),
        };
        if let Some((_, bar)) = &self.bar {
            bar.finish_and_clear();
        }
        self.say(&line);
    }

    fn waiting(&mut self) {
        self.say(&format!(
            "{}: waiting for another process that is downloading it",
            self.name
        ));
    }
}

impl Drop for TransferLine {
    fn drop(&mut self) {
        if let Some((_, bar)) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(resumed_at: u64) -> TransferLine {
        TransferLine {
            name: "org/name/file".to_owned(),
            direction: TransferDirection::Download,
            size: 4_000_000,
            resumed_at,
            position: 4_000_000,
            started: Instant::now() - Duration::from_secs(2),
            last_line: Instant::now(),
            bar: None,
        }
    }

    #[test]
    fn a_finished_transfer_tells_its_size_and_rate() {
        let whole = line(0).done();
        assert_eq!(whole, "downloaded org/name/file: 4.0 MB, 2.0 s, 2.0 MB/s");
        let resumed = line(2_000_000).done();
        assert!(
            resumed.contains("4.0 MB, 2.0 MB of them before"),
            "{resumed}"
        );
        assert!(resumed.ends_with("1.0 MB/s"), "{resumed}");
    }

    #[test]
    fn a_transfer_under_way_tells_how_far_it_is() {
        let mut transfer = line(0);
        transfer.reached(1_000_000);
        let line = transfer.under_way();
        let expected = "downloading org/name/file: 1.0 MB of 4.0 MB, ";
        assert!(line.starts_with(expected), "{line}");
    }
}
