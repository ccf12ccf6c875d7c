"""skep's history in PyArrow: python with_pyarrow.py /var/lib/skep/history"""

import itertools
import math
import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

import asked

READS_FOLDERS = True

FOLDERS = ds.partitioning(pa.schema([("date", pa.string()), ("hour", pa.int64())]), flavor="hive")


def table(history, name, files):
    source = f"{history}/{name}" if files else DeltaTable(f"{history}/{name}").file_uris()
    return ds.dataset(source, format="parquet", partitioning=FOLDERS, partition_base_dir=f"{history}/{name}")


def during(table, date, hour):
    return table.filter((pc.field("date") == date) & (pc.field("hour") == hour))


def rows(table):
    return table.count_rows()


def total(table, column):
    return pc.sum(table.to_table(columns=[column])[column]).as_py()


def quantile(table, histogram, by, q):
    whole = table.to_table(columns=[*by, histogram]).combine_chunks()
    lists = whole[histogram].combine_chunks()
    buckets = pc.list_flatten(lists)
    keys = whole.select(by).take(pc.list_parent_indices(lists))
    keys = keys.append_column("value_ns", pc.struct_field(buckets, "value_ns"))
    keys = keys.append_column("count", pc.struct_field(buckets, "count"))
    merged = keys.group_by([*by, "value_ns"]).aggregate([("count", "sum")])
    merged = merged.sort_by([(column, "ascending") for column in [*by, "value_ns"]])
    found = []
    for group, buckets in itertools.groupby(merged.to_pylist(), lambda bucket: [bucket[column] for column in by]):
        buckets = list(buckets)
        up_to = itertools.accumulate(bucket["count_sum"] for bucket in buckets)
        rank = math.ceil(q * sum(bucket["count_sum"] for bucket in buckets))
        found.append([*group, next(b["value_ns"] for b, passed in zip(buckets, up_to) if passed >= rank)])
    return found


if __name__ == "__main__":
    asked.main(sys.modules[__name__])
