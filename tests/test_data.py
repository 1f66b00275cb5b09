"""Datasets, readers of files whole and damaged, and batches."""

import gzip
import pathlib
import pickle
import struct
import tracemalloc

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbprop import data, layout
from nbprop.data.dataset import as_dataset

REAL = pathlib.Path(__file__).parents[2] / "shared" / "data"
CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[array.dtype.str[1:]], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def images(n=20, shape=(1, 6, 5), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def labels(n=20, classes=10, seed=0):
    return np.random.default_rng(seed).integers(0, classes, n, np.uint8)


# The digits inside the package


def test_digits_are_the_fixed_split():
    train, test = data.digits()
    assert (len(train), len(test), train.images.shape[1:], train.classes) == (1437, 360, (1, 8, 8), 10)
    assert train.images.dtype == np.uint8
    assert train.images.max() == 16
    assert train.labels[:8].tolist() == [6, 6, 6, 2, 5, 6, 6, 2]
    assert np.bincount(test.labels).tolist() == [39, 37, 47, 28, 42, 32, 37, 27, 30, 41]
    x, _ = next(data.Batches(train, 1437).in_order())
    assert abs(x.mean()) < 2e-3
    assert abs(x.std() - 1) < 2e-3


def test_digits_are_scikit_learns():
    sklearn = pytest.importorskip("sklearn.datasets")
    theirs = sklearn.load_digits()
    parts = data.digits()
    ours = np.concatenate([np.c_[part.images.reshape(-1, 64), part.labels] for part in parts])
    theirs = np.c_[theirs.data, theirs.target].astype(np.int64)
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))


# Datasets


@pytest.mark.parametrize(
    ("shape", "expected"), [((4, 5), (20, 1, 4, 5)), ((7,), (20, 7)), ((3, 2, 2), (20, 3, 2, 2))])
def test_dataset_takes_vectors_planes_and_images(shape, expected):
    dataset = data.Dataset(images(shape=shape), labels())
    assert dataset.images.shape == expected
    assert layout.channels_last(dataset.images) is dataset.images
    assert (dataset.labels.dtype, len(dataset)) == (np.int64, 20)


def test_dataset_does_not_copy_what_is_channels_last():
    x = layout.channels_last(images(shape=(3, 4, 4)))
    assert np.shares_memory(data.Dataset(x).images, x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 3), np.int64), [0, 1]), "images have dtype int64; expected uint8, float32 or float64"),
        ((np.zeros((2, 1, 3, 3, 3)), [0, 1]), "images have shape .*; expected"),
        ((np.zeros((2, 3)), [0, 1, 2]), r"labels have shape \(3,\); expected one label for each of the 2"),
        ((np.zeros((2, 3)), [0, -1]), "labels hold -1"),
        ((np.zeros((2, 3)), np.eye(2, dtype=int)), "one-hot"),
        ((np.zeros((2, 3)), ["a", "b"]), "labels have dtype"),
        ((np.zeros((2, 3)), 3), "labels have shape"),
        ((np.zeros((2, 1, 3, 3)), [0, 1], data.Scaling(1, (0, 0), (1,))), "scaling has 2 values of mean"),
        ((np.zeros((2, 3)), [0, 1], data.Scaling(1, (0,), (0,))), "scaling has std"),
    ],
)
def test_dataset_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.Dataset(*arguments)


def test_as_dataset_refuses_what_is_neither():
    with pytest.raises(ValueError, match="validation is a ndarray"):
        as_dataset(np.zeros((2, 3)), "validation")


# Batches


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 6, 5), (3, 4, 4), (11,)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
def test_batches_are_the_scaled_images(dtype, shape, kind):
    x = images(shape=shape).astype(kind)
    channels = shape[0] if len(shape) == 3 else 1
    mean, std = tuple(0.1 * c for c in range(channels)), tuple(1.0 + c for c in range(channels))
    dataset = data.Dataset(x, labels(), data.Scaling(1 / 255, mean, std))
    one = (-1, *([1] * (len(shape) - 1)))
    expected = (x / 255.0 - np.reshape(mean, one)) / np.reshape(std, one)
    got = [(x.copy(), t.copy()) for x, t in data.Batches(dataset, 7, dtype).in_order()]
    assert [len(x) for x, _ in got] == [7, 7, 6]
    assert {x.dtype for x, _ in got} == {np.dtype(dtype)}
    np.testing.assert_allclose(np.concatenate([x for x, _ in got]), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([t for _, t in got]), labels())


