"""Online features under load: ours, and Feast's Python server beside it in the same run.

    online.py FORETIME [--seconds 15] [--feast]

Starts `foretime up` in a throw-away folder, fills two views (100,000 entities x 10 features, 10,000 x 50), and lets wrk ask
over 16 connections, as fast as it can and then at two fixed rates. Before that a loop that does nothing else says how long the machine
keeps a process waiting by itself, on each core: no latency can be told apart from that. From 20 seconds on, each ten are shown by themselves: a run of wrk
each, one right after the other. CPU is read from /proc before and after, for the server and for its Postgres apart, so that the
figures mean the same on a busy machine. Needs wrk, and a Python with pyarrow; --feast needs feast, psycopg and psycopg_pool in it.
"""

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import numpy
import pyarrow

HERE = pathlib.Path(__file__).parent
TICK = os.sysconf("SC_CLK_TCK")
SHAPES = [(1, 10, 100_000), (100, 50, 10_000)]
# Requests a second at which latency is looked at: what one core of a server is asked to answer at least.
ASKED = {1: 12_000, 100: 900}
# Seconds that are looked at apart from the others, to see whether rates and latencies stay where they are.
SLICE = 10
DEFINITIONS = """
[[entity]]
name = "entity"
keys = ["entity_id"]
"""


def definitions():
    text = DEFINITIONS
    for _, features, _ in SHAPES:
        columns = ", ".join(f'x{at} = "number"' for at in range(features))
        names = ", ".join(f'"x{at}"' for at in range(features))
        text += f"""
[[source]]
name = "s{features}"
columns = {{ entity_id = "integer", at = "time", {columns} }}
event_time = "at"
known_time = "at"

[[feature_view]]
name = "fv{features}"
entity = "entity"
source = "s{features}"
features = [{names}]
"""
    return text


