"""The sealed header of every table and tensor file: the kind of its content, and its lineage.

Headers are read without pandas and without torch, because the Snakefile reads hundreds of them.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmf_sharpness.errors import UserError

SCHEMA_VERSION = 2
"""This number grows when older files must no longer be read; such files are made again."""
ANY_KIND = "artifact"
"""Errors name this kind where the kind of the file is not known."""
LOSS_CONVENTION = "sum of squares: no 1/2, no mean"
"""Every header states the definition of the loss that all numbers refer to."""
KEY = "dmf_sharpness"
"""The header is stored under this key of a file's metadata."""

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
"""These rules make the artifacts of each kind; the kind of a study's table is ``study_<name>``."""

Header = dict[str, Any]


def rule_of(kind: str) -> str:
    """The rule that makes a kind of artifact."""
    return "run_study" if kind.startswith("study_") else RULES.get(kind, kind)


class ArtifactError(UserError):
    """An artifact that cannot be trusted: missing, damaged, or not the one expected.

    Attributes:
        path: The file.
        in_workflow: Whether the workflow, if it is started in this folder, makes this file.
    """

    def __init__(self, path: Path, kind: str, problem: str) -> None:
        """Put the problem and the remedy into one line."""
        self.path = path
        self.in_workflow = path.parts[:1] in (("results",), ("figures",))
        command = f" with: snakemake {path}" if self.in_workflow else ""
        remedy = f"run the rule {rule_of(kind)} again{command}"
        if kind == "benchmark":  # no rule makes a benchmark
            remedy = "run make bench again"
        super().__init__(f"{path}: {problem}; {remedy}")


def sealed(kind: str, header: Mapping[str, Any], content_digest: str) -> str:
    """A header as text, with a digest of itself."""
    # Imported here, because the Snakefile only reads headers and should not wait for this import.
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
    """The header that a text holds; it must contain every pair of ``expected``.

    Raises:
        ArtifactError: There is no header, or it is damaged, or it differs from what is expected.
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
    """The header of a table or tensor file; the content is not read and its digest is not checked.

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
