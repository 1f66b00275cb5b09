"""`nbprop bench train`: CIFAR-10 with `cifar_cnn` by us and by PyTorch, from the same weights in the same order."""

import json
import time

import numpy as np

from nbprop import data, models, nn, optim, shapes
from nbprop.bench import clock, step, suite, torch_nets
from nbprop.data.batches import Batches
from nbprop.nn.init import manual_seed
from nbprop.trainer import Trainer

__all__ = ["compare"]

NET, BATCH, SEED = "cifar_cnn", 64, 0
SETTINGS = {"lr": 0.01, "momentum": 0.9}


class _Ours:
    """The trainer as users run it, an epoch at a time."""

    def __init__(self, train, test):
        self.train, self.test = train, test
        manual_seed(SEED)
        self.model = getattr(models, NET)()
        self.start = self.model.state_dict()
        optimizer = optim.SGD(self.model.parameters(), **SETTINGS)
        self.trainer = Trainer(self.model, nn.CrossEntropyLoss(), optimizer, SEED, progress=False)

    def epoch(self):
        """Train once over the images; return the mean loss."""
        return self.trainer.fit(self.train, None, 1, BATCH)[-1]["loss"]

    def accuracy(self):
        return self.trainer.evaluate(self.test, BATCH)["accuracy"]


class _Theirs:
    """The same in PyTorch, eager; its images are scaled and in its memory format before the clock runs."""

    def __init__(self, torch, form, start, train, test):
        self.torch, self.form = torch, form
        self.net = torch_nets.build(torch, NET)
        self.net.load_state_dict(dict(zip(self.net.state_dict(), map(torch.from_numpy, start.values()), strict=True)))
        if form == "channels_last":
            self.net.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.net.parameters(), **SETTINGS)
        self.batches, self.epochs = Batches(train, BATCH), 0
        self.train, self.test = (self._tensors(dataset) for dataset in (train, test))

    def _tensors(self, dataset):
        """Return (images, labels); the images' axes are in the order of their memory, for gathering along rows."""
        x, labels = next(Batches(dataset, len(dataset)).in_order())
        memory = x.transpose(0, 2, 3, 1) if self.form == "channels_last" else np.ascontiguousarray(x)
        return self.torch.from_numpy(memory), self.torch.from_numpy(labels)

    def _batch(self, images, rows):
        x = images[rows]
        return x.permute(0, 3, 1, 2) if self.form == "channels_last" else x

    def epoch(self):
        """Train once over the images, in the order that our trainer takes; return the mean loss."""
        self.epochs += 1
        self.batches.shuffled(SEED, self.epochs)
        images, labels = self.train
        total = 0.0
        for rows in self.torch.from_numpy(self.batches.order).split(BATCH):
            self.optimizer.zero_grad()
            loss = self.torch.nn.functional.cross_entropy(self.net(self._batch(images, rows)), labels[rows])
            loss.backward()
            self.optimizer.step()
            total += float(loss.detach()) * len(rows)
        return total / len(labels)

    def accuracy(self):
        images, labels = self.test
        with self.torch.no_grad():
            parts = [self.net(self._batch(images, rows)).argmax(1) == labels[rows]
                     for rows in self.torch.arange(len(labels)).split(BATCH)]  # fmt: skip
        return float(self.torch.cat(parts).double().mean())


def compare(folder, torch=None, epochs=None, limit=None, as_json=False):
    """Train both sides, epoch by epoch in turns; print losses, seconds and test accuracies; return 0.

    Raises
    ------
    FileNotFoundError, ValueError
        If the data is missing or damaged, or a number cannot be used.
    """
    epochs = shapes.integer("--epochs", 3 if epochs is None else epochs, 1)
    train, test = (_first(part, limit) for part in data.load("cifar10", folder))
    show = (lambda text: None) if as_json else (lambda text: print(text, flush=True))
    sides = {"ours": _Ours(train, test)}
    # Its better memory format is found by the training step's row, which also compiles our kernels.
    (row,) = step.contests(NET, suite.net_rows()[NET], torch)
    row.ours()
    form = min(zip(clock.race([*row.peers.values()]), row.peers))[1] if torch else None
    if torch:
        sides["torch"] = _Theirs(torch, form, sides["ours"].start, train, test)
    show(f"{NET}, batch {BATCH}, SGD {SETTINGS}, {len(train):,} images" + (f", torch in {form}" if torch else ""))
    records = {who: {"seconds": [], "loss": []} for who in sides}
    for epoch in range(1, epochs + 1):
        for who, side in sides.items():
            begun = time.perf_counter()
            records[who]["loss"].append(side.epoch())
            records[who]["seconds"].append(time.perf_counter() - begun)
        show(f"epoch {epoch}/{epochs}: " + "; ".join(
            f"{who} {r['seconds'][-1]:.1f} s, loss {r['loss'][-1]:.4f}" for who, r in records.items()))  # fmt: skip
    for who, side in sides.items():
        records[who]["accuracy"] = side.accuracy()
        show(f"{who}: test accuracy {records[who]['accuracy']:.2%} on {len(test):,} images, "
             f"{sum(records[who]['seconds']):.1f} s of training")  # fmt: skip
    ratio = sum(records["torch"]["seconds"]) / sum(records["ours"]["seconds"]) if torch else None
    if torch:
        show(f"torch's time by ours: {ratio:.2f}")
    if as_json:
        print(json.dumps({**records, "images": len(train), "format": form, "ratio": ratio}, indent=1))
    return 0


def _first(dataset, limit):
    if limit is None:
        return dataset
    limit = shapes.integer("--limit", limit, 1)
    return data.Dataset(dataset.images[:limit], dataset.labels[:limit], dataset.scaling)
