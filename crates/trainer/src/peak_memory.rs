//! The peak memory of this process.

/// Resets the peak, where Linux permits it; [`read`] then measures from here on.
pub(crate) fn reset() {
    // 5 resets the high-water mark of the resident set (proc_pid_clear_refs(5)). Where it may not
    // be written, the peak of the process so far stands; nothing else depends on it.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The largest resident set since [`reset`], in bytes: all that this process had in memory at once,
/// mapped files such as the base model included. `None` where the system has no /proc.
pub(crate) fn read() -> Option<u64> {
    high_water_mark(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// `VmHWM` of a status file, which counts in units of 1024 bytes.
fn high_water_mark(status: &str) -> Option<u64> {
    let mark = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = mark.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_in_bytes() {
        let status = "Name:\teigenmix\nVmPeak:\t  999999 kB\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(high_water_mark(status), Some(12_641_280));
        assert_eq!(high_water_mark("Name:\teigenmix\n"), None);
        assert_eq!(high_water_mark("VmHWM:\tmuch kB\n"), None);
    }

    /// In a process of its own: the other tests of this one take and return memory meanwhile.
    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_was_touched_counts() {
        const ALONE: &str = "EIGENMIX_TEST_OF_PEAK_MEMORY_IS_ALONE";
        const BYTES: usize = 64 << 20;
        if std::env::var_os(ALONE).is_none() {
            let name = "peak_memory::tests::memory_that_was_touched_counts";
            let alone = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", name, "--nocapture"])
                .env(ALONE, "1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&alone.stdout);
            assert!(alone.status.success(), "{alone:?}");
            assert!(said.contains("1 passed"), "{said}");
            return;
        }
        reset();
        let before = read().unwrap();
        let touched = std::hint::black_box(vec![1u8; BYTES]);
        let after = read().unwrap();
        assert_eq!(touched[BYTES / 2], 1);
        // The kernel counts the pages of each core by the dozen.
        let counted = after - before;
        assert!(counted >= BYTES as u64 * 3 / 4, "{before}, {after}");
        assert!(counted <= BYTES as u64 * 5 / 4, "{before}, {after}");
    }
}
