//! Seconds since 1970 as people read them: `2026-11-24T20:03:00Z`.

/// The first and the last second that has four digits for its year.
const WRITABLE: (i64, i64) = (-62_167_219_200, 253_402_300_799);

const DAY: i64 = 86_400;

/// A moment by RFC 3339, in UTC and to the second. What lies before the year 0 or after 9999 is
/// written as that end.
pub fn rfc3339(seconds: i64) -> String {
    let seconds = seconds.clamp(WRITABLE.0, WRITABLE.1);
    let (days, time) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Reads what [`rfc3339`] writes, and nothing else: one spelling for each moment.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let days = days(number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let time = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let seconds = days * DAY + time;
    // There is no 31st of June, no 25th hour, and no other form.
    (rfc3339(seconds) == text).then_some(seconds)
}

/// Year, month and day of a day counted from 1970-01-01, by the Gregorian calendar
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn date(days: i64) -> (i64, i64, i64) {
    // Years begin in March, so that the leap day is their last.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The opposite of [`date`] (`days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments_are_written_as_people_read_them() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_000_000_000, "2001-09-09T01:46:40Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (i64::MIN, "0000-01-01T00:00:00Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
        ];
        for (seconds, text) in cases {
            assert_eq!(rfc3339(seconds), text);
            assert_eq!(parse_rfc3339(text), Some(seconds.clamp(WRITABLE.0, WRITABLE.1)));
        }
    }

    #[test]
    fn nothing_else_is_a_moment() {
        for text in [
            "",
            "now",
            "0",
            "2026-11-24",
            "2026-11-24T20:03:00",
            "2026-11-24T20:03:00+00:00",
            "2026-11-24t20:03:00z",
            "2026-11-24 20:03:00Z",
            "2026-11-24T20:03:00.0Z",
            "2026-11-31T20:03:00Z",
            "2026-13-01T20:03:00Z",
            "2026-00-01T20:03:00Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T20:60:00Z",
            "+026-11-24T20:03:00Z",
            " 2026-11-24T20:03:00Z",
            "２026-11-24T20:03:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_moment_survives_its_text(seconds in WRITABLE.0..=WRITABLE.1) {
            prop_assert_eq!(parse_rfc3339(&rfc3339(seconds)), Some(seconds));
        }

        #[test]
        fn moments_are_ordered_as_their_texts(a in WRITABLE.0..=WRITABLE.1, b in WRITABLE.0..=WRITABLE.1) {
            prop_assert_eq!(a.cmp(&b), rfc3339(a).cmp(&rfc3339(b)));
        }

        #[test]
        fn any_text_is_read_without_harm(text in ".{0,24}") {
            parse_rfc3339(&text);
        }
    }
}
