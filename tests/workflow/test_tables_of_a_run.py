"""docs/tables.md on the tables of a finished run: their columns, and the example of a figure of one's own."""

import re

import matplotlib.image
import pyarrow.parquet as pq
import pytest

from tests.project.test_tables import TABLES
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


def test_the_files_have_the_columns_of_the_page(finished):
    results = finished[0] / "results"
    found = {}
    for path in results.rglob("*.parquet"):
        kind = str(path.parent.relative_to(results))
        kind = "trajectories" if path.name.endswith(".trajectories.parquet") else kind
        found.setdefault(kind, set()).add(frozenset(pq.read_schema(path).names))
    assert set(found) == {"sharpness", "escape", "trajectories"}
    assert found == {kind: {frozenset(TABLES[kind].names)} for kind in found}
