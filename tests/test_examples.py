"""Each program of examples/ runs as a user would run it, and says what it should."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import time
import zipfile
import zlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from storage.bucket_server import BucketServer

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


def run_example(name: str, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    return run_command("run", f"examples/{name}.py", *options, **env)


def run_command(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    line = [str(Path(sys.executable).parent / "cloudfn"), *command]
    # The longest wait is for an image's first build, which downloads packages.
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=600, env={**os.environ, **env})
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done


def lines_of(name: str, *options: str, **env: str) -> list[str]:
    return run_example(name, *options, **env).stdout.splitlines()


def test_every_example_has_a_test_and_is_listed() -> None:
    here, listed = inspect.getsource(sys.modules[__name__]), (ROOT / "examples" / "README.md").read_text()
    assert EXAMPLES
    assert [name for name in EXAMPLES if f'"{name}"' not in here] == []
    assert sorted(re.findall(r"^\| `(\w+)\.py`", listed, re.MULTILINE)) == EXAMPLES


def test_deployed() -> None:
    """`cloudfn deploy` of it, then the program that calls by name."""
    from cloudfn_local.host_place import LocalHostPlace

    python, name = sys.executable, "deployed"
    try:
        done = subprocess.run(
            [python, "-m", "cloudfn", "deploy", f"examples/{name}.py"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert "deployed deployed version 1: 2 functions" in done.stdout, done.stderr
        done = subprocess.run([python, f"examples/{name}.py"], cwd=ROOT, capture_output=True, text=True, timeout=300)
        lines = done.stdout.splitlines()
        assert lines[0] == "waited for: 3" and lines[2] == "result: 7", done.stderr
    finally:
        LocalHostPlace().stop(30.0)


def test_hello() -> None:
    done = run_example("hello", "--count", "10")
    out, err = done.stdout.splitlines(), done.stderr.splitlines()
    assert "here: 9" in out
    assert "in a worker: 16" in out
    assert "sum of 10 squares: 285" in out
    # 3 is squared here, the even 4 and then 0 to 9 in workers; nothing is lost and nothing changes its stream.
    assert sorted(line for line in out if line.endswith("is odd")) == sorted(f"{n} is odd" for n in (3, 1, 3, 5, 7, 9))
    assert sorted(line for line in err if line.endswith("is even")) == sorted(
        f"{n} is even" for n in (4, 0, 2, 4, 6, 8)
    )


def test_counter_class() -> None:
    lines = lines_of("counter_class")
    assert "one apple: 1" in lines
    assert "five more: 6" in lines
    assert "pears: 101" in lines
    assert "counted by map: [7, 8, 9]" in lines
    assert "in the end: 9 apples and 101 pears" in lines
    # Hooks run once in each worker, the last ones too, and their prints arrive.
    hooks = sorted(line for line in lines if "opened" in line or "closed" in line)
    assert hooks == ["apples: closed at 9", "apples: opened at 0", "pears: closed at 101", "pears: opened at 100"]


def test_streams() -> None:
    lines = lines_of("streams", "--start", "4")
    assert [line for line in lines if line.startswith("countdown:")] == [f"countdown: {n}" for n in (4, 3, 2, 1)]
    assert "an async generator, read by blocking code: ['works', 'as', 'well']" in lines
    assert "an async function, called by blocking code: 8" in lines
    assert "awaited: 42" in lines
    assert "gathered: [0, 2, 4, 6, 8]" in lines
    assert "mapped: [0, 2, 4, 6, 8]" in lines
    assert "streamed: ['one', 'at', 'a', 'time']" in lines


def test_spawn_gather(tmp_path: Path) -> None:
    attempts = tmp_path / "attempts"
    lines = lines_of("spawn_gather", "--attempts-file", str(attempts))
    assert "gathered: [0, 1, 8, 27, 64, 125]" in lines
    assert "found again by its id: 27" in lines
    assert "flaky: worked at attempt 3" in lines
    assert "attempts counted: 3" in lines
    # One first attempt and three retries more, each counted by the file itself.
    assert attempts.read_text() == "x" * 7
    assert "out of retries: attempt 7 failed" in lines
    assert "not done after 0.2 s" in lines
    assert any(line.startswith("cancelled: ") for line in lines)
    assert "ended early: True" in lines


def test_nested() -> None:
    lines = lines_of("nested", "--depth", "5")
    assert "sum of squares: 285" in lines
    assert "factorial: 120" in lines
    assert "nodes of a tree of depth 5: 63" in lines


def test_batching() -> None:
    lines = lines_of("batching")
    assert "each word has its own answer: True" in lines
    assert "guests that met: 10" in lines
    (largest,) = (int(line.split(": ")[1]) for line in lines if line.startswith("largest batch"))
    assert 1 < largest <= 8


def test_grid_search() -> None:
    lines = lines_of("grid_search")
    rows = [line.split() for line in lines if re.match(r"\s+[\d.]+\s+[\d.e-]+\s+0\.\d{4}", line)]
    assert len(rows) == 9
    (best,) = (row for row in rows if row[-1] == "best")
    assert float(best[2]) == max(float(row[2]) for row in rows) > 0.95
    assert f"best: C={best[0]} gamma={best[1]}" in lines
    (accuracy,) = (float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("accuracy on digits never seen"))
    assert accuracy > 0.95


@pytest.fixture
def mixed_folder(tmp_path: Path) -> Path:
    """Real files of known kinds, some in a folder below, and a link that must not be counted."""
    root = tmp_path / "mixed"
    (root / "below").mkdir(parents=True)
    for module in (json, textwrap, zipfile):
        source = Path(inspect.getsourcefile(module) or "")
        shutil.copyfile(source, root / f"{module.__name__}_copy")  # no suffix: the content must tell
    (root / "data.json").write_text(json.dumps({"numbers": list(range(100)), "deep": {"x": None}}, indent=2))
    (root / "page").write_text(
        "<!DOCTYPE html>\n<html><head><title>Hi</title></head><body><p>Hello</p></body></html>\n"
    )
    (root / "below" / "picture").write_bytes(png())
    with zipfile.ZipFile(root / "below" / "packed", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("hello.txt", "hello " * 1000)
    shutil.copyfile(shutil.which("ls") or "/bin/ls", root / "below" / "program")
    (root / "nothing").touch()
    (root / "link").symlink_to(root / "page")
    return root


def png() -> bytes:
    """A grey picture of 64 by 64 pixels."""

    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)
    pixels = b"".join(b"\0" + bytes((x * y) % 256 for x in range(64)) for y in range(64))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(pixels)) + part(b"IEND", b"")


def test_classify_files(mixed_folder: Path) -> None:
    lines = lines_of("classify_files", "--folder", str(mixed_folder), "--workers", "2", "--chunk", "2")
    assert f"9 of the 9 files under {mixed_folder.resolve()}" in lines
    rows = [line.split() for line in lines if re.fullmatch(r"\S+\s+\d+\s+[\d.]+%\s+[\d,]+", line)]
    program = "elf" if sys.platform == "linux" else "macho"
    expected = {"python": 3, "json": 1, "html": 1, "png": 1, "zip": 1, program: 1, "empty": 1}
    assert {row[0]: int(row[1]) for row in rows} == expected
    total = sum(path.stat().st_size for path in mixed_folder.rglob("*") if path.is_file() and not path.is_symlink())
    assert sum(int(row[3].replace(",", "")) for row in rows) == total
    text = "\n".join(lines)
    one = re.search(r"^1 worker: (\d+) files/s on a sample of 9 files$", text, re.M)
    two = re.search(r"^2 workers: (\d+) files/s on the same sample$", text, re.M)
    gain = re.search(r"^speed-up: ([\d.]+) with 2 workers on \d+ cores?$", text, re.M)
    assert one and two and gain
    assert float(gain[1]) == pytest.approx(int(two[1]) / int(one[1]), rel=0.2)
    assert re.search(r"^9 files in [\d.]+ s: \d+ files/s on 2 workers$", text, re.M)
    # A pipe gets plain lines, the last of them at the end, and no terminal codes.
    assert "classified 9 of 9 files" in lines
    assert "\x1b" not in text


def test_classify_files_says_when_a_folder_has_no_files(tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).parent / "cloudfn"),
        "run",
        "examples/classify_files.py",
        "--folder",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert f"no files under {tmp_path.resolve()}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.machine
@pytest.mark.slow
def test_train_on_volume() -> None:
    first = lines_of("train_on_volume", "--rows", "2000")
    assert first[:2] == ["prepared", "model in /data/models/line.json"]
    assert first[2] == "in the volume: ['models/line.json', 'penguins.csv']"
    masses = [int(re.sub(r"[^0-9]", "", line.partition(":")[2])) for line in first[3:]]
    assert 3000 < masses[0] < 3400 and 5500 < masses[1] < 5800
    again = lines_of("train_on_volume", "--rows", "2000")
    assert again == ["prepared before", *first[1:]]


def test_work_queue() -> None:
    lines = lines_of("work_queue", "--pages", "60")
    assert lines == ["60 pages seen, 60 visited or left to visit", "all of them: True"]


def test_process_data() -> None:
    assert lines_of("process_data") == ["42"]


def test_train_model(tmp_path: Path) -> None:
    table = tmp_path / "flats.csv"
    table.write_text("area,rent\n10,100\n20,150\n30,200\n")
    lines = lines_of("train_model", "--data-path", str(table))
    assert sorted(lines) == ["3 flats: rent = 50.00 + 5.00 * area", "model_trained"]
    assert "model_trained" in lines_of("train_model")


@pytest.mark.slow
def test_text_generation() -> None:
    """A script by itself: its function's code goes to the worker by value, and its run ends with the script."""
    name = "text_generation"
    command = [sys.executable, f"examples/{name}.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    prompt = "The future of AI is"
    assert done.stdout.startswith(prompt)
    words = re.findall(r"[A-Za-z]{2,}", done.stdout.removeprefix(prompt))
    assert len(words) > 10, done.stdout


@pytest.mark.slow
def test_llm_server() -> None:
    done = run_example("llm_server", "--prompt", "The capital of France is")
    assert done.stdout.splitlines().count("model loaded") == 1
    assert "The capital of France is Paris" in done.stdout
    assert "this machine has no GPU (A10 asked for)" in done.stderr


@pytest.mark.machine
@pytest.mark.slow
def test_nightly_report() -> None:
    from cloudfn_local.host_place import LocalHostPlace

    key = "sk-never-shown"
    run_command("secret", "create", "openai-secret", f"OPENAI_API_KEY={key}")
    done = run_example("nightly_report")
    lines = done.stdout.splitlines()
    assert any(line.endswith(f"with a key of {len(key)} characters)") for line in lines)
    assert any(re.fullmatch(r"in the volume: \['reports/\d{4}-\d\d-\d\d.txt', 'visits.csv'\]", line) for line in lines)
    assert key not in done.stdout + done.stderr
    try:
        assert "2 functions" in run_command("deploy", "examples/nightly_report.py").stdout
        plan = run_command("app", "schedule", "nightly-report").stdout
        assert "nightly-report.nightly_report: Cron('0 2 * * *', timezone='UTC')" in plan
        assert len(re.findall(r"^  \w{3} \d{4}-\d\d-\d\d 02:00:00 UTC", plan, re.MULTILINE)) == 5
        assert "nightly-report.refresh_dataset: Period(hours=24)" in plan
    finally:
        LocalHostPlace().stop(30.0)


@pytest.mark.machine
@pytest.mark.slow
def test_bucket_to_volume() -> None:
    server = BucketServer()
    try:
        s3 = server.client()
        s3.create_bucket(Bucket="holidays")
        for name in ("beach.png", "hill.png"):
            s3.put_object(Bucket="holidays", Key=f"photos/{name}", Body=png())
        keys = [f"{name}={value}" for name, value in server.user("ann", "s3:*").items()]
        run_command("secret", "create", "bucket-keys", *keys)
        lines = lines_of("bucket_to_volume", BUCKET_URL=server.url)
        assert lines == ["2 pictures", "thumbnails: ['beach.png', 'hill.png']"]
        index = json.loads(s3.get_object(Bucket="holidays", Key="index.json")["Body"].read())
        assert index == {"beach.png": [64, 64], "hill.png": [64, 64]}
    finally:
        server.close()


def url_in(text: str, function: str) -> str:
    """The URL that a command has printed for a web function, as one that needs no names of hosts."""
    url = next(
        line.partition(": ")[2].strip() for line in text.splitlines() if line.strip().startswith(f"{function}: ")
    )
    parts = urlsplit(url)
    assert parts.hostname
    return url if parts.hostname == "127.0.0.1" else f"http://127.0.0.1:{parts.port}/{parts.hostname.partition('.')[0]}"


@pytest.mark.slow
def test_llm_server_answers_a_post() -> None:
    command = [sys.executable, "-m", "cloudfn", "serve", "--port", "0", "examples/llm_server.py"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as serving:
        try:
            assert serving.stdout
            url = url_in(serving.stdout.readline(), "inference_endpoint")
            request = {"prompt": "The capital of France is"}
            answer = httpx.post(url, json=request, timeout=300, trust_env=False)
            assert answer.status_code == 200 and answer.json()["response"].startswith("Paris")
            assert httpx.get(url, timeout=300, trust_env=False).status_code == 405
        finally:
            serving.send_signal(signal.SIGINT)


class NotesService:
    """The deployed example, asked over HTTP, and its host."""

    def __init__(self, text: str, place: Any) -> None:
        self.url = url_in(text, "web")
        self.place = place

    def ask(self, method: str, path: str, text: str | None = None) -> tuple[int, str]:
        headers = {"Content-Type": "text/plain"}
        answer = httpx.request(method, self.url + path, content=text, headers=headers, timeout=300, trust_env=False)
        return answer.status_code, answer.text

    def end(self) -> None:
        """kill -9 of the host, of its agent and of the workers: of everything at once, as a power cut would."""
        host = psutil.Process(self.place._pid())
        family = [host, *host.children(recursive=True)]
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=60)

    def start_after_a_night(self) -> None:
        """As if the machine had been off since yesterday."""
        path = Path(self.place.name) / "schedules.json"
        schedules = json.loads(path.read_text())
        for entry in schedules:
            entry["anchor"] = (datetime.fromisoformat(entry["anchor"]) - timedelta(days=1)).isoformat()
        path.write_text(json.dumps(schedules))
        run_command("host", "start")


@pytest.mark.machine
@pytest.mark.slow
def test_notes_service() -> None:
    """It answers HTTP, works at night, keeps its files, and is still right after everything was killed."""
    from cloudfn_local.host_place import LocalHostPlace

    name, place = "notes_service", LocalHostPlace()
    try:
        service = NotesService(run_command("deploy", f"examples/{name}.py").stdout, place)
        assert service.ask("PUT", "/notes/groceries", "bread and tea") == (200, "kept\n")
        assert service.ask("PUT", "/notes/todo", "water the plants") == (200, "kept\n")
        assert service.ask("GET", "/notes/groceries") == (200, "bread and tea")
        assert service.ask("GET", "/notes/nothing")[0] == 404
        assert service.ask("PUT", "/notes/..%2Fdigest.txt", "mine")[0] in (404, 422)
        assert service.ask("GET", "/digest")[0] == 404  # the night is still to come
        service.end()
        run_command("host", "start")
        assert service.ask("GET", "/notes/groceries") == (200, "bread and tea")
        assert service.ask("PUT", "/notes/groceries", "bread, tea and jam") == (200, "kept\n")
        service.end()
        service.start_after_a_night()
        deadline = time.monotonic() + 120
        while (found := service.ask("GET", "/digest"))[0] == 404 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert found == (200, "2 notes, 7 words\n")
        assert service.ask("GET", "/notes/groceries") == (200, "bread, tea and jam")
        assert "notes-service version 2" in run_command("deploy", f"examples/{name}.py").stdout
        assert service.ask("GET", "/notes/todo") == (200, "water the plants")
        listed = run_command("volume", "ls", "notes-service", "notes").stdout.split()
        assert listed == ["notes/groceries", "notes/todo"]
    finally:
        place.stop(30.0)
