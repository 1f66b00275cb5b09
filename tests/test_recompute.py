"""Recompute: the results of the layers it holds, bit for bit, in less memory."""

import numpy as np
import pytest
from oracle import normal

import nbprop
from nbprop import nn, optim, scratch


def body():
    nbprop.manual_seed(5)
    return [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(8, 8, 3, padding=1),
            nn.Tanh(), nn.Residual(nn.Conv2d(8, 8, 1)), nn.MaxPool2d(2)]  # fmt: skip


def head():
    return [nn.Flatten(), nn.Linear(8 * 16, 5)]


def models():
    """A chain that keeps everything, and one that recomputes its body."""
    return nn.Sequential(*body(), *head()), nn.Sequential(nn.Recompute(*body()), *head())


def bottom(array):
    """The array that a view is at last one of."""
    return array if array.base is None else bottom(array.base)


def buffers(model):
    """The bytes of all arrays that a model's layers hold beside their parameters and the thread's scratch memory."""
    parameters = {id(p) for p in model.parameters()}
    found, seen = {}, set()
    lent = bottom(scratch.borrow([0], np.dtype(np.float32))[0])

    def look(value):
        if id(value) in seen or id(value) in parameters:
            return
        seen.add(id(value))
        if isinstance(value, np.ndarray):
            value = bottom(value)
            if value is not lent:
                found[id(value)] = value.nbytes
        elif isinstance(value, dict):
            for part in value.values():
                look(part)
        elif isinstance(value, (tuple, list)):
            for part in value:
                look(part)
        elif hasattr(value, "__dict__") and not isinstance(value, type(np)):
            look(vars(value))

    for module in model.modules():
        for name in ("_plans", "_last", "last"):
            look(vars(module).get(name))
    return sum(found.values())


def test_same_bits():
    kept, recomputed = models()
    x, dy = normal((4, 3, 8, 8), np.float32), normal((4, 5), np.float32)
    for step in range(3):  # the masks of dropout go on as they do without
        np.testing.assert_array_equal(recomputed.forward(x), kept.forward(x))
        np.testing.assert_array_equal(recomputed.backward(dy), kept.backward(dy))
        np.testing.assert_array_equal(recomputed.grad, kept.grad)
        assert recomputed[0][2].step == kept[2].step == step + 1


def test_running_statistics_move_once():
    def layers():
        nbprop.manual_seed(1)
        return [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()]

    kept, recomputed = nn.Sequential(*layers()), nn.Recompute(*layers())
    x = normal((4, 2, 6, 6), np.float32)
    for model in (kept, recomputed):
        for _ in range(2):
            model.backward(np.copy(model.forward(x)))
    for (name, a), b in zip(kept.state_dict().items(), recomputed.state_dict().values()):
        np.testing.assert_array_equal(a, b, err_msg=name)
    np.testing.assert_array_equal(kept.grad, recomputed.grad)


def test_keeps_only_its_input():
    kept, recomputed = models()
    x, dy = normal((4, 3, 8, 8), np.float32), normal((4, 5), np.float32)
    kept.forward(x)
    kept.backward(dy)
    recomputed.forward(x)
    between = buffers(recomputed[0])
    recomputed.backward(dy)
    line = 64  # arrays are allocated with room to start on a cache line
    assert between <= x.nbytes + line and buffers(recomputed[0]) <= x.nbytes + line
    assert buffers(recomputed) < buffers(kept) / 3


def test_parts_are_named_as_in_a_chain():
    kept, recomputed = nn.Sequential(*body()), nn.Recompute(*body())
    assert list(kept.state_dict()) == list(recomputed.state_dict())


def test_gradients_are_central_differences():
    inner = nn.Recompute(nn.Tanh(), nn.Linear(4, 4), nn.Sigmoid())
    model = nn.Sequential(nn.Linear(3, 4), inner, nn.Linear(4, 2))
    assert nbprop.gradcheck(model, normal((3, 3))).error < 1e-8


def test_trains_as_the_chain_does(tmp_path):
    losses = []
    for model in models():
        model.train()
        optimizer, loss = optim.Adam(model.parameters(), 1e-2), nn.CrossEntropyLoss()
        x, labels = normal((8, 3, 8, 8), np.float32), np.arange(8) % 5
        losses.append([])
        for _ in range(4):
            losses[-1].append(loss.forward(model.forward(x), labels))
            model.backward(loss.backward(), input_gradient=False)
            optimizer.step()
    assert losses[0] == losses[1]
    nbprop.save(model, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(nbprop.load(tmp_path / "m.safetensors")(x), model.eval()(x))


def test_refuses_what_a_chain_refuses():
    layer = nn.ReLU()
    with pytest.raises(ValueError, match="stands in two places"):
        nn.Recompute(layer, layer)
    with pytest.raises(ValueError, match="expected an nbprop Module"):
        nn.Recompute("ReLU")
