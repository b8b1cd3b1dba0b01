"""Ours beside DuckDB and polars, one after the other: run.py FORETIME FOLDER [ROUNDS]

Prints a Markdown table of medians: CPU seconds and peak memory (VmHWM) of the whole process, wall seconds, rows out. Then
compares our rows with DuckDB's, all columns of all rows, and fails if one differs.
"""

import os
import statistics
import subprocess
import sys
import time

FORETIME, FOLDER = sys.argv[1:3]
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 3
HERE = os.path.dirname(os.path.abspath(__file__))
TIMES = "keys=entity_id,event_time=event_timestamp,known_time=created_timestamp"
VIEWS = [
    f"name=f,path={FOLDER}/hourly.parquet,{TIMES},max_age=7d",
    f"name=g,path={FOLDER}/daily.parquet,{TIMES},max_age=7d",
    f"name=h,path={FOLDER}/static.parquet,{TIMES},max_age=365d",
]
PARTS = "keys=entity_id,event_time=__event_time,known_time=__known_time,seq=__seq,op=__op"


def ours(views, out, as_of="off"):
    asked = [word for view in views for word in ("--view", view)]
    labels = ["--labels", f"{FOLDER}/labels.parquet", "--cutoff", "event_timestamp", "--as-of", as_of]
    return [FORETIME, "dataset", "join", *labels, *asked, "--out", out]


def peer(engine, views, out):
    return [sys.executable, f"{HERE}/peer.py", engine, FOLDER, str(views), out]


def measured(command):
    began = time.time()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"failed: {' '.join(command)}")
    return usage.ru_utime + usage.ru_stime, time.time() - began, usage.ru_maxrss / 1024


def different(left, right, views):
    import duckdb

    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'; set threads = 2")
    names = [f"{prefix}{k}" for prefix in "fgh"[:views] for k in range(10)]
    labels = "entity_id, event_timestamp, label"
    a = f"select {labels}, {', '.join(f'{name[0]}__{name} as {name}' for name in names)} from '{left}'"
    b = f"select {labels}, {', '.join(names)} from '{right}'"
    both = [f"select count(*) from ({x} except all {y})" for x, y in ((a, b), (b, a))]
    return sum(connection.execute(query).fetchone()[0] for query in both)


def rows(path):
    import pyarrow.parquet as pq

    return pq.read_metadata(path).num_rows


def main():
    out = lambda name: f"{FOLDER}/out_{name}.parquet"
    parts = f"name=f,path={FOLDER}/parts/*.parquet,{PARTS},max_age=7d"
    runs = [
        ("Foretime, foreign files", 1, out("ours1"), ours(VIEWS[:1], out("ours1"))),
        ("Foretime, as known then", 1, out("known1"), ours(VIEWS[:1], out("known1"), "cutoff")),
        ("DuckDB", 1, out("duckdb1"), peer("duckdb", 1, out("duckdb1"))),
        ("polars", 1, out("polars1"), peer("polars", 1, out("polars1"))),
        ("Foretime, foreign files", 3, out("ours3"), ours(VIEWS, out("ours3"))),
        ("DuckDB", 3, out("duckdb3"), peer("duckdb", 3, out("duckdb3"))),
        ("polars", 3, out("polars3"), peer("polars", 3, out("polars3"))),
    ]
    if os.path.isdir(f"{FOLDER}/parts"):
        runs.insert(1, ("Foretime, its own parts", 1, out("parts1"), ours([parts], out("parts1"))))
    figures = {index: [] for index in range(len(runs))}
    for _ in range(ROUNDS):
        for index, run in enumerate(runs):
            figures[index].append(measured(run[3]))
    print(f"medians of {ROUNDS} rounds\n")
    print("| engine | views | CPU s | wall s | peak MB | rows out |\n|---|---|---|---|---|---|")
    for index, (engine, views, path, _) in enumerate(runs):
        cpu, wall, peak = (statistics.median(values) for values in zip(*figures[index]))
        print(f"| {engine} | {views} | {cpu:.1f} | {wall:.1f} | {peak:.0f} | {rows(path):,} |")
    for ours_, views in (("ours1", 1), ("parts1", 1), ("ours3", 3)):
        if os.path.exists(out(ours_)):
            count = different(out(ours_), out(f"duckdb{views}"), views)
            print(f"\n{ours_}: {count} rows differ from DuckDB's")
            if count:
                sys.exit(1)


main()
