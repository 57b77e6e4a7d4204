//! Human-readable sizes.

use std::fmt;

/// A number of bytes, shown in powers of 1000: `9.4 MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteCount(pub u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        for unit in ["B", "kB", "MB", "GB"] {
            // What would round to 1000 belongs to the next unit.
            if value < 999.5 {
                let decimals = usize::from(unit != "B" && value < 99.95);
                return write!(formatter, "{value:.decimals$} {unit}");
            }
            value /= 1000.0;
        }
        write!(formatter, "{value:.1} TB")
    }
}

#[cfg(test)]
mod tests {
    use super::ByteCount;

    #[test]
    fn a_count_has_two_or_three_figures_and_a_unit() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (99_940, "99.9 kB"),
            (99_960, "100 kB"),
            (999_700, "1.0 MB"),
            (9_437_184, "9.4 MB"),
            (3_200_000_000_000, "3.2 TB"),
        ] {
            assert_eq!(ByteCount(bytes).to_string(), expected);
        }
    }
}
