"""Models, optimisers and trainers on the GPU against the CPU: in the simulator, or on a GPU (-m gpu).

A memory checker runs this file, and test_cuda.py, as

    compute-sanitizer --tool memcheck python -m pytest -m gpu -x tests/test_cuda.py tests/test_cuda_training.py

(racecheck, initcheck and synccheck are its other tools).
"""

import copy
import json
import pickle

import numpy as np
import pytest
from device import KERNELS, SIMULATED
from oracle import assert_close, normal

import nbprop
from nbprop import models, nn, ops, optim
from nbprop.bench import on_gpu, suite
from nbprop.bench.cli import bench
from nbprop.cli import main
from nbprop.data import Dataset
from nbprop.data.batches import Batches, GpuBatches
from nbprop.trainer import Trainer, TrainingDiverged

pytestmark = KERNELS
MAKERS = [
    lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    lambda p: optim.AdamW([{"params": [next(p)]}, {"params": [*p], "lr": 0.1}], 0.05),
]


def mlp():
    nbprop.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4, 3))


def data(n=6):
    rng = np.random.default_rng(3)
    return Dataset(rng.standard_normal((n, 5), np.float32), rng.integers(3, size=n))


def trained(device, make=MAKERS[0], epochs=1, dataset=None, **options):
    model = mlp()
    trainer = Trainer(model, nn.CrossEntropyLoss(), make(model.parameters()), device=device, progress=False, **options)
    trainer.fit(dataset or data(), data(2), epochs, 4)
    return trainer


def same_weights(a, b, bound=1e-5):
    b = b.state_dict()
    for name, value in a.state_dict().items():
        assert_close(value, b[name], bound)


def test_a_model_moves_there_and_back(gpu, monkeypatch):
    model = mlp()
    before, copies = model.state_dict(), []
    with monkeypatch.context() as patch:
        patch.setattr(gpu, "to_device", lambda a, move=gpu.to_device: copies.append(a.size) or move(a))
        assert model.to("cuda").to("cuda") is model
    assert copies == [model.data.size] * 2 and model.data is model[0].weight.home.data
    for p in model.parameters():
        start = model.data.address + p.start * 4
        assert isinstance(p.data, gpu.Array) and p.data.address == start
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.to("cpu")):
        assert all(np.array_equal(value, before[name]) for name, value in twin.state_dict().items())
    assert isinstance(model.data, np.ndarray) and np.shares_memory(model.data, model[3].bias.data)


def test_a_layer_that_moves_alone_leaves_the_models_vectors(gpu):
    model = mlp()
    before = model.state_dict()
    model[0].to("cuda")
    assert isinstance(model[0].weight.data, gpu.Array) and isinstance(model[3].weight.data, np.ndarray)
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())


def test_save_and_load(gpu, tmp_path):
    model = mlp()
    nbprop.save(model, tmp_path / "here.safetensors")
    nbprop.save(model.to("cuda"), tmp_path / "there.safetensors")
    same_weights(nbprop.load(tmp_path / "there.safetensors"), nbprop.load(tmp_path / "here.safetensors"), 0)
    other = mlp().to("cuda")
    other.data[...] = 0
    other.load_state_dict(nbprop.load_weights(tmp_path / "there.safetensors"))
    same_weights(other, model, 0)
    other.load_state_dict({name: p.data for name, p in model.named_parameters()})
    same_weights(other, model, 0)


@pytest.mark.parametrize("make", MAKERS)
def test_optimisers_follow_the_model(make, gpu):
    here, there = mlp(), mlp()
    optimizers = [make(m.parameters()) for m in (here, there)]
    for step in range(3):
        if step == 1:
            there.to("cuda")
        for model, optimizer in zip((here, there), optimizers):
            for i, p in enumerate(model.parameters()):
                p.grad[...] = normal(p.shape, np.float32, 10 * step + i)
            optimizer.step()
    same_weights(there, here)
    for a, b in zip(*(o.state_dict() for o in optimizers)):
        for name in optimizers[0].slots:
            assert_close(b[name], a[name], 1e-5)
    assert optim.grad_norm(there) == pytest.approx(optim.grad_norm(here), rel=1e-6)
    assert list(nbprop.gradient_norms(there).values()) == pytest.approx(list(nbprop.gradient_norms(here).values()))
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    optimizers[1].zero_grad()
    assert optim.grad_norm(there) == 0


