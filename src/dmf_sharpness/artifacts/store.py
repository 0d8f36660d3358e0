"""Artifacts on disk: Parquet tables and safetensors with a sealed header, checked when they are read.

The JSON header (:mod:`dmf_sharpness.artifacts.headers`) holds the schema version, the kind, the experiment
with its digest, the seed, the lineage, and a SHA-256 digest of the content. A reader states what it expects.
If a file is truncated, altered, of another experiment or of an older schema, it gets an
:class:`ArtifactError` that names the file, the fault and the rule that makes the file again. Neither format
can contain code.

Files are written under a temporary name and then renamed, so that a reader sees either the old file or the
new one, even after a power failure.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors

from dmf_sharpness.artifacts import lineage
from dmf_sharpness.artifacts.headers import (
    ANY_KIND,
    KEY,
    SCHEMA_VERSION,
    ArtifactError,
    Header,
    read_header,
    sealed,
    unsealed,
)
from dmf_sharpness.errors import UserError

if TYPE_CHECKING:
    # Not imported at run time, because tables need no torch, and its import takes longer than most figures.
    from torch import Tensor

__all__ = [
    "SCHEMA_VERSION",
    "ArtifactError",
    "atomic_path",
    "content_digest",
    "file_digest",
    "read_arrays",
    "read_studies",
    "read_table",
    "read_tables",
    "read_tensors",
    "write_table",
    "write_tensors",
    "write_text",
]

_log = logging.getLogger("dmf_sharpness")


def file_digest(path: Path) -> str:
    """The SHA-256 digest of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, which is renamed to it when the block ends without an error.

    Raises:
        UserError: The folder cannot be written to, or the disk is full; the old file stays.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        _flush(temporary)  # without it a power failure may leave an empty file under the new name
        temporary.replace(path)
        _flush(path.parent)
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path}: expected to be able to write it, got: {reason}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    _log.info("wrote %s", path)


def _flush(path: Path) -> None:
    """Make the operating system write a file or a folder to the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _check_content(path: Path, kind: str, header: Header, digest: str) -> None:
    if header.get("content") != digest:
        raise ArtifactError(path, kind, "the content does not match its digest")
    lineage.record(path, digest, header)
    _log.info("read %s: content %.12s", path, digest)


def _require(path: Path, kind: str) -> None:
    if not path.is_file():
        raise ArtifactError(path, kind, "no such file")


def _tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    return _arrays_digest({name: tensor.cpu().numpy() for name, tensor in tensors.items()})


def _arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """A digest of names, types, shapes and values; types have the names that PyTorch gives them."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} torch.{array.dtype} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write_tensors(
    path: Path, kind: str, tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> None:
    """Write named tensors as safetensors with a sealed header."""
    import safetensors.torch

    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    text = sealed(kind, header, _tensors_digest(tensors))
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={KEY: text})


def read_tensors(
    path: Path, kind: str, expected: Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensor], Header]:
    """Read a file that :func:`write_tensors` wrote; its header must contain every pair of ``expected``.

    Raises:
        ArtifactError: The file is missing or damaged, or differs from what is expected.
    """
    tensors, text = _read_safetensors(path, kind, "pt")
    header = unsealed(path, kind, text, expected)
    _check_content(path, kind, header, _tensors_digest(tensors))
    # The length of the header decides where in memory the tensors lie, and that decides how BLAS rounds.
    # Copies lie at multiples of 64 bytes, so that the same numbers give the same results to the last bit.
    return {name: tensor.clone() for name, tensor in tensors.items()}, header


def read_arrays(
    path: Path, kind: str, expected: Mapping[str, Any] | None = None
) -> tuple[dict[str, np.ndarray], Header]:
    """Like :func:`read_tensors`, but returns NumPy arrays and does without PyTorch, which loads slowly.

    Raises:
        ArtifactError: The file is missing or damaged, or differs from what is expected.
    """
    arrays, text = _read_safetensors(path, kind, "numpy")
    header = unsealed(path, kind, text, expected)
    _check_content(path, kind, header, _arrays_digest(arrays))
    return arrays, header


