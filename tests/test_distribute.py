"""The one parallel loop: every task once, on any number of threads, and what a task raises."""

import threading

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

from nbprop import jit
from nbprop.ops.flat import share, stretch


@jit.driver
def count(x, numbers, task, tasks):
    """Add numbers[0] to a task's elements."""
    for i in range(*share(x.size, task, tasks)):
        x[i] += numbers[0]


@jit.driver
def root(x, task, tasks):
    for i in range(*share(x.size, task, tasks)):
        if x[i] < 0:
            raise ValueError("negative")
        x[i] **= 0.5


@pytest.mark.parametrize("tasks", [1, 2, 3, 17, 1000])
@pytest.mark.parametrize("size", [0, 1, 16, 100])
def test_every_task_runs_once(size, tasks):
    x = np.zeros(size)
    count(x, (2, 0.5), tasks)
    np.testing.assert_array_equal(x, 2)


def test_what_a_task_raises_is_raised():
    with pytest.raises(ValueError, match="negative"):
        root(np.array([1.0, -1.0]), 1)
    with pytest.raises(RuntimeError, match="a task raised an exception; with one thread"):
        root(np.array([1.0, -1.0]), 2)
    x = np.full(5, 4.0)
    root(x, 2)
    np.testing.assert_array_equal(x, 2)


def test_tasks_are_counted_in_integers():
    with pytest.raises(TypingError, match="count is told float64 tasks; expected an integer"):
        count(np.zeros(3), (1,), 2.0)


def test_two_that_close_over_different_values_are_two():
    def made(step):
        @jit.driver
        def add(x, task, tasks):
            for i in range(*share(x.size, task, tasks)):
                x[i] += step

        return add

    x = np.zeros(10)
    for step in (1, 10):
        made(step)(x, 2)
    np.testing.assert_array_equal(x, 11)


def test_called_from_several_threads():
    count(np.zeros(9), (1,), 2)
    if numba.threading_layer() == "workqueue":
        pytest.skip("Numba's own layer is for one caller at a time")
    x = [np.zeros(1000) for _ in range(4)]
    threads = [threading.Thread(target=lambda a=a: [count(a, (1,), 3) for _ in range(50)]) for a in x]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    np.testing.assert_array_equal(x, 50)


@pytest.mark.parametrize("elements", [0, 1, 15, 16, 17, 100, 1000])
@pytest.mark.parametrize("tasks", [1, 2, 3, 16])
def test_stretches_follow_one_another(elements, tasks):
    begins, ends = zip(*(stretch(elements, task, tasks) for task in range(tasks)))
    assert begins == (0, *ends[:-1]) and ends[-1] == elements
    assert all(end % 16 == 0 for end in ends[:-1])
