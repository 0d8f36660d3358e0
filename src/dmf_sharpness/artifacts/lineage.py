"""The lineage of a result: digests of the code and of the files that it was made from.

Every result of the pipeline carries its *lineage*: a digest of the code that made it, its options, and the
digest of every file that was read for it. Tables and tensors have the lineage in their header, figures and
texts have a *fingerprint* of it. So nothing depends on the modification times of files, which are wrong after
a job that died, a copy of a folder, or a checkout of an older version:

- Before anything runs, the workflow marks every result as outdated whose lineage differs from that of the
  present files (:func:`set_back`), and Snakemake makes it again.
- A stage refuses to read results that were made from different versions of one file
  (:func:`check_consistent`), and refuses to write a result if its own sources were edited since it started.

Nothing here imports pandas or torch, because every script and the Snakefile import this module first.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import dmf_sharpness
from dmf_sharpness.artifacts.headers import ArtifactError, Header, read_header, rule_of
from dmf_sharpness.errors import UserError

PACKAGE = Path(dmf_sharpness.__path__[0]).absolute()
"""The folder of the imported package, which need not lie beside the workflow."""
SEALED = (".parquet", ".safetensors")
"""Files with these suffixes carry a sealed header."""
PIPELINE = ("minimizers", "sharpness", "bottleneck", "escape", "trajectories", "landscape")
"""The workflow makes artifacts of these kinds, and of a kind ``study_<name>`` for each study."""

ENDS = {
    ".png": b"IEND\xaeB`\x82",
    ".pdf": b"%%EOF",
    ".svg": b"</svg>",
    ".gif": b"\x3b",
    ".html": b"</html>",
    ".json": b"]",
    ".md": b"-->",
}
"""A complete file of each format ends like this. If the disk is full, Snakemake may leave half a file."""

_FINGERPRINT = re.compile(rb"lineage\W{1,4}([0-9a-f]{64})")
# A regular expression instead of a parser, because every job searches dozens of files, and to parse them
# takes a tenth of a second. If a sentence in a docstring looks like an import, it only adds a file.
_IMPORT = re.compile(
    r"^[ \t]*(?:from|import)[ \t]+(dmf_sharpness[\w.]*)(?:[ \t]+import[ \t]+(\([^)]*\)|[^\n]*))?",
    re.MULTILINE,
)
_read: dict[str, str] = {}
_headers: dict[str, Header] = {}
_digests: dict[tuple[Path, int, int, int] | None, str | None] = {None: None}
"""Digests of files, by path, time, size and number of the file; a file that is not there has none."""


def _sources_of(folder: Path) -> dict[Path, bytes]:
    found = sorted(path for suffix in ("py", "c", "h") for path in folder.rglob(f"*.{suffix}"))
    return {path: path.read_bytes() for path in found}


# The sources of the package at the start of this process, before most of them were imported.
_AT_START = _sources_of(PACKAGE)
# The file of each module and package, by its dotted name inside of our package. Names are looked up here and
# not on the disk, because every job looks up hundreds of them.
_PLACES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in _AT_START
    if path.suffix == ".py"
}


def _bytes_at_start(source: Path) -> bytes:
    if source not in _AT_START:
        _AT_START[source] = source.read_bytes()
    return _AT_START[source]


_SCRIPT = Path(sys.argv[0]).absolute()
if _SCRIPT.suffix == ".py" and _SCRIPT.is_file():
    _bytes_at_start(_SCRIPT)


@cache
def _module_files(name: str) -> tuple[Path, ...]:
    """The files of a dotted name in our package and of the packages above it; none for another name."""
    if name == PACKAGE.name:
        return (PACKAGE / "__init__.py",)
    first, _, inside = name.partition(".")
    if first != PACKAGE.name:
        return ()
    above, place = name.rpartition(".")[0], _PLACES.get(inside)
    return _module_files(above) + (() if place is None else (place,))


@cache
def _imported(source: Path) -> frozenset[Path]:
    """The files of our package that a Python file imports, at its top or inside of functions."""
    names: set[str] = set()
    for module, listed in _IMPORT.findall(_bytes_at_start(source).decode()):
        names.add(module)
        names.update(f"{module}.{name}" for name in re.findall(r"\w+", listed))
    return frozenset(path for name in names for path in _module_files(name))


@cache
def _sources(roots: tuple[Path, ...]) -> tuple[Path, ...]:
    found: set[Path] = set()
    waiting = [root for root in roots if root.is_file()]
    while waiting:
        source = waiting.pop()
        if source in found:
            continue
        found.add(source)
        if source.suffix == ".py":
            waiting.extend(_imported(source))
        if source.name == "lanes.py":  # this module loads the kernels that are compiled from C
            found.update(path for path in _AT_START if path.suffix in (".c", ".h"))
    return tuple(sorted(found))


@cache
def _name_of(source: Path) -> str:
    """The name of a source file, the same wherever the project lies."""
    inside = source.is_relative_to(PACKAGE)
    return str(source.relative_to(PACKAGE.parent)) if inside else source.name


@cache
def code_digest(*roots: Path) -> str:
    """A digest of files and of all that they import from our package, as at the start of this process."""
    digest = hashlib.sha256()
    for source in sorted(_sources(roots), key=_name_of):
        digest.update(f"{_name_of(source)} {len(_bytes_at_start(source))};".encode())
        digest.update(_bytes_at_start(source))
    return digest.hexdigest()[:16]


def stage_sources(rule: str, scripts: Path, detail: str = "") -> tuple[Path, ...]:
    """The source files that a rule runs; :func:`code_digest` adds the files that these import.

    Args:
        rule: The name of the rule, which is the name of its script.
        scripts: The folder of the stage scripts.
        detail: The name of the study or of the figure, if the rule runs a module of that name.
    """
    script = scripts.absolute() / f"{rule}.py"
    match rule:
        case "run_study":
            return script, PACKAGE / "studies" / f"{detail}.py"
        case "render_figure":
            return script, PACKAGE / "figures" / f"{detail}.py"
        case "render_report":
            return script, *(script.with_suffix(suffix) for suffix in (".html", ".css", ".js"))
    return (script,)


def check_unchanged(*roots: Path) -> None:
    """Make sure that no source of this process was edited since it started.

    Raises:
        UserError: One was edited, so that the results may come from either version.
    """
    for source in _sources(roots):
        if not source.is_file() or source.read_bytes() != _bytes_at_start(source):
            raise UserError(
                f"{source}: expected the file as it was at the start, got an edited one"
            )


def check_imported(project: Path) -> None:
    """Make sure that Python imports the code in the project's folder, if there is any.

    Args:
        project: The folder that holds ``src/``.

    Raises:
        UserError: The imported package lies elsewhere and differs from ``src/``.
    """
    beside = project / "src" / PACKAGE.name
    if not beside.is_dir() or beside.resolve() == PACKAGE.resolve():
        return
    here = {path.relative_to(beside): text for path, text in _sources_of(beside).items()}
    imported = {
        path.relative_to(PACKAGE): text
        for path, text in _AT_START.items()
        if path.is_relative_to(PACKAGE)
    }
    # A wheel contains the compiled kernels but not their sources in C.
    if not any(path.suffix == ".c" for path in imported):
        here = {path: text for path, text in here.items() if path.suffix == ".py"}
    if here != imported:
        differing = min(path for path in here | imported if here.get(path) != imported.get(path))
        raise UserError(
            f"{beside}: expected the package that Python imports, got one that differs from "
            f"{PACKAGE} in {differing}; run pip install --editable . in the project"
        )


def lineage(code: str, made_from: Mapping[str, str], options: object = None) -> dict[str, Any]:
    """The lineage of a result as plain objects.

    Args:
        code: The digest of the code, from :func:`code_digest`.
        made_from: The digest of each file that was read, by path.
        options: Further settings that change the result, such as the width of a figure.
    """
    return {"code": code, "made_from": dict(sorted(made_from.items())), "options": options}


def fingerprint(content: Mapping[str, Any]) -> str:
    """The SHA-256 digest of a lineage, for files that carry no header."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def marker(content: Mapping[str, Any]) -> str:
    """The text with the fingerprint that a figure, a page or a ledger contains."""
    return f"lineage:{fingerprint(content)}"


