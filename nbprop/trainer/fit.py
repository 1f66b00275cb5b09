"""Fit a model to data: batches, steps, records of each epoch, and the run folder."""

import itertools
import math
import pathlib
import time

import numpy as np

from nbprop import layout, shapes
from nbprop import schedule as schedules
from nbprop.data.batches import Batches, GpuBatches
from nbprop.data.dataset import Dataset, as_dataset
from nbprop.defer import Together, run
from nbprop.ops.update import CHUNK
from nbprop.repeat import Repeated
from nbprop.trainer.progress import Progress
from nbprop.trainer.run_folder import RunFolder
from nbprop.trainer.totals import GpuTotals, Totals

__all__ = ["Trainer", "TrainingDiverged"]


class TrainingDiverged(ArithmeticError):
    """A loss or gradient was not finite; the weights are those from before the step.

    Parameters
    ----------
    epoch, step : int
        Both counted from 1.
    layer : str or None
        Name of the parameter whose gradient is the first, on the way back from the loss, that is not finite.
    lr, loss : float
    hint : str
        What to do.
    """

    def __init__(self, epoch, step, layer, lr, loss, hint):
        self.epoch, self.step, self.layer, self.lr, self.loss = epoch, step, layer, lr, loss
        gradient = f"the gradient of {layer}" if layer else "no gradient of a single parameter"
        super().__init__(f"training stopped in epoch {epoch}, step {step}, before the weights were changed: "
                         f"the loss is {loss:.6g} and {gradient} is not finite (learning rate {lr:.6g}); "
                         f"{hint}")


