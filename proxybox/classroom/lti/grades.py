"""Sends grades to a platform (Assignment and Grade Services), until the platform has accepted them.

https://www.imsglobal.org/spec/lti-ags/v2p0 (section 3.4), https://www.imsglobal.org/spec/security/v1p0 (section 4.1)
"""

import datetime
import os
import secrets
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import httpx
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from proxybox.classroom.lti.launches import MOST_ANSWER, SCORE
from proxybox.classroom.lti.platforms import Platform
from proxybox.policies.errors import ProxyboxError

#: Seconds for which our signatures are valid, and the seconds before a token's end at which a new one is requested.
_HOLDS, _EARLY = 300, 60.0
#: The number of points for a share of 1.
MAXIMUM: Final = 100
_MEDIA_TYPE: Final = "application/vnd.ims.lis.v1.score+json"


class NotTaken(ProxyboxError):
    """A platform has not accepted a grade. for_good: it will not accept it later, either."""

    def __init__(self, why: str, *, for_good: bool = False) -> None:
        super().__init__(why)
        self.for_good = for_good


class OwnKey:
    """Our key, by which platforms identify us, in a file of the class's folder."""

    def __init__(self, path: Path) -> None:
        """Reads the key, or makes one. Raises OSError, and ValueError for an invalid file."""
        if not path.exists():
            made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            pem = made.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            new = path.with_name(f".{path.name}.new")
            with open(os.open(new, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(pem)
            new.rename(path)
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError(f"{path}: want an RSA key")
        self._key = key
        body: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        self.id = str(body["n"])[:16]
        self.public = {"keys": [{**body, "kid": self.id, "alg": "RS256", "use": "sig"}]}

    def sign(self, claims: dict[str, Any]) -> str:
        """Returns a token with these claims."""
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self.id})


class Grades:
    """Sends grades to platforms."""

    def __init__(self, key: OwnKey, client: httpx.AsyncClient) -> None:
        self._key, self._client = key, client
        self._tokens: dict[str, tuple[float, str]] = {}

    async def bring(self, platform: Platform, line: str, user: str, share: float, at: float) -> None:
        """Sends a grade. share: of all points, 0 to 1. at: when it was given, since the epoch. Raises NotTaken.

        A platform keeps the grade with the latest time: so a grade that was given again replaces the earlier one.
        """
        when = datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="milliseconds")
        score = {
            "userId": user, "scoreGiven": round(MAXIMUM * share, 2), "scoreMaximum": MAXIMUM, "timestamp": when,
            "activityProgress": "Submitted", "gradingProgress": "FullyGraded",
        }  # fmt: skip
        parts = urlsplit(line)
        url = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/scores"))
        try:
            token = await self._token(platform)
            headers = {"Authorization": f"Bearer {token}", "Content-Type": _MEDIA_TYPE}
            answer = await self._client.post(url, json=score, headers=headers)
        except httpx.HTTPError as error:
            raise NotTaken(f"it cannot be reached: {type(error).__name__}") from error
        if answer.is_success:
            return
        if answer.status_code == 401:
            self._tokens.pop(platform.name, None)
        lasting = answer.status_code in (400, 403, 404, 405, 409, 415, 422)  # 409: the platform has a later grade
        raise NotTaken(f"it answered with {answer.status_code}", for_good=lasting)

    async def _token(self, platform: Platform) -> str:
        until, token = self._tokens.get(platform.name, (0.0, ""))
        if until > time.monotonic():
            return token
        now = int(time.time())
        claims = {
            "iss": platform.client_id, "sub": platform.client_id,
            "aud": platform.auth_audience or platform.auth_token_url,
            "iat": now, "exp": now + _HOLDS, "jti": secrets.token_urlsafe(16),
        }  # fmt: skip
        asked = {
            "grant_type": "client_credentials", "scope": SCORE, "client_assertion": self._key.sign(claims),
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        }  # fmt: skip
        answer = await self._client.post(platform.auth_token_url, data=asked)
        if not answer.is_success or len(answer.content) > MOST_ANSWER:
            raise NotTaken(f"it gave no token: {answer.status_code}")
        try:
            body = answer.json()
            token, lasts = str(body["access_token"]), float(body.get("expires_in", 60))
        except (ValueError, KeyError, TypeError) as error:
            raise NotTaken("it gave no token that can be read") from error
        self._tokens[platform.name] = time.monotonic() + lasts - _EARLY, token
        return token
