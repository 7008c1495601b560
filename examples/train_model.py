"""A training function with packages and memory of its own: pandas, and 2,000 MiB.

    cloudfn run examples/train_model.py --data-path flats.csv

The table has columns `area` and `rent`; without --data-path one is made up. In train_on_volume.py the table and the
model lie in a Volume, as they must on a machine that is not this one.
"""

import tempfile
from pathlib import Path

import cloudfn as modal

app = modal.App("train-model")


@app.function(image=modal.Image.debian_slim().pip_install("pandas"), timeout=300, memory=2000)
def train_model(data_path: str) -> str:
    import pandas as pd

    df = pd.read_csv(data_path)
    slope = df.area.cov(df.rent) / df.area.var()
    print(f"{len(df)} flats: rent = {df.rent.mean() - slope * df.area.mean():.2f} + {slope:.2f} * area")
    return "model_trained"


@app.local_entrypoint()
def main(data_path: str = ""):
    with tempfile.TemporaryDirectory() as folder:
        if not data_path:
            data_path = str(Path(folder) / "flats.csv")
            rows = [f"{area},{150 + 12 * area + (-1) ** area * 20}" for area in range(20, 140)]
            Path(data_path).write_text("\n".join(["area,rent", *rows]))
        print(train_model.remote(data_path))
