//! Points in time and lengths of time as Kafka's tools take them.

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Milliseconds since 1970 of `YYYY-MM-DDTHH:mm:SS[.sss][Z|+hh[:]mm]`; without a zone it is UTC.
pub fn datetime(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once('T')?;
    let (clock, zone) = match rest.find(['Z', '+', '-']) {
        Some(at) => rest.split_at(at),
        None => (rest, "Z"),
    };
    let date: Vec<i64> = date.split('-').map(whole).collect::<Option<_>>()?;
    let (clock, millis) = clock.split_once('.').unwrap_or((clock, "0"));
    let clock: Vec<i64> = clock.split(':').map(whole).collect::<Option<_>>()?;
    let (&[year, month, day], &[hour, minute, ref second @ ..]) = (&*date, &*clock) else { return None };
    let second = match *second {
        [] => 0,
        [second] => second,
        _ => return None,
    };
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
    let millis = thousandths(millis)?;
    in_range.then_some(())?;
    Some(days(year, month, day) * DAY + hour * HOUR + minute * MINUTE + second * SECOND + millis - offset(zone)?)
}

/// Milliseconds of an ISO 8601 length of time: `PnDTnHnMn.nS`, each part optional and possibly negative.
pub fn duration(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let body = text.strip_prefix(['P', 'p'])?;
    let (days, time) = match body.split_once(['T', 't']) {
        Some((_, "")) => return None,
        Some(both) => both,
        None => (body, ""),
    };
    let total = parts(days, &[('D', DAY)])?.checked_add(parts(time, &[('H', HOUR), ('M', MINUTE), ('S', SECOND)])?)?;
    (!body.is_empty()).then_some(sign * total)
}

/// Adds up numbers that are each followed by their unit, in the order of the units.
fn parts(mut text: &str, units: &[(char, i64)]) -> Option<i64> {
    let mut total: i64 = 0;
    for &(unit, length) in units {
        let Some(at) = text.find([unit, unit.to_ascii_lowercase()]) else { continue };
        let (number, rest) = text.split_at(at);
        let (number, part) = number.split_once('.').map_or((number, "0"), |(number, part)| (number, part));
        let number: i64 = number.parse().ok()?;
        let part = if unit == 'S' { thousandths(part)? } else { 0 };
        let part = if number < 0 { -part } else { part };
        total = total.checked_add(number.checked_mul(length)?)?.checked_add(part)?;
        text = &rest[1..];
    }
    text.is_empty().then_some(total)
}

/// Digits behind a point, as thousandths.
fn thousandths(digits: &str) -> Option<i64> {
    whole(&format!("{digits:0<3}").chars().take(3).collect::<String>())
}

fn whole(digits: &str) -> Option<i64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// What a zone is ahead of UTC, milliseconds.
fn offset(zone: &str) -> Option<i64> {
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("Z", "") => return Some(0),
        ("+", rest) => (1, rest.replace(':', "")),
        ("-", rest) => (-1, rest.replace(':', "")),
        _ => return None,
    };
    let (hours, minutes) = digits.split_at_checked(2)?;
    let minutes = if minutes.is_empty() { 0 } else { whole(minutes)? };
    Some(sign * (whole(hours)? * HOUR + minutes * MINUTE))
}

/// Days since 1970 of a date of the Gregorian calendar. A year begins in March here, so that a leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_zones() {
        assert_eq!(datetime("1970-01-01T00:00:00.000"), Some(0));
        assert_eq!(datetime("2024-02-29T12:34:56.789"), Some(1_709_210_096_789));
        assert_eq!(datetime("2024-02-29T12:34:56.789Z"), Some(1_709_210_096_789));
        assert_eq!(datetime("2024-02-29T14:34:56.789+02:00"), Some(1_709_210_096_789));
        assert_eq!(datetime("2024-02-29T06:34:56.789-0600"), Some(1_709_210_096_789));
        assert_eq!(datetime("2000-03-01T00:00:00"), Some(951_868_800_000));
        for wrong in ["2024-02-29", "2024-13-01T00:00:00", "yesterday", "2024-02-29T25:00:00.000", "T"] {
            assert_eq!(datetime(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lengths_of_time() {
        assert_eq!(duration("P1DT2H3M4.5S"), Some(DAY + 2 * HOUR + 3 * MINUTE + 4_500));
        assert_eq!(duration("PT10S"), Some(10_000));
        assert_eq!(duration("P7D"), Some(7 * DAY));
        assert_eq!(duration("-PT1H"), Some(-HOUR));
        for wrong in ["", "P", "1D", "PT", "PT1X", "P1H", "PT1M1H"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
