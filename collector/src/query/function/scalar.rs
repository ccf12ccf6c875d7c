//! What one histogram says: how many observations, their mean, a quantile.
//!
//! Shape: a histogram a row; null for a null one. `hist_count` BIGINT; `hist_mean` DOUBLE, from midpoints and so at most
//! 3.2 % off, null when nothing was observed; `hist_quantile_of` as `hist_quantile`, without merging.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::buckets::{self, Buckets};

/// What is asked of each histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Of {
    /// Observations.
    Count,
    /// Their mean.
    Mean,
    /// A quantile.
    Quantile,
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Self::Count => "hist_count",
            Self::Mean => "hist_mean",
            Self::Quantile => "hist_quantile_of",
        }
    }
}

/// One of the functions.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct HistScalar {
    of: Of,
    signature: Signature,
}

impl HistScalar {
    /// The function.
    pub fn new(of: Of) -> Self {
        Self { of, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for HistScalar {
    fn name(&self) -> &str {
        self.of.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.of.name();
        match (self.of, types) {
            (Of::Count | Of::Mean, [histogram]) => {
                buckets::check(histogram, name)?;
                Ok(vec![histogram.clone()])
            }
            (Of::Quantile, [histogram, q]) if q.is_numeric() => {
                buckets::check(histogram, name)?;
                Ok(vec![histogram.clone(), DataType::Float64])
            }
            (Of::Count | Of::Mean, _) => plan_err!("{name} takes a histogram"),
            (Of::Quantile, _) => plan_err!("{name} takes a histogram and a number between 0 and 1"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.of {
            Of::Count | Of::Quantile => DataType::Int64,
            Of::Mean => DataType::Float64,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let Some(histograms) = columns.first() else { return plan_err!("{} takes a histogram", self.of.name()) };
        let rows = Buckets::of(histograms, self.of.name())?;
        let each = |row: usize| rows.row(row).map(|(values, counts)| pairs(values, counts));
        let answer: ArrayRef = match self.of {
            Of::Count => Arc::new((0..rows.len()).map(|row| Some(count(each(row)?))).collect::<Int64Array>()),
            Of::Mean => Arc::new((0..rows.len()).map(|row| mean(each(row)?)).collect::<Float64Array>()),
            Of::Quantile => Arc::new(quantiles(&rows, columns.get(1))?),
        };
        Ok(ColumnarValue::Array(answer))
    }
}

fn pairs<'a>(values: &'a [i64], counts: &'a [i64]) -> impl Iterator<Item = (i64, u64)> + Clone + 'a {
    values.iter().zip(counts).map(|(value, count)| (*value, u64::try_from(*count).unwrap_or(0)))
}

fn count(pairs: impl Iterator<Item = (i64, u64)>) -> i64 {
    i64::try_from(pairs.fold(0u64, |sum, (_, count)| sum.saturating_add(count))).unwrap_or(i64::MAX)
}

fn mean(pairs: impl Iterator<Item = (i64, u64)>) -> Option<f64> {
    let (sum, count) = pairs.fold((0.0, 0.0), |(sum, seen), (value, count)| {
        let count = count as f64;
        (value as f64 * count + sum, seen + count)
    });
    (count > 0.0).then(|| sum / count)
}

fn quantiles(rows: &Buckets<'_>, qs: Option<&ArrayRef>) -> Result<Int64Array> {
    let Some(qs) = qs.and_then(|qs| qs.as_primitive_opt::<Float64Type>()) else {
        return plan_err!("hist_quantile_of takes a histogram and a number between 0 and 1");
    };
    let quantile = |row: usize| -> Result<Option<i64>> {
        let Some((values, counts)) = rows.row(row).filter(|_| qs.is_valid(row)) else { return Ok(None) };
        let q = buckets::check_q(qs.value(row), "hist_quantile_of")?;
        Ok(buckets::quantile(pairs(values, counts), q))
    };
    (0..rows.len()).map(quantile).collect()
}
