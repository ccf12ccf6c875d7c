//! Columns of a checked chunk, each found by its name once: for code that goes over all rows.

use skep_wire::v1::{self, column_data::Data};

/// Which rows hold a value: one bit a row, none at all when every row does.
#[derive(Debug, Clone, Copy)]
struct Validity<'a>(&'a [u8]);

/// Integers or times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ints<'a> {
    values: &'a [i64],
    validity: Validity<'a>,
}

/// Texts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Texts<'a> {
    numbers: &'a [u32],
    dictionary: &'a [String],
    validity: Validity<'a>,
}

/// Floating-point values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floats<'a> {
    values: &'a [f64],
    validity: Validity<'a>,
}

/// Distributions; read from the first row to the last.
#[derive(Debug, Clone)]
pub(super) struct Histograms<'a> {
    lengths: &'a [u32],
    buckets: &'a [u32],
    counts: &'a [u64],
}

fn find<'a>(chunk: &'a v1::Chunk, name: &str) -> Option<(&'a Data, Validity<'a>)> {
    let column = chunk.columns.iter().find(|column| column.name == name)?;
    Some((column.data.as_ref()?, Validity(&column.validity)))
}

/// A column that is absent gives nothing, as one of another kind does.
pub(super) fn ints<'a>(chunk: &'a v1::Chunk, name: &str) -> Ints<'a> {
    match find(chunk, name) {
        Some((Data::Ints(ints), validity)) => Ints { values: &ints.values, validity },
        _ => Ints { values: &[], validity: Validity(&[]) },
    }
}

pub(super) fn texts<'a>(chunk: &'a v1::Chunk, name: &str) -> Texts<'a> {
    match find(chunk, name) {
        Some((Data::Texts(texts), validity)) => {
            Texts { numbers: &texts.index, dictionary: &texts.dictionary, validity }
        }
        _ => Texts { numbers: &[], dictionary: &[], validity: Validity(&[]) },
    }
}

pub(super) fn floats<'a>(chunk: &'a v1::Chunk, name: &str) -> Floats<'a> {
    match find(chunk, name) {
        Some((Data::Floats(floats), validity)) => Floats { values: &floats.values, validity },
        _ => Floats { values: &[], validity: Validity(&[]) },
    }
}

pub(super) fn histograms<'a>(chunk: &'a v1::Chunk, name: &str) -> Histograms<'a> {
    match find(chunk, name) {
        Some((Data::Histograms(all), _)) => {
            Histograms { lengths: &all.lengths, buckets: &all.buckets, counts: &all.counts }
        }
        _ => Histograms { lengths: &[], buckets: &[], counts: &[] },
    }
}

impl Validity<'_> {
    fn has(self, row: usize) -> bool {
        self.0.is_empty() || self.0[row / 8] & (1 << (row % 8)) != 0
    }
}

impl Ints<'_> {
    pub(super) fn at(self, row: usize) -> Option<i64> {
        self.values.get(row).copied().filter(|_| self.validity.has(row))
    }
}

impl Floats<'_> {
    pub(super) fn at(self, row: usize) -> Option<f64> {
        self.values.get(row).copied().filter(|_| self.validity.has(row))
    }
}

impl<'a> Texts<'a> {
    /// The number of a row's text in the chunk's dictionary: rows of one number have one text, though the text may have
    /// more numbers than one.
    pub(super) fn number(self, row: usize) -> Option<u32> {
        self.numbers.get(row).copied().filter(|_| self.validity.has(row))
    }

    /// The text of a number that [`Texts::number`] gave.
    pub(super) fn text(self, number: u32) -> &'a str {
        self.dictionary.get(number as usize).map_or("", String::as_str)
    }

    pub(super) fn at(self, row: usize) -> Option<&'a str> {
        self.number(row).map(|number| self.text(number))
    }

    /// Numbers there are.
    pub(super) fn len(self) -> usize {
        self.dictionary.len()
    }
}

impl<'a> Histograms<'a> {
    /// The buckets of the next row, ascending.
    pub(super) fn next(&mut self) -> impl Iterator<Item = (u16, u64)> + use<'a> {
        let length = self.lengths.split_off_first().map_or(0, |&length| length as usize);
        let steps = self.buckets.split_off(..length).unwrap_or_default();
        let counts = self.counts.split_off(..length).unwrap_or_default();
        let mut bucket = 0u16;
        steps.iter().zip(counts).map(move |(&step, &count)| {
            bucket += step as u16;
            (bucket, count)
        })
    }
}
