"""Small networks that fit the shape of their data.

Each function takes the number of input channels, the size of the images (an int or a pair H, W) and the
number of classes, and returns a model from images to logits.
"""

from nbprop import shapes
from nbprop.nn import Add, AvgPool2d, BatchNorm2d, Conv2d, Flatten, Graph, Linear, MaxPool2d, ReLU, Sequential

__all__ = ["cifar_cnn", "cnn", "lenet", "mlp", "resnet20"]


def cnn(channels=1, size=28, classes=10):
    """Two 3x3 convolutions and a pooling, once below 16 pixels and else twice, then two linear layers.

    Widths are 32 and 64; for 3 channels and 32 x 32 it is the network of `cifar_cnn`.
    """
    h, w = _image(channels, size, classes, 2)
    layers, before = [], channels
    for width in (32, 64) if min(h, w) >= 16 else (32,):
        layers += [Conv2d(before, width, 3, padding=1), ReLU()]
        layers += [Conv2d(width, width, 3, padding=1), ReLU(), MaxPool2d(2)]
        before, h, w = width, h // 2, w // 2
    hidden = 256 if len(layers) > 5 else 128
    return Sequential(*layers, Flatten(), Linear(before * h * w, hidden), ReLU(), Linear(hidden, classes))


def cifar_cnn():
    """The `cnn` for CIFAR-10: 3 x 32 x 32, 32-32-64-64 channels, 256 hidden, 10 classes."""
    return cnn(3, 32, 10)


def mlp(channels=1, size=28, classes=10, hidden=512):
    """Two hidden layers on the pixels as one vector: 784-512-512-10 for MNIST."""
    h, w = _image(channels, size, classes, 1)
    hidden = shapes.integer("hidden", hidden, 1)
    return Sequential(Flatten(), Linear(channels * h * w, hidden), ReLU(), Linear(hidden, hidden), ReLU(),
                      Linear(hidden, classes))  # fmt: skip


def lenet(channels=1, size=28, classes=10):
    """LeNet-5 with ReLU and max pooling, for images of at least 12 x 12 (LeCun et al. 1998, section II.B)."""
    h, w = _image(channels, size, classes, 12)
    h, w = (h // 2 - 4) // 2, (w // 2 - 4) // 2
    return Sequential(
        Conv2d(channels, 6, 5, padding=2), ReLU(), MaxPool2d(2),
        Conv2d(6, 16, 5), ReLU(), MaxPool2d(2), Flatten(),
        Linear(16 * h * w, 120), ReLU(), Linear(120, 84), ReLU(), Linear(84, classes),
    )  # fmt: skip


def resnet20(channels=3, size=32, classes=10):
    """The 20-layer residual network for CIFAR-10, with projections where the size changes (He et al. 2016, 4.2).

    Its state dict has the names of the usual PyTorch form: conv1.weight, bn1.*, layer1.0.conv1.weight, ...,
    layer2.0.shortcut.0.weight (the 1x1 projection), layer2.0.shortcut.1.* (its norm), ..., linear.weight,
    linear.bias. Convolutions have no bias.
    """
    h, w = _image(channels, size, classes, 1)
    return Graph({
        "conv1": Conv2d(channels, 16, 3, padding=1, bias=False), "bn1": BatchNorm2d(16), "relu": ReLU(),
        "layer1": _stage(16, 16, 1), "layer2": _stage(16, 32, 2), "layer3": _stage(32, 64, 2),
        "pool": AvgPool2d((-(-h // 4), -(-w // 4))), "flatten": Flatten(), "linear": Linear(64, classes),
    })  # fmt: skip


def _stage(before, width, stride):
    return Sequential(_block(before, width, stride), _block(width, width, 1), _block(width, width, 1))


def _block(before, width, stride):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, figure 2)."""
    nodes = {
        "conv1": Conv2d(before, width, 3, stride, 1, bias=False), "bn1": BatchNorm2d(width), "relu1": ReLU(),
        "conv2": Conv2d(width, width, 3, padding=1, bias=False), "bn2": BatchNorm2d(width),
    }  # fmt: skip
    if stride == 1:
        return Graph(nodes | {"add": (Add(), "bn2", "input"), "relu2": ReLU()})
    nodes["shortcut"] = Sequential(Conv2d(before, width, 1, stride, bias=False), BatchNorm2d(width)), "input"
    return Graph(nodes | {"add": (Add(), "bn2", "shortcut"), "relu2": ReLU()})


def _image(channels, size, classes, least):
    shapes.integer("channels", channels, 1)
    shapes.integer("classes", classes, 1)
    return shapes.pair("size", size, least)
