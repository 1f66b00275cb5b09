"""The suite's nets in PyTorch, layer for layer, so that our weights load into them in order."""

__all__ = ["build", "training_step"]


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
    if name == "resnet20":
        return _resnet20(torch)
    raise ValueError(f"net is {name!r}; expected mlp, lenet, cifar_cnn or resnet20")


def training_step(torch, net, x, target, lr, momentum):
    """Return a function that makes one step on a batch, eager, and returns the loss."""
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum)

    def run():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), target)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return run


def _resnet20(torch):
    """He et al. 2016, section 4.2, with projections on the two shortcuts that change the shape."""
    nn = torch.nn

    def convolve(before, width, size, stride):
        return nn.Conv2d(before, width, size, stride, size // 2, bias=False)

    class Block(nn.Module):
        def __init__(self, before, width, stride):
            super().__init__()
            self.conv1, self.bn1 = convolve(before, width, 3, stride), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = convolve(width, width, 3, 1), nn.BatchNorm2d(width)
            self.relu, self.shortcut = nn.ReLU(), nn.Sequential()
            if stride != 1:
                self.shortcut = nn.Sequential(convolve(before, width, 1, stride), nn.BatchNorm2d(width))

        def forward(self, x):
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(y + self.shortcut(x))

    def stage(before, width, stride):
        return nn.Sequential(Block(before, width, stride), Block(width, width, 1), Block(width, width, 1))

    return nn.Sequential(
        convolve(3, 16, 3, 1), nn.BatchNorm2d(16), nn.ReLU(),
        stage(16, 16, 1), stage(16, 32, 2), stage(32, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
