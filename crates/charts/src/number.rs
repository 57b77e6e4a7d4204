//! Numbers as labels.

/// A number in few characters: `0.25`, `1.5k`, `73.7k`, `2e-5`; three significant digits.
pub fn short_number(value: f64) -> String {
    rounded(value, 3)
}

/// A number in few characters with at most this many significant digits.
pub(crate) fn rounded(value: f64, digits: i32) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "not a number".to_owned()
        } else {
            format!("{}∞", if value < 0.0 { "−" } else { "" })
        };
    }
    let size = value.abs();
    let text = match size {
        0.0 => "0".to_owned(),
        _ if !(1e-3..999.5e9).contains(&size) => {
            let decimals = (digits - 1).max(0) as usize;
            let scientific = format!("{size:.decimals$e}");
            match scientific.split_once('e') {
                Some((mantissa, exponent)) => format!("{}e{exponent}", trimmed(mantissa)),
                None => scientific,
            }
        }
        _ => {
            let units = [(1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G")];
            // What would round to 1000 belongs to the next unit.
            let fits = |(unit, _): &&(f64, &str)| size / unit < 999.5;
            let (unit, letter) = units.iter().find(fits).unwrap_or(&units[3]);
            format!("{}{letter}", significant(size / unit, digits))
        }
    };
    let sign = if value < 0.0 { "−" } else { "" };
    format!("{sign}{text}")
}

/// This many significant digits of a number in [0.001, 1000), without zeros at the end.
fn significant(size: f64, digits: i32) -> String {
    let decimals = (digits - 1 - size.log10().floor() as i32).clamp(0, 5) as usize;
    trimmed(&format!("{size:.decimals$}")).to_owned()
}

fn trimmed(text: &str) -> &str {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_significant_digits_and_a_unit() {
        for (value, expected) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (0.1 + 0.2, "0.3"),
            (-1.5, "−1.5"),
            (999.7, "1k"),
            (73_728.0, "73.7k"),
            (28_352_512.0, "28.4M"),
            (2e-5, "2e-5"),
            (0.0012, "0.0012"),
            (100.0, "100"),
            (1e15, "1e15"),
            (f64::NEG_INFINITY, "−∞"),
            (f64::NAN, "not a number"),
        ] {
            assert_eq!(short_number(value), expected);
        }
        assert_eq!(rounded(0.987, 2), "0.99");
    }
}
