"""lightgbm_peer.py FOLDER: what Python's LightGBM makes of the rows in FOLDER/rows.json, with the parameters there.

Trains with early stopping on the later rows and writes raw scores of all rows to FOLDER/scores, 64-bit floats as they lie in
memory, and reads FOLDER/model.txt, written from Rust, for FOLDER/scores_of_text.
"""

import json
import pathlib
import sys

import lightgbm
import numpy as np

folder = pathlib.Path(sys.argv[1])
told = json.loads((folder / "rows.json").read_text())
rows = np.array([[np.nan if x is None else x for x in row] for row in told["rows"]], dtype=np.float64)
labels, weights, later = (np.array(told[name]) for name in ("labels", "weights", "later"))
parameters = dict(part.split("=", 1) for part in told["parameters"].split())
categories = [int(x) for x in parameters.pop("categorical_feature").split(",")]
train = lightgbm.Dataset(rows[~later], labels[~later], weight=weights[~later], categorical_feature=categories, params=parameters)
judge = lightgbm.Dataset(rows[later], labels[later], weight=weights[later], reference=train)
stop = lightgbm.early_stopping(told["patience"], verbose=False)
booster = lightgbm.train(parameters, train, told["iterations"], valid_sets=[judge], callbacks=[stop])
booster.predict(rows, raw_score=True).tofile(folder / "scores")
text = lightgbm.Booster(model_file=str(folder / "model.txt"))
text.predict(rows, raw_score=True).tofile(folder / "scores_of_text")
print(booster.best_iteration)
