"""The controller's bucket: S3, with conditional writes. Packed with the controller; needs boto3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Somebody else wrote first; or at the same time; or what was read has been deleted since.
_LOST = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409")
_ABSENT = ("NoSuchKey", "404")


class Bucket:
    """See `cloudfn.controller_run.Store`."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def read(self, name: str) -> tuple[bytes, str] | None:
        try:
            found = self._client.get_object(Bucket=self._bucket, Key=name)
        except ClientError as error:
            if _code(error) in _ABSENT:
                return None
            raise
        return found["Body"].read(), found["ETag"]

    def write(self, name: str, data: bytes, tag: str | None) -> bool:
        try:
            if tag is None:
                self._client.put_object(Bucket=self._bucket, Key=name, Body=data, IfNoneMatch="*")
            else:
                self._client.put_object(Bucket=self._bucket, Key=name, Body=data, IfMatch=tag)
        except ClientError as error:
            if _code(error) in _LOST:
                return False
            raise
        return True

    def put(self, name: str, data: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=name, Body=data)

    def delete(self, name: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=name)

    def tags(self, prefix: str) -> Mapping[str, str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", ())}


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
