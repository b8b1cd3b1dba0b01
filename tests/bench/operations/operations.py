#!/usr/bin/env python3
"""What it takes to run Foretime: start to ready, idle processor and memory, size. `make bench-operations`.

    operations.py BINARY [SECONDS_IDLE]

Processes are ended by their own ids; everything lies in a temporary folder that goes at the end.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

TICKS = os.sysconf("SC_CLK_TCK")


def start(binary, folder):
    """Starts `foretime up` and waits until it is ready; answers the process and the seconds that took."""
    began = time.monotonic()
    process = subprocess.Popen(
        [binary, "--listen", "127.0.0.1:0", "--data-dir", os.path.join(folder, "data"), "up"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("FORETIME_")}, "FORETIME_LOG__FILTER": "warn"},
    )
    url = process.stdout.readline().split()[-1]
    while True:
        try:
            if urllib.request.urlopen(url + "/readyz", timeout=5).status == 200:
                return process, time.monotonic() - began
        except OSError:
            if process.poll() is not None:
                raise SystemExit("it ended before it was ready")
            time.sleep(0.005)


def stop(process):
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.wait(60)
    return time.monotonic() - began


def family(pid):
    """A process and all below it."""
    found = [pid]
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    if int(stat.read().rsplit(")", 1)[1].split()[1]) in found:
                        found.append(int(entry))
            except OSError:
                pass
    return found


def processor_seconds(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
                total += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return total / TICKS


def memory_mb(pid, key):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return next(int(line.split()[1]) for line in rollup if line.startswith(key + ":")) / 1024


def main():
    binary = os.path.abspath(sys.argv[1])
    idle = float(sys.argv[2]) if len(sys.argv) > 2 else 60
    folder = tempfile.mkdtemp(prefix="foretime-operations-")
    os.chmod(folder, 0o711)
    try:
        stripped = os.path.join(folder, "stripped")
        subprocess.run(["strip", "-o", stripped, binary], check=True)
        print(f"binary, stripped:        {os.path.getsize(stripped) / 1e6:7.1f} MB (asked: 120)")
        process, seconds = start(binary, folder)
        print(f"ready, empty directory:  {seconds:7.2f} s  (asked: 4)")
        print(f"stop:                    {stop(process):7.2f} s")
        warm = []
        for _ in range(5):
            process, seconds = start(binary, folder)
            warm.append(seconds)
            if len(warm) < 5:
                stop(process)
        print(f"ready, warm:             {sorted(warm)[2]:7.2f} s  (asked: 1.5; median of 5, worst {max(warm):.2f})")
        time.sleep(5)
        ours, all_of_it = [process.pid], family(process.pid)
        before, before_all = processor_seconds(ours), processor_seconds(all_of_it)
        time.sleep(idle)
        share = (processor_seconds(ours) - before) / idle
        share_all = (processor_seconds(family(process.pid)) - before_all) / idle
        print(f"idle processor:          {100 * share:7.2f} % of a core, with its Postgres {100 * share_all:.2f} % (asked: 1)")
        own = memory_mb(process.pid, "Rss")
        with_postgres = sum(memory_mb(pid, "Pss") for pid in family(process.pid))
        print(f"idle memory:             {own:7.1f} MB, with its Postgres {with_postgres:.1f} MB (asked: 150)")
        stop(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
