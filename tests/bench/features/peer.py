"""One join by a peer: peer.py duckdb|polars FOLDER VIEWS OUT

The same question as ours: the latest row by (event_timestamp, created_timestamp) up to the label, not older than 7 days (365
for the static view). DuckDB's as-of join takes any of several rows of one moment, so the newest of each is chosen first;
polars takes the last of sorted rows.
"""

import sys
from datetime import timedelta

VIEWS = [("hourly", "f", 7), ("daily", "g", 7), ("static", "h", 365)]


def duckdb(folder, views, out):
    import duckdb

    connection = duckdb.connect()
    connection.execute("set threads = 2; set timezone = 'UTC'")
    columns, joins = ["l.*"], []
    for number, (view, prefix, days) in enumerate(views):
        columns += [
            f"case when v{number}.event_timestamp >= l.event_timestamp - interval {days} day then {prefix}{k} end as {prefix}{k}"
            for k in range(10)
        ]
        joins.append(f"""
            asof left join (
                select * from '{folder}/{view}.parquet' qualify row_number() over (
                    partition by entity_id, event_timestamp order by created_timestamp desc) = 1
            ) v{number} on l.entity_id = v{number}.entity_id and l.event_timestamp >= v{number}.event_timestamp""")
    query = f"select {', '.join(columns)} from '{folder}/labels.parquet' l {' '.join(joins)}"
    connection.execute(f"copy ({query}) to '{out}' (format parquet)")


def polars(folder, views, out):
    import polars as pl

    joined = pl.scan_parquet(f"{folder}/labels.parquet").sort("event_timestamp")
    for view, _, days in views:
        rows = pl.scan_parquet(f"{folder}/{view}.parquet").sort(["event_timestamp", "created_timestamp"])
        joined = joined.join_asof(
            rows.drop("created_timestamp"), on="event_timestamp", by="entity_id", strategy="backward",
            tolerance=timedelta(days=days), check_sortedness=False,
        )
    joined.collect().write_parquet(out)


engine, folder, count, out = sys.argv[1:5]
{"duckdb": duckdb, "polars": polars}[engine](folder, VIEWS[: int(count)], out)