def test_floats_are_taken_as_they_are():
    x = np.random.default_rng(0).standard_normal((5, 2, 3, 3), np.float32)
    batch, target = next(data.Batches(data.Dataset(x), 5).in_order())
    np.testing.assert_array_equal(batch, x)
    assert target is None


def test_shuffles_are_decided_by_seed_and_epoch():
    dataset = data.Dataset(np.arange(50, dtype=np.float64)[:, None], np.arange(50))
    batches = data.Batches(dataset, 8, np.float64)

    def order(seed, epoch):
        runs = [(x[:, 0].astype(int).tolist(), t.tolist()) for x, t in batches.shuffled(seed, epoch)]
        assert all(x == t for x, t in runs)
        return [i for x, _ in runs for i in x]

    first = order(1, 1)
    assert sorted(first) == list(range(50))
    assert first == order(1, 1)
    assert len({tuple(order(s, e)) for s, e in [(1, 1), (1, 2), (2, 1), (0, 1)]}) == 4


def test_batches_refill_their_buffers_and_allocate_nothing():
    batches = data.Batches(data.Dataset(images(200, (3, 32, 32)), labels(200)), 16)
    numpy_domain = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    run = batches.shuffled(0, 0)
    x, target = next(run)
    tracemalloc.start()
    try:
        for x_next, target_next in run:
            assert np.shares_memory(x, x_next)
            assert np.shares_memory(target, target_next)
        assert not tracemalloc.take_snapshot().filter_traces([numpy_domain]).traces
    finally:
        tracemalloc.stop()


def test_large_batches_have_the_same_bits_for_any_number_of_threads():
    dataset = data.Dataset(images(301, (3, 32, 32)), labels(301), data.Scaling(1 / 255, (0.4,), (0.3,)))

    def bits(threads):
        numba.set_num_threads(threads)
        return next(data.Batches(dataset, 301).shuffled(0, 0))[0].tobytes()

    assert bits(1) == bits(2)


def test_batches_of_nothing():
    nothing = data.Dataset(np.zeros((0, 1, 4, 4), np.uint8), np.zeros(0, int))
    assert list(data.Batches(nothing, 4).in_order()) == []


@pytest.mark.parametrize("size", [0, -1, 2.5, "8"])
def test_batch_size_is_checked(size):
    with pytest.raises(ValueError, match="batch_size is"):
        data.Batches(data.Dataset(images(), labels()), size)


def test_regression_targets_follow_their_images():
    x = np.arange(12.0)[:, None]
    batches = data.Batches(data.Dataset(x, np.c_[x, 2 * x]), 5, np.float32)
    for batch, target in batches.shuffled(3, 1):
        np.testing.assert_array_equal(target, np.c_[batch, 2 * batch])
        assert target.dtype == np.float32


# IDX


@settings(max_examples=40)
@given(st.sampled_from(sorted(CODES)), st.lists(st.integers(0, 5), max_size=3), st.booleans())
def test_idx_round_trip(tmp_path_factory, code, shape, packed):
    array = np.asarray(np.random.default_rng(0).standard_normal(shape) * 50).astype(code)
    path = tmp_path_factory.mktemp("idx") / ("a.gz" if packed else "a")
    got = data.read_idx(write(path, idx_bytes(array)))
    np.testing.assert_array_equal(got, array)
    assert (got.dtype, got.flags.writeable) == (np.dtype(code), True)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_cut_anywhere_is_refused(tmp_path, suffix):
    whole = idx_bytes(images(3, (2, 2)))
    content = gzip.compress(whole) if suffix else whole
    for length in range(len(content)):
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut.*(cut|damaged)|ends inside") as error:
            data.read_idx(path)
        assert str(path) in str(error.value)


def test_idx_names_the_sizes_expected_and_found(tmp_path):
    path = write(tmp_path / "a", idx_bytes(images(3, (2, 2)))[:-5])
    with pytest.raises(ValueError, match=r"holds fewer bytes; expected 12 bytes of values \(3 x 2 x 2"):
        data.read_idx(path)
    path = write(tmp_path / "a.gz", idx_bytes(images(3, (2, 2)))[:-5])
    with pytest.raises(ValueError, match=r"holds 7 bytes; expected 12 bytes"):
        data.read_idx(path)
    with pytest.raises(ValueError, match="holds more; expected 12 bytes"):
        data.read_idx(write(tmp_path / "a", idx_bytes(images(3, (2, 2))) + b"x"))


