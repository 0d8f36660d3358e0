"""SciPy's BLAS keeps out of the way of PyTorch's threads."""

import threading
from pathlib import Path

import pytest
import scipy
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import dmf_sharpness as dmf
from dmf_sharpness.hessian.lanczos import top_eigenvector
from dmf_sharpness.hessian.threads import scipy_on_one_thread
from tests.helpers import random_point


def scipys_threads() -> int:
    folder = Path(scipy.__file__).parent.name + ".libs"
    found = [pool for pool in threadpool_info() if folder in pool["filepath"]]
    if not found:
        pytest.skip("SciPy without a BLAS of its own")
    return found[0]["num_threads"]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2, "blas"):
        yield
    torch.set_num_threads(before)


def test_scipy_has_one_thread_inside_and_torch_keeps_its_own(two_threads):
    assert scipys_threads() == 2
    with scipy_on_one_thread():
        assert scipys_threads() == 1
        assert torch.get_num_threads() == 2
    assert scipys_threads() == 2
    with pytest.raises(RuntimeError), scipy_on_one_thread():
        raise RuntimeError
    assert scipys_threads() == 2


def test_an_iteration_runs_that_way(two_threads):
    seen = set()

    def operator(y):
        seen.add(scipys_threads())
        return torch.arange(50.0, dtype=torch.float64) * y

    start = torch.ones(50, dtype=torch.float64)
    assert top_eigenvector(operator, start, 1e-10)[0] == pytest.approx(49)
    # Once before it begins, to see whether the operator is zero.
    assert seen == {1, 2}
    assert scipys_threads() == 2


class Worker(threading.Thread):
    """A thread that enters and leaves when it is told to, and keeps what goes wrong in it."""

    def __init__(self, fails=False):
        super().__init__(daemon=True)
        self.fails, self.error = fails, None
        self.inside, self.leave, self.seen = threading.Event(), threading.Event(), None

    def run(self):
        try:
            with scipy_on_one_thread():
                self.seen = scipys_threads()
                self.inside.set()
                self.leave.wait()
                if self.fails:
                    raise RuntimeError
        except BaseException as error:
            self.error = error
        finally:
            self.inside.set()

    def enter(self):
        self.start()
        self.inside.wait()

    def end(self):
        self.leave.set()
        self.join()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_the_last_of_several_threads_restores_the_number(two_threads, order, fails):
    workers = [Worker(fails) for _ in range(3)]
    for worker in workers:
        worker.enter()
    assert [worker.seen for worker in workers] == [1, 1, 1]
    for count, k in enumerate(order, 1):
        assert scipys_threads() == 1
        workers[k].end()
        assert scipys_threads() == (1 if count < 3 else 2)
    assert [worker.error is not None for worker in workers] == [fails] * 3
    # And again, from the start.
    with scipy_on_one_thread():
        assert scipys_threads() == 1
    assert scipys_threads() == 2


def test_one_that_comes_while_another_leaves_is_inside(two_threads):
    first, second = Worker(), Worker()
    first.enter()
    second.enter()
    first.end()
    third = Worker()
    third.enter()
    second.end()
    assert scipys_threads() == 1
    third.end()
    assert scipys_threads() == 2


def test_it_may_be_entered_twice_by_one_thread(two_threads):
    with scipy_on_one_thread(), scipy_on_one_thread():
        assert scipys_threads() == 1
    assert scipys_threads() == 2


def test_sharpness_from_four_threads_leaves_the_number_as_it_was(two_threads):
    """All of them are inside at once: the barrier is in what SciPy calls."""
    barrier = threading.Barrier(4)

    def iterate():
        waited = []

        def operator(y):
            # The first application is outside, before the iteration begins.
            if len(waited) == 1:
                barrier.wait()
            waited.append(None)
            return torch.arange(50.0, dtype=torch.float64) * y

        try:
            found.append(top_eigenvector(operator, torch.ones(50, dtype=torch.float64), 1e-10)[0])
        except BaseException:
            barrier.abort()  # nobody waits for one that failed
            raise

    found = []
    threads = [threading.Thread(target=iterate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == pytest.approx([49] * 4)
    assert scipys_threads() == 2


def test_results_of_four_threads_are_those_of_one(two_threads):
    problems = [random_point((12, 15, 14, 11), seed) for seed in range(4)]
    alone = [dmf.sharpness(factors, method="lanczos").value for factors in problems]
    found = [None] * 4

    def compute(k):
        found[k] = [dmf.sharpness(problems[k], method="lanczos").value for _ in range(3)]

    threads = [threading.Thread(target=compute, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[value] * 3 for value in alone]
    assert scipys_threads() == 2
