"""YAML files, and what the schemas in ``schemas/`` say against them, in one line."""

import difflib
import re
import reprlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from dmf_sharpness.errors import UserError


class _Loader(yaml.SafeLoader):
    """YAML in which a key that is given twice is an error, not silently the last one."""

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
        UserError: There is no such file, it cannot be read, or it is no YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: expected a YAML file, got no such file") from None
    except OSError as error:
        raise UserError(f"{path}: expected a readable file, got: {error.strerror}") from None
    except RecursionError:
        raise UserError(f"{path}: expected valid YAML, got an error: nested too deep") from None
    except (yaml.YAMLError, ValueError) as error:  # such as a date in month 13
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: expected valid YAML, got an error: {reason}") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a YAML file of keys and values.

    Raises:
        UserError: As :func:`read_yaml`, or the content is something else.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: the file: expected keys with values, got {_short(content)}")
    return content


@cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    text = files("dmf_sharpness").joinpath(f"schemas/{name}.yaml").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(yaml.safe_load(text))


def schema_problems(content: object, name: str) -> Iterator[str]:
    """What the schema of that name has to say against some content, ``key: expected …, got …``."""
    yield from _keys_no_text(content)
    error = jsonschema.exceptions.best_match(_validator(name).iter_errors(content))
    if error is not None:
        yield _describe(error)


def _keys_no_text(content: object, path: tuple[str | int, ...] = ()) -> Iterator[str]:
    """Keys that YAML takes for numbers, dates and the like, on which a schema has nothing to say."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if not isinstance(key, str):
                yield f"{key_of([*path, str(key)])}: expected a key that is a text, got {_short(key)}"
            yield from _keys_no_text(value, (*path, str(key)))
    elif isinstance(content, list):
        for i, value in enumerate(content):
            yield from _keys_no_text(value, (*path, i))


def key_of(path: Sequence[str | int]) -> str:
    """``networks[0].widths[1]``, or ``the file`` for all of it."""
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
    """One line: the key, what was expected, what was given."""
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
    return (
        f"{key_of(path)}: expected {expectation.format(allowed)}, got {_short(given)}{_hint(given)}"
    )


_QUOTES = "'\""


def _short(value: object) -> str:
    """What was given, on one line, and not all of it if it is long."""
    return " ".join(reprlib.repr(value).split())


def _hint(given: object) -> str:
    """YAML 1.1 takes ``1e-9`` for a text."""
    if isinstance(given, str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", given, re.IGNORECASE):
        return f", a text to YAML; write {given.lower().replace('e', '.0e')}"
    return ""
