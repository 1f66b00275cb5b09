"""`nbprop bench`: its shapes, its clock, its check against float64, and what it prints."""

import json
import time

import numpy as np
import oracle
import pytest

import nbprop
from nbprop.bench import clock, contest, ops, report, suite
from nbprop.bench.cli import bench

FIELDS = ["name", "pass", "ours_s", "peer_s", "ratio", "gflops"]


def test_shapes():
    rows = suite.conv_rows()
    assert rows["resnet_stem"].y_shape == (8, 64, 112, 112)
    assert rows["resnet_stem"].flops == 2 * 8 * 112 * 112 * 64 * 3 * 49
    assert rows["dilated"].y_shape == (8, 64, 28, 28)
    assert rows["depthwise"].w_shape == (64, 1, 3, 3)
    assert rows["depthwise"].flops == 2 * 8 * 56 * 56 * 64 * 9
    assert rows["deconv"].y_shape == (8, 64, 28, 28) and rows["deconv"].w_shape == (128, 64, 4, 4)
    assert rows["deconv"].flops == 2 * 8 * 14 * 14 * 128 * 64 * 16
    assert suite.linear_rows()["mlp 784-512"] == (128, 784, 512)
    assert suite.memory_bound_shapes()["adam"] == (10_000_000,)
    assert suite.memory_bound_shapes()["softmax_ce"] == (4096, 1000)


def test_unknown_row_is_named():
    with pytest.raises(ValueError, match="row is 'lenet_c9'; expected one of lenet_c1, "):
        bench("conv", ["lenet_c9"])


def test_too_many_threads_are_refused():
    with pytest.raises(ValueError, match=r"--threads is 4096; expected 1 to .*NUMBA_NUM_THREADS"):
        bench("conv", ["lenet_c1"], threads=4096)


def test_race_takes_turns_and_its_rounds_are_long_enough():
    turns = []

    def slowly():
        turns.append("a")
        time.sleep(0.004)

    slow, fast = clock.race([slowly, lambda: turns.append("b")], rounds=3, least=0.02)
    assert [t for i, t in enumerate(turns) if i == 0 or turns[i - 1] != t] == ["a", "b"] * 3
    assert turns.count("a") >= 3 * (0.02 / 0.008)
    assert slow >= 0.004 > 100 * fast


def test_a_wrong_result_is_not_timed():
    def copying(nbytes):
        return lambda: time.sleep(0.01 * nbytes)

    off = contest.Contest("row", "forward", lambda: None, {}, lambda: {"ours": 2e-5}, 1e-5, 1, 1)
    with pytest.raises(contest.WrongResult, match=r"row forward: ours is off by 2.0e-05 from float64"):
        contest.run(off, copying)
    for error in {"ours": float("nan")}, {"ours": 0.0, "nchw": 5e-4}, {"nchw": float("nan")}:
        with pytest.raises(contest.WrongResult):
            contest.run(off._replace(errors=lambda error=error: error), copying)
    right = off._replace(errors=lambda: {"ours": 5e-6, "nchw": 5e-5})  # a peer may sum in another order
    result = contest.run(right, copying, rounds=3, least=1e-4)
    assert result.copy_s >= 0.01 > result.ours_s > 0


def test_relative_error():
    expected = np.array([3.0, 4.0])
    assert contest.relative_error([np.array([3.0, 4.5])], [expected]) == pytest.approx(0.1)
    assert contest.relative_error([np.zeros(3)], [expected]) == np.inf


def test_means_and_fields():
    first = contest.Result("a", "forward", 1.0, 2.0, "nchw", 10**9, 4, 0.5)
    results = [first, first._replace(name="b", ours_s=2.0, peer_s=1.0)]
    assert report.means(results) == ["geometric mean of torch/ours, all: 1.00"]
    assert report.means([first._replace(peer_s=None)]) == []
    fields = dict(zip(FIELDS, ["a", "forward", 1.0, 2.0, 2.0, 1.0]))
    assert json.loads(report.to_json(results)) == [fields, fields | {
        "name": "b", "ours_s": 2.0, "peer_s": 1.0, "ratio": 0.5, "gflops": 0.5}]
    assert first._replace(flops=0).as_json()["gflops"] is None
    assert " - " in report.line(first._replace(flops=0), 100.0)
    assert " 50% " in report.line(first, 100.0)


def test_conv_alone(capsys):
    """Without torch each pass is checked against our reference loops and timed alone."""
    assert bench("conv", ["lenet_c1"], as_json=True) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [p["pass"] for p in printed] == list(suite.PASSES)
    for entry in printed:
        assert list(entry) == FIELDS
        assert entry["ours_s"] > 0 and entry["gflops"] > 0
        assert entry["peer_s"] is None and entry["ratio"] is None


def test_step_alone(capsys):
    assert bench("step", ["lenet"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert "GFLOP/s" in table[0] and "of peak" in table[1]
    assert table[2].split()[:2] == ["lenet", "step"] and table[2].split()[4:6] == ["-", "-"]


def test_ops_alone(capsys):
    """Checked against our reference loops; nothing of theirs is counted in GFLOP/s."""
    assert bench("ops", ["softmax_ce", "sgd_momentum"], as_json=True) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [(p["name"], p["pass"]) for p in printed] == [
        ("softmax_ce", "value+gradient"), ("sgd_momentum", "update")]
    for entry in printed:
        assert list(entry) == [*FIELDS, "gbytes"]
        assert entry["ours_s"] > 0 and entry["gbytes"] > 0 and entry["gflops"] is None


def test_every_op_of_the_suite_is_timed():
    assert set(ops.ARRAYS_MOVED) == {*ops.LAYERS, *ops.LOSSES, *ops.OPTIMIZERS} == set(suite.memory_bound_shapes())


def test_all_takes_rows_of_every_kind(capsys):
    assert bench("all", ["lenet_c1", "maxpool", "lenet"], as_json=True) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [p["name"] for p in printed] == ["lenet_c1"] * 3 + ["maxpool", "lenet"]


def test_rows_to_come_are_skipped_by_name(capsys, monkeypatch):
    monkeypatch.delattr(nbprop.models, "lenet")
    assert bench("step", ["lenet"], as_json=True) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == [] and "lenet skipped: " in err


def test_torch_absent_says_so(capsys):
    if oracle.HAVE_TORCH:
        pytest.skip("torch is installed")
    assert bench("conv", ["odd"], vs="torch", as_json=True) == 0
    out, err = capsys.readouterr()
    assert "torch is not installed" in err and json.loads(out)[0]["ratio"] is None


@oracle.needs_torch
@pytest.mark.parametrize("what, row", [
    ("conv", "odd"), ("conv", "depthwise"), ("conv", "deconv"), ("step", "mlp"),
    ("ops", "batch_norm"), ("ops", "gram"), ("ops", "tv"), ("ops", "adam"),
])  # fmt: skip
def test_against_torch(what, row, capsys):
    assert bench(what, [row], vs="torch", as_json=True) == 0
    for entry in json.loads(capsys.readouterr().out):
        assert entry["ratio"] == pytest.approx(entry["peer_s"] / entry["ours_s"])
