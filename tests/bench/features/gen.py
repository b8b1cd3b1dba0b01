"""Writes the data of the point-in-time benchmark: gen.py FOLDER LABELS ROWS ENTITIES

labels.parquet   entity_id, event_timestamp, label; in no order, 1 % of the entities unknown
hourly.parquet   ROWS rows of 30 days: entity_id, event_timestamp, created_timestamp, f0…f9
daily.parquet    ROWS / 5 rows on whole days: … g0…g9
static.parquet   1.1 rows an entity: … h0…h9

Of ten features eight are numbers, one is an integer, one a text of a hundred levels; 5 % are null. A row is learned up to six
hours after it happened, and 1 % of rows have the key and moment of the row before. Seeded, so that runs can be compared.
"""

import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

START = 1_767_225_600_000_000  # 2026-01-01 UTC, in microseconds
DAY, HOUR = 86_400_000_000, 3_600_000_000
TIME = pa.timestamp("us", tz="UTC")


def features(random, rows, prefix):
    levels = pa.array([f"cat_{level:03d}" for level in range(100)])
    columns = {}
    for number in range(10):
        null = random.random(rows, dtype=np.float32) < 0.05
        if number < 8:
            column = pa.array(random.standard_normal(rows), mask=null)
        elif number == 8:
            column = pa.array(random.integers(0, 1_000_000, rows), mask=null)
        else:
            column = levels.take(pa.array(random.integers(0, 100, rows).astype(np.int32), mask=null))
        columns[f"{prefix}{number}"] = column
    return columns


def view(path, random, entities, step, prefix):
    rows = len(entities)
    happened = START + random.integers(0, 30 * DAY, rows) // step * step
    again = np.nonzero(random.random(rows) < 0.01)[0]
    again = again[again > 0]
    entities[again], happened[again] = entities[again - 1], happened[again - 1]
    learned = happened + random.integers(0, 6 * HOUR, rows)
    table = pa.table({
        "entity_id": pa.array(entities, pa.int64()),
        "event_timestamp": pa.array(happened, TIME),
        "created_timestamp": pa.array(learned, TIME),
        **features(random, rows, prefix),
    })
    pq.write_table(table, path, row_group_size=1_000_000, compression="snappy")


def main(folder, labels, rows, entities):
    os.makedirs(folder, exist_ok=True)
    random = np.random.default_rng(7)
    pq.write_table(
        pa.table({
            "entity_id": pa.array(random.integers(0, entities + entities // 100, labels), pa.int64()),
            "event_timestamp": pa.array(START + random.integers(0, 31 * DAY, labels), TIME),
            "label": pa.array((random.random(labels) < 0.02).astype(np.int64)),
        }),
        f"{folder}/labels.parquet",
    )
    view(f"{folder}/hourly.parquet", random, random.integers(0, entities, rows), 1, "f")
    view(f"{folder}/daily.parquet", random, random.integers(0, entities, rows // 5), DAY, "g")
    twice = random.integers(0, entities, entities // 10)
    view(f"{folder}/static.parquet", random, np.concatenate([np.arange(entities), twice]), DAY, "h")


main(sys.argv[1], *map(int, sys.argv[2:5]))
