"""What is used of the `kubernetes` package: configuration, credentials and the REST client. Imported when needed.

The package's own `__init__` modules import all of it, the client that is not asynchronous too: twice as long, and 40
more modules. So its packages are entered without running these: their modules are there with their paths, and empty. A
program that imports this module cannot use `kubernetes.client`. The image has just these modules (deploy/image/cut.py).
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec

PACKAGES = ("kubernetes", "kubernetes.aio", "kubernetes.aio.utils")


def _enter() -> None:
    """Where the whole package is imported already, it stays."""
    for name in PACKAGES:
        spec = None if name in sys.modules else find_spec(name)
        if spec is not None:
            sys.modules[name] = module_from_spec(spec)


_enter()

from kubernetes.aio.client import ApiClient, Configuration  # noqa: E402
from kubernetes.aio.client.rest import RESTClientObject  # noqa: E402
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config  # noqa: E402

__all__ = [
    "ApiClient",
    "ConfigException",
    "Configuration",
    "RESTClientObject",
    "load_incluster_config",
    "load_kube_config",
]