@pytest.mark.parametrize("make", MAKERS)
def test_training_equals_the_cpu(make, gpu):
    here, there = trained("cpu", make), trained("cuda", make)
    same_weights(there.model, here.model)
    for a, b in zip(here.history, there.history):
        del a["seconds"], b["seconds"]
        assert b == pytest.approx(a, rel=1e-5)
    images = data(3).images
    assert_close(there.predict(images, 2), here.predict(images, 2), 1e-5)
    assert there.predict(images[:0]).shape == (0, 3)


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.CrossEntropyLoss(label_smoothing=0.1)], ids=["mse", "ce"])
def test_losses_and_their_targets(loss, gpu):
    y, t = normal((5, 3), np.float32), np.abs(normal((5, 3), np.float32, 1))
    t /= t.sum(axis=1, keepdims=True)
    value, dy = loss(y, t), loss.backward(0.5).copy()
    assert loss(gpu.to_device(y), gpu.to_device(t)) == pytest.approx(value, rel=1e-6)
    assert_close(gpu.to_host(loss.backward(0.5)), dy, 1e-5)


def test_bad_targets_on_the_gpu(gpu):
    y, labels = gpu.to_device(normal((5, 3), np.float32)), np.array([0, 1, 3, 2, -1])
    with pytest.raises(ValueError, match=r"target has the label 3 at 2; expected 0 to 2"):
        ops.cross_entropy.cross_entropy_forward(y, gpu.to_device(labels))
    assert np.isnan(nn.CrossEntropyLoss()(y, gpu.to_device(labels)))
    with pytest.raises(ValueError, match="came on the GPU but target on the CPU"):
        nn.CrossEntropyLoss()(y, labels)


def test_a_regression_trains(gpu):
    rng = np.random.default_rng(0)
    dataset = Dataset(rng.standard_normal((6, 5), np.float32), rng.standard_normal((6, 3), np.float32))
    results = []
    for device in ("cpu", "cuda"):
        model = mlp()
        trainer = Trainer(model, nn.MSELoss(), optim.Adam(model.parameters()), device=device, progress=False)
        results.append(trainer.fit(dataset, epochs=1, batch_size=4)[0])
    assert results[1]["loss"] == pytest.approx(results[0]["loss"], rel=1e-5) and results[1]["accuracy"] is None


def test_a_step_neither_waits_nor_allocates(gpu, monkeypatch):
    there = trained("cuda")
    counts = {"allocate": 0, "to_host": 0}

    def counted(name, call):
        def counting(*arguments):
            counts[name] += 1
            return call(*arguments)

        return staticmethod(counting)

    for name in counts:
        monkeypatch.setattr(gpu.memory, name, counted(name, getattr(gpu.memory, name)))
    batches = there._gather(data(4), 2)
    counts.update(allocate=0)
    for x, target in batches.in_order():
        loss = there.step(x, target)
    assert counts == {"allocate": 0, "to_host": 0}
    assert np.isfinite(loss.item()) and counts["to_host"] == 1


def test_batches_come_as_on_the_cpu(gpu):
    dataset = Dataset(np.random.default_rng(0).integers(256, size=(7, 2, 3, 2), dtype=np.uint8), np.arange(7))
    here, there = Batches(dataset, 3), GpuBatches(dataset, 3)
    pairs = list(zip(here.shuffled(1, 2), there.shuffled(1, 2), strict=False))
    assert len(pairs) == len(here) == 3 and there.x.shape == here.x.shape
    for a, b in zip(here.shuffled(1, 2), there.shuffled(1, 2)):
        for expected, got in zip(a, b):
            assert isinstance(got, gpu.Array) and got.strides == expected.strides
            np.testing.assert_array_equal(gpu.to_host(got), expected)


def test_divergence_is_named_and_leaves_the_weights(gpu):
    dataset = data(8)
    first = trained("cpu", dataset=dataset)
    order = Batches(dataset, 4)
    list(order.shuffled(0, 1))
    dataset.images[order.order[5]] = np.nan  # in the second batch
    with pytest.raises(TrainingDiverged, match="clean the data") as e:
        trained("cuda", dataset=dataset)
    assert (e.value.epoch, e.value.step, e.value.layer) == (1, 2, "3.bias")
    assert np.isnan(e.value.loss) and first.history

    model = mlp()
    trainer = Trainer(model, nn.CrossEntropyLoss(), MAKERS[0](model.parameters()), device="cuda", progress=False)
    x, target = gpu.to_device(dataset.images[:4]), gpu.to_device(dataset.labels[:4])
    before = model.state_dict()
    x[...] = np.nan
    trainer.step(x, target)
    same_weights(model, mlp(), 0)
    assert before.keys() == model.state_dict().keys()


