"""Mutants of the kernels in C: one replacement each, compiled into a library of its own."""

import random
import subprocess
import tempfile
from pathlib import Path

from tests.mutants.operators import Mutant
from tests.mutants.replaced import PACKAGE
from tests.mutants.report import Outcome
from tests.mutants.runs import survives

# The functions of the package that call each file's code.
ADVANCE, PAIRS = "descent/compiled_engine.py:advance", "hessian/batched_compiled.py:lanczos"
SINGLE = "hessian/single_compiled.py:_solved"
STACKED = "hessian/single_compiled.py:stacked_pair"
CALLERS = {
    "_tiles.h": {ADVANCE, PAIRS},
    "_kernels.c": {ADVANCE},
    "_descent.h": {ADVANCE},
    "_top_pairs.c": {PAIRS},
    "_rows.h": {SINGLE, STACKED},
    "_tridiagonal.h": {SINGLE, STACKED},
    "_lanczos.h": {SINGLE, STACKED},
    "_single.c": {SINGLE, STACKED},
    "_thin.c": {"hessian/thin_products.py:compiled_times"},
}
# A text that stands once in the file, and what replaces it.
KERNELS = {
    "_tiles.h": [
        ("sum[i][j] = AT(A, i * a_row) * b;", "sum[i][j] = AT(A, i * a_row) + b;"),
        ("for (int64_t k = 1; k < depth; k++)", "for (int64_t k = 2; k < depth; k++)"),
        ("AT(A, i * a_row + k * a_inner)", "AT(A, i * a_row + k)"),
        ("kind == ADD ? *c + sum[i][j] : sum[i][j]", "sum[i][j]"),
        ("VECTOR step = -u->eta * gradient;", "VECTOR step = u->eta * gradient;"),
        ("*c = NAMED(chosen)(u->live, *c + step, *c);", "*c = *c + step;"),
        ("*v = NAMED(chosen)(u->live, moved, *v);", "*v = moved;"),
        ("VECTOR moved = u->momentum * *v + step;", "VECTOR moved = u->momentum * *v - step;"),
        ("? u->momentum * moved + step : moved;", "? u->momentum * moved : moved;"),
        ("kind == NESTEROV ? u", "kind != NESTEROV ? u"),
        ("*c = NAMED(chosen)(u->live, *c + change, *c);", "*c = *c + change;"),
        ("(columns + TILE_COLUMNS - 1) / TILE_COLUMNS;", "(columns + TILE_COLUMNS) / TILE_COLUMNS;"),
        ("columns / tiles + (t < columns % tiles)", "columns / tiles + (t <= columns % tiles)"),
        ("(rows + TILE_ROWS - 1) / TILE_ROWS;", "(rows + TILE_ROWS) / TILE_ROWS;"),
        ("rows / strips + (t < rows % strips)", "rows / strips + (t <= rows % strips)"),
        ("c + u->velocity;", "c + u->velocity - 1;"),
        ("&AT(C, i * columns), columns,", "&AT(C, i), columns,"),
        ("part < PARTS; part++", "part < 1; part++"),
        ("(const double *)B + j * b_column", "(const double *)B + j"),
        ("default: STRIP(3); break;", "default: STRIP(2); break;"),
        ("default: ONE(4); break;", "default: ONE(3); break;"),
        ("rows <= TILE_ROWS && columns", "rows <= TILE_ROWS || columns"),
    ],
    "_kernels.c": [
        ("p->columns > p->drawn_columns ? p->columns", "p->columns < p->drawn_columns ? p->columns"),
        ("at.velocity = p->parameters;", "at.velocity = 1;"),
        ("(p->velocity ? p->parameters : 0);", "p->parameters - 1;"),
        ("(p->observed_weights ? outputs : 0);", "0;"),
        ("data[chosen[k] * rows + i]", "data[chosen[0] * rows + i]"),
        ("out[i * m + k] =", "out[k * rows + i] ="),
        ("if (p->depth > MOST_LAYERS)", "if (p->depth >= MOST_LAYERS)"),
    ],
    "_descent.h": [
        ("residual = *P - T;", "residual = *P + T;"),
        ("*P = residual + residual;", "*P = residual;"),
        ("return residual * residual;", "return residual;"),
        ("residual = *P - T, weighted", "residual = *P + T, weighted"),
        ("weighted = weight * residual;", "weighted = residual;"),
        ("*P = weighted + weighted;", "*P = weighted;"),
        ("return weighted * residual;", "return residual * residual;"),
        ("return weighted * residual;", "return weighted * weighted;"),
        ("i + 4 <= n; i += 4", "i + 4 < n; i += 4"),
        ("sum[3] += term(i + 3);", "sum[3] = term(i + 3);"),
        ("if (i + 2 < n)", "if (i + 2 <= n)"),
        ("(sum[2] + sum[3]);", "sum[2];"),
        ("b * LANES + part * (LANES / PARTS) + l;\n        row", "b * LANES + l;\n        row"),
        ("P[i] -= T[i];", "P[i] += T[i];"),
        ("P[i] += P[i];", "P[i] += 0;"),
        ("VECTOR grown = growth * loss;", "VECTOR grown = growth + loss;"),
        ("grown <= DBL_MAX, grown, (VECTOR){0} + DBL_MAX", "grown <= DBL_MAX, grown, grown"),
        ("return TILED(chosen)(grown > limit, grown, limit);", "return grown;"),
        ("VECTOR d = W[i] - AT(reference, i);", "VECTOR d = W[i];"),
        ("distance += d * d;", "distance = d * d;"),
        ("AT(direction, i) * (W[i] - AT(reference, i));", "AT(direction, i) * W[i];"),
        ("(b * P + a) * N * LANES", "(b * P) * N * LANES"),
        ("(k * p->blocks + b) * (2 + P)", "(k * p->blocks) * (2 + P)"),
        ("(k * p->blocks + b) * N", "(k + b) * N"),
        ("AT(copy, i) = W[i];", "AT(copy, i) = W[0];"),
        ("AT(out, 0) = loss;", "AT(out, 0) = loss + loss;"),
        ("else if (p->input_root)", "else if (!p->input_root)"),
        ("TILED(update_one)(kind, u, A[n], W + n);", "TILED(update_one)(kind, u, A[0], W + n);"),
        ("} else if (!p->nesterov) {", "} else if (p->nesterov) {"),
        ("outcome == 0, p->momentum", "outcome != 2, p->momentum"),
        ("const int ending = step == last_step;", "const int ending = step == last_step - 1;"),
        ("if (ending && !p->final)", "if (ending)"),
        ("step % p->observe_every == 0)", "step % p->observe_every == 1)"),
        ("p->first_step / every + (p->first_step % every != 0);", "p->first_step / every;"),
        ("if (step == 0)\n", "if (step == p->first_step)\n"),
        ("u.live & ~(loss <= limit)", "u.live & (loss > limit)"),
        ("~(loss <= limit)", "~(loss < limit)"),
        ("outcome += diverged & 2;", "outcome += diverged & 1;"),
        ("u.live &= ~diverged;", "u.live |= ~diverged;"),
        ("if (step % p->check_every == 0 || ending) {", "if (step % p->check_every == 0) {"),
        ("if (step % p->check_every == 0 || ending) {", "if (step % p->check_every == 1 || ending) {"),
        ("(loss <= floor) & (loss <= previous)", "(loss <= floor)"),
        ("(loss <= floor) &", "(loss < floor) &"),
        ("(loss <= previous);", "(loss < previous);"),
        ("outcome += converged & 1;", "outcome += converged & 2;"),
        ("u.live &= ~converged;", "u.live &= converged;"),
        ("previous = loss;", "previous = floor;"),
        ("taken -= u.live;", "taken += u.live;"),
        ("taken -= u.live;", "taken += 1;"),
        ("if (!any || ending)", "if (ending)"),
        ("AT(p->loss, b) = loss;", "AT(p->loss, 0) = loss;"),
        ("p->observed_weights, b, part", "p->observed_weights, 0, part"),
        ("loss = weight ?", "loss = !weight ?"),
        ("NAMED(forward)(&here, W, signals", "NAMED(forward)(p, W, signals"),
        ("NAMED(step_back)(&here, W, signal, spare, u);", "NAMED(step_back)(p, W, signal, spare, u);"),
        ("p->drawn + (step - p->first_step) * p->drawn_columns;", "p->drawn;"),
        ("*next = spare[i % 2];", "*next = spare[0];"),
        ("part < PARTS; part++", "part < 1; part++"),
        ("((lanes *)(array) + (index)))[part])", "((lanes *)(array) + (index)))[0])"),
        ("unload)(p, N, W + at.velocity, p->velocity", "unload)(p, N, W, p->velocity"),
    ],
    "_top_pairs.c": [
        ("w->rights + i * columns * columns);\n        if", "w->rights + columns * columns);\n        if"),
        ("multiply(columns, columns, d[i], right, 1, columns, right, columns, 1,",
         "multiply(columns, columns, d[i], right, columns, 1, right, columns, 1,"),
        ("if (i == L - 1)\n            break;", "if (i == L - 2)\n            break;"),
        ("const int left = i < L - 1, right", "const int left = i < L, right"),
        ("right = i > 0 || p->input_root;", "right = i > 0;"),
        ("fill_zero(rows * columns, y);", ";"),
        ("for (; i + 1 < n; i += 2)", "for (; i + 2 < n; i += 2)"),
        ("    if (i < n)\n        a +=", "    if (i > n)\n        a +="),
        ("*out = a + b;", "*out = a;"),
        ("select_lanes(x > floor, 1.0 / x, zero)", "select_lanes(x >= floor, 1.0 / x, zero)"),
        ("lanes t = y[i] - *a * x[i];", "lanes t = y[i] + *a * x[i];"),
        ("t -= *b * z[i];", "t += *b * z[i];"),
        ("sum += t * t;", "sum += t;"),
        ("*norm = root_of(sum);", "*norm = sum;"),
        ("sum += krylov[j * n + i] * s[j];", "sum -= krylov[j * n + i] * s[j];"),
        ("high = select_lanes(reach > high, reach, high);",
         "high = select_lanes(reach < high, reach, high);"),
        ("low = select_lanes(alpha[j] > low, alpha[j], low);",
         "low = select_lanes(alpha[j] < low, alpha[j], low);"),
        ("square[j] = beta[j] * beta[j];", "square[j] = beta[j];"),
        ("lanes middle = 0.5 * (low + high)", "lanes middle = 0.25 * (low + high)"),
        ("above &= d < zero;", "above |= d < zero;"),
        ("high = select_lanes(above, middle, high);", "high = select_lanes(above, high, middle);"),
        ("*theta = high;", "*theta = low + low;"),
        ("pivot[m - 1] = alpha[m - 1] - high;", "pivot[m - 1] = alpha[m - 1] + high;"),
        ("j = m - 2; j > 0; j--", "j = m - 2; j > 1; j--"),
        ("- square[j] / pivot[j + 1];", "+ square[j] / pivot[j + 1];"),
        ("-beta[j - 1] * s[j - 1] / pivot[j]", "beta[j - 1] * s[j - 1] / pivot[j]"),
        ("mask below = *x <= tolerance * *scale;", "mask below = *x <= *scale;"),
        ("all &= below[l] != 0;", "all |= below[l] != 0;"),
        ("lanes rest = *beta * s[m - 1];", "lanes rest = *beta * s[0];"),
        ("kept[j] = select_lanes(*converged, kept[j], s[j]);", "kept[j] = s[j];"),
        ("kept[j] = select_lanes(*converged, kept[j], (lanes){0});", "kept[j] = (lanes){0};"),
        ("& (-rest <= tolerance * *theta);", ";"),
        ("(rest <= tolerance * *theta) &", ""),
        ("all &= (*converged)[l] != 0;", "all |= (*converged)[l] != 0;"),
        ("lanes floor = alpha[0] * 1e-15;", "lanes floor = alpha[0];"),
        ("beta[j] *= beta[j] * factor;", "beta[j] += factor;"),
        ("j == MOST_STEPS || j == n || (j >= FIRST_LOOK", "j == MOST_STEPS || (j >= FIRST_LOOK"),
        ("if (all || j == MOST_STEPS || j == n)", "if (j == MOST_STEPS || j == n)"),
        ("0.5 * p->tolerance", "50000 * p->tolerance"),
        ("    norm = root_of(norm);\n", ""),
        ("run < p->runs", "run < 1"),
        ("*value = half + half;", "*value = half;"),
        ("*residual = norm * factor;", "*residual = norm;"),
        ("if (all_below(&norm, &half, p->tolerance))", "if (1)"),
        ("[b * n + i] = w.krylov[i];", "[i] = w.krylov[i];"),
        ("(const lanes *)p->weights + b * p->parameters", "(const lanes *)p->weights"),
    ],
    "_rows.h": [
        ("sum[i][j] += a * b[j];", "sum[i][j] = a * b[j];"),
        ("sum[i][j] = add ? *(group *)(C + i * c_stride + j * GROUP) : (group){0};",
         "sum[i][j] = (group){0};"),
        ("case 5: ROWS(5); break;", "case 5: ROWS(4); break;"),
        ("A.at += height * A.row;", "A.at += height;"),
        ("if (j < stride)", "if (j > stride)"),
        ("*(const group *)(part + k * stride + n * GROUP);", "*(const group *)(part + k * stride);"),
        ("sums[0] += *(const group *)(x + i)", "sums[1] -= *(const group *)(x + i)"),
        ("    group sum = (sums[0] + sums[1]) + (sums[2] + sums[3])",
         "    group sum = (sums[0] + sums[1]) + sums[2]"),
        ("from->at[j * from->stride + i];", "from->at[j * from->stride];"),
        ("combine_groups(1, apart, count, k + i,", "combine_groups(1, apart, 1, k + i,"),
        ("-= x[i] * *(const group *)(y + j);", "-= x[0] * *(const group *)(y + j);"),
        ("*(const loose_group *)(x + j - 1) *", "*(const loose_group *)(x + j) *"),
    ],
    "_tridiagonal.h": [
        ("v[i - 1] > 0 ? -size : size;", "size;"),
        ("const double part = -0.5 *", "const double part = 0.5 *"),
        ("for (int64_t i = 2; i < n; i++)", "for (int64_t i = 3; i < n; i++)"),
        ("bend = u * (bend - 2 * slope * slope) * inverse;", "bend = u * bend * inverse;"),
        ("x += ROUNDING * size;", "x -= size;"),
        ("s[j] = -beta[j - 1] * s[j - 1] / pivot[j];", "s[j] = beta[j - 1] * s[j - 1] / pivot[j];"),
    ],
    "_lanczos.h": [
        ("-w->known_value * inner", "w->known_value * inner"),
        ("-inner_product(n, w->krylov + k * n, next.at);", "inner_product(n, w->krylov + k * n, next.at);"),
        ("fabs(s[j - 1]) <= tolerance * theta", "fabs(s[j - 1]) <= 1e6 * tolerance * theta"),
        ("A.at += before * A.row;", "A.at += before;"),
        ("T.off[j < i ? j : i];", "T.off[j];"),
        ("source.at += before;", ""),
        ("X->rows * (w->self->index + 1) / size;", "X->rows * w->self->index / size;"),
    ],
    "_single.c": [
        ("return sum <= 1 ? 0 : 0.5 * log2(sum);", "return sum <= 1 ? 0 : 50 * log2(sum);"),
        ("return bits < p->safe_bits;", "return 1;"),
        ("else if (i == 1 && !p->input_root)", "else if (i == 1)"),
        ("minus = -1;", "minus = 1;"),
        ("rest <= p->fit * whole;", "rest >= p->fit * whole;"),
        ("if (i > 1 || p->input_root)\n            at.B", "if (i > 1)\n            at.B"),
        ("- (i == j)) <= ORTHONORMAL", "- (i == j)) <= 1e-3"),
        ("value *= 2;", "value *= 3;"),
        ("pull_back(p, w, defect) / (value * norm)", "pull_back(p, w, defect) / value"),
        ("largest < 0 && i", "largest > 0 && i"),
        ("state = state * 6364136223846793005u + 1442695040888963407u;", "state = 0;"),
    ],
    "_thin.c": [
        ("columns / tiles + (tile < columns % tiles)", "columns / tiles + (tile <= columns % tiles)"),
        ("memcpy(to + c, y, rest * sizeof *y);", "memcpy(to + c, y, sizeof *y);"),
        ("sum[i][j] = sums[i * columns + j];", "sum[i][j] = (group){0};"),
        ("sum[i][j] += w[i] * y[k * N + j];\n    }\n#pragma GCC unroll 3",
         "sum[i][j] += w[i] * y[k * N];\n    }\n#pragma GCC unroll 3"),
        ("(sum[0] + sum[1]) + (sum[2] + sum[3])", "(sum[0] + sum[1]) + sum[2]"),
        ("if (rest) {", "if (rest > 1) {"),
        ("memset(edge, 0, columns * STRIP * sizeof *edge);", ""),
        ("const int64_t whole = last - j >= STRIP,", "const int64_t whole = last - j >= 1,"),
        ("if (tile == 0 && whole)", "if (tile == 0)"),
        (".Y = Y + c * inner,", ".Y = Y,"),
        ("units * (s + 1) / t->shares * unit", "units * (s + 1) / t->shares * unit - 1"),
    ],
}  # fmt: skip


