"""Formulas in plain Unicode, such as ``λ_max ≤ 2 Σ_i ‖L_i‖₂²‖R_i‖₂²``, as MathML.

The pages are written so that they can be read as text. Every browser sets MathML by itself: a page needs no
script for its formulas, only a font with the measures of mathematics.
"""

import re
from collections.abc import Iterator
from html import escape

FUNCTIONS = frozenset(
    {"arccos", "col", "cos", "det", "diag", "exp", "lim", "ln", "log"}
    | {"max", "mean", "min", "rank", "row", "tr"}
)
"""Set upright."""
WORDS = frozenset(["at", "const", "if", "of", "over", "so", "start", "the"])
"""Words of English that stand between formulas."""
INDICES = ["max", "min", "flat", "end", "previous", "ms", "gf", "ij", "jk", "ab", "ba", "ws"]
"""Indices of several letters; all others have one, since ``L_iR_i`` is a product."""
LIMITS = frozenset({"Σ", "∫", "Π", "max", "min", "mean", "lim"})
"""Their indices stand beneath them where there is room."""
SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀⁿ", "0123456789+−⊤n", strict=True))
SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
PRIMES = "'′″"
OPENING, CLOSING = "([{⟨", ")]}⟩"
TIGHT = "‖|/·:"
"""Operators without space around them."""

TOKEN = re.compile(
    r"(?P<matrix>\[\[.*?\]\])"
    r"|(?P<power>\d+(?:\.\d+)?e-?\d+)"
    r"|(?P<number>\d+(?:\.\d+)?|\.\d+)"
    r"|(?P<gap>\s{2,})|(?P<space>\s)"
    r"|(?P<sup>[⁰¹²³⁴-⁹⁺⁻ᵀⁿ]+)|(?P<sub>[₀-₉]+)"
    r"|(?P<word>[A-Za-z]{2,})"
    r"|(?P<letter>[^\W\d_])"
    r"|(?P<other>.)"
)
_INDEX = re.compile(rf"\d+|{'|'.join(INDICES)}|.")


def is_formula(code: str) -> bool:
    """Whether a piece of code in a page on mathematics is a formula, and not a name or a program."""
    if re.fullmatch(r"C[1-6]|\d[\d.,e-]*", code) or re.search(
        r"[\"`=]$|\[\d+\]|\.[A-Za-z_*/]", code
    ):
        return False
    bare = re.sub(rf"[_^](?:\{{[^}}]*\}}|{'|'.join(INDICES)}|\w)", " ", code)
    words = set(re.findall(r"[A-Za-z]{2,}", bare)) - FUNCTIONS
    if any(len(word) > 2 and word != "radius" for word in words) or not re.search(
        r"[^\W\d_]", code
    ):
        return False
    return not words or bool(re.search(r"[^\x00-\x7f]|[_^=]", code))


