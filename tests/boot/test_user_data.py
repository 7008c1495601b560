"""What a machine is told: small enough, nothing secret, and the dead-man before anything else."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess

import pytest
from cloudfn_boot import bootstrap, login, user_data

CONFIG = {
    "controller_url": f"https://{'a' * 32}.lambda-url.ap-southeast-2.on.aws/",
    "region": "ap-southeast-2",
    "bucket": "a" * 63,
    "stack": f"{'a' * 40}.{'b' * 20}",
    "group": "a100-80gb-8-spot-ap-southeast-2",
    "agent_sha256": "0" * 64,
    "shell": True,
}


def test_it_fits_and_names_the_agent() -> None:
    text = user_data.render(CONFIG)
    assert len(text.encode()) < user_data.MOST - 1000  # some room for longer names
    assert text.startswith("#cloud-boothook\n#!/bin/sh\n")
    assert json.loads(re.search(r"config.json <<'END'\n(.*)\nEND", text)[1]) == CONFIG  # type: ignore[index]
    with pytest.raises(ValueError, match="16384"):
        user_data.render({**CONFIG, "group": "x" * 4000})


def test_it_is_a_script_that_a_shell_takes_and_no_part_ends_another() -> None:
    text = user_data.render(CONFIG)
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0
    assert text.count("\nEND\n") == text.count("<<'END'")
    assert "@" not in re.sub(r"\$@|\"\$@\"", "", re.sub(r"(?s)<<'END'.*?\nEND\n", "", text))


def test_the_dead_man_comes_before_anything_that_can_fail() -> None:
    text = user_data.render({**CONFIG, "deadman": 77})
    armed = text.index("unit cloudfn-deadman ")
    for later in ("ssh-keygen", "sshd_config.d/00-cloudfn.conf", "unit cloudfn-agent "):
        assert armed < text.index(later)
    assert "-gt 77 ]" in text


def test_what_is_left_out_is_not_code() -> None:
    source = inspect.getsource(bootstrap)
    left = ast.parse(user_data.stripped(source))
    whole = ast.parse(source)
    for node in ast.walk(whole):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            del node.body[0]
    assert ast.dump(left) == ast.dump(whole)


def test_people_get_in_only_where_the_plan_says_so() -> None:
    assert "AllowUsers cloudfn cloudfn-admin\n" in user_data.render(CONFIG)
    assert "AllowUsers cloudfn\n" in user_data.render({**CONFIG, "shell": False})


def test_a_key_that_is_not_known_is_not_let_in(tmp_path: object) -> None:
    program = login._PROGRAM.format(run=str(tmp_path))
    login.write_keys(tmp_path, ["ssh-ed25519 AAAA SHA256:x", "ssh-ed25519 BBBB"])  # type: ignore[arg-type]

    def ask(*arguments: str) -> str:
        done = subprocess.run(
            ["python3", "-I", "-S", "-c", program, *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout

    assert ask("cloudfn", "ssh-ed25519", "AAAA") == (
        'restrict,port-forwarding,permitopen="127.0.0.1:7060" ssh-ed25519 AAAA\n'
    )
    assert ask("cloudfn-admin", "ssh-ed25519", "BBBB").startswith("restrict,pty")
    for wrong in (("cloudfn", "ssh-ed25519", "AAA"), ("root", "ssh-ed25519", "AAAA"), ("cloudfn", "ssh-rsa", "AAAA")):
        assert ask(*wrong) == ""