def stream(first, rows, features, micros):
    """Rows of entities first, first + 1, ... as an Arrow IPC stream."""
    generator = numpy.random.default_rng(first + rows)
    columns = {
        "entity_id": pyarrow.array(numpy.arange(first, first + rows, dtype="int64")),
        "at": pyarrow.array(numpy.full(rows, micros, dtype="int64"), pyarrow.timestamp("us", "UTC")),
    }
    columns |= {f"x{at}": pyarrow.array(generator.random(rows)) for at in range(features)}
    batch = pyarrow.RecordBatch.from_pydict(columns)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def send(method, url, body, kind):
    request = urllib.request.Request(url, body, {"Content-Type": kind}, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def push(base, source, body):
    return send("POST", f"{base}/v1/sources/{source}/rows", body, "application/vnd.apache.arrow.stream")


def children(pid):
    listed = (task.read_text().split() for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for children in listed for child in children]


def family(pid):
    return [pid] + [each for child in children(pid) for each in family(child)]


def cpu(pids):
    """CPU seconds that these processes have used, with the children that they have waited for."""
    total = 0
    for pid in pids:
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        except FileNotFoundError:
            pass
    return total / TICK


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def load(name, url, server, database, seconds, connections=16):
    """Asks as fast as answers come, then, over 16 connections, at a fixed rate (six tenths of that, if it is less) and at a third of
    it: a full machine says little of latency."""
    for shape in SHAPES:
        reached = ask(name, url, server, database, seconds, connections, shape)
        if connections > 1:
            rate = min(ASKED[shape[0]], 0.6 * reached)
            ask(name, url, server, database, seconds, connections, shape, rate=rate)
            ask(name, url, server, database, seconds, connections, shape, rate=rate / 3)


def ask(name, url, server, database, seconds, connections, shape, rate=0):
    """Asks for so many seconds, in slices of ten; answers the requests a second. With a rate, requests leave at fixed moments,
    whether answers came or not."""
    entities, features, known = shape
    environment = os.environ | {"FEATURES": str(features), "ENTITIES": str(entities), "KNOWN": str(known), "RATE": str(rate)}
    wrk(url, environment, connections, 2)  # warm
    before = cpu(server()), cpu(database())
    lengths = [SLICE] * (seconds // SLICE) if seconds >= 2 * SLICE else [seconds]
    slices = [wrk(url, environment, connections, length) for length in lengths]
    used = cpu(server()) - before[0], cpu(database()) - before[1]
    whole = sum(slices[1:], slices[0])
    print(
        f"{name:<9} {entities:>3} x {features:<3} c={connections} {'paced' if rate else 'full ':<5} {whole.rate():>8.0f} req/s   "
        f"{whole.requests / max(used[0], 0.01):>8.0f} req per server-CPU-s   "
        f"{whole.requests / max(sum(used), 0.01):>8.0f} with Postgres   "
        f"p50 {whole.at(50):.2f} p90 {whole.at(90):.2f} p99 {whole.at(99):.2f} ms   "
        f"errors {whole.wrong}{f'   over 5 ms late {whole.late} of {whole.requests}' if rate else ''}",
        flush=True,
    )
    if len(slices) > 1:
        row = lambda title, figure: print(f"{title:>14}" + "".join(f"{figure(part):>9.2f}" for part in slices), flush=True)
        print(f"{f'{SLICE} s each:':>14}" + "".join(f"{number + 1:>9}" for number in range(len(slices))), flush=True)
        row("req/s", lambda part: part.rate())
        for share in (50, 90, 99):
            row(f"p{share} ms", lambda part: part.at(share))
    return whole.rate()


@dataclasses.dataclass
class Asked:
    """What wrk saw: how many requests, which of them were refused or left late, and how many took how many microseconds."""

    seconds: int
    requests: int
    wrong: int
    late: int
    took: collections.Counter

    def __add__(self, other):
        return Asked(*(getattr(self, field.name) + getattr(other, field.name) for field in dataclasses.fields(Asked)))

    def rate(self):
        return self.requests / self.seconds

    def at(self, share):
        """The latency in milliseconds that so many per cent of the requests did not pass."""
        left = self.took.total() * share / 100
        for micros in sorted(self.took):
            left -= self.took[micros]
            if left <= 0:
                return micros / 1000


def wrk(url, environment, connections, seconds):
    """One run of wrk."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", HERE / "online.lua", url + "/get-online-features"]
    said = subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout
    number = lambda pattern: int((re.search(pattern, said) or [0, 0])[1])
    took = collections.Counter({int(micros): int(count) for micros, count in re.findall(r"(?m)^took (\d+) us: (\d+)$", said)})
    return Asked(seconds, number(r"(\d+) requests in"), number(r"Non-2xx or 3xx responses: (\d+)"), number(r"late: (\d+)"), took)


def pauses(seconds=5):
    """How often each core is taken away from a loop that does nothing else, and for how long."""
    mine = os.sched_getaffinity(0)
    for core in sorted(mine):
        os.sched_setaffinity(0, {core})
        waits, last = [], time.perf_counter()
        end = last + seconds
        while last < end:
            now = time.perf_counter()
            if now - last > 1e-3:
                waits.append((now - last) * 1e3)
            last = now
        long = sum(wait > 3 for wait in waits)
        print(
            f"machine   core {core}: a loop alone was kept waiting over 1 ms {len(waits) / seconds:.1f} times a second, over 3 ms "
            f"{long / seconds:.1f} times, {max(waits, default=0):.1f} ms at most",
            flush=True,
        )
    os.sched_setaffinity(0, mine)


def ingest(base, pid, seconds, rows=20_000, senders=2):
    """Batches of new versions of the same entities, merged online and written offline, by two senders."""
    micros = int(time.time() * 1e6) - 3_600_000_000
    bodies = [stream((at % 5) * rows, rows, 10, micros + at * 1_000_000) for at in range(40)]
    taken, memory, lock = [0], [resident(pid)], threading.Lock()
    until = time.time() + seconds
    turn = iter(range(10**9))

    def sender():
        while time.time() < until:
            with lock:
                at = next(turn)
            # every batch is of a later moment than the one before, so that each row is a new version
            body = bodies[at] if at < len(bodies) else stream(at % 5 * rows, rows, 10, micros + at * 1_000_000)
            answer = push(base, "s10", body)
            with lock:
                taken[0] += answer["accepted"]
                memory.append(resident(pid))

    began = time.time()
    threads = [threading.Thread(target=sender) for _ in range(senders)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    wall = time.time() - began
    half = len(memory) // 2
    print(
        f"ingest    10 features, online and offline: {taken[0] / wall:,.0f} rows/s over {wall:.0f} s, batches of {rows:,}; "
        f"memory {memory[0]:.0f} MiB before, {max(memory[:half]):.0f} most in the first half, {max(memory[half:]):.0f} in the second",
        flush=True,
    )


def feast(folder, postgres, port, seconds):
    """Feast's server with one worker over the same Postgres, filled by its own materialisation."""
    repo = folder / "feast"
    repo.mkdir()
    import pyarrow.parquet

    fields, views = [], []
    for _, features, known in SHAPES:
        generator = numpy.random.default_rng(7)
        now = int(time.time() * 1e6) - 3_600_000_000
        columns = {"entity_id": numpy.arange(known, dtype="int64")}
        columns |= {f"x{at}": generator.random(known) for at in range(features)}
        columns["ts"] = pyarrow.array(numpy.full(known, now), pyarrow.timestamp("us", "UTC"))
        pyarrow.parquet.write_table(pyarrow.table(columns), repo / f"s{features}.parquet")
        schema = ", ".join(f"Field(name='x{at}', dtype=Float64)" for at in range(features))
        views.append(
            f"fv{features} = FeatureView(name='fv{features}', entities=[entity], ttl=timedelta(days=365), schema=[{schema}], "
            f"source=FileSource(path='{repo}/s{features}.parquet', timestamp_field='ts'))"
        )
    (repo / "definitions.py").write_text(
        "from datetime import timedelta\nfrom feast import Entity, FeatureView, Field, FileSource\n"
        "from feast.types import Float64\nfrom feast import ValueType\n"
        "entity = Entity(name='entity', join_keys=['entity_id'], value_type=ValueType.INT64)\n" + "\n".join(views) + "\n"
    )
    (repo / "feature_store.yaml").write_text(
        f"project: bench\nprovider: local\nregistry: {repo}/registry.db\nentity_key_serialization_version: 3\n"
        f"online_store:\n  type: postgres\n  host: {postgres}\n  port: 5432\n  database: feast\n  db_schema: public\n"
        "  user: postgres\n  password: none\n  sslmode: disable\n"
    )
    subprocess.run(["psql", "-q", "-h", postgres, "-U", "postgres", "-c", "create database feast"], check=True)
    command = [str(pathlib.Path(sys.executable).parent / "feast"), "-c", str(repo)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command + ["apply"], check=True, **quiet)
    began = time.time()
    end = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    subprocess.run(command + ["materialize-incremental", end], check=True, **quiet)
    print(f"feast     materialised 100,000 x 10 and 10,000 x 50 in {time.time() - began:.0f} s", flush=True)
    server = subprocess.Popen(
        command + ["serve", "-h", "127.0.0.1", "-p", str(port), "--no-access-log", "--workers", "1", "--max-requests", "10000000"],
        **quiet,
        start_new_session=True,
    )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
                break
            except OSError:
                time.sleep(0.2)
        load("feast", f"http://127.0.0.1:{port}", lambda: family(server.pid), lambda: [], seconds)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("foretime")
    arguments.add_argument("--seconds", type=int, default=15)
    arguments.add_argument("--feast", action="store_true")
    arguments = arguments.parse_args()
    pauses()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o711)
        server = subprocess.Popen(
            [arguments.foretime, "--listen", "127.0.0.1:0", "--data-dir", folder / "data", "up"],
            env={key: value for key, value in os.environ.items() if "DATABASE_URL" not in key} | {"FORETIME_LOG__FILTER": "warn"},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            base = server.stdout.readline().split()[-1]
            send("PUT", f"{base}/v1/definitions", json.dumps({"files": {"bench.toml": definitions()}}).encode(), "application/json")
            now = int(time.time() * 1e6) - 7_200_000_000
            for _, features, known in SHAPES:
                for first in range(0, known, 20_000):
                    push(base, f"s{features}", stream(first, min(20_000, known), features, now))
            postgres = lambda: [pid for pid in family(server.pid) if pid != server.pid]
            load("foretime", base, lambda: [server.pid], postgres, arguments.seconds)
            load("foretime", base, lambda: [server.pid], postgres, max(3, arguments.seconds // 3), connections=1)
            ingest(base, server.pid, arguments.seconds)
            if arguments.feast:
                feast(folder, folder / "data" / "postgres" / "socket", 16_566, arguments.seconds)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


main()
