"""A module of the package whose text is another one than its file's."""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/dmf_sharpness"


class Replaced(importlib.abc.MetaPathFinder):
    """An importer that takes the text of one module from memory."""

    def __init__(self, file, text):
        self.name = ".".join(("dmf_sharpness", *Path(file).with_suffix("").parts))
        self.path, self.text = str(PACKAGE / file), text

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self.name:
            return None
        loader = importlib.machinery.SourceFileLoader(fullname, self.path)
        loader.get_code = lambda _: compile(self.text, self.path, "exec", dont_inherit=True)
        return importlib.util.spec_from_file_location(fullname, self.path, loader=loader)


def replace(file, text):
    """Import a module with this text, in this process and in those that it starts."""
    sys.meta_path.insert(0, Replaced(file, text))
    stored = Path(tempfile.mkdtemp()) / "text.py"
    stored.write_text(text, encoding="utf-8")
    os.environ["DMF_MUTANT"] = f"{file}{os.pathsep}{stored}"
    paths = (Path(__file__).parent / "started", ROOT, os.environ.get("PYTHONPATH", ""))
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, paths))
