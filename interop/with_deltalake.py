"""skep's history in delta-rs: python with_deltalake.py /var/lib/skep/history"""

import sys

from deltalake import DeltaTable, QueryBuilder

import asked

READS_FOLDERS = False


def table(history, name, files):
    """A DataFusion session of its own with the table in it, and what to select from."""
    return QueryBuilder().register(name, DeltaTable(f"{history}/{name}")), name


def during(table, date, hour):
    session, name = table
    return session, f"(SELECT * FROM {name} WHERE date = '{date}' AND hour = {hour})"


def rows(table):
    return select(table, "SELECT count(*) FROM {table}")[0][0]


def total(table, column):
    return select(table, f"SELECT sum({column}) FROM {{table}}")[0][0]


def quantile(table, histogram, by, q):
    by = ", ".join(by)
    return select(
        table,
        f"""
        WITH buckets AS (SELECT {by}, unnest({histogram}) AS bucket FROM {{table}}),
        merged AS (
            SELECT {by}, bucket['value_ns'] AS value_ns, sum(bucket['count']) AS n
            FROM buckets GROUP BY {by}, bucket['value_ns']
        ),
        ranked AS (
            SELECT {by}, value_ns,
                   sum(n) OVER (PARTITION BY {by} ORDER BY value_ns) AS up_to,
                   sum(n) OVER (PARTITION BY {by}) AS n
            FROM merged
        )
        SELECT {by}, min(value_ns) FROM ranked WHERE up_to >= ceil(CAST({q} AS DOUBLE) * n) GROUP BY {by}
        """,
    )


def select(table, sql):
    session, source = table
    answer = session.execute(sql.format(table=source)).read_all()
    return list(zip(*(answer.column(i).to_pylist() for i in range(answer.num_columns))))


if __name__ == "__main__":
    asked.main(sys.modules[__name__])
