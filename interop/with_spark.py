"""skep's history in Spark: python with_spark.py /var/lib/skep/history"""

import sys

from deltalake import DeltaTable
from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as f

import asked

READS_FOLDERS = True

spark = (
    SparkSession.builder.master("local[*]")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.shuffle.partitions", "4")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .getOrCreate()
)


def table(history, name, files):
    folder = f"{history}/{name}"
    if files:
        return spark.read.parquet(folder)
    # With the Delta jars on its class path Spark reads the log itself: spark.read.format("delta").load(folder).
    return spark.read.option("basePath", folder).parquet(*DeltaTable(folder).file_uris())


def during(table, date, hour):
    return table.where((f.col("date") == date) & (f.col("hour") == hour))


def rows(table):
    return table.count()


def total(table, column):
    return table.agg(f.sum(column)).first()[0]


def quantile(table, histogram, by, q):
    buckets = table.select(*by, f.inline(histogram))
    merged = buckets.groupBy(*by, "value_ns").agg(f.sum("count").alias("n"))
    group = Window.partitionBy(*by)
    up_to, n = f.sum("n").over(group.orderBy("value_ns")), f.sum("n").over(group)
    ranked = merged.select(*by, "value_ns", up_to.alias("up_to"), n.alias("n"))
    found = ranked.where(f.col("up_to") >= f.ceil(q * f.col("n"))).groupBy(*by).agg(f.min("value_ns"))
    return [tuple(row) for row in found.collect()]


if __name__ == "__main__":
    asked.main(sys.modules[__name__])
