"""`nbprop bench` beside its tables: which algorithm and why, memory, a whole training, JAX."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import oracle
import pytest

from nbprop import shapes
from nbprop.bench import footprint, suite
from nbprop.cli import main
from nbprop.ops.conv import choose, conv2d_backward_input, conv2d_backward_weight, conv2d_forward, fast, spread, wide

FLOAT = np.dtype(np.float32)


@pytest.mark.parametrize(("arguments", "message"), [
    (["conv", "nothing", "--explain"], "row is 'nothing'; expected one of lenet_c1, "),
    (["step", "--explain"], "--explain is given with bench step; expected it with bench conv"),
    (["conv", "--explain", "--json"], "--json is given with --explain; expected rows alone"),
    (["memory", "conv9"], "row is 'conv9'; expected one of mlp, lenet, cifar_cnn, resnet20"),
    (["memory", "--vs", "jax"], "--vs is jax with bench memory; expected torch"),
    (["memory", "--plot", "a.png"], "--plot is given with bench memory; expected it with bench conv or ops or "),
    (["train"], "--data is missing"),
    (["train", "lenet"], "ROW is given with bench train"),
    (["train", "--data", "no_folder"], "no_folder is not a folder"),
    (["train", "--epochs", "0"], "--epochs is 0; expected an integer of at least 1"),
    (["conv", "--limit", "0"], "--limit is given with bench conv; expected it with bench train"),
    (["step", "lenet", "--vs", "jax"], "--vs jax is given with bench step lenet; expected bench step mlp"),
])  # fmt: skip
def test_bad_input(capsys, arguments, message):
    assert main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


def test_jax_takes_all_threads_and_must_be_there(capsys, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1}, raising=False)
    assert main(["bench", "step", "mlp", "--vs", "jax", "--threads", "1"]) == 2
    assert "--threads is 1; expected 2 with --vs jax" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["bench", "step", "mlp", "--vs", "jax", "--threads", "2"]) == 2
    assert "pip install 'nbprop[bench]'" in capsys.readouterr().err


# Which algorithm, and why


def test_every_row_is_explained(capsys):
    assert main(["bench", "conv", "--explain"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["row", "pass", "algorithm", "because"]
    assert [tuple(line.split()[:2]) for line in lines] == [(n, p) for n in suite.conv_rows() for p in suite.PASSES]
    said = {tuple(line.split()[:2]): line for line in lines}
    assert "Winograd F(4x4, 3x3)  " in said["resnet_56", "forward"]
    assert "a channel per lane" in said["depthwise", "backward_weight"]
    assert "Winograd F(5x5, 2x2)  " in said["deconv", "backward_input"]
    assert "4 stride phases" in said["cifar_s2", "backward_input"] and "phases" not in said["cifar_s2", "forward"]
    assert "one matrix product" in said["pointwise", "backward_input"]
    assert "fewer than 16 channels" in said["cifar_c1", "forward"]


def test_what_is_forced_is_explained():
    g = shapes.conv2d((1, 4, 6, 6), (4, 4, 3, 3), padding=1)
    assert choose.explain("forward", g, FLOAT) == ("direct", choose._FEW)
    with choose.using_winograd(True):
        assert choose.explain("weight", g, FLOAT) == ("Winograd F(4x4, 3x3)", "by force")


@pytest.mark.parametrize(("x_shape", "w_shape"), [
    ((8, 32, 32, 32), (32, 32, 3, 3)), ((16, 3, 32, 32), (32, 3, 3, 3)), ((16, 6, 32, 32), (6, 6, 5, 5)),
    ((4, 6, 14, 14), (16, 6, 5, 5)),
], ids=["3x3", "3 channels", "5x5", "lenet"])  # fmt: skip
def test_what_is_explained_is_what_runs(x_shape, w_shape, monkeypatch):
    """Watch which algorithm's entry each pass goes through."""
    ran = []

    def watch(module, name, label):
        run = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *arguments: (ran.append(label), run(*arguments))[1])

    watch(fast, "settle", "Winograd")
    watch(fast, "settle_gradient", "Winograd")
    watch(wide, "settle", "columns at once")
    watch(wide, "settle_gradient", "columns at once")
    watch(spread, "settle", "spread")
    g = shapes.conv2d(x_shape, w_shape)
    x, w, dy = (oracle.normal(shape, np.float32) for shape in (x_shape, w_shape, (g.N, g.O, g.OH, g.OW)))
    passes = {"forward": lambda: conv2d_forward(x, w), "input": lambda: conv2d_backward_input(dy, w, x.shape),
              "weight": lambda: conv2d_backward_weight(dy, x, w.shape)}  # fmt: skip
    for kind, run in passes.items():
        ran.clear()
        run()
        algorithm, _ = choose.explain(kind, g, FLOAT)
        kinds = [label for label in ("Winograd", "columns at once", "spread") if label in algorithm]
        assert sorted(set(ran)) == kinds, (kind, algorithm)


