//! The parts of a histogram column: `list<struct<value_ns, count>>` without a list a row.

use arrow::array::{Array, AsArray, ListArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::plan_err;
use datafusion::error::{DataFusionError, Result};

/// A histogram column, looked through once for all its rows.
#[derive(Debug)]
pub struct Buckets<'a> {
    lists: &'a ListArray,
    offsets: &'a [i32],
    values: &'a [i64],
    counts: &'a [i64],
}

impl<'a> Buckets<'a> {
    /// The parts of `column`.
    ///
    /// # Errors
    /// The column is no histogram.
    pub fn of(column: &'a dyn Array, function: &str) -> Result<Self> {
        let lists = column.as_list_opt::<i32>().ok_or_else(|| not_a_histogram(function))?;
        let parts = lists.values().as_struct_opt().ok_or_else(|| not_a_histogram(function))?;
        let part = |name: &str| {
            let part = parts.column_by_name(name).and_then(|part| part.as_primitive_opt::<Int64Type>());
            part.map(|part| part.values().as_ref()).ok_or_else(|| not_a_histogram(function))
        };
        Ok(Self { lists, offsets: lists.value_offsets(), values: part("value_ns")?, counts: part("count")? })
    }

    /// Midpoints and counts of one row; `None` where it is null.
    pub fn row(&self, row: usize) -> Option<(&'a [i64], &'a [i64])> {
        let range = self.offsets[row] as usize..self.offsets[row + 1] as usize;
        self.lists.is_valid(row).then(|| (&self.values[range.clone()], &self.counts[range]))
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.lists.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }
}

/// Refuses whatever is not a histogram before anything runs.
///
/// # Errors
/// A plan error that says what `function` takes.
pub fn check(kind: &DataType, function: &str) -> Result<()> {
    let is_histogram = match kind {
        DataType::List(item) => match item.data_type() {
            DataType::Struct(parts) => ["value_ns", "count"]
                .iter()
                .all(|name| parts.iter().any(|part| part.name() == name && part.data_type() == &DataType::Int64)),
            _ => false,
        },
        _ => false,
    };
    if is_histogram {
        Ok(())
    } else {
        plan_err!("{function} takes a histogram, list<struct<value_ns, count>>, not {kind}")
    }
}

fn not_a_histogram(function: &str) -> DataFusionError {
    DataFusionError::Plan(format!("{function} takes a histogram, list<struct<value_ns, count>>"))
}

/// Midpoint of the bucket that holds the value of rank `ceil(q * count)`, at least the first; `None` without observations.
/// `ascending` is sorted by midpoint.
pub fn quantile(ascending: impl Iterator<Item = (i64, u64)> + Clone, q: f64) -> Option<i64> {
    let total = ascending.clone().fold(0u64, |total, (_, count)| total.saturating_add(count));
    let rank = ((q * total as f64).ceil() as u64).clamp(1, total.max(1));
    let mut passed = 0u64;
    ascending.into_iter().find_map(|(value, count)| {
        passed = passed.saturating_add(count);
        (passed >= rank).then_some(value)
    })
}

/// Refuses a quantile outside 0..=1.
///
/// # Errors
/// A plan error.
pub fn check_q(q: f64, function: &str) -> Result<f64> {
    if (0.0..=1.0).contains(&q) { Ok(q) } else { plan_err!("{function}: {q} is not between 0 and 1") }
}
