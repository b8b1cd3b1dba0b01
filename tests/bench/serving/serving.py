"""Predictions of a GPT over event histories of 512 tokens, one at a time and by 16 clients at once, in batches and alone.

    serving.py FORETIME [--seconds 10] [--json]

Starts `foretime up` in a throw-away folder, pushes 600 visitors with 170 synthetic events of three tokens each, trains a
gpt-classifier of 4 blocks of 128 numbers for a moment, makes it champion, and asks `/v1/predict` by visitor: the history is
fetched online, tokenised and read. Then it starts again with `worker.batching.rows = 1`, so that every request is answered
alone. Needs nothing but Python.
"""

import argparse
import datetime
import http.client
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

VISITORS, EVENTS, CLIENTS = 600, 170, 16
DEFINITIONS = """
[[entity]]
name = "visitor"
keys = ["visitor"]

[[source]]
name = "clicks"
event_time = "at"
known_time = "at"
columns = { visitor = "integer", at = "time", a = "text", b = "text", c = "text" }

[[source]]
name = "visits"
event_time = "at"
known_time = "known"
columns = { visitor = "integer", at = "time", known = "time", x = "number", bought = "number" }

[[feature_view]]
name = "clicked"
entity = "visitor"
source = "clicks"
last_k = { count = 170, over = "30d", columns = ["a", "b", "c"] }

[[feature_view]]
name = "visited"
entity = "visitor"
source = "visits"
log = ["x", "bought"]

[[event_stream]]
name = "clicks"
view = "clicked"
fields = [
    { name = "a", kind = "category", max_levels = 300 },
    { name = "b", kind = "category", max_levels = 300 },
    { name = "c", kind = "category", max_levels = 300 },
]

[[dataset]]
name = "visits"
spine = { view = "visited" }
horizon = "1s"
label = "bought > 0"
history = "clicks"
split = { train_until = "TRAIN", validation_until = "VALIDATION" }
[dataset.features]
x = "x"

[[model]]
name = "reader"
registered_model = "reader"
kind = "gpt-classifier"
dataset = "visits"
calibrator = "identity"
[model.recipe]
gpt = { context = 512, width = 128, layers = 4, heads = 4 }
pretrain = { batch = 8, max_steps = 2 }
classifier = { batch = 8, rounds = 1, rows_per_round = 16 }
"""
BEGIN = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) - datetime.timedelta(days=2)


def moment(minutes, seconds=0):
    return (BEGIN + datetime.timedelta(minutes=minutes, seconds=seconds)).isoformat()


