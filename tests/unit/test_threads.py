import pytest
import torch

from dmf_sharpness.threads import threads_that_pay

LAYERS = [torch.ones(4, 3, dtype=torch.float64), torch.ones(2, 4, dtype=torch.float64)]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_small_layers_get_one_thread_and_the_caller_gets_his_back(two_threads):
    with threads_that_pay(LAYERS, 12):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with pytest.raises(RuntimeError), threads_that_pay(LAYERS, 12):
        raise RuntimeError
    assert torch.get_num_threads() == 2


def test_large_layers_keep_them(two_threads):
    with threads_that_pay(LAYERS, 11):
        assert torch.get_num_threads() == 2
