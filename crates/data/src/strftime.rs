use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

/// Writes a moment in UTC as C's `strftime` does in its own locale.
///
/// Known: `%Y %y %m %B %b %d %e %j %A %a %H %I %M %S %p %F %T %%`, those with digits also as `%-d`
/// (without leading zeros).
///
/// # Errors
/// The directive that is not known.
pub(crate) fn strftime(moment: SystemTime, format: &str) -> Result<String, String> {
    let seconds = match moment.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    };
    let date = CivilDate::from_days(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);

    let mut written = String::new();
    let mut chars = format.chars();
    while let Some(char) = chars.next() {
        if char != '%' {
            written.push(char);
            continue;
        }
        let mut directive = chars.next();
        let is_bare = directive == Some('-');
        if is_bare {
            directive = chars.next();
        }
        let digits = |number: i64, width: usize| match is_bare {
            true => number.to_string(),
            false => format!("{number:0width$}"),
        };
        let piece = match directive {
            Some('Y') => digits(date.year, 4),
            Some('y') => digits(date.year.rem_euclid(100), 2),
            Some('m') => digits(date.month, 2),
            Some('d') => digits(date.day, 2),
            Some('e') => format!("{:>2}", date.day),
            Some('j') => digits(date.day_of_year(), 3),
            Some('B') => date.month_name().to_owned(),
            Some('b') => date.month_name()[..3].to_owned(),
            Some('A') => date.weekday.to_owned(),
            Some('a') => date.weekday[..3].to_owned(),
            Some('H') => digits(hour, 2),
            Some('I') => digits((hour + 11) % 12 + 1, 2),
            Some('M') => digits(minute, 2),
            Some('S') => digits(second, 2),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('F') => format!("{:04}-{:02}-{:02}", date.year, date.month, date.day),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('%') => "%".to_owned(),
            Some(other) => return Err(format!("%{other}")),
            None => return Err("%".to_owned()),
        };
        written.push_str(&piece);
    }
    Ok(written)
}

struct CivilDate {
    year: i64,
    /// From 1.
    month: i64,
    /// From 1.
    day: i64,
    weekday: &'static str,
}

impl CivilDate {
    /// The Gregorian date of a day counted from 1970-01-01.
    ///
    /// Years are taken to begin in March, so that the leap day is their last and the months' lengths
    /// (31, 30, 31, 30, 31 over and over) follow `(153·month + 2) / 5`.
    fn from_days(days: i64) -> Self {
        const DAYS_OF_400_YEARS: i64 = 146_097;
        const FROM_MARCH_OF_YEAR_0: i64 = 719_468;
        let shifted = days + FROM_MARCH_OF_YEAR_0;
        let era = shifted.div_euclid(DAYS_OF_400_YEARS);
        let of_era = shifted.rem_euclid(DAYS_OF_400_YEARS);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = (from_march + 2) % 12 + 1;
        let weekday = usize::try_from(days.rem_euclid(7)).unwrap_or_default();
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: of_year - (153 * from_march + 2) / 5 + 1,
            weekday: WEEKDAYS[weekday],
        }
    }

    fn month_name(&self) -> &'static str {
        let index = usize::try_from(self.month - 1).unwrap_or_default();
        MONTHS[index]
    }

    /// From 1.
    fn day_of_year(&self) -> i64 {
        let is_leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let february = 28 + i64::from(is_leap);
        let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let before = usize::try_from(self.month - 1).unwrap_or_default();
        lengths[..before].iter().sum::<i64>() + self.day
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64, format: &str) -> String {
        strftime(UNIX_EPOCH + Duration::from_secs(seconds), format).unwrap()
    }

    /// Expected: `datetime.fromtimestamp(seconds, timezone.utc).strftime(format)` of Python 3.
    #[test]
    fn moments_are_written_as_python_writes_them() {
        let everything = "%Y %y %m %B %b %d %e %j %A %a %H %I %M %S %p %F %T %% %-d";
        for (seconds, expected) in MOMENTS {
            assert_eq!(at(seconds, everything), expected, "{seconds}");
        }
    }

    const MOMENTS: [(u64, &str); 5] = [
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

    #[test]
    fn an_unknown_directive_is_named() {
        assert_eq!(strftime(UNIX_EPOCH, "%d %Q"), Err("%Q".to_owned()));
        assert_eq!(strftime(UNIX_EPOCH, "100%"), Err("%".to_owned()));
    }
}
