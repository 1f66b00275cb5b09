"""Items are dealt out once each, a task's own first, and nobody waits for a slow one."""

import numpy as np

from nbprop import jit
from nbprop.ops.queue import queue, take


def test_own_share_first_then_the_others():
    waiting = queue(3)
    assert [take(waiting, 7, 1, 3) for _ in range(8)] == [2, 3, 4, 5, 6, 0, 1, 7]
    assert [take(waiting, 7, task, 3) for task in range(3)] == [7, 7, 7]


def test_more_tasks_than_items():
    waiting = queue(5)
    assert sorted(take(waiting, 2, task, 5) for task in range(5)) == [0, 1, 2, 2, 2]
    assert take(queue(1), 0, 0, 1) == 0


def test_a_queue_is_empty_again_for_the_next_driver():
    take(queue(2), 4, 0, 2)
    assert not queue(2).any() and not queue(300).any()


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
        seen, by = np.zeros(items, np.int8), np.full(items, -1, np.int8)
        _count(seen, by, items, queue(tasks), tasks)
        assert (seen == 1).all() and 0 <= by.min() and by.max() < tasks
