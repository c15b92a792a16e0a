"""The API server's address, and the credentials of both ends, from a kubeconfig or the Pod's ServiceAccount.

Files rotate while the program runs: `changed` detects that cheaply, `load` reads everything again, and `transport`
makes new connections only if the content behind them differs. Called by `api`. Foreign exceptions become `SourceError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from controlplane.errors import SourceError
from deltaplane import bounded
from deltaplane.stamps import Stamp, stamp

KUBECONFIG_BYTES = 4 * 1024 * 1024


class Credentials:
    """`origin` names their source, for error texts."""

    def __init__(self, kubeconfig: str | None) -> None:
        self.origin = f"kubeconfig {kubeconfig}" if kubeconfig else "the Pod's ServiceAccount"
        self._kubeconfig = kubeconfig
        self._stamps: dict[str, Stamp] = {}
        self._material: tuple[Any, ...] = ()

    def changed(self) -> bool:
        """Whether a file has changed since it was read."""
        return any(stamp(path) != before for path, before in self._stamps.items())

    async def load(self) -> Any:
        """A new `Configuration` of the `kubernetes` package. Raises `SourceError`."""
        from controlplane.source.kubernetes_package import Configuration

        known = {path: stamp(path) for path in self._stamps}  # taken before the files are read
        configuration = Configuration()
        await _load(configuration, self._kubeconfig)
        _check_address("server", configuration.host, self.origin)
        if configuration.proxy:
            _check_address("proxy-url", configuration.proxy, self.origin)
        hook = configuration.refresh_api_key_hook
        if hook is not None:
            configuration.refresh_api_key_hook = _careful(hook)
        self._stamps = {path: known.get(path, stamp(path)) for path in self._files(configuration)}
        return configuration

    def _files(self, configuration: Any) -> list[str]:
        files = (self._kubeconfig, configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
        return [path for path in files if path]

    def transport(self, configuration: Any, current: Any = None) -> Any:
        """Connections for the configuration: `current` if its content is the same. Raises `SourceError`."""
        from controlplane.source.transport import Transport

        try:
            material = _material(configuration)
            if current is not None and material == self._material:
                return current
            made = Transport(configuration)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            self._stamps = dict.fromkeys(self._stamps)  # perhaps half written: read them again
            raise SourceError(f"{self.origin}: its certificates cannot be used: {error}") from error
        self._material = material
        return made


def _material(configuration: Any) -> tuple[Any, ...]:
    files = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
    contents = [Path(path).read_bytes() if path else b"" for path in files]
    rest = (configuration.host, configuration.verify_ssl, configuration.tls_server_name, configuration.proxy)
    return (*rest, *contents)


def _check_address(field: str, url: str, origin: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SourceError(f"{origin}: {field} {url!r} is not an http or https address: correct it")


def _careful(hook: Callable[[Any], None]) -> Callable[[Any], None]:
    """Reads a token when it is due; keeps the previous one if it cannot be read."""
    from controlplane.source.kubernetes_package import ConfigException

    def refresh(configuration: Any) -> None:
        try:
            hook(configuration)
        except (ConfigException, OSError, ValueError):
            return
        finally:
            configuration.refresh_api_key_hook = refresh  # the call replaces the hook by the package's own
            _strip(configuration)

    return refresh


def _strip(configuration: Any) -> None:
    """Removes the newline at the end of a token file."""
    token = configuration.api_key.get("BearerToken")
    if token:
        configuration.api_key["BearerToken"] = token.strip()


async def _load(configuration: Any, kubeconfig: str | None) -> None:
    from controlplane.source.kubernetes_package import ConfigException, load_incluster_config, load_kube_config

    try:
        if kubeconfig is None:
            load_incluster_config(client_configuration=configuration)
            return
        await asyncio.to_thread(_check_file, kubeconfig)
        await load_kube_config(config_file=kubeconfig, client_configuration=configuration, persist_config=False)
    except ConfigException as error:
        advice = f"kubeconfig {kubeconfig} is not usable" if kubeconfig else "not in a Pod; give --kubeconfig=FILE"
        raise SourceError(f"{advice}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        needs = "its current context must name a cluster and a user"
        raise SourceError(f"kubeconfig {kubeconfig} is not usable, {needs}: {error!r}") from error
    _strip(configuration)


def _check_file(kubeconfig: str) -> None:
    """Raises `SourceError` with a clear text for what the library reports badly or not at all."""
    try:
        content = bounded.load(bounded.read(kubeconfig, KUBECONFIG_BYTES), yaml.SafeLoader)
    except OSError as error:
        raise SourceError(f"cannot read kubeconfig {kubeconfig}: {error.strerror}: check --kubeconfig") from error
    except bounded.TooMuch as error:
        raise SourceError(f"kubeconfig {kubeconfig} is not read: {error}") from error
    except ValueError as error:
        raise SourceError(f"kubeconfig {kubeconfig} is not YAML: {error}") from error
    if not isinstance(content, dict) or not content.get("clusters"):
        raise SourceError(f"kubeconfig {kubeconfig} has no clusters: check --kubeconfig")
