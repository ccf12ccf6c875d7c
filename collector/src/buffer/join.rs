//! Small batches made one. A column of a batch takes some hundred bytes whatever is in it, and hosts that are much alike
//! send the same texts again and again: of a thousand small hosts, rows take a third once they are joined, and a
//! statement that reads them goes over fewer and longer columns.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::size;
use crate::history::gather::{Gather, Place};

/// A batch of more rows stays as it is.
const SMALL_ROWS: usize = 1 << 10;

/// One of more bytes too: its columns are long enough, and however often its texts are named, the whole is bounded.
const SMALL_BYTES: usize = 64 << 10;

/// So many rows, or batches, are made one.
const JOINED_ROWS: usize = 1 << 12;
const JOINED_BATCHES: usize = 1 << 7;

/// One table's batches in the order they came, but for small ones, which are last.
#[derive(Debug, Default)]
pub struct Batches {
    all: Vec<RecordBatch>,
    /// Of these, the small ones.
    small: usize,
    /// Their rows.
    small_rows: usize,
}

impl Batches {
    /// All of them.
    pub fn all(&self) -> &[RecordBatch] {
        &self.all
    }

    /// Adds one.
    pub fn push(&mut self, batch: RecordBatch) {
        if batch.num_rows() > SMALL_ROWS || size::of(&batch) > SMALL_BYTES {
            self.all.insert(self.all.len() - self.small, batch);
            return;
        }
        self.small += 1;
        self.small_rows += batch.num_rows();
        self.all.push(batch);
    }

    /// The small ones, once there are enough of them.
    pub fn due(&self) -> Option<Vec<RecordBatch>> {
        let are_enough = self.small >= JOINED_BATCHES || self.small_rows >= JOINED_ROWS;
        are_enough.then(|| self.all[self.all.len() - self.small..].to_vec())
    }

    /// Puts what was made of those that were due in their place; without it they stay.
    pub fn put(&mut self, joined: Option<RecordBatch>) {
        if let Some(joined) = joined {
            self.all.truncate(self.all.len() - self.small);
            self.all.push(joined);
        }
        (self.small, self.small_rows) = (0, 0);
    }
}

/// The rows of these batches of a table as one, where that can be done.
pub fn joined(table: &'static str, batches: &[RecordBatch]) -> Option<RecordBatch> {
    match join(batches) {
        Ok(joined) => Some(joined),
        Err(error) => {
            tracing::warn!(table, %error, "small batches are not joined");
            None
        }
    }
}

/// The rows of batches of one schema, in their order.
fn join(batches: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let gather = Gather::new(batches)?;
    let of_batch = |(number, batch): (usize, &RecordBatch)| {
        (0..batch.num_rows() as u32).map(move |row| -> Place { (number as u32, row) })
    };
    let places: Vec<Place> = batches.iter().enumerate().flat_map(of_batch).collect();
    let schema = gather.schema();
    let columns = schema.fields().iter().enumerate().map(|(index, field)| match field.data_type() {
        // Of all their texts each is kept once.
        DataType::Dictionary(..) => gather.column(index, &places),
        _ => {
            let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(index).as_ref()).collect();
            concat(&arrays)
        }
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int32Type;
    use skep_wire::tables::CPU;

    use super::*;
    use crate::buffer::{sample, schema};

    #[test]
    fn joined_rows_are_those_that_were_there() {
        let small: Vec<_> = (0..5).map(|n| sample::cpu(["s", "t"][n % 2], n as i64 * 10..=n as i64 * 10 + 6)).collect();
        let joined = join(&small).unwrap();
        let plain = concat_batches(&schema::held(&CPU), &small).unwrap();
        assert_eq!(schema::plain(&joined).unwrap(), schema::plain(&plain).unwrap());
        assert_eq!(joined["stream"].as_dictionary::<Int32Type>().values().len(), 2);
        assert!(size::of(&joined) < small.iter().map(size::of).sum::<usize>());
    }

    #[test]
    fn large_batches_are_let_be_and_small_ones_are_due_when_there_are_enough() {
        let mut batches = Batches::default();
        let large = 1000..=1000 + SMALL_ROWS as i64;
        for n in 0..JOINED_BATCHES as i64 {
            assert_eq!(batches.due(), None);
            if n == 9 {
                batches.push(sample::cpu("large", large.clone()));
            }
            batches.push(sample::cpu("s", n..=n));
        }
        let due = batches.due().unwrap();
        assert_eq!(due.len(), JOINED_BATCHES);
        batches.put(Some(join(&due).unwrap()));
        let rows: Vec<_> = batches.all().iter().map(RecordBatch::num_rows).collect();
        assert_eq!(rows, [large.count(), JOINED_BATCHES]);
        assert_eq!(batches.due(), None);
        batches.push(sample::cpu("s", 1..=2));
        assert_eq!(batches.all().len(), 3);
    }
}
