"""Scratch memory: on cache lines, shared from call to call, and the host's."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from nbprop import layout, scratch


@pytest.fixture(autouse=True)
def nothing_lent(monkeypatch):
    monkeypatch.setattr(scratch, "_own", scratch._Own())


def test_arrays_lie_apart_on_cache_lines():
    lent = scratch.borrow([3, 0, 17], np.dtype(np.float32))
    assert [a.size for a in lent] == [3, 0, 17]
    starts = [a.ctypes.data for a in lent]
    assert all(start % 64 == 0 for start in starts)
    assert starts[0] < starts[2] and not np.shares_memory(lent[0], lent[2])
    again, = scratch.borrow([20], np.dtype(np.float64))
    assert again.dtype == np.float64 and again.ctypes.data == starts[0]


def test_memory_is_the_hosts_even_beside_an_array_on_the_gpu():
    with layout.beside(SimpleNamespace(__cuda_array_interface__={})):
        lent, = scratch.borrow([5], np.dtype(np.float32))
    assert isinstance(lent, np.ndarray)


def test_answers_are_kept_for_each_thread_until_its_memory_grows(monkeypatch):
    find = scratch.kept(lambda number: [number])
    first = find(1)
    assert find(1) is first and find(2) == [2] != first
    with ThreadPoolExecutor(1) as other:
        assert other.submit(find, 1).result() is not first
    scratch.borrow([5], np.dtype(np.float32))
    first = find(1)
    scratch.borrow([10], np.dtype(np.float32))  # fits
    assert find(1) is first
    scratch.borrow([1000], np.dtype(np.float32))
    assert find(1) is not first
    monkeypatch.setattr(scratch, "_KEPT", 3)
    for number in range(10):
        assert find(number) == [number]
    assert len(scratch._own.kept) <= 3
