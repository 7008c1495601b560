"""Functions that call functions: a worker is a client too.

    cloudfn run examples/nested.py
    cloudfn run examples/nested.py --depth 6

`tree` maps over itself with one worker allowed for it: a worker that waits for inner calls lends its place, so this
ends however deep it goes.
"""

import cloudfn

app = cloudfn.App("nested")


@app.function()
def square(x: int) -> int:
    return x * x


@app.function()
def sum_of_squares(n: int) -> int:
    return sum(square.map(range(n)))


@app.function(max_containers=1)
def tree(depth: int) -> int:
    """Nodes of a binary tree with `depth` levels below its root."""
    if depth == 0:
        return 1
    return 1 + sum(tree.map([depth - 1, depth - 1]))


@app.function()
def factorial(n: int) -> int:
    return 1 if n < 2 else n * factorial.remote(n - 1)


@app.local_entrypoint()
def main(depth: int = 3) -> None:
    print("sum of squares:", sum_of_squares.remote(10))
    print("factorial:", factorial.remote(5))
    print(f"nodes of a tree of depth {depth}:", tree.remote(depth))
