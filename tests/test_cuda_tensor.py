"""What each thread of a warp gives to mma.sync, against where PTX's manual says that it stands; no GPU is needed."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
from device import COMPILER

pytestmark = COMPILER


def manual_tf32(words):
    """Fragments of mma.m16n8k8: A is (16, 8), B (8, 8); words[lane] are a0 .. a3, b0, b1."""
    a, b = np.empty((16, 8)), np.empty((8, 8))
    for lane, word in enumerate(words):
        g, q = lane // 4, lane % 4
        a[g, q], a[g + 8, q], a[g, q + 4], a[g + 8, q + 4], b[q, g], b[q + 4, g] = word
    return a @ b


def manual_bf16(words):
    """Fragments of mma.m16n8k16: A is (16, 16), B (16, 8); each word holds two numbers, the lower half first."""
    a, b = np.empty((16, 16)), np.empty((16, 8))
    for lane, word in enumerate(words):
        g, q = lane // 4, 2 * (lane % 4)
        a[g, q : q + 2], a[g + 8, q : q + 2], a[g, q + 8 : q + 10], a[g + 8, q + 8 : q + 10] = word[:4]
        b[q : q + 2, g], b[q + 8 : q + 10, g] = word[4:]
    return a @ b


@pytest.mark.parametrize("tile", [(128, 64, 16, 8, 8), (128, 32, 16, 8, 4), (32, 16, 32, 4, 4)])
@pytest.mark.parametrize("name", ["tf32", "bf16"])
def test_fragments_are_where_the_manual_says(name, tile, monkeypatch):
    tensor = importlib.import_module("nbprop.ops.cuda_tensor")
    tile = importlib.import_module("nbprop.ops.cuda_form").Tile(*tile)
    given = []

    def mma(*words):
        given.append(words[:6])
        return words[6:]

    local = SimpleNamespace(array=lambda shape, _: np.empty(shape, object))
    monkeypatch.setattr(tensor, "cuda", SimpleNamespace(local=local))
    monkeypatch.setattr(tensor, f"_mma_{name}", mma)
    monkeypatch.setattr(tensor, "two_bf16", lambda low, high: (low, high))
    monkeypatch.setattr(tensor.gpu, "device", lambda function: function)
    form = getattr(tensor, name)(tile, None)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((tile.BK, form.LA)), rng.standard_normal((tile.BK, form.LB))
    made = np.full((tile.BM, tile.BN), np.nan)
    across = tile.TN // 2  # fragments side by side, of tile.TM // 2 rows of them
    for warp in range(tile.threads // 32):
        words = []
        for t in range(32 * warp, 32 * warp + 32):
            given.clear()
            form.step(np.zeros((tile.TM, tile.TN)), a.reshape(-1), 0, b.reshape(-1), 0, t)
            words.append(given.copy())
        count = tile.TM // 2 * across
        calls = [(manual_tf32 if name == "tf32" else manual_bf16)(each) for each in zip(*words)]
        sums = [sum(calls[i::count]) for i in range(count)]
        for lane in range(32):
            t, (g, q) = 32 * warp + lane, divmod(lane, 4)
            for i in range(tile.TM):
                for j in range(across):
                    r, c = form.row(t, i), form.column(t, j)
                    made[r, c : c + 2] = sums[i // 2 * across + j][g + i % 2 * 8, 2 * q : 2 * q + 2]
    np.testing.assert_allclose(made, a[:, : tile.BM].T @ b[:, : tile.BN], atol=1e-12)