SOURCES = ("_kernels.c", "_top_pairs.c", "_single.c", "_thin.c")
HEADERS = (
    "_descent.h",
    "_lanes.h",
    "_tiles.h",
    "_rows.h",
    "_team.h",
    "_tridiagonal.h",
    "_lanczos.h",
    "_clones.h",
)


def built(folder, whole, name, was="", becomes=""):
    """The kernels with one replacement; objects that it leaves as they are come from ``whole``."""
    for source in (*SOURCES, *HEADERS):
        text = (PACKAGE / "compiled" / source).read_text(encoding="utf-8")
        if source == name:
            if was and text.count(was) != 1:
                raise SystemExit(f"{name}: expected once {was!r}, got {text.count(was)} times")
            text = text.replace(was, becomes) if was else text
        (folder / source).write_text(text, encoding="utf-8")
    # Without optimization, which would take longer than the tests.
    command = ["cc", "-O0", "-fPIC", "-w", "-pthread", "-DDMF_NO_CLONES"]
    objects = []
    for source in SOURCES:
        there = (whole / source).with_suffix(".o")
        if name in (source, *HEADERS) or not there.exists():
            there = (folder / source).with_suffix(".o")
            _called([*command, "-c", folder / source, "-o", there])
        objects.append(there)
    library = folder / "library" / "kernels.so"  # not beside its sources: it has no digest of them
    library.parent.mkdir()
    _called([*command, "-shared", *objects, "-o", library])
    return library


