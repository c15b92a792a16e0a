"""What a token says of itself, unchecked: whether it can be one that a replica accepts. Pure."""

from __future__ import annotations

import base64

import msgspec


class _Claims(msgspec.Struct):
    aud: str | list[str] = ""
    exp: float = 0.0  # Unix seconds


def fits(token: str, audience: str, now: float) -> bool:
    """Whether it is a JWT (RFC 7519) for this audience that has not ended at this time (Unix seconds)."""
    claims = _read(token)
    if claims is None:
        return False
    meant = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    return audience in meant and (not claims.exp or now < claims.exp)


def _read(token: str) -> _Claims | None:
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        body = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(body, type=_Claims)
    except (ValueError, RecursionError):
        return None
