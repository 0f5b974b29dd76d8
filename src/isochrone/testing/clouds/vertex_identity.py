"""Who may ask the Vertex test cloud: a token endpoint, a token exchange and a metadata server, as Google's are.

A service account signs an assertion (RFC 7523), which is checked with its public key; a workload identity pool
exchanges another's word (RFC 8693); a machine asks its metadata server.  Each gets a token that ends when the script
says.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from aiohttp import web

from isochrone.errors import MissingExtra

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
except ImportError as error:
    raise MissingExtra(
        "The Vertex test cloud needs cryptography, which is not installed.", fix="pip install 'isochrone[vertex]'"
    ) from error

PROJECT = "test-project"
EMAIL = f"gateway@{PROJECT}.iam.gserviceaccount.com"
POOL = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/test"
SUBJECT_TOKEN = "the-word-of-another-cloud"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_METADATA = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
_AUDIENCE = "https://oauth2.googleapis.com/token"
"""What google-auth writes, wherever the account's token_uri leads."""
LEEWAY_S = 60.0


class Refused(Exception):
    """OAuth's way to say no.  error  in its word"""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error, self.description = error, description


class Identity:
    """Tokens given and taken.

    clock       monotonic, on which tokens end;  lifetime_s: of a token given now
    num_given   tokens so far
    """

    def __init__(self, clock: Callable[[], float], lifetime_s: Callable[[], float]) -> None:
        self._clock, self._lifetime_s = clock, lifetime_s
        self._ends_at: dict[str, float] = {}
        self.api_key = f"AIza{secrets.token_urlsafe(26)}"
        self.url = ""
        self.num_given = 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/token", self._token),
            web.post("/v1/sts/token", self._exchanged),
            web.get("/", self._ping),
            web.get("/computeMetadata/v1/{path:.*}", self._metadata),
        ]

    def service_account(self) -> dict[str, str]:
        """The file of a service account of this cloud."""
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "test-key",
            "private_key": _private_key_pem(),
            "client_email": EMAIL,
            "client_id": "1",
            "token_uri": f"{self.url}/token",
        }

    def external_account(self, file: str) -> dict[str, Any]:
        """The file of a workload identity pool whose word (`SUBJECT_TOKEN`) lies in another file."""
        return {
            "type": "external_account",
            "audience": POOL,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{self.url}/v1/sts/token",
            "credential_source": {"file": file},
        }

    def why_not(self, request: web.Request) -> str:
        """Empty for a request that may come in, else a reason in Google's words."""
        key = request.headers.get("x-goog-api-key") or request.query.get("key")
        if key is not None:
            return "" if secrets.compare_digest(key, self.api_key) else "API_KEY_INVALID"
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return "CREDENTIALS_MISSING"
        ends_at = self._ends_at.get(token)
        return "ACCESS_TOKEN_EXPIRED" if ends_at is None or self._clock() >= ends_at else ""

    def revoke(self) -> None:
        """End every token now, whatever was said of its life."""
        self._ends_at.clear()

    # --- giving ---

    def _give(self, **more: str) -> dict[str, Any]:
        lifetime_s, token = self._lifetime_s(), f"ya29.{secrets.token_urlsafe(24)}"
        self._ends_at[token] = self._clock() + lifetime_s
        self.num_given += 1
        return {"access_token": token, "expires_in": max(1, round(lifetime_s)), "token_type": "Bearer", **more}

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        try:
            if form.get("grant_type") != _ASSERTION:
                raise Refused("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type')!r}")
            self._check_assertion(str(form.get("assertion", "")))
        except Refused as no:
            return web.json_response({"error": no.error, "error_description": no.description}, status=400)
        return web.json_response(self._give())

    def _check_assertion(self, assertion: str) -> None:
        try:
            head, claims, signature = assertion.split(".")
            header, said = json.loads(_unpadded(head)), json.loads(_unpadded(claims))
            _private_key().public_key().verify(
                _unpadded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except (ValueError, binascii.Error):
            raise Refused("invalid_grant", "Invalid JWT: it cannot be read.") from None
        except InvalidSignature:
            raise Refused("invalid_grant", "Invalid JWT Signature.") from None
        if header.get("alg") != "RS256":
            raise Refused("invalid_grant", "Invalid JWT: its algorithm is not RS256.")
        _check_claims(said, f"{self.url}/token", time.time())

    async def _exchanged(self, request: web.Request) -> web.Response:
        form = await request.post()
        fits = {"grant_type": _EXCHANGE, "audience": POOL, "subject_token": SUBJECT_TOKEN}
        wrong = [name for name, value in fits.items() if form.get(name) != value]
        if wrong:
            said = {"error": "invalid_grant", "error_description": f"Wrong {', '.join(wrong)}."}
            return web.json_response(said, status=400)
        return web.json_response(self._give(issued_token_type="urn:ietf:params:oauth:token-type:access_token"))

    async def _ping(self, request: web.Request) -> web.Response:
        return web.Response(text="computeMetadata/", headers=_METADATA)

    async def _metadata(self, request: web.Request) -> web.Response:
        if request.headers.get("Metadata-Flavor") != "Google":
            return web.Response(status=403, text="Missing Metadata-Flavor:Google header.", headers=_METADATA)
        path = request.match_info["path"]
        account = path.removeprefix("instance/service-accounts/").partition("/")
        if path == "project/project-id":
            return web.Response(text=PROJECT, headers=_METADATA)
        if path == "universe/universe-domain":
            return web.Response(text="googleapis.com", headers=_METADATA)
        if path.startswith("instance/service-accounts/") and account[0] in ("default", EMAIL):
            if account[2] == "token":
                return web.json_response(self._give(), headers=_METADATA)
            info = {"email": EMAIL, "scopes": [SCOPE], "aliases": ["default"]}
            return web.json_response(info, headers=_METADATA)
        return web.Response(status=404, text="not found", headers=_METADATA)


def _check_claims(said: Mapping[str, Any], audience: str, now: float) -> None:
    issued_at, ends_at = said.get("iat"), said.get("exp")
    if said.get("iss") != EMAIL:
        raise Refused("invalid_grant", "Invalid grant: account not found")
    if said.get("aud") not in (audience, _AUDIENCE):
        raise Refused("invalid_grant", "Invalid JWT: the audience is not this endpoint.")
    if SCOPE not in str(said.get("scope", "")).split():
        raise Refused("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
    if not isinstance(issued_at, int | float) or not isinstance(ends_at, int | float):
        raise Refused("invalid_grant", "Invalid JWT: iat and exp are needed.")
    if issued_at > now + LEEWAY_S or ends_at < now or ends_at - issued_at > 3600 + LEEWAY_S:
        raise Refused("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes).")


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@cache
def _private_key() -> rsa.RSAPrivateKey:
    """One for a process: making it costs a tenth of a second."""
    return rsa.generate_private_key(65537, 2048)


def _private_key_pem() -> str:
    form = serialization.PrivateFormat.PKCS8
    raw = _private_key().private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return raw.decode()