def _called(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"expected C that compiles, got:\n{done.stderr}")


def outcomes(files, tests, budget, count, seed):
    """The outcomes of mutants of the kernels, ``count`` per file drawn at random, or all of them if 0.

    Each runs under the tests that call the file's code, as many as ``budget`` seconds take.
    """
    found = []
    with tempfile.TemporaryDirectory() as whole:
        built(Path(whole), Path(whole), HEADERS[0])
        for name in files:
            replacements = KERNELS[name]
            if 0 < count < len(replacements):
                replacements = random.Random(f"{seed} {name}").sample(replacements, count)
            names, seconds = within(tests, CALLERS[name], budget)
            for was, becomes in [("", ""), *replacements]:
                with tempfile.TemporaryDirectory() as folder:
                    library = built(Path(folder), Path(whole), name, was, becomes)
                    alive = survives(names, 60 + 10 * seconds, lambda library=library: use(library))
                if was:
                    one = Mutant(f"compiled/{name}", "", 0, was, becomes, "")
                    found.append(Outcome(one, len(names), alive))
                    if alive:
                        print(f"compiled/{name} survives\n    - {was}\n    + {becomes}", flush=True)
                elif not alive:
                    raise SystemExit(f"{name}: expected tests that pass without a mutant")
    return found


def within(tests, callers, budget):
    """The quickest tests that call some functions, as far as they take ``budget`` seconds."""
    names, total = [], 0.0
    for test in sorted(tests, key=lambda test: test.seconds):
        if not callers.isdisjoint(test.calls) and total + test.seconds <= budget:
            names.append(test.name)
            total += test.seconds
    return names, total


def use(library):
    """Take the kernels from this library."""
    from dmf_sharpness.compiled import lanes

    lanes.kernel_file = lambda: library
