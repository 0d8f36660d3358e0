"""The sealed header that every table and tensor file carries: what it is, and what it was made from.

Headers are read without pandas and without torch, for the Snakefile asks for hundreds of them.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmf_sharpness.errors import UserError

SCHEMA_VERSION = 2
"""Raised when files of an older version must not be read; such files are made anew."""
ANY_KIND = "artifact"
LOSS_CONVENTION = "sum of squares: no 1/2, no mean"
KEY = "dmf_sharpness"
"""Under this name a file's metadata holds the header."""

RULES = {
    "minimizers": "generate_minimizers",
    "sharpness": "evaluate_sharpness",
    "bottleneck": "measure_bottleneck",
    "escape": "simulate_escape",
    "trajectories": "simulate_escape",
    "landscape": "map_landscape",
    "claims": "judge_claims",
    "figure": "render_figure",
}
"""The rule that makes each kind of artifact; a study's kind is ``study_<name>``."""

Header = dict[str, Any]


def rule_of(kind: str) -> str:
    """The rule that makes a kind of artifact."""
    return "run_study" if kind.startswith("study_") else RULES.get(kind, kind)


class ArtifactError(UserError):
    """An artifact that cannot be trusted: missing, damaged, or not the one expected.

    Attributes:
        path: The file.
        in_workflow: Whether it is one that the workflow, started in this folder, makes.
    """

    def __init__(self, path: Path, kind: str, problem: str) -> None:
        """Word the problem and the remedy in one line."""
        self.path = path
        self.in_workflow = path.parts[:1] in (("results",), ("figures",))
        command = f" with: snakemake {path}" if self.in_workflow else ""
        remedy = f"run the rule {rule_of(kind)} again{command}"
        if kind == "benchmark":  # which no rule makes
            remedy = "run make bench again"
        super().__init__(f"{path}: {problem}; {remedy}")


def sealed(kind: str, header: Mapping[str, Any], content_digest: str) -> str:
    """A header as text, with a digest of its own."""
    # Imported here, because the Snakefile reads headers and writes none.
    from importlib.metadata import version

    body = {
        "schema": SCHEMA_VERSION,
        "kind": kind,
        "version": version("dmf-sharpness"),
        "loss": LOSS_CONVENTION,
        "dtype": "float64",
        **header,
        "content": content_digest,
    }
    canonical = json.dumps(body, sort_keys=True)
    return json.dumps({**body, "seal": hashlib.sha256(canonical.encode()).hexdigest()})


def unsealed(
    path: Path, kind: str, text: str | None, expected: Mapping[str, Any] | None = None
) -> Header:
    """A header from its text; it must hold every pair of ``expected``.

    Raises:
        ArtifactError: There is no header, it is damaged, or not the one expected.
    """
    if text is None:
        raise ArtifactError(path, kind, "expected a header, got none")
    try:
        body = json.loads(text)
        seal = body.pop("seal")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ArtifactError(path, kind, "the header is damaged") from None
    if hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest() != seal:
        raise ArtifactError(path, kind, "the header is damaged")
    wanted = {} if kind == ANY_KIND else {"kind": kind}
    for key, value in {"schema": SCHEMA_VERSION, **wanted, **(expected or {})}.items():
        if body.get(key) != value:
            raise ArtifactError(path, kind, f"expected {key} {value!r}, got {body.get(key)!r}")
    return dict(body)


def read_header(path: Path) -> Header:
    """The header of a table or tensor file; the content is not read, nor held against its digest.

    Raises:
        ArtifactError: The file is missing or damaged, or of an older schema.
    """
    if not path.is_file():
        raise ArtifactError(path, ANY_KIND, "no such file")
    try:
        metadata = _tensors_metadata(path) if path.suffix == ".safetensors" else _metadata(path)
        text = metadata.get(KEY)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(path, ANY_KIND, f"expected a readable file ({reason})") from None
    return unsealed(path, ANY_KIND, text)


def _tensors_metadata(path: Path) -> Mapping[str, str]:
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None


def _metadata(path: Path) -> Mapping[str, str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            pairs = pq.read_metadata(file).metadata or {}
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None
    return {key.decode(): value.decode() for key, value in pairs.items() if key == KEY.encode()}
