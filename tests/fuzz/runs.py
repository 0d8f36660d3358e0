"""Many calls, each function's in a process of its own, so that one that ends its process is seen."""

import json
import os
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.calls import FUNCTIONS, calls
from tests.fuzz.properties import check

SHARES = {"gradient_descent": 8, "sharpness": 4}
"""How often a function has its turn; the others once."""


def run(count, functions=FUNCTIONS, seed=0, large=False):
    """``count`` calls of some functions: for each what came of them, and the first that is wrong."""
    total = sum(SHARES.get(name, 1) for name in functions)
    shares = [-(-count * SHARES.get(name, 1) // total) for name in functions]
    return [_alone(name, share, seed, large) for name, share in zip(functions, shares, strict=True)]


def _alone(function, count, seed, large):
    with tempfile.TemporaryDirectory() as folder:
        last, answer = Path(folder, "last"), Path(folder, "answer")
        child = os.fork()
        if child == 0:
            try:
                answer.write_text(
                    json.dumps(many(function, count, seed, large, last)), encoding="utf-8"
                )
            finally:
                os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0 and answer.exists():
            return json.loads(answer.read_text(encoding="utf-8"))
        failure = f"{last.read_text(encoding='utf-8')}\n    the process ended with {code}"
        return {"function": function, "tally": {}, "failure": failure}


def many(function, count, seed, large, last):
    """Calls of one function; the one under way is written into the file ``last``."""
    warnings.simplefilter("error")
    # PyTorch's, about kinds of tensors that are young, and about itself.
    warnings.simplefilter("ignore", hypothesis.errors.HypothesisWarning)
    warnings.filterwarnings("ignore", message=".*(in beta|prototype|torch.jit.script|not writable)")
    tally = Counter()

    @hypothesis.seed(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
    )
    @given(calls(function, large))
    def every(call):
        last.write_text(repr(call), encoding="utf-8")
        tally["calls"] += 1
        check(call, tally)

    failure = None
    try:
        every()
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({Path(line.filename).name}:{line.lineno})"
        failure = f"{last.read_text(encoding='utf-8')}\n    {text}"
    return {"function": function, "tally": tally, "failure": failure}


def width(kind):
    """Of a column."""
    return max(12, len(kind) + 2)


def report(answers):
    """A line for each function, the sums, and the calls that were wrong."""
    first = ["calls", "returned", "both engines", "unstable"]
    kinds = {kind for answer in answers for kind in answer["tally"]}
    columns = first + sorted(kinds - set(first))
    sums = {kind: sum(answer["tally"].get(kind, 0) for answer in answers) for kind in columns}
    rows = [(answer["function"], answer["tally"]) for answer in answers] + [("all", sums)]
    wrong = [answer["failure"] for answer in answers if answer["failure"]]
    lines = [f"{'':26}" + "".join(f"{kind:>{width(kind)}}" for kind in columns)]
    for name, tally in rows:
        lines.append(
            f"{name:26}" + "".join(f"{tally.get(kind, 0):{width(kind)},}" for kind in columns)
        )
    lines.append(f"{len(wrong)} functions with a call that is wrong")
    return "\n".join([*lines, *wrong])
