"""run.py FORETIME FOLDER PEERS ROUNDS: runs everything one after another and prints CPU seconds, wall seconds and peak memory.

A run that takes longer than its limit is stopped and said to be so. PEERS is the folder of their Pythons; one that is not there is
left out.
"""

import os
import signal
import subprocess
import sys
import time

foretime, folder, peers, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
here = os.path.dirname(os.path.abspath(__file__))
LIMIT_SECONDS = 420


def run(command):
    """Wall seconds, CPU seconds, peak bytes and whether it ended by itself and well."""
    begun = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    signal.signal(signal.SIGALRM, lambda *_: child.kill())
    signal.alarm(LIMIT_SECONDS)
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    signal.alarm(0)
    if status and not os.WIFSIGNALED(status):
        sys.stderr.write(said.decode()[-2_000:])
    return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, status


def line(name, command, times=rounds):
    runs = [run(command) for _ in range(times)]
    wall, cpu, memory, status = min(runs, key=lambda run: run[1])
    failed = any(status for *_, status in runs)
    ended = "" if not failed else " (stopped)" if os.WIFSIGNALED(status) else " (failed)"
    print(f"| {name} | {cpu:.2f}{ended} | {wall:.2f} | {memory / 1e6:.0f} |", flush=True)


def compare(reference):
    return [foretime, "monitor", "compare", "--reference", reference, "--current", f"{folder}/cur.parquet",
            "--json", f"{folder}/report.json"]


kept = f"{folder}/ref.profiles"
print("| work | CPU s | wall s | peak MB |")
print("|---|---|---|---|")
line("two files: reference and current", compare(f"{folder}/ref.parquet"))
line("profiles of the reference, to keep", [foretime, "monitor", "profile", f"{folder}/ref.parquet", "--out", kept])
line("current file against kept profiles", compare(kept))
for name, rows in [("nannyml", 1_000_000), ("evidently", 100_000), ("evidently", 1_000_000)]:
    python = f"{peers}/{name}/bin/python"
    if os.path.exists(python):
        line(f"{name}, {rows:,} rows a side", [python, f"{here}/{name}_peer.py", folder, str(rows)], 1)
    else:
        print(f"| {name}, {rows:,} rows a side | not installed | | |")
