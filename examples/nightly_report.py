"""Work that comes by itself: a dataset is refreshed once a day, and a report on it is written every night at two.

    cloudfn secret create openai-secret OPENAI_API_KEY=sk-...
    cloudfn deploy examples/nightly_report.py
    cloudfn app schedule nightly-report       # the next five runs of each
    cloudfn run examples/nightly_report.py    # both now, once

A secret's values are environment variables of the worker, and nowhere else. What the functions write is in the Volume,
for those that run tomorrow: `cloudfn volume get nightly-report reports .`
"""

import csv
import os
from datetime import datetime, timezone
from pathlib import Path

import cloudfn as modal

app = modal.App("nightly-report")
volume = modal.Volume.from_name("nightly-report", create_if_missing=True)

DATA = Path("/data/visits.csv")


@app.function(schedule=modal.Period(hours=24), volumes={"/data": volume})
def refresh_dataset():
    visits = [(hour, 40 + 5 * abs(12 - hour)) for hour in range(24)]  # take your own source here
    with DATA.open("w", newline="") as file:
        csv.writer(file).writerows(visits)


@app.function(
    schedule=modal.Cron("0 2 * * *"),
    volumes={"/data": volume},
    secrets=[modal.Secret.from_name("openai-secret")],
    retries=3,
)
def nightly_report() -> str:
    key = os.environ["OPENAI_API_KEY"]
    volume.reload()  # the dataset may have been refreshed since this worker started
    with DATA.open(newline="") as file:
        total = sum(int(visits) for _, visits in csv.reader(file))
    day = datetime.now(timezone.utc).date().isoformat()
    path = Path("/data/reports", f"{day}.txt")
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{total} visits\n")
    print(f"wrote {path} (would ask a model to comment on it, with a key of {len(key)} characters)")
    return str(path)


@app.local_entrypoint()
def main():
    refresh_dataset.remote()
    nightly_report.remote()
    print("in the volume:", [entry.path for entry in volume.iterdir("/") if entry.path.endswith((".csv", ".txt"))])
