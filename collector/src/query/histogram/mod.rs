//! Histograms from Parquet files, several times faster than the engine's reader of nested columns makes them.
//!
//! A histogram is a list of buckets, two columns of numbers in a file, with levels that say where a row begins. The
//! engine's reader takes any nesting, a level at a time; this one knows the one nesting there is, finds rows in the
//! levels' bits, and looks numbers up in dictionaries eight at a time. It reads what the engine's scan left of a file's
//! rows, by their numbers: pages nobody asks for are not even read.
//!
//! * [`scan`]: the operator, over the engine's scan of all other columns.
//! * [`file`]: the histograms of one file, by the numbers of its rows.
//! * [`search`]: all histograms of a file, to find out whether one is damaged.
//! * [`shape`]: where a file keeps them; those that keep them in another way are left to the engine's reader.
//! * [`column`]: one column in one row group.
//! * [`leaf`]: one of its two columns of numbers, page by page.
//! * [`levels`], [`values`] and [`runs`]: what is in a page.

pub mod scan;

pub mod file;

pub mod search;

pub mod shape;

pub mod column;

pub mod leaf;

pub mod levels;

pub mod values;

pub mod runs;

#[cfg(test)]
mod tests;