class Foretime:
    """A Foretime over a folder, until it is stopped."""

    def __init__(self, program, folder, **settings):
        environment = {**os.environ, **settings}
        self.process = subprocess.Popen(
            [program, "--data-dir", folder, "--listen", "127.0.0.1:0", "up"],
            env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        line = self.process.stdout.readline()
        found = re.search(r"http://([\d.]+):(\d+)", line)
        if not found:
            sys.exit(f"foretime did not start: {line}")
        self.address = (found[1], int(found[2]))

    def connect(self):
        return http.client.HTTPConnection(*self.address, timeout=600)

    def ask(self, method, path, body=None, connection=None):
        connection = connection or self.connect()
        text = json.dumps(body) if body is not None else None
        connection.request(method, path, text, {"content-type": "application/json"})
        answer = connection.getresponse()
        read = answer.read()
        if answer.status >= 300:
            sys.exit(f"{method} {path}: {answer.status} {read[:500]}")
        return json.loads(read)

    def work(self, path, body):
        job = self.ask("POST", path, body)["job"]
        while True:
            row = self.ask("GET", f"/v1/jobs/{job}")
            if row["state"] == "succeeded":
                return row["outcome"]
            if row["state"] in ("dead", "cancelled"):
                sys.exit(f"{path}: {row}")
            time.sleep(0.2)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def fill(server):
    generator = random.Random(7)
    definitions = DEFINITIONS.replace("TRAIN", moment(VISITORS * 0.6)).replace("VALIDATION", moment(VISITORS * 0.8))
    server.ask("PUT", "/v1/definitions", {"files": {"bench.toml": definitions}})
    for first in range(0, VISITORS, 60):
        rows = []
        for visitor in range(first, min(first + 60, VISITORS)):
            for event in range(EVENTS):
                row = {"visitor": visitor, "at": moment(visitor, event - EVENTS - 5)}
                rows.append(row | {field: f"{field}{generator.randrange(300)}" for field in "abc"})
        server.ask("POST", "/v1/sources/clicks/rows", {"rows": rows})
    visits = [
        {"visitor": visitor, "at": moment(visitor), "known": moment(visitor, 10), "x": generator.random(),
         "bought": generator.randrange(2)}
        for visitor in range(VISITORS)
    ]
    server.ask("POST", "/v1/sources/visits/rows", {"rows": visits})


def train(server):
    dataset = server.work("/v1/training-sets", {"dataset": "visits"})
    trained = server.work("/v1/training-jobs", {"model": "reader", "training_set": dataset["training_set"]})
    api = "/api/2.0/mlflow"
    server.ask("POST", f"{api}/registered-models/create", {"name": "reader"})
    version = {"name": "reader", "source": trained["source"], "run_id": trained["run_id"]}
    version = server.ask("POST", f"{api}/model-versions/create", version)["model_version"]["version"]
    server.ask("POST", f"{api}/registered-models/alias", {"name": "reader", "alias": "champion", "version": version})


def predict(server, connection, visitor):
    row = {"visitor": visitor, "event_time": moment(visitor), "x": 0.5}
    began = time.perf_counter()
    answer = server.ask("POST", "/v1/predict", {"model": "reader", "rows": [row]}, connection)
    status = answer["predictions"][0]["statuses"]["clicked"]
    if status != "PRESENT":
        sys.exit(f"the history of {visitor} is {status}")
    return time.perf_counter() - began


def quantile(values, share):
    return sorted(values)[int(share * (len(values) - 1))]


def alone(server, seconds):
    """Latencies of one client, warm."""
    connection = server.connect()
    for visitor in range(20):
        predict(server, connection, visitor)
    until, taken = time.monotonic() + seconds, []
    while time.monotonic() < until:
        taken.append(predict(server, connection, len(taken) % VISITORS))
    return taken


def together(server, seconds):
    """Requests a second of many clients, and their latencies."""
    taken, until = [], time.monotonic() + seconds

    def ask(client):
        connection, own = server.connect(), []
        while time.monotonic() < until:
            own.append(predict(server, connection, (client * 37 + len(own)) % VISITORS))
        taken.extend(own)

    began = time.monotonic()
    clients = [threading.Thread(target=ask, args=(client,)) for client in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return len(taken) / (time.monotonic() - began), taken


def mean_batch(server):
    connection = server.connect()
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    value = lambda kind: float(re.search(rf"foretime_predict_batch_rows_{kind}\S* (\S+)", text)[1])
    return value("sum") / value("count")


def main():
    asked = argparse.ArgumentParser()
    asked.add_argument("foretime")
    asked.add_argument("--seconds", type=float, default=10)
    asked.add_argument("--json", action="store_true")
    asked = asked.parse_args()
    program, found = str(pathlib.Path(asked.foretime).resolve()), {}
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)  # an unprivileged Postgres passes through
        server = Foretime(program, folder)
        try:
            fill(server)
            train(server)
            one = alone(server, asked.seconds)
            found["one client: p50 ms"] = round(1e3 * quantile(one, 0.5), 2)
            found["one client: p99 ms"] = round(1e3 * quantile(one, 0.99), 2)
            rate, taken = together(server, asked.seconds)
            found["16 clients, batched: requests/s"] = round(rate, 1)
            found["16 clients, batched: p50 ms"] = round(1e3 * quantile(taken, 0.5), 2)
            found["rows a pass, all so far"] = round(mean_batch(server), 2)
        finally:
            server.stop()
        server = Foretime(program, folder, FORETIME_WORKER__BATCHING__ROWS="1")
        try:
            alone(server, 1)
            rate, taken = together(server, asked.seconds)
            found["16 clients, one a pass: requests/s"] = round(rate, 1)
            found["16 clients, one a pass: p50 ms"] = round(1e3 * quantile(taken, 0.5), 2)
        finally:
            server.stop()
    ratio = found["16 clients, batched: requests/s"] / found["16 clients, one a pass: requests/s"]
    found["batched over one a pass"] = round(ratio, 2)
    print(json.dumps(found) if asked.json else "\n".join(f"{name:<36} {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
