//! Numbers, times and lists as people read them.

use jiff::Timestamp;

/// `1,234,567`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `850ns`, `1.2us`, `34ms`, `5.6s`, `12m`, `3h`: two significant digits or more, one unit.
pub fn duration_ns(ns: f64) -> String {
    const UNITS: [(f64, &str); 6] = [(1.0, "ns"), (1e3, "us"), (1e6, "ms"), (1e9, "s"), (6e10, "m"), (3.6e12, "h")];
    if !ns.is_finite() || ns < 0.0 {
        return "-".to_owned();
    }
    let (scale, unit) = UNITS.into_iter().rfind(|(scale, _)| ns >= *scale).unwrap_or(UNITS[0]);
    let value = ns / scale;
    if value < 10.0 && scale > 1.0 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

/// `99.8%`; all of it and none of it only when it is exactly so.
pub fn share(part: f64) -> String {
    let percent = part * 100.0;
    if part >= 1.0 {
        "100%".to_owned()
    } else if part <= 0.0 {
        "0%".to_owned()
    } else if percent > 99.99 {
        "99.99%".to_owned()
    } else if percent < 0.01 {
        "<0.01%".to_owned()
    } else if (10.0..99.0).contains(&percent) {
        format!("{percent:.0}%")
    } else {
        format!("{percent:.2}%")
    }
}

/// How long before `now_us` it was: `3s ago`, `5m ago`.
pub fn since(then_us: i64, now_us: i64) -> String {
    let seconds = now_us.saturating_sub(then_us) / 1_000_000;
    match seconds {
        ..0 => "in the future".to_owned(),
        0..120 => format!("{seconds}s ago"),
        120..7_200 => format!("{}m ago", seconds / 60),
        7_200..172_800 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// `2026-11-21 23:53:38.25Z`; what SQL takes as a timestamp literal too.
pub fn time_us(us: i64) -> String {
    match Timestamp::from_microsecond(us) {
        Ok(time) => time.to_string().replacen('T', " ", 1),
        Err(_) => us.to_string(),
    }
}

/// `2026-11-21T23:53:38.25Z`, for programs.
pub fn rfc3339_us(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |time| time.to_string())
}

/// An SQL text literal.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
    }

    #[test]
    fn durations_have_one_unit() {
        let check = |ns: f64, want: &str| assert_eq!(duration_ns(ns), want);
        check(0.0, "0ns");
        check(850.0, "850ns");
        check(1_240.0, "1.2us");
        check(34_000_000.0, "34ms");
        check(5_600_000_000.0, "5.6s");
        check(720e9, "12m");
        check(f64::NAN, "-");
    }

    #[test]
    fn a_share_is_whole_only_when_it_is() {
        assert_eq!(share(1.0), "100%");
        assert_eq!(share(0.999_999), "99.99%");
        assert_eq!(share(0.998), "99.80%");
        assert_eq!(share(0.5), "50%");
        assert_eq!(share(0.000_001), "<0.01%");
        assert_eq!(share(0.0), "0%");
    }

    #[test]
    fn times_are_utc_and_say_so() {
        assert_eq!(time_us(1_700_000_000_250_000), "2023-11-14 22:13:20.25Z");
        assert_eq!(since(0, 5_000_000), "5s ago");
        assert_eq!(since(0, 600_000_000), "10m ago");
    }

    #[test]
    fn literals_cannot_break_out() {
        assert_eq!(quoted("o'clock"), "'o''clock'");
    }
}
