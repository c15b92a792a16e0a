"""Libraries that do at their import what this program has no use for, imported without it. Called by `main`."""

from __future__ import annotations

import importlib
import os

_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # OpenSSL reads them when a context asks for this machine's CAs


def import_aiohttp() -> None:
    """Without the TLS context with all of this machine's CAs that aiohttp makes for connections that name none.

    That is a third of the import. `controlplane.source.transport` gives every connection a context of its own. To be
    called while there is one thread.
    """
    before = {name: os.environ.get(name) for name in _AUTHORITIES}
    os.environ.update(dict.fromkeys(_AUTHORITIES, os.devnull))
    try:
        importlib.import_module("aiohttp")
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
