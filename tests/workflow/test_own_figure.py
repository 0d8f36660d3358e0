"""The example of docs/tables.md, a figure of one's own, on the tables of a finished run."""

import re

import matplotlib.image
import pytest

from tests.workflow.conftest import ROOT, run_in

pytestmark = pytest.mark.pipeline


def test_the_example_draws_its_figure_from_the_tables(replica):
    page = (ROOT / "docs/tables.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    statements = [line for line in block.splitlines() if line and not line.startswith(" ")]
    assert len(statements) <= 10
    (replica / "mine.py").write_text(block, encoding="utf-8")
    run_in(replica)("mine.py")
    picture = matplotlib.image.imread(replica / "mine.png")[..., :3]
    colours = {tuple(pixel) for pixel in picture.reshape(-1, 3) if pixel.max() - pixel.min() > 0.3}
    assert len(colours) >= 2  # dots of depth 2 and of depth 3