def test_idx_header_cannot_make_us_allocate(tmp_path):
    path = write(tmp_path / "a.gz", struct.pack(">BBBBII", 0, 0, 8, 2, 2**32 - 1, 2**32 - 1))
    with pytest.raises(ValueError, match="expected 18,446,744,065,119,617,025 bytes"):
        data.read_idx(path)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", b"\0\0\x07\x01\0\0\0\0"])
def test_idx_refuses_other_files(tmp_path, content):
    with pytest.raises(ValueError, match="another kind of file"):
        data.read_idx(write(tmp_path / "a", content))
    with pytest.raises(FileNotFoundError, match="is missing"):
        data.read_idx(tmp_path / "none")


# MNIST


def mnist_folder(folder, dots=False, suffix="", skip=None, n=(20, 8)):
    for part, count in zip(("train", "t10k"), n):
        for kind, array in (("images-idx3", images(count, (12, 12))), ("labels-idx1", labels(count))):
            name = f"{part}-{kind.replace('-', '.') if dots else kind}-ubyte{suffix}"
            if name != skip:
                write(folder / name, idx_bytes(array))
    return folder


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dots", [True, False])
@pytest.mark.parametrize("inside", ["", "MNIST/raw"])
def test_mnist_is_found_under_its_usual_names(tmp_path, suffix, dots, inside):
    mnist_folder(tmp_path / inside, dots, suffix)
    train, test = data.mnist(tmp_path)
    np.testing.assert_array_equal(train.images[:, 0], images(20, (12, 12)))
    np.testing.assert_array_equal(test.labels, labels(8))


def test_mnist_names_the_missing_file(tmp_path):
    mnist_folder(tmp_path, skip="t10k-labels-idx1-ubyte")
    with pytest.raises(FileNotFoundError, match=r"has no file t10k-labels-idx1-ubyte or .*\.gz"):
        data.mnist(tmp_path)


def test_mnist_files_must_belong_together(tmp_path):
    mnist_folder(tmp_path)
    write(tmp_path / "train-labels-idx1-ubyte", idx_bytes(labels(19)))
    with pytest.raises(ValueError, match=r"shape \(20, 12, 12\) .* of \(19,\)"):
        data.mnist(tmp_path)


# CIFAR-10


def cifar_folder(folder, n=4):
    rng = np.random.default_rng(0)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    records = {name: rng.integers(0, 256, (n, 3073), np.uint8) for name in names}
    for name, record in records.items():
        record[:, 0] %= 10
        write(folder / name, record.tobytes())
    return records


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-bin"])
def test_cifar10_planes_become_channels(tmp_path, inside):
    records = cifar_folder(tmp_path / inside)
    train, test = data.cifar10(tmp_path)
    assert (train.images.shape, test.images.shape) == ((20, 3, 32, 32), (4, 3, 32, 32))
    third = records["data_batch_3.bin"]
    np.testing.assert_array_equal(train.images[8:12], third[:, 1:].reshape(4, 3, 32, 32))
    np.testing.assert_array_equal(train.labels[8:12], third[:, 0])


