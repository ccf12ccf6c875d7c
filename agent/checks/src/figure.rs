//! What a server says of itself in numbers, and how far they may go. Pure.

/// One number, at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// Name with its unit, as in the table `host`.
    pub name: &'static str,
    /// Reading.
    pub value: f64,
}

/// Which way a number must not go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Not above the limit.
    AtMost,
    /// Not below it.
    AtLeast,
}

/// What is known of a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// As in [`Figure::name`].
    pub name: &'static str,
    /// Which way it must not go.
    pub side: Side,
    /// How far, if nothing else is said; infinite (or 0 for [`Side::AtLeast`]) for as far as it likes.
    pub default: f64,
    /// What it means to be beyond, for people.
    pub trouble: &'static str,
}

const fn at_most(name: &'static str, default: f64, trouble: &'static str) -> Measure {
    Measure { name, side: Side::AtMost, default, trouble }
}

const fn at_least(name: &'static str, default: f64, trouble: &'static str) -> Measure {
    Measure { name, side: Side::AtLeast, default, trouble }
}

/// Of a certificate, any kind that speaks TLS itself.
pub const CERTIFICATE: [Measure; 1] = [at_least("certificate_left_days", 14.0, "the certificate is about to expire")];

/// Of a PostgreSQL server. A healthy one finds its pages in memory; a tenth of its connections are kept for whoever has to
/// repair it.
pub const POSTGRES: [Measure; 7] = [
    at_most("postgres_connections_used_ratio", 0.9, "connections are running out"),
    at_most("postgres_slow_queries", 0.0, "queries take too long"),
    at_least("postgres_cache_hit_ratio", 0.8, "pages are not found in memory"),
    at_most("postgres_replication_lag_s", 60.0, "a replica is behind"),
    at_most("postgres_connections", f64::INFINITY, "too many connections"),
    at_most("postgres_longest_query_s", f64::INFINITY, "a query takes too long"),
    at_most("postgres_longest_transaction_s", f64::INFINITY, "a transaction stays open too long"),
];

/// Of a Redis server. Eviction is what a cache does when it is full, so it has no limit of its own.
pub const REDIS: [Measure; 7] = [
    at_most("redis_memory_used_ratio", 0.9, "memory is running out"),
    at_least("redis_hit_ratio", 0.5, "keys that are asked for are not there"),
    at_most("redis_rejected_connections", 0.0, "connections are turned away"),
    at_most("redis_replication_lag_s", 60.0, "the replica is behind"),
    at_most("redis_clients", f64::INFINITY, "too many clients"),
    at_most("redis_used_memory_bytes", f64::INFINITY, "too much memory in use"),
    at_most("redis_evicted_keys", f64::INFINITY, "keys are evicted"),
];

/// How far the numbers of one check may go.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits(Vec<(Measure, f64)>);

impl Limits {
    /// All of `measures`, each with what `given` says of it.
    pub fn new(measures: &[Measure], mut given: impl FnMut(&Measure) -> Option<f64>) -> Self {
        Self(measures.iter().map(|measure| (*measure, given(measure).unwrap_or(measure.default))).collect())
    }

    /// What is beyond its limit, in one line for people.
    pub fn judge(&self, figures: &[Figure]) -> Option<String> {
        let beyond = |(measure, limit): &(Measure, f64)| {
            let figure = figures.iter().find(|figure| figure.name == measure.name)?;
            let (is_beyond, word) = match measure.side {
                Side::AtMost => (figure.value > *limit, "above"),
                Side::AtLeast => (figure.value < *limit, "below"),
            };
            let value = rounded(figure.value);
            is_beyond.then(|| format!("{}: {} {value} is {word} {}", measure.trouble, measure.name, rounded(*limit)))
        };
        let lines: Vec<String> = self.0.iter().filter_map(beyond).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

/// As many digits as tell anything.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// A share over what was counted since enough had been: a server that is asked seldom has one too, and one lookup that
/// misses is not a ratio of 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct Share {
    before: Option<(f64, f64)>,
}

impl Share {
    /// Takes counters as they stand; the share once at least `enough` were counted since the last one.
    pub fn take(&mut self, good: f64, all: f64, enough: f64) -> Option<f64> {
        let Some((good_before, all_before)) = self.before else {
            self.before = Some((good, all));
            return None;
        };
        let (passed_good, passed) = (good - good_before, all - all_before);
        if passed < 0.0 || passed_good < 0.0 {
            // The server was started anew or its statistics were reset.
            self.before = Some((good, all));
            return None;
        }
        if passed < enough {
            return None;
        }
        self.before = Some((good, all));
        Some(passed_good / passed)
    }

    /// Takes counters as they stand, of a time that is not judged.
    pub fn pass_over(&mut self, good: f64, all: f64) {
        self.before = Some((good, all));
    }
}

/// How much a counter grew since the run before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Growth {
    before: Option<f64>,
}

impl Growth {
    /// Takes a counter as it stands; `None` the first time.
    pub fn take(&mut self, count: f64) -> Option<f64> {
        let before = self.before.replace(count)?;
        // Less than before: the server was started anew, and this is what it counted since.
        Some(if count < before { count } else { count - before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(name: &'static str, value: f64) -> Option<String> {
        Limits::new(&REDIS, |_| None).judge(&[Figure { name, value }])
    }

    #[test]
    fn what_is_beyond_its_limit_is_said_with_both_numbers() {
        assert_eq!(
            redis("redis_memory_used_ratio", 0.98765).as_deref(),
            Some("memory is running out: redis_memory_used_ratio 0.988 is above 0.9")
        );
        assert_eq!(redis("redis_memory_used_ratio", 0.9), None);
        assert!(redis("redis_hit_ratio", 0.2).is_some_and(|line| line.ends_with("0.2 is below 0.5")));
        assert_eq!(redis("redis_evicted_keys", 1e9), None);
        assert_eq!(Limits::default().judge(&[Figure { name: "redis_clients", value: 1.0 }]), None);
    }

    #[test]
    fn a_limit_can_be_moved_and_taken_away() {
        let given = |measure: &Measure| match measure.name {
            "redis_clients" => Some(10.0),
            "redis_memory_used_ratio" => Some(f64::INFINITY),
            _ => None,
        };
        let limits = Limits::new(&REDIS, given);
        assert!(limits.judge(&[Figure { name: "redis_clients", value: 11.0 }]).is_some());
        assert_eq!(limits.judge(&[Figure { name: "redis_memory_used_ratio", value: 1.0 }]), None);
    }

    #[test]
    fn a_share_waits_until_enough_was_counted() {
        let mut share = Share::default();
        assert_eq!(share.take(1000.0, 1000.0, 100.0), None, "what was before nobody asked about");
        assert_eq!(share.take(1000.0, 1050.0, 100.0), None);
        assert_eq!(share.take(1040.0, 1200.0, 100.0), Some(0.2), "of both spans");
        assert_eq!(share.take(5.0, 10.0, 100.0), None, "the server was started anew");
        assert_eq!(share.take(105.0, 110.0, 100.0), Some(1.0));
    }

    #[test]
    fn growth_is_between_two_runs() {
        let mut growth = Growth::default();
        assert_eq!(growth.take(7.0), None);
        assert_eq!(growth.take(9.0), Some(2.0));
        assert_eq!(growth.take(1.0), Some(1.0));
    }
}
