"""SciPy's BLAS keeps out of the way of PyTorch's threads."""

from pathlib import Path

import pytest
import scipy
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from dmf_sharpness.eigensolvers import top_eigenvector
from dmf_sharpness.threads import scipy_on_one_thread


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
