"""The suite's nets in PyTorch, layer for layer, so that our weights load into them in order."""

__all__ = ["build"]


def build(torch, name):
    """Return the net called `name` as a torch module."""
    nn = torch.nn
    relu, flatten = nn.ReLU, nn.Flatten
    if name == "mlp":
        return nn.Sequential(nn.Linear(784, 512), relu(), nn.Linear(512, 512), relu(), nn.Linear(512, 10))
    if name == "lenet":
        return nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), relu(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), relu(), nn.MaxPool2d(2), flatten(),
            nn.Linear(400, 120), relu(), nn.Linear(120, 84), relu(), nn.Linear(84, 10),
        )  # fmt: skip
    if name == "cifar_cnn":
        return nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), relu(), nn.Conv2d(32, 32, 3, padding=1), relu(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), relu(), nn.Conv2d(64, 64, 3, padding=1), relu(), nn.MaxPool2d(2),
            flatten(), nn.Linear(4096, 256), relu(), nn.Linear(256, 10),
        )  # fmt: skip
    raise ValueError(f"net is {name!r}; expected mlp, lenet or cifar_cnn")