def test_more_classes_than_outputs_are_refused(gpu):
    dataset = Dataset(data(6).images, np.array([0, 1, 2, 3, 4, 0]))
    with pytest.raises(ValueError, match=r"target has the label 4; expected 0 to 2"):
        trained("cuda", dataset=dataset)


def test_unknown_devices_are_refused():
    with pytest.raises(ValueError, match=r"device is 'gpu'; expected \"cuda\" or \"cpu\""):
        mlp().to("gpu")


@pytest.mark.parametrize("make", [
    lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.PReLU(2), nn.Flatten(), nn.Linear(32, 3)),
    lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)),
], ids=["prelu", "pool"])  # fmt: skip
def test_convolutional_nets_train_as_on_the_cpu(make, gpu):
    dataset = Dataset(np.random.default_rng(0).random((3, 1, 6, 6), np.float32), np.array([0, 2, 1]))
    steps(make, dataset, 2)


@pytest.mark.skipif(SIMULATED, reason="takes a minute in the simulator")
def test_lenet_learns_as_on_the_cpu(gpu):
    train, test = nbprop.data.digits()
    big = [Dataset(np.kron(part.images, np.ones((1, 1, 2, 2), np.uint8)), part.labels) for part in (train, test)]
    here, there = steps(lambda: models.lenet(1, 16), big[0], 64, 3)
    assert abs(here.evaluate(big[1])["accuracy"] - there.evaluate(big[1])["accuracy"]) < 0.02


def steps(make, dataset, batch_size, epochs=1):
    """Train the same net here and there; after one epoch the weights are alike."""
    trainers = []
    for device in ("cpu", "cuda"):
        nbprop.manual_seed(0)
        model = make()
        optimizer = MAKERS[0](model.parameters())
        trainers.append(Trainer(model, nn.CrossEntropyLoss(), optimizer, device=device, progress=False))
        trainers[-1].fit(dataset, epochs=epochs, batch_size=batch_size)
    if epochs == 1:
        same_weights(trainers[1].model, trainers[0].model)
    return trainers


def test_on_the_command_line(gpu, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = data(4)
    np.savez("few.npz", x_train=few.images, y_train=few.labels, x_test=few.images[:2], y_test=few.labels[:2])
    monkeypatch.setattr(models, "mlp", lambda channels, size, classes: nn.Sequential(nn.Linear(channels, classes)))
    for command in ("train few.npz --epochs 1 --batch-size 4 --out run", "evaluate run"):
        assert main([*command.split(), "--device", "cuda"]) == 0
    np.save("x.npy", few.images[:1])
    assert main(["predict", "run", "x.npy", "--device", "cuda"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("0\t")


@pytest.mark.parametrize(("what", "rows"), [
    ("conv", ["cifar_c1", "deconv"]), ("ops", ["tanh", "softmax_ce", "adam"]), ("step", ["mlp"]),
])  # fmt: skip
def test_bench(what, rows, gpu, capsys):
    """Toys in the simulator; on a GPU at full size, which takes seconds."""
    assert bench(what, rows, as_json=True, device="cuda") == 0
    printed = json.loads(capsys.readouterr().out)
    assert [p["name"] for p in printed] == [row for row in rows for _ in range(3 if what == "conv" else 1)]
    assert all(p["ours_s"] > 0 for p in printed)


def test_bench_on_a_gpu_takes_larger_batches(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "SIMULATED", False)
    assert on_gpu.gpu_row("cifar_c2", suite.conv_rows()["cifar_c2"]).N == 2048
    batches = {name: on_gpu.gpu_row(name, row).batch for name, row in suite.NETS.items()}
    assert batches == {"mlp": 128, "lenet": 64, "cifar_cnn": 512, "resnet20": 512}
    assert on_gpu.gpu_row("relu", (64, 32, 32, 32)) == (2048, 32, 32, 32)
