//! Text in a chart: escaped, and shortened to its space.

use std::fmt::Write;

/// The size of labels in px.
pub(crate) const SIZE: f64 = 12.0;

/// What a character of a sans-serif font takes at most on the average, in units of its size. Real
/// widths are the browser's; rather a little room too much than labels that touch.
const NARROW: f64 = 0.56;

/// Capitals, and letters as wide.
const WIDE: f64 = 0.72;

/// Minus and other signs.
const SYMBOL: f64 = 0.84;

/// The widest letters, and scripts whose characters fill a square.
const SQUARE: f64 = 1.0;

/// About how wide `text` is at `size` px.
pub(crate) fn width(text: &str, size: f64) -> f64 {
    let widths = text.chars().map(|character| match character {
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' => SQUARE,
        _ if character.is_uppercase() => WIDE,
        '\u{2000}'..='\u{2bff}' => SYMBOL,
        _ if u32::from(character) >= 0x1100 => SQUARE,
        _ => NARROW,
    });
    size * widths.sum::<f64>()
}

/// `text`, with its middle replaced by … where it is wider than `room` px at `size` px: names that
/// differ often do so at their ends.
pub(crate) fn fitted(text: &str, room: f64, size: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let characters: Vec<char> = text.chars().collect();
    for kept in (0..characters.len()).rev() {
        let (head, tail) = (kept.div_ceil(2), kept / 2);
        let mut cut: String = characters[..head].iter().collect();
        cut.push('…');
        cut.extend(&characters[characters.len() - tail..]);
        if width(&cut, size) <= room {
            return cut;
        }
    }
    "…".to_owned()
}

/// `text` as content or attribute of HTML. Control characters, which it cannot hold, become `�`.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            _ if character.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// A coordinate with at most two decimals; 0 where it isn't finite.
pub(crate) fn write_coordinate(out: &mut String, value: f64) {
    let rounded = (value * 100.0).round() / 100.0;
    // Also turns −0 into 0.
    let rounded = if rounded.is_finite() && rounded != 0.0 {
        rounded
    } else {
        0.0
    };
    // Writing to a string does not fail.
    let _ = write!(out, "{rounded}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_name_stays_text() {
        let escaped = escape("<script>alert('a' & \"b\")</script>\u{1b}");
        assert_eq!(
            escaped,
            "&lt;script&gt;alert(&#39;a&#39; &amp; &quot;b&quot;)&lt;/script&gt;�"
        );
    }

    #[test]
    fn a_cut_name_keeps_both_ends_and_fits() {
        let name = "encoder.layer.attention.output.dense";
        let cut = fitted(name, 100.0, SIZE);
        assert!(width(&cut, SIZE) <= 100.0, "{cut}");
        let (head, tail) = cut.split_once('…').expect("a cut name");
        assert!(name.starts_with(head) && name.ends_with(tail) && tail.len() > 3);
        assert_eq!(fitted("query", 100.0, SIZE), "query");
        assert_eq!(fitted("学習率学習率", 30.0, SIZE), "学…");
        assert_eq!(fitted("abc", 0.0, SIZE), "…");
    }

    #[test]
    fn coordinates_are_short_and_always_numbers() {
        let written = |value| {
            let mut text = String::new();
            write_coordinate(&mut text, value);
            text
        };
        assert_eq!(written(1.0 / 3.0), "0.33");
        assert_eq!(written(-0.001), "0");
        assert_eq!(written(f64::NAN), "0");
        assert_eq!(written(12.0), "12");
    }
}
