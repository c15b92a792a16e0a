"""What other modes left: each is asked, and while one still carries connections, only that one again."""

from __future__ import annotations

from typing import cast

import pytest

from nodeagent.dataplane.api import Dataplane
from nodeagent.dataplane.modes import Opened, Others, Released, backends
from nodeagent.dataplane.modes.choice import ORDER
from nodeagent.errors import AgentError, KernelUnavailable


class Mode:
    """A backend that writes down what it is asked; its connections end when `used` is false."""

    def __init__(self, name: str, asked: list[str]) -> None:
        self.name, self.asked = name, asked
        self.used = self.broken = False

    def release(self, in_use: str) -> Released:
        self.asked.append(self.name)
        if self.broken:
            raise KernelUnavailable(f"{self.name}: broken")
        return Released(still_used=(self.name,)) if self.used else Released((self.name,))

    def cleanup(self, in_use: str) -> tuple[str, ...]:
        self.asked.append(f"{self.name}, now")
        return (self.name,)


@pytest.fixture
def asked() -> list[str]:
    """Who was asked, in order."""
    return []


@pytest.fixture
def modes(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Mode]:
    found = {name: Mode(name, asked) for name in ORDER}
    monkeypatch.setattr(backends, "backend", found.__getitem__)
    return found


@pytest.fixture
def others(asked: list[str], modes: dict[str, Mode]) -> Others:
    """Beside mode nftables."""

    def beside() -> tuple[str, ...]:
        asked.append("beside")
        return ("kube-proxy's",)

    return Others("nftables", Opened(cast(Dataplane, None), beside=beside))


def test_all_are_asked_and_what_the_mode_in_use_has_beside_it(others: Others, asked: list[str]) -> None:
    assert others.remove(patient=True) == Released(("kube-proxy's", "ipvs", "iptables", "userspace"))
    assert asked == ["beside", "ipvs", "iptables", "userspace"]


def test_only_what_carries_is_asked_again_and_then_all(
    others: Others, modes: dict[str, Mode], asked: list[str]
) -> None:
    modes["ipvs"].used = True
    assert others.remove(patient=True).still_used == ("ipvs",)
    asked.clear()
    assert others.remove(patient=True).still_used == ("ipvs",)
    modes["ipvs"].used = False
    assert others.remove(patient=True) == Released(("ipvs",))
    assert asked == ["ipvs", "ipvs"]
    asked.clear()
    others.remove(patient=True)
    assert asked == ["beside", "ipvs", "iptables", "userspace"]


def test_when_time_is_up_only_what_carries_goes(others: Others, modes: dict[str, Mode], asked: list[str]) -> None:
    modes["userspace"].used = True
    others.remove(patient=True)
    asked.clear()
    assert others.remove(patient=False) == Released(("userspace",))
    assert asked == ["userspace, now"]


def test_what_failed_is_asked_again(others: Others, modes: dict[str, Mode], asked: list[str]) -> None:
    modes["iptables"].broken = True
    with pytest.raises(AgentError, match=r"broken .removed: kube-proxy's, ipvs, userspace"):
        others.remove(patient=True)
    asked.clear()
    modes["iptables"].broken = False
    assert others.remove(patient=True) == Released(("iptables",))
    assert asked == ["iptables"]
