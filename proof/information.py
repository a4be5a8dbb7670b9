"""The least time in which any test could tell a share from a margin."""

from __future__ import annotations

import math


def least_seconds(share: float, bound: float, alpha: float, rate: float) -> float:
    """The least mean time in which any test that errs with alpha on either side can decide, independent requests given.

    n >= kl(alpha, 1 - alpha) / KL(share, bound): Kaufmann, Cappe and Garivier, JMLR 17, 2016, lemma 1, with a baseline
    known for certain. NaN at the bound itself, where no test ever can.
    """
    if share == bound:
        return math.nan
    information = sum(p * math.log(p / q) for p, q in ((share, bound), (1 - share, 1 - bound)) if p > 0)
    return ((1 - 2 * alpha) * math.log((1 - alpha) / alpha)) / information / rate
