//! Rows of many batches, picked in any order, one column at a time: what a column takes stays in the processor's caches
//! while its rows are picked, and all columns together do not.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, DictionaryArray, Int32Array, PrimitiveArray,
    RecordBatch, StringArray,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::interleave;
use arrow::datatypes::{
    DataType, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use foldhash::fast::RandomState;

use crate::buffer::packed::{Lists, Row};

/// Where a row is: batch and row in it.
pub type Place = (u32, u32);

/// Histograms looked up before the first of them is unpacked.
const AT_ONCE: usize = 32;

/// The columns of batches of one schema.
#[derive(Debug)]
pub struct Gather<'a> {
    schema: SchemaRef,
    columns: Vec<Column<'a>>,
}

#[derive(Debug)]
enum Column<'a> {
    Texts(Texts<'a>),
    Ints(Numbers<'a, Int64Type>),
    Times(Numbers<'a, TimestampMicrosecondType>),
    Floats(Numbers<'a, Float64Type>),
    Histograms(Histograms<'a>),
    Others(Vec<&'a dyn Array>),
}

/// A column of texts: each batch has its own dictionary, and this one has every different text of all.
#[derive(Debug)]
pub struct Texts<'a> {
    all: Vec<&'a str>,
    batches: Vec<Numbered<'a>>,
    values: Arc<StringArray>,
    nulls: Nulls,
}

/// One batch of a column of texts.
#[derive(Debug)]
struct Numbered<'a> {
    /// What its rows have of its dictionary.
    keys: &'a [i32],
    /// The numbers of its dictionary's texts among all.
    numbers: Vec<i32>,
    validity: Option<&'a NullBuffer>,
}

/// A column of numbers, by batch.
#[derive(Debug)]
struct Numbers<'a, T: ArrowPrimitiveType> {
    values: Vec<&'a [T::Native]>,
    validity: Vec<Option<&'a NullBuffer>>,
    data_type: DataType,
}

/// A column of distributions, by batch.
#[derive(Debug)]
struct Histograms<'a>(Vec<&'a BinaryArray>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nulls {
    None,
    Some,
    All,
}

impl<'a> Gather<'a> {
    /// The columns of `batches`, which are as [`crate::buffer::schema::held`] says.
    ///
    /// # Errors
    /// The batches are not of one schema, or the texts of a column are more than one array can hold.
    pub fn new(batches: &'a [RecordBatch]) -> Result<Self, ArrowError> {
        let schema = batches.first().map(RecordBatch::schema).unwrap_or_else(|| Arc::new(Schema::empty()));
        let same = |other: &SchemaRef| Arc::ptr_eq(other, &schema) || *other == schema;
        if !batches.iter().all(|batch| same(batch.schema_ref())) {
            return Err(ArrowError::SchemaError("batches of one table differ in their columns".to_owned()));
        }
        let column = |index: usize| {
            let arrays = batches.iter().map(|batch| batch.column(index).as_ref());
            Column::new(arrays.collect())
        };
        let columns = (0..schema.fields().len()).map(column).collect::<Result<_, _>>()?;
        Ok(Self { schema, columns })
    }

    /// The schema of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// A column of texts by its name.
    pub fn texts(&self, name: &str) -> Option<&Texts<'a>> {
        match self.columns.get(self.schema.index_of(name).ok()?)? {
            Column::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    /// What the column of this number has in the rows at `places`, distributions as in files.
    ///
    /// # Errors
    /// There is no such column, or more of something than one array can hold.
    pub fn column(&self, index: usize, places: &[Place]) -> Result<ArrayRef, ArrowError> {
        match self.columns.get(index) {
            Some(column) => column.rows(places),
            None => Err(ArrowError::SchemaError(format!("there is no column {index}"))),
        }
    }
}

impl<'a> Column<'a> {
    fn new(arrays: Vec<&'a dyn Array>) -> Result<Self, ArrowError> {
        let texts: Option<Vec<_>> = arrays.iter().map(|array| array.as_dictionary_opt::<Int32Type>()).collect();
        if let Some(texts) = texts {
            return Texts::new(&texts).map(Self::Texts);
        }
        Ok(match arrays.first().map(|array| array.data_type()) {
            Some(DataType::Int64) => Self::Ints(Numbers::new(&arrays)),
            Some(DataType::Float64) => Self::Floats(Numbers::new(&arrays)),
            Some(DataType::Timestamp(TimeUnit::Microsecond, _)) => Self::Times(Numbers::new(&arrays)),
            Some(DataType::Binary) => {
                Self::Histograms(Histograms(arrays.iter().filter_map(|array| array.as_binary_opt()).collect()))
            }
            _ => Self::Others(arrays),
        })
    }

    fn rows(&self, places: &[Place]) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::Texts(texts) => texts.rows(places),
            Self::Ints(numbers) => numbers.rows(places),
            Self::Times(numbers) => numbers.rows(places),
            Self::Floats(numbers) => numbers.rows(places),
            Self::Histograms(histograms) => histograms.rows(places),
            Self::Others(arrays) => {
                let wide: Vec<_> = places.iter().map(|(batch, row)| (*batch as usize, *row as usize)).collect();
                interleave(arrays, &wide)
            }
        }
    }
}

impl<'a, T: ArrowPrimitiveType> Numbers<'a, T> {
    fn new(arrays: &[&'a dyn Array]) -> Self {
        let typed = || arrays.iter().filter_map(|array| array.as_primitive_opt::<T>());
        let validity = |array: &'a PrimitiveArray<T>| array.nulls().filter(|nulls| nulls.null_count() > 0);
        Self {
            values: typed().map(|array| &array.values()[..]).collect(),
            validity: typed().map(validity).collect(),
            data_type: arrays.first().map_or(T::DATA_TYPE, |array| array.data_type().clone()),
        }
    }

    fn rows(&self, places: &[Place]) -> Result<ArrayRef, ArrowError> {
        let values: Vec<_> = places.iter().map(|(batch, row)| self.values[*batch as usize][*row as usize]).collect();
        let nulls = self.validity.iter().any(Option::is_some).then(|| {
            let is_valid = |(batch, row): &Place| {
                self.validity[*batch as usize].is_none_or(|validity| validity.is_valid(*row as usize))
            };
            places.iter().map(is_valid).collect::<NullBuffer>()
        });
        let array = PrimitiveArray::<T>::try_new(ScalarBuffer::from(values), nulls)?;
        Ok(Arc::new(array.with_data_type(self.data_type.clone())))
    }
}

impl Histograms<'_> {
    fn rows(&self, places: &[Place]) -> Result<ArrayRef, ArrowError> {
        let mut lists = Lists::of(places.len());
        let mut rows = Vec::with_capacity(AT_ONCE);
        for places in places.chunks(AT_ONCE) {
            rows.extend(places.iter().map(|(batch, row)| Row::of(self.0[*batch as usize], *row as usize)));
            rows.iter().for_each(Row::touch);
            rows.drain(..).for_each(|row| lists.push(row));
        }
        lists.finish()
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
            let numbers = texts.iter().map(number).collect();
            batches.push(Numbered { keys: array.keys().values(), numbers, validity: array.keys().nulls() });
        }
        if i32::try_from(all.iter().map(|text| text.len()).sum::<usize>()).is_err() {
            return Err(ArrowError::InvalidArgumentError("a column has more text than one array can hold".to_owned()));
        }
        let nulls = match arrays {
            _ if arrays.iter().all(|array| array.keys().null_count() == 0) => Nulls::None,
            _ if arrays.iter().all(|array| array.keys().null_count() == array.len()) => Nulls::All,
            _ => Nulls::Some,
        };
        let values = Arc::new(StringArray::from_iter_values(&all));
        Ok(Self { all, batches, values, nulls })
    }

    /// Every different text, by number.
    pub fn all(&self) -> &[&'a str] {
        &self.all
    }

    /// The number of a row's text; `None` for a null.
    pub fn number(&self, batch: usize, row: usize) -> Option<usize> {
        let batch = &self.batches[batch];
        batch.is_valid(row).then(|| batch.number(row) as usize)
    }

    fn rows(&self, places: &[Place]) -> Result<ArrayRef, ArrowError> {
        let number = |(batch, row): &Place| self.batches[*batch as usize].number(*row as usize);
        let is_valid = |(batch, row): &Place| self.batches[*batch as usize].is_valid(*row as usize);
        let keys = match self.nulls {
            Nulls::None if self.all.len() == 1 => Int32Array::from_value(0, places.len()),
            Nulls::None => Int32Array::from_iter_values(places.iter().map(number)),
            Nulls::Some => places.iter().map(|place| is_valid(place).then(|| number(place))).collect(),
            Nulls::All => Int32Array::new_null(places.len()),
        };
        let values = Arc::clone(&self.values);
        Ok(Arc::new(DictionaryArray::try_new(keys, values)?))
    }
}

impl Numbered<'_> {
    fn number(&self, row: usize) -> i32 {
        self.numbers[self.keys[row] as usize]
    }

    fn is_valid(&self, row: usize) -> bool {
        self.validity.is_none_or(|validity| validity.is_valid(row))
    }
}
