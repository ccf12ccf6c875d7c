//! Which tables and views a statement may name.

use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::datasource::ViewTable;
use datafusion::prelude::SessionContext;
use skep_wire::tables::{self, TABLES};
use skep_wire::views::{self, VIEWS, View};

use super::error::QueryError;
use super::suggest;

const INFORMATION_SCHEMA: &str = "information_schema";

/// Refuses names there are not, with those probably meant.
///
/// # Errors
/// [`QueryError::UnknownTable`].
pub fn check(references: &[TableReference]) -> Result<(), QueryError> {
    for reference in references {
        let name = reference.table();
        let known = tables::find(name).is_some() || views::find(name).is_some();
        if !known && reference.schema() != Some(INFORMATION_SCHEMA) {
            let all = TABLES.iter().map(|table| table.name).chain(VIEWS.iter().map(|view| view.name));
            return Err(QueryError::UnknownTable { name: reference.to_string(), near: suggest::near(name, all) });
        }
    }
    Ok(())
}

/// Makes the views that are referred to known to a statement; all of them where it asks which there are. Planning one
/// takes longer than many a statement, so the others are left out.
///
/// # Errors
/// [`QueryError`]: a view that does not plan is a fault of ours.
pub async fn add_views(context: &SessionContext, references: &[TableReference]) -> Result<(), QueryError> {
    if references.iter().any(|reference| reference.schema() == Some(INFORMATION_SCHEMA)) {
        return add_all_views(context).await;
    }
    let wanted = |view: &&View| references.iter().any(|reference| reference.table() == view.name);
    for view in VIEWS.iter().filter(wanted) {
        add_view(context, view).await?;
    }
    Ok(())
}

/// Makes every view known, for whoever lists what there is.
///
/// # Errors
/// As [`add_views`].
pub async fn add_all_views(context: &SessionContext) -> Result<(), QueryError> {
    for view in VIEWS {
        add_view(context, view).await?;
    }
    Ok(())
}

async fn add_view(context: &SessionContext, view: &View) -> Result<(), QueryError> {
    let plan = context.state().create_logical_plan(view.sql).await;
    let plan = plan.map_err(|error| QueryError::from_engine(&error))?;
    let table = ViewTable::new(plan, Some(view.sql.to_owned()));
    context.register_table(view.name, Arc::new(table)).map_err(|error| QueryError::from_engine(&error))?;
    Ok(())
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
