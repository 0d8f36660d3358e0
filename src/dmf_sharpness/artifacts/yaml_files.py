"""YAML files, and the errors that a JSON schema finds in them, as one line each.

YAML 1.1 reads some scalars as something else than they look like: ``010`` is eight, ``1:30`` is ninety, and
``6e2`` is a text. A number that Python would read differently is refused here. A text in place of a number,
or a number in place of a text, is refused by the schema; the message says how to write it.
"""

import difflib
import hashlib
import json
import math
import re
import reprlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from dmf_sharpness.errors import UserError

LARGEST_EXACT, LARGEST = 2.0**53, 2.0**63
"""A float of at least the first need not be the integer that was written, because float64 has 53 bits.
No schema allows an integer of at least the second, which does not fit into 64 bits."""


# The parser in C, if PyYAML has it, is several times faster; every job reads a schema and an experiment.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc]
    """A YAML loader for which a key that is given twice is an error; PyYAML would keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = (key_node.tag, str(key_node.value))
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key_node.value!r} is given twice",
                    problem_mark=key_node.start_mark,
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        UserError: There is no such file, it cannot be read, it is no valid YAML, or YAML reads a number in
            it differently from how it looks.
    """
    try:
        # A copy, because a start of the workflow reads each experiment twice and may alter what it reads.
        return deepcopy(_read(path.read_text(encoding="utf-8")))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise UserError(f"{path}: expected a YAML file, got no such file") from None
    except OSError as error:
        raise UserError(f"{path}: expected a readable file, got: {error.strerror}") from None
    except RecursionError:
        raise UserError(f"{path}: expected valid YAML, got an error: nested too deep") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
        # PyYAML raises a ValueError for a date in month 13, and other errors for `!!bool x`, `!!timestamp x`.
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: expected valid YAML, got an error: {reason}") from None


