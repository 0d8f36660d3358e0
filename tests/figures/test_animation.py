import numpy as np
import pandas as pd
from PIL import Image

from dmf_sharpness.figures import animation
from dmf_sharpness.figures.tables import Tables


def spiral(step_ratio, steps):
    t = pd.Series(range(steps + 1))
    distance = 1e-9 * (2 * step_ratio - 1) ** t
    return pd.DataFrame(
        {
            "network": 0, "minimizer": 0, "step_ratio": step_ratio, "radius": 1e-9, "step": t,
            "loss": distance**2, "distance": distance, "along_top": distance * (-1.0) ** t,
            "along_flattening": distance / 2,
        }
    )  # fmt: skip


def test_a_frame_for_every_time_and_the_last_one_held(tmp_path, monkeypatch):
    monkeypatch.setattr(animation, "FRAMES", 6)
    monkeypatch.setattr(animation, "HELD", 2)
    nothing = pd.DataFrame()
    axis = np.linspace(-1, 1, 5)
    landscape = {
        "along_top": axis, "along_flattening": axis,
        "loss": axis[:, None] ** 2 + 0.1 * axis**2 + 1e-6,
    }  # fmt: skip
    paths = pd.concat([spiral(0.9, 40), spiral(1.2, 60)])
    movie = animation.animate(Tables(nothing, nothing, nothing, nothing, paths, landscape))
    movie.save(tmp_path / "escape.gif", writer="pillow", dpi=40)
    with Image.open(tmp_path / "escape.gif") as image:
        # The start, six times up to the last step, and the last one twice more; like frames are merged.
        assert 6 <= image.n_frames <= 9
