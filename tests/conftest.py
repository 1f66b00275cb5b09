"""What every test needs: two threads, so that the suite is the same on a laptop and on a server."""

import gc
import importlib
import os
import sys

# Before numba is imported. Tests that want another number start a process of their own.
os.environ.setdefault("NUMBA_NUM_THREADS", "2")

import pytest
from hypothesis import settings
from numba.core.dispatcher import Dispatcher

# A first call compiles for seconds, so no deadline.
settings.register_profile("nbprop", deadline=None)
settings.load_profile("nbprop")

# Compilation leaves millions of objects that live on: to look through them for garbage was a tenth of the run.
gc.set_threshold(100_000, 50, 100)


def untraced(compile_):
    """Coverage looks away while Numba compiles: to count Numba's lines took a third of the run."""
    def compile_untraced(dispatcher, signature):
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return compile_(dispatcher, signature)
        finally:
            sys.settrace(tracer)
    return compile_untraced


Dispatcher.compile = untraced(Dispatcher.compile)


def pytest_xdist_auto_num_workers(config):
    """How many processes `-n auto` starts: two for the whole suite or one of its lanes, else none (`-n` says more).

    A test that is named is there before two workers have started, and a GPU is for one process.
    """
    options = config.option
    whole = config.args_source is config.ArgsSource.TESTPATHS and not options.keyword and "gpu" not in options.markexpr
    return 2 if whole else 0


@pytest.fixture(autouse=True)
def all_threads():
    """A test that changed the number of threads does not change it for the next one."""
    import numba

    yield
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)


@pytest.fixture
def gpu(monkeypatch):
    """The CUDA module; in the simulator with few threads per block, and small tiles."""
    gpu = importlib.import_module("nbprop.gpu")
    if gpu.SIMULATED:
        monkeypatch.setattr(gpu, "THREADS", 4)
        monkeypatch.setattr(gpu, "_MOST_BLOCKS", 2)
        tile = importlib.import_module("nbprop.ops.cuda_tile")
        monkeypatch.setattr(tile, "TILES", {4: (tile.Tile(16, 16, 4, 4, 4),)})
    return gpu


def pytest_collection_modifyitems(items):
    """Mark tests by name for `.ci/run`: -m torch with torch installed, -m narrow per vector length."""
    for item in items:
        name = item.originalname
        if "torch" in name or any("torch" in m.kwargs.get("reason", "") for m in item.iter_markers("skipif")):
            item.add_marker(pytest.mark.torch)
        if "reference" in name and "gradient" not in name:
            item.add_marker(pytest.mark.narrow)


def pytest_terminal_summary(terminalreporter):
    """Show what the assembler said of the CUDA kernels."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    lines = {value for report in reports for name, value in report.user_properties if name == "ptxas"}
    for line in sorted(lines):
        terminalreporter.write_line(line)
