"""The places of a module where one symbol can be replaced, and the text with one replaced."""

import re
from collections import defaultdict
from dataclasses import dataclass

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names

from tests.mutants.replaced import PACKAGE

# Replacements that no test of floating-point numbers survives by chance would only raise the rate:
# those by operators of bits, and removed decorators.
LEFT_OUT = re.compile(
    r"BinaryOperator_(?:\w+_(?:RShift|LShift|FloorDiv|Mod)|"
    r"(?:Add|Sub|Mul|Div|FloorDiv|Mod|Pow|RShift|LShift)_Bit\w+|Bit\w+_(?:Add|Sub|Mul|Div|Pow))$"
    # ``is`` and ``==`` mean the same for None.
    r"|ComparisonOperator_(?:Is|IsNot)_(?!Is)|ComparisonOperator_(?!Is)\w+_(?:Is|IsNot)$"
    r"|UnaryOperator_\w*(?:Invert|UAdd|USub_Not)|RemoveDecorator|Variable|ExceptionReplacer"
)
OPPOSITES = [
    ("max", "min"), ("amax", "amin"), ("maximum", "minimum"), ("argmax", "argmin"),
    ("idxmax", "idxmin"), ("all", "any"), ("floor", "ceil"), ("isfinite", "isnan"),
    ("ge", "gt"), ("le", "lt"), ("sin", "cos"), ("sum", "prod"), ("union", "intersection"),
]  # fmt: skip
DROPPED = ("abs", "mT", "clone", "copy", "sqrt", "square", "log", "exp", "log10", "diagonal")


class OppositeName(Operator):
    """The name of a function replaced by that of its opposite."""

    names = dict(OPPOSITES) | {second: first for first, second in OPPOSITES}

    def mutation_positions(self, node):
        if isinstance(node, parso.python.tree.Name) and node.value in self.names:
            after = node.get_next_leaf()
            if after is not None and after.value == "(" and node.parent.type != "funcdef":
                yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        node.value = self.names[node.value]
        return node

    @classmethod
    def examples(cls):
        return ()


class DroppedMethod(Operator):
    """A method such as ``.abs()``, or the transposition, left away."""

    def mutation_positions(self, node):
        # A list, because the caller may delete the first of these while it looks for the next.
        children = node.children if hasattr(node, "children") else []
        return [
            (children[start].start_pos, children[end - 1].end_pos)
            for start, end in self._spans(node)
        ]

    def mutate(self, node, index):
        start, end = self._spans(node)[index]
        del node.children[start:end]
        return node

    @staticmethod
    def _spans(node):
        if node.type not in ("atom_expr", "power"):
            return []
        texts = [child.get_code() for child in node.children]
        spans = []
        for i, text in enumerate(texts):
            if i == 0 or text.removeprefix(".") not in DROPPED:
                continue
            if text == ".mT":
                spans.append((i, i + 1))
            elif texts[i + 1 : i + 2] == ["()"]:
                spans.append((i, i + 2))
        return spans

    @classmethod
    def examples(cls):
        return ()


class DroppedStatement(Operator):
    """A call whose value nobody takes, or an addition to a variable, left away."""

    def mutation_positions(self, node):
        if node.type != "simple_stmt":
            return
        (first, *_) = node.children
        called = first.type == "atom_expr" and first.get_code().rstrip().endswith(")")
        added = first.type == "expr_stmt" and first.children[1].get_code().strip() in AUGMENTED
        if called or added:
            yield first.start_pos, first.end_pos

    def mutate(self, node, index):
        prefix = node.get_first_leaf().prefix
        node.children[0] = parso.python.tree.Name("pass", node.start_pos, prefix)
        return node

    @classmethod
    def examples(cls):
        return ()


AUGMENTED = ("+=", "-=", "*=", "/=", "|=", "&=", "**=")
OPERATORS = {name: get_operator(name)() for name in operator_names() if not LEFT_OUT.search(name)}
OPERATORS |= {kind.__name__: kind() for kind in (OppositeName, DroppedMethod, DroppedStatement)}


@dataclass(frozen=True)
class Mutant:
    """A file of the package with one symbol replaced.

    Attributes:
        file: Its path in the package.
        function: The qualified name of the function, as in a code object; empty outside of functions.
        line: The number of the line.
        was: The line, without its indentation.
        becomes: The line with the symbol replaced, likewise.
        text: The whole file with it.
    """

    file: str
    function: str
    line: int
    was: str
    becomes: str
    text: str


def sites(file):
    """The replacements at every place of a file: lists of (operator, occurrence) by position."""
    found = defaultdict(list)
    nodes = list(ast_nodes(get_ast((PACKAGE / file).read_text(encoding="utf-8"))))
    for name, operator in OPERATORS.items():
        occurrence = 0
        for node in nodes:
            for start, end in operator.mutation_positions(node):
                if not (_is_annotation(node) or _is_typing_only(node) or _is_strict(node)):
                    found[start, end].append((name, occurrence, _function(node)))
                occurrence += 1
    return [found[position] for position in sorted(found)]


def mutant(file, replacement):
    """The mutant with a replacement, or None where the text stays the same."""
    name, occurrence, function = replacement
    source = (PACKAGE / file).read_text(encoding="utf-8")
    text = mutate_code(source, OPERATORS[name], occurrence)
    before, after = source.splitlines(), (text or source).splitlines()
    changed = [i for i, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]]
    if not changed:
        return None
    i = changed[0]
    return Mutant(file, function, i + 1, before[i].strip(), after[i].strip(), text)


def _is_annotation(node):
    while node.parent is not None:
        parent = node.parent
        if parent.type == "annassign" and node is parent.children[1]:
            return True
        if parent.type == "tfpdef" and node is parent.children[2]:
            return True
        if parent.type == "funcdef" and node is parent.annotation:
            return True
        node = parent
    return False


def _is_typing_only(node):
    """Whether it is the condition of an import for type checkers."""
    return node.type == "if_stmt" and "TYPE_CHECKING" in node.children[1].get_code()


def _is_strict(node):
    """Whether it is the value of ``zip(…, strict=True)``, which is an assertion."""
    return node.parent is not None and node.parent.get_code().strip() == "strict=True"


def _function(node):
    names = []
    while node is not None:
        if node.type == "funcdef" or (node.type == "classdef" and names):
            names.append(node.name.value)
        node = node.parent
    return ".".join(reversed(names))
