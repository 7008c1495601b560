"""Training data and the trained model in a Volume: three functions, one after the other, each in workers of its own.

    cloudfn run examples/train_on_volume.py
    cloudfn volume ls penguins models

`prepare` writes a table, `train_model` reads it with pandas and writes a model beside it, and `predict` loads that.
What a call has written is in the volume when the call has ended. The next run finds it
all there: nothing is prepared again.
"""

import json
from pathlib import Path

import cloudfn

app = cloudfn.App("train-on-volume")
image = cloudfn.Image.debian_slim().pip_install("pandas")
volume = cloudfn.Volume.from_name("penguins", create_if_missing=True)

DATA = Path("/data/penguins.csv")


@app.function(volumes={"/data": volume})
def prepare(rows: int) -> bool:
    """Write flipper lengths (mm) and masses (g), which hang together by a line with some noise around it."""
    if DATA.exists():
        return False
    import random

    noise = random.Random(0)
    lengths = [noise.uniform(170, 235) for _ in range(rows)]
    lines = [f"{length:.1f},{49.7 * length - 5780 + noise.gauss(0, 390):.0f}" for length in lengths]
    DATA.write_text("\n".join(["flipper_mm,mass_g", *lines]))
    return True


@app.function(image=image, timeout=300, memory=2000, volumes={"/data": volume})
def train_model(data_path: str) -> str:
    import pandas as pd

    df = pd.read_csv(data_path)
    slope = df.flipper_mm.cov(df.mass_g) / df.flipper_mm.var()
    model = {"slope": slope, "intercept": df.mass_g.mean() - slope * df.flipper_mm.mean(), "rows": len(df)}
    path = Path("/data/models/line.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(model))
    return str(path)


@app.function(volumes={"/models": volume.with_mount_options(read_only=True, sub_path="models")})
def predict(flipper_mm: float) -> float:
    model = json.loads(Path("/models/line.json").read_text())
    return model["slope"] * flipper_mm + model["intercept"]


@app.local_entrypoint()
def main(rows: int = 5_000):
    print("prepared" if prepare.remote(rows) else "prepared before")
    print("model in", train_model.remote(str(DATA)))
    print("in the volume:", [entry.path for entry in volume.iterdir("/") if entry.path.endswith((".csv", ".json"))])
    for length in (180.0, 230.0):
        print(f"{length:.0f} mm: {predict.remote(length):,.0f} g")
