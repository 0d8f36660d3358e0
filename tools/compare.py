"""Put the ledger and the digests of the run in this folder beside those of the reference run, row by row.

``results/reference/`` holds the reference: the ledger of a run, the digests of its tables, tensors and
pictures, its machine and its versions. A row agrees if its verdict and that of its negative control are the
same in both runs. Its number need not be: it is the largest of a sample, and another processor or another
version rounds differently. So the table says how far the two numbers are apart. Exit status 1 if a row of the
reference has another verdict here, or is missing.
"""

import argparse
import json
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmf_sharpness import cli
from dmf_sharpness.artifacts.provenance import machine, versions
from dmf_sharpness.artifacts.store import write_text
from dmf_sharpness.artifacts.yaml_files import read_mapping
from dmf_sharpness.claims.ledger import format_number, read_ledger
from dmf_sharpness.compiled.lanes import engine_name
from dmf_sharpness.errors import UserError

from check_reproducible import contents  # isort: skip

LEDGER = Path("results/claims.json")
REFERENCE = Path("results/reference")
CONFIG = Path("config/config.yaml")
SHARE = 0.01
"""Two numbers agree within the tolerance of their row, or within this share: the two digits of the ledger."""

Row = Mapping[str, Any]


def main() -> int:
    """Compare results/ with results/reference/, or replace the reference by this run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--record", action="store_true", help="replace the reference by the run in this folder"
    )
    args = parser.parse_args()
    cli.log.setLevel(logging.WARNING)
    return _record() if args.record else _compare()


def _record() -> int:
    """Write the ledger, and the digests, machine and versions beside it; 0, as nothing is compared.

    Raises:
        UserError: There is no ledger here, or it is damaged.
    """
    read_ledger(LEDGER)
    write_text(REFERENCE / "claims.json", LEDGER.read_text(encoding="utf-8"))
    run = {"machine": _machine(), "versions": versions(), "digests": _digests()}
    text = json.dumps(run, indent=1, ensure_ascii=False)
    write_text(REFERENCE / "run.json", f"{text}\n")
    return 0


def _machine() -> dict[str, str]:
    """The machine, and the engine that gradient descent runs on here."""
    return {**machine(), "engine": engine_name()}


def _digests() -> dict[str, str]:
    """The digests of the tables, tensors and pictures that belong to the configuration, by path.

    Results of experiments that were once run beside them are left out.
    """
    config = read_mapping(CONFIG)
    named = {*config["experiments"], *config["figures"]}
    return {
        path: digest
        for path, digest in contents(Path()).items()
        if Path(path).name.partition(".")[0] in named and Path(path).suffix != ".pdf"
    }


def _compare() -> int:
    if not (REFERENCE / "claims.json").exists():
        raise UserError(
            f"{REFERENCE}: expected the reference run, got none; "
            "it belongs to the repository: git checkout results/reference"
        )
    expected, found = (
        {row["id"]: row for row in read_ledger(path)}
        for path in (REFERENCE / "claims.json", LEDGER)
    )
    run = _read_run(REFERENCE / "run.json")
    print(_conditions(run))
    print("| claim | reference | here | apart | tolerance | n | verdict | agreement |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |")
    counts = Counter[str]()
    for name, row in expected.items():
        agreement = _agreement(row, found.get(name))
        counts[agreement] += 1
        print(f"| {' | '.join(_cells(row, found.get(name)))} | {agreement} |")
    print("\n" + ", ".join(f"{count} {agreement}" for agreement, count in counts.items()))
    new = [name for name in found if name not in expected]
    if new:
        print(f"rows without a reference: {', '.join(new)}")
    _say_digests(run["digests"])
    fallen = [name for name, row in expected.items() if not _agrees(row, found.get(name))]
    if fallen:
        print(f"Not all verdicts agree: {', '.join(fallen)}.")
    else:
        print(f"All {len(expected)} verdicts agree.")
    return int(bool(fallen))


def _read_run(path: Path) -> dict[str, Any]:
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        return {key: dict(run[key]) for key in ("machine", "versions", "digests")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{path}: expected the digests of the reference run, got {reason}"
        ) from None


def _conditions(run: Mapping[str, Mapping[str, str]]) -> str:
    """The machines of the two runs, and the versions that differ."""
    here = versions()
    lines = [
        f"reference: {', '.join(run['machine'].values())}",
        f"here:      {', '.join(_machine().values())}",
    ]
    lines += [
        f"{name}: {version} in the reference, {here.get(name, 'none')} here"
        for name, version in run["versions"].items()
        if here.get(name) != version
    ]
    return "\n".join(lines) + "\n"


def _agrees(expected: Row, found: Row | None) -> bool:
    """Whether both verdicts of a row are those of the reference."""
    return found is not None and all(
        row["verdict"] == there["verdict"]
        for row, there in ((expected, found), (expected["control"], found["control"]))
    )


def _agreement(expected: Row, found: Row | None) -> str:
    """The agreement of a row in a word: of its verdicts first, then of its number."""
    if found is None:
        return "missing"
    if not _agrees(expected, found):
        return "another verdict"
    if found["value"] == expected["value"]:
        return "same"
    apart = _apart(expected, found)
    if apart is None:
        return "beyond"
    within = apart <= max(expected["tolerance"], SHARE * abs(expected["value"]))
    return "within" if within else "beyond"


def _apart(expected: Row, found: Row) -> float | None:
    """The distance of the two numbers; None if one of them is none."""
    if expected["value"] is None or found["value"] is None:
        return None
    return float(abs(found["value"] - expected["value"]))


def _cells(expected: Row, found: Row | None) -> list[str]:
    """The cells of a row but for the last; dashes for a row that is missing."""
    number, tolerance = map(format_number, (expected["value"], expected["tolerance"]))
    if found is None:
        return [expected["id"], number, "–", "–", tolerance, str(expected["n"]), "–"]
    return [
        expected["id"],
        number,
        format_number(found["value"]),
        format_number(_apart(expected, found)),
        tolerance,
        _change(expected["n"], found["n"]),
        _change(_verdicts(expected), _verdicts(found)),
    ]


def _verdicts(row: Row) -> str:
    """The verdict of a row, and that of its control if that does not fail, as it should."""
    untested = row["control"]["verdict"] != "fails"
    return f"{row['verdict']}, its control holds" if untested else str(row["verdict"])


def _change(before: object, after: object) -> str:
    return f"{before}" if before == after else f"{before} → {after}"


def _say_digests(expected: Mapping[str, str]) -> None:
    """Say of each folder how many files have the same content as in the reference, bit by bit."""
    here = contents(Path())
    folders: dict[str, list[str]] = {}
    for path in expected:
        folders.setdefault(str(Path(path).parent), []).append(path)
    print("\n| folder | files of the reference | the same here | missing here |")
    print("| --- | ---: | ---: | ---: |")
    for folder, paths in folders.items():
        same = sum(here.get(path) == expected[path] for path in paths)
        missing = sum(path not in here for path in paths)
        print(f"| {folder} | {len(paths)} | {same} | {missing} |")
    print()


if __name__ == "__main__":
    cli.run(main)
