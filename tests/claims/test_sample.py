"""The numbers of a sample that the ledger keeps for the report."""

import math
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dmf_sharpness.artifacts.yaml_files import read_schema
from dmf_sharpness.claims.claim import SAMPLE_SIZE, sample_text
from dmf_sharpness.claims.ledger import SCHEMA

# Rounded to three digits, larger numbers than these may be infinite.
FLOATS = st.floats(-1e308, 1e308) | st.sampled_from([math.inf, -math.inf, math.nan])


@given(st.lists(FLOATS, max_size=SAMPLE_SIZE))
def test_a_small_sample_is_kept_whole_to_three_digits(values):
    kept = [float(text) for text in sample_text(values).split()]
    expected = np.sort(values)  # NaN last
    np.testing.assert_allclose(kept, expected, rtol=5.1e-3, atol=5e-324)


@given(st.lists(st.floats(allow_nan=False), min_size=SAMPLE_SIZE + 1, max_size=500))
def test_of_a_large_sample_quantiles_are_kept(values):
    kept = sample_text(values).split()
    ranks = np.linspace(0, len(values) - 1, SAMPLE_SIZE)
    quantiles = np.sort(values)[np.round(ranks).astype(int)]
    assert [float(text) for text in kept] == [float(f"{value:.3g}") for value in quantiles]
    assert "-0" not in kept


@given(st.lists(st.floats(), max_size=200))
def test_what_is_kept_can_be_read(values):
    text = sample_text(values)
    assert re.search(read_schema(SCHEMA)["$defs"]["sample"]["pattern"], text)
    assert len(text.split()) == min(len(values), SAMPLE_SIZE)
    assert sum(math.isnan(value) for value in values) > 0 or "nan" not in text
