//! Which files a statement's times can touch, and which hold no others.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::physical_expr::expressions::{binary, col, lit};
use datafusion::physical_expr::{PhysicalExpr, conjunction_opt};
use datafusion::scalar::ScalarValue;

use super::function::time_bucket;
use crate::history::DataFile;

/// The column of a row's time.
pub const TIME: &str = "time";

/// Times a statement asks for, microseconds since the epoch, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    from_us: i64,
    to_us: i64,
}

impl Span {
    /// What `filters` (all of which must hold) leave of time. Filters that say nothing plain about `time` leave all.
    pub fn of(filters: &[Expr]) -> Self {
        let all = Self { from_us: i64::MIN, to_us: i64::MAX };
        filters.iter().fold(all, Self::narrow)
    }

    /// Whether the file may hold such rows.
    pub fn may_touch(&self, file: &DataFile) -> bool {
        file.times_us.is_none_or(|(first, last)| first <= self.to_us && last >= self.from_us)
    }

    fn narrow(self, filter: &Expr) -> Self {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return self };
        if *op == Operator::And {
            return self.narrow(left).narrow(right);
        }
        match (bucket_us(left), time_us(right), bucket_us(right), time_us(left)) {
            (Some(width_us), Some(us), _, _) => self.cut(*op, us, width_us),
            (_, _, Some(width_us), Some(us)) => op.swap().map_or(self, |op| self.cut(op, us, width_us)),
            _ => self,
        }
    }

    /// `width_us` is how much later than the start of its bucket a time may be.
    fn cut(self, op: Operator, us: i64, width_us: i64) -> Self {
        // Literals finer than a microsecond were cut down.
        let to_us = us.saturating_add(1).saturating_add(width_us);
        match op {
            Operator::Gt | Operator::GtEq => Self { from_us: self.from_us.max(us), ..self },
            Operator::Lt | Operator::LtEq => Self { to_us: self.to_us.min(to_us), ..self },
            Operator::Eq => Self { from_us: self.from_us.max(us), to_us: self.to_us.min(to_us) },
            _ => self,
        }
    }
}

/// A plain bound on `time`, to the microsecond. What is known of a file's first and last row is known of all of them, so
/// that most files have to be asked for no row's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    op: Operator,
    us: i64,
}

impl Bound {
    /// The bound that `filter` is; `None` if it is anything else.
    pub fn of(filter: &Expr) -> Option<Self> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
        let (op, us) = match (is_time(left), exact_us(right), exact_us(left), is_time(right)) {
            (true, Some(us), _, _) => (*op, us),
            (_, _, Some(us), true) => (op.swap()?, us),
            _ => return None,
        };
        matches!(op, Operator::Gt | Operator::GtEq | Operator::Lt | Operator::LtEq).then_some(Self { op, us })
    }

    /// Whether every row of the file is within it.
    pub fn holds_for(&self, file: &DataFile) -> bool {
        file.times_us.is_some_and(|(first, last)| self.holds(first) && self.holds(last))
    }

    /// The condition that all of `bounds` are, over rows of this schema; `None` if there are none.
    ///
    /// # Errors
    /// The rows have no time.
    pub fn condition(bounds: &[Self], schema: &Schema) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let mut conditions = Vec::with_capacity(bounds.len());
        for bound in bounds {
            let us = lit(ScalarValue::TimestampMicrosecond(Some(bound.us), Some("UTC".into())));
            conditions.push(binary(col(TIME, schema)?, bound.op, us, schema)?);
        }
        Ok(conjunction_opt(conditions))
    }

    fn holds(&self, us: i64) -> bool {
        match self.op {
            Operator::Gt => us > self.us,
            Operator::GtEq => us >= self.us,
            Operator::Lt => us < self.us,
            _ => us <= self.us,
        }
    }
}

fn is_time(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(column) if column.name == TIME)
}

fn exact_us(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::TimestampMicrosecond(us, _), _) => *us,
        _ => None,
    }
}

/// How wide the buckets are where the expression is `time` (no width) or its bucket, as in views.
fn bucket_us(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Column(column) if column.name == TIME => Some(0),
        Expr::Alias(alias) => bucket_us(&alias.expr),
        Expr::ScalarFunction(call) if matches!(call.name(), time_bucket::NAME | "date_bin") => {
            let [width, time, ..] = call.args.as_slice() else { return None };
            (bucket_us(time) == Some(0)).then(|| width_us(width)).flatten()
        }
        _ => None,
    }
}

