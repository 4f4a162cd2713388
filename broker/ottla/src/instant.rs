//! Points in time as people write them, always UTC: `2026-01-31`, `2026-01-31T12:30`, `2026-01-31T12:30:59Z`, or
//! milliseconds since 1970.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Milliseconds since 1970, or none if it is no point in time since then.
pub(crate) fn parse_utc(text: &str) -> Option<i64> {
    let ms = if let Ok(ms) = text.parse() {
        ms
    } else {
        let civil: DateTime = text.strip_suffix('Z').unwrap_or(text).parse().ok()?;
        civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond()
    };
    (ms >= 0).then_some(ms)
}

/// `2026-01-31 12:30:59`; the number itself where no calendar has a day for it.
pub(crate) fn show_utc(ms: i64) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) => time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => ms.to_string(),
    }
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
