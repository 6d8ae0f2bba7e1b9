"""The command `tidings`: publish, tail, token, check."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from ..core.version import __version__
from .check.command import check
from .client import remote_options
from .publish import publish
from .tail import tail
from .token import token

_INTERRUPTED = 130
_EPILOG = """\b
Exit codes:
  0    done
  1    refused or failed; stderr says why and how to mend it
  2    the command line itself is wrong
  130  ended by Ctrl-C

\b
Examples:
  export TIDINGS_URL=https://hub.example TIDINGS_TOKEN=eyJ…
  tidings publish --topic news 'Hello'
  tail -f app.log | tidings publish --topic log --follow
  tidings tail news '/users/{id}' --since 15m

\b
Shell completion:
  eval "$(_TIDINGS_COMPLETE=bash_source tidings)"    or zsh_source, fish_source
"""


class _Main(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and end quietly where nobody wants to read or wait any longer."""
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:  # it was closed, as some that start programs do
                setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except BrokenPipeError:  # as `tidings tail | head` means it
            _forget_output()
            ctx.exit(0)
        except OSError as error:
            _forget_output()
            message = f"The output cannot be written, or the input not read: {error.strerror}."
            raise click.ClickException(message) from None


def _forget_output() -> None:
    """Let what is buffered go nowhere at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=_Main, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tidings")
@remote_options(env=True)
def main(url: str | None, token: str | None) -> None:
    """Publish to a Tidings hub, listen to it, prove that it works, and make tokens for it.

    All it needs of a hub is its URL, and a token where the hub wants one.
    """
    click.get_current_context().obj = (url, token)


for _command in (publish, tail, token, check):
    main.add_command(_command)
