"""The scripts in ``examples/`` do what they say."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


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