@cache
def _read(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        for key, number in _misread_numbers(node):
            value = loader.construct_object(number)
            raise UserError(
                f"{key}: expected a number as Python writes it, got {number.value}, which is "
                f"{_short(value)} to YAML; write {_short(value)} if that is meant, or quotes around a text"
            )
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _misread_numbers(
    node: yaml.Node, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[str, yaml.ScalarNode]]:
    """Numbers that Python reads differently: octal ``010``, ``1:30`` in base sixty, ``1__0``."""
    if isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            yield from _misread_numbers(item, (*path, _short(key.value).strip(_QUOTES)))
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield from _misread_numbers(item, (*path, i))
    elif isinstance(node, yaml.ScalarNode) and not _reads_alike(node.tag, node.value):
        yield key_of(path), node


def _reads_alike(tag: str, text: str) -> bool:
    try:
        if tag == "tag:yaml.org,2002:int":
            int(text, 0)
        elif tag == "tag:yaml.org,2002:float":
            float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        return False
    return True


def content_digest(content: Mapping[str, Any], name: str) -> str:
    """SHA-256 of the parsed content of a file; comments and layout do not change it, nor ``3.0`` for 3.

    Args:
        content: The content, from :func:`read_mapping`.
        name: The file's name without its suffix, which is a part of its content.
    """
    plain = json.dumps({**content, "name": name}, sort_keys=True, default=str)
    whole = json.loads(plain, parse_float=_whole_or_float)
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _whole_or_float(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < LARGEST_EXACT else number


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a YAML file that holds keys with values.

    Raises:
        UserError: As in :func:`read_yaml`, or the file holds something else.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: the file: expected keys with values, got {_short(content)}")
    return content


def _is_integer(checker: object, value: object) -> bool:
    """Whether a value is a Python integer; for JSON ``3.0`` is one too, but ``range`` does not accept it."""
    return isinstance(value, int) and not isinstance(value, bool)


_Validator: Any = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


Schema = Mapping[str, Any]


@cache
def read_schema(path: Path) -> Schema:
    """A JSON schema that is written as YAML."""
    schema: Schema = yaml.load(path.read_text(encoding="utf-8"), _SafeLoader)
    return schema


def schema_problems(content: object, schema: Schema) -> Iterator[str]:
    """The faults that a schema finds in some content, ``key: expected …, got …``."""
    yield from _keys_no_text(content)
    error = jsonschema.exceptions.best_match(_Validator(schema).iter_errors(content))
    if error is not None:
        yield _describe(error)


def with_integers(content: Any, schema: Schema, texts: bool = False) -> Any:
    """The content with ``3.0`` replaced by 3 where a schema asks for an integer.

    So ``seed: 3.0`` and ``seed: 3`` are the same, and have the same digest. A number that is not whole, or
    too large to be exact, is left as it is, and the schema refuses it.

    Args:
        content: The content of a file.
        schema: The schema.
        texts: Also read texts as numbers, because Snakemake's ``--config`` gives texts only.
    """
    return _with_integers(content, schema, schema.get("$defs", {}), texts)


def _with_integers(
    value: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any], texts: bool
) -> Any:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if isinstance(value, Mapping):
        named, others = schema.get("properties", {}), schema.get("additionalProperties") or {}
        return {
            key: _with_integers(item, named.get(key, others), definitions, texts)
            for key, item in value.items()
        }
    if isinstance(value, list):
        items = schema.get("items", {})
        return [_with_integers(item, items, definitions, texts) for item in value]
    if schema.get("type") != "integer":
        return value
    number = _number(value) if texts and isinstance(value, str) else value
    if isinstance(number, float) and number.is_integer() and abs(number) < LARGEST_EXACT:
        return int(number)
    return number


def _number(text: str) -> Any:
    """The number that a text is in a YAML file, without quotes; the text itself if it is no number."""
    try:
        number = _read(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    return number if isinstance(number, int | float) and not isinstance(number, bool) else text


def _keys_no_text(content: object, path: tuple[str | int, ...] = ()) -> Iterator[str]:
    """Faults of keys that YAML reads as numbers, dates and the like, which a schema does not check."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if not isinstance(key, str):
                yield (
                    f"{key_of([*path, str(key)])}: expected a key that is a text, got {_short(key)}; "
                    "put it in quotes"
                )
            yield from _keys_no_text(value, (*path, str(key)))
    elif isinstance(content, list):
        for i, value in enumerate(content):
            yield from _keys_no_text(value, (*path, i))


def key_of(path: Sequence[str | int]) -> str:
    """The name of a key in messages, such as ``networks[0].widths[1]``; ``the file`` for an empty path."""
    key = ""
    for part in path:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    return key or "the file"


_EXPECTATIONS = {
    "minimum": "a number of at least {}",
    "maximum": "a number of at most {}",
    "exclusiveMinimum": "a number above {}",
    "exclusiveMaximum": "a number below {}",
    "type": "a value of type {}",
    "enum": "one of {}",
    "minItems": "at least {} entries",
    "minLength": "a text of at least {} characters",
    "uniqueItems": "no entry twice",
    "pattern": "a name that matches {}",
}


def _describe(error: jsonschema.ValidationError) -> str:
    """A fault in one line: the key, what was expected, and what was given."""
    path = list(error.absolute_path)
    schema: Any = error.schema
    allowed: Any = error.validator_value
    given: Any = error.instance
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        unknown = next(str(key) for key in given if key not in known)
        close = difflib.get_close_matches(unknown, known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        key = key_of([*path, _short(unknown).strip(_QUOTES)])
        return f"{key}: unknown key, expected one of {known}{hint}"
    if error.validator == "required":
        missing = next(key for key in allowed if key not in given)
        return f"{key_of([*path, missing])}: missing, expected a value"
    expectation = _EXPECTATIONS.get(str(error.validator), f"{error.validator} {{}}")
    hint = _hint(given, allowed) if error.validator == "type" else ""
    return f"{key_of(path)}: expected {expectation.format(allowed)}, got {_short(given)}{hint}"


_QUOTES = "'\""


def _short(value: object) -> str:
    """A value on one line, shortened if it is long."""
    return " ".join(reprlib.repr(value).split())


def _hint(given: object, expected: object) -> str:
    """Advice on how to write a value that YAML has read as another type; empty if there is none."""
    if isinstance(given, str) and expected in ("integer", "number"):
        written = _as_yaml_number(given, whole=expected == "integer")
        return f", a text as it stands; write {written}" if written else ""
    if isinstance(given, float) and expected == "integer" and LARGEST_EXACT <= given < LARGEST:
        return "; write all its digits"
    if expected == "string" and not isinstance(given, Mapping | list | None):
        return ", no text as it stands; put it in quotes"
    return ""


_DECIMAL = re.compile(r"([-+]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([-+]?)([0-9]+))?")


def _as_yaml_number(text: str, whole: bool) -> str | None:
    """A number in YAML's form, ``6.0e+2`` for ``6e2``; None if the text is no number, or not a whole one.

    Args:
        text: The text.
        whole: Whether only whole numbers are wanted.
    """
    parts = _DECIMAL.fullmatch(text.strip())
    try:
        number = float(text)
    except ValueError:
        return None
    if parts is None or not math.isfinite(number):
        return None
    if whole and not (number.is_integer() and abs(number) < LARGEST_EXACT):
        return None
    sign, digits, fraction, sign_of_exponent, exponent = parts.groups()
    written = sign + (digits.lstrip("0") or "0")
    if fraction is not None or exponent is not None:
        written += f".{fraction or '0'}"
    return written if exponent is None else f"{written}e{sign_of_exponent or '+'}{exponent}"
