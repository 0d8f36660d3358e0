"""The tensors of real models: parameters, graphs, other defaults, and no copies in between."""

from itertools import pairwise

import pytest
import torch

import dmf_sharpness as dmf
from dmf_sharpness.hessian.result import Sharpness
from dmf_sharpness.minimizers.targets import gaussian_matrix
from dmf_sharpness.network.factors import flatten
from tests.helpers import COMPILED, random_point

X = gaussian_matrix(6, 9, 1)
DATA = {"no data": {}, "a Gram matrix": {"input_gram": X @ X.mT}, "a root": {"input_root": X}}
ROUTES = {
    "scalar": (1, 3, 1),
    "depth-1": (3, 2),
    "depth-2": (3, 4, 2),
    **dict.fromkeys(COMPILED, (6, 9, 8, 7)),
    "dense": (6, 9, 8, 7),
    "batched": (6, 9, 8, 7),
    "lanczos": (6, 9, 8, 7),
    "low-rank": (6, 9, 8, 7),
}


class Linear(torch.nn.Module):
    """A deep linear network as people write it."""

    def __init__(self, widths):
        super().__init__()
        layers = [
            torch.nn.Linear(*size, bias=False, dtype=torch.float64) for size in pairwise(widths)
        ]
        self.layers = torch.nn.Sequential(*layers)

    def factors(self):
        return [layer.weight for layer in self.layers]


def parameters(factors):
    return [torch.nn.Parameter(W.clone()) for W in factors]


def everything(s: Sharpness):
    return [s.value, s.residual, s.gap, s.upper_bound, s.eigenmatrix, *s.eigenvector]


def same(a, b):
    """The same values to the last bit, and no graph behind them."""
    for x, y in zip(a, b, strict=True):
        if isinstance(x, torch.Tensor):
            assert not x.requires_grad
            assert x.grad_fn is None
            assert torch.equal(x, y)
        else:
            assert type(x) is type(y)
            assert x == y


def outcomes(factors, target, data):
    """What every public function that takes a minimizer makes of it."""
    found = [
        *everything(dmf.sharpness(factors, target=target, **data)),
        dmf.hessian_spectrum(factors, **data),
        *dmf.hessian_eigenvectors(factors, **data),
        *dmf.hessian_eigenvectors(factors, count=2, **data),
        dmf.hessian_trace(factors, **data),
        dmf.hessian_frobenius_norm(factors, **data),
        dmf.is_flat(factors),
        dmf.flat_sharpness(target, 3),
    ]
    at = dmf.sharpness_at(factors, target, **data)
    found += [at.value, at.residual, at.gradient_norm, *at.eigenvector]
    if "input_gram" not in data:
        seen = target @ data["input_root"] if data else target
        found.append(dmf.landing_coefficient(factors, seen, data.get("input_root")))
    return found


def makers(target, sharpness):
    made = [
        dmf.balanced_minimizer(target, [4, 4]),
        dmf.flat_minimizer(target, [4, 4], 1),
        dmf.random_minimizer(target, [4, 4], 1),
        dmf.bottlenecked_minimizer(target, [1, 4], 1),
        dmf.minimizer_with_sharpness(target, [4, 4], sharpness, 1),
    ]
    return [W for factors in made for W in factors]


def test_the_weights_of_a_model_are_taken_as_they_are():
    torch.manual_seed(0)
    model = Linear((5, 7, 6, 3))
    s = dmf.sharpness(model.factors())
    plain = dmf.sharpness([W.detach().clone() for W in model.factors()])
    same(everything(s), everything(plain))
    assert s.converged


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("method", ROUTES)
def test_every_route_takes_parameters_and_keeps_no_graph(method, batch):
    widths = ROUTES[method]
    factors = [W.expand(*batch, *W.shape).clone() for W in random_point(widths, 1)]
    plain = everything(dmf.sharpness(factors, method=method))
    same(everything(dmf.sharpness(parameters(factors), method=method)), plain)


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_every_function_takes_parameters_and_keeps_no_graph(data):
    factors = random_point((6, 9, 8, 7), 2)
    target = dmf.end_to_end(factors)
    wrapped = {name: torch.nn.Parameter(values) for name, values in data.items()}
    with_graph = dmf.end_to_end(parameters(factors))
    same(outcomes(parameters(factors), with_graph, wrapped), outcomes(factors, target, data))


def test_few_of_many_eigenvectors_and_large_points_take_parameters():
    """The sizes at which iterations of SciPy do the work."""
    factors = random_point((40, 45, 50, 42), 5)
    same(
        dmf.hessian_eigenvectors(parameters(factors), count=3),
        dmf.hessian_eigenvectors(factors, count=3),
    )
    point, target = random_point((6, 20, 20, 6), 1), gaussian_matrix(6, 6, 2)
    s = dmf.sharpness_at(parameters(point), torch.nn.Parameter(target))
    same([s.value, *s.eigenvector], [(t := dmf.sharpness_at(point, target)).value, *t.eigenvector])