def mathml(text: str, *, display: bool = False) -> str:
    """A formula as MathML; lines of a displayed one, with a number such as ``(3)`` at the end, are rows."""
    if not display:
        return _math(_row(text))
    lines = [line for line in text.splitlines() if line.strip()]
    indent = min(len(line) - len(line.lstrip()) for line in lines)
    rows = []
    for line in lines:
        body, number = re.fullmatch(r"(.*?)(?:\s{2,}\((\d+)\))?", line[indent:].rstrip()).groups()  # type: ignore[union-attr]
        shift = '<mspace width="2em"></mspace>' if body.startswith(" ") else ""
        label = f'<span class="number">({number})</span>' if number else ""
        formula = shift + _row(body.strip(), display=True)
        rows.append(f'<div class="formula">{_math(formula, display=True)}{label}</div>')
    return "".join(rows)


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
        self.before = (
            ""  # the kind of the token before: a sign after an operator belongs to a number
        )

    def atoms(self, until: str = "") -> Iterator[str]:
        """The parts of the formula, each with its indices, up to a closing bracket."""
        while self.place < len(self.text) and not (until and self.text[self.place] == until):
            part, name = self.atom()
            yield self.scripted(part, name)
            if name in FUNCTIONS and not self.peek("("):
                yield '<mspace width="0.17em"></mspace>'

    def next(self) -> tuple[str, str]:
        found = TOKEN.match(self.text, self.place)
        assert found is not None  # the last alternative is any character
        self.place = found.end()
        return str(found.lastgroup), found[0]

    def peek(self, characters: str) -> bool:
        return self.place < len(self.text) and self.text[self.place] in characters

    def bracketed(self, close: str) -> str:
        """What stands up to the closing bracket, which is skipped."""
        inside = "".join(self.atoms(until=close))
        self.place += 1
        return f"<mrow>{inside}</mrow>"

    def atom(self) -> tuple[str, str]:
        """The next part as MathML, and its text where indices may stand beneath it."""
        if self.place == len(self.text):  # after a root sign
            return "", ""
        kind, token = self.next()
        before, self.before = self.before, kind
        match kind:
            case "gap":
                return '<mspace width="1.6em"></mspace>', ""
            case "space":
                self.before = before
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
            case "letter" if token == "½" and self.display:
                return "<mfrac><mn>1</mn><mn>2</mn></mfrac>", ""
            case "letter":
                return _identifier(token) if token not in LIMITS else _operator(token), token
            case "word":
                return self.word(token)
        return self.sign(token, before)

    def word(self, token: str) -> tuple[str, str]:
        if token in FUNCTIONS or token == "radius":
            return f'<mrow><mspace width="0.17em"></mspace><mi>{token}</mi></mrow>', token
        if token in WORDS:
            return f"<mtext>&#160;{token}&#160;</mtext>", ""
        self.place -= len(token) - 1  # a product of letters
        return _identifier(token[0]), ""

    def sign(self, token: str, before: str) -> tuple[str, str]:
        if token == "√":
            if self.peek("("):
                self.place += 1
                return f"<msqrt>{self.bracketed(')')}</msqrt>", ""
            return f"<msqrt>{self.scripted(*self.atom())}</msqrt>", ""
        if token in LIMITS:
            return _operator({"Σ": "∑", "Π": "∏"}.get(token, token)), token
        if token in OPENING:
            return _operator(token, stretchy="false", form="prefix"), ""
        if token in CLOSING:
            self.before = "letter"
            return _operator(token, stretchy="false", form="postfix"), ""
        if token in TIGHT:
            self.before = "letter"
            return _operator(token, stretchy="false", lspace="0", rspace="0"), ""
        if token in "…⋯∎∇∂∞":
            self.before = "letter"
            return _identifier(token), ""
        if token in "−-±∓" and before in ("", "other", "gap"):
            return _operator(
                "−" if token == "-" else token, form="prefix", lspace="0", rspace="0"
            ), ""
        return _operator("−" if token == "-" else token), ""

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
                self.place += 1
                base, below = (
                    _with_scripts(
                        base,
                        below,
                        _operator("′" if self.text[self.place - 1] != "″" else "″"),
                        False,
                    ),
                    "",
                )
            elif self.peek("".join(SUPERSCRIPTS)) and not above:
                above = "".join(_script_sign(SUPERSCRIPTS[sign]) for sign in self.next()[1])
            elif self.peek("".join(SUBSCRIPTS)) and not below:
                below = "".join(_script_sign(SUBSCRIPTS[sign]) for sign in self.next()[1])
            else:
                break
        return _with_scripts(base, below, above, self.display and name in LIMITS)

    def script(self) -> str:
        """What stands after ``_`` or ``^``: a group in braces, a word, a number or one sign."""
        if self.peek("{"):
            self.place += 1
            return self.bracketed("}")
        found = _INDEX.match(self.text, self.place)
        if found is None:
            return ""
        self.place = found.end()
        token = found[0]
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
