"""`tidings token`: make a token, or say what one grants."""

from __future__ import annotations

import json
import os
import time
from typing import Any, TextIO

import click

from ..config.settings import Settings
from ..errors import Misconfigured
from .client import Duration
from .output import shown

_EPILOG = """\b
Examples:
  tidings token --publish '*' --expires never
  tidings token -s '/users/7' --subject 7 --expires 15m
  tidings token --publish news --key private.pem
  tidings token eyJ…
"""


@click.command(epilog=_EPILOG)
@click.argument("text", metavar="[TOKEN]", required=False)
@click.option("--publish", "-p", multiple=True, help="A selector of topics it may publish to.")
@click.option("--subscribe", "-s", multiple=True, help="A selector of private events it may read.")
@click.option("--expires", type=Duration(), default="1h", show_default=True, help="Its life.")
@click.option("--subject", help="Whose it is (sub).")
@click.option("--key", type=click.File(), help="A file with the key; a private key as PEM.")
def token(  # noqa: PLR0913, PLR0917 - what can be said of a token
    text: str | None,
    publish: tuple[str, ...],
    subscribe: tuple[str, ...],
    expires: float,
    subject: str | None,
    key: TextIO | None,
) -> None:
    """Make a token, or say what TOKEN grants.

    A token is signed with --key, else with the shared secret of TIDINGS_JWT_KEY; its audience and
    issuer are those of TIDINGS_JWT_AUDIENCE and TIDINGS_JWT_ISSUER.
    """
    try:
        settings = Settings.from_env(os.environ)
    except Misconfigured as error:
        raise click.ClickException(str(error)) from None
    if text:
        click.echo(explained(text))
        return
    if not publish and not subscribe:
        message = "A token grants something: say --publish or --subscribe, such as --publish '*'."
        raise click.UsageError(message)
    claims: dict[str, Any] = {"mercure": {"publish": publish, "subscribe": subscribe}}
    claims |= {"iat": int(time.time()), "sub": subject}
    claims |= {"aud": settings.jwt_audience, "iss": settings.jwt_issuer}
    if expires != float("inf"):
        claims["exp"] = round(time.time() + expires)
    said = {name: claim for name, claim in claims.items() if claim is not None}
    click.echo(signed(said, _read(key) if key else None, settings))


def signed(claims: dict[str, Any], key: str | None, settings: Settings) -> str:
    """Return a token of the first algorithm that is accepted and fits the key."""
    import jwt  # it brings cryptography, which the other commands need not wait for

    key = next(iter(settings.jwt_key), "") if key is None else key
    if not key or key.startswith("-----BEGIN PUBLIC"):
        message = "There is no key to sign with: name a file with --key, or set TIDINGS_JWT_KEY."
        raise click.ClickException(message)
    for algorithm in settings.jwt_algorithm or ("HS256", "EdDSA", "ES256", "ES384", "RS256"):
        if key.startswith("-----BEGIN") != algorithm.startswith("HS"):
            try:
                return jwt.encode(claims, key, algorithm)
            except (jwt.InvalidKeyError, TypeError, ValueError):
                continue
    message = "The key is none, or of a type that is not accepted."
    raise click.ClickException(message)


def _read(key: TextIO) -> str:
    try:
        return key.read().strip()
    except UnicodeDecodeError:
        message = "The key is no text; `openssl pkey -inform DER -in KEY` prints it as PEM."
        raise click.ClickException(message) from None


def explained(text: str) -> str:
    """Say in words and JSON what a token grants; whether its signature is good only a hub knows."""
    import jwt

    try:
        header = jwt.get_unverified_header(text)
        claims = jwt.decode(text, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        message = "It is no token."
        raise click.ClickException(message) from None
    mercure = claims.get("mercure")
    grants = mercure if isinstance(mercure, dict) else {}
    lines = [
        f"signed with     {header.get('alg')}, not checked here",
        f"may publish to  {_listed(grants.get('publish'))}",
        f"may read        {_listed(grants.get('subscribe'))} (private events)",
        f"ends            {_when(claims.get('exp'))}",
    ]
    if not grants:
        lines.append("It has no claim `mercure`: a hub takes it for none of its own.")
    return "\n".join([*map(shown, lines), json.dumps(claims, indent=2)])


def _listed(selectors: object) -> str:
    return (
        ", ".join(map(str, selectors)) if isinstance(selectors, list) and selectors else "nothing"
    )


def _when(moment: object) -> str:
    if not isinstance(moment, int | float):
        return "never"
    try:
        left = round(moment - time.time())
        told = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))
    except (OverflowError, ValueError, OSError):
        return f"{moment}, which no clock will show"
    return f"{told}, " + (f"in {left} s" if left > 0 else f"{-left} s ago")