def test_makers_take_targets_and_numbers_with_a_graph():
    target = gaussian_matrix(3, 2, 1)
    wanted = torch.tensor(100.0, dtype=torch.float64)
    made = makers(torch.nn.Parameter(target.clone()), torch.nn.Parameter(wanted.clone()))
    same(made, makers(target, 100.0))
    a, c = torch.tensor([1.0, 2.0]).double(), torch.tensor(1.1).double()
    end = dmf.predict_landing(a.clone().requires_grad_(), c.clone().requires_grad_())
    same([end], [dmf.predict_landing(a, c)])


def test_plain_products_can_be_differentiated():
    factors = [W.requires_grad_() for W in random_point((3, 4, 4, 2), 1)]
    assert torch.autograd.gradcheck(lambda *W: dmf.end_to_end(W), factors)
    assert torch.autograd.gradcheck(lambda *W: tuple(dmf.left_factors(W)[:-1]), factors)
    assert torch.autograd.gradcheck(lambda *W: tuple(dmf.right_factors(W)[1:]), factors)
    assert torch.autograd.gradcheck(lambda *W: dmf.spectral_products(W), factors)
    # At a scale where they are computed in other units, too: they are of degree 2.
    small = [(W.detach() * 2.0**-400).requires_grad_() for W in factors]
    (slope,) = torch.autograd.grad(dmf.spectral_products(small).sum(), small[:1])
    (there,) = torch.autograd.grad(dmf.spectral_products(factors).sum(), factors[:1])
    torch.testing.assert_close(slope * 2.0**400, there)


@pytest.mark.parametrize("wrap", [list, tuple, torch.nn.ParameterList])
def test_lists_tuples_and_parameter_lists_are_lists_of_factors(wrap):
    factors = random_point((4, 6, 5, 3), 3)
    target = dmf.end_to_end(factors)
    wrapped = wrap([W.clone() for W in factors])
    same(outcomes(wrapped, target, {}), outcomes(factors, target, {}))
    assert torch.equal(dmf.end_to_end(wrapped), target)


@pytest.mark.parametrize("method", ["auto", *list(ROUTES)[3:]])
def test_strides_do_not_matter(method):
    factors = random_point((6, 9, 8, 7), 4)
    strided = [
        factors[0].mT.contiguous().mT,
        factors[1].repeat(1, 2)[:, : factors[1].shape[1]],
        torch.stack([factors[2], factors[2]], -1)[..., 0],
    ]
    a, b = dmf.sharpness(strided, method=method), dmf.sharpness(factors, method=method)
    assert a.value == pytest.approx(b.value, rel=1e-13)
    assert float((flatten(a.eigenvector) - flatten(b.eigenvector)).norm()) < 1e-6
    row = random_point((5, 1), 1)[0].expand(6, 5)  # of stride 0
    assert dmf.sharpness([row, factors[0]]).value == pytest.approx(
        dmf.sharpness([row.clone(), factors[0]]).value, rel=1e-13
    )


@pytest.fixture(
    params=["float16", "float64", "meta", "no_grad", "inference_mode"],
)
def other_defaults(request):
    """Defaults that a program may have set before it calls the library."""
    if request.param == "meta":  # a device on which nothing can be computed
        torch.set_default_device("meta")
        yield
        torch.set_default_device(None)
    elif request.param in ("float16", "float64"):
        torch.set_default_dtype(getattr(torch, request.param))
        yield
        torch.set_default_dtype(torch.float32)
    else:
        with getattr(torch, request.param)():
            yield


def all_results():
    """Everything, on every route, from numbers that depend on no default."""
    found = []
    for method, widths in ROUTES.items():
        factors = random_factors(widths)
        found += everything(dmf.sharpness(factors, method=method))
        stacks = [torch.stack([W, 2 * W]) for W in factors]
        found += everything(dmf.sharpness(stacks, method=method))
    factors = random_factors((6, 9, 8, 7))
    for data in DATA.values():
        found += outcomes(factors, dmf.end_to_end(factors), data)
    found += makers(gaussian_matrix(3, 2, 1), 100.0)
    found += [*dmf.hessian_eigenvectors(random_factors((40, 45, 50, 42)), count=3)]
    return found


def random_factors(widths):
    return [gaussian_matrix(rows, columns, [rows, columns]) for columns, rows in pairwise(widths)]


@pytest.fixture(scope="module")
def usual_results():
    return all_results()


def test_defaults_of_the_program_do_not_matter(usual_results, other_defaults):
    found = all_results()
    same(found, usual_results)
    tensors = [result for result in found if isinstance(result, torch.Tensor)]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
    assert {tensor.dtype for tensor in tensors} == {torch.float64}


def test_a_result_made_in_inference_mode_can_be_used_outside():
    with torch.inference_mode():
        s = dmf.sharpness(random_factors((6, 9, 8, 7)), method="lanczos")
    assert s.gap > 0
    assert s.upper_bound > s.value
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    (weight * s.value).sum().backward()
    assert weight.grad is not None
