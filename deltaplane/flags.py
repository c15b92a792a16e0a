"""Command lines that answer a mistake in one line and exit code 2. Both programs build their parsers from this."""

from __future__ import annotations

import argparse
import ipaddress
from typing import NoReturn

SOCKET_BYTES = 107  # of a unix socket's path (unix(7))


class UsageError(Exception):
    """A flag or setting is wrong: one line that names it, the value and what to do (exit code 2)."""


class _Help(argparse.HelpFormatter):
    """Says the default of each flag that has one, unless its text does."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", shown_default(action.default)
        return f"{text} (default: {default.replace('%', '%%')})" if default and "default" not in text else text


def shown_default(value: object) -> str:
    """A default as it would be given; empty where there is none to speak of."""
    if isinstance(value, bool) or value is argparse.SUPPRESS:
        return ""
    if isinstance(value, tuple):
        return ",".join(value) if all(isinstance(part, str) for part in value) else ""
    return str(value) if isinstance(value, str | int | float) else ""


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, whose errors are one `UsageError` line."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, formatter_class=_Help)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}; see `{self.prog} --help`")


def host_port(text: str) -> tuple[str, int]:
    """Parses HOST:PORT ([v6]:PORT, :PORT for every address). Raises ValueError with the reason."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{text!r}: an IPv6 host stands in brackets, as in [::1]:{port}")
    return host.strip("[]"), int(port)


def joined(host: str, port: int) -> str:
    """HOST:PORT of both; an IPv6 host stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listening(text: str) -> str:
    """HOST:PORT as gRPC binds it; no host means every IPv4 address. A socket's is as it is. Raises ValueError."""
    if is_socket(text):
        return text
    host, port = host_port(text)
    return joined(host or "0.0.0.0", port)  # noqa: S104 - the flag says so


def address(text: str) -> str:
    """An argparse type: HOST:PORT, given back as it was."""
    try:
        host_port(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def is_socket(text: str) -> bool:
    """Whether it is a unix socket's."""
    return text.startswith("unix:")


def place(text: str) -> str:
    """An argparse type: HOST:PORT or unix:///PATH, given back as it was."""
    if not is_socket(text):
        return address(text)
    if not text.startswith("unix:///") or text.endswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r}: a unix socket is unix:///PATH, with its whole path")
    if len(text.removeprefix("unix://").encode()) > SOCKET_BYTES:
        raise argparse.ArgumentTypeError(f"{text!r}: the path of a unix socket has at most {SOCKET_BYTES} bytes")
    return text


def places(text: str) -> tuple[str, ...]:
    """An argparse type: HOST:PORT or unix:///PATH, any number of them with commas between."""
    return tuple(place(part.strip()) for part in text.split(","))


def addresses(text: str) -> tuple[str, ...]:
    """An argparse type: HOST:PORT, any number of them with commas between."""
    return tuple(address(part.strip()) for part in text.split(","))


def cidrs(text: str) -> tuple[str, ...]:
    """An argparse type: CIDR[,CIDR] in canonical text; at most the first of each family counts (I5)."""
    try:
        return tuple(str(ipaddress.ip_network(part.strip(), strict=False)) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def ratio(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
