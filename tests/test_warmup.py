"""`nbprop warmup`: after it nothing is left to compile."""

import os
import pathlib
import re
import subprocess
import sys

from nbprop.cli import main

ROOT = pathlib.Path(__file__).parents[1]


def warmup(cache, *options):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-m", "nbprop", "warmup", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_second_time_nothing_is_compiled(tmp_path):
    for compiles in (True, False):
        start, model, total = warmup(tmp_path, "--model", "mlp", "--processes", "1")
        assert start == "models: 1, processes: 1"
        count = int(re.fullmatch(r"mlp of 1x28x28, batch 128: (\d+) kernels compiled in [\d.]+ s", model)[1])
        assert (count > 0) == compiles
        assert total.startswith(f"{count} kernels compiled in ") and str(tmp_path) in total


def test_no_processes_are_refused(capsys):
    assert main(["warmup", "--processes", "0"]) == 2
    assert capsys.readouterr().err == "nbprop warmup: --processes is 0; expected an integer of at least 1\n"


WRITER = """
import sys
from nbprop import jit

def make(number):
    def kernel(x):
        return x + number
    kernel.__module__ = "nbprop.made"
    return jit.kernel(kernel)

for number in range(int(sys.argv[1]), 40, 2):
    assert make(number)(1) == 1 + number
"""

def test_two_processes_write_to_one_index(tmp_path):
    """All kernels of a factory share an index: whoever writes it must have read what the other wrote."""
    file = tmp_path / "writer.py"
    file.write_text(WRITER)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen([sys.executable, str(file), str(i)], env=environment) for i in (0, 1)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert len(list(tmp_path.rglob("writer.make*.nbc"))) == 40
