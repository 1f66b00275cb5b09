"""Items are dealt out once each, a task's own first, and nobody waits for a slow one."""

import numpy as np

from nbprop import jit
from nbprop.ops.queue import queue, take, upcoming


def test_own_share_first_then_the_others():
    waiting = queue(3)
    assert [take(waiting, 7, 1, 3) for _ in range(8)] == [2, 3, 4, 5, 6, 0, 1, 7]


def test_what_comes_next_is_told_and_not_taken():
    waiting = queue(2)
    assert [upcoming(waiting, 5, task, 2) for task in (0, 1)] == [0, 2]
    assert [take(waiting, 5, 1, 2), upcoming(waiting, 5, 1, 2), take(waiting, 5, 1, 2)] == [2, 3, 3]
    assert [take(waiting, 5, 1, 2), upcoming(waiting, 5, 1, 2)] == [4, 5]


def test_more_tasks_than_items():
    waiting = queue(5)
    assert [take(waiting, 2, task, 5) for task in (2, 4, 0, 1, 3)] == [0, 1, 2, 2, 2]


def test_a_queue_is_as_it_was_when_all_tasks_are_done():
    waiting = queue(2)
    for _ in range(3):
        assert [take(waiting, 2, task, 2) for task in (0, 0, 0, 1)] == [0, 1, 2, 2]
        assert not waiting.any()
    assert take(queue(1), 0, 0, 1) == 0


@jit.driver
def _count(seen, by, items, waiting, task, tasks):
    item = take(waiting, items, task, tasks)
    while item < items:
        seen[item] += 1
        by[item] = task
        item = take(waiting, items, task, tasks)


def test_each_item_is_one_tasks():
    items = 10_000_000
    for tasks in (1, 2, 7):
        seen, by, waiting = np.zeros(items, np.int8), np.full(items, -1, np.int8), queue(tasks)
        _count(seen, by, items, waiting, tasks)
        assert not waiting.any()
        assert (seen == 1).all() and 0 <= by.min() and by.max() < tasks