# Memory


def test_the_peak_of_a_process_is_its_own():
    """Not its parent's, which getrusage starts from."""
    code = "from nbprop.bench.footprint import peak_bytes\nprint(peak_bytes())"
    held = np.ones(100_000_000)  # 800 MB
    before = footprint.peak_bytes()
    child = int(subprocess.check_output([sys.executable, "-c", code], text=True))
    assert child < 600e6 < held.nbytes <= before


def test_memory_alone(capsys):
    assert main(["bench", "memory", "lenet", "--json"]) == 0
    steps, process = json.loads(capsys.readouterr().out)
    assert (steps["name"], steps["growth"], process["growth"]) == ("lenet", "steps", "process")
    assert 1e6 < steps["ours"] < process["ours"] < 1e9
    assert steps["torch"] is steps["ratio"] is None


@oracle.needs_torch
def test_memory_against_torch(capsys):
    assert main(["bench", "memory", "mlp", "--vs", "torch"]) == 0
    _, header, steps, process = capsys.readouterr().out.splitlines()
    assert header.split()[-2:] == ["torch", "ours/torch"]
    for line in (steps, process):
        ours, torch, ratio = map(float, line.split()[2:])
        assert ratio == pytest.approx(ours / torch, abs=0.02)


# A whole training


@pytest.fixture
def pictures(tmp_path):
    """CIFAR-10's six files, with thirty pictures each: every class has its own grey."""
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        labels = np.arange(30) % 10
        noise = oracle.rng(1).integers(0, 8, (30, 3072))
        np.hstack([labels[:, None], 20 * labels[:, None] + noise]).astype(np.uint8).tofile(tmp_path / name)
    return tmp_path


def test_train_alone(capsys, pictures):
    assert main(["bench", "train", "--data", str(pictures), "--epochs", "2", "--limit", "100", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["images"] == 100 and printed["ratio"] is None
    assert len(printed["ours"]["loss"]) == len(printed["ours"]["seconds"]) == 2
    assert 0 <= printed["ours"]["accuracy"] <= 1


@oracle.needs_torch
def test_train_against_torch_takes_the_same_way(capsys, pictures):
    command = ["bench", "train", "--data", str(pictures), "--epochs", "2", "--vs", "torch"]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    ours, torch = printed["ours"], printed["torch"]
    assert ours["loss"] == pytest.approx(torch["loss"], rel=1e-2)
    assert printed["ratio"] == pytest.approx(sum(torch["seconds"]) / sum(ours["seconds"]))
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("torch's time by ours: ")


# JAX


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_step_against_jax():
    """In a process of its own: JAX's threads would stay in this one."""
    code = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
from nbprop.cli import main
raise SystemExit(main(["bench", "step", "mlp", "--vs", "jax", "--json"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads(done.stdout)
    assert entry["ratio"] == pytest.approx(entry["peer_s"] / entry["ours_s"])
