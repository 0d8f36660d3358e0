"""Formulas in plain Unicode, such as ``λ_max ≤ 2 Σ_i ‖L_i‖₂²‖R_i‖₂²``, as MathML.

The pages are written so that they can be read as text. Every browser sets MathML by itself: a page needs no
script for its formulas, only a font with the measures of mathematics.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from html import escape

FUNCTIONS = frozenset(
    {"arccos", "col", "cos", "det", "diag", "dim", "exp", "ker", "lim", "ln", "log"}
    | {"max", "mean", "min", "radius", "range", "rank", "row", "tr", "Tr"}
)
"""Set upright."""
WORDS = frozenset(["at", "const", "if", "of", "over", "so", "start", "the"])
"""Words of English that stand between formulas."""
NAMES = ["max", "min", "flat", "end", "previous", "ms", "gf"]
PAIRS = ["ij", "jk", "ii", "jj", "ab", "ba"]
"""With ``NAMES`` all indices of several letters; others have one, since ``L_iR_i`` is a product."""
SUMS = {"Σ": "∑", "Π": "∏", "∏": "∏", "∫": "∫"}
LIMITS = frozenset({*SUMS, "max", "min", "mean", "lim"})
"""Their indices stand beneath them where there is room."""
RELATIONS = "=<>≤≥≈∝↦←⪯⪰"
"""A formula may be broken before them."""
UNBROKEN = 24
"""Shorter formulas are not broken in a text."""
SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀⁿ", "0123456789+−⊤n", strict=True))
SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
PRIMES = "'′″"
OPENING, CLOSING = "([{⟨", ")]}⟩"
TIGHT = "‖|/·:"
"""Operators without space around them."""
SIGNS = "−-±∓"
CLOSE = {"lspace": "0", "rspace": "0"}
SPACE = '<mspace width="0.17em"></mspace>'
LOW = ' class="low"'
"""Marks roots of what is not tall: style.css."""

TOKEN = re.compile(
    r"(?P<matrix>\[\[.*?\]\])"
    r"|(?P<power>\d+(?:\.\d+)?e-?\d+)"
    r"|(?P<number>\d+(?:\.\d+)?|\.\d+)"
    r"|(?P<space>\s+)"
    r"|(?P<sup>[⁰¹²³⁴-⁹⁺⁻ᵀⁿ]+)|(?P<sub>[₀-₉]+)"
    r"|(?P<tilde>ã|[^\W\d_]\u0303)"
    r"|(?P<sum>[Σ∏Π∫](?=_|\s[^\W\d_]|\s?[(‖]))"
    r"|(?P<word>[A-Za-z]{2,})"
    r"|(?P<letter>[^\W\d_])"
    r"|(?P<other>.)"
)
_INDEX = re.compile(rf"\d+|{'|'.join(NAMES + PAIRS)}|.")


def is_formula(code: str) -> bool:
    """Whether a piece of code in a page on mathematics is a formula, and not a name or a program."""
    if re.search(r"^C\d(\.|$)|^E\.|[\"`=]$|\[\d+\]|\.[A-Za-z_*/]|\d-\d", code):
        return False
    bare = re.sub(rf"[_^](?:\{{[^}}]*\}}|{'|'.join(NAMES + PAIRS)}|\w)", " ", code)
    words = set(re.findall(r"[A-Za-z]{2,}", bare)) - FUNCTIONS
    if any(len(word) > 2 for word in words) or not re.search(r"[^\W_]", code):
        return False
    return not words or bool(re.search(r"[^\x00-\x7f]|[_^=(\d]", code))


def mathml(text: str) -> str:
    """A formula as MathML; a long one in parts, between which a line may be broken."""
    parts = _parts(text) if len(text) > UNBROKEN else [text]
    return "<wbr>".join(_math(_row(part)) for part in parts)


def displayed(text: str) -> str:
    """The lines of a displayed formula, some with a number such as ``(3)`` at the end, as rows."""
    lines = [line for line in text.splitlines() if line.strip()]
    indent = min(len(line) - len(line.lstrip()) for line in lines)
    rows = []
    for line in lines:
        body, number = re.fullmatch(r"(.*?)(?:\s{2,}\((\d+)\))?", line[indent:].rstrip()).groups()  # type: ignore[union-attr]
        formulas = "".join(
            '<span class="whole">'
            + "".join(_math(_row(part, display=True), display=True) for part in _parts(whole))
            + "</span>"
            for whole in _parts(body.strip(), r"\s{2,}")
        )
        kind = "formula continued" if body.startswith(" ") else "formula"
        label = f'<span class="number">({number})</span>' if number else ""
        rows.append(f'<div class="{kind}">{formulas}{label}</div>')
    return "".join(rows)


def _parts(text: str, before: str = rf"(?<=\s)(?=[{RELATIONS}])") -> list[str]:
    """A formula cut at all matches of a pattern that are outside of brackets."""
    cuts = [0]
    for match in re.finditer(before, text):
        outer = text[: match.start()]
        if sum(map(outer.count, OPENING)) == sum(map(outer.count, CLOSING)) and outer.strip():
            cuts.append(match.end())
    return [text[a:b].strip() for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def _math(body: str, display: bool = False) -> str:
    block = ' display="block"' if display else ""
    return f"<math{block}><mrow>{body}</mrow></math>"


def _row(text: str, display: bool = False) -> str:
    return "".join(_Reader(text, display).atoms())


def _identifier(name: str) -> str:
    return f"<mi>{escape(name)}</mi>"


def _operator(sign: str, **attributes: str) -> str:
    more = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f"<mo{more}>{escape(sign)}</mo>"


def _matrix(text: str) -> str:
    rows = [row.split(",") for row in re.findall(r"\[([^\[\]]*)\]", text)]
    cells = ["".join(f"<mtd>{_row(cell.strip())}</mtd>" for cell in row) for row in rows]
    table = "".join(f"<mtr>{row}</mtr>" for row in cells)
    return f"<mrow>{_operator('(')}<mtable>{table}</mtable>{_operator(')')}</mrow>"


class _Reader:
    """Reads a formula from left to right."""

    def __init__(self, text: str, display: bool) -> None:
        self.text, self.display, self.place = text, display, 0
        self.operand = False
        """Whether an operand ends here: a sign after it is an operator, a function needs a space."""

    def atoms(self, until: str = "") -> Iterator[str]:
        """The parts of the formula, each with its indices, up to a closing bracket."""
        while self.place < len(self.text) and not (until and self.text[self.place] == until):
            part, name = self.atom()
            yield self.scripted(part, name)
            if name in FUNCTIONS and not self.peek("("):
                yield SPACE

    def peek(self, characters: str) -> bool:
        return self.place < len(self.text) and self.text[self.place] in characters

    def inside(self, close: str) -> str:
        """What stands up to the closing bracket, which is skipped."""
        self.operand = False
        inside = "".join(self.atoms(until=close))
        self.place += 1
        self.operand = True
        return f"<mrow>{inside}</mrow>"

    def atom(self) -> tuple[str, str]:
        """The next part as MathML, and its text where indices may stand beneath it."""
        found = TOKEN.match(self.text, self.place)
        if found is None:  # after a root sign at the end
            return "", ""
        self.place = found.end()
        kind, token = str(found.lastgroup), found[0]
        before, self.operand = self.operand, self.operand if kind == "space" else kind != "other"
        match kind:
            case "space":
                return "", ""
            case "matrix":
                return _matrix(token), ""
            case "number":
                return f"<mn>{token}</mn>", ""
            case "power":
                return _power_of_ten(token), ""
            case "sup" | "sub":  # with nothing before it
                signs = SUPERSCRIPTS if kind == "sup" else SUBSCRIPTS
                return _identifier("".join(signs[sign] for sign in token)), ""
            case "tilde":
                letter = _identifier(unicodedata.normalize("NFD", token)[0])
                tilde = _operator("~", stretchy="false")
                return f'<mover accent="true">{letter}{tilde}</mover>', ""
            case "sum":
                self.operand = False
                return _operator(SUMS[token], lspace="0.17em" if before else "0"), token
            case "letter" if token == "½" and self.display:
                return "<mfrac><mn>1</mn><mn>2</mn></mfrac>", ""
            case "letter":
                return _identifier(token), ""
            case "word":
                return self.word(token, before)
        return self.sign(token, before), ""

    def word(self, token: str, after_operand: bool) -> tuple[str, str]:
        if token in FUNCTIONS:
            self.operand = False
            return f"<mrow>{SPACE * after_operand}<mi>{token}</mi></mrow>", token
        if token in WORDS:
            words = [token]
            while (more := re.match(r" ([a-z]+)", self.text[self.place :])) and more[1] in WORDS:
                words.append(more[1])
                self.place += more.end()
            left, right = "\u2002" * after_operand, "\u2002" * self.peek(" ")
            return f"<mtext>{left}{'&#160;'.join(words)}{right}</mtext>", ""
        self.place -= len(token) - 1  # a product of letters
        return _identifier(token[0]), ""

    def sign(self, token: str, after_operand: bool) -> str:
        if token == "√":
            if self.peek("("):
                self.place += 1
                root = self.inside(")")
            else:
                root = self.scripted(*self.atom())
            return f"<msqrt{'' if 'sup>' in root else LOW}>{root}</msqrt>"
        if token in OPENING:
            close = CLOSING[OPENING.index(token)]
            if close not in self.text[self.place :]:
                return _operator(token, stretchy="false")
            inside = self.inside(close)
            # Only around a sum with its index beneath do brackets grow.
            grow = {} if "munder" in inside else {"stretchy": "false"}
            return f"<mrow>{_operator(token, **grow)}{inside}{_operator(close, **grow)}</mrow>"
        if token in CLOSING or token in TIGHT:
            self.operand = True
            spaced = token == ":" and self.text[: self.place - 1].endswith(" ")
            return _operator(token, stretchy="false", **({} if spaced else CLOSE))
        if token in "…⋯∎∇∂∞":
            self.operand = True
            return _identifier(token)
        sign = "−" if token == "-" else token
        return _operator(
            sign, **({"form": "prefix"} | CLOSE if token in SIGNS and not after_operand else {})
        )

    def scripted(self, base: str, name: str) -> str:
        """A part with the indices and exponents that follow it."""
        below, above = "", ""
        while base and self.place < len(self.text):
            if self.peek("_") and not below:
                self.place += 1
                below = self.script()
            elif self.peek("^") and not above:
                self.place += 1
                above = self.script()
            elif self.peek("*") and not above and self.text[self.place - 1] != " ":
                self.place += 1
                base, below = _with_scripts(base, below, _operator("∗"), False), ""
            elif self.peek(PRIMES):
                # The glyph is raised by itself; as an exponent it would be too high and too small.
                base = _with_scripts(base, below, "", False)
                base, below = f"<mrow>{base}{_operator(self.primes(), **CLOSE)}</mrow>", ""
            elif self.peek("".join(SUPERSCRIPTS)) and not above:
                above = "".join(_script_sign(SUPERSCRIPTS[sign]) for sign in self.run(SUPERSCRIPTS))
            elif self.peek("".join(SUBSCRIPTS)) and not below:
                below = "".join(_script_sign(SUBSCRIPTS[sign]) for sign in self.run(SUBSCRIPTS))
            else:
                break
        return _with_scripts(base, below, above, self.display and name in LIMITS)

    def run(self, signs: Iterable[str]) -> str:
        """The longest piece from here on that consists of the given signs."""
        start, among = self.place, "".join(signs)
        while self.peek(among):
            self.place += 1
        return self.text[start : self.place]

    def primes(self) -> str:
        return self.run(PRIMES).replace("″", "′′").replace("'", "′").replace("′′", "″")

    def script(self) -> str:
        """What stands after ``_`` or ``^``: a group in braces, a word, a number or one sign."""
        if self.peek("{"):
            self.place += 1
            return self.inside("}")
        found = _INDEX.match(self.text, self.place)
        if found is None:
            return ""
        self.place = found.end()
        token = found[0]
        if token in PAIRS:
            return "".join(map(_identifier, token))
        return f"<mn>{token}</mn>" if token.isdigit() else _script_sign(token)


def _script_sign(sign: str) -> str:
    if sign.isalpha():
        return f"<mi>{sign}</mi>"
    return f"<mn>{sign}</mn>" if sign.isdigit() else _operator(sign)


def _power_of_ten(token: str) -> str:
    factor, exponent = token.split("e")
    sign = _operator("−", form="prefix") if exponent.startswith("-") else ""
    power = f"<msup><mn>10</mn><mrow>{sign}<mn>{exponent.lstrip('-0')}</mn></mrow></msup>"
    return (
        power
        if factor == "1"
        else f"<mn>{factor}</mn>{_operator('·', lspace='0.15em', rspace='0.15em')}{power}"
    )


def _with_scripts(base: str, below: str, above: str, beneath: bool) -> str:
    parts = [f"<mrow>{part}</mrow>" for part in (below, above) if part]
    if not parts:
        return base
    kind = "sub" * bool(below) + "sup" * bool(above)
    if beneath:
        kind = kind.replace("sub", "under").replace("sup", "over")
    return f"<m{kind}><mrow>{base}</mrow>{''.join(parts)}</m{kind}>"
