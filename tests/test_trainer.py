"""Training: that it learns, what it leaves behind, what stops it, and that it allocates nothing."""

import io
import json
import pathlib
import tracemalloc

import numba
import numpy as np
import pytest
from numba import njit

import nbprop
from nbprop import data, models, nn, optim, schedule
from nbprop.data import Dataset, Scaling
from nbprop.trainer import EarlyStopping, KeepBest, Trainer, TrainingDiverged
from nbprop.trainer.compiling import watch

REAL = pathlib.Path(__file__).parents[2] / "shared" / "data"


def made(seed=0, lr=0.05, model=None, **options):
    """A trainer of a small network for the digits."""
    nbprop.manual_seed(seed)
    if model is None:
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.1),
                              nn.Linear(36, 10))  # fmt: skip
    optimizer = optim.SGD(model.parameters(), lr, momentum=0.9)
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, seed, progress=False, **options)


def some(n=200):
    """The first digits of each part."""
    return tuple(Dataset(part.images[:n], part.labels[:n], part.scaling) for part in data.digits())


def without_seconds(history):
    return [{key: value for key, value in record.items() if key != "seconds"} for record in history]


def test_it_learns_the_digits():
    train, test = data.digits()
    trainer = made(model=models.cnn(1, 8, 10))
    history = trainer.fit(train, test, epochs=4)
    assert history[-1]["validation_accuracy"] >= 0.95
    assert history[-1]["loss"] < history[0]["loss"] / 5
    assert trainer.evaluate(test) == {key: history[-1][f"validation_{key}"] for key in ("loss", "accuracy")}


def test_loss_trace():
    """A fixed run: what changes these numbers by more than rounding changes what the library computes."""
    trainer = made(seed=3)
    trace = [record["loss"] for record in trainer.fit(some()[0], epochs=3, batch_size=32)]
    np.testing.assert_allclose(trace, [2.274265407, 2.006846803, 1.520118001], rtol=2e-4)


def test_history_has_one_record_per_epoch():
    train, test = some()
    trainer = made()
    trainer.fit(train, epochs=2)
    trainer.fit(train, test, epochs=1)
    assert [record["epoch"] for record in trainer.history] == [1, 2, 3]
    keys = ["epoch", "loss", "accuracy", "validation_loss", "validation_accuracy", "seconds"]
    assert all(list(record) == keys for record in trainer.history)
    assert trainer.history[0]["validation_loss"] is None
    assert trainer.history[2]["validation_accuracy"] > 0


def test_same_seed_same_history_for_any_number_of_threads():
    def run(seed, threads):
        numba.set_num_threads(threads)
        trainer = made(seed, schedule=schedule.cosine())
        history = trainer.fit(*some(), epochs=2, batch_size=64)
        return without_seconds(history), [p.data.tobytes() for p in trainer.model.parameters()]

    first = run(1, 2)
    assert run(1, 2) == first
    assert run(1, 1) == first
    assert run(2, 2) != first


def test_a_step_allocates_no_array():
    trainer = made(model=models.lenet(1, 12, 10))
    rng = np.random.default_rng(0)
    dataset = Dataset(rng.integers(0, 256, (70, 12, 12), np.uint8), rng.integers(0, 10, 70))
    batches = data.Batches(dataset, 16)
    for _ in range(4):  # what comes again is taped, once
        for x, target in batches.in_order():
            trainer.step(x, target)
    numpy_domain = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    tracemalloc.start()
    try:
        for x, target in batches.in_order():
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            trainer.step(x, target)
            # The smallest of the step's arrays of activations has 64 kB: none is made and dropped either.
            assert tracemalloc.get_traced_memory()[1] - before < 1 << 14
            traces = tracemalloc.take_snapshot().filter_traces([numpy_domain]).traces
            assert not traces, [str(trace) for trace in traces]
    finally:
        tracemalloc.stop()


def test_accepts_tuples_of_arrays_and_applies_their_scaling():
    train, test = some()
    trainer = made(seed=4)
    trainer.fit(train, test)
    expected = trainer.predict(test)
    np.testing.assert_array_equal(trainer.predict(test.images), expected)
    x, _ = next(data.Batches(test, 200).in_order())
    np.testing.assert_array_equal(trainer.predict(x), expected)
    assert trainer.evaluate((test.images, test.labels)) == trainer.evaluate(test)

    tuples = made(seed=4)
    tuples.fit((x, test.labels), epochs=1)
    datasets = made(seed=4)
    datasets.fit(Dataset(x, test.labels), epochs=1)
    assert without_seconds(tuples.history) == without_seconds(datasets.history)


