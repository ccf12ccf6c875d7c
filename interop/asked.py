"""What every recipe beside this file is asked, so that their answers can be compared with each other and with skep's."""

import argparse
import json
import pathlib

TOTALS = [("cpu", "on_cpu_ns"), ("syscalls", "count"), ("syscalls", "errors"), ("loss", "lost")]
PROCESS = ["node", "pid", "start_ns", "comm"]


def answers(history, files, recipe):
    """What the recipe makes of the tables, read by their logs or, with `files`, by their folders."""

    def table(name):
        return recipe.table(history, name, files)

    date, hour = newest_hour(history)
    slowest = recipe.quantile(recipe.during(table("cpu"), date, hour), "run_queue_delay", PROCESS, 0.99)
    return {
        "rows": {name: int(recipe.rows(table(name))) for name in tables(history)},
        "totals": {f"{name}.{column}": int(recipe.total(table(name), column)) for name, column in TOTALS},
        "latency p99 by call": ordered(recipe.quantile(table("syscalls"), "latency", ["syscall"], 0.99)),
        "delay p99 by process, the hour's top 10": ordered(slowest)[:10],
    }


def ordered(rows):
    """Rows whose last column is a number, largest first; equal ones in the order of the others."""
    rows = [[int(cell) if not isinstance(cell, str) else cell for cell in row] for row in rows]
    return sorted(rows, key=lambda row: (-row[-1], row[:-1]))


def tables(history):
    return sorted(folder.parent.name for folder in pathlib.Path(history).glob("*/_delta_log"))


def newest_hour(history):
    """Date and hour of the newest rows of `cpu`."""
    newest = max(pathlib.Path(history).glob("cpu/date=*/hour=*"))
    return newest.parent.name.removeprefix("date="), int(newest.name.removeprefix("hour="))


def main(recipe):
    parser = argparse.ArgumentParser(description=recipe.__doc__)
    parser.add_argument("history", help="the folder `history` of a data folder", type=pathlib.Path)
    history = str(parser.parse_args().history.resolve())
    ways = ["log", "files"] if recipe.READS_FOLDERS else ["log"]
    by = {way: answers(history, way == "files", recipe) for way in ways}
    print(json.dumps({"hour": newest_hour(history), **by}))
