//! What `strftime_now` writes in a chat template: chrono, kept to what it and Python write alike.

use chrono::format::StrftimeItems;
use chrono::{DateTime, Utc};

/// The directives that chrono writes as Python does on Linux in the C locale.
///
/// Not among them: those that chrono alone has or that it reads otherwise (`%f` has nanoseconds there
/// and microseconds in Python), and time zones, of which `datetime.now()` has none.
const DIRECTIVES: &str = "aAbBcCdDeFgGhHIjklmMnpPrRStTuUVwWxXyY%";

/// Writes a moment as Python's `strftime` does; numbers also as `%-d` (not filled up), `%_d` and `%0e`
/// (filled up with blanks or zeros).
///
/// # Errors
/// The first directive that is not known.
pub(crate) fn strftime(moment: DateTime<Utc>, format: &str) -> Result<String, String> {
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        let directive = directive(&rest[start..]);
        let is_known = directive.ends_with(|kind| DIRECTIVES.contains(kind))
            && StrftimeItems::new(directive).parse().is_ok();
        if !is_known {
            return Err(directive.to_owned());
        }
        rest = &rest[start + directive.len()..];
    }
    Ok(moment.format(format).to_string())
}

/// The directive that `text` begins with: `%`, how a number is filled up, and a letter.
fn directive(text: &str) -> &str {
    let letter = 1 + usize::from(text[1..].starts_with(['-', '_', '0']));
    let length = text[letter..].chars().next().map_or(0, char::len_utf8);
    &text[..letter + length]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, format: &str) -> String {
        strftime(DateTime::from_timestamp(seconds, 0).unwrap(), format).unwrap()
    }

    /// Expected: `datetime.fromtimestamp(seconds, timezone.utc).strftime(format)` of Python 3.
    #[test]
    fn moments_are_written_as_python_writes_them() {
        let everything = "%Y %y %m %B %b %d %e %j %A %a %H %I %M %S %p %F %T %% %-d";
        for (seconds, expected) in MOMENTS {
            assert_eq!(at(seconds, everything), expected, "{seconds}");
        }
    }

    const MOMENTS: [(i64, &str); 5] = [
        (
            0,
            "1970 70 01 January Jan 01  1 001 Thursday Thu 00 12 00 00 AM 1970-01-01 00:00:00 % 1",
        ),
        (
            951_827_696,
            "2000 00 02 February Feb 29 29 060 Tuesday Tue 12 12 34 56 PM 2000-02-29 12:34:56 % 29",
        ),
        (
            1_721_952_000,
            "2024 24 07 July Jul 26 26 208 Friday Fri 00 12 00 00 AM 2024-07-26 00:00:00 % 26",
        ),
        (
            4_107_542_399,
            "2100 00 02 February Feb 28 28 059 Sunday Sun 23 11 59 59 PM 2100-02-28 23:59:59 % 28",
        ),
        (
            1_767_225_599,
            "2025 25 12 December Dec 31 31 365 Wednesday Wed 23 11 59 59 PM 2025-12-31 23:59:59 % 31",
        ),
    ];

    /// As above, of Python 3.11 with glibc.
    #[test]
    fn rarer_directives_are_written_as_python_writes_them() {
        let rare = "%c|%C|%D|%g|%G|%h|%k|%l|%P|%r|%R|%u|%U|%V|%w|%W|%x|%X|%n|%t";
        let filled = "%-m|%-H|%-I|%-j|%-e|%-y|%_d|%_H|%0e";
        for (seconds, expected, expected_filled) in RARE {
            assert_eq!(at(seconds, rare), expected, "{seconds}");
            assert_eq!(at(seconds, filled), expected_filled, "{seconds}");
        }
    }

    const RARE: [(i64, &str, &str); 3] = [
        (
            0,
            "Thu Jan  1 00:00:00 1970|19|01/01/70|70|1970|Jan| 0|12|am|12:00:00 AM|00:00|4|00|01|4|00|01/01/70|00:00:00|\n|\t",
            "1|0|12|1|1|70| 1| 0|01",
        ),
        (
            1_735_722_000,
            "Wed Jan  1 09:00:00 2025|20|01/01/25|25|2025|Jan| 9| 9|am|09:00:00 AM|09:00|3|00|01|3|00|01/01/25|09:00:00|\n|\t",
            "1|9|9|1|1|25| 1| 9|01",
        ),
        // The last day of 2025 is of the first ISO week of 2026.
        (
            1_767_225_599,
            "Wed Dec 31 23:59:59 2025|20|12/31/25|26|2026|Dec|23|11|pm|11:59:59 PM|23:59|3|52|01|3|52|12/31/25|23:59:59|\n|\t",
            "12|23|11|365|31|25|31|23|31",
        ),
    ];

    #[test]
    fn an_unknown_directive_is_named() {
        let named = |format| strftime(DateTime::UNIX_EPOCH, format).unwrap_err();
        assert_eq!(named("%d %Q"), "%Q");
        assert_eq!(named("100%"), "%");
        assert_eq!(named("%-"), "%-");
        assert_eq!(named("%é"), "%é");
    }

    #[test]
    fn what_chrono_writes_otherwise_than_python_is_refused() {
        let named = |format| strftime(DateTime::UNIX_EPOCH, format).unwrap_err();
        assert_eq!(named("%H %f"), "%f");
        assert_eq!(named("%.3f"), "%.");
        assert_eq!(named("%Z"), "%Z");
        assert_eq!(named("%-F"), "%-F");
    }
}
