"""Launches: a browser comes from a platform, is sent back to identify its user, and returns with a signed token.

    platform ── /lti/login ── its auth_login_url ── /lti/launch with an id_token ── a seat

https://www.imsglobal.org/spec/security/v1p0 (section 5.1), https://www.imsglobal.org/spec/lti/v1p3 (section 5),
https://www.imsglobal.org/spec/lti-dl/v2p0
"""

import asyncio
import hmac
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import attrs
import httpx
import jwt

from proxybox.classroom.lti.platforms import Platform, origin_of, to_url
from proxybox.policies.errors import PolicyError
from proxybox.serve.problems import Refusal

#: Seconds that a login may take, and the most logins at the same time.
_PATIENCE, _MOST_LOGINS = 600.0, 10_000
#: Seconds: for which a platform's keys are cached, between two requests for new keys, and by which clocks may differ.
_KEPT, _PAUSE, _LEEWAY = 3600.0, 30.0, 60
#: Seconds between two requests to a platform that did not answer: launches that waited for the first get its error.
_AGAIN: Final = 2.0
#: Bytes of a key set, and characters of a token.
MOST_ANSWER: Final = 1 << 18
_MOST_TOKEN: Final = 1 << 16
#: Seconds that a user may take to choose, and the characters of a context's id or title.
_CHOOSING, _MOST_TEXT = 3600.0, 255
#: Seconds for which the answer is valid.
_ANSWERED: Final = 300
_CLAIM: Final = "https://purl.imsglobal.org/spec/lti/claim"
_DEEP: Final = "https://purl.imsglobal.org/spec/lti-dl/claim"
_GRADES: Final = "https://purl.imsglobal.org/spec/lti-ags/claim/endpoint"
SCORE: Final = "https://purl.imsglobal.org/spec/lti-ags/scope/score"
#: Roles within a context (https://www.imsglobal.org/spec/lti/v1p3, A.2.2) of its teachers.
_ROLE: Final = "http://purl.imsglobal.org/vocab/lis/v2/membership"
_TEACHING: Final = frozenset({f"{_ROLE}#Instructor", f"{_ROLE}#Administrator"})


@attrs.frozen(kw_only=True)
class Launch:
    """A launch. user: its id on the platform. exercise: that of its link, or "". line: the URL for its grades, or "".

    context: the id of the platform's course that contains the link; it becomes a class here. Or "". title: of the
    context. is_instructor: the user teaches that course, and the platform's instructors may teach here.
    """

    platform: Platform
    user: str
    name: str
    exercise: str = ""
    line: str = ""
    context: str = ""
    title: str = ""
    is_instructor: bool = False


@attrs.frozen(kw_only=True)
class DeepLinkRequest:
    """A platform asks for a link in one of its courses (deep linking). url: where the answer goes.

    origin: of that URL; its pages may frame the page for choosing. data: is returned with the answer. takes_line: the
    link may create a column of grades.
    """

    platform: Platform
    deployment: str
    url: str
    origin: str
    data: str | None
    takes_line: bool


@attrs.frozen
class _Login:
    """A login that has begun."""

    platform: Platform
    nonce: str
    until: float


@attrs.define(eq=False)
class _KeySet:
    """The keys of a platform by their ids. at: when they were received; failed: the last failed request (monotonic).

    looking: a lock, held during a request. Launches of other platforms or with a known key do not wait for it.
    """

    keys: Mapping[str, Any] = attrs.field(factory=dict)
    at: float = -math.inf
    failed: float = -math.inf
    looking: asyncio.Lock = attrs.field(factory=asyncio.Lock)

    def has(self, identity: str) -> bool:
        """Whether it has a key that has not expired."""
        return identity in self.keys and time.monotonic() - self.at <= _KEPT


