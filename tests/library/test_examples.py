"""The examples of the public names run as they stand, and the scripts in ``examples/`` do what they say."""

import doctest
import runpy
from pathlib import Path

import pytest
import torch

import dmf_sharpness

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", sorted(dmf_sharpness.__all__))
def test_every_public_name_has_an_example_that_runs_after_the_imports_of_the_page(name):
    imported = {public: getattr(dmf_sharpness, public) for public in dmf_sharpness.__all__}
    imported |= {"torch": torch, "nn": torch.nn}
    documented = imported[name].__doc__
    example = doctest.DocTestParser().get_doctest(documented, imported, name, None, None)
    assert example.examples
    said: list[str] = []
    result = doctest.DocTestRunner().run(example, out=said.append)
    assert result.failed == 0, "".join(said)


def test_the_sharpness_along_training_rises_beyond_the_limit_and_settles_at_it(tmp_path):
    pytest.importorskip("matplotlib")
    script = runpy.run_path(str(EXAMPLES / "sharpness_along_training.py"))
    figure = tmp_path / "figure.png"
    values = script["main"](str(figure)).values
    limit = 2 / script["STEP_SIZE"]
    assert values[0] < 0.6 * limit
    assert max(values) > 1.3 * limit
    assert values[-1] == pytest.approx(limit, rel=0.03)
    assert figure.stat().st_size > 10_000
