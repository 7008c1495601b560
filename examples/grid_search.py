"""A grid search: each point of the grid is one call, in an image that has scikit-learn and this machine need not.

    cloudfn run examples/grid_search.py
    cloudfn run examples/grid_search.py --folds 5

A support vector machine learns scikit-learn's 1,797 digits; the best point is then measured on digits held back.
"""

from typing import NamedTuple

import cloudfn

image = cloudfn.Image.debian_slim().uv_pip_install("scikit-learn")
app = cloudfn.App("grid-search", image=image)

with image.imports():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import cross_val_score, train_test_split
    from sklearn.svm import SVC

C_VALUES = (0.1, 1.0, 10.0)
GAMMAS = (1e-4, 1e-3, 1e-2)


class Point(NamedTuple):
    c: float
    gamma: float
    score: float


@app.function()
def evaluate(c: float, gamma: float, folds: int) -> Point:
    """Mean accuracy over `folds` folds of the three quarters of the digits that the search may see."""
    train_x, _, train_y, _ = split()
    return Point(c, gamma, float(cross_val_score(SVC(C=c, gamma=gamma), train_x, train_y, cv=folds).mean()))


@app.function()
def final_accuracy(c: float, gamma: float) -> float:
    """Accuracy on the quarter that no search has seen."""
    train_x, test_x, train_y, test_y = split()
    return float(SVC(C=c, gamma=gamma).fit(train_x, train_y).score(test_x, test_y))


def split() -> list:
    digits = load_digits()
    return train_test_split(digits.data, digits.target, random_state=0, stratify=digits.target)


@app.local_entrypoint()
def main(folds: int = 3) -> None:
    grid = [(c, gamma, folds) for c in C_VALUES for gamma in GAMMAS]
    points = list(evaluate.starmap(grid))
    best = max(points, key=lambda point: point.score)
    print(f"{'C':>8} {'gamma':>8} {'accuracy':>9}")
    for point in points:
        print(f"{point.c:>8g} {point.gamma:>8g} {point.score:>9.4f}{'  <- best' if point is best else ''}")
    print(f"best: C={best.c:g} gamma={best.gamma:g}")
    print(f"accuracy on digits never seen: {final_accuracy.remote(best.c, best.gamma):.4f}")
