"""Who is who in a room's account: keys that it issued, requests signed with them, and machines' signed papers."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import threading
from dataclasses import dataclass, replace
from typing import Any, Mapping

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID
from moto.core import DEFAULT_ACCOUNT_ID
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

SKEW = datetime.timedelta(minutes=5)
"""What AWS allows between a request's own time and its arrival."""


class Refused(Exception):
    """A request that AWS would not let through.

    Attributes:
        code: AWS's name for it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Principal:
    """Somebody with keys.

    Attributes:
        user_id: "AROA...:i-0123" for a machine.
        role: the role's name; "" for a user.
        user: the user's name; "" for a role.
    """

    access_key: str
    secret: str
    token: str
    user_id: str
    arn: str
    role: str
    user: str
    expires: datetime.datetime | None

    @property
    def expired(self) -> bool:
        return self.expires is not None and self.expires < _now()

    @property
    def environment(self) -> dict[str, str]:
        """For boto3."""
        found = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret}
        return {**found, "AWS_SESSION_TOKEN": self.token} if self.token else found


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


class Keys:
    """All keys that the room gave out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Principal] = {}

    def user(self, name: str, policies: Mapping[str, Mapping[str, Any]]) -> Principal:
        """A new user of the account, with inline policies by name."""
        iam = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
        user = iam.create_user("us-east-1", name)
        for policy, document in policies.items():
            iam.put_user_policy(name, policy, json.dumps(document))
        key = iam.create_access_key(name, prefix="AKIA")
        return self._keep(
            Principal(key.access_key_id, key.secret_access_key, "", user.id, user.arn, "", user.name, None)
        )

    def role(self, arn: str, session: str, seconds: int = 3600) -> Principal:
        """Keys of a role; `session` comes after the colon of `user_id`."""
        sts = sts_backends[DEFAULT_ACCOUNT_ID]["aws"]
        made = sts.assume_role("us-east-1", session, arn, "", seconds, "")
        expires = made.expiration.replace(tzinfo=datetime.timezone.utc)
        return self._keep(
            Principal(
                made.access_key_id,
                made.secret_access_key,
                made.session_token,
                made.user_id,
                made.arn,
                arn.rpartition("/")[2],
                "",
                expires,
            )
        )

    def _keep(self, principal: Principal) -> Principal:
        with self._lock:
            self._known[principal.access_key] = principal
        return principal

    def find(self, access_key: str) -> Principal | None:
        with self._lock:
            return self._known.get(access_key)

    def expire(self, user_id: str) -> None:
        """What this one holds is worth nothing from now on."""
        with self._lock:
            for key, principal in self._known.items():
                if principal.user_id == user_id:
                    self._known[key] = replace(principal, expires=_now() - datetime.timedelta(seconds=1))

    def verify(self, method: str, url: str, headers: Mapping[str, str], body: bytes, service: str) -> Principal:
        """Who signed a request, with AWS Signature Version 4, in its headers.

        Raises:
            Refused: nobody whom we know, or too late, or not this very request.
        """
        known = {name.lower(): value for name, value in headers.items()}
        scheme, _, rest = known.get("authorization", "").partition(" ")
        if scheme != "AWS4-HMAC-SHA256":
            raise Refused("MissingAuthenticationToken", "Missing Authentication Token")
        parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
        key, _, scope = parts.get("Credential", "").partition("/")
        principal = self.find(key)
        if principal is None:
            raise Refused("UnrecognizedClientException", "The security token included in the request is invalid.")
        if principal.expired:
            raise Refused("ExpiredTokenException", "The security token included in the request is expired")
        if principal.token != known.get("x-amz-security-token", ""):
            raise Refused("UnrecognizedClientException", "The security token included in the request is invalid.")
        date, region, signed_for, _ = [*scope.split("/"), "", "", "", ""][:4]
        stamp = known.get("x-amz-date", "")
        try:
            at = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        except ValueError:
            raise Refused("IncompleteSignatureException", f"no valid X-Amz-Date: {stamp!r}") from None
        if abs(_now() - at) > SKEW:
            raise Refused("InvalidSignatureException", f"Signature expired: {stamp}")
        names = parts.get("SignedHeaders", "").split(";")
        if signed_for != service or date != stamp[:8] or "host" not in names:
            raise Refused("InvalidSignatureException", "Credential should be scoped to a valid region and service.")
        claimed = known.get("x-amz-content-sha256")
        if claimed not in (None, hashlib.sha256(body).hexdigest()):
            raise Refused("InvalidSignatureException", "The body is not what was signed.")
        request = AWSRequest(method, url, {name: known.get(name, "") for name in names}, body)
        request.context["timestamp"] = stamp
        signer = SigV4Auth(Credentials(principal.access_key, principal.secret), service, region)
        signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        if not hmac.compare_digest(signature, parts.get("Signature", "")):
            raise Refused(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided.",
            )
        return principal


class Notary:
    """Signs the papers that a machine's metadata shows.

    Attributes:
        certificate: PEM of the key behind `signature` and `rsa2048`. AWS publishes one for each of its regions.
    """

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ec2.amazonaws.com")])
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_now() - datetime.timedelta(days=1))
            .not_valid_after(_now() + datetime.timedelta(days=3650))
            .sign(self._key, hashes.SHA256())
        )
        self._certificate = made
        self.certificate = made.public_bytes(serialization.Encoding.PEM).decode()

    def signature(self, document: str) -> str:
        """RSA with SHA-256, base64, as at `instance-identity/signature`."""
        return base64.encodebytes(self._key.sign(document.encode(), padding.PKCS1v15(), hashes.SHA256())).decode()

    def rsa2048(self, document: str) -> str:
        """PKCS #7 with the document inside, base64 without its first and last line."""
        builder = pkcs7.PKCS7SignatureBuilder().set_data(document.encode())
        builder = builder.add_signer(self._certificate, self._key, hashes.SHA256())
        made = builder.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoCerts])
        return base64.encodebytes(made).decode()
