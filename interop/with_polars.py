"""skep's history in Polars: python with_polars.py /var/lib/skep/history"""

import sys

import polars as pl

import asked

READS_FOLDERS = True


def table(history, name, files):
    if files:
        return pl.scan_parquet(f"{history}/{name}/date=*/hour=*/*.parquet", hive_partitioning=True)
    return pl.scan_delta(f"{history}/{name}")


def during(table, date, hour):
    return table.filter(pl.col("date").cast(pl.String) == date, pl.col("hour") == hour)


def rows(table):
    return table.select(pl.len()).collect().item()


def total(table, column):
    return table.select(pl.col(column).sum()).collect().item()


def quantile(table, histogram, by, q):
    buckets = table.select(*by, histogram).explode(histogram).drop_nulls(histogram).unnest(histogram)
    merged = buckets.group_by(*by, "value_ns").agg(pl.col("count").sum()).sort("value_ns")
    up_to, n = pl.col("count").cum_sum().over(by), pl.col("count").sum().over(by)
    return merged.filter(up_to >= (q * n).ceil()).group_by(by).agg(pl.col("value_ns").min()).collect().rows()


if __name__ == "__main__":
    asked.main(sys.modules[__name__])