class Launches:
    """The logins that have begun, and the keys of platforms. client: for requests to platforms."""

    def __init__(self, platforms: Sequence[Platform], client: httpx.AsyncClient) -> None:
        self._platforms, self._client = platforms, client
        self._logins: OrderedDict[str, _Login] = OrderedDict()
        self._choices: OrderedDict[str, tuple[DeepLinkRequest, float]] = OrderedDict()
        self._sets = {each.key_set_url: _KeySet() for each in platforms}

    def begin(self, fields: Mapping[str, str], redirect: str) -> tuple[str, str]:
        """Begins a login; returns the URL for the browser, and the state for its cookie. Raises Refusal.

        fields: what the platform has sent. redirect: the URL of `finish`.
        """
        platform = self._platform(fields.get("iss", ""), fields.get("client_id"))
        state, nonce = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self._logins[state] = _Login(platform, nonce, time.monotonic() + _PATIENCE)
        while len(self._logins) > _MOST_LOGINS:
            self._logins.popitem(last=False)
        asked = {
            "scope": "openid", "response_type": "id_token", "response_mode": "form_post", "prompt": "none",
            "client_id": platform.client_id, "redirect_uri": redirect, "state": state, "nonce": nonce,
            "login_hint": fields.get("login_hint", ""),
        }  # fmt: skip
        if hint := fields.get("lti_message_hint"):
            asked["lti_message_hint"] = hint
        mark = "&" if "?" in platform.auth_login_url else "?"
        return f"{platform.auth_login_url}{mark}{urlencode(asked)}", state

    def _platform(self, issuer: str, client: str | None) -> Platform:
        known = [each for each in self._platforms if each.issuer == issuer]
        fitting = [each for each in known if client in (None, "", each.client_id)]
        if len(fitting) != 1:
            raise Refusal("forbidden", "This classroom takes no launches from there.")
        return fitting[0]

    def offer(self, choice: DeepLinkRequest) -> str:
        """Stores a request for a link, and returns a word for it; `chosen` takes it, once."""
        word = secrets.token_urlsafe(24)
        self._choices[word] = choice, time.monotonic() + _CHOOSING
        while len(self._choices) > _MOST_LOGINS:
            self._choices.popitem(last=False)
        return word

    def chosen(self, word: str) -> DeepLinkRequest:
        """Returns the request for a link that `offer` has stored. Raises Refusal."""
        choice, until = self._choices.pop(word, (None, 0.0))
        if choice is None or until < time.monotonic():
            raise Refusal("forbidden", "This page is too old, or was used before. Choose once more in the course.")
        return choice

    async def finish(self, state: str, kept: str | None, token: str) -> Launch | DeepLinkRequest:
        """Returns the signed launch or request, once. kept: the state in the browser's cookie. Raises Refusal."""
        login = self._logins.pop(state, None)
        if login is None or login.until < time.monotonic():
            raise Refusal("forbidden", "This launch is too old, or was used before. Open the link once more.")
        if kept is None or not hmac.compare_digest(kept.encode(), state.encode()):
            raise Refusal("forbidden", "This launch began in another browser, or its cookies are blocked.")
        claims = await self._claims(login.platform, token)
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode("utf-8", "replace"), login.nonce.encode()):
            raise _not_believed("its nonce is another one")
        return _message(login.platform, claims)

    async def _claims(self, platform: Platform, token: str) -> dict[str, Any]:
        if len(token) > _MOST_TOKEN:
            raise _not_believed("it is too long")
        try:
            key = await self._key(platform, str(jwt.get_unverified_header(token).get("kid", "")))
            claims: dict[str, Any] = jwt.decode(
                token, key, algorithms=["RS256"], audience=platform.client_id, issuer=platform.issuer, leeway=_LEEWAY,
                options={"require": ["exp", "iat", "iss", "aud", "sub", "nonce"]},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            raise _not_believed(str(error)) from None
        audience = claims["aud"]
        is_for_others = isinstance(audience, list) and len(audience) > 1
        if claims.get("azp", platform.client_id) != platform.client_id or (is_for_others and "azp" not in claims):
            raise _not_believed("it is for another tool")
        return claims

    async def _key(self, platform: Platform, identity: str) -> Any:
        """The platform's key with this id. Unknown keys are requested again after some time."""
        known = self._sets[platform.key_set_url]
        if not known.has(identity):
            async with known.looking:
                if not known.has(identity) and time.monotonic() - known.at > _PAUSE:
                    await self._look(platform.key_set_url, known)
        if not known.has(identity):
            raise _not_believed("the platform has no such key")
        return known.keys[identity]

    async def _look(self, url: str, known: _KeySet) -> None:
        if time.monotonic() - known.failed < _AGAIN:
            raise Refusal("not-ready", "The platform's keys cannot be had at the moment. Open the link once more.")
        try:
            known.keys = await self._fetch(url)
        except Refusal:
            known.failed = time.monotonic()
            raise
        known.at = time.monotonic()

    async def _fetch(self, url: str) -> dict[str, Any]:
        try:
            answer = await self._client.get(url)
            answer.raise_for_status()
            if len(answer.content) > MOST_ANSWER:
                raise ValueError("too large")
            fields = jwt.PyJWKSet.from_dict(answer.json())
        except (httpx.HTTPError, ValueError, jwt.PyJWTError, AttributeError) as error:
            raise Refusal("not-ready", f"The platform's keys cannot be had: {type(error).__name__}.") from error
        return {str(each.key_id): each.key for each in fields.keys if each.key_type == "RSA"}


def _message(platform: Platform, claims: Mapping[str, Any]) -> Launch | DeepLinkRequest:
    """The launch or request in the claims of a token. Raises Refusal."""
    if claims.get(f"{_CLAIM}/deployment_id") not in platform.deployments:
        raise _not_believed("its deployment is not in the list")
    if claims.get(f"{_CLAIM}/version") != "1.3.0":
        raise _not_believed("it is of another version of LTI")
    kind = claims.get(f"{_CLAIM}/message_type")
    if kind == "LtiDeepLinkingRequest":
        return _choice(platform, claims)
    if kind != "LtiResourceLinkRequest":
        raise Refusal("invalid", "The platform asks for something that this classroom does not know.")
    return _launch(platform, claims)


def _choice(platform: Platform, claims: Mapping[str, Any]) -> DeepLinkRequest:
    settings = claims.get(f"{_DEEP}/deep_linking_settings")
    if not isinstance(settings, dict) or "ltiResourceLink" not in _list(settings, "accept_types"):
        raise Refusal("invalid", "The platform takes no links here, and this classroom has nothing else.")
    try:
        url = to_url(settings.get("deep_link_return_url", ""))
        origin = origin_of(url)
    except PolicyError:
        raise Refusal("invalid", "The platform does not say where the choice is to go.") from None
    data = settings.get("data")
    return DeepLinkRequest(
        platform=platform, deployment=str(claims[f"{_CLAIM}/deployment_id"]), url=url, origin=origin,
        data=data if isinstance(data, str) else None, takes_line=settings.get("accept_lineitem") is not False,
    )  # fmt: skip


def answer_claims(choice: DeepLinkRequest, items: Sequence[Mapping[str, object]]) -> dict[str, Any]:
    """The claims of the answer to a request for links."""
    now = int(time.time())
    claims = {
        "iss": choice.platform.client_id, "aud": choice.platform.issuer, "iat": now, "exp": now + _ANSWERED,
        "nonce": secrets.token_urlsafe(16), f"{_CLAIM}/deployment_id": choice.deployment,
        f"{_CLAIM}/message_type": "LtiDeepLinkingResponse", f"{_CLAIM}/version": "1.3.0",
        f"{_DEEP}/content_items": list(items),
    }  # fmt: skip
    return claims if choice.data is None else {**claims, f"{_DEEP}/data": choice.data}


def _launch(platform: Platform, claims: Mapping[str, Any]) -> Launch:
    roles = claims.get(f"{_CLAIM}/roles")
    is_instructor = isinstance(roles, list) and any(str(role) in _TEACHING for role in roles)
    custom = claims.get(f"{_CLAIM}/custom")
    exercise = custom.get("exercise") if isinstance(custom, dict) else None
    context = claims.get(f"{_CLAIM}/context")
    context = context if isinstance(context, dict) else {}
    return Launch(
        platform=platform, user=str(claims["sub"])[:255], name=_name(claims),
        exercise=exercise if isinstance(exercise, str) else "", line=_line(claims.get(_GRADES)),
        context=_text(context, "id"), title=_text(context, "title") or _text(context, "label"),
        is_instructor=platform.teachers and is_instructor,
    )  # fmt: skip


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value[:_MOST_TEXT] if isinstance(value, str) else ""


def _list(fields: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = fields.get(name)
    return value if isinstance(value, list) else ()


def _name(claims: Mapping[str, Any]) -> str:
    for claim in ("name", "given_name", "family_name"):
        if isinstance(name := claims.get(claim), str) and name.strip():
            return name
    return ""


def _line(grades: Any) -> str:
    """The URL for the grades of a link; "" if the platform accepts none."""
    if not isinstance(grades, dict) or SCORE not in _list(grades, "scope"):
        return ""
    try:
        return to_url(grades.get("lineitem", ""))
    except PolicyError:
        return ""


def _not_believed(why: str) -> Refusal:
    return Refusal("forbidden", f"What the platform has sent is not believed: {why}.")