def test_predictions_belong_to_the_caller():
    trainer, (_, test) = made(), some()
    first = trainer.predict(test.images[:10])
    kept = first.copy()
    trainer.predict(test.images[10:20])
    np.testing.assert_array_equal(first, kept)
    assert trainer.predict(test.images[:0]).shape == (0, 10)
    assert trainer.model.training


def test_float64_models_train_in_float64():
    trainer = made(model=nn.Sequential(nn.Flatten(), nn.Linear(64, 10, dtype=np.float64)))
    trainer.fit(some()[0])
    assert trainer.predict(some()[1]).dtype == np.float64


# What stops training


def test_divergence_stops_before_the_weights_change(tmp_path):
    trainer = made(lr=1e6, out=tmp_path / "run")
    seen = []
    step = trainer.optimizer.step
    weights = trainer.model.parameters
    trainer.optimizer.step = lambda: (step(), seen.append([p.data.copy() for p in weights()]))
    message = r"epoch \d+, step \d+, .*learning rate 1e\+06\); try a lower"
    with pytest.raises(TrainingDiverged, match=message) as error:
        trainer.fit(some()[0], epochs=3, batch_size=16)
    for p, before in zip(trainer.model.parameters(), seen[-1]):
        np.testing.assert_array_equal(p.data, before)
    stopped = error.value
    assert (stopped.lr, stopped.epoch) == (1e6, trainer.epoch)
    assert stopped.step == len(seen) % 13 + 1
    assert stopped.layer is None or stopped.layer in dict(trainer.model.named_parameters())
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert len(json.loads((tmp_path / "run" / "history.json").read_text())) == len(trainer.history)


def test_nan_in_the_data_is_named():
    x = np.zeros((8, 1, 8, 8), np.float32)
    x[3, 0, 2, 2] = np.nan
    trainer = made()
    before = [p.data.copy() for p in trainer.model.parameters()]
    with pytest.raises(TrainingDiverged, match=r"epoch 1, step 1, .* of 5\.\w+ .* clean the data"):
        trainer.fit((x, np.arange(8)))
    for p, kept in zip(trainer.model.parameters(), before):
        np.testing.assert_array_equal(p.data, kept)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs is 0; expected an integer of at least 1"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"validation": np.zeros((3, 1, 8, 8))}, "validation is a ndarray; expected a Dataset or a tuple"),
        ({"validation": (np.zeros((0, 1, 8, 8), np.uint8), [])}, "validation"),
    ],
)
def test_fit_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        made().fit(some()[0], **arguments)


def test_fit_refuses_data_without_labels_and_trainers_without_loss():
    with pytest.raises(ValueError, match="train has no labels"):
        made().fit(Dataset(np.zeros((3, 1, 8, 8), np.uint8)))
    with pytest.raises(ValueError, match="loss or optimizer is None"):
        Trainer(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))).fit(some()[0])


# Schedules and callbacks


def test_cosine_rises_and_falls():
    factor = schedule.cosine(warmup=0.2, last=0.01)
    values = [factor(done) for done in np.linspace(0, 1, 101)]
    assert values[0] == pytest.approx(0.01)
    assert max(values) == values[20] == pytest.approx(1)
    assert values[60] == pytest.approx(0.505)
    assert values[-1] == pytest.approx(0.01)
    assert schedule.cosine(warmup=0)(0) == 1
    with pytest.raises(ValueError, match="warmup is 1"):
        schedule.cosine(1)


def test_schedule_sets_the_rate_of_each_step_and_gives_it_back():
    rates = []
    trainer = made(schedule=lambda done: 1 - done)
    step = trainer.optimizer.step
    trainer.optimizer.step = lambda: (step(), rates.append(trainer.optimizer.param_groups[0]["lr"]))
    trainer.fit(some(64)[0], epochs=2, batch_size=32)
    np.testing.assert_allclose(rates, 0.05 * np.array([1, 0.75, 0.5, 0.25]))
    assert trainer.optimizer.param_groups[0]["lr"] == 0.05


