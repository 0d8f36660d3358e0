"""Scripts, run in this process: what they say, and the status they end with."""

import importlib.util
import io
import logging
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from dmf_sharpness.artifacts import lineage

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "workflow/scripts"
FOLDERS = (SCRIPTS, ROOT / "tools", ROOT / "benchmarks")


class Ended(NamedTuple):
    """How a script ended."""

    status: int
    output: str
    errors: list[str]

    @property
    def error(self) -> str:
        """The one line that says what is wrong."""
        assert self.status == 2
        (line,) = self.errors
        assert line.startswith("error: ")
        return line.removeprefix("error: ")


def run_script(name: str, *arguments: object) -> Ended:
    """Run a script with these arguments; anything but an end with a status is a failure."""
    (path,) = [path for folder in FOLDERS if (path := folder / f"{name}.py").exists()]
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)  # where a script finds its neighbours
        specification.loader.exec_module(module)
        patch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        patch.setattr(sys, "stdout", output)
        patch.setattr(sys, "stderr", errors)
        patch.setattr(logging.getLogger("dmf_sharpness"), "propagate", False)
        # In a process of its own a script has read nothing yet.
        patch.setattr(lineage, "_read", {})
        patch.setattr(lineage, "_headers", {})
        with pytest.raises(SystemExit) as ended:
            module.cli.run(module.main)
    return Ended(ended.value.code or 0, output.getvalue(), errors.getvalue().splitlines())
