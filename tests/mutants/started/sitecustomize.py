"""The mutant of tests/mutants, in every Python that a test starts."""

import os
import sys
from pathlib import Path

if "DMF_MUTANT" in os.environ:
    from tests.mutants.replaced import Replaced

    file, text = os.environ["DMF_MUTANT"].split(os.pathsep)
    sys.meta_path.insert(0, Replaced(file, Path(text).read_text(encoding="utf-8")))
