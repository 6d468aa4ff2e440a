//! RFC 3339 timestamps, as clients write and read them.

use crate::base::ids::TimestampMs;

/// Parses a timestamp with a date, a time and an offset; digits beyond milliseconds are dropped.
#[must_use]
pub fn parse_rfc3339_ms(text: &str) -> Option<TimestampMs> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-');
    let (year, month, day) =
        (digits(date.next()?, 4)?, digits(date.next()?, 2)?, digits(date.next()?, 2)?);
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(zone_at)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut clock = clock.splitn(3, ':');
    let (hour, minute) = (digits(clock.next()?, 2)?, digits(clock.next()?, 2)?);
    let second = digits(clock.next()?, 2)?;
    if hour > 23 || minute > 59 || second > 60 || !(1..=days_in(year, month)?).contains(&day) {
        return None;
    }
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds - offset_seconds(zone)?) * 1000 + milliseconds(fraction)?)
}

/// Writes a timestamp in UTC.
#[must_use]
pub fn rfc3339_ms(at: TimestampMs) -> String {
    let mut out = Vec::with_capacity(24);
    rfc3339_ms_into(at, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

fn digits(text: &str, count: usize) -> Option<i64> {
    let exact = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    exact.then(|| text.parse().ok()).flatten()
}

fn milliseconds(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{fraction}000").get(..3)?.parse().ok()
}

fn offset_seconds(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = zone.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60;
    Some(if sign == "-" { -seconds } else { seconds })
}

const fn days_in(year: i64, month: i64) -> Option<i64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => Some(29),
        2 => Some(28),
        _ => None,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar, counting years from March so that
/// the leap day is the last of its year.
const fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Appends a timestamp in UTC, with milliseconds only when there are some. Years beyond 0 to 9999
/// have more digits or a sign, as ISO 8601 has it.
pub fn rfc3339_ms_into(timestamp: TimestampMs, out: &mut Vec<u8>) {
    let (seconds, ms) = (timestamp.div_euclid(1000), timestamp.rem_euclid(1000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date_of(days);
    if !(0..=9999).contains(&year) {
        out.push(if year < 0 { b'-' } else { b'+' });
    }
    padded_into(year.abs(), 4, out);
    for (before, number) in [(b'-', month), (b'-', day), (b'T', second / 3600)] {
        out.push(before);
        padded_into(number, 2, out);
    }
    for number in [second / 60 % 60, second % 60] {
        out.push(b':');
        padded_into(number, 2, out);
    }
    if ms > 0 {
        out.push(b'.');
        padded_into(ms, 3, out);
    }
    out.push(b'Z');
}

/// Appends a number that is not negative with at least `digits` digits.
fn padded_into(number: i64, digits: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(number);
    out.extend(std::iter::repeat_n(b'0', digits.saturating_sub(text.len())));
    out.extend_from_slice(text.as_bytes());
}

/// The date of a day since 1970-01-01: what [`days_since_epoch`] is the inverse of.
const fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_moments_are_right() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00.5Z", 951_825_600_500),
            ("2026-01-31T12:00:00+01:00", 1_769_857_200_000),
            ("2020-10-30T19:39:45Z", 1_604_086_785_000),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2024-12-31t23:59:60.1234567z", 1_735_689_600_123),
        ] {
            assert_eq!(parse_rfc3339_ms(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "2026",
            "2026-01-31",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00:00+1",
            "x-y-zTa:b:cZ",
            "2026-01-31T12:00:00.Z",
            "+026-01-31T12:00:00Z",
        ] {
            assert_eq!(parse_rfc3339_ms(text), None, "{text}");
        }
    }

    fn written(timestamp: TimestampMs) -> String {
        let mut out = Vec::new();
        rfc3339_ms_into(timestamp, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(written(0), "1970-01-01T00:00:00Z");
        assert_eq!(written(1_612_552_482_000), "2021-02-05T19:14:42Z");
        assert_eq!(written(951_825_600_500), "2000-02-29T12:00:00.500Z");
        assert_eq!(written(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(written(i64::MAX), "+292278994-08-17T07:12:55.807Z");
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(timestamp in 0..253_402_300_800_000_i64) {
            prop_assert_eq!(parse_rfc3339_ms(&written(timestamp)), Some(timestamp));
        }
    }
}
