"""One engine asked one statement, over and over: ENGINE SQL TIMES. Prints CPU of this process, time, and the rows."""

import json
import sys
import time

engine, sql, times = sys.argv[1], sys.argv[2], int(sys.argv[3])

if engine == "duckdb":
    import duckdb

    connection = duckdb.connect()
    version = duckdb.__version__

    def ask():
        return [list(row) for row in connection.execute(sql).fetchall()]

elif engine == "chdb":
    import chdb

    connection = chdb.connect(":memory:")
    version = chdb.chdb_version if isinstance(chdb.chdb_version, str) else ".".join(map(str, chdb.chdb_version))

    def ask():
        lines = str(connection.query(sql, "JSONCompactEachRow")).splitlines()
        return [json.loads(line) for line in lines if line]

else:
    sys.exit(f"no engine {engine}")

rows = ask()
cpu_ms, wall_ms = [], []
for _ in range(times):
    time.sleep(0.005)
    cpu, start = time.process_time(), time.monotonic()
    ask()
    wall_ms.append((time.monotonic() - start) * 1e3)
    time.sleep(0.005)
    cpu_ms.append((time.process_time() - cpu) * 1e3)
json.dump({"version": version, "cpu_ms": cpu_ms, "wall_ms": wall_ms, "rows": rows}, sys.stdout)
