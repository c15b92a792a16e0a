"""`python -m deploy.monitoring`: writes prometheusrule.yaml, from rules.yaml, and the dashboards beside it."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from deploy.monitoring import dashboards

HERE = Path(__file__).parent
_HEAD = "# Written by `python -m deploy.monitoring` from rules.yaml.\n"


def derived() -> dict[Path, str]:
    """What each derived file has."""
    found = {HERE / "prometheusrule.yaml": _HEAD + yaml.safe_dump(_rule(), sort_keys=False, width=140)}
    for each in dashboards.ALL:
        name = each.uid.removeprefix("deltaplane-")
        found[HERE / "dashboards" / f"{name}.json"] = json.dumps(dashboards.rendered(each), indent=1) + "\n"
    return found


def _rule() -> dict[str, object]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "deltaplane", "labels": {"app.kubernetes.io/name": "deltaplane"}},
        "spec": yaml.safe_load((HERE / "rules.yaml").read_text()),
    }


def main() -> None:
    """Writes them."""
    for path, text in derived().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
