"""run.py FORETIME PYTHON ROUNDS SECONDS [PRESET…]: training and embedding beside PyTorch; prints a table of medians over rounds.

Ours and PyTorch's runs take turns, each in a process of its own. Tokens a second are those of two threads, tokens a CPU second those
of one. PyTorch runs under glibc's malloc told to keep freed memory, as ours tells it itself: faster than its defaults. PYTHON is one
that has torch; without it ours are measured alone. bf16 is measured where the processor multiplies it: elsewhere ours are the f32
products, and PyTorch's a fraction of its own.
"""

import json
import os
import statistics
import subprocess
import sys

foretime, python, rounds, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
presets = sys.argv[5:] or ["a", "b", "c"]
here = os.path.dirname(os.path.abspath(__file__))
KEEPING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"}


def precisions():
    with open("/proc/cpuinfo") as about:
        return ["f32", "bf16"] if "avx512_bf16" in about.read() else ["f32"]


def ours(preset, work, precision, threads):
    return [foretime, "gpt", "bench", "--preset", preset, "--work", work, "--precision", precision, "--threads", str(threads),
            "--seconds", seconds]


def torch(preset, work, precision, threads):
    return [python, f"{here}/torch_peer.py", preset, work, precision, str(threads), seconds]


def run(command, threads, environment):
    limits = {"RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **limits, **environment})
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def median(runs, figure):
    return statistics.median(seen[figure] for seen in runs)


def measure(preset, work, precision):
    """Of each side: tokens a second at two threads, tokens a CPU second at one, peak bytes at two."""
    sides = {"ours": (ours, {})}
    if os.path.exists(python):
        sides["torch"] = (torch, KEEPING)
    seen = {(side, threads): [] for side in sides for threads in (1, 2)}
    for _ in range(rounds):
        for threads in (1, 2):
            for side, (command, environment) in sides.items():
                seen[side, threads].append(run(command(preset, work, precision, threads), threads, environment))
    return {side: (median(seen[side, 2], "tokens_per_second"), median(seen[side, 1], "tokens_per_cpu_second"),
                   median(seen[side, 2], "peak_memory_bytes"), median(seen[side, 1], "tokens_per_second")) for side in sides}


def cells(found, at, unit=1.0):
    mine = found["ours"][at] / unit
    if "torch" not in found:
        return f"{mine:,.0f} | – | –"
    theirs = found["torch"][at] / unit
    return f"{mine:,.0f} | {theirs:,.0f} | {mine / theirs:.2f}"


print("| work | tokens/s, 2 threads | torch | ratio | tokens/CPU s, 1 thread | torch | ratio | peak MB | torch | ratio | 2 threads over 1 |")
print("|---|---|---|---|---|---|---|---|---|---|---|")
for work in ("train", "embed"):
    for preset in presets:
        for precision in precisions():
            found = measure(preset, work, precision)
            scaling = found["ours"][0] / found["ours"][3]
            print(f"| {work} {preset} {precision} | {cells(found, 0)} | {cells(found, 1)} | {cells(found, 2, 1e6)} | {scaling:.2f} |",
                  flush=True)
