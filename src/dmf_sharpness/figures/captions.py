"""What each figure shows and which claim it bears on; every number is read from the ledger."""

from collections.abc import Sequence
from typing import Any

from dmf_sharpness.ledger import format_number

CAPTIONS = {
    "bottleneck": (
        "Behind a bottleneck, a hidden layer narrower than the target's rank, the minimum keeps a "
        "residual: how far the true sharpness then is from the closed form, network by network. It is "
        "still exact at depth 2 and wherever the first and the last hidden layer are as narrow as the "
        "bottleneck (C1.bottleneck_exact: to {C1.bottleneck_exact.value} over "
        "{C1.bottleneck_exact.n} minimizers). Elsewhere the sharpness comes from the Hessian-vector "
        "product with the residual (C1.bottleneck: to {C1.bottleneck.value} over {C1.bottleneck.n}). "
        "Hollow dots: the closed form is too high."
    ),
    "contour": (
        "Gradient descent beside a minimizer (star) of a 15-layer scalar factorization, on the plane "
        "of the top Hessian eigenvector v_1 and a vector v_N of the smallest eigenvalue, 0: of that "
        "degenerate eigenspace, the direction in which the sharpness falls fastest. Dots are iterates, "
        "ringed dots the last ones; the first visible swings are joined. Below the stability limit "
        "(blue) the runs return (C6.return: {C6.return.value} of {C6.return.n} do not), above it they leave "
        "and settle at flatter minimizers "
        "(C6.escape: {C6.escape.n} unstable runs, {C6.escape.value} of them failed to escape)."
    ),
    "exactness": (
        "The closed form against the dense autograd Hessian at every minimizer, with the relative "
        "difference beneath; the two share no code (C1.sharpness: at most {C1.sharpness.value} over "
        "{C1.sharpness.n} minimizers; C1.data: at most {C1.data.value} over {C1.data.n})."
    ),
    "growth": (
        "Loss and distance from the minimizer, for several step ratios (left) and starting radii "
        "(right). Dotted, the predicted growth per step, with nothing fitted (C6.rate: measured and "
        "predicted factor agree to {C6.rate.value} over {C6.rate.n} runs)."
    ),
    "flatness": (
        "Excess sharpness against the spectral imbalance. Bottom left, equal products: flat "
        "(C3.sufficient: to {C3.sufficient.value} over {C3.sufficient.n}; C4.sufficient: to "
        "{C4.sufficient.value} over {C4.sufficient.n}), and nothing flat is elsewhere (C5.spectral: "
        "{C5.spectral.n} flat ones). Lines, the least excess that an imbalance allows; at depth 2 it is "
        "the parabola 2(‖W_1‖ − ‖W_2‖)² of factors with ‖W_1‖‖W_2‖ = ‖M‖. No minimizer lies to the "
        "right of its line (C3.necessary: violated by at most {C3.necessary.value} over "
        "{C3.necessary.n} minimizers; C4.necessary: by {C4.necessary.value} over {C4.necessary.n})."
    ),
    "balance": (
        "Spectral against Frobenius balance. Minimizers whose spectral products are equal are flat (blue; "
        "C2: to {C2.value} over {C2.n}) and can have Frobenius norms a factor of 100 apart (C5.frobenius: "
        "flat to {C5.frobenius.value} over {C5.frobenius.n} with a factor of 1.2 and more). From three "
        "matrix factors on minimizers can be flat though their spectral products are not equal (orange, "
        "ours; C2.necessity: {C2.necessity.n} of them). Grey, random minimizers, which are not flat."
    ),
    "boundary": (
        "Where the condition of equal spectral products stops; both are ours. Left, it is not sufficient "
        "without the right value: with all products x times that value the sharpness is x² λ_flat "
        "(C2.constant: to {C2.constant.value} over {C2.constant.n}). Right, it is not necessary for three "
        "matrix factors and more: flat minimizers (orange) with products far from equal (C2.necessity: flat "
        "to {C2.necessity.value} over {C2.necessity.n}); the star is the smallest counter-example, three "
        "diagonal 2 × 2 factors. Grey, random minimizers of the same depths; the lines are the excess that "
        "such an imbalance would force in scalars."
    ),
    "gauge_path": (
        "Sharpness along random paths through the set of minimizers, each from a flat one (t = 0), a panel "
        "per network. Lines, the exact expression; dots, the dense Hessian (C1.paths: to {C1.paths.value} "
        "over {C1.paths.n} points). Dotted, the value at flat minimizers; shaded, what the spectral norms of "
        "the intermediate factors allow on one of the paths, 2 max p_i² to 2 Σ p_i². At depth 2 and for "
        "scalars the upper bound is the value."
    ),
    "landing": (
        "Where runs land that leave a minimizer by δ above the limit of stability. Left, start and "
        "landing in the units of the law, one coefficient per minimizer, nothing fitted; the dotted line "
        "is the mirror image c_end = 1 − δ. Right, the error of the prediction, with the first-order "
        "coefficient a and with ã = a + 3/2 − b (C6.law: at δ = 1e-3 the share of {C6.law.n} minimizers "
        "that miss by more than 2 % is {C6.law.value})."
    ),
    "phase": (
        "What becomes of a run: the commonest outcome of the starts of each cell. Between the two "
        "predicted borders, 2/λ_max < η < 2/λ_flat, runs land at flatter minimizers; beyond, none does "
        "(C6.nowhere: {C6.nowhere.value} over {C6.nowhere.n} runs). Dots, the measured divergence border."
    ),
    "threshold": (
        "The step size at which gradient descent stops returning, found by bisection with the outcome as "
        "the judge, for every minimizer and method: ηλ_max = 2, 2 + 2β for the heavy ball (dots), "
        "(2 + 2β)/(1 + 2β) for Nesterov's method (diamonds), however sharp the minimizer (C6.threshold: "
        "off by at most {C6.threshold.value} over {C6.threshold.n} minimizers; C6.momentum: "
        "{C6.momentum.value} over {C6.momentum.n}). Grey, where the threshold of plain gradient descent "
        "would be if λ_flat decided."
    ),
    "digits": (
        "The handwritten digits, raw inputs: where a run is after it has left a minimizer and no longer "
        "oscillates. Eigenvalues of the Hessian down to a billionth of the largest leave most directions "
        "on the way; the reduced map, in which each forgets at its own rate, says how far (C6.soft: off "
        "by at most {C6.soft.value} over {C6.soft.n} runs; nothing fitted). Dashed, the landing law, right "
        "when all directions have settled; dotted, the mirror image."
    ),
    "orbits": (
        "No minimizer is stable beyond 2/λ_flat: what runs do there, on the set-up of Ghosh et al. Left, "
        "along the top path the layers become equal, from the balanced start and from beside minimizers "
        "that are not (C6.balancing: to {C6.balancing.value} over {C6.balancing.n} runs). Right, just "
        "beyond the limit the oscillation keeps to the target's top singular "
        "subspace (C6.orbits: to {C6.orbits.value} over {C6.orbits.n} runs); beyond the second limit it is "
        "in the first two."
    ),
    "timing": (
        "Left, the time to leave, scaled by the predicted rate, against the radius of the start: one "
        "line for all minimizers until rounding takes over (C6.time: slope off by at most {C6.time.value} "
        "over {C6.time.n} fits). Right, when starts of each kind have left, in units of the time that a "
        "rounding error needs: those on the stable manifold stay, or leave when rounding has grown."
    ),
}


def figures_of(claim: str) -> list[str]:
    """The figures that bear on a claim: those whose captions name it."""
    named = (f"{{{claim}.value}}", f"{{{claim}.n}}")
    return [figure for figure, text in CAPTIONS.items() if any(name in text for name in named)]


def caption(figure: str, rows: Sequence[dict[str, Any]]) -> str:
    """The caption of a figure with the numbers of the ledger.

    Raises:
        KeyError: The figure has no caption, or it names a claim that is not in the ledger.
    """
    text = CAPTIONS[figure]
    for row in rows:
        text = text.replace(f"{{{row['id']}.value}}", format_number(row["value"]))
        text = text.replace(f"{{{row['id']}.n}}", str(row["n"]))
    if "{" in text:
        raise KeyError(f"the caption of {figure} names a claim that is not in the ledger: {text}")
    return text
