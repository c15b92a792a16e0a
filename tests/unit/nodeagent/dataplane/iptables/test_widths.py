"""An address of another length than its family's reaches no rule: iptables reads any four bytes as an IPv4 address."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.unit.nodeagent.dataplane.iptables.tracing import programmed, sorted_tables
from tests.unit.nodeagent.dataplane.nftables.walks import cluster_ip, service, targets

GOOD = service("good", cluster_ip("fd00:10:96::1", targets(1, family=6)))


@pytest.mark.parametrize("where", ["frontend", "target"])
def test_an_address_of_another_length_is_its_objects_failure(where: str) -> None:
    entry = cluster_ip("fd00:10:96::2", targets(1, family=6))
    if where == "frontend":
        wrong = replace(entry, frontend=entry.frontend._replace(address=b"\xf0\x90\x80\x80"))
    else:
        wrong = replace(entry, targets=(entry.targets[0]._replace(address=b"\xf0\x90\x80\x80"),))
    dataplane, kernel = programmed(GOOD)
    done = dataplane.apply([service("bad", wrong)])
    assert [failed.code for failed in done.failed] == ["INVALID_OBJECT"]
    assert "is no IPv6 address" in done.failed[0].text
    assert sorted_tables(kernel) == sorted_tables(programmed(GOOD)[1])
