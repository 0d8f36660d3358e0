"""The command ``dmf-sharpness`` on files of weights, and on files that are none."""

import json
import os
import pickle
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import dmf_sharpness as dmf
from dmf_sharpness.command_line import main


def network(*widths: int, bias: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(d, e, bias=bias) for d, e in pairwise(widths)))


def printed(capsys, *arguments) -> dict:
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments) -> str:
    assert main([*map(str, arguments)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert told.err.startswith("dmf-sharpness: ")
    return told.err


def test_all_kinds_of_files_hold_the_same_network(tmp_path, capsys):
    model = network(4, *[3] * 11, 2)  # more than ten layers, whose names do not sort as text
    state = model.state_dict()
    torch.save(state, tmp_path / "w.pt")
    save_file(state, tmp_path / "w.safetensors")
    np.savez(tmp_path / "w.npz", *(W.numpy() for W in state.values()))
    results = [printed(capsys, tmp_path / f"w.{kind}") for kind in ("pt", "safetensors", "npz")]
    for result in results:
        assert result.pop("file")
        assert result == results[0]
    factors = [W.double() for W in state.values()]
    assert results[0]["widths"] == [4, *[3] * 11, 2]
    assert results[0]["sharpness"] == dmf.sharpness(factors).value
    assert results[0]["flat_sharpness"] == dmf.flat_sharpness(dmf.end_to_end(factors), 12)
    products = dmf.spectral_products(factors)
    assert results[0]["relative_products"] == pytest.approx(
        products / float(torch.linalg.matrix_norm(dmf.end_to_end(factors), 2)) ** (11 / 12)
    )


def test_biases_and_data(tmp_path, capsys):
    model = network(4, 3, 2, bias=True)
    X = torch.randn(20, 4)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    torch.save({"inputs": X, "targets": model(X).detach()}, tmp_path / "d.pt")
    result = printed(
        capsys, tmp_path / "w.pt", "--data", tmp_path / "d.pt", "--reduction", "mean", "--half"
    )
    found = dmf.sharpness(model, inputs=X, reduction="mean", half=True, promote=True)
    assert result["sharpness"] == pytest.approx(found.value, rel=1e-12)
    assert result["loss"] == "½ mean of squares"
    assert result["misfit"] < 1e-4
    assert result["flat_sharpness"] is None
    torch.save({"inputs": X, "targets": torch.ones(20, 2)}, tmp_path / "e.pt")
    told = refused(capsys, tmp_path / "w.pt", "--data", tmp_path / "e.pt")
    assert "targets: expected a minimizer" in told


def test_text(tmp_path, capsys):
    W = torch.diag(torch.tensor([2.0, 1.0]))
    torch.save({"0.weight": W, "1.weight": W.clone()}, tmp_path / "w.pt")
    assert main([str(tmp_path / "w.pt")]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["widths"] == "2-2-2"
    assert lines["sharpness"] == "16"
    assert lines["stability"] == "limit    0.125"


def test_tensors_that_share_their_memory_are_tied(tmp_path, capsys):
    """As they are in a module that uses a layer twice: both places add inside the square."""
    W = torch.diag(torch.tensor([2.0, 1.0]))
    torch.save({"0.weight": W, "1.weight": W}, tmp_path / "w.pt")
    result = printed(capsys, tmp_path / "w.pt")
    assert (result["sharpness"], result["tied"]) == (pytest.approx(32), True)


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save(Evil(tmp_path / "made"), tmp_path / "w.pt")
    assert "which are not loaded" in refused(capsys, tmp_path / "w.pt")
    assert not (tmp_path / "made").exists()
    # A pickle that torch.save has not written: the refusal is all that is said.
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Evil(tmp_path / "made"), protocol=4))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert "which are not loaded" in refused(capsys, tmp_path / "w.pt")
    assert warned == []
    assert not (tmp_path / "made").exists()
    torch.save(network(2, 2), tmp_path / "module.pt")
    assert "torch.save(model.state_dict(), …)" in refused(capsys, tmp_path / "module.pt")


@pytest.mark.parametrize("kind", ["pt", "pth", "npz", "safetensors"])
def test_files_that_are_empty_or_damaged_are_told_in_one_line(tmp_path, capsys, kind):
    path = tmp_path / f"w.{kind}"
    assert "No such file" in refused(capsys, path)
    path.touch()
    assert "got an empty file" in refused(capsys, path)
    for text in ("abc", "\x80\x04abc", "{}" * 100):
        path.write_text(text)
        refused(capsys, path)
    path.unlink()
    path.mkdir()
    refused(capsys, path)


def test_other_contents_are_told_in_one_line(tmp_path, capsys):
    def told(content: object) -> str:
        torch.save(content, tmp_path / "w.pt")
        return refused(capsys, tmp_path / "w.pt")

    assert "got 'norm.weight' of shape (3,)" in told({"norm.weight": torch.ones(3)})
    assert "got 3 as 'epoch'" in told({"epoch": 3, "state_dict": {}})
    assert "expected weights, got none" in told({})
    assert "expected a state dict, got int" in told(3)
    assert "expected shape (…, 3), got (2, 2)" in told([torch.ones(3, 2), torch.ones(2, 2)])
    np.savez(tmp_path / "w.npz", np.array([None, 1], dtype=object))
    assert "expected arrays of numbers" in refused(capsys, tmp_path / "w.npz")
    assert "got no suffix" in refused(capsys, tmp_path)
    torch.save({"inputs": torch.ones(0, 2)}, tmp_path / "d.pt")
    torch.save([torch.ones(2, 2)], tmp_path / "w.pt")
    assert "at least one sample" in refused(
        capsys, tmp_path / "w.pt", "--data", tmp_path / "d.pt", "--reduction", "mean"
    )
    assert "inputs and targets" in refused(capsys, tmp_path / "w.pt", "--data", tmp_path / "w.pt")
