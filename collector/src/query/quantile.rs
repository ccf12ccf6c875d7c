//! `hist_quantile(histogram, q)`: merges histograms and reads a quantile of the whole.
//!
//! Shape: a histogram column and a number in 0..=1; BIGINT, the midpoint of the bucket that holds the value of rank
//! `ceil(q * count)` (at least the first); null when there are no observations. Midpoints are at most 3.2 % off.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::plan_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

/// The function.
#[derive(Debug, PartialEq, Eq)]
pub struct HistQuantile {
    signature: Signature,
}

impl Hash for HistQuantile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

impl HistQuantile {
    /// The function.
    pub fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Default for HistQuantile {
    fn default() -> Self {
        Self::new()
    }
}

impl AggregateUDFImpl for HistQuantile {
    fn name(&self) -> &str {
        "hist_quantile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [histogram @ DataType::List(_), q] if q.is_numeric() => Ok(vec![histogram.clone(), DataType::Float64]),
            _ => plan_err!("hist_quantile takes a histogram column and a number between 0 and 1"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Merged::default()))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)));
        Ok(vec![
            Arc::new(Field::new(format!("{}[values]", args.name), list.clone(), true)),
            Arc::new(Field::new(format!("{}[counts]", args.name), list, true)),
            Arc::new(Field::new(format!("{}[q]", args.name), DataType::Float64, true)),
        ])
    }
}

/// Buckets seen so far, by midpoint.
#[derive(Debug, Default)]
struct Merged {
    counts: BTreeMap<i64, u64>,
    q: Option<f64>,
}

impl Merged {
    fn take_q(&mut self, column: &ArrayRef) -> Result<()> {
        let Some(q) = column.as_primitive_opt::<Float64Type>().and_then(|qs| qs.iter().flatten().next()) else {
            return Ok(());
        };
        if !(0.0..=1.0).contains(&q) {
            return plan_err!("hist_quantile: {q} is not between 0 and 1");
        }
        self.q = Some(q);
        Ok(())
    }

    fn add(&mut self, values: &Int64Array, counts: &Int64Array) {
        for (value, count) in values.values().iter().zip(counts.values()) {
            *self.counts.entry(*value).or_default() += u64::try_from(*count).unwrap_or(0);
        }
    }
}

impl Accumulator for Merged {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let [histograms, q] = columns else { return plan_err!("hist_quantile takes two arguments") };
        self.take_q(q)?;
        let histograms = histograms.as_list_opt::<i32>().ok_or_else(not_a_histogram)?;
        for row in (0..histograms.len()).filter(|row| histograms.is_valid(*row)) {
            let buckets = histograms.value(row);
            let parts = buckets.as_struct_opt().ok_or_else(not_a_histogram)?;
            let part = |name: &str| parts.column_by_name(name).and_then(|part| part.as_primitive_opt::<Int64Type>());
            let values = part("value_ns").ok_or_else(not_a_histogram)?;
            let counts = part("count").ok_or_else(not_a_histogram)?;
            self.add(values, counts);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let total: u64 = self.counts.values().sum();
        let rank = ((self.q.unwrap_or(0.5) * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut passed = 0;
        let found = self.counts.iter().find(|(_, count)| {
            passed += **count;
            passed >= rank
        });
        Ok(ScalarValue::Int64(found.map(|(value, _)| *value)))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.counts.len() * 2 * size_of::<(i64, u64)>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let counts = self.counts.values().map(|count| i64::try_from(*count).unwrap_or(i64::MAX));
        Ok(vec![
            list(Int64Array::from_iter_values(self.counts.keys().copied())),
            list(Int64Array::from_iter_values(counts)),
            ScalarValue::Float64(self.q),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [values, counts, q] = states else { return plan_err!("hist_quantile: three state columns") };
        self.take_q(q)?;
        let lists = values.as_list_opt::<i32>().zip(counts.as_list_opt::<i32>());
        let (values, counts) = lists.ok_or_else(not_a_histogram)?;
        for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
            let (values, counts) = (values.value(row), counts.value(row));
            let ints = values.as_primitive_opt::<Int64Type>().zip(counts.as_primitive_opt::<Int64Type>());
            let (values, counts) = ints.ok_or_else(not_a_histogram)?;
            self.add(values, counts);
        }
        Ok(())
    }
}

fn list(items: Int64Array) -> ScalarValue {
    let offsets = OffsetBuffer::from_lengths([items.len()]);
    let field = Arc::new(Field::new_list_field(DataType::Int64, true));
    ScalarValue::List(Arc::new(ListArray::new(field, offsets, Arc::new(items), None)))
}

fn not_a_histogram() -> DataFusionError {
    DataFusionError::Plan("hist_quantile takes a histogram column, list<struct<value_ns, count>>".to_owned())
}
