"""Every layer, loss and container on the GPU against the CPU, at toy sizes: in the simulator, or on a GPU (-m gpu)."""

import copy
import importlib
import inspect

import numpy as np
import pytest
from device import KERNELS, SIMULATED, here
from oracle import assert_close, normal

from nbprop import models, nn
from nbprop.lent import Lent
from nbprop.nn.init import manual_seed

pytestmark = KERNELS


def doubled(x):
    """Double each element, wherever it is."""
    y = x.copy("K")
    importlib.import_module("nbprop.layout").multiply(y, 2)
    return y


def evaluating(layer):
    """The same layer as it is after training."""
    return layer.eval()


MAPS, ROWS = (2, 2, 4, 3), (3, 4)
LAYERS = {
    "Abs": (lambda: nn.Abs(), ROWS),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((2, 1)), MAPS),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d(2), MAPS),
    "AvgPool2d": (lambda: nn.AvgPool2d(2, 1, 1, count_include_pad=False), MAPS),
    "AvgUnpool2d": (lambda: nn.AvgUnpool2d(2, 1), (1, 2, 2, 3)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(2), MAPS),
    "BatchNorm2d, evaluating": (lambda: evaluating(nn.BatchNorm2d(2)), MAPS),
    "CircularPad2d": (lambda: nn.CircularPad2d(1), (1, 2, 2, 3)),
    "ConstantPad2d": (lambda: nn.ConstantPad2d((0, 1, 1, -1), 2.0), MAPS),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 3, 2, 1), MAPS),
    "Conv2d, groups": (lambda: nn.Conv2d(2, 4, (1, 3), groups=2, dilation=(2, 1), bias=False), MAPS),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 2, 2), (1, 2, 2, 2)),
    "Crop2d": (lambda: nn.Crop2d((1, 0, 0, 1)), MAPS),
    "Dropout": (lambda: nn.Dropout(0.3), ROWS),
    "Dropout, evaluating": (lambda: evaluating(nn.Dropout(0.3)), ROWS),
    "ELU": (lambda: nn.ELU(0.5), ROWS),
    "Flatten": (lambda: nn.Flatten(), MAPS),
    "Flatten, one channel": (lambda: nn.Flatten(), (2, 1, 3, 2)),
    "Fold": (lambda: nn.Fold((3, 3), 2), (1, 8, 4)),
    "Function": (lambda: nn.Function(doubled, lambda x, dy: doubled(dy)), MAPS),
    "GELU": (lambda: nn.GELU(), ROWS),
    "GramMatrix": (lambda: nn.GramMatrix(True), (2, 3, 2, 2)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (2, 4, 2, 2)),
    "GroupNorm, rows": (lambda: nn.GroupNorm(1, 4), ROWS),
    "Hardsigmoid": (lambda: nn.Hardsigmoid(), ROWS),
    "Hardswish": (lambda: nn.Hardswish(), ROWS),
    "Hardtanh": (lambda: nn.Hardtanh(), ROWS),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(2, affine=True, track_running_stats=True), MAPS),
    "LayerNorm": (lambda: nn.LayerNorm(4), ROWS),
    "LayerNorm, maps": (lambda: nn.LayerNorm((2, 4, 3)), MAPS),
    "LayerNorm, columns": (lambda: nn.LayerNorm(3, bias=False), (1, 2, 2, 3)),
    "LeakyReLU": (lambda: nn.LeakyReLU(), ROWS),
    "Linear": (lambda: nn.Linear(4, 3), ROWS),
    "Linear, no bias": (lambda: nn.Linear(4, 2, bias=False), ROWS),
    "LogSoftmax": (lambda: nn.LogSoftmax(1), ROWS),
    "MVN": (lambda: nn.MVN(), MAPS),
    "MVN, across": (lambda: nn.MVN(False, True), MAPS),
    "MaxPool2d": (lambda: nn.MaxPool2d(2, ceil_mode=True), MAPS),
    "PReLU": (lambda: nn.PReLU(2), MAPS),
    "PReLU, one": (lambda: nn.PReLU(), ROWS),
    "Power": (lambda: nn.Power(2.0, 0.5, 1.0), ROWS),
    "ReLU": (lambda: nn.ReLU(), ROWS),
    "ReLU, slope at 0": (lambda: nn.ReLU(grad_at_zero=1.0), ROWS),
    "ReflectionPad2d": (lambda: nn.ReflectionPad2d(1), (1, 2, 2, 3)),
    "ReplicationPad2d": (lambda: nn.ReplicationPad2d((1, 0, 2, 1)), (1, 2, 2, 3)),
    "SiLU": (lambda: nn.SiLU(), ROWS),
    "Sigmoid": (lambda: nn.Sigmoid(), ROWS),
    "Softmax": (lambda: nn.Softmax(-1), ROWS),
    "Softmax, channels": (lambda: nn.Softmax(1), MAPS),
    "Softplus": (lambda: nn.Softplus(), ROWS),
    "Tanh": (lambda: nn.Tanh(), ROWS),
    "Unfold": (lambda: nn.Unfold(2, padding=(0, 1)), (1, 2, 3, 2)),
    "Upsample": (lambda: nn.Upsample(scale_factor=2), (1, 2, 2, 2)),
    "Upsample, bilinear": (lambda: nn.Upsample((3, 5), mode="bilinear", align_corners=True), (1, 2, 2, 2)),
    "ZeroPad2d": (lambda: nn.ZeroPad2d(1), (1, 2, 2, 3)),
    "Sequential": (lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2)), MAPS),
    "Sequential, products": (lambda: nn.Sequential(
        nn.Conv2d(2, 2, 1), nn.ReLU(), nn.ConvTranspose2d(2, 3, 2), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.Flatten(),
        nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3)), MAPS),
    "Sequential, norm and pool": (lambda: nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 1), nn.ReLU(),
                                                       nn.MaxPool2d(2)), MAPS),
    "Recompute": (lambda: nn.Recompute(nn.BatchNorm2d(2), nn.Tanh(), nn.Dropout(0.5)), MAPS),
    "Residual": (lambda: nn.Residual(nn.Conv2d(2, 2, 3, padding=1)), MAPS),
    "Residual, shortcut": (lambda: nn.Residual(nn.Linear(4, 3), nn.Linear(4, 3)), ROWS),
    "Graph": (lambda: nn.Graph({"a": nn.Tanh(), "b": (nn.Abs(), "input"), "c": (nn.Concat(), "a", "b", "a"),
                                "d": (nn.Add(), "c", "c"), "e": nn.ReLU()}), MAPS),
    "models.mlp": (lambda: models.mlp(2, 2, 3, hidden=3), (2, 2, 2, 2)),
    "models.resnet20, a block": (lambda: models._block(2, 2, 1), (2, 2, 3, 2)),
    "models.resnet20, a smaller block": (lambda: models._block(2, 3, 2), (2, 2, 3, 2)),
    "models.resnet20, its ends": (lambda: nn.Graph({"conv1": nn.Conv2d(1, 3, 3, padding=1, bias=False),
                                                    "bn1": nn.BatchNorm2d(3), "relu": nn.ReLU(),
                                                    "pool": nn.AvgPool2d((3, 2)), "flatten": nn.Flatten(),
                                                    "linear": nn.Linear(3, 2)}), (2, 1, 3, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_the_cpu(name, gpu):
    make, shape = LAYERS[name]
    manual_seed(0)  # of norms over 12 numbers one draw in 60 loses two digits, on the CPU too
    layer = make()
    passes(layer, normal(shape, np.float32), gpu)


def test_input_gradients_are_the_layers_own(gpu):
    """However large: launches recognise the arrays that they had before."""
    large = Lent((4, 16, 32, 32), np.float32, gpu.to_device(np.zeros(1)))
    assert isinstance(large.take(), gpu.Array) and large.take() is large.take()


@pytest.mark.skipif(SIMULATED, reason="takes minutes in the simulator; their blocks stand in the table")
@pytest.mark.parametrize("name", ["cnn", "lenet", "mlp", "resnet20"])
def test_models_equal_the_cpu(name, gpu):
    passes(getattr(models, name)(3, 32), normal((4, 3, 32, 32), np.float32), gpu, 1e-3)  # rounding grows with depth


def passes(layer, x, gpu, bound=1e-5):
    """Run a layer forward and backward here and its copy there; compare all that they leave."""
    there = copy.deepcopy(layer).to("cuda")
    y = layer(x)
    y_there = there(gpu.to_device(x))
    assert isinstance(y_there, gpu.Array)
    alike(y_there, y, bound)
    dy = normal(y.shape, np.float32, 1)
    alike(there.backward(gpu.to_device(dy)), layer.backward(dy), bound)
    for (name, mine), (_, theirs) in zip(there.named_parameters(), layer.named_parameters()):
        assert isinstance(mine.grad, gpu.Array), name
        alike(mine.grad, theirs.grad, bound)
    for (_, mine), (_, theirs) in zip(there.named_state(), layer.named_state()):
        alike(mine, theirs, bound)
    gradients = here([p.grad for p in there.parameters()])
    there.backward(gpu.to_device(dy), input_gradient=False)
    for before, after in zip(gradients, here([p.grad for p in there.parameters()])):
        np.testing.assert_array_equal(after, before)


def alike(mine, theirs, bound=1e-5):
    got, = here(mine)
    assert got.dtype == theirs.dtype
    assert_close(got, theirs, bound)


def test_every_layer_is_in_the_table():
    """Bases, and layers with more inputs than one, have no line of their own."""
    elsewhere = {"Activation", "Add", "Concat", "LearnedActivation", "MaxUnpool2d", "Merge", "Module"}
    layers = {n for n in nn.__all__ if inspect.isclass(getattr(nn, n)) and issubclass(getattr(nn, n), nn.Module)}
    assert layers - elsewhere == {name.partition(",")[0] for name in LAYERS if "." not in name}


def test_pooling_and_unpooling(gpu):
    x = normal((1, 2, 4, 2), np.float32)
    sides = []
    for values in (x, gpu.to_device(x)):
        for pool in (nn.MaxPool2d(2, return_indices=True), nn.AdaptiveMaxPool2d(2, return_indices=True)):
            y, indices = pool(values)
            sides.append((*here([y, indices]), *here(pool.backward(y))))
        y, indices = nn.MaxPool2d(2, return_indices=True)(values)
        unpool = nn.MaxUnpool2d(2)
        sides.append((*here(unpool(y, indices)), *here(unpool.backward(values))))
    for on_cpu, on_gpu in zip(sides[:3], sides[3:]):
        for expected, got in zip(on_cpu, on_gpu):
            np.testing.assert_array_equal(got, expected)


LOSSES = {
    "BCEWithLogitsLoss": lambda: nn.BCEWithLogitsLoss(),
    "CrossEntropyLoss": lambda: nn.CrossEntropyLoss(np.array([1, 2, 0.5, 1]), reduction="sum"),
    "EuclideanLoss": lambda: nn.EuclideanLoss(),
    "HuberLoss": lambda: nn.HuberLoss(delta=0.5),
    "L1Loss": lambda: nn.L1Loss(),
    "L1Loss, none": lambda: nn.L1Loss(reduction="none"),
    "MSELoss": lambda: nn.MSELoss(reduction="sum"),
    "StyleLoss": lambda: nn.StyleLoss(),
    "TotalVariationLoss": lambda: nn.TotalVariationLoss(reduction="mean", eps=0.1),
    "TotalVariationLoss, none": lambda: nn.TotalVariationLoss(True, reduction="none"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_the_cpu(name, gpu):
    y, target = normal(ROWS, np.float32), np.abs(normal(ROWS, np.float32, 1))
    if name.startswith(("Style", "Total")):
        y, target = normal(MAPS, np.float32), normal((1, 2, 2), np.float32, 1)
    target /= target.sum(axis=1, keepdims=True)
    arguments = (y,) if name.startswith("Total") else (y, target)
    loss, there = LOSSES[name](), LOSSES[name]()
    value, got = loss(*arguments), there(*map(gpu.to_device, arguments))
    dy = 0.5
    if "none" in name:
        got, = here(got)
        dy = normal(value.shape, np.float32, 2)
    assert_close(np.asarray(got), np.asarray(value), 1e-5)
    on_gpu = there.forward(*map(gpu.to_device, arguments))
    assert isinstance(on_gpu, gpu.Array) and on_gpu.shape == (value.shape if "none" in name else (1,))
    alike(there.backward(gpu.to_device(dy) if "none" in name else dy), loss.backward(dy))


def test_every_loss_is_in_the_table():
    losses = {n for n in nn.__all__ if n.endswith("Loss")} - {"PointwiseLoss"}
    assert losses == {name.partition(",")[0] for name in LOSSES}


@pytest.mark.parametrize("make", [lambda: nn.Linear(4, 2), lambda: nn.GroupNorm(2, 4), lambda: nn.PReLU(4),
                                  lambda: nn.LayerNorm(4)])  # fmt: skip
def test_layers_that_are_elsewhere_refuse(make, gpu):
    x = normal(ROWS, np.float32)
    with pytest.raises(ValueError, match="x came on the GPU but weight on the CPU"):
        make()(gpu.to_device(x))
    with pytest.raises(ValueError, match="came on the GPU but x on the CPU"):
        make().to("cuda")(x)
    layer = make().to("cuda")
    layer(gpu.to_device(x))
    with pytest.raises(ValueError, match="came on the GPU but"):
        layer.backward(x[:, :2] if type(layer) is nn.Linear else x)