def fingerprint_in(path: Path) -> str | None:
    """The fingerprint in a file; None if the file is missing or incomplete, or has no fingerprint."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    if not content.rstrip().endswith(ENDS.get(path.suffix, b"")):
        return None
    found = _FINGERPRINT.search(content)
    return found.group(1).decode() if found else None


def digest_at_hand(path: Path) -> str | None:
    """The present digest of a file, as lineages record it; None if there is no such file.

    For an artifact it is the digest of its numbers, for an experiment that of its parsed content, and for
    any other file that of its bytes.

    Raises:
        UserError: The file is damaged.
    """
    if not path.is_file():
        return None
    if path.suffix in SEALED:
        return str(read_header(path)["content"])
    if path.suffix == ".yaml":
        # Imported here, because scripts that read no experiment need no YAML parser.
        from dmf_sharpness.artifacts.yaml_files import content_digest, read_mapping

        return content_digest(read_mapping(path), path.stem)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_current(path: Path, expected: Mapping[str, Any]) -> bool:
    """Whether a result exists, can be read, and has the lineage that it would get if it were made now."""
    if path.suffix not in SEALED:
        return fingerprint_in(path) == fingerprint(expected)
    try:
        header = read_header(path)
    except ArtifactError:
        return False
    return all(header.get(key) == value for key, value in expected.items())


def set_back(path: Path) -> None:
    """Mark a result as outdated, by a modification time before that of any other file.

    Snakemake then makes the result again; until then it stays readable.

    Raises:
        UserError: The file belongs to another user.
    """
    try:
        os.utime(path, (1, 1))  # not 0, which Snakemake ignores
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(
            f"{path}: made from other files than the present ones, expected to be able to mark it as "
            f"outdated, got: {error.strerror}; delete it"
        ) from None


def record(path: Path, digest: str, header: Header | None = None) -> None:
    """Record a file that this process has read, for the lineage of the files that it writes."""
    _read[str(path)] = digest
    if header is not None:
        _headers[str(path)] = header


def lineage_of_this_run(script: Path, detail: str = "", options: object = None) -> dict[str, Any]:
    """The lineage of the file that a stage script will write next, after a check that it is consistent.

    Args:
        script: The running script.
        detail: As in :func:`stage_sources`.
        options: As in :func:`lineage`.

    Raises:
        ArtifactError: The files that were read do not belong together, or not to the present files.
        UserError: A source was edited since the start.
    """
    roots = stage_sources(script.stem, script.parent, detail)
    check_consistent(script.parent, _headers)
    check_unchanged(*roots)
    return lineage(code_digest(*roots), _read, options)


def check_consistent(scripts: Path, headers: Mapping[str, Header]) -> None:
    """Make sure that artifacts belong to each other, to the files that were read, and to the present files.

    Each artifact must have been made by the present code of its stage. All artifacts must have been made
    from the same version of each file, which must be the present version if the file still exists.

    Args:
        scripts: The folder of the stage scripts.
        headers: The headers of the artifacts, by path.

    Raises:
        ArtifactError: One does not belong; the message names both files and the command that makes it again.
    """
    seen: dict[str, tuple[str, str]] = {name: (digest, name) for name, digest in _read.items()}
    for name, header in headers.items():
        kind = str(header["kind"])
        if kind not in PIPELINE and not kind.startswith("study_"):
            continue
        roots = stage_sources(rule_of(kind), scripts, kind.removeprefix("study_"))
        if roots[0].is_file() and header.get("code") != code_digest(*roots):
            raise ArtifactError(Path(name), kind, f"made by another version of {rule_of(kind)}.py")
        for source, digest in dict(header.get("made_from", {})).items():
            if source not in seen:
                at_hand = _digest_or_none(Path(source))
                seen[source] = (at_hand or digest, source if at_hand else name)
            known, where = seen[source]
            if digest != known:
                problem = f"made from {source} of digest {digest:.12}, which is {known:.12}"
                problem += " now" if where == source else f" in {where}"
                raise ArtifactError(Path(name), kind, problem)


def _digest_or_none(path: Path) -> str | None:
    try:
        state = path.stat()
    except OSError:
        state = None
    # The workflow asks for the same experiment or table for many results.
    key = None if state is None else (path, state.st_mtime_ns, state.st_size, state.st_ino)
    if key not in _digests:
        try:
            _digests[key] = digest_at_hand(path)
        except UserError:
            _digests[key] = "unreadable"
    return _digests[key]


def expected_lineage(
    roots: tuple[Path, ...], inputs: Iterable[Path | str], options: object = None
) -> dict[str, Any] | None:
    """The lineage of a result if it were made from the present files; None if one of these is missing."""
    made_from = {str(path): _digest_or_none(Path(path)) for path in inputs}
    if None in made_from.values():
        return None
    known = {name: digest for name, digest in made_from.items() if digest is not None}
    return lineage(code_digest(*roots), known, options)
