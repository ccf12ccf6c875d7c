//! Catalogs, schemas and tables as Flight SQL lists them.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables};

use crate::query::engine::Listed;

/// What a stored table and what a view is called.
const TYPES: [&str; 2] = ["TABLE", "VIEW"];

type Listing = Result<RecordBatch, FlightError>;

/// Catalogs.
///
/// # Errors
/// None in practice, as for the others: names always fit.
pub fn catalogs(command: CommandGetCatalogs, tables: &[Listed]) -> Listing {
    let mut builder = command.into_builder();
    let names: BTreeSet<&str> = tables.iter().map(|table| table.catalog.as_str()).collect();
    names.into_iter().for_each(|name| builder.append(name));
    builder.build()
}

/// Schemas, those the command asks for.
///
/// # Errors
/// A pattern that does not parse.
pub fn schemas(command: CommandGetDbSchemas, tables: &[Listed]) -> Listing {
    let mut builder = command.into_builder();
    let names: BTreeSet<_> = tables.iter().map(|table| (&table.catalog, &table.schema)).collect();
    names.into_iter().for_each(|(catalog, schema)| builder.append(catalog, schema));
    builder.build()
}

/// Tables, those the command asks for, with their columns if it asks for them.
///
/// # Errors
/// A pattern that does not parse.
pub fn tables(command: CommandGetTables, tables: &[Listed]) -> Listing {
    let mut builder = command.into_builder();
    for table in tables {
        let kind = TYPES[usize::from(table.is_view)];
        builder.append(&table.catalog, &table.schema, &table.name, kind, &table.columns)?;
    }
    builder.build()
}

/// What tables can be.
///
/// # Errors
/// None in practice.
pub fn table_types(command: CommandGetTableTypes) -> Listing {
    let mut builder = command.into_builder();
    TYPES.iter().for_each(|kind| builder.append(kind));
    builder.build()
}
