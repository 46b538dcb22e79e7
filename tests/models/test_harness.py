"""The measure that the models' tests rest on."""
import math

import pytest
from harness import kl_divergence


def listed(*probabilities):
    return [[token, math.log(p)] for token, p in enumerate(probabilities)]


def test_kl_divergence_counts_what_was_not_recorded():
    expected = 0.5 * math.log(0.5 / 0.4) + 0.2 * math.log(0.2 / 0.3) + 0.3 * math.log(0.3 / 0.3)
    assert kl_divergence(listed(0.5, 0.2), listed(0.4, 0.3, 0.25)) == pytest.approx(expected)
    # All recorded tokens are likelier here: without the others the sum would be negative.
    assert kl_divergence(listed(0.5, 0.2), listed(0.55, 0.25)) > 0
    assert kl_divergence(listed(0.5, 0.2), listed(0.5, 0.2, 0.3)) == pytest.approx(0, abs=1e-15)


def test_kl_divergence_of_rounded_logarithms_is_not_negative():
    exact = [0.6, 0.25, 0.1, 0.05]
    rounded = [[token, round(math.log(p), 4)] for token, p in enumerate(exact)]
    assert 0 <= kl_divergence(rounded, listed(*exact)) < 1e-8
    assert 0 <= kl_divergence(listed(*exact), rounded) < 1e-8
