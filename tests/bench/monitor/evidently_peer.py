"""evidently_peer.py FOLDER ROWS: Evidently's DataDriftPreset, as it comes, on the first ROWS rows of both files."""

import sys

import pyarrow.parquet as pq
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

folder, rows = sys.argv[1], int(sys.argv[2])
reference, current = (
    pq.read_table(f"{folder}/{name}.parquet").slice(0, rows).to_pandas() for name in ["ref", "cur"]
)
numbers = [name for name in reference if reference[name].dtype.kind == "f"]
texts = [name for name in reference if name not in numbers]
definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
old, new = (Dataset.from_pandas(rows, definition) for rows in [reference, current])
Report([DataDriftPreset()]).run(new, old).dict()
