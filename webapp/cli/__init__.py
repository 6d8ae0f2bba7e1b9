"""The command `tidings`, with a module for each of its commands."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path
from typing import Any

import click

from ..core.version import __version__
from .check.command import check
from .delete import delete
from .publish import publish
from .remote_hub import hub_options
from .serve import serve
from .tail import tail
from .token import token
from .topics import topics

_INTERRUPTED = 130
_UNDECODABLE = re.compile("[\ud800-\udfff]")  # how Python reads bytes that are not UTF-8
_EPILOG = """\b
Exit codes:
  0    done
  1    refused or failed; stderr says why, and how to fix it
  2    the command line is wrong
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
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse arguments that are not UTF-8, for all commands."""
        for number, text in enumerate(args, 1):
            if found := _UNDECODABLE.search(text):
                byte = ord(found[0]) & 0xFF
                message = (
                    f"Argument {number} has the byte 0x{byte:02X}. Arguments must be UTF-8, "
                    "as all events and topics are."
                )
                raise click.UsageError(message)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn the end of its output, and Ctrl-C, into exit codes."""
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:  # the program that started this one has closed it
                setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # not each encoding has all
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except BrokenPipeError:  # as in `tidings tail | head`
            _discard_output()
            ctx.exit(0)
        except OSError as error:
            _discard_output()
            message = f"The output cannot be written, or the input not read: {error.strerror}."
            raise click.ClickException(message) from None


def _discard_output() -> None:
    """Discard what is buffered: Python would try to write it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=_Main, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tidings")
@hub_options
def main(url: str | None, token: str | None) -> None:
    """Run a Tidings hub, publish events to one, subscribe to it, test it, and make tokens for it.

    All commands but serve need the hub's URL, and a token where the hub has a key.
    """
    click.get_current_context().obj = {"url": url, "token": token}


for _command in (serve, publish, tail, topics, delete, token, check):
    main.add_command(_command)
