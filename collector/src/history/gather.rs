//! Rows of many batches, picked in any order.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, RecordBatch, StringArray};
use arrow::compute::interleave;
use arrow::datatypes::{Int32Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use foldhash::fast::RandomState;

/// Where a row is: batch and row in it.
pub type Place = (u32, u32);

/// The columns of batches of one schema.
#[derive(Debug)]
pub struct Gather<'a> {
    schema: SchemaRef,
    columns: Vec<Column<'a>>,
}

#[derive(Debug)]
enum Column<'a> {
    Texts(Texts<'a>),
    Others(Vec<&'a dyn Array>),
}

/// A column of texts: each batch has its own dictionary, and this one has every different text of all.
#[derive(Debug)]
pub struct Texts<'a> {
    all: Vec<&'a str>,
    /// By batch: the numbers of its dictionary's texts here, and which of them its rows have.
    batches: Vec<(Vec<i32>, &'a Int32Array)>,
    values: Arc<StringArray>,
}

impl<'a> Gather<'a> {
    /// The columns of `batches`, which are as [`crate::buffer::schema::held`] says.
    ///
    /// # Errors
    /// The batches are not of one schema, or the texts of a column are more than one array can hold.
    pub fn new(batches: &'a [RecordBatch]) -> Result<Self, ArrowError> {
        let schema = batches.first().map(RecordBatch::schema).unwrap_or_else(|| Arc::new(Schema::empty()));
        if batches.iter().any(|batch| batch.schema() != schema) {
            return Err(ArrowError::SchemaError("batches of one table differ in their columns".to_owned()));
        }
        let column = |index: usize| {
            let arrays = batches.iter().map(|batch| batch.column(index));
            let texts: Option<Vec<_>> = arrays.clone().map(|array| array.as_dictionary_opt::<Int32Type>()).collect();
            match texts {
                Some(texts) => Texts::new(&texts).map(Column::Texts),
                None => Ok(Column::Others(arrays.map(|array| array.as_ref()).collect())),
            }
        };
        let columns = (0..schema.fields().len()).map(column).collect::<Result<_, _>>()?;
        Ok(Self { schema, columns })
    }

    /// A column of texts by its name.
    pub fn texts(&self, name: &str) -> Option<&Texts<'a>> {
        match self.columns.get(self.schema.index_of(name).ok()?)? {
            Column::Texts(texts) => Some(texts),
            Column::Others(_) => None,
        }
    }

    /// The rows at `places`.
    ///
    /// # Errors
    /// More of something than one array can hold.
    pub fn rows(&self, places: &[Place]) -> Result<RecordBatch, ArrowError> {
        let wide: Vec<_> = places.iter().map(|(batch, row)| (*batch as usize, *row as usize)).collect();
        let column = |column: &Column<'_>| match column {
            Column::Texts(texts) => texts.rows(places),
            Column::Others(arrays) => interleave(arrays, &wide),
        };
        RecordBatch::try_new(Arc::clone(&self.schema), self.columns.iter().map(column).collect::<Result<_, _>>()?)
    }
}

impl<'a> Texts<'a> {
    fn new(arrays: &[&'a DictionaryArray<Int32Type>]) -> Result<Self, ArrowError> {
        let mut known: HashMap<&'a str, i32, RandomState> = HashMap::default();
        let mut all = Vec::new();
        let mut batches = Vec::with_capacity(arrays.len());
        for array in arrays {
            let texts: &'a StringArray = array
                .values()
                .as_string_opt::<i32>()
                .ok_or_else(|| ArrowError::SchemaError("a dictionary that does not hold texts".to_owned()))?;
            let number = |text: Option<&'a str>| {
                let text = text.unwrap_or_default();
                *known.entry(text).or_insert_with(|| {
                    all.push(text);
                    all.len() as i32 - 1
                })
            };
            batches.push((texts.iter().map(number).collect(), array.keys()));
        }
        if i32::try_from(all.iter().map(|text| text.len()).sum::<usize>()).is_err() {
            return Err(ArrowError::InvalidArgumentError("a column has more text than one array can hold".to_owned()));
        }
        let values = Arc::new(StringArray::from_iter_values(&all));
        Ok(Self { all, batches, values })
    }

    /// Every different text, by number.
    pub fn all(&self) -> &[&'a str] {
        &self.all
    }

    /// The number of a row's text; `None` for a null.
    pub fn number(&self, batch: usize, row: usize) -> Option<usize> {
        let (numbers, keys) = &self.batches[batch];
        keys.is_valid(row).then(|| numbers[keys.value(row) as usize] as usize)
    }

    fn rows(&self, places: &[Place]) -> Result<ArrayRef, ArrowError> {
        let number = |(batch, row): &Place| {
            let (numbers, keys) = &self.batches[*batch as usize];
            numbers[keys.values()[*row as usize] as usize]
        };
        let keys = if self.batches.iter().all(|(_, keys)| keys.null_count() == 0) {
            Int32Array::from_iter_values(places.iter().map(number))
        } else {
            let is_valid = |place: &Place| self.batches[place.0 as usize].1.is_valid(place.1 as usize);
            places.iter().map(|place| is_valid(place).then(|| number(place))).collect()
        };
        let values = Arc::clone(&self.values);
        Ok(Arc::new(DictionaryArray::try_new(keys, values)?))
    }
}
