"""The benchmarks that asv follows over commits: every row of the suite is among them, speeds have units."""

import importlib
import inspect
import pathlib

import pytest

from nbprop.bench import suite

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted(path.stem for path in (ROOT / "asv_benchmarks").glob("[a-z]*.py"))


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


def load(file):
    return importlib.import_module(f"asv_benchmarks.{file}")


def test_every_row_is_timed():
    assert {*load("conv").ROWS, *load("conv_transpose").ROWS} == set(suite.conv_rows())
    assert set(load("step").ROWS) == set(suite.net_rows())
    sources = "".join((ROOT / "asv_benchmarks" / f"{file}.py").read_text("utf-8") for file in FILES)
    for name in suite.memory_bound_shapes():
        assert f'"{name}"' in sources, f"no benchmark takes the row {name}"


@pytest.mark.parametrize("file", FILES)
def test_what_is_tracked_has_a_unit(file):
    module = load(file)
    for _, kind in inspect.getmembers(module, inspect.isclass):
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if name.startswith("track_"):
                assert method.unit, f"{file}.{kind.__name__}.{name} has no unit"


@pytest.mark.parametrize("file, kind", [("conv", "Conv2d"), ("conv_transpose", "ConvTranspose2d"), ("step", "Step"),
                                        ("linear", "Linear"), ("gram", "Gram")])  # fmt: skip
def test_counted_rows_track_their_speed(file, kind):
    assert getattr(load(file), kind).track_gflops.unit == "GFLOP/s"


def test_a_benchmark_runs():
    benchmark = load("conv").Conv2d()
    benchmark.setup("lenet_c1", "forward")
    benchmark.time_pass("lenet_c1", "forward")
    assert benchmark.track_gflops("lenet_c1", "forward") > 0