/// At least as much as the interval lasts.
fn width_us(width: &Expr) -> Option<i64> {
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(width)), _) = width else { return None };
    let days = i64::from(width.months) * 31 + i64::from(width.days);
    Some(days * 86_400_000_000 + width.nanoseconds / 1000 + 1)
}

fn time_us(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expr else { return None };
    match value {
        ScalarValue::TimestampSecond(Some(s), _) => s.checked_mul(1_000_000),
        ScalarValue::TimestampMillisecond(Some(ms), _) => ms.checked_mul(1000),
        ScalarValue::TimestampMicrosecond(Some(us), _) => Some(*us),
        ScalarValue::TimestampNanosecond(Some(ns), _) => Some(ns.div_euclid(1000)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{ScalarUDF, col, lit};

    use super::super::function::time_bucket::TimeBucket;
    use super::{Bound, DataFile, Expr, ScalarValue, Span};

    fn at(us: i64) -> Expr {
        lit(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())))
    }

    fn file(first: i64, last: i64) -> DataFile {
        DataFile { path: "x".into(), bytes: 1, rows: None, times_us: Some((first, last)), crc32c: None }
    }

    #[test]
    fn only_files_outside_the_span_are_left_out() {
        let span = Span::of(&[col("time").gt_eq(at(100)).and(col("time").lt(at(200))), col("pid").eq(lit(1))]);
        for (first, last, touched) in
            [(0, 99, false), (0, 100, true), (150, 160, true), (200, 300, true), (202, 300, false), (0, 500, true)]
        {
            assert_eq!(span.may_touch(&file(first, last)), touched, "{first}..{last}");
        }
    }

    #[test]
    fn a_bound_is_known_of_a_file_by_its_first_and_last_row() {
        let of = |filter: Expr| Bound::of(&filter).unwrap();
        for (bound, first, last, holds) in [
            (of(col("time").gt_eq(at(100))), 100, 900, true),
            (of(col("time").gt_eq(at(100))), 99, 900, false),
            (of(col("time").gt(at(100))), 100, 900, false),
            (of(at(200).gt(col("time"))), 100, 199, true),
            (of(col("time").lt(at(200))), 100, 200, false),
            (of(col("time").lt_eq(at(200))), 100, 200, true),
        ] {
            assert_eq!(bound.holds_for(&file(first, last)), holds, "{bound:?} {first}..{last}");
        }
        let unknown = DataFile { times_us: None, ..file(0, 0) };
        assert!(!of(col("time").gt(at(0))).holds_for(&unknown));
        let seconds = lit(ScalarValue::TimestampSecond(Some(1), Some("UTC".into())));
        for other in [col("time").eq(at(100)), col("pid").gt(at(100)), col("time").gt(seconds), col("time").is_null()] {
            assert_eq!(Bound::of(&other), None, "{other}");
        }
    }

    #[test]
    fn a_literal_on_the_left_counts_the_other_way() {
        let span = Span::of(&[at(100).lt(col("time"))]);
        assert!(!span.may_touch(&file(0, 99)));
        assert!(span.may_touch(&file(0, 101)));
    }

    #[test]
    fn a_bucket_of_time_counts_with_its_width() {
        let width = lit(ScalarValue::new_interval_mdn(0, 0, 60_000_000_000));
        let bucket = ScalarUDF::from(TimeBucket::new()).call(vec![width, col("time")]);
        let minute = 60_000_000;
        let span = Span::of(&[bucket.clone().gt_eq(at(10 * minute)), bucket.lt(at(20 * minute))]);
        for (first, last, touched) in [
            (0, 10 * minute - 1, false),
            (0, 10 * minute, true),
            (20 * minute - 1, 30 * minute, true),
            (21 * minute + 3, 30 * minute, false),
        ] {
            assert_eq!(span.may_touch(&file(first, last)), touched, "{first}..{last}");
        }
    }

    #[test]
    fn what_is_not_plain_leaves_every_file() {
        let span = Span::of(&[col("time").lt(at(5)).or(col("pid").eq(lit(1))), col("start_ns").gt(at(7))]);
        assert!(span.may_touch(&file(1000, 2000)));
        let unknown = DataFile { times_us: None, ..file(0, 0) };
        assert!(Span::of(&[col("time").gt(at(9))]).may_touch(&unknown));
    }
}
