"""A neural network looks into every file of a folder and says what it is.

    cloudfn run examples/classify_files.py
    cloudfn run examples/classify_files.py --folder ~/Downloads --limit 0 --workers 8

The model is magika (its package brings the weights). It is installed into an image of its own, so this machine's
Python needs nothing but cloudfn. Each worker loads the model once; `.map()` hands lists of paths to whichever worker
is free.

    --folder   what to look at (default: the Python installation's own library)
    --limit    look at this many files, spread evenly over the folder; 0 for all (default 3000)
    --workers  worker processes (default: one for each core, at least two)
    --chunk    files in one call (default 64)

Before the whole folder, a sample is timed on one worker and on all of them, both warm and both with files that were
read before, so the two figures can be compared. On a machine with one core the speed-up is about 1.
"""

import functools
import os
import stat
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import cloudfn

image = cloudfn.Image.debian_slim().uv_pip_install("magika")
app = cloudfn.App("classify-files", image=image)

with image.imports():
    import magika
    import onnxruntime


class Verdict(NamedTuple):
    label: str
    group: str
    size: int  # bytes


@app.cls(scaledown_window=30)
class Classifier:
    @cloudfn.enter()
    def load(self) -> None:
        # By itself the model's runtime takes every core in every worker, and the workers then fight for them.
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = functools.partial(onnxruntime.InferenceSession, sess_options=options)
        with mock.patch.object(onnxruntime, "InferenceSession", session):
            self.model = magika.Magika()

    @cloudfn.method()
    def classify(self, paths: list[str]) -> list[Verdict]:
        """One verdict for each path, in order. A file that cannot be read gets the label "unreadable"."""
        return [
            Verdict(str(result.output.label), result.output.group, size(path))
            if result.ok
            else Verdict("unreadable", "unknown", 0)
            for path, result in zip(paths, self.model.identify_paths(paths), strict=True)
        ]

    @cloudfn.method()
    def warm_up(self, seconds: float) -> int:
        """Run the model once, then stay busy, so that other workers get the other inputs. Returns who did it."""
        self.model.identify_bytes(b"import os\nprint(os.getcwd())\n" * 10)
        time.sleep(seconds)
        return os.getpid()


def size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def find_files(folder: Path, limit: int) -> tuple[list[str], int]:
    """Up to `limit` files spread evenly over the sorted folder (0: all), and how many there are."""
    files = sorted(str(path) for path in folder.rglob("*") if is_plain(path))
    if not limit or len(files) <= limit:
        return files, len(files)
    return [files[i * len(files) // limit] for i in range(limit)], len(files)


def chunked(items: list[str], length: int) -> list[list[str]]:
    return [items[i : i + length] for i in range(0, len(items), length)]


def warm(classifier: "Classifier", workers: int) -> int:
    """Call until `workers` different workers have answered, for a minute at most. Returns how many did."""
    seen: set[int] = set()
    deadline = time.monotonic() + 60
    while len(seen) < workers and time.monotonic() < deadline:
        seen.update(classifier.warm_up.map([0.1] * 2 * workers))
    return len(seen)


def files_per_second(classifier: "Classifier", chunks: list[list[str]]) -> float:
    began = time.perf_counter()
    done = sum(len(verdicts) for verdicts in classifier.classify.map(chunks))
    return done / (time.perf_counter() - began)


def measure_speed_up(one: "Classifier", many: "Classifier", files: list[str], workers: int) -> None:
    """Time the same files on one worker and on `workers`, with the same size of chunk, and print both figures."""
    sample = files[:: max(1, len(files) // (128 * workers))]
    chunks = chunked(sample, max(1, min(16, len(sample) // (4 * workers))))
    answered = warm(many, workers)
    warm(one, 1)
    if answered < workers:
        print(f"only {answered} of {workers} workers came up within a minute")
    files_per_second(many, chunks)  # not counted: it brings the files into memory for both that follow
    alone = files_per_second(one, chunks)
    together = files_per_second(many, chunks)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(f"1 worker: {alone:.0f} files/s on a sample of {len(sample)} files")
    print(f"{workers} workers: {together:.0f} files/s on the same sample")
    print(f"speed-up: {together / alone:.2f} with {workers} workers on {cores} core{'s' * (cores > 1)}")
    if cores < workers:
        print(f"(this machine has {cores} core{'s' * (cores > 1)}: more workers than that cannot help)")


def with_progress(results: Iterable[list[Verdict]], total: int) -> Iterable[Verdict]:
    """Pass verdicts on, with a live bar on a terminal and a line for each quarter in a pipe."""
    done = 0
    if not sys.stdout.isatty():
        for verdicts in results:
            before, done = done, done + len(verdicts)
            if done * 4 // total > before * 4 // total:
                print(f"classified {done} of {total} files", flush=True)
            yield from verdicts
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("classifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=total)
        for verdicts in results:
            progress.advance(task, len(verdicts))
            yield from verdicts


def print_table(verdicts: list[Verdict], rows: int = 25) -> None:
    counts = Counter(verdict.label for verdict in verdicts)
    sizes: Counter[str] = Counter()
    for verdict in verdicts:
        sizes[verdict.label] += verdict.size
    print(f"{'type':<20} {'files':>8} {'share':>7} {'bytes':>14}")
    common = counts.most_common()
    for label, count in common[:rows]:
        print(f"{label:<20} {count:>8} {count / len(verdicts):>7.1%} {sizes[label]:>14,}")
    if rest := common[rows:]:
        count = sum(number for _, number in rest)
        total = sum(sizes[label] for label, _ in rest)
        print(f"{f'({len(rest)} more)':<20} {count:>8} {count / len(verdicts):>7.1%} {total:>14,}")


@app.local_entrypoint()
def main(folder: str = "", limit: int = 3000, workers: int = 0, chunk: int = 64) -> None:
    root = Path(folder or sysconfig.get_path("stdlib")).expanduser().resolve()
    workers = workers or max(2, os.cpu_count() or 1)
    files, found = find_files(root, limit)
    if not files:
        sys.exit(f"no files under {root}")
    print(f"{len(files)} of the {found} files under {root}")
    one = Classifier.with_options(max_containers=1)()
    many = Classifier.with_options(max_containers=workers)()
    measure_speed_up(one, many, files, workers)

    began = time.perf_counter()
    results = many.classify.map(chunked(files, max(1, chunk)), order_outputs=False)
    verdicts = list(with_progress(results, len(files)))
    seconds = time.perf_counter() - began
    print_table(verdicts)
    print(f"{len(verdicts)} files in {seconds:.1f} s: {len(verdicts) / seconds:.0f} files/s on {workers} workers")
