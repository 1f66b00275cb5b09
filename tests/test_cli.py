"""The command line: what each command does, and that bad input gets one sentence and exit code 2."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numba
import numpy as np
import pytest

import nbprop
from nbprop import data
from nbprop.cli import doctor, main
from nbprop.cli.limits import Limits, limits, use_threads

ROOT = pathlib.Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Runs go to runs/ in the current folder."""
    monkeypatch.chdir(tmp_path)


def run(capsys, *arguments):
    """Return (exit code, stdout, stderr)."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, *arguments):
    """Return the one sentence that a refused command prints."""
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"nbprop {arguments[0]}: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a short run on the digits."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(["train", "digits", "--model", "mlp", "--epochs", "2", "--seed=3", "--out", str(folder)]) == 0
    return folder


def test_train_digits_reaches_97_percent(capsys):
    code, out, err = run(capsys, "train", "digits", "--epochs", "6")
    assert code == 0
    assert float(out.split("%")[0].split()[-1]) >= 97
    assert "on 360 images; the run is in runs/digits-cnn-1" in out.replace("\\", "/")
    assert "epoch 6/6" in err
    history = json.loads(pathlib.Path("runs/digits-cnn-1/history.json").read_text())
    assert [record["epoch"] for record in history] == list(range(1, 7))


def test_options_reach_the_run(capsys):
    options = "--model mlp --epochs 1 --batch-size 128 --lr 0.1 --optimizer sgd --seed 5 --threads 1"
    assert run(capsys, "train", "digits", *options.split(), "--out=here")[0] == 0
    assert numba.get_num_threads() == 1
    config = json.loads(pathlib.Path("here/config.json").read_text())
    assert (config["epochs"], config["batch_size"], config["seed"]) == (1, 128, 5)
    assert (config["optimizer"]["name"], config["optimizer"]["lr"]) == ("SGD", 0.1)
    assert (config["dataset"], config["model"]) == ("digits", "mlp")
    assert config["model_arguments"] == {"channels": 1, "size": [8, 8], "classes": 10}


def test_runs_get_new_folders(capsys):
    for number in (1, 2):
        code, out, _ = run(capsys, "train", "digits", "--model=mlp", "--epochs=1", "--optimizer=adam")
        assert (code, f"digits-mlp-{number}" in out) == (0, True)


def test_evaluate_repeats_the_last_validation(capsys, finished):
    code, out, _ = run(capsys, "evaluate", finished)
    last = json.loads((finished / "history.json").read_text())[-1]
    assert code == 0
    assert out == (f"test loss {last['validation_loss']:.4f}, accuracy {last['validation_accuracy']:.2%} on "
                   "360 images\n")


def predictions(out):
    return [int(line.split("\t")[1]) for line in out.splitlines()]


@pytest.mark.parametrize("form", ["uint8", "whole floats", "one image", "npz", "planes"])
def test_predict(capsys, finished, form):
    _, test = data.digits()
    expected = nbprop.Trainer(nbprop.load(finished)).predict(test).argmax(axis=1).tolist()
    images = {
        "whole floats": test.images.astype(np.float64),
        "one image": test.images[0, 0],
        "planes": test.images[:, 0].astype(np.int64),
    }.get(form, test.images)
    path = pathlib.Path("images.npz" if form == "npz" else "images.npy")
    np.savez(path, images=images) if form == "npz" else np.save(path, images)
    code, out, _ = run(capsys, "predict", finished, path)
    assert code == 0
    assert predictions(out) == (expected[:1] if form == "one image" else expected)
    assert all(0.1 <= float(line.split("\t")[2]) <= 1 for line in out.splitlines())


def test_predict_refuses(capsys, finished):
    np.save("a.npy", np.zeros((2, 1, 9, 9), np.uint8))
    assert "shape (2, 1, 9, 9); expected (N, 1, 8, 8)" in refused(capsys, "predict", finished, "a.npy")
    np.save("a.npy", np.full((2, 1, 8, 8), 0.5))
    assert "values of float64; expected whole numbers" in refused(capsys, "predict", finished, "a.npy")
    assert "none.npy is missing" in refused(capsys, "predict", finished, "none.npy")
    assert "is a picture file" in refused(capsys, "predict", finished, "a.png")


def test_own_arrays_from_training_to_prediction(capsys):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, 7))
    labels = rng.integers(0, 3, 300)
    x = (centres[labels] + 0.2 * rng.standard_normal((300, 7))).astype(np.float32)
    np.savez("own.npz", x=x, y=labels)
    code, out, _ = run(capsys, "train", "own.npz", "--epochs", "3", "--batch-size", "16", "--out", "run")
    assert (code, "on 60 images" in out) == (0, True)
    assert json.loads(pathlib.Path("run/config.json").read_text())["model"] == "mlp"
    assert "accuracy 100.00% on 60 images" in run(capsys, "evaluate", "run")[1]
    np.save("x.npy", x)
    assert np.mean(np.array(predictions(run(capsys, "predict", "run", "x.npy")[1])) == labels) > 0.98
    assert "expected --model mlp" in refused(capsys, "train", "own.npz", "--model", "cnn")
    np.save("x.npy", np.zeros((2, 7), np.uint8))
    assert "values of uint8; expected float32" in refused(capsys, "predict", "run", "x.npy")
    np.savez("own.npz", x=x, y=x[:, 0])
    assert "labels have dtype float32" in refused(capsys, "train", "own.npz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "mnist"), "--data is missing"),
        (("train", "mnist", "--data", "none"), "none is not a folder"),
        (("train", "cifar10", "--data", "."), "data_batch_1.bin is missing"),
        (("train", "nothing"), "nothing is neither digits"),
        (("train", "digits", "--epochs", "0"), "epochs is 0"),
        (("train", "digits", "--batch-size", "-3"), "batch_size is -3"),
        (("train", "digits", "--lr", "-1"), "lr is -1"),
        (("train", "digits", "--model", "lenet"), "size is 8; expected an integer of at least 12"),
        (("train", "digits", "--threads", "1000"), "--threads is 1000; expected 1 to"),
        (("train", "digits", "--lr", "1e9", "--optimizer", "sgd", "--model", "mlp"), "try a lower learning "
                                                                                     "rate"),
        (("evaluate", "none"), "none is not a folder"),
        (("evaluate", "."), "config.json is missing"),
        (("predict", "none", "x.npy"), "none is not a folder"),
        (("bench", "conv", "no_such_row"), "no_such_row"),
    ],
)
def test_bad_input(capsys, arguments, message):
    err = refused(capsys, *arguments) if "1e9" not in arguments else run(capsys, *arguments)[2]
    assert message in err


def test_damaged_runs(capsys, finished):
    folder = pathlib.Path("run")
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((finished / name).read_bytes())
    whole = (folder / "config.json").read_text()
    (folder / "config.json").write_text(whole[:40])
    assert "cannot be read as JSON" in refused(capsys, "evaluate", folder)
    (folder / "config.json").write_text("{}")
    assert "config.json lacks" in refused(capsys, "evaluate", folder)
    (folder / "config.json").write_text(json.dumps({**json.loads(whole), "dataset": None}))
    assert "expected --data DIR" in refused(capsys, "evaluate", folder)
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    assert "cannot be read as safetensors" in refused(capsys, "evaluate", folder)


def test_a_file_where_the_run_folder_should_be(capsys):
    pathlib.Path("taken").write_text("")
    assert "taken: File exists" in refused(capsys, "train", "digits", "--model", "mlp", "--out", "taken")


def test_interrupted(capsys, monkeypatch):
    def stop(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("nbprop.trainer.Trainer.fit", stop)
    code, _, err = run(capsys, "train", "digits", "--model", "mlp")
    assert (code, err.count("\n")) == (130, 1)


def test_plot_wants_matplotlib(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'nbprop[plot]'" in refused(capsys, "train", "digits", "--plot")


def test_as_a_program():
    def program(*arguments):
        command = [sys.executable, "-m", "nbprop", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert program("--version").stdout == f"nbprop {nbprop.__version__}\n"
    wrong = program("train", "digits", "--optimizer", "adagrad")
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (2, False)
    assert "adagrad" in wrong.stderr
    nothing = program("train", "no/such/path")
    assert (nothing.returncode, nothing.stderr.count("\n")) == (2, 1)


# nbprop doctor


def test_doctor(capsys):
    code, out, err = run(capsys, "doctor")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    names = "python numba vectors threads layer container cache gpu"
    assert " ".join(line.split()[0] for line in lines) == names
    assert all(":" in line for line in lines)
    assert f"numba {numba.__version__}" in out


def test_doctor_advises(monkeypatch):
    monkeypatch.setattr("nbprop.cli.limits.limits", lambda: Limits(1.0, 2**29))
    assert doctor._container().startswith("1 CPUs, 0.5 GiB of memory: set NUMBA_NUM_THREADS=1, Numba")
    monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", 1)
    assert doctor._container().endswith("compiling may need more than this")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert doctor._threads() == "1 on 3 CPUs: unset NUMBA_NUM_THREADS to use all"
    monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", 8)
    assert "set NUMBA_NUM_THREADS=3" in doctor._threads()
    monkeypatch.setattr("numba.config.THREADING_LAYER", "none such")
    assert "workqueue" in doctor._layer() or "omp" in doctor._layer() or "tbb" in doctor._layer()
    monkeypatch.setattr("ctypes.util.find_library", lambda name: "nvcuda.dll")
    assert "NVIDIA driver" in doctor._gpu()


# A container's limits


def group(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def test_limits_of_cgroup_2_are_the_tightest_on_the_way_up(tmp_path):
    files = {
        "cg/cpu.max": "max 100000",
        "cg/a/cpu.max": "150000 100000",
        "cg/a/b/cpu.max": "400000 100000",
        "cg/a/memory.max": "max",
        "cg/a/b/memory.max": "1073741824",
        "self": "0::/a/b",
    }
    group(tmp_path, files)
    assert limits(tmp_path / "cg", tmp_path / "self") == Limits(1.5, 2**30)


def test_limits_of_cgroup_1(tmp_path):
    files = {
        "cg/cpu,cpuacct/d/cpu.cfs_quota_us": "50000",
        "cg/cpu,cpuacct/d/cpu.cfs_period_us": "100000",
        "cg/cpu,cpuacct/cpu.cfs_quota_us": "-1",
        "cg/cpu,cpuacct/cpu.cfs_period_us": "100000",
        "cg/memory/memory.limit_in_bytes": "9223372036854771712",
        "cg/memory/d/memory.limit_in_bytes": "536870912",
        "self": "4:memory:/d\n3:cpu,cpuacct:/d",
    }
    group(tmp_path, files)
    assert limits(tmp_path / "cg", tmp_path / "self") == Limits(0.5, 2**29)


def test_no_limits(tmp_path):
    assert limits(tmp_path / "none", tmp_path / "none either") == Limits(None, None)


def test_threads_follow_the_container(monkeypatch):
    monkeypatch.setattr("nbprop.cli.limits.limits", lambda: Limits(0.5, None))
    use_threads()
    assert numba.get_num_threads() == 1
    monkeypatch.setattr("nbprop.cli.limits.limits", lambda: Limits(None, None))
    use_threads()
    assert numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS
    with pytest.raises(ValueError, match="--threads is 0"):
        use_threads(0)


@pytest.mark.skipif(not (REAL / "mnist").is_dir(), reason="no ../shared/data/mnist")
def test_real_mnist_by_path(capsys):
    code, out, _ = run(capsys, "train", REAL / "mnist", "--model=mlp", "--epochs=1", "--batch-size=512")
    assert code == 0
    assert float(out.split("%")[0].split()[-1]) > 95


def test_gradcheck_of_a_run(capsys, finished):
    code, out, _ = run(capsys, "gradcheck", finished, "--entries", "5")
    first, *adjoints = out.splitlines()
    assert code == 0
    assert first.startswith("central differences: the worst entry is ")
    assert [line.split(",")[0] for line in adjoints] == [
        "adjoint: 0 Flatten", "adjoint: 1 Linear", "adjoint: 3 Linear", "adjoint: 5 Linear"]  # fmt: skip


def test_gradcheck_refuses(capsys, finished, tmp_path):
    assert "is not a folder; expected the folder of a run" in refused(capsys, "gradcheck", tmp_path / "none")
    assert "--entries is 0; expected an integer" in refused(capsys, "gradcheck", finished, "--entries", "0")
    assert "central differences give" in refused(capsys, "gradcheck", finished, "--tolerance", "1e-20")


@pytest.mark.skipif(os.environ.get("NUMBA_ENABLE_CUDASIM") == "1" or os.path.exists("/proc/driver/nvidia/version"),
                    reason="there is a GPU to use")  # fmt: skip
def test_a_gpu_that_is_not_there_is_one_sentence(capsys):
    for command in (("train", "digits"), ("bench", "ops", "relu")):
        err = refused(capsys, *command, "--device", "cuda")
        assert re.search("--device is cuda, but (no NVIDIA driver was found|numba-cuda is not installed)", err)
