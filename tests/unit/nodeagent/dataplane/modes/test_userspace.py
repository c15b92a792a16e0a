"""What userspace mode takes over from the agent's settings."""

from __future__ import annotations

from nodeagent.config import in_mode, parse
from nodeagent.dataplane.modes.userspace import _translated
from nodeagent.dataplane.userspace.settings import Settings

RUN = ["--server=127.0.0.1:50051", "--insecure"]


def translated(*flags: str) -> Settings:
    return _translated(in_mode(parse([*RUN, *flags]), "userspace"), ())


def test_without_flags_it_is_the_modes_own_default() -> None:
    assert translated() == Settings()


def test_limits_arrive() -> None:
    made = translated("--userspace-max-connections=7", "--userspace-max-udp-clients=8", "--udp-timeout=500ms")
    assert (made.max_connections, made.max_flows, made.udp_idle) == (7, 8, 0.5)


def test_who_waits_for_an_answer_is_remembered_at_least_as_long_as_who_has_one() -> None:
    assert translated("--udp-timeout=1s").udp_patience == Settings().udp_patience
    assert translated("--udp-timeout=1m").udp_patience == 60
