"""skep's history in pandas: python with_pandas.py /var/lib/skep/history"""

import datetime
import math
import sys

import pandas as pd
from deltalake import DeltaTable

import asked

READS_FOLDERS = True


def table(history, name, files):
    """Reads the columns it is then asked for; whole tables are large."""

    def read(columns, date=None, hour=None):
        path = f"{history}/{name}"
        if files:
            filters = date and [("date", "==", date), ("hour", "==", hour)]
            return pd.read_parquet(path, columns=columns, filters=filters, dtype_backend="pyarrow")
        filters = date and [("date", "==", datetime.date.fromisoformat(date)), ("hour", "==", hour)]
        return DeltaTable(path).to_pandas(columns=columns, filters=filters, types_mapper=pd.ArrowDtype)

    return read


def during(table, date, hour):
    return lambda columns: table(columns, date, hour)


def rows(table):
    return len(table(["time"]))


def total(table, column):
    return table([column])[column].sum()


def quantile(table, histogram, by, q):
    frame = table([*by, histogram])
    buckets = frame[histogram].list.flatten().struct.explode()
    merged = frame[by].join(buckets, how="inner").groupby([*by, "value_ns"])["count"].sum()

    def value_of_rank(counts):
        return counts.index[counts.cumsum() >= math.ceil(q * counts.sum())][0][-1]

    quantiles = merged.groupby(by).apply(value_of_rank)
    return quantiles.reset_index().values.tolist()


if __name__ == "__main__":
    asked.main(sys.modules[__name__])
