"""What every command shares: the application, and errors of one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from efcn_kernels import extras


class InputError(Exception):
    """What the user asked for cannot be done; the message is one line that says what can."""


class OneLineErrors(TyperGroup):
    """Bad input ends with one line on stderr and code 2, Ctrl-C with code 130; neither with a traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        standalone = kwargs.get("standalone_mode", True)
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except Exception as error:
            # typer carries its own copy of click in some versions, so click's errors are known by what they can do
            message = getattr(error, "format_message", None)
            if message is None:
                raise
            say(message())
            code = 2
        if not standalone:
            return code
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            say(str(error))
            raise typer.Exit(2) from None
        except KeyboardInterrupt as error:
            say(str(error) or "interrupted")
            raise typer.Exit(130) from None


app = typer.Typer(
    name="efcn",
    cls=OneLineErrors,
    help="Equivalent fully-connected networks of CNNs: check this installation, time it, try it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def say(message: str) -> None:
    """One line on stderr, unwrapped and uncoloured, for people and scripts alike."""
    if message.strip():
        print(f"efcn: {' '.join(message.split())}", file=sys.stderr)


def needs(what: str, *names: str) -> None:
    """Raises InputError, in one line, where a part of the extra `study` is missing; names: only these of it."""
    if (reason := extras.why_not(what, names or extras.STUDY)) is not None:
        raise InputError(reason)


@contextmanager
def bad_input(*kinds: type[Exception]) -> Iterator[None]:
    """Errors of these kinds are the user's to mend."""
    try:
        yield
    except kinds as error:
        raise InputError(str(error)) from error
