"""`tidings token`: make a token, or show what one grants."""

from __future__ import annotations

import json
import os
import time
from typing import Any, TextIO

import click

from ..config.settings import Settings
from ..errors import Misconfigured
from .options import duration
from .output import escape_controls

_DEFAULT_ALGORITHMS = ("HS256", "EdDSA", "ES256", "ES384", "RS256")
_SUBSCRIBE_HELP = "Topic or pattern whose private events it may receive; repeatable."
_EXPIRES_HELP = "How long it is valid, such as 15m or 7d; or never."
_EPILOG = """\b
Examples:
  tidings token --publish '*' --expires never
  tidings token -s '/users/7' --subject 7 --expires 15m
  tidings token --publish news --key private.pem
  tidings token eyJ…
"""


@click.command(epilog=_EPILOG)
@click.argument("text", metavar="[TOKEN]", required=False)
@click.option(
    "--publish", "-p", multiple=True, help="Topic or pattern that it may publish to; repeatable."
)
@click.option("--subscribe", "-s", multiple=True, help=_SUBSCRIBE_HELP)
@click.option("--expires", type=duration, default="1h", show_default=True, help=_EXPIRES_HELP)
@click.option("--subject", help="Who uses it, such as a user's id (claim sub).")
@click.option("--key", type=click.File(), help="File with the secret, or the private key as PEM.")
def token(  # noqa: PLR0913, PLR0917 - the claims of a token, and its key
    text: str | None,
    publish: tuple[str, ...],
    subscribe: tuple[str, ...],
    expires: float,
    subject: str | None,
    key: TextIO | None,
) -> None:
    """Make a token, or show what TOKEN grants.

    It signs with --key, or with the secret in TIDINGS_JWT_KEY. The token's audience and issuer are
    TIDINGS_JWT_AUDIENCE and TIDINGS_JWT_ISSUER, if they are set.

    A pattern is *, or a URI template such as /users/{id}.

    With TOKEN it also says why a hub with the settings of the environment would refuse TOKEN, and
    then exits with 1. It checks the signature if the key is among the settings.
    """
    try:
        settings = Settings.from_env(os.environ)
    except Misconfigured as error:
        raise click.ClickException(str(error)) from None
    if text:
        explanation, is_refused = _explain(text, settings)
        click.echo(explanation)
        click.get_current_context().exit(int(is_refused))
    if not publish and not subscribe:
        message = "A token grants something: say --publish or --subscribe, such as --publish '*'."
        raise click.UsageError(message)
    claims: dict[str, Any] = {"mercure": {"publish": publish, "subscribe": subscribe}}
    claims |= {"iat": int(time.time()), "sub": subject}
    claims |= {"aud": settings.jwt_audience, "iss": settings.jwt_issuer}
    if expires != float("inf"):
        claims["exp"] = round(time.time() + expires)
    claims = {name: value for name, value in claims.items() if value is not None}
    click.echo(_sign(claims, _read(key) if key else None, settings))


def _sign(claims: dict[str, Any], key: str | None, settings: Settings) -> str:
    """Return a token, signed by the first accepted algorithm that fits the key."""
    import jwt  # late: it imports cryptography, which most commands do not need

    key = next(iter(settings.jwt_key), "") if key is None else key
    if not key or key.startswith("-----BEGIN PUBLIC"):
        message = "There is no key to sign with: name a file with --key, or set TIDINGS_JWT_KEY."
        raise click.ClickException(message)
    for algorithm in settings.jwt_algorithm or _DEFAULT_ALGORITHMS:
        if key.startswith("-----BEGIN") != algorithm.startswith("HS"):
            try:
                return jwt.encode(claims, key, algorithm)
            except (jwt.InvalidKeyError, TypeError, ValueError):
                continue
    message = "This is not a usable signing key, or its type is not accepted."
    raise click.ClickException(message)


def _read(key: TextIO) -> str:
    try:
        return key.read().strip()
    except UnicodeDecodeError:
        message = "The key is not text; `openssl pkey -inform DER -in KEY` prints it as PEM."
        raise click.ClickException(message) from None


def _explain(text: str, settings: Settings) -> tuple[str, bool]:
    """Return what a token grants, in words and as JSON, and whether a hub would refuse it."""
    import jwt

    from ..auth.verdict import verdict

    claims, (signature, refusals) = unverified_claims(text), verdict(text, settings)
    if claims is None:
        raise click.ClickException("This is not a token. " + " ".join(refusals))
    algorithm = jwt.get_unverified_header(text).get("alg")
    publish, subscribe = (patterns(claims, name) for name in ("publish", "subscribe"))
    lines = [
        f"signed with     {algorithm}, {signature}",
        f"may publish to  {', '.join(publish) or 'nothing'}",
        f"may read        {', '.join(subscribe) or 'nothing'} (private events)",
        f"ends            {expiry(claims)}",
    ]
    lines += [f"refused         {why}" for why in refusals]
    if not publish and not subscribe:
        lines.append("It grants nothing: its claim `mercure` lists no topics.")
    shown = "\n".join([*map(escape_controls, lines), json.dumps(claims, indent=2)])
    return shown, bool(refusals)


def unverified_claims(text: str) -> dict[str, Any] | None:
    """Return the claims of a token without checking its signature; None: it is not a JWT."""
    import jwt

    from ..auth.tokens import MALFORMED

    try:
        return jwt.decode(text, options={"verify_signature": False})
    except MALFORMED:
        return None


def patterns(claims: dict[str, Any], name: str) -> list[str]:
    """Return what Mercure's claim lists as `publish` or `subscribe`."""
    mercure = claims.get("mercure", claims.get("https://mercure.rocks/"))
    found = mercure.get(name) if isinstance(mercure, dict) else None
    return list(map(str, found)) if isinstance(found, list) else []


def expiry(claims: dict[str, Any]) -> str:
    """Return when a token expires, in words."""
    expires = claims.get("exp")
    if not isinstance(expires, int | float):
        return "never"
    try:
        left = round(expires - time.time())
        text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(expires))
    except (OverflowError, ValueError, OSError):
        return f"{expires}, which no clock will show"
    return f"{text}, " + (f"in {left} s" if left > 0 else f"{-left} s ago")
