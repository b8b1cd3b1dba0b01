"""nannyml_peer.py FOLDER ROWS: NannyML's univariate drift with three methods a kind of column, in ten chunks."""

import os
import sys

import pyarrow.parquet as pq

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
import nannyml

folder, rows = sys.argv[1], int(sys.argv[2])
reference, current = (
    pq.read_table(f"{folder}/{name}.parquet").slice(0, rows).to_pandas() for name in ["ref", "cur"]
)
for name in [name for name in reference if reference[name].dtype.kind != "f"]:
    reference[name], current[name] = reference[name].astype("object"), current[name].astype("object")
calculator = nannyml.UnivariateDriftCalculator(
    column_names=list(reference.columns),
    chunk_size=max(rows // 10, 1),
    continuous_methods=["kolmogorov_smirnov", "jensen_shannon", "wasserstein"],
    categorical_methods=["chi2", "jensen_shannon", "l_infinity"],
)
calculator.fit(reference)
calculator.calculate(current)
