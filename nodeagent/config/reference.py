"""docs/configuration.md, made from the same table as the parser: `python -m nodeagent.config.reference > docs/...`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from nodeagent.config import security
from nodeagent.config.defaults import default_text
from nodeagent.config.document import REMOVED
from nodeagent.config.kinds import BOOL
from nodeagent.config.options import OPTIONS, PORTS, Option
from nodeagent.config.schema import API_VERSION, KIND, file_path

HEAD = f"""# Configuring the agent

Made by `python -m nodeagent.config.reference`; change `nodeagent/config/options.py` instead of this page.

The agent takes kube-proxy's flags, and with `--config=FILE` a {KIND}
({API_VERSION}) as kube-proxy takes it. Beside a file only `--hostname-override`, `--proxy-mode`, the
logging flags, `--write-config-to`, `--cleanup`, `--init-only` and Deltaplane's own (`--server`, `--insecure`,
{", ".join(f"`--{flag}`" for flag in security.OWN)},
`--strict-mode`, `--beside-kube-proxy`, `--drain-period`, `--userspace-max-connections`, `--userspace-max-udp-clients`,
`--state-dir`, `--state-max-age`, `--health-listen`, `--drain-listen`, `--drain-port`, `--drain-timeout`,
`--inspect-socket`) count; others are ignored, and the log says so. A file that changes ends the agent, so that its
supervisor starts it with the new content; the rules stay in force meanwhile.

Different from kube-proxy, on purpose:

- No `mode`, or `auto`, means the first that works here: nftables, ipvs if a scheduler is named, iptables, userspace.
  A mode that is named and cannot work is replaced in the same order, which a line in the log, an Event on the Node and
  a metric tell; with `--strict-mode` the agent ends instead. `--proxy-mode` wins over a file's `mode`.
- Without a `mode`, node ports answer as in nftables mode, at the node's primary addresses, whichever mode is taken.
- A field nobody knows, and one that stands twice, is let pass with a line in the log for each, which has its path and
  the name that may have been meant; of fields that earlier kube-proxies had it says why they do nothing
  ({", ".join(f"`{path}`" for path in REMOVED)}). A value of a wrong type is an error.
- An empty `--healthz-bind-address` or `--metrics-bind-address` switches the listener off, as kube-proxy's help says of
  its own.
- `udpIdleTimeout` and `--udp-timeout`, which kube-proxy had until 1.25, count in userspace mode. In a file that names
  another mode the field may say anything, with a line in the log, as for kube-proxy, which does not know it any more;
  so a file is written with it only where it is not the default.
- `--write-config-to` writes what the file or the flags say for every mode, not for the one in use only.

## What is served

- `/healthz` on `--healthz-bind-address`: 200 while this node should get traffic, otherwise 503. It should not while a
  change waits for the kernel longer than twice the sync period, or while its Node is unknown, being deleted, or tainted
  by the cluster autoscaler for deletion.
- `/livez` beside it: the same without the Node, that is, whether the agent itself works.
- `/metrics` on `--metrics-bind-address`: Prometheus text, with kube-proxy's names and labels, and Deltaplane's own that
  begin with `deltaplane_`. `kubeproxy_network_programming_duration_seconds` counts, as kube-proxy's, from the time in
  an EndpointSlice's annotation `endpoints.kubernetes.io/last-change-trigger-time` to the commit; of changes that
  arrive merged, the newest eight.
- `/metrics/slis` beside it: the results of `/healthz` there, as `kubernetes_healthcheck` and
  `kubernetes_healthchecks_total`.
- `/proxyMode`, `/configz` and `/healthz` beside it: the mode; the running configuration as JSON; `ok`.
- any path on a Service's `healthCheckNodePort`: 200 while the Service has ready endpoints on this node and the agent is
  healthy, otherwise 503, with the number of endpoints in the header `X-Load-Balancing-Endpoint-Weight`.

An address that is taken is tried again every five seconds, unless `--bind-address-hard-fail` is set. A health check
node port that is taken is reported on its Service and tried again.
"""
MODE = "| `--proxy-mode=MODE` | `mode` | `auto` | auto, nftables, iptables, ipvs or userspace. |"
WORKS = ("## What counts", "| flag | field | default | meaning |\n|---|---|---|---|")
IDLE = ("## Accepted, and does nothing", "| flag | field | why |\n|---|---|---|")


def markdown() -> str:
    """The whole page."""
    used = [option for option in OPTIONS if not option.idle]
    idle = [option for option in OPTIONS if option.idle]
    ports = [
        f"| `--{flag}` | | | Deprecated: the port of `--{path.replace('_', '-')}`; 0: none. |"
        for flag, path in PORTS.items()
    ]
    return "\n".join(
        [HEAD, *_table(WORKS, [MODE, *map(_row, used), *ports]), "", *_table(IDLE, list(map(_idle_row, idle))), ""]
    )


def _table(head: tuple[str, str], rows: list[str]) -> Iterator[str]:
    title, columns = head
    yield from (title, "", columns, *rows)


def _row(option: Option) -> str:
    only = f" Only in mode {' and '.join(option.modes)}." if option.modes else ""
    return f"| {_flag(option)} | {_field(option)} | {_default(option)} | {option.text}{only} |"


def _idle_row(option: Option) -> str:
    return f"| {_flag(option)} | {_field(option)} | {option.idle[:1].upper()}{option.idle[1:]}. |"


def _flag(option: Option) -> str:
    if not option.flag:
        return ""
    return (
        f"`--{option.flag}`"
        if option.kind is BOOL
        else f"`--{option.flag}={option.kind.placeholder}`".replace("|", "\\|")
    )


def _field(option: Option) -> str:
    return f"`{file_path(option.path)}`" if option.path else ""


def _default(option: Option) -> str:
    text = default_text(option.path)
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    sys.stdout.write(markdown())
