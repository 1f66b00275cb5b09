"""Models on disk, and the models that come with the library."""

import json

import numpy as np
import pytest
from oracle import needs_torch

import nbprop
from nbprop import models, nn, saving
from nbprop.nn.module import Module


def outputs(model, shape=(3, 2, 12, 12), dtype=np.float32):
    return model.eval()(np.random.default_rng(0).standard_normal(shape).astype(dtype))


@pytest.mark.parametrize("name", ["cnn", "mlp", "lenet"])
def test_models_come_back(tmp_path, name):
    model = getattr(models, name)(2, 12, 5)
    nbprop.save(model, tmp_path / "m.safetensors")
    again = nbprop.load(tmp_path / "m.safetensors")
    assert not again.training
    assert saving.describe(again) == saving.describe(model)
    np.testing.assert_array_equal(outputs(again), outputs(model))


EVERY_LAYER = [
    nn.Conv2d(2, 4, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=2, bias=False),
    nn.Conv2d(2, 4, 3, padding="same"),
    nn.Linear(12, 3, bias=False),
    nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    nn.MaxPool2d(2, dilation=2),
    nn.AvgPool2d((2, 3), (1, 2), (1, 1), count_include_pad=False),
    nn.AvgPool2d(2, ceil_mode=True, divisor_override=3),
    nn.ReLU(),
    nn.Dropout(0.25),
    nn.Flatten(),
    nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(288, 4), nn.ReLU())),
]


@pytest.mark.parametrize("layer", EVERY_LAYER, ids=lambda layer: type(layer).__name__)
def test_every_layer_keeps_its_arguments(tmp_path, layer):
    nbprop.save(nn.Sequential(layer), tmp_path / "m.safetensors")
    again = nbprop.load(tmp_path / "m.safetensors")[0]
    assert type(again) is type(layer)
    shape = (3, 12) if isinstance(layer, nn.Linear) else (3, 2, 12, 12)
    np.testing.assert_array_equal(outputs(again, shape), outputs(layer, shape))
    assert saving.describe(again) == saving.describe(layer)
    json.dumps(saving.describe(layer), allow_nan=False)


def test_float64_models_come_back_as_float64(tmp_path):
    model = nn.Sequential(nn.Linear(12, 3, dtype=np.float64))
    nbprop.save(model, tmp_path / "m.safetensors")
    again = nbprop.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(outputs(again, (3, 12), np.float64), outputs(model, (3, 12), np.float64))


class Own(Module):
    """A layer that nbprop does not know."""

    def forward(self, x):
        return x


def test_own_layers_save_weights_alone(tmp_path):
    model = nn.Sequential(nn.Linear(12, 3), Own())
    nbprop.save(model, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"Own is not a layer of nbprop.nn.*load_weights"):
        nbprop.load(tmp_path / "m.safetensors")
    weights = nbprop.load_weights(tmp_path / "m.safetensors")
    again = nn.Sequential(nn.Linear(12, 3), Own()).load_state_dict(weights)
    np.testing.assert_array_equal(outputs(again, (3, 12)), outputs(model, (3, 12)))


def test_save_replaces_at_once_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "m.safetensors"
    nbprop.save(models.mlp(1, 4, 3), path)
    nbprop.save(models.mlp(1, 5, 3), path)
    assert outputs(nbprop.load(path), (2, 1, 5, 5)).shape == (2, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]
    with pytest.raises(OSError, match="none"):
        nbprop.save(models.mlp(1, 4, 3), tmp_path / "none" / "m.safetensors")


def test_damaged_and_missing_files(tmp_path):
    path = tmp_path / "m.safetensors"
    nbprop.save(models.mlp(1, 4, 3), path)
    whole = path.read_bytes()
    for length in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"m.safetensors \({length:,} bytes\) cannot be read as safe"):
            nbprop.load(path)
    with pytest.raises(FileNotFoundError, match="is missing"):
        nbprop.load(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match=r"model.safetensors is missing; expected a .safetensors"):
        nbprop.load(tmp_path)


@pytest.mark.parametrize(
    "description",
    [
        {"layer": "Module", "arguments": {}},
        {"layer": "os", "arguments": {}},
        {"layer": "Linear", "arguments": {"in_features": 3}},
        {"layer": "Linear", "arguments": {"in_features": -3, "out_features": 2}},
        {"arguments": {}},
    ],
)
def test_a_description_builds_layers_and_nothing_else(tmp_path, description):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(1)}, tmp_path / "m.safetensors", {"model": json.dumps(description)})
    with pytest.raises(ValueError, match=r"."):
        nbprop.load(tmp_path / "m.safetensors")


@needs_torch
def test_torch_reads_our_weights(tmp_path):
    import torch
    from safetensors.torch import load_file

    model = models.lenet(1, 12, 10)
    nbprop.save(model, tmp_path / "m.safetensors")
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 5, padding=2), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(6, 16, 5), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(16, 120), torch.nn.ReLU(), torch.nn.Linear(120, 84), torch.nn.ReLU(),
        torch.nn.Linear(84, 10),
    )  # fmt: skip
    theirs.load_state_dict(load_file(tmp_path / "m.safetensors"))
    x = np.random.default_rng(0).standard_normal((4, 1, 12, 12), np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(model(x), theirs(torch.from_numpy(x)).numpy(), rtol=1e-4, atol=1e-5)


# The models


@pytest.mark.parametrize("size", [8, 12, 28, 32, (9, 17)])
@pytest.mark.parametrize("name", ["cnn", "mlp", "lenet"])
def test_models_fit_their_data(name, size):
    h, w = size if isinstance(size, tuple) else (size, size)
    if name == "lenet" and min(h, w) < 12:
        with pytest.raises(ValueError, match="size is"):
            models.lenet(3, size, 7)
        return
    assert outputs(getattr(models, name)(3, size, 7), (2, 3, h, w)).shape == (2, 7)


def test_models_are_those_of_the_benchmarks():
    def sizes(model):
        return [p.shape for name, p in model.named_parameters() if name.endswith("weight")]

    assert sizes(models.mlp()) == [(512, 784), (512, 512), (10, 512)]
    assert sizes(models.lenet()) == [(6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84)]
    convolutions = [(32, 3, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3)]
    assert sizes(models.cifar_cnn()) == [*convolutions, (256, 4096), (10, 256)]


@pytest.mark.parametrize("arguments", [(0, 8, 10), (1, 8, 0), (1, 1, 10), (1, (8, 8, 8), 10), (1, 8, 2.5)])
def test_models_refuse(arguments):
    with pytest.raises(ValueError, match=r"(channels|classes|size) is .*; expected"):
        models.cnn(*arguments)
