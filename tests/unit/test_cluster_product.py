"""The image of the two-node cluster is made anew whenever something that goes into it has changed."""

from __future__ import annotations

from tools.lab.cluster import product


def test_every_package_that_the_image_has_counts() -> None:
    found = {path.relative_to(product.REPOSITORY).parts[0] for path in product.copied()}

    assert {"deltaplane", "controlplane", "nodeagent", "operatorcli", "pyproject.toml", "deploy", "tools"} <= found
    assert product.REPOSITORY / "deploy/image/requirements.lock" in product.copied()
