"""Orbits of period two at step sizes beyond ``2/λ_flat``, as Ghosh et al. found them (arXiv:2502.20531).

Their set-up has a target with a few singular values, starts with all factors a small multiple of the
identity, and step sizes above ``2/λ_flat``, at which no minimizer is stable. This study also starts beside
minimizers that are not balanced: their results hold there only if the balancing gap decays.
"""

import pandas as pd
import torch
from torch import Tensor

from dmf_sharpness.descent.run import Outcome, gradient_descent
from dmf_sharpness.experiments.catalog import StudyOptions
from dmf_sharpness.experiments.ensembles import Ensemble
from dmf_sharpness.experiments.experiment import StudySpec
from dmf_sharpness.network.factors import unflatten
from dmf_sharpness.studies.common import crossed, random_directions, sites_of

STUDY = StudyOptions(needs=("step_ratios", "radii", "steps"), takes=("seed",), one_value=("radii",))

IDENTITY_SCALE = 0.1
"""In the start of Ghosh et al. every factor is this multiple of the identity."""
ORBIT = 32
"""The extent of an orbit is measured over this many steps after the end of the run."""
TIMES = 60
"""A run is observed about this many times, evenly spaced."""


def top_gap(factors: list[Tensor], top: Tensor) -> Tensor:
    """Spread of the layers' gains along the top path, ``(max − min)/max``, shape ``(…)``.

    The gain of layer i is ``‖W_i … W_1 v‖/‖W_{i−1} … W_1 v‖``, where ``v`` is the target's top right
    singular vector, ``(…, d_0)``. The norms of the layers would not do: while the oscillating top singular
    value of the product is below the second one, the norms belong to another direction.
    """
    q, numbers = top[..., None], []
    for W in factors:
        image = W @ q
        numbers.append(torch.linalg.vector_norm(image, dim=(-2, -1)))
        q = image / numbers[-1][..., None, None]
    along = torch.stack(numbers)
    return (along.amax(0) - along.amin(0)) / along.amax(0)


def study(ensemble: Ensemble, spec: StudySpec) -> pd.DataFrame:
    """Run with step sizes ``η = 2 c / λ_flat``, so that the step ratios refer to flat minimizers.

    Returns:
        A row per start, step ratio and time: ``start`` (``identity``, or ``minimizer`` for a start beside
        one), ``step``, ``top_gap``. The other columns are the same in all rows
        of a run: ``flat_ratio`` (``ηλ_flat/2``), ``second_ratio`` (``ηλ_2/2`` at balanced minimizers, where
        ``λ_2`` is the second eigenvalue), ``ended``, and two numbers of the orbit of the end-to-end
        product at the end: ``alternation`` (its largest change over two steps, relative to its largest
        change over one; 0 for period two) and ``in_top`` (the share of its variance in the target's top
        singular subspace).
    """
    # The starts: a multiple of the identity, and points beside each minimizer.
    sites = sites_of(ensemble)
    batch, size = sites.centre.shape
    identity = torch.cat(
        [
            IDENTITY_SCALE * torch.eye(rows, columns, dtype=torch.float64).flatten()
            for columns, rows in zip(sites.widths[:-1], sites.widths[1:], strict=True)
        ]
    )
    draws = random_directions(batch, size, [spec.seed, ensemble.network])
    beside = sites.centre + spec.radii[0] * draws
    # Minimizers of one target follow each other, and the identity start is the same for all of them.
    first = [
        b
        for b in range(batch)
        if b == 0 or not sites.problem.target[b].equal(sites.problem.target[b - 1])
    ]
    starts = torch.cat([identity.expand(len(first), size), beside])
    owner = torch.cat([torch.tensor(first), torch.arange(batch)])

    # The runs: every start with every step ratio.
    number, ratio = crossed(torch.arange(len(owner)), spec.step_ratios)
    pick = number.long()
    index = owner[pick]
    step_size = 2 * ratio / sites.flat[index]
    target = sites.problem.target[index]
    run = gradient_descent(
        unflatten(starts[pick], sites.widths),
        target,
        step_size,
        spec.steps,
        observe_every=max(1, spec.steps // TIMES),
        keep_path=True,
    )

    # The orbit at the end of each run. A run that has diverged has none, wherever it was stopped.
    diverged = run.outcome == int(Outcome.DIVERGED)
    alternation, in_top = (
        number.masked_fill(diverged, torch.nan) for number in _orbit(run.factors, target, step_size)
    )

    # The balance of the layers at every observed time.
    path = unflatten(run.observed.iterates, sites.widths)
    gap = top_gap(path, torch.linalg.svd(target)[2][:, 0])
    times = len(run.observed.step)
    table = ensemble.rows(index.numpy()).assign(
        run=range(len(pick)),
        start=["identity" if k < len(first) else "minimizer" for k in pick.tolist()],
        flat_ratio=ratio.numpy(),
        second_ratio=(ratio * second_eigenvalue_ratio(target, len(run.factors))).numpy(),
        ended=run.outcome.numpy(),
        alternation=alternation.numpy(),
        in_top=in_top.numpy(),
    )
    table = table.loc[table.index.repeat(times)].reset_index(drop=True)
    return table.assign(
        step=run.observed.step.repeat(len(number)).numpy(),
        top_gap=gap.mT.reshape(-1).numpy(),
    )


def second_eigenvalue_ratio(target: Tensor, depth: int) -> Tensor:
    """``λ_2/λ_flat`` at balanced minimizers, where ``λ_2`` is the second eigenvalue of the Hessian, ``(…)``.

    There every layer has the singular values ``s_j = σ_j^{1/L}`` and shares its singular vectors with the
    next, so the eigenvalues are ``2 Σ_l s_i^{2(L−l)} s_j^{2(l−1)}``: the largest for ``i = j = 1``, the
    second for 1 and 2.
    """
    sigma = torch.linalg.svdvals(target)
    if sigma.shape[-1] == 1:
        return torch.zeros_like(sigma[..., 0])
    q = (sigma[..., 1] / sigma[..., 0]) ** (2 / depth)
    return torch.stack([q**power for power in range(depth)]).mean(0)


def _orbit(factors: list[Tensor], target: Tensor, step_size: Tensor) -> tuple[Tensor, Tensor]:
    """The orbit of the end-to-end product over ``ORBIT`` steps.

    Returns:
        The alternation, and the share of the variance in the span of the target's first singular pair, each
        ``(B,)``.
    """
    run = gradient_descent(factors, target, step_size, ORBIT, observe_every=1, keep_path=True)
    shape = (factors[0].shape[-1], *(W.shape[-2] for W in factors))
    product = unflatten(run.observed.iterates, shape)[0]
    for W in unflatten(run.observed.iterates, shape)[1:]:
        product = W @ product
    one, two = (
        torch.linalg.matrix_norm(product[k:] - product[:-k]).nan_to_num(nan=0.0).amax(0)
        for k in (1, 2)
    )
    U, _, Vt = torch.linalg.svd(target, full_matrices=False)
    varying = (U.mT @ (product - product.nanmean(0)) @ Vt.mT).square()  # (K, B, k, k)
    return two / one, varying[..., 0, 0].nansum(0) / varying.nansum((0, 2, 3))
