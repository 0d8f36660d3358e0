"""`python -m tests.fuzz --calls 20000`: calls of the public interface, and what came of them."""

import argparse
import sys

from tests.fuzz.calls import FUNCTIONS
from tests.fuzz.runs import report, run

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--calls", type=int, default=20_000, help="of all functions together")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("functions", nargs="*", default=FUNCTIONS)
chosen = parser.parse_args()
answers = run(chosen.calls, chosen.functions, chosen.seed)
print(report(answers))
sys.exit(any(answer["failure"] for answer in answers))
