"""What the learned history of an aircraft is worth on real flights: models of table, of history and of both, three seeds each.

    flights.py FORETIME [--seeds 3] [--quick] [--json] [--keep FOLDER]

Starts `foretime up` in a throw-away folder with the flights example, two hours ahead, and trains, for each seed:

- `table`, `history`, `both`: a cross network over the columns, a GPT over the aircraft's latest flights, and their joint fusion, with
  the example's hand-made aircraft features;
- `bare`, `bare, age` and `bare, history`: boosting without any of those features, with the time since the aircraft's latest flight, and
  with what a frozen GPT makes of its latest flights, that time among it; `trees`: with all of those features. Small steps, since
  trees of large ones differ more from seed to seed than by what is asked here.

All are judged on the same flights of November and December. A difference is the mean over seeds; its interval is of a paired
bootstrap over days, the same days for every model. Needs numpy and pyarrow. Hours on two slow cores, where a GPT takes
seventeen minutes: with `--keep`, what a model said stays in a folder, and a later run by the same program goes on from there.
`--quick` takes models too small to say anything, to see that it runs.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow as pa

HERE = pathlib.Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "serving"))
from serving import Foretime  # noqa: E402

EXAMPLE = HERE.parents[3] / "examples" / "flights"
SOURCES = ["schedule", "departures", "departed_plans", "arrivals", "planes", "weather", "outcomes"]
REPLICATES, DAY = 1000, 86_400_000_000
TREES = {"learning_rate": 0.04, "iterations": 1200, "early_stopping_rounds": 60}
KINDS = {
    "table": ("late_2h", "dcn", {}, {}),
    "history": (
        "late_2h", "gpt-classifier",
        {"classifier": {"lora": {"rank": 8}}},
        {"pretrain_rows": 2000, "pretrain": {"max_steps": 5}, "classifier": {"rounds": 1, "rows_per_round": 512}},
    ),
    "both": (
        "late_2h", "joint-fusion",
        {"fusion": {"keep_joint": True}},
        {"pretrain_rows": 2000, "pretrain": {"max_steps": 5},
         "fusion": {"keep_joint": True, "tabular_rows": 4000, "tabular_rounds": 1, "joint_rows": 1000, "joint_rounds": 1}},
    ),
    "bare": ("bare_2h", "boosting", TREES, {"iterations": 20}),
    "bare, age": ("age_2h", "boosting", TREES, {"iterations": 20}),
    "bare, history": (
        "bare_2h", "late-fusion", {"head": "boosting", "boosting": TREES},
        {"head": "boosting", "pretrain_rows": 2000, "pretrain": {"max_steps": 5}, "boosting": {"iterations": 20}},
    ),
    "trees": ("late_2h", "boosting", TREES, {"iterations": 20}),
}


def toml(value):
    """An inline value."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {toml(inner)}" for name, inner in value.items()) + " }"
    return json.dumps(value)


def bare(datasets):
    """The dataset of the example without what people made of an aircraft's flights."""
    one = datasets.split("[[dataset]]")[1].replace('"late_2h"', '"bare_2h"')
    own = re.compile(r"\baircraft_(?!_)")  # `aircraft__built` is the airframe's, not its flights'
    kept = (line for line in one.splitlines() if not own.search(line) or line.startswith("history"))
    return "[[dataset]]" + "\n".join(kept) + "\n"


AGE = """
[[feature_view]]
name = "aircraft_age"
entity = "aircraft"
source = "arrivals"
windows = [{ aggregates = ["age"], over = ["60d"] }]
"""


def aged(dataset):
    """The same dataset with the time since the aircraft's latest flight, from as far back as its history reaches."""
    if '"bare_2h"' not in dataset or "views = [" not in dataset:
        sys.exit("the example's dataset is written otherwise: the one with the age would be the same without it")
    return AGE + dataset.replace('"bare_2h"', '"age_2h"').replace("views = [", 'views = [\n    "aircraft_age",')


def definitions(seeds, quick):
    files = {path.name: path.read_text() for path in sorted((EXAMPLE / "definitions").glob("*.toml"))}
    files.pop("models.toml")
    files.pop("monitoring.toml")
    files["bare.toml"] = bare(files["datasets.toml"])
    files["aged.toml"] = aged(files["bare.toml"])
    models = []
    for name, (dataset, kind, recipe, small) in KINDS.items():
        for seed in seeds:
            models.append(
                f'[[model]]\nname = "{identifier(name, seed)}"\nregistered_model = "{identifier(name, seed)}"\n'
                f'kind = "{kind}"\ndataset = "{dataset}"\ncalibrator = "temperature"\nseed = {seed}\n'
                f"recipe = {toml(small if quick else recipe)}\n"
            )
    return files | {"models.toml": "\n".join(models)}


def identifier(name, seed):
    return f"{name.replace(', ', '_')}_{seed}"


