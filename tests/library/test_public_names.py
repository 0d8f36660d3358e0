"""The public names with their signatures, as ``public_names.txt`` lists them: any change shows.

Others script against them. After a change that an issue asks for the list is written anew by
``python -m tests.library.test_public_names``.
"""

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

from numpy.typing import ArrayLike

import dmf_sharpness

LIST = Path(__file__).with_name("public_names.txt")


class Text:
    """An annotation that is shown as this text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def annotation(hint: object) -> Text:
    """A type by its names alone: the modules that they lie in are not part of it."""
    parts, array_like = typing.get_args(hint), typing.get_args(ArrayLike)
    if typing.get_origin(hint) is typing.Unpack:  # which Python versions write differently
        return Text(f"Unpack[{annotation(parts[0])}]")
    if set(array_like) <= set(parts):  # which is another union in every version of NumPy
        others = [str(annotation(part)) for part in parts if part not in array_like]
        return Text(" | ".join([*others, "ArrayLike"]))
    return Text(re.sub(r"\b\w+\.(?=\w)", "", inspect.formatannotation(hint)))


def signature(function: Callable[..., object]) -> str:
    """Names, types and defaults of the parameters, and the type of the result."""
    hints = {name: annotation(hint) for name, hint in typing.get_type_hints(function).items()}
    found = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=hints.get(name, inspect.Parameter.empty))
        for name, parameter in found.parameters.items()
    ]
    return str(found.replace(parameters=parameters, return_annotation=hints["return"]))


def described() -> list[str]:
    """All public names, a line each; a class with its fields and what else it offers below it."""
    members = {name: getattr(dmf_sharpness, name) for name in sorted(dmf_sharpness.__all__)}
    functions = {name: member for name, member in members.items() if not inspect.isclass(member)}
    lines = [f"{name}{signature(function)}" for name, function in functions.items()]
    reached = [member for member in members.values() if inspect.isclass(member)]
    for function in functions.values():
        reached += classes_in(typing.get_type_hints(function).values(), but=reached)
    for one in reached:  # and the classes that their fields lead to
        lines += described_class(one)
        shown = {n: hint for n, hint in typing.get_type_hints(one).items() if n[0] != "_"}
        reached += classes_in(shown.values(), but=reached)
    return lines


def classes_in(hints: typing.Iterable[object], but: list[type]) -> list[type]:
    """The classes of the package that some types are made of, other than those known already."""
    found: dict[type, None] = {}
    for hint in hints:
        if inspect.isclass(hint) and hint.__module__.partition(".")[0] == "dmf_sharpness":
            found[hint] = None
        found |= dict.fromkeys(classes_in(typing.get_args(hint), but))
    return [one for one in found if one not in but]


def described_class(one: type) -> Iterator[str]:
    """Fields with types and defaults, then properties and methods; private ones are not listed."""
    yield f"class {one.__name__}"
    hints = typing.get_type_hints(one)
    if typing.is_typeddict(one):
        yield from (f"    {name}: {annotation(hint)}" for name, hint in hints.items())
        return
    fields = {field.name: field for field in dataclasses.fields(one)}
    for name, field in fields.items():
        if name[0] != "_":
            none = field.default is dataclasses.MISSING
            default = "" if none else f" = {field.default!r}"
            yield f"    {name}: {annotation(hints[name])}{default}"
    for name, member in sorted(vars(one).items()):
        if name[0] == "_" or name in fields:
            continue
        getter = getattr(member, "fget", getattr(member, "func", None))  # of a cached property
        if getter is not None:
            yield f"    {name} -> {annotation(typing.get_type_hints(getter)['return'])}"
        else:
            yield f"    {name}{signature(getattr(one, name))}"


def test_public_names_and_their_signatures_are_the_listed_ones():
    assert described() == LIST.read_text(encoding="utf-8").splitlines()


def test_a_change_of_a_signature_would_be_seen():
    """The negative control: a parameter renamed, another default, another type."""

    def of(function):
        return signature(function)

    def one(a: int, b: float = 0.5) -> list[float]: ...
    def renamed(a: int, c: float = 0.5) -> list[float]: ...
    def other_default(a: int, b: float = 0.25) -> list[float]: ...
    def other_type(a: int, b: float | None = 0.5) -> list[float]: ...
    def other_result(a: int, b: float = 0.5) -> list[int]: ...
    def keyword_only(a: int, *, b: float = 0.5) -> list[float]: ...

    assert of(one) == "(a: int, b: float = 0.5) -> list[float]"
    assert of(one) not in map(of, (renamed, other_default, other_type, other_result, keyword_only))


def test_every_public_name_is_known_to_editors_and_type_checkers():
    """Names are loaded when they are used; what may be used stands in the stub."""
    stub = Path(dmf_sharpness.__path__[0], "__init__.pyi").read_text(encoding="utf-8")
    for name in dmf_sharpness.__all__:
        assert f" as {name}\n" in stub
        assert getattr(dmf_sharpness, name).__name__ == name


def test_every_public_function_has_an_example_that_runs():
    """Doctests of all modules are part of the tests."""
    members = {name: getattr(dmf_sharpness, name) for name in dmf_sharpness.__all__}
    functions = {name: one for name, one in members.items() if not inspect.isclass(one)}
    assert [name for name, one in functions.items() if ">>>" not in (one.__doc__ or "")] == []


if __name__ == "__main__":
    LIST.write_text("\n".join(described()) + "\n", encoding="utf-8")
