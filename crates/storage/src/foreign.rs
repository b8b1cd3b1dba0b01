//! SQL over databases that are not ours: the result of a definition's query, read once and by and by.
//!
//! The query runs in a read-only transaction, as the innermost part of one prepared statement, so it can neither write nor be
//! more than one statement. Rows leave as JSON texts, which keep integers and decimals exact.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::Error;

/// A query whose result is being read.
#[derive(Debug)]
pub struct Reading {
    conn: PgConnection,
    connection: String,
    fetch: String,
}

impl Reading {
    /// Asks the database at `url` for `columns` of the result of `sql`, up to `at_once` rows at a time, those marked as texts.
    /// `connection` is what errors call the database.
    ///
    /// # Errors
    /// [`Error::Foreign`] if it cannot be reached or refuses the query.
    pub async fn begin(
        connection: &str,
        url: &str,
        sql: &str,
        columns: &[(&str, bool)],
        at_once: usize,
    ) -> Result<Self, Error> {
        let refused = |cause: sqlx::Error| Error::foreign(connection, &cause);
        let mut conn = PgConnection::connect(url).await.map_err(refused)?;
        conn.execute("begin transaction isolation level repeatable read read only").await.map_err(refused)?;
        conn.execute("set local timezone = 'UTC'").await.map_err(refused)?;
        let declare = format!("declare foreign_rows no scroll cursor for {}", statement(sql, columns));
        sqlx::query(AssertSqlSafe(declare)).execute(&mut conn).await.map_err(refused)?;
        let fetch = format!("fetch forward {at_once} from foreign_rows");
        Ok(Self { conn, connection: connection.to_owned(), fetch })
    }

    /// The next rows, each as a JSON object; none at the end.
    ///
    /// # Errors
    /// [`Error::Foreign`].
    pub async fn next(&mut self) -> Result<Vec<String>, Error> {
        let rows = sqlx::query_scalar(AssertSqlSafe(self.fetch.clone())).fetch_all(&mut self.conn).await;
        rows.map_err(|cause| Error::foreign(&self.connection, &cause))
    }
}

fn statement(sql: &str, columns: &[(&str, bool)]) -> String {
    let column = |(name, text): &(&str, bool)| {
        let name = format!("\"{}\"", name.replace('"', "\"\""));
        if *text { format!("{name}::text as {name}") } else { name }
    };
    let quoted: Vec<String> = columns.iter().map(column).collect();
    // the line breaks end a comment that the query may end with
    format!("select row_to_json(r)::text from (select {} from (\n{sql}\n) as q) as r", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_quoted_whatever_it_is_called() {
        let statement = statement("select 1 -- one", &[("a", false), ("b\"c", true)]);
        assert_eq!(
            statement,
            "select row_to_json(r)::text from (select \"a\", \"b\"\"c\"::text as \"b\"\"c\" from (\nselect 1 -- one\n) as q) as r"
        );
    }
}
