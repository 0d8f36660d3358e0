"""`python -m tests.fuzz --calls 20000`: calls of the public interface, and what came of them."""

import argparse
import sys
from pathlib import Path

from dmf_sharpness.compiled import lanes
from tests.fuzz.calls import FUNCTIONS
from tests.fuzz.runs import report, run

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--calls", type=int, default=20_000, help="of all functions together")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--kernels", type=Path, help="compiled kernels in the place of the package's")
parser.add_argument(
    "--large", action="store_true", help="larger problems, for the compiled kernels"
)
parser.add_argument("functions", nargs="*", default=FUNCTIONS)
chosen = parser.parse_args()
if chosen.kernels:
    lanes.kernel_file = lambda: chosen.kernels
    if not lanes.available():
        parser.error(f"--kernels: expected a library that loads, got {chosen.kernels}")
answers = run(chosen.calls, chosen.functions, chosen.seed, chosen.large)
print(report(answers))
sys.exit(any(answer["failure"] for answer in answers))
