"""What is used of the `kubernetes` package: configuration, credentials and the REST client. Imported when needed.

The package's own `__init__` modules import all of it, the client that is not asynchronous too: twice as long, and 40
more modules. So its packages are entered without running these: their modules are there with their paths, and empty. A
program that imports this module cannot use `kubernetes.client`. The image has just these modules (deploy/image/cut.py).
"""

from __future__ import annotations

from deltaplane import packages

PACKAGES = ("kubernetes", "kubernetes.aio", "kubernetes.aio.utils")

packages.enter(*PACKAGES)

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
