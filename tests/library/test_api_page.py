"""The API page has every public name, with its docstring."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dmf_sharpness

pytest.importorskip("pdoc")


def test_every_public_name_is_on_the_page(tmp_path: Path):
    command = [sys.executable, "-m", "pdoc", "--no-show-source", "-o", str(tmp_path)]
    # Lazy names would be taken for submodules.
    environment = os.environ | {"EAGER_IMPORT": "1"}
    subprocess.run([*command, "dmf_sharpness"], check=True, env=environment)
    page = (tmp_path / "dmf_sharpness.html").read_text()
    for name in dmf_sharpness.__all__:
        assert f'id="{name}"' in page
        assert getattr(dmf_sharpness, name).__doc__
    assert page.count('class="docstring"') >= len(dmf_sharpness.__all__)
