"""`python -m tests.mutants network hessian/lanczos.py`: mutants of some modules, and who survived."""

import argparse
import importlib
import random
import time
from pathlib import Path

from tests.mutants import kernels
from tests.mutants.operators import PACKAGE, mutant, sites
from tests.mutants.replaced import ROOT, replace
from tests.mutants.report import Outcome, explanations, report
from tests.mutants.runs import PRELOADED, recorded, survives

ROOMS = ("network", "hessian", "descent", "compiled", "claims", "artifacts", "arguments.py")
FOLDERS = (
    "network",
    "hessian",
    "descent",
    "compiled",
    "claims",
    "artifacts",
    "minimizers",
    "studies",
    "library",
)


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
    """The tests of a mutant, those of its room first, until they take ``budget`` seconds."""
    room = Path(one.file).with_suffix("").parts
    own = ("tests/" + "/".join(room[:1]) + "/", f"/test_{room[-1]}.py")
    names = []
    prefix = f"{one.file}:"
    total = 0.0
    found = [
        test
        for test in tests
        if own[1] in test.name
        or (
            f"{prefix}{one.function}" in test.calls
            if one.function
            else any(call.startswith(prefix) for call in test.calls)
        )
    ]
    for test in sorted(found, key=lambda test: (own[0] not in test.name, test.seconds)):
        if names and total + test.seconds > budget:
            continue
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
            began = time.monotonic()
            alive = not names or survives(
                names, 30 + 5 * seconds, lambda one=one: replace(one.file, one.text)
            )
            outcomes.append(Outcome(one, len(names), alive))
            if alive:
                print(
                    f"{one.file}:{one.line} ({len(names)} tests, {time.monotonic() - began:.0f} s) survives\n"
                    f"    - {one.was}\n    + {one.becomes}",
                    flush=True,
                )
        print(report(outcomes, known, only=file), flush=True)
    compiled = [
        name for name in kernels.KERNELS if {"compiled", f"compiled/{name}"} & set(options.modules)
    ]
    if compiled:
        outcomes += kernels.outcomes(compiled, tests, options.budget, options.sample, options.seed)
    print(report(outcomes, known))


# Tests that start processes, which know nothing of the mutant, or take long.
LEFT_OUT = {
    "test_sanitizers.py",
    "test_fuzzed_api.py",
    "test_real_models.py",
    "test_coverage.py",
    "test_api_page.py",
    "test_public_names.py",
}

if __name__ == "__main__":
    main()
