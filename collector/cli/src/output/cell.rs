//! One value of a column as people read it.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, StructArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{row, words};

/// Whether a type is right-aligned.
pub(super) fn is_number(kind: &DataType) -> bool {
    kind.is_numeric()
}

/// Text of row `row`, on one line, control characters escaped. Null is empty.
pub(super) fn text(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return String::new();
    }
    let text = match column.data_type() {
        DataType::Float64 => column.as_any().downcast_ref::<Float64Array>().map(|floats| float(floats.value(row))),
        DataType::Timestamp(_, _) => row::time_of(column, row).map(words::time_us),
        DataType::List(_) => list(column.as_list::<i32>(), row),
        _ => None,
    };
    text.unwrap_or_else(|| general(column, row))
}

fn general(column: &ArrayRef, row: usize) -> String {
    let options = FormatOptions::default();
    match ArrayFormatter::try_new(column.as_ref(), &options) {
        Ok(formatter) => escape(&formatter.value(row).to_string()),
        Err(error) => format!("<{error}>"),
    }
}

/// Up to six significant digits; exponents only where nothing else is readable.
fn float(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let size = value.abs();
    if value.fract() == 0.0 && size < 1e15 {
        return format!("{value:.0}");
    }
    if !(1e-4..1e15).contains(&size) {
        return format!("{value:.3e}");
    }
    let whole_digits = if size >= 1.0 { size.log10().floor() as usize + 1 } else { 0 };
    let text = format!("{value:.*}", 6_usize.saturating_sub(whole_digits).max(1));
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text with its control characters escaped: a hostile task name or argument must not write to the terminal.
pub fn escape(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect()
    } else {
        text.to_owned()
    }
}

fn list(lists: &ListArray, row: usize) -> Option<String> {
    let items = lists.value(row);
    if let Some(distribution) = Distribution::of(&items) {
        return Some(distribution.summary());
    }
    let texts: Vec<String> = (0..items.len()).map(|at| text(&items, at)).collect();
    Some(format!("[{}]", texts.join(", ")))
}

/// A histogram of one row, or of several merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Bucket midpoint and count, ascending, each midpoint once.
    buckets: Vec<(i64, i64)>,
}

impl Distribution {
    /// Reads a list's items when they are `struct<value_ns, count>`.
    pub fn of(items: &ArrayRef) -> Option<Self> {
        let pairs = items.as_any().downcast_ref::<StructArray>()?;
        let values = pairs.column_by_name("value_ns")?.as_any().downcast_ref::<Int64Array>()?;
        let counts = pairs.column_by_name("count")?.as_any().downcast_ref::<Int64Array>()?;
        Some(Self { buckets: values.values().iter().copied().zip(counts.values().iter().copied()).collect() })
    }

    /// Adds another one; both come from the same bucket layout, so nothing is re-binned.
    pub fn merge(&mut self, other: &Self) {
        let mut merged = Vec::with_capacity(self.buckets.len() + other.buckets.len());
        merged.extend_from_slice(&self.buckets);
        merged.extend_from_slice(&other.buckets);
        merged.sort_unstable_by_key(|(value, _)| *value);
        merged.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = earlier.1.saturating_add(later.1);
            }
            same
        });
        self.buckets = merged;
    }

    /// Observations.
    pub fn count(&self) -> i64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// Midpoint of the bucket that holds quantile `q` of 0..1; `None` when empty.
    pub fn quantile(&self, q: f64) -> Option<i64> {
        let total = self.count();
        let rank = ((q * total as f64).ceil() as i64).clamp(1, total.max(1));
        let mut seen = 0;
        self.buckets.iter().find_map(|(value, count)| {
            seen += count;
            (seen >= rank).then_some(*value)
        })
    }

    fn summary(&self) -> String {
        match (self.quantile(0.5), self.quantile(0.99)) {
            (Some(p50), Some(p99)) => format!(
                "n={} p50={} p99={}",
                self.count(),
                words::duration_ns(p50 as f64),
                words::duration_ns(p99 as f64)
            ),
            _ => "n=0".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ListBuilder, StringArray, StringBuilder};

    use super::*;

    #[test]
    fn floats_are_short() {
        let check = |value: f64, want: &str| assert_eq!(float(value), want);
        check(0.0, "0");
        check(10.0, "10");
        check(1.5, "1.5");
        check(0.123_456_789, "0.123457");
        check(12_345.678_9, "12345.7");
        check(0.000_000_12, "1.200e-7");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["a\x1b[2Jb\n"]));
        assert_eq!(text(&column, 0), "a\\u{1b}[2Jb\\n");
    }

    #[test]
    fn lists_of_text_are_bracketed() {
        let mut builder = ListBuilder::new(StringBuilder::new());
        builder.append_value([Some("sh"), Some("-c")]);
        let column: ArrayRef = Arc::new(builder.finish());
        assert_eq!(text(&column, 0), "[sh, -c]");
    }

    #[test]
    fn quantiles_are_nearest_rank() {
        let mut one = Distribution { buckets: vec![(10, 1), (30, 1)] };
        one.merge(&Distribution { buckets: vec![(10, 1), (20, 97)] });
        assert_eq!(one.buckets, [(10, 2), (20, 97), (30, 1)]);
        assert_eq!(one.quantile(0.5), Some(20));
        assert_eq!(one.quantile(0.99), Some(20));
        assert_eq!(one.quantile(1.0), Some(30));
        assert_eq!(one.quantile(0.0), Some(10));
        assert_eq!(Distribution::default().quantile(0.5), None);
        assert_eq!(one.summary(), "n=100 p50=20ns p99=20ns");
    }
}