def _read_safetensors(path: Path, kind: str, framework: str) -> tuple[dict[str, Any], str | None]:
    """All tensors in a file, and the text of its header."""
    _require(path, kind)
    try:
        with safetensors.safe_open(path, framework=framework) as file:
            text = (file.metadata() or {}).get(KEY)
            return {name: file.get_tensor(name) for name in file.keys()}, text  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(path, kind, f"not a readable safetensors file ({error})") from None


def _table_digest(table: pa.Table) -> str:
    """A digest of column names, types and values, which does not depend on chunks or compression."""
    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        digest.update(f"{name} {column.type};".encode())
        values = column.to_pylist() if not pa.types.is_floating(column.type) else None
        if values is None:
            digest.update(column.to_numpy().astype("<f8").tobytes())
        else:
            digest.update(json.dumps(values).encode())
    return digest.hexdigest()


def write_table(path: Path, kind: str, table: pd.DataFrame, header: Mapping[str, Any]) -> None:
    """Write a table as Parquet with a sealed header."""
    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    text = sealed(kind, header, _table_digest(arrow))
    arrow = arrow.replace_schema_metadata({KEY: text})
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        pq.write_table(arrow, file, compression="zstd")


def read_tables(paths: Sequence[Path], kind: str) -> pd.DataFrame:
    """The tables of several experiments as one, with columns ``experiment`` and ``artifact`` added.

    Raises:
        ArtifactError: A file is missing or damaged, or two files are of the same experiment.
    """
    frames: dict[str, pd.DataFrame] = {}
    for path in sorted(paths):  # so that the order in the configuration changes nothing
        table, header = read_table(path, kind)
        experiment = header["experiment"]
        if experiment in frames:
            raise ArtifactError(
                path, kind, f"expected an experiment once, got {experiment!r} again"
            )
        frames[experiment] = table.assign(experiment=experiment, artifact=str(path))
    return pd.concat(frames.values(), ignore_index=True) if frames else pd.DataFrame()


def read_table(
    path: Path, kind: str, expected: Mapping[str, Any] | None = None
) -> tuple[pd.DataFrame, Header]:
    """Read a file that :func:`write_table` wrote; its header must contain every pair of ``expected``.

    Raises:
        ArtifactError: The file is missing or damaged, or differs from what is expected.
    """
    _require(path, kind)
    try:
        # Python opens the file, because Arrow would always encode the path in UTF-8, whatever the locale.
        # It is read as one file, because a dataset reader would guess partitions from the path.
        with path.open("rb") as file:
            arrow = pq.ParquetFile(file).read()
        metadata = arrow.schema.metadata or {}
        header_text = metadata.get(KEY.encode())
        text = None if header_text is None else header_text.decode()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(path, kind, f"not a readable Parquet file ({reason})") from None
    header = unsealed(path, kind, text, expected)
    _check_content(path, kind, header, _table_digest(arrow.replace_schema_metadata(None)))
    return arrow.to_pandas(), header


def content_digest(path: Path) -> str:
    """The digest of an artifact's numbers, whatever its kind, after a check that it is right.

    Raises:
        ArtifactError: The file is missing or damaged.
    """
    read = read_arrays if path.suffix == ".safetensors" else read_table
    return str(read(path, ANY_KIND)[1]["content"])


def read_studies(paths: Sequence[Path]) -> dict[str, pd.DataFrame]:
    """The tables of the studies, by the name of the study, which the header of each file states.

    Raises:
        ArtifactError: A file is missing, damaged, or of another kind.
    """
    by_study: dict[str, list[Path]] = {}
    for path in paths:
        kind = str(read_header(path)["kind"])
        if not kind.startswith("study_"):
            raise ArtifactError(path, "study_", f"expected a table of a study, got kind {kind!r}")
        by_study.setdefault(kind.removeprefix("study_"), []).append(path)
    return {name: read_tables(by_study[name], f"study_{name}") for name in sorted(by_study)}