def judged(folder, evaluation):
    """Days, outcomes and probabilities of the test flights, in an order of their own."""
    with pa.memory_map(str(pathlib.Path(folder) / evaluation["predictions_path"])) as file:
        table = pa.ipc.open_file(file).read_all()
    plain = lambda column: column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    table = pa.table({name: plain(table[name]) for name in table.column_names})
    keys = [name for name in table.column_names if name != "probability"]
    table = table.sort_by([(name, "ascending") for name in keys])
    cutoffs = table["cutoff"].cast(pa.int64()).to_numpy()
    return cutoffs // DAY, table["label"].to_numpy(zero_copy_only=False).astype(bool), table["probability"].to_numpy()


def auc(said, label, weight):
    """The area under the curve of rows that count `weight` times; ties count half."""
    order = np.argsort(said, kind="stable")
    said, label, weight = said[order], label[order], weight[order]
    _, first = np.unique(said, return_index=True)
    ups = np.add.reduceat(weight * label, first)
    downs = np.add.reduceat(weight * ~label, first)
    below = np.cumsum(downs) - downs
    return float((ups * (below + downs / 2)).sum() / (ups.sum() * downs.sum()))


class Judge:
    """Compares models on the same days."""

    def __init__(self, days):
        names, self.block = np.unique(days, return_inverse=True)
        draws = np.random.default_rng(1)
        counts = [np.bincount(draws.integers(0, len(names), len(names)), minlength=len(names)) for _ in range(REPLICATES)]
        self.weights = [np.ones(len(names), dtype=int)] + counts

    def aucs(self, said, label):
        """The AUC of the rows as they are, and of each draw of days."""
        return np.array([auc(said, label, counts[self.block]) for counts in self.weights])


def told(values):
    return {"auc": round(float(values[0]), 4), "low": round(float(np.quantile(values[1:], 0.025)), 4),
            "high": round(float(np.quantile(values[1:], 0.975)), 4)}


def main():
    asked = argparse.ArgumentParser()
    asked.add_argument("foretime")
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--quick", action="store_true")
    asked.add_argument("--json", action="store_true")
    asked.add_argument("--keep", type=pathlib.Path)
    asked = asked.parse_args()
    program, seeds = str(pathlib.Path(asked.foretime).resolve()), range(1, asked.seeds + 1)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)  # an unprivileged Postgres passes through
        kept = asked.keep or pathlib.Path(folder) / "said"
        kept.mkdir(parents=True, exist_ok=True)
        size = "_quick" if asked.quick else ""
        files = {(seed, name): kept / f"{identifier(name, seed)}{size}.npz" for seed in seeds for name in KINDS}
        missing = {of: file for of, file in files.items() if not file.exists()}
        if missing:
            train(program, folder, definitions(seeds, asked.quick), missing)
        report(files, asked.json)


def train(program, folder, files, missing):
    """Trains each model that is missing and keeps what it says of the test flights."""
    server, sets = Foretime(program, folder), {}
    try:
        server.ask("PUT", "/v1/definitions", {"files": files})
        for source in SOURCES:
            ingest(program, server, source)
        for (seed, name), file in missing.items():
            dataset = KINDS[name][0]
            if dataset not in sets:
                sets[dataset] = server.work("/v1/training-sets", {"dataset": dataset})["training_set"]
            answer = server.work("/v1/training-jobs", {"model": identifier(name, seed), "training_set": sets[dataset]})
            days, label, said = judged(folder, answer["evaluation"])
            part = file.with_suffix(".part.npz")
            np.savez(part, days=days, label=label, said=said)
            part.rename(file)
            whole = auc(said, label, np.ones(len(said), dtype=int))
            print(f"{name}, seed {seed}: AUC {whole:.4f} in {answer['seconds']:.0f} s", file=sys.stderr)
    finally:
        server.stop()


def ingest(program, server, source):
    listen = f"{server.address[0]}:{server.address[1]}"
    command = [program, "--listen", listen, "ingest", source, "--definitions", str(EXAMPLE / "definitions")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def report(files, as_json):
    judge, of_kind = None, {name: [] for name in KINDS}
    for (_, name), file in files.items():
        one = np.load(file)
        judge = judge or Judge(one["days"])
        of_kind[name].append(judge.aucs(one["said"], one["label"]))
    found = {name: np.mean(values, axis=0) for name, values in of_kind.items()}
    best = np.maximum(found["table"], found["history"])
    rows = len(one["label"])
    rows_of = {
        **{name: told(values) for name, values in found.items()},
        "both − max(table, history)": told(found["both"] - best),
        "bare, age − bare": told(found["bare, age"] - found["bare"]),
        "bare, history − bare": told(found["bare, history"] - found["bare"]),
        "bare, history − bare, age": told(found["bare, history"] - found["bare, age"]),
        "trees − bare": told(found["trees"] - found["bare"]),
    }
    if as_json:
        print(json.dumps({"flights": rows, **rows_of}, ensure_ascii=False))
        return
    print(f"| {rows} flights | AUC | 95 % |\n|---|---|---|")
    for name, row in rows_of.items():
        print(f"| {name} | {row['auc']:+.4f} | {row['low']:+.4f} to {row['high']:+.4f} |")


main()
