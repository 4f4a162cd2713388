//! Points in time as people write them, always UTC: `2026-01-31`, `2026-01-31T12:30`, `2026-01-31T12:30:59Z`, or
//! milliseconds since 1970.

/// Milliseconds since 1970, or none if it is no point in time.
pub(crate) fn parse_utc(text: &str) -> Option<i64> {
    if let Ok(ms) = text.parse::<i64>() {
        return (ms >= 0).then_some(ms);
    }
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next().unwrap_or(Some(0))?);
    let days = days_since_1970(year, month, day)?;
    let in_range = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..60).contains(&second);
    in_range.then(|| (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

/// `2026-01-31 12:30:59`.
pub(crate) fn show_utc(ms: i64) -> String {
    let seconds = ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date_of(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// Counts days in years that begin in March, so that the leap day is the last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    let (march_year, march_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = march_year * 365 + march_year / 4 - march_year / 100 + march_year / 400;
    let days = days + (march_month * 153 + 2) / 5 + day - 1 - 719_468;
    (day >= 1 && date_of(days) == (year, month, day)).then_some(days)
}

fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_people_write_them() {
        for (text, ms) in [
            ("0", 0),
            ("1700000000123", 1_700_000_000_123),
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400_000),
            ("2026-01-02T03:04:05Z", 1_767_323_045_000),
            ("2026-01-02 03:04", 1_767_323_040_000),
        ] {
            assert_eq!(parse_utc(text), Some(ms), "{text}");
        }
        for text in
            ["", "yesterday", "-1", "2026-13-01", "2026-02-30", "2026-01-01T24:00", "2026-01-01T1", "1969-12-31"]
        {
            assert_eq!(parse_utc(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for ms in [0, 951_782_400_000, 1_767_323_045_000, 4_102_444_799_000] {
            assert_eq!(parse_utc(&show_utc(ms)), Some(ms));
        }
    }
}