class Trainer:
    """Train, evaluate and apply a model.

    Parameters
    ----------
    model : Module
    loss : loss module
        `forward(y, target)` gives the mean loss of a batch, `backward()` its gradient by y. Not needed
        to predict.
    optimizer : optimizer over the model's parameters
        Needed to fit alone.
    seed : int
        Decides the order of the images. The same seed, for a model made after the same `manual_seed`, gives
        the same history, bit for bit, for any number of threads.
    out : path, optional
        Run folder: model.safetensors, config.json, history.json, and curves.png where matplotlib is
        installed.
    callbacks : sequence
        Functions (trainer, record) or objects with `on_epoch_end(trainer, record)`, called after each epoch.
        One that sets `trainer.stop = True` ends training.
    schedule : function, optional
        From the finished fraction of a `fit` to the factor of the learning rate; see `nbprop.schedule`.
    config : dict, optional
        Further entries for config.json.
    progress : bool
        Show a bar on a terminal, or a line per epoch elsewhere, on stderr.
    device : str, optional
        "cuda" or "cpu": where the model is moved to and trains; by default, where it is. On the GPU steps are
        launched without waiting for them: a loss that is not finite stops the updates at once, and training when
        the figures are next shown.

    Attributes
    ----------
    history : list of dict
        One per epoch: epoch, loss, accuracy, validation_loss, validation_accuracy, seconds.
    """

    def __init__(self, model, loss=None, optimizer=None, seed=0, out=None, callbacks=(), schedule=None,
                 config=None, progress=True, device=None):
        self.model, self.loss, self.optimizer, self.seed = model, loss, optimizer, seed
        self.out = None if out is None else pathlib.Path(out)
        self.callbacks, self.schedule = tuple(callbacks), schedule or schedules.constant
        self.config, self.progress = dict(config or {}), progress
        self.history, self.stop, self.epoch, self.output = [], False, 0, None
        self._steps, self._scaling, self._totals = 0, None, None
        self._groups = [] if optimizer is None else optimizer.param_groups
        self._settle(device)

    def fit(self, train, validation=None, epochs=1, batch_size=64):
        """Train for `epochs` more epochs; return the history.

        Parameters
        ----------
        train, validation : Dataset or tuple (images, labels)
        epochs, batch_size : int

        Raises
        ------
        TrainingDiverged
            If a loss or gradient is not finite.
        ValueError
            If data, epochs or batch size cannot be used.
        """
        epochs = shapes.integer("epochs", epochs, 1)
        if self.loss is None or self.optimizer is None:
            raise ValueError("loss or optimizer is None; expected both: Trainer(model, loss, optimizer)")
        train = as_dataset(train)
        self._scaling = train.images.dtype == np.uint8, train.scaling
        batches = self._batches(train, batch_size, "train")
        checks = None
        if validation is not None:
            checks = self._batches(self._dataset(validation, "validation"), batch_size, "validation")
        folder = None if self.out is None else RunFolder(self.out, self, train, epochs, batches.batch_size)
        first, rates = self.epoch, [group["lr"] for group in self._groups]
        self.stop = False
        try:
            with Progress(epochs * len(train), first + epochs, self.progress) as progress:
                while self.epoch < first + epochs and not self.stop:
                    done = (self.epoch - first) / epochs
                    self._run_epoch(batches, checks, progress, rates, done, 1 / (epochs * len(batches)))
                    if folder is not None:
                        folder.epoch_ended(self)
        finally:
            self._set_rates(rates, 1.0)
        if folder is not None:
            folder.fit_ended(self)
        return self.history

    def step(self, x, target):
        """Make one training step on a batch of the model's dtype; return its loss.

        On the GPU the loss is an array there, which waits for the step when `nbprop.to_host` reads it.
        """
        self._steps += 1
        with Together():  # it holds all that goes in, until what is put off is done
            self.output = run(self.model.forward, x)
            loss = run(self.loss.forward, self.output, target)
            gradient = run(self.loss.backward)
            run(self.model.backward, gradient, input_gradient=False)
            self._check_gradients()
        if self.device == "cuda":
            return self._end_on_gpu(loss, target)
        unchecked = isinstance(loss, np.ndarray)
        loss = loss.item() if unchecked else float(loss)
        if not math.isfinite(loss + sum(self._health.tolist())):
            if unchecked:
                self.loss.forward(self.output, target)  # now that nothing is put off it refuses a bad target
            raise self._diverged(x, loss)
        self.optimizer.step()
        return loss

    def evaluate(self, dataset, batch_size=64):
        """Return {"loss": mean, "accuracy": fraction or None} over a Dataset or a tuple (images, labels)."""
        return self._evaluate(self._batches(self._dataset(dataset, "dataset"), batch_size, "dataset"))

    def predict(self, x, batch_size=64):
        """Return the model's outputs for images (an array or a Dataset): for classes, their logits.

        uint8 images, and floats if the model was fitted on floats, are scaled as the training images
        were; other floats are taken to be scaled already.
        """
        dataset = x if isinstance(x, Dataset) else self._dataset((x, None), "x")
        batches, here = self._gather(dataset, batch_size), layout.mover("cpu")
        mode = self.model.training
        self.model.eval()
        try:
            parts = [here(self.model.forward(x)).copy("K") for x, _ in batches.in_order()]
        finally:
            self.model.train(mode)
        return np.concatenate(parts) if parts else here(self.model(batches.x[:0]))

    def _run_epoch(self, batches, checks, progress, rates, done, share):
        """Train over all batches once, then validate, record, and call back."""
        begun = time.perf_counter()
        self.epoch, self._steps = self.epoch + 1, 0
        self.model.train()
        progress.begin(self.epoch)
        totals = self._totals = self._count(batches, lambda step, loss: self._diverged_on_gpu(batches, step, loss))
        for x, target in batches.shuffled(self.seed, self.epoch):
            self._set_rates(rates, self.schedule(done + self._steps * share))
            loss = self.step(x, target)
            if self.device == "cpu":
                totals.add(loss, self.output, target)
            progress.advance(len(x), totals)
        loss, accuracy = totals.figures()
        progress.trained(totals.seen)
        record = {"epoch": self.epoch, "loss": loss, "accuracy": accuracy}
        checked = {} if checks is None else self._evaluate(checks)
        record |= {f"validation_{key}": checked.get(key) for key in ("loss", "accuracy")}
        record["seconds"] = time.perf_counter() - begun
        self.history.append(record)
        progress.end(record)
        for callback in self.callbacks:
            getattr(callback, "on_epoch_end", callback)(self, record)

    def _set_rates(self, rates, factor):
        for group, rate in zip(self._groups, rates):
            group["lr"] = rate * factor

    def _settle(self, device):
        """Move to the device, and allocate room for the health of each group's gradient, chunk by chunk."""
        if device is None:
            device = "cuda" if any(layout.on_gpu(p.data) for p in self.model.parameters()) else "cpu"
        else:
            self.model.to(device)
        self.device = device
        if hasattr(self.optimizer, "follow"):
            self.optimizer.follow()
        ends = np.cumsum([0, *(-(-g["grad"].size // CHUNK) for g in self._groups)]).tolist()
        like = self._groups[0]["grad"] if self._groups else None
        self._health = layout.empty((ends[-1],), np.float64, like)
        self._checks = [(Repeated("update", "health"), self._health[a:b]) for a, b in itertools.pairwise(ends)]

    def _check_gradients(self):
        for group, (check, partial) in zip(self._groups, self._checks):
            check.run(group["grad"], partial)

    def _end_on_gpu(self, loss, target):
        """Count the step and update, all without waiting."""
        if self._totals is None:
            self._totals = GpuTotals(False, self.output)
        self._totals.add(loss, self.output, target, self._health)
        self.optimizer.step(self._totals.gate)
        return loss

    def _count(self, batches, diverged=None):
        """Begin to sum loss and accuracy."""
        counts = batches.dataset.classes is not None
        return Totals(counts) if self.device == "cpu" else GpuTotals(counts, batches.x, diverged)

    def _evaluate(self, batches):
        mode = self.model.training
        self.model.eval()
        totals = self._count(batches)
        try:
            for x, target in batches.in_order():
                y = self.model.forward(x)
                totals.add(self.loss.forward(y, target), y, target)
        finally:
            self.model.train(mode)
        return dict(zip(("loss", "accuracy"), totals.figures()))

    def _dataset(self, data, name):
        """Bring validation or test images to the scaling of the training images."""
        if isinstance(data, Dataset):
            return data
        dataset = as_dataset(data, name)
        if self._scaling is not None and self._scaling[0] == (dataset.images.dtype == np.uint8):
            dataset = Dataset(dataset.images, dataset.labels, self._scaling[1])
        return dataset

    def _batches(self, dataset, batch_size, name):
        if dataset.labels is None:
            raise ValueError(f"{name} has no labels; expected one for each image")
        if not len(dataset):
            raise ValueError(f"{name} has no images; expected at least one")
        return self._gather(dataset, batch_size)

    def _gather(self, dataset, batch_size):
        return (Batches if self.device == "cpu" else GpuBatches)(dataset, batch_size, self._dtype())

    def _dtype(self):
        return next((p.dtype for p in self.model.parameters()), np.dtype(np.float32))

    def _diverged(self, x, loss):
        """Say where the first non-finite value is; runs once, so it may be slow."""
        here = layout.mover("cpu")
        names = [name for name, p in self.model.named_parameters() if not np.isfinite(here(p.grad)).all()]
        hint = "try a lower learning rate"
        if not np.isfinite(x).all():
            hint = "the batch itself holds NaN or infinity: clean the data"
        layer = names[-1] if names else None
        return TrainingDiverged(self.epoch, self._steps, layer, self._groups[0]["lr"], loss, hint)

    def _diverged_on_gpu(self, batches, step, loss):
        """Go back to the step, whose weights are still there, for its gradients."""
        dataset, outputs = batches.dataset, self.output.shape[1]
        if (dataset.classes or 0) > outputs:
            return ValueError(f"target has the label {dataset.classes - 1}; expected 0 to {outputs - 1}, as the model "
                              f"has {outputs} outputs")
        again = Batches(dataset, batches.batch_size, self._dtype()).shuffled(self.seed, self.epoch)
        x, target = next(itertools.islice(again, step - 1, None))
        there = layout.mover("cuda")
        self.loss.forward(self.model.forward(there(x)), there(target))
        self.model.backward(self.loss.backward(), input_gradient=False)
        self._steps = step
        return self._diverged(x, loss)
