"""The smallest app: a function, and what starts it.

cloudfn run examples/process_data.py
"""

import cloudfn as modal

app = modal.App("my-app")


@app.function()
def process_data(x):
    return x * 2


@app.local_entrypoint()
def main():
    result = process_data.remote(21)
    print(result)  # 42