def test_cifar10_refuses_damage(tmp_path):
    records = cifar_folder(tmp_path)
    path = write(tmp_path / "data_batch_2.bin", records["data_batch_2.bin"].tobytes()[:-1])
    with pytest.raises(ValueError, match=r"data_batch_2.bin has 12,291 bytes; expected a multiple of 3,073"):
        data.cifar10(tmp_path)
    write(path, (records["data_batch_2.bin"] | np.uint8(128)).tobytes())
    with pytest.raises(ValueError, match=r"data_batch_2.bin has a label of 1\d\d; expected 0 to 9"):
        data.cifar10(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_2.bin is missing"):
        data.cifar10(tmp_path)


# NumPy files


@pytest.mark.parametrize("names", ["x_train y_train x_test y_test", "train_images train_labels test_images "
                                                                    "test_labels"])
@pytest.mark.parametrize("as_folder", [True, False])
def test_arrays_with_parts(tmp_path, names, as_folder):
    arrays = dict(zip(names.split(), (images(), labels(), images(6, seed=1), labels(6, seed=1))))
    if as_folder:
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
    else:
        np.savez(tmp_path / "a.npz", **arrays)
    train, test = data.load(tmp_path if as_folder else tmp_path / "a.npz")
    np.testing.assert_array_equal(test.images, images(6, seed=1))
    x, _ = next(data.Batches(train, len(train), np.float64).in_order())
    np.testing.assert_allclose([x.mean(), x.std()], [0, 1], atol=1e-12)
    assert test.scaling == train.scaling


def test_arrays_without_parts_are_split_the_same_way_each_time(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.arange(50.0)[:, None], labels=np.arange(50))
    train, test = data.load(tmp_path / "a.npz")
    assert (len(train), len(test)) == (40, 10)
    assert sorted([*train.labels, *test.labels]) == list(range(50))
    np.testing.assert_array_equal(data.load(tmp_path / "a.npz")[1].labels, test.labels)
    np.testing.assert_array_equal(test.images[:, 0], test.labels)


def test_arrays_refused(tmp_path):
    np.savez(tmp_path / "a.npz", pixels=images())
    with pytest.raises(ValueError, match=r"arrays named \['pixels'\]; expected x_train"):
        data.load(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", images=images(), labels=labels(7))
    with pytest.raises(ValueError, match="20 images and 7 labels"):
        data.load(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", images=images(20, (28, 28, 1)), labels=labels())
    with pytest.raises(ValueError, match="look like NHWC"):
        data.load(tmp_path / "a.npz")


def test_arrays_cut_or_pickled_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=images(), labels=labels())
    whole = (tmp_path / "a.npz").read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        write(tmp_path / "cut.npz", whole[:length])
        with pytest.raises(ValueError, match=rf"cut.npz \({length:,} bytes\) cannot be read"):
            data.read_arrays(tmp_path / "cut.npz")
    write(tmp_path / "a.npy", pickle.dumps({"x": 1}))
    with pytest.raises(ValueError, match="cannot be read as NumPy arrays"):
        data.read_arrays(tmp_path / "a.npy")


# Names and paths


def test_load_finds_out_what_a_folder_holds(tmp_path):
    mnist_folder(tmp_path / "m")
    cifar_folder(tmp_path / "c")
    assert data.load(tmp_path / "m")[0].images.shape == (20, 1, 12, 12)
    assert data.load("mnist", tmp_path / "m")[0].images.shape == (20, 1, 12, 12)
    assert data.load(tmp_path / "c")[0].images.shape == (20, 3, 32, 32)
    assert data.load("cifar10", tmp_path / "c")[1].images.shape == (4, 3, 32, 32)
    assert len(data.load("digits")[0]) == 1437


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mnist",), "--data is missing"),
        (("mnist", "no/such"), "no/such is not a folder"),
        (("digitz",), "digitz is neither digits, mnist or cifar10 nor an existing"),
    ],
)
def test_load_refuses(arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        data.load(*arguments)


def test_load_refuses_an_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="has none of"):
        data.load(tmp_path)


def test_load_images(tmp_path):
    np.save(tmp_path / "a.npy", images())
    np.savez(tmp_path / "a.npz", labels=labels(), images=images())
    write(tmp_path / "a.gz", idx_bytes(images(3, (4, 4))))
    assert data.load_images(tmp_path / "a.npy").shape == (20, 1, 6, 5)
    assert data.load_images(tmp_path / "a.npz").shape == (20, 1, 6, 5)
    assert data.load_images(tmp_path / "a.gz").shape == (3, 4, 4)
    np.savez(tmp_path / "b.npz", one=images(), two=images())
    with pytest.raises(ValueError, match="expected one array"):
        data.load_images(tmp_path / "b.npz")
    with pytest.raises(ValueError, match="is a picture file"):
        data.load_images(tmp_path / "a.png")


# Real data, where it lies beside the checkout


@pytest.mark.skipif(not (REAL / "mnist").is_dir(), reason="no ../shared/data/mnist")
def test_real_mnist():
    train, test = data.mnist(REAL / "mnist")
    assert (train.images.shape, test.images.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    np.testing.assert_allclose(train.images.mean() / 255, 0.1307, atol=1e-4)