def test_callbacks_see_each_record():
    seen = []

    class Watcher:
        def on_epoch_end(self, trainer, record):
            seen.append(record)

    trainer = made(callbacks=[Watcher(), lambda trainer, record: seen.append(record["epoch"])])
    trainer.fit(some(32)[0], epochs=2)
    assert seen == [trainer.history[0], 1, trainer.history[1], 2]


def test_early_stopping():
    trainer = made(lr=0.0, callbacks=[EarlyStopping(patience=2)])
    assert len(trainer.fit(*some(32), epochs=10)) == 3
    with pytest.raises(ValueError, match=r"monitor is 'validation_loss', .* one of \['epoch', 'loss'"):
        made(callbacks=[EarlyStopping()]).fit(some(32)[0])


def test_keep_best_keeps_the_best(tmp_path):
    train, test = some()
    trainer = made(lr=0.2, callbacks=[KeepBest(monitor="validation_accuracy")], out=tmp_path)
    history = trainer.fit(train, test, epochs=6)
    best = Trainer(nbprop.load(tmp_path / "best.safetensors"), nn.CrossEntropyLoss()).evaluate(test)
    assert best["accuracy"] == max(record["validation_accuracy"] for record in history)
    with pytest.raises(ValueError, match="no run folder"):
        made(callbacks=[KeepBest()]).fit(*some(32))


# What it leaves behind and shows


def test_run_folder(tmp_path):
    train, test = some()
    trainer = made(seed=7, out=tmp_path / "a" / "run", config={"note": "x"})
    trainer.fit(train, test, epochs=2, batch_size=50)
    folder = tmp_path / "a" / "run"
    assert json.loads((folder / "history.json").read_text()) == trainer.history
    config = json.loads((folder / "config.json").read_text())
    assert (config["note"], config["seed"], config["epochs"], config["batch_size"]) == ("x", 7, 2, 50)
    assert (config["input_shape"], config["input_dtype"], config["classes"]) == ([1, 8, 8], "uint8", 10)
    assert config["optimizer"]["name"] == "SGD"
    assert config["optimizer"]["momentum"] == 0.9
    assert Dataset(train.images, scaling=Scaling(**config["scaling"])).scaling == train.scaling
    expected = trainer.predict(test)
    np.testing.assert_array_equal(Trainer(nbprop.load(folder)).predict(test), expected)
    assert not list(folder.glob(".*"))


def test_curves(tmp_path):
    pytest.importorskip("matplotlib")
    made(out=tmp_path).fit(*some(32), epochs=2)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_plain_lines_where_there_is_no_terminal(capsys):
    trainer = made()
    trainer.progress = True
    trainer.fit(*some(), epochs=2)
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("compiling kernels")]
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("validation accuracy" in line and "images/s" in line for line in lines)


def test_a_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "160")
    fresh = njit(lambda x: x + 1)  # a kernel to see being compiled
    trainer = made(callbacks=[lambda trainer, record: fresh(record["epoch"])])
    trainer.progress = True
    trainer.fit(*some(), epochs=2)
    shown = terminal.getvalue()
    assert "compiling test_trainer.<lambda>" in shown
    assert "images/s" in shown
    assert "loss" in shown
    assert "epoch 2/2: loss" in shown


def test_compilations_are_counted_while_watched_and_only_then():
    inner = njit(lambda x: x * 2)
    outer = njit(lambda x: inner(x) + 1)
    seen = []
    with watch(seen.append) as compiling:
        outer(1)
        outer(2)
    assert compiling.count == 2
    assert compiling.seconds > 0
    assert seen == ["test_trainer.<lambda>"] * 3 + [None]
    outer(1.5)
    assert compiling.count == 2


@pytest.mark.skipif(not (REAL / "mnist").is_dir(), reason="no ../shared/data/mnist")
def test_lenet_on_real_mnist():
    """A fifth of an epoch already reads nine digits of ten; three epochs reach 99 % (too long for here)."""
    train, test = data.mnist(REAL / "mnist")
    trainer = made(model=models.lenet())
    trainer.fit(Dataset(train.images[:12000], train.labels[:12000], train.scaling))
    assert trainer.evaluate(Dataset(test.images[:2000], test.labels[:2000], test.scaling))["accuracy"] > 0.9
