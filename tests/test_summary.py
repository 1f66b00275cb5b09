"""The table of a model."""

import numpy as np
import pytest

import nbprop
from nbprop import models, nn


def test_lenet():
    table = nbprop.summary(models.lenet(), (1, 28, 28))
    assert [row.layer for row in table][:4] == ["0 Conv2d", "1 ReLU", "2 MaxPool2d", "3 Conv2d"]
    assert [row.output_shape for row in table][:3] == [(1, 6, 28, 28), (1, 6, 28, 28), (1, 6, 14, 14)]
    assert table.total.weights == 61706
    assert table[0].flops == 2 * 6 * 25 * 28 * 28
    assert table[3].flops == 2 * 16 * 6 * 25 * 10 * 10
    assert table[7].flops == 2 * 400 * 120
    assert table[0].bytes == 4 * (6 * 25 + 6 + 6 * 28 * 28)
    assert table.total.flops == sum(row.flops for row in table)
    assert table.total.output_shape == (1, 10)


def test_batch_size_may_stand_in_front():
    one, eight = (nbprop.summary(models.lenet(), shape) for shape in ((1, 28, 28), (8, 1, 28, 28)))
    assert eight.total.flops == 8 * one.total.flops
    assert eight.total.weights == one.total.weights
    assert nbprop.summary(nn.Sequential(nn.Linear(5, 3)), (5,)).total.flops == 30


def test_groups_and_nested_chains():
    inner = nn.Sequential(nn.Conv2d(4, 8, 3, groups=4, bias=False), nn.ReLU())
    table = nbprop.summary(nn.Sequential(inner, nn.Flatten()), (4, 5, 5))
    assert [row.layer for row in table] == ["0.0 Conv2d", "0.1 ReLU", "1 Flatten"]
    assert (table[0].weights, table[0].flops) == (72, 2 * 72 * 9)


def test_it_prints_as_a_table():
    model = models.mlp(1, 8, 10)
    text = str(nbprop.summary(model, (1, 8, 8)))
    assert text == repr(nbprop.summary(model, (1, 8, 8)))
    lines = text.splitlines()
    assert lines[0].split() == ["layer", "output", "shape", "weights", "flops", "bytes"]
    assert len({len(line) for line in lines}) == 1
    assert lines[-1].startswith("total")
    assert model.training


def test_it_refuses():
    with pytest.raises(ValueError, match="input_shape is"):
        nbprop.summary(models.mlp(), (1, 1, 1, 1, 1))
    with pytest.raises(ValueError, match="x has 3 channels"):
        nbprop.summary(models.lenet(), (3, 28, 28))
    with pytest.raises(ValueError, match="model is a list"):
        nbprop.summary([], (3,))


def test_float64():
    model = nn.Sequential(nn.Linear(5, 3, dtype=np.float64))
    assert nbprop.summary(model, (5,), np.float64).total.bytes == 8 * (18 + 3)
