"""Which process has which tests, and that pytest-xdist goes by it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict

import pytest

from tests.groups import HERE, group_of, shares_the_product


@pytest.mark.parametrize(
    ("test", "group"),
    [
        ("tests/kernel/test_lab.py::test_it[udp-6]", "kernel"),
        ("tests/vm/test_guest.py::test_it", "kernel"),
        ("tests/flows/test_flows_kernel.py::test_it", "packets"),
        ("tests/flows/test_flows.py::test_it", "tests/flows/test_flows.py"),
        ("tests/e2e/test_stories.py::test_it[a::b]", "e2e"),
        ("tests/e2e/test_drain.py::test_it", "e2e-own"),
        ("tests/faults/test_ends.py::test_it", "tests/faults/test_ends.py::test_it"),
        ("tests/flows/test_flows_modes.py::test_it[iptables]", "tests/flows/test_flows_modes.py::test_it[iptables]"),
        ("tests/kernel/test_modes_killed.py::test_it", "tests/kernel/test_modes_killed.py"),
        ("tests/unit/test_groups.py::test_it", "tests/unit/test_groups.py"),
    ],
)
def test_networks_and_api_servers_have_processes_of_their_own(test: str, group: str) -> None:
    assert group_of(test) == group


def test_a_module_that_starts_the_product_itself_shares_none() -> None:
    sharing = {path.name for path in (HERE / "e2e").glob("test_*.py") if shares_the_product(path)}

    assert {"test_stories.py", "test_restarts.py", "test_modes.py"} <= sharing
    assert not sharing & {"test_drain.py", "test_trace.py", "test_replicas.py", "test_chart.py"}


@pytest.mark.slow
def test_a_group_is_one_process_alone() -> None:
    """A version of pytest or pytest-xdist that gives the tests out in another way is noticed."""
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "load", "--no-loadscope-reorder", "-v"]
    modules = ["tests/unit/deltaplane/test_addresses.py", "tests/unit/deltaplane/test_supervise.py", "tests/sessions"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-k", "test_addresses or test_supervise or test_parting", *modules],
        cwd=HERE.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    processes: dict[str, set[str]] = defaultdict(set)
    for process, module in re.findall(r"^\[(gw\d)\].* PASSED (\S+?)::", done.stdout, re.MULTILINE):
        processes[module].add(process)

    assert len(processes) >= 2
    assert {module: found for module, found in processes.items() if len(found) > 1} == {}
    assert len(set().union(*processes.values())) == 2
