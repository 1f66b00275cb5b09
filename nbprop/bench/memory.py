"""`nbprop bench memory`: by how much training steps raise the most memory that a process holds."""

import json
import pathlib
import subprocess
import sys
from typing import NamedTuple

from nbprop.bench import footprint, peer, suite

__all__ = ["Growth", "compare", "grown"]

_PROGRAM = "import runpy, sys; runpy.run_path(sys.argv[1])['show'](*sys.argv[2:])"


class Growth(NamedTuple):
    """Bytes by which the steps, and the whole process with its imports, raised the peak."""

    steps: int
    process: int


def grown(net, side, threads):
    """Return the Growth of a fresh process that trains for a few steps.

    `side` is "ours" or one of torch's memory formats.

    Raises
    ------
    ValueError
        If this system does not tell a process's peak, or the process fails.
    """
    footprint.peak_bytes()
    row = suite.net_rows()[net]
    file = pathlib.Path(footprint.__file__)
    arguments = [file, side, net, threads, row.batch, *row.sample]
    done = subprocess.run([sys.executable, "-c", _PROGRAM, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"the process of {side} {net} failed: {done.stderr.strip().splitlines()[-1]}")
    return Growth(*map(int, done.stdout.split()))


def compare(names, vs, threads, as_json=False):
    """Print a line per net and kind of growth: ours, the lower of torch's two, and ours by torch's; return 0."""
    nets = suite.select(suite.net_rows(), names)
    show = (lambda text: None) if as_json else (lambda text: print(text, flush=True))
    show(f"MiB by which {footprint.STEPS} training steps raise the peak memory of their process (steps), and by which "
         f"it then stands above a bare interpreter (process); {threads} threads")  # fmt: skip
    show(f"{'row':<13} {'growth':<8} {'ours':>8} {'torch':>8} {'ours/torch':>10}")
    results = []
    for net in nets:
        grown(net, "ours", threads)  # compiles what is not in the cache: the compiler's memory is not the steps'
        ours = grown(net, "ours", threads)
        theirs = [grown(net, form, threads) for form in peer.FORMATS if vs]
        for i, kind in enumerate(Growth._fields):
            torch = min((growth[i] for growth in theirs), default=None)
            ratio = torch and ours[i] / torch
            results.append({"name": net, "growth": kind, "ours": ours[i], "torch": torch, "ratio": ratio})
            against = f"{torch / 2**20:8.1f} {ratio:10.2f}" if torch else f"{'-':>8} {'-':>10}"
            show(f"{net:<13} {kind:<8} {ours[i] / 2**20:8.1f} {against}")
    if as_json:
        print(json.dumps(results, indent=1))
    return 0
