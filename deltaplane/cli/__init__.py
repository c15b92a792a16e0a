"""The command `deltaplane`: dispatches to the two programs and the operator's verbs, imported only when asked for.

Exit codes of the programs: 0 done, 1 could not run (one line on standard error says what, where and what to do), 2
wrong usage; those of the verbs: `operatorcli.exits`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import deltaplane
from deltaplane import heap, packages
from deltaplane.cli.hints import near
from deltaplane.flags import UsageError
from deltaplane.logs import line

PROGRAMS = {
    "controlplane": ("controlplane.main", "watch the Kubernetes API (or manifests) and stream deltas to node agents"),
    "agent": ("nodeagent.main", "run on a node: take the deltas and program the kernel"),
}

OPERATOR = "operatorcli.main"
VERBS = {
    "status": "the control plane at a glance: what it follows, its nodes, and what is wrong",
    "nodes": "every node agent: what it was sent, what is in its kernel, what fails there",
    "get": "Services, endpoints and Nodes as the control plane has them, or as a node forwards them",
    "explain": "what becomes of a connection at a node, and why",
    "trace": "a real packet through this node's kernel, beside what explain says",
    "wait": "until the kernels of all nodes have a change, or which lack it and why",
    "diff": "in what two nodes differ",
    "top": "live: changes per second, lag, the slowest nodes",
    "watch": "each change as it is sent, or each commit in a kernel",
    "doctor": "what would change, and what would not work, with Deltaplane in kube-proxy's place",
    "dump": "a support bundle without secrets",
    "release-brake": "lets an agent take the change that its safety brake holds",
    "resync": "has an agent take the whole state anew",
    "options": "the options that all of these have: how a replica is reached, who you are",
}
COMPLETION = ("--install-completion", "--show-completion")
COMPLETE = "_DELTAPLANE_COMPLETE"
"""Set by a shell that asks what may come next."""

SUITES = "ECDHE-PSK-AES128-CBC-SHA"
"""All that gRPC may speak in TLS 1.2: a suite for ends that share a secret, which ours never do. So nothing but TLS
1.3, whose suites this does not concern, comes about; gRPC's Python interface cannot say a least version. It reads this
variable when it is imported."""


FIGURES = "prometheus_client"
"""Its `__init__` imports HTTP servers and clients, which neither program uses before a scrape: an eighth of the time
that loading the agent takes."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one program and returns its exit code. A verb of this process' own arguments ends the process."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if COMPLETE in os.environ or (arguments[:1] and (arguments[0] in VERBS or arguments[0] in COMPLETION)):
        return _ask(arguments, ends=argv is None)
    if arguments[:1] and arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version"):
        return _ask(arguments, ends=argv is None)  # options before a verb
    if arguments[:1] in (["--version"], ["version"]):
        print(f"deltaplane {deltaplane.__version__}")
        return 0
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] not in PROGRAMS:
        hint = near(arguments[0], (*PROGRAMS, *VERBS))
        print(f"deltaplane: unknown command {arguments[0]!r}. {hint} See `deltaplane --help`.", file=sys.stderr)
        return 2
    return _run(arguments[0], arguments[1:])


def _ask(arguments: list[str], *, ends: bool) -> int:
    """An operator's verb. `ends`: the process with it."""
    prepare()
    operator = importlib.import_module(OPERATOR)
    code: int = operator.main(arguments)
    if ends:
        operator.leave(code)
    return code


def _run(program: str, arguments: list[str]) -> int:
    prepare()
    with heap.imports():
        packages.enter(FIGURES)
        entry = importlib.import_module(PROGRAMS[program][0])
    try:
        code: int = entry.main(arguments)
    except UsageError as error:
        print(line(str(error)), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return code


def prepare() -> None:
    """Says to gRPC what only the environment can say, before anything imports it."""
    # Its C core logs to standard error in its own form what it also raises; who wants to see that can still ask.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ["GRPC_SSL_CIPHER_SUITES"] = SUITES


def _usage() -> str:
    programs = [f"  {name:15}{text}" for name, (_, text) in PROGRAMS.items()]
    verbs = [f"  {name:15}{text}" for name, text in VERBS.items()]
    return "\n".join(
        ["usage: deltaplane COMMAND [FLAGS]", "", "Programs:", *programs, "",
         "Questions to a running control plane:", *verbs, "", "Others:", "  version        print the version",
         "  --install-completion, --show-completion   for the shell that runs", "",
         "`deltaplane COMMAND --help` lists the flags."]
    )  # fmt: skip
