"""What a node's kernel does, looked at from outside while a proxy works: commits, and what a connection meets.

A commit of nf_tables, whoever makes it and in whichever mode (iptables-restore is one, too), raises the generation of
the namespace's ruleset: to ask for that number costs some microseconds and holds nobody up.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence

from bench import machine
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import objects
from nodeagent.linux.nft.kernel import NetlinkKernel
from tools.lab.echo import LINGER_RESET
from tools.lab.netns import Namespace
from tools.lab.process import Process, ProcessFailed

PACE = 0.001  # seconds between two questions for the generation
LOOK = 0.003  # seconds that an attempt waits where nobody may answer yet
QUIET = 2.5  # seconds without a commit, and without work, after which a proxy has nothing left to do
BUSY = 0.06  # of a processor; less is no work
_IP_RECVERR = 11  # linux/in.h


class Looker:
    """A thread that is inside a namespace until `close`."""

    def __init__(self, space: Namespace, name: str) -> None:
        self._space = space
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._inside, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        self.over.set()
        self._thread.join()

    def _inside(self) -> None:
        with self._space.entered():
            self.look()

    def look(self) -> None:
        """Until `over` is set."""
        raise NotImplementedError


class Commits(Looker):
    """When this namespace's ruleset changed, in `time.perf_counter` seconds."""

    def __init__(self, space: Namespace) -> None:
        super().__init__(space, "commits")
        self.at: list[float] = []
        self.start()

    def look(self) -> None:
        kernel = NetlinkKernel()
        last = _generation(kernel)
        while not self.over.wait(PACE):
            now = _generation(kernel)
            if now != last:
                self.at.append(time.perf_counter())
                last = now
        kernel.close()

    @property
    def last(self) -> float:
        """The last one's time; 0: there was none."""
        return self.at[-1] if self.at else 0.0


def _generation(kernel: NetlinkKernel) -> int:
    (answer,) = kernel.ask(wire.request(objects.GET_GENERATION, 0, 0, 0, b""))
    return wire.as_number(wire.attributes(answer.body)[1])


def settled(process: Process, commits: Commits, patience: float) -> bool:
    """Waits until the proxy has nothing left to do: no commit, no program that it started, no work for `QUIET`.

    Where nothing was committed yet since `commits` looks, the proxy still waits for what it is to do: that is no rest.
    Raises `ProcessFailed` where it ends meanwhile; False when `patience` is over.
    """
    deadline = time.perf_counter() + patience
    idle, spent = time.perf_counter(), machine.cpu_of_all(process.pid)
    while (now := time.perf_counter()) < deadline:
        if not process.running:
            raise ProcessFailed(f"{process.name} ended with {process.exit_code}:\n{process.tail()}")
        if commits.at and now - max(idle, commits.last) >= QUIET:
            return True
        time.sleep(0.25)
        cost = machine.cpu_of_all(process.pid)
        if (cost - spent) / (time.perf_counter() - now) > BUSY or machine.children(process.pid):
            idle = time.perf_counter()
        spent = cost
    return False


class Arrival(Looker):
    """Waits until each of these Services lets a connection through; `seconds` is when the last one did."""

    def __init__(self, space: Namespace, addresses: Sequence[str], port: int = 80) -> None:
        super().__init__(space, "arrival")
        self._addresses, self._port = addresses, port
        self.done = threading.Event()
        self.at = 0.0
        self.start()

    def look(self) -> None:
        for address in self._addresses:
            while not passes(address, self._port, LOOK):
                if self.over.is_set():
                    return
        self.at = time.perf_counter()
        self.done.set()


class Steady(Looker):
    """A connection to one Service every few milliseconds, all the time; counts those that came to nothing."""

    def __init__(self, space: Namespace, address: str, port: int = 80) -> None:
        super().__init__(space, "steady")
        self._address, self._port = address, port
        self.tried = self.failed = 0
        self.start()

    def look(self) -> None:
        while not self.over.wait(0.005):
            self.tried += 1
            self.failed += not passes(self._address, self._port, 1.0)


def passes(address: str, port: int, patience: float) -> bool:
    """Whether a connection meets an endpoint: it is let in, or the endpoint itself refuses it.

    A proxy refuses by ICMP, an endpoint by a reset: the socket's queue of errors tells which it was.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        attempt.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        attempt.setblocking(False)
        code = attempt.connect_ex((address, port))
        if code == errno.EINPROGRESS:
            if not _ready(attempt, patience):
                return False
            code = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return code == 0 or (code == errno.ECONNREFUSED and not _by_icmp(attempt))


def _ready(attempt: socket.socket, patience: float) -> bool:
    poll = select.poll()
    poll.register(attempt, select.POLLOUT)
    return bool(poll.poll(patience * 1000))


def _by_icmp(attempt: socket.socket) -> bool:
    try:
        return bool(attempt.recvmsg(0, 512, socket.MSG_ERRQUEUE)[1])
    except OSError:
        return False


def unreached(space: Namespace, addresses: Sequence[str], port: int = 80) -> list[str]:
    """The Services, of all, through which no connection comes."""
    with space.entered():
        return [address for address in addresses if not passes(address, port, 1.0)]


def timed(act: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
