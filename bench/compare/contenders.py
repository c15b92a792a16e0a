"""Who is compared: each proxy in a mode, on a node of its own. Called by `scenarios`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from bench.packet import TALK
from tools.lab import kubeproxy, rules
from tools.lab.apiserver import ApiServer
from tools.lab.deltaplane import Agent, ControlPlane
from tools.lab.fabric import Node
from tools.lab.process import Process

DELTAPLANE, KUBE_PROXY = "deltaplane", "kube-proxy"


@dataclass(frozen=True)
class Contender:
    """Whose proxy, and its mode."""

    program: str
    mode: str

    @property
    def name(self) -> str:
        return f"{self.program}-{self.mode}"

    @property
    def ours(self) -> bool:
        return self.program == DELTAPLANE


CONTENDERS = tuple(
    Contender(program, mode) for mode in ("nftables", "iptables") for program in (DELTAPLANE, KUBE_PROXY)
)


class Proxy:
    """A contender on its node. `start` begins a process; the rules of the one before stay unless it is made `cold`."""

    def __init__(self, who: Contender, node: Node, api: ApiServer, controlplane: ControlPlane, folder: Path) -> None:
        self.who, self.node = who, node
        self._api, self._controlplane, self._folder = api, controlplane, folder
        self._agent = Agent(node, controlplane.address, folder) if who.ours else None
        if self._agent:
            self._agent.mode = who.mode
        self.process: Process | None = None

    def cold(self) -> None:
        """Nothing of a proxy is on the node: no process, no rules, no journal."""
        self.stop()
        rules.wipe(self.node.space)
        if self._agent:
            shutil.rmtree(self._agent.state, ignore_errors=True)
            self._agent.state.mkdir(parents=True)

    def start(self) -> Process:
        """Returns at once."""
        if self._agent:
            self.process = self._agent.start()
        else:
            config = self._api.admin_kubeconfig
            self.process = kubeproxy.start(self.node, config, self._folder, self.who.mode, *TALK)
        return self.process

    def stop(self) -> None:
        """Politely; the rules stay."""
        if self.process:
            self.process.stop()
            self.process = None

    def make_room(self) -> None:
        """Has nothing run that the proxy does not need: kube-proxy is measured without the control plane.

        The control plane has listed everything then, as the API server has everything that kube-proxy asks for.
        """
        if self.who.ours:
            if not self._controlplane.running:
                self._controlplane.start(120)
            self._controlplane.wait_ready(120)
        else:
            self._controlplane.stop()

    @property
    def beside(self) -> Process | None:
        """What works for all nodes, and runs now."""
        process = self._controlplane.process
        return process if process and process.running else None
