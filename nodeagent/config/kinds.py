"""How a flag's text is read: one `Kind` for each type of kube-proxy's flags. Errors are argparse's."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

from nodeagent.config import addresses, durations

TRUE = ("1", "t", "T", "true", "TRUE", "True")
FALSE = ("0", "f", "F", "false", "FALSE", "False")


class Kind(NamedTuple):
    """`parse` reads one occurrence; where a flag `repeats`, the occurrences are joined."""

    placeholder: str
    parse: Callable[[str], Any]
    repeats: bool = False


def _reader(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """argparse shows the message of its own error only."""

    def read(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def _bool(text: str) -> bool:
    if text not in TRUE + FALSE:
        raise ValueError(f"{text!r} is not true or false")
    return text in TRUE


def _int32(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a whole number") from error
    if not -(2**31) <= value < 2**31:
        raise ValueError(f"{text} does not fit 32 bits")
    return value


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a number") from error


def _ip(text: str) -> str:
    try:
        addresses.address(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an IP address") from error
    return text


def _ip_port(text: str) -> str:
    """An address with or without a port; empty switches the listener off."""
    if not text:
        return text
    try:
        addresses.address(text)
    except ValueError:
        host, port = addresses.split_host_port(text)
        _ip(host)
        if not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"{port!r} is not a port") from None
    return text


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()


def _gates(text: str) -> tuple[tuple[str, bool], ...]:
    pairs = [part.partition("=") for part in _list(text)]
    return tuple((name.strip(), _bool(value.strip())) for name, _, value in pairs)


BOOL = Kind("true|false", _reader(_bool))
INT = Kind("N", _reader(_int32))
FLOAT = Kind("NUMBER", _reader(_float))
DURATION = Kind("DURATION", _reader(durations.parse))
TEXT = Kind("TEXT", str)
IP = Kind("IP", _reader(_ip))
IP_PORT = Kind("IP:PORT", _reader(_ip_port))
LIST = Kind("A,B", _list, repeats=True)
GATES = Kind("NAME=true|false,...", _reader(_gates), repeats=True)
