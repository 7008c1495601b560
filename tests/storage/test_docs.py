"""The first program of each page runs, and prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from project_folder import Folder

from storage.bucket_server import BucketServer

DOCS = Path(__file__).resolve().parents[2] / "docs"


def program(page: str) -> tuple[str, str]:
    text = (DOCS / f"{page}.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    said = re.search(r"```text\n(.*?)```", text, re.DOTALL)
    assert code and said
    return code[1], said[1]


@pytest.mark.machine
@pytest.mark.slow
@pytest.mark.parametrize("page", ["volumes", "dicts", "queues"])
def test_page(folder: Folder, page: str) -> None:
    code, said = program(page)
    folder.write("app.py", code, before="")
    assert folder.run("app.py")[0] == said


@pytest.mark.machine
@pytest.mark.slow
def test_buckets_page(folder: Folder) -> None:
    server = BucketServer()
    try:
        client = server.client()
        client.create_bucket(Bucket="reports")
        client.put_object(Bucket="reports", Key="2026/may.txt", Body=b"rainy")
        keys = [f"{name}={value}" for name, value in server.user("ann", "s3:*").items()]
        folder.run("create", "bucket-keys", *keys, command="secret")
        code, said = program("buckets")
        assert "https://s3.example.com" in code
        folder.write("app.py", code.replace("https://s3.example.com", server.url), before="")
        assert folder.run("app.py")[0] == said
        assert client.get_object(Bucket="reports", Key="2026/june.txt")["Body"].read() == b"sunny"
    finally:
        server.close()
