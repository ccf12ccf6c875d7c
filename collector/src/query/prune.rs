//! Which files a statement's times can touch.

use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;

use crate::history::DataFile;

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
        match (is_time(left), time_us(right), is_time(right), time_us(left)) {
            (true, Some(us), _, _) => self.cut(*op, us),
            (_, _, true, Some(us)) => op.swap().map_or(self, |op| self.cut(op, us)),
            _ => self,
        }
    }

    fn cut(self, op: Operator, us: i64) -> Self {
        match op {
            Operator::Gt | Operator::GtEq => Self { from_us: self.from_us.max(us), ..self },
            // Literals finer than a microsecond were cut down.
            Operator::Lt | Operator::LtEq => Self { to_us: self.to_us.min(us.saturating_add(1)), ..self },
            Operator::Eq => Self { from_us: self.from_us.max(us), to_us: self.to_us.min(us.saturating_add(1)) },
            _ => self,
        }
    }
}

fn is_time(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(column) if column.name == "time")
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
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn at(us: i64) -> Expr {
        lit(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())))
    }

    fn file(first: i64, last: i64) -> DataFile {
        DataFile { path: "x".into(), bytes: 1, rows: None, times_us: Some((first, last)) }
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
    fn a_literal_on_the_left_counts_the_other_way() {
        let span = Span::of(&[at(100).lt(col("time"))]);
        assert!(!span.may_touch(&file(0, 99)));
        assert!(span.may_touch(&file(0, 101)));
    }

    #[test]
    fn what_is_not_plain_leaves_every_file() {
        let span = Span::of(&[col("time").lt(at(5)).or(col("pid").eq(lit(1))), col("start_ns").gt(at(7))]);
        assert!(span.may_touch(&file(1000, 2000)));
        let unknown = DataFile { times_us: None, ..file(0, 0) };
        assert!(Span::of(&[col("time").gt(at(9))]).may_touch(&unknown));
    }
}
