"""Models of PyTorch as they are read, and refused."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import dmf_sharpness as dmf
from tests.network.linear_networks import samples


def network(*widths: int, bias: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(d, e, bias=bias) for d, e in pairwise(widths))).double()


def test_nested_modules_lists_and_state_dicts_are_the_same_model():
    plain = network(4, 5, 3)
    nested = nn.Sequential(nn.Flatten(), nn.Sequential(plain[0], nn.Identity()), plain[1])
    weights = [layer.weight for layer in plain]
    given = [plain, nested, weights, nn.ParameterList(weights), plain.state_dict()]
    values = {dmf.sharpness(dmf.from_module(model)).value for model in given}
    assert values == {dmf.sharpness(weights).value}
    assert dmf.sharpness(nested).value == dmf.sharpness(plain.state_dict()).value


def test_names_and_shapes():
    read = dmf.from_module(nn.Sequential(nn.Flatten(), network(4, 5, 3, bias=True)))
    names = [tensor.name for tensor in read.trained]
    assert names == ["1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias"]
    assert [tuple(W.shape) for W in read.factors] == [(5, 4), (3, 5)]
    assert read.problem.target.shape == (3, 4)
    assert read.problem.input_root.shape == (5, 4)  # unit vectors, and the ones below


def test_samples_are_rows_and_reduced_without_squares():
    model = network(4, 5, 3)
    X = samples(model, 100, 0) * torch.tensor([1.0, 1e-5, 1e-9, 1e-12], dtype=torch.float64)
    weights = [layer.weight for layer in model]
    found = dmf.from_module(model, X)
    assert found.problem.input_root.shape == (4, 4)
    spectrum = dmf.hessian_spectrum(weights, input_root=X.mT)
    assert dmf.hessian_spectrum(found) == pytest.approx(spectrum, rel=1e-10)
    assert dmf.sharpness(weights, inputs=X).value == pytest.approx(float(spectrum[0]), rel=1e-12)


def test_images_are_flattened_by_a_module_that_begins_with_flatten():
    model = nn.Sequential(nn.Flatten(), network(12, 3))
    X = torch.randn(5, 3, 4, dtype=torch.float64)
    assert dmf.sharpness(model, inputs=X).value == dmf.sharpness(model, inputs=X.flatten(1)).value


@pytest.mark.parametrize(("reduction", "half"), [("mean", False), ("sum", True), ("mean", True)])
def test_a_convention_is_a_factor_of_all_results(reduction, half):
    model = network(4, 5, 3, bias=True)
    X = samples(model, 6, 0)
    base = dmf.from_module(model, X)
    other = dmf.from_module(model, X, reduction=reduction, half=half)
    factor = (0.5 if half else 1) / (18 if reduction == "mean" else 1)
    assert other.loss == f"{'½ ' if half else ''}{reduction} of squares"
    for measure in (dmf.hessian_trace, dmf.hessian_frobenius_norm):
        assert measure(other) == pytest.approx(factor * measure(base), rel=1e-13)
    for name in ("value", "gap", "upper_bound"):
        results = [getattr(dmf.sharpness(read), name) for read in (base, other)]
        assert results[1] == pytest.approx(factor * results[0], rel=1e-12)
    assert dmf.sharpness(other).loss == other.loss
    blocks = [dmf.layer_curvature(read)[1] for read in (base, other)]
    assert blocks[1].sharpness == pytest.approx(factor * blocks[0].sharpness, rel=1e-13)


def test_single_precision_is_promoted_on_request():
    model = network(4, 5, 3).float()
    X = samples(network(4, 3), 10, 0).float()
    with pytest.raises(TypeError, match="promote=True converts it"):
        dmf.sharpness(model, inputs=X)
    promoted = dmf.sharpness(model, inputs=X, promote=True).value
    assert promoted == dmf.sharpness(copy.deepcopy(model).double(), inputs=X.double()).value


def test_a_network_trained_in_single_precision_is_told_how_far_its_value_may_be_off():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Linear(8, 3))
    X = torch.randn(50, 5)
    Y = X @ torch.randn(5, 3) + 0.1 * torch.randn(50, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2000):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(X), Y).backward()
        optimizer.step()
    options = {"inputs": X, "targets": Y, "reduction": "mean", "promote": True}
    with pytest.raises(ValueError, match="sharpness_at takes any point"):
        dmf.sharpness(model, **options)
    found = dmf.sharpness(model, **options, rtol=1e-4)
    true = dmf.sharpness_at(dmf.from_module(model, **options)).value
    assert 1e-10 < found.misfit < 1e-4
    assert abs(true - found.value) <= found.misfit * found.value


def test_frozen_layers_are_those_without_gradients_or_those_named():
    model = network(4, 5, 3, bias=True)
    model[0].requires_grad_(False)
    frozen = dmf.from_module(model)
    assert [tensor.name for tensor in frozen.trained] == ["1.weight", "1.bias"]
    whole = dmf.from_module(model, trainable=[True, True])
    assert len(whole.trained) == 4
    named = dmf.from_module(model.state_dict(), trainable=[False, True])
    assert dmf.sharpness(named).value == dmf.sharpness(frozen).value


def test_tied_layers_of_a_state_dict_stay_tied():
    square = nn.Linear(4, 4).double()
    model = nn.Sequential(square, square)
    read = [dmf.from_module(given) for given in (model, model.state_dict())]
    assert [tensor.layers for tensor in read[1].trained] == [(0, 1), (0, 1)]
    assert dmf.sharpness(read[0]).value == dmf.sharpness(read[1]).value
    untied = {name: value.clone() for name, value in model.state_dict().items()}
    assert abs(dmf.sharpness(untied).value / dmf.sharpness(read[0]).value - 1) > 1e-3


def test_parameters_beside_each_other_in_one_memory_are_not_tied():
    flat = torch.randn(32, dtype=torch.float64)
    state = {"0.weight": flat[:16].view(4, 4), "1.weight": flat[16:].view(4, 4)}
    assert not dmf.from_module(state).tied


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return x + self.layer(x)


def hooked():
    model = network(3, 3)
    model[0].register_forward_hook(lambda *_: None)
    return model


def patched():
    model = network(3, 3)
    model[0].forward = torch.relu
    return model


def pruned():
    model = network(3, 3)
    prune.l1_unstructured(model[0], "weight", 0.5)
    return model


class Squared(nn.Linear):
    def forward(self, x):
        return super().forward(x) ** 2


def normalized():
    return nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))


def transposed():
    W = torch.randn(4, 4, dtype=torch.float64)
    return {"0.weight": W, "1.weight": W.mT}


REFUSED = {
    "relu": (lambda: nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU())), "ReLU() as layer '1.0'"),
    "dropout": (lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)), "no dropout"),
    "eval dropout": (lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).eval(), "no dropout"),
    "other module": (Residual, "got Residual("),
    "hook": (hooked, "Linear with a hook"),
    "patched": (patched, "Linear with another forward"),
    "pruned": (pruned, "Linear with a hook"),
    "subclass": (lambda: nn.Sequential(Squared(3, 3)), "got Squared("),
    "module list": (lambda: nn.ModuleList([nn.Linear(3, 3)]), "got ModuleList("),
    "weight norm": (normalized, "Parametrized"),
    "flatten some": (lambda: nn.Sequential(nn.Flatten(2), nn.Linear(3, 3)), "nn.Flatten of all"),
    "empty": (nn.Sequential, "at least one linear layer"),
    "empty list": (list, "at least one linear layer"),
    "chain": (lambda: network(3, 4)[:1].append(network(3, 3)[0]), "expected shape (…, 4), got (3, 3)"),
    "no tensor": (lambda: {"0.weight": [1.0]}, "expected names with tensors"),
    "vector": (lambda: {"norm.weight": torch.ones(3)}, "'norm.weight' of shape (3,)"),
    "bias alone": (lambda: {"0.bias": torch.ones(3)}, "'0.bias' of shape (3,)"),
    "mixed types": (lambda: [torch.ones(2, 2).double(), torch.ones(2, 2)], "one type"),
    "integers": (lambda: [torch.ones(2, 2, dtype=torch.int64)], "torch.float64"),
    "not finite": (lambda: [torch.full((2, 2), torch.nan).double()], "finite"),
    "meta": (lambda: nn.Linear(2, 2, device="meta").double(), "in memory"),
    "transposed": (transposed, "another view of"),
    "frozen": (lambda: network(3, 3).requires_grad_(False), "a layer that is trained"),
    "number": (lambda: 3, "got 3"),
    "complex": (lambda: [torch.ones(2, 2, dtype=torch.complex128)], "torch.complex128"),
    "batch": (lambda: [torch.ones(2, 3, 3).double()], "got (2, 3, 3)"),
    "empty matrix": (lambda: [torch.ones(0, 2).double()], "positive widths"),
    "text": (lambda: "weights.pt", "to be a tensor"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_linear_or_not_understood_is_refused_in_one_line(name):
    make, told = REFUSED[name]
    with pytest.raises((TypeError, ValueError)) as error:
        dmf.from_module(make())
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_data_are_refused_in_one_line():
    model = network(3, 4, 2)
    X, Y = samples(model, 5, 0), torch.ones(5, 2, dtype=torch.float64)
    for arguments, told in [
        ({"inputs": X[:0]}, "inputs: expected at least one sample, got none"),
        ({"inputs": X[:, :2]}, r"inputs: expected shape (…, 3), got (5, 2)"),
        ({"inputs": X, "targets": Y[:4]}, "targets: expected 5 samples, got 4"),
        ({"inputs": X, "targets": Y[:, 0]}, "targets: expected shape (…, 2), got (5,)"),
        ({"inputs": X, "targets": torch.ones(5, 2, dtype=torch.int64)}, "torch.float64"),
        ({"inputs": 0 * X}, "inputs: expected samples that are not all zero"),
        ({"inputs": X.float()}, "promote=True"),
        ({"inputs": [1.0]}, "inputs: expected a tensor"),
        ({"reduction": "none"}, "reduction: expected one of"),
        ({"half": 1}, "half: expected True or False"),
        ({"trainable": [True]}, "trainable: expected 2 truth values, got 1"),
        ({"trainable": [False, False]}, "trainable: expected a layer"),
        ({"promote": None}, "promote: expected True or False"),
    ]:
        with pytest.raises((TypeError, ValueError)) as error:
            dmf.from_module(model, **arguments)
        assert told in str(error.value), str(error.value)
        assert "\n" not in str(error.value)


def test_other_arguments_beside_a_model_are_refused():
    read = dmf.from_module(network(3, 4, 2))
    G = torch.eye(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="input_gram: expected None for a model"):
        dmf.sharpness(read, input_gram=G)
    with pytest.raises(ValueError, match="input_gram: expected None for a model"):
        dmf.hessian_trace(read, G)
    with pytest.raises(ValueError, match="inputs: expected nothing beside a model"):
        dmf.sharpness(read, inputs=G)
    with pytest.raises(TypeError, match="unexpected keyword"):
        dmf.sharpness(network(3, 4, 2), samples=G)


def test_numbers_beyond_the_range_are_told_and_not_computed():
    model = network(3, 4, 2, bias=True)
    with torch.no_grad():
        model[0].weight *= 1e200
    with pytest.raises(ValueError, match="ordinary size"):
        dmf.sharpness(model)
