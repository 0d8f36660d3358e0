"""Formulas of the pages as MathML."""

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS / "site"))

from formulas import displayed, is_formula, mathml  # noqa: E402  (it lies beside the pages, not in the package)


def bare(html: str) -> str:
    """MathML without its wrapping, and without spaces that hold nothing."""
    inner = re.fullmatch(r"<math[^>]*><mrow>(.*)</mrow></math>", html)
    assert inner is not None
    return re.sub(r"<mrow>(<m[io n]>[^<]*</m[ion]>)</mrow>", r"\1", inner[1])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("L_iR_i", "<msub><mrow><mi>L</mi></mrow><mrow><mi>i</mi></mrow></msub>"
                   "<msub><mrow><mi>R</mi></mrow><mrow><mi>i</mi></mrow></msub>"),
        ("λ_max", "<msub><mrow><mi>λ</mi></mrow><mrow><mi>max</mi></mrow></msub>"),
        ("x²", "<msup><mrow><mi>x</mi></mrow><mrow><mn>2</mn></mrow></msup>"),
        ("2e-4", "<mn>2</mn><mo>·</mo><msup><mn>10</mn><mrow><mo>−</mo><mn>4</mn></mrow></msup>"),
        ("√(a)", "<msqrt><mrow><mi>a</mi></mrow></msqrt>"),
        ("√((a)/2) b", "<msqrt><mo>(</mo><mi>a</mi><mo>)</mo><mo>/</mo><mn>2</mn></msqrt><mi>b</mi>"),
        ("UΣVᵀ", "<mi>U</mi><mi>Σ</mi><msup><mi>V</mi><mo>⊤</mo></msup>"),
        ("Σ_ij x", "<msub><mo>∑</mo><mi>i</mi><mi>j</mi></msub><mi>x</mi>"),
        ("φ''", "<mi>φ</mi><mo>″</mo>"),
        ("S̃ᵀ", "<msup><mover><mi>S</mi><mo>~</mo></mover><mo>⊤</mo></msup>"),
        ("dim E_L", "<mi>dim</mi><mspace></mspace><msub><mi>E</mi><mi>L</mi></msub>"),
        ("xy", "<mi>x</mi><mi>y</mi>"),
    ],
)  # fmt: skip
def test_a_formula_is_read_as_it_is_meant(text, wanted):
    def plain(html: str) -> str:
        return re.sub(r"<(m\w+) [^>]*>", r"<\1>", html).replace("<mrow><mi>", "<mi>")

    simple = re.sub(r"</?mrow>", "", plain(mathml(text)).partition("<math>")[2])
    assert simple == re.sub(r"</?mrow>", "", plain(wanted)) + "</math>"


@pytest.mark.parametrize(
    "text",
    ["λ_max", "W_i", "2/η", "d_0d_L", "J", "XXᵀ", "‖R_1v‖ = 1", "(d_L, d_0)", "L = 2", "w*",
     "1.15", "1e-12", "2 × 3", "√3", "2Lt", "E", "E_0 = ker M"],
)  # fmt: skip
def test_formulas_are_known(text):
    assert is_formula(text)


@pytest.mark.parametrize(
    "text",
    ["C6.law", "C6", "E.*", "network/loss.py", "sharpness(factors).value", "step_ratio", "nn.Linear",
     "input_gram = X Xᵀ", "make docs", "W[0]", "rtol", "784-64-64-10"],
)  # fmt: skip
def test_code_stays_code(text):
    assert not is_formula(text)


@given(st.text("λ_max{}^²ᵀ‖()[]√ Σ_i½*'/|,.<&>1e-2W\n", min_size=1))
def test_anything_is_well_formed(text):
    ET.fromstring(f"<p>{mathml(text.replace(chr(10), ' '))}</p>".replace("&#160;", " "))
    if text.strip():
        ET.fromstring(f"<p>{displayed(text)}</p>".replace("&#160;", " "))


def test_a_long_formula_may_be_broken_before_relations_that_are_in_no_bracket():
    assert mathml("λ_max ≤ 2 Σ_i ‖L_i‖₂²‖R_i‖₂² = 2 Σ_i p_i²").count("<wbr>") == 2
    assert mathml("max_{a = b} (λ_max = 2 Σ_i p_i² ≤ 3)").count("<wbr>") == 0
    assert mathml("a = b").count("<wbr>") == 0


def test_what_stands_apart_in_a_displayed_formula_may_go_to_the_next_line():
    html = displayed("    x = a,   y = b,    z > 0.      (2)\n      = c")
    assert html.count('class="whole"') == 4
    assert '<span class="number">(2)</span>' in html
    assert html.count('class="formula continued"') == 1


def test_every_indented_block_of_the_pages_is_set():
    for path in sorted(DOCS.glob("*.md")):
        for block in re.findall(r"(?:\n    [^ -].*)+", path.read_text(encoding="utf-8")):
            ET.fromstring(f"<p>{displayed(block)}</p>".replace("&#160;", " "))


def test_punctuation_stays_with_its_formula():
    pages, nodes = pytest.importorskip("pages"), pytest.importorskip("docutils.nodes")
    # Equal texts after a name and after a formula: each comma stays where it was.
    code = [nodes.literal("", text) for text in ("C1.data", "H", "H²")]
    line = nodes.paragraph("", "", code[0], nodes.Text(", "), code[1], nodes.Text(", "), code[2])
    line += nodes.Text(").")
    tree = nodes.section("", line)
    pages.typeset(SimpleNamespace(env=SimpleNamespace(docname="derivation")), tree)
    shown = re.sub(r"<(?!/?literal)[^>]*>", "", "".join(str(part) for part in line.children))
    assert shown == "<literal>C1.data</literal>, H, H2)."


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("With q = σ_{k+1}/σ_k behind", "With `q = σ_{k+1}/σ_k` behind"),
        ("λ_max ≤ 2 Σ p_i², p_i = ‖L_i‖‖R_i‖.", "`λ_max ≤ 2 Σ p_i²`, `p_i = ‖L_i‖‖R_i‖`."),
        ("changes by |1 − ηλ_max| per step", "changes by `|1 − ηλ_max|` per step"),
        ("‖T − W_{L:1}S‖², no minimizer", "`‖T − W_{L:1}S‖²`, no minimizer"),
        ("(C6.law, at δ = 1e-3: what", "(C6.law, at `δ = 1e-3`: what"),
        ("see tests/studies/test_valley.py, 2 * 3", r"see tests/studies/test_valley.py, 2 \* 3"),
    ],
)  # fmt: skip
def test_formulas_of_a_plain_text_are_found(text, wanted):
    assert pytest.importorskip("pages").as_code(text) == wanted
