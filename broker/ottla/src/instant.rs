//! Points in time as people write them, always UTC: `2026-01-31`, `2026-01-31T12:30`, `2026-01-31T12:30:59Z`, or
//! milliseconds since 1970.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo, Timestamp};

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

/// What was so long ago, in milliseconds since 1970: `PT1H30M`, `P2D`, `90m`. A day has 24 hours.
pub(crate) fn ms_ago(duration: &str) -> Option<i64> {
    let span: Span = duration.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok().filter(|it| !it.is_negative())?;
    let ms = Timestamp::now().as_millisecond().checked_sub(i64::try_from(duration.as_millis()).ok()?)?;
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
    fn durations_are_read_as_kafkas_tools_and_people_write_them() {
        let now_ms = Timestamp::now().as_millisecond();
        for (text, minutes) in [("PT1H30M", 90), ("P1D", 24 * 60), ("90m", 90), ("2h 5m", 125), ("PT0S", 0)] {
            let ago = (now_ms - ms_ago(text).unwrap()) / 60_000;
            assert!((minutes - 1..=minutes).contains(&ago), "{text}: {ago}");
        }
        for text in ["", "soon", "-PT1H", "P1M", "90"] {
            assert_eq!(ms_ago(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for ms in [0, 951_782_400_000, 1_767_323_045_000, 4_102_444_799_000] {
            assert_eq!(parse_utc(&show_utc(ms)), Some(ms));
        }
    }
}
