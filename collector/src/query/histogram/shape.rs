//! Where a file keeps a histogram, and whether it is as this decoder knows it.

use parquet::basic::{Encoding, Repetition, Type as Physical};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::schema::types::Type;

use super::levels::Shape;

/// How a file keeps the histograms of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It has no such column.
    Not,
    /// In two columns of numbers.
    Plainly(Leaves),
    /// In some other way that the engine may know: another program wrote it.
    Otherwise,
}

/// The two columns of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaves {
    /// What their levels say.
    pub shape: Shape,
    /// Number of the column of midpoints.
    pub value: usize,
    /// Number of the column of counts.
    pub count: usize,
}

/// How the file keeps the column `name`.
pub fn kept(file: &ParquetMetaData, name: &str) -> Kept {
    let schema = file.file_metadata().schema_descr();
    let Some(field) = schema.root_schema().get_fields().iter().find(|field| field.name() == name) else {
        return Kept::Not;
    };
    let leaf = |part: &str| schema.columns().iter().position(|leaf| is_leaf(leaf.path().parts(), name, part));
    let leaves = shape(field).zip(leaf("value_ns").zip(leaf("count")));
    match leaves.map(|(shape, (value, count))| Leaves { shape, value, count }) {
        Some(leaves) if is_indexed(file, &leaves) => Kept::Plainly(leaves),
        _ => Kept::Otherwise,
    }
}

fn is_leaf(path: &[String], name: &str, part: &str) -> bool {
    path.len() == 4 && path[0] == name && path[3] == part
}

/// A list in three levels of structs of two numbers.
fn shape(list: &Type) -> Option<Shape> {
    let repeated = only_child(list)?;
    let bucket = only_child(repeated)?;
    let parts = if bucket.is_group() { bucket.get_fields() } else { return None };
    let optional = |node: &Type| match node.get_basic_info().repetition() {
        Repetition::REQUIRED => Some(0),
        Repetition::OPTIONAL => Some(1),
        Repetition::REPEATED => None,
    };
    let is_number = |part: &str| {
        let part = parts.iter().find(|node| node.name() == part);
        part.is_some_and(|node| node.is_primitive() && node.get_physical_type() == Physical::INT64)
    };
    if repeated.get_basic_info().repetition() != Repetition::REPEATED
        || !["value_ns", "count"].iter().all(|part| is_number(part))
    {
        return None;
    }
    // Both numbers of a bucket are there or both are not, at one level.
    let mut levels = parts.iter().map(|part| optional(part));
    let part = levels.next()??;
    if !levels.all(|level| level == Some(part)) {
        return None;
    }
    let nullable = optional(list)?;
    let level = nullable + 1;
    Some(Shape { whole: level + optional(bucket)? + part, bucket: level, nullable: nullable > 0 })
}

fn only_child(node: &Type) -> Option<&Type> {
    match node {
        Type::GroupType { fields, .. } => match fields.as_slice() {
            [only] => Some(only),
            _ => None,
        },
        Type::PrimitiveType { .. } => None,
    }
}

/// Whether the pages of both can be found one by one, and numbers in them are written in ways known here.
fn is_indexed(file: &ParquetMetaData, leaves: &Leaves) -> bool {
    let known = |column: &ColumnChunkMetaData| {
        column.encodings().all(|encoding| {
            matches!(encoding, Encoding::PLAIN | Encoding::RLE | Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY)
        })
    };
    let columns = [leaves.value, leaves.count];
    let located =
        file.offset_index().is_some_and(|groups| groups.len() == file.num_row_groups()) || file.num_row_groups() == 0;
    located && file.row_groups().iter().all(|group| columns.iter().all(|leaf| known(group.column(*leaf))))
}
