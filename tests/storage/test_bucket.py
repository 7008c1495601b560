"""CloudBucketMount: rclone and FUSE for real, against a server that speaks S3."""

from __future__ import annotations

import json
from typing import Iterator

import pytest
from project_folder import Folder

import cloudfn
from cloudfn.exception import InvalidError, UnimplementedError
from storage.bucket_server import BucketServer


@pytest.fixture
def server() -> Iterator[BucketServer]:
    made = BucketServer()
    yield made
    made.close()


HEAD = """
import json, os
import cloudfn

app = cloudfn.App("demo")
url = os.environ.get("BUCKET_URL")
keys = json.loads(os.environ.get("BUCKET_KEYS", "{}"))
secret = cloudfn.Secret.from_dict(keys)


def bucket(name="data", **more):
    return cloudfn.CloudBucketMount(name, bucket_endpoint_url=url, secret=secret, **more)
"""


def run(folder: Folder, server: BucketServer, keys: dict[str, str], text: str, code: int = 0) -> tuple[str, str]:
    folder.write("app.py", text, before=HEAD)
    return folder.run("app.py", code=code, BUCKET_URL=server.url, BUCKET_KEYS=json.dumps(keys))


@pytest.mark.machine
@pytest.mark.slow
def test_read_and_write(folder: Folder, server: BucketServer) -> None:
    s3 = server.client()
    s3.create_bucket(Bucket="data")
    # Without versions this server answers an upload with a version that it then refuses to look up.
    s3.put_bucket_versioning(Bucket="data", VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket="data", Key="top.txt", Body=b"top")
    s3.put_object(Bucket="data", Key="in/a.txt", Body=b"a")
    keys = server.user("ann", "s3:*")
    server.lock()
    out, err = run(
        folder,
        server,
        keys,
        """
        @app.function(volumes={"/all": bucket(), "/in": bucket(key_prefix="in/"), "/fixed": bucket(read_only=True)})
        def use():
            said = [f"{sorted(os.listdir('/all'))} {os.listdir('/in')} {open('/all/in/a.txt').read()}"]
            with open("/in/b.bin", "wb") as file:
                for number in range(20):
                    file.write(bytes([number]) * (1 << 20))
            os.remove("/all/top.txt")
            try:
                open("/fixed/x", "w")
            except OSError as error:
                said.append(error.strerror)
            rclones = [line for line in map(command_line, os.listdir("/proc")) if "rclone" in line]
            return [*said, f"{len(rclones)} {any(secret_key in line for line in rclones)}"]

        def command_line(pid):
            try:
                return open(f"/proc/{pid}/cmdline").read()
            except OSError:  # it has ended, or is no process
                return ""

        secret_key = keys.get("AWS_SECRET_ACCESS_KEY", "-" * 9)

        @app.local_entrypoint()
        def main():
            print("\\n".join(use.remote()))
            print(os.path.exists("/all"))
        """,
    )
    lines = out.splitlines()
    assert lines[0] == "['in', 'top.txt'] ['a.txt'] a"
    assert lines[1] == "Read-only file system"
    assert lines[2].startswith("3") and lines[2].endswith("False")
    assert lines[3] == "False", "the mount is seen outside of the worker"
    for secret in keys.values():
        assert secret not in out + err
    mine = server.client("s3", keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
    found = {entry["Key"]: entry["Size"] for entry in mine.list_objects_v2(Bucket="data")["Contents"]}
    assert found == {"in/a.txt": 1, "in/b.bin": 20 << 20}


@pytest.mark.machine
@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "kind", "said"),
    [
        ("wrong key", "AuthError", "does not accept these credentials"),
        ("no right", "PermissionDeniedError", "does not let these credentials in"),
        ("no bucket", "NotFoundError", "does not exist"),
        ("no server", "ConnectionError", "cannot be reached"),
    ],
)
def test_what_is_wrong_with_a_bucket(folder: Folder, server: BucketServer, problem: str, kind: str, said: str) -> None:
    server.client().create_bucket(Bucket="data")
    keys = server.user("ann", *([] if problem == "no right" else ["s3:*"]))
    server.lock()
    if problem == "wrong key":
        keys = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "very-secret-indeed"}
    if problem == "no server":
        server.url = "http://127.0.0.1:1"
    name = "other" if problem == "no bucket" else "data"
    out, err = run(
        folder,
        server,
        keys,
        f"""
        @app.function(volumes={{"/data": bucket({name!r})}})
        def use():
            return os.listdir("/data")

        @app.local_entrypoint()
        def main():
            use.remote()
        """,
        code=1,
    )
    assert f"The bucket '{name}' {said}" in err and kind in err
    for secret in keys.values():
        assert secret not in out + err


def test_arguments() -> None:
    for wrong in ("", "a/b", "x", "../x", "-bucket", 5):
        with pytest.raises(InvalidError, match="name of a bucket"):
            cloudfn.CloudBucketMount(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match="end in '/'"):
        cloudfn.CloudBucketMount("data", key_prefix="in")
    with pytest.raises(InvalidError, match="leads out"):
        cloudfn.CloudBucketMount("data", key_prefix="../")
    with pytest.raises(InvalidError, match="secret"):
        cloudfn.CloudBucketMount("data", requester_pays=True)
    for url in ("ftp://x", "x.example", "https://user:word@x.example"):
        with pytest.raises(InvalidError, match="bucket_endpoint_url") as caught:
            cloudfn.CloudBucketMount("data", url)
        assert "word" not in str(caught.value).replace("password", "")
    with pytest.raises(UnimplementedError):
        cloudfn.CloudBucketMount("data", oidc_auth_role_arn="arn:aws:iam::1:role/x")


def test_what_rclone_is_told() -> None:
    secret = cloudfn.Secret.from_dict({"x": "y"})
    aws = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_REGION": "eu-west-1"}
    told = cloudfn.CloudBucketMount("data", secret=secret, requester_pays=True).remote(aws)
    assert (told["provider"], told["region"], told["requester_pays"]) == ("AWS", "eu-west-1", "true")
    assert told["force_path_style"] == "false" and "endpoint" not in told
    google = {"GOOGLE_ACCESS_KEY_ID": "id", "GOOGLE_ACCESS_KEY_SECRET": "key"}
    told = cloudfn.CloudBucketMount("data", "https://storage.googleapis.com", secret=secret).remote(google)
    assert (told["provider"], told["access_key_id"], told["secret_access_key"]) == ("GCS", "id", "key")
    assert "access_key_id" not in cloudfn.CloudBucketMount("public").remote({})
    with pytest.raises(InvalidError, match="lacks AWS_SECRET_ACCESS_KEY"):
        cloudfn.CloudBucketMount("data", secret=secret).remote({"AWS_ACCESS_KEY_ID": "id"})
