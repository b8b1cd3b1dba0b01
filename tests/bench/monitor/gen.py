"""gen.py FOLDER ROWS COLUMNS: writes ref.parquet and cur.parquet, always the same rows.

Of ten columns, four are normal, two log-normal, one Student's with 3 degrees, one of twelve whole numbers and two of texts with 5
to 2,000 levels by Zipf. Every fifth column of the current file has moved: by a tenth of a deviation, or 5 % of the rows to the first
level. One in ten columns misses 1 % of its values.
"""

import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FOLDER, ROWS, COLUMNS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
LEVELS = [5, 50, 500, 2_000]


def texts(place, moved, random):
    levels = LEVELS[(place // 10) % len(LEVELS)]
    shares = 1 / np.arange(1, levels + 1)
    shares /= shares.sum()
    if moved:
        shares *= 0.95
        shares[0] += 0.05
    names = pa.array([f"lvl{level:04d}" for level in range(levels)])
    codes = pa.array(random.choice(levels, ROWS, p=shares).astype("i4"))
    return pa.DictionaryArray.from_arrays(codes, names).cast(pa.string())


def column(place, side):
    random = np.random.default_rng([20261124, place, side])
    moved = side == 1 and place % 5 == 0
    kind = place % 10
    if kind >= 8:
        return texts(place, moved, random)
    if kind == 7:
        values = random.integers(0, 12, ROWS).astype("f8")
    elif kind == 6:
        values = random.standard_t(3, ROWS)
    else:
        values = random.standard_normal(ROWS) + (0.1 if moved else 0)
        values = np.exp(values) if kind >= 4 else values
    return pa.array(values, mask=random.random(ROWS) < 0.01 if kind == 3 else None)


os.makedirs(FOLDER, exist_ok=True)
for side, name in enumerate(["ref", "cur"]):
    table = pa.table({f"c{place:02d}": column(place, side) for place in range(COLUMNS)})
    pq.write_table(table, f"{FOLDER}/{name}.parquet.new", compression="zstd", row_group_size=131_072)
    os.rename(f"{FOLDER}/{name}.parquet.new", f"{FOLDER}/{name}.parquet")
