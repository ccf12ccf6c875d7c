//! Which statements are served: one at a time, and only those that read.

use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as Sql;

use super::error::QueryError;

/// Parses one reading statement.
///
/// # Errors
/// [`QueryError::Syntax`], [`QueryError::NotReadOnly`].
pub fn parse(state: &SessionState, sql: &str) -> Result<Statement, QueryError> {
    let dialect = state.config_options().sql_parser.dialect;
    let statement = state.sql_to_statement(sql, &dialect).map_err(|error| QueryError::from_engine(&error))?;
    if reads(&statement) {
        return Ok(statement);
    }
    let words: Vec<&str> = sql.split_whitespace().take(2).collect();
    Err(QueryError::NotReadOnly { kind: words.join(" ").to_uppercase() })
}

fn reads(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(sql) => matches!(
            sql.as_ref(),
            Sql::Query(_)
                | Sql::Explain { .. }
                | Sql::ExplainTable { .. }
                | Sql::ShowTables { .. }
                | Sql::ShowColumns { .. }
                | Sql::ShowFunctions { .. }
                | Sql::ShowVariable { .. }
        ),
        Statement::Explain(explain) => reads(&explain.statement),
        _ => false,
    }
}
