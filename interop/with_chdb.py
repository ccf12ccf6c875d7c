"""skep's history in ClickHouse, here as chdb: python with_chdb.py /var/lib/skep/history"""

import json
import os
import sys

import chdb

import asked

READS_FOLDERS = True


def table(history, name, files):
    if files:
        return f"file('{history}/{name}/date=*/hour=*/*.parquet', Parquet)"
    # It follows a Delta log only inside the working directory (a server: inside its `user_files_path`).
    os.chdir(history)
    return f"deltaLakeLocal('{history}/{name}')"


def during(table, date, hour):
    return f"(SELECT * FROM {table} WHERE date = '{date}' AND hour = {hour})"


def rows(table):
    return select(f"SELECT count() FROM {table}")[0][0]


def total(table, column):
    return select(f"SELECT sum({column}) FROM {table}")[0][0]


def quantile(table, histogram, by, q):
    by, values, counts = ", ".join(by), f"{histogram}.1", f"arrayMap(n -> toUInt64(n), {histogram}.2)"
    return select(f"""
        SELECT {by}, quantileExactWeightedArray({q})({values}, {counts})
        FROM {table} WHERE notEmpty({histogram}) GROUP BY {by}
    """)


def select(sql):
    answer = chdb.query(sql, "JSONCompact")
    return json.loads(answer.bytes())["data"]


if __name__ == "__main__":
    asked.main(sys.modules[__name__])
