"""The first example: one function, run here, in a worker, and over many inputs at once.

    cloudfn run examples/hello.py
    cloudfn run examples/hello.py --count 200

What the function prints, on either stream, appears in your terminal while it runs.
"""

import sys

import cloudfn

app = cloudfn.App("hello")


@app.function()
def square(x: int) -> int:
    if x % 2:
        print(f"{x} is odd")
    else:
        print(f"{x} is even", file=sys.stderr)
    return x * x


@app.local_entrypoint()
def main(count: int = 20) -> None:
    print("here:", square.local(3))
    print("in a worker:", square.remote(4))
    print(f"sum of {count} squares: {sum(square.map(range(count)))}")
