//! Which statements are served: one at a time, and only those that read.

use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::Statement as Sql;

use super::error::QueryError;

/// Parses one reading statement.
///
/// # Errors
/// [`QueryError::Syntax`], [`QueryError::NotOne`], [`QueryError::NotReadOnly`].
pub fn parse(sql: &str) -> Result<Statement, QueryError> {
    let mut statements = DFParser::parse_sql(sql).map_err(|error| QueryError::from_engine(&error))?;
    let found = statements.len();
    let Some(statement) = statements.pop_front().filter(|_| found == 1) else {
        return Err(QueryError::NotOne { found });
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_statements_pass() {
        for sql in [
            "SELECT 1",
            "select 1;",
            "WITH x AS (SELECT 1) SELECT * FROM x",
            "VALUES (1)",
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE SELECT 1",
            "SHOW TABLES",
            "DESCRIBE cpu",
        ] {
            assert!(parse(sql).is_ok(), "{sql}");
        }
    }

    #[test]
    fn everything_else_does_not() {
        for sql in [
            "DROP TABLE cpu",
            "DELETE FROM cpu",
            "UPDATE cpu SET pid = 1",
            "INSERT INTO cpu VALUES (1)",
            "COPY cpu TO 'x'",
            "CREATE TABLE x (a INT)",
            "CREATE VIEW x AS SELECT 1",
            "SET x = 1",
            "BEGIN",
            "PREPARE p AS SELECT 1",
            "EXPLAIN ANALYZE INSERT INTO cpu VALUES (1)",
        ] {
            assert!(matches!(parse(sql), Err(QueryError::NotReadOnly { .. } | QueryError::Syntax { .. })), "{sql}");
        }
        for (sql, statements) in [("", 0), ("SELECT 1; SELECT 2", 2)] {
            assert!(matches!(parse(sql), Err(QueryError::NotOne { found }) if found == statements), "{sql}");
        }
    }
}
