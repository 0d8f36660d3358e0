"""`python -m tests.mutants network hessian/lanczos.py`: mutants of some modules, and who survived."""

import argparse
import importlib
import random
from pathlib import Path

from tests.mutants import kernels
from tests.mutants.operators import PACKAGE, mutant, sites
from tests.mutants.replaced import ROOT, replace
from tests.mutants.report import Outcome, explained, explanations, report
from tests.mutants.runs import PRELOADED, recorded, survives

ROOMS = (
    "network", "hessian", "minimizers", "descent", "compiled", "claims", "artifacts", "arguments.py",
)  # fmt: skip
# The tests of these folders are tried, but for those that start other programs or take long.
FOLDERS = (*ROOMS[:-1], "studies", "library")
LEFT_OUT = {
    "test_sanitizers.py", "test_fuzzed_api.py", "test_real_models.py", "test_coverage.py",
    "test_api_page.py", "test_public_names.py",
}  # fmt: skip


def files(names):
    """The modules that some rooms or files of the package consist of."""
    for name in names:
        path = PACKAGE / name
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            if file.name != "__init__.py" and file.suffix == ".py":
                yield str(file.relative_to(PACKAGE))


def drawn(file, count, seed):
    """Mutants of a file, one at each of ``count`` places drawn at random; at all places if 0."""
    rng = random.Random(f"{seed} {file}")
    places = sites(file)
    rng.shuffle(places)
    found = []
    for replacements in places:
        candidate = mutant(file, rng.choice(replacements))
        if candidate is not None:
            found.append(candidate)
        if len(found) == count:
            break
    return sorted(found, key=lambda each: each.line)


def chosen(tests, one, budget):
    """The tests of a mutant, the quickest of its room first, and the seconds that they take.

    They call the changed function, or are in the file that bears the module's name. Those that would
    exceed the ``budget`` are left out.
    """
    room, _, module = one.file.removesuffix(".py").rpartition("/")
    names, total = [], 0.0
    for test in sorted(tests, key=lambda test: (f"tests/{room}/" not in test.name, test.seconds)):
        concerned = f"/test_{module}.py" in test.name or test.calls_into(one.file, one.function)
        if concerned and (not names or total + test.seconds <= budget):
            names.append(test.name)
            total += test.seconds
    return names, total


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=ROOMS, help="rooms, or files of the package")
    parser.add_argument("--sample", type=int, default=20, help="places per module; 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=15, help="seconds of tests per mutant")
    parser.add_argument("--cache", type=Path, default=ROOT / "build/mutants.json")
    options = parser.parse_args()
    for name in PRELOADED:
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)
    options.cache.parent.mkdir(exist_ok=True)
    test_files = sorted(
        str(path.relative_to(ROOT))
        for folder in FOLDERS
        for path in (ROOT / "tests" / folder).glob("test_*.py")
        if path.name not in LEFT_OUT
    )
    tests = recorded(test_files, options.cache)
    known = explanations()
    outcomes = []
    for file in files(options.modules):
        for one in drawn(file, options.sample, options.seed):
            names, seconds = chosen(tests, one, options.budget)
            alive = not names or survives(
                names, 30 + 5 * seconds, lambda one=one: replace(one.file, one.text)
            )
            outcomes.append(Outcome(one, len(names), alive))
            if alive and not explained(one, known):
                print(f"{one.file}:{one.line} survives {len(names)} tests", flush=True)
                print(f"    - {one.was}\n    + {one.becomes}", flush=True)
        print(report(outcomes, known, only=file), flush=True)
    compiled = [
        name for name in kernels.KERNELS if {"compiled", f"compiled/{name}"} & set(options.modules)
    ]
    if compiled:
        outcomes += kernels.outcomes(compiled, tests, options.budget, options.sample, options.seed)
    print(report(outcomes, known))


if __name__ == "__main__":
    main()
