//! `hist_merge(histogram)`: histograms into one; `hist_quantile(histogram, q)`: a quantile of the merged one.
//!
//! Shape: `hist_merge` gives a histogram, ascending, without empty buckets (empty when nothing was observed);
//! `hist_quantile` BIGINT, see [`buckets::quantile`], null when nothing was observed. Midpoints are at most 3.2 % off.
//!
//! The state of both between stages is the merged histogram, so that partial sums are merged as rows are.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility};
use datafusion::scalar::ScalarValue;
use skep_wire::tables::Kind;

use super::buckets::{self, Buckets};
use super::fold::Folded;
use crate::buffer::schema;

/// What becomes of the merged histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fold {
    /// It is the answer.
    Merge,
    /// A quantile is read from it.
    Quantile,
}

impl Fold {
    fn name(self) -> &'static str {
        match self {
            Self::Merge => "hist_merge",
            Self::Quantile => "hist_quantile",
        }
    }
}

/// One of the two functions.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct HistAggregate {
    fold: Fold,
    signature: Signature,
}

impl HistAggregate {
    /// The function.
    pub fn new(fold: Fold) -> Self {
        Self { fold, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for HistAggregate {
    fn name(&self) -> &str {
        self.fold.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.fold.name();
        match (self.fold, types) {
            (Fold::Merge, [histogram]) => {
                buckets::check(histogram, name)?;
                Ok(vec![histogram.clone()])
            }
            (Fold::Quantile, [histogram, q]) if q.is_numeric() => {
                buckets::check(histogram, name)?;
                Ok(vec![histogram.clone(), DataType::Float64])
            }
            (Fold::Merge, _) => plan_err!("hist_merge takes a histogram column"),
            (Fold::Quantile, _) => plan_err!("hist_quantile takes a histogram column and a number between 0 and 1"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.fold {
            Fold::Merge => schema::data_type(Kind::Histogram),
            Fold::Quantile => DataType::Int64,
        })
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(One(Grouped::new(self.fold))))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Grouped::new(self.fold)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let merged = schema::data_type(Kind::Histogram);
        let mut fields = vec![Arc::new(Field::new(format!("{}[merged]", args.name), merged, true))];
        if self.fold == Fold::Quantile {
            fields.push(Arc::new(Field::new(format!("{}[q]", args.name), DataType::Float64, true)));
        }
        Ok(fields)
    }
}

/// The merged histogram of each group and, for quantiles, which.
#[derive(Debug)]
struct Grouped {
    fold: Fold,
    merged: Folded,
    qs: Vec<Option<f64>>,
}

impl Grouped {
    fn new(fold: Fold) -> Self {
        Self { fold, merged: Folded::default(), qs: Vec::new() }
    }

    fn resize(&mut self, groups: usize) {
        self.merged.resize(groups);
        if self.fold == Fold::Quantile && groups > self.qs.len() {
            self.qs.resize(groups, None);
        }
    }

    /// Adds rows, be they histograms or states: `group_of` says whose a row is, `None` that it does not count.
    fn take(&mut self, columns: &[ArrayRef], group_of: impl Fn(usize) -> Option<usize>) -> Result<()> {
        let name = self.fold.name();
        let Some(histograms) = columns.first() else { return plan_err!("{name} takes a histogram") };
        let histograms = Buckets::of(histograms, name)?;
        let qs = columns.get(1).and_then(|qs| qs.as_primitive_opt::<Float64Type>());
        for row in 0..histograms.len() {
            let Some(group) = group_of(row) else { continue };
            if let Some(qs) = qs.filter(|qs| qs.is_valid(row)) {
                self.qs[group] = Some(buckets::check_q(qs.value(row), name)?);
            }
            if let Some((values, counts)) = histograms.row(row) {
                self.merged.add(group, values, counts);
            }
        }
        Ok(())
    }

    fn quantiles(&self, groups: usize) -> Int64Array {
        let mut scratch = Vec::new();
        let quantile = |group: usize| {
            self.merged.read(group, &mut scratch);
            buckets::quantile(scratch.iter().copied(), self.qs[group]?)
        };
        (0..groups).map(quantile).collect()
    }

    fn histograms(&self, groups: usize) -> Result<ArrayRef> {
        let room = self.merged.room(groups);
        let (mut values, mut counts) = (Vec::with_capacity(room), Vec::with_capacity(room));
        let lengths: Vec<_> = (0..groups).map(|group| self.merged.append(group, &mut values, &mut counts)).collect();
        let parts: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(values)), Arc::new(Int64Array::from(counts))];
        let parts = StructArray::try_new(schema::bucket_fields(), parts, None)?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::try_new(schema::bucket_item(), offsets, Arc::new(parts), None)?))
    }

    fn how_many(&self, emit: EmitTo) -> usize {
        match emit {
            EmitTo::All => self.merged.groups(),
            EmitTo::First(groups) => groups.min(self.merged.groups()),
        }
    }

    fn forget(&mut self, groups: usize) {
        self.merged.forget(groups);
        self.qs.drain(..groups.min(self.qs.len()));
    }
}

impl GroupsAccumulator for Grouped {
    fn update_batch(
        &mut self,
        columns: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.resize(total);
        let counts = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        self.take(columns, |row| counts(row).then(|| groups[row]))
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let groups = self.how_many(emit);
        let answer = match self.fold {
            Fold::Merge => self.histograms(groups)?,
            Fold::Quantile => Arc::new(self.quantiles(groups)),
        };
        self.forget(groups);
        Ok(answer)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = self.how_many(emit);
        let mut state = vec![self.histograms(groups)?];
        if self.fold == Fold::Quantile {
            state.push(Arc::new(Float64Array::from(self.qs[..groups].to_vec())));
        }
        self.forget(groups);
        Ok(state)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.resize(total);
        self.take(states, |row| Some(groups[row]))
    }

    fn convert_to_state(&self, columns: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = columns.first().map_or(0, Array::len);
        if filter.is_none() && columns.first().is_some_and(|c| c.data_type() == &schema::data_type(Kind::Histogram)) {
            return Ok(columns.to_vec());
        }
        let mut each = Self::new(self.fold);
        each.update_batch(columns, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        GroupsAccumulator::state(&mut each, EmitTo::All)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.merged.bytes() + self.qs.capacity() * size_of::<Option<f64>>()
    }
}

/// All rows are one group.
#[derive(Debug)]
struct One(Grouped);

impl Accumulator for One {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        self.0.resize(1);
        self.0.take(columns, |_| Some(0))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.resize(1);
        match self.0.fold {
            Fold::Merge => ScalarValue::try_from_array(&self.0.histograms(1)?, 0),
            Fold::Quantile => ScalarValue::try_from_array(&self.0.quantiles(1), 0),
        }
    }

    fn size(&self) -> usize {
        GroupsAccumulator::size(&self.0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.resize(1);
        let columns = self.0.state(EmitTo::All)?;
        columns.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}
