"""skep's history in DuckDB: python with_duckdb.py /var/lib/skep/history"""

import pathlib
import sys

import duckdb
import duckdb_extension_delta

import asked

READS_FOLDERS = True

db = duckdb.connect()
# With a network `INSTALL delta; LOAD delta` does; this is the same extension from PyPI.
extensions = pathlib.Path(duckdb_extension_delta.__file__).parent / "extensions"
db.execute(f"LOAD '{next(extensions.glob('**/delta.duckdb_extension'))}'")


def table(history, name, files):
    if files:
        return f"read_parquet('{history}/{name}/date=*/hour=*/*.parquet', hive_partitioning = true)"
    return f"delta_scan('{history}/{name}')"


def during(table, date, hour):
    return f"(SELECT * FROM {table} WHERE date = '{date}' AND hour = {hour})"


def rows(table):
    return db.sql(f"SELECT count(*) FROM {table}").fetchone()[0]


def total(table, column):
    return db.sql(f"SELECT sum({column}) FROM {table}").fetchone()[0]


def quantile(table, histogram, by, q):
    by = ", ".join(by)
    return db.sql(f"""
        WITH buckets AS (SELECT {by}, unnest({histogram}) AS bucket FROM {table}),
        merged AS (SELECT {by}, bucket.value_ns, sum(bucket.count) AS n FROM buckets GROUP BY ALL),
        ranked AS (
            SELECT {by}, value_ns,
                   sum(n) OVER (PARTITION BY {by} ORDER BY value_ns) AS up_to,
                   sum(n) OVER (PARTITION BY {by}) AS n
            FROM merged
        )
        SELECT {by}, min(value_ns) FROM ranked WHERE up_to >= ceil({q}::DOUBLE * n) GROUP BY ALL
    """).fetchall()


if __name__ == "__main__":
    asked.main(sys.modules[__name__])
