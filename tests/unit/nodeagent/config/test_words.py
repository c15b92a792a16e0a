"""Words that reach the kernel or another program are judged at the start, and the message names the flag."""

from __future__ import annotations

import pytest

from nodeagent.config import parse
from tests.unit.nodeagent.config.test_settings import RUN, refusal

BRIDGE = ("--detect-local-mode=BridgeInterface", "--pod-bridge-interface")
PREFIX = ("--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix")


@pytest.mark.parametrize("mode", ["nftables", "iptables", "ipvs", "userspace", "auto"])
@pytest.mark.parametrize("detector, flag", [BRIDGE, PREFIX])
@pytest.mark.parametrize("name", ["x" * 16, "a b", "eth0\n-A INPUT", 'a"', "a\0", "a/b", "é"], ids=ascii)
def test_what_is_no_name_of_an_interface_is_refused_by_the_flag(detector: str, flag: str, name: str, mode: str) -> None:
    said = refusal(*RUN, f"--proxy-mode={mode}", detector, f"{flag}={name}")

    assert said.startswith(f"deltaplane agent: {flag}: {ascii(name)[:-1].replace(chr(92) + 'xe9', 'é')}")
    assert "is no name of a network interface" in said


@pytest.mark.parametrize("detector, flag", [BRIDGE, PREFIX])
@pytest.mark.parametrize("name", ["cali", "x" * 15, "br-lan.7", "eth0:1"])
def test_names_of_interfaces_that_are_taken(detector: str, flag: str, name: str) -> None:
    settings = parse([*RUN, detector, f"{flag}={name}"])

    assert settings.bridge_interface + settings.interface_name_prefix == name


def test_a_name_of_an_interface_that_nothing_uses_is_not_judged() -> None:
    assert parse([*RUN, "--pod-bridge-interface=a b", "--pod-interface-name-prefix=a b"]).servers


@pytest.mark.parametrize("name", ["a b", "a\nb", "a\0", "x" * 16, "ip_vs/rr"], ids=ascii)
def test_what_is_no_name_of_a_scheduler_is_refused_by_the_flag(name: str) -> None:
    assert refusal(*RUN, f"--ipvs-scheduler={name}").startswith("deltaplane agent: --ipvs-scheduler: ")


@pytest.mark.parametrize("name", ["a b", "a\nb", "a\0", "x" * 254, "node_a", "-a"], ids=ascii)
def test_what_is_no_name_of_a_node_is_refused_by_the_flag(name: str) -> None:
    said = refusal(*RUN, f"--hostname-override={name}")

    assert said.startswith("deltaplane agent: --hostname-override: ")
    assert "is no name of a Node" in said
