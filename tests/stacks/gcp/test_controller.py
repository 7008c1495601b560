"""The controller as it is packed for Google's functions."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zipfile
from pathlib import Path

from cloudfn_stacks import archive
from cloudfn_stacks.gcp.controller import HANDLER, TICK
from hypothesis import given
from hypothesis import strategies as st

RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
import main

class Request:
    def __init__(self, text):
        self.text = text
    def get_json(self, silent):
        try:
            return json.loads(self.text)
        except ValueError:
            return None

print(json.dumps([main.handle(Request(text)) for text in sys.argv[2:]]))
"""


def answers(folder: Path, *requests: str) -> list[tuple[dict[str, object], int]]:
    """From a Python that has the standard library and the zip, and nothing else."""
    code = archive.zipped(archive.controller_files(HANDLER, "main.py"))
    path = folder / "code.zip"
    path.write_bytes(code)
    with zipfile.ZipFile(path) as packed:
        packed.extractall(folder / "code")
    command = [sys.executable, "-I", "-S", "-c", RUN, str(folder / "code"), *requests]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [(json.loads(body), status) for body, status, _ in json.loads(done.stdout)]


def test_answers_alone(tmp_path: Path) -> None:
    tick = base64.b64decode(TICK).decode()
    health, ticked, unknown, broken, listed = answers(tmp_path, '{"kind": "health"}', tick, '{"kind": "x"}', "{", "[]")
    assert health[0]["ok"] is True and health[1] == 200
    assert ticked[0]["ok"] is True and ticked[1] == 200
    assert unknown[1] == 400 and unknown[0]["error"]["type"] == "UnknownRequest"  # type: ignore[index]
    assert broken[1] == 400 and listed[1] == 400
    assert broken[0]["error"]["type"] == "InvalidRequest"  # type: ignore[index]


@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5}){0,2}\.py", fullmatch=True), st.binary(max_size=50)))
def test_the_same_files_make_the_same_bytes(files: dict[str, bytes]) -> None:
    turned = dict(reversed(list(files.items())))
    assert archive.zipped(files) == archive.zipped(turned)


def test_other_code_has_another_name() -> None:
    assert archive.digest(archive.zipped({"a.py": b"1"})) != archive.digest(archive.zipped({"a.py": b"2"}))


def test_it_is_kept_where_the_engine_finds_it(cache_dir: Path) -> None:
    data = archive.zipped({"a.py": b"x = 1\n"})
    path = archive.kept(data)
    assert path.is_relative_to(cache_dir) and path.read_bytes() == data
    assert archive.kept(data) == path
