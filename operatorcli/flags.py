"""Flags that every verb has: how a replica is reached, and how the answer is written. Adds them to a verb's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from msgspec import Struct
from typer.core import TyperCommand

from deltaplane.v1 import agent_pb2
from operatorcli import ask, output
from operatorcli.connect.target import ACCOUNT, AUDIENCE, PORT, SCHEME, SYSTEM, Flags
from operatorcli.exits import Exit, Failed
from operatorcli.output import Answer, Form
from operatorcli.text import duration

ENVIRONMENT = "DELTAPLANE_"
WIDTH = 100
CODES = "Ends with 0: yes, 1: no, 2: wrong usage, 3: no replica reached, 4: not permitted, 5: failed."
REACHED = (
    "`deltaplane options` lists what all verbs have: how a replica is reached (--server, --insecure, --kubeconfig), who"
    " you are, and the same in the environment (DELTAPLANE_SERVER, DELTAPLANE_INSECURE)."
)


def _flag(name: str, text: str, metavar: str = "TEXT", default: Any = "", **more: Any) -> inspect.Parameter:
    flag = f"--{name.replace('_', '-')}"
    kind: Any = type(default)
    flag += f"/--no-{name}" if kind is bool else ""
    option = typer.Option(
        flag, help=text, metavar=metavar if kind is not bool else None, envvar=f"{ENVIRONMENT}{name.upper()}",
        show_default=default not in ("", False), show_envvar=False, **more,
    )  # fmt: skip
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


CONNECTION = (
    _flag("server", f"HOST:PORT[,HOST:PORT...] ({PORT} usually), the first that answers, or unix:///PATH.", "ADDRESS"),
    _flag("ca_file", "The CAs of the replicas' certificates. Without it (no --server), those of the cluster.", "FILE"),
    _flag("server_name", "The name or address in the replica's certificate, where it is another one.", "NAME"),
    _flag("token_file", "A token that says who you are. Without it, the kubeconfig's user has or makes one.", "FILE"),
    _flag("tls_cert_file", "Your certificate, for spiffe://DOMAIN/operator/NAME, instead of a token.", "FILE"),
    _flag("tls_private_key_file", "Its key.", "FILE"),
    _flag("insecure", "Plain text, for a control plane that runs with --insecure.", default=False),
    _flag("kubeconfig", "The kubeconfig. Without it, $KUBECONFIG, ~/.kube/config, or the Pod's own account.", "FILE"),
    _flag("context", "The kubeconfig's context.", "NAME"),
    _flag("account", "The ServiceAccount that the kubeconfig's user makes a token of.", "NAMESPACE/NAME", ACCOUNT),
    _flag("audience", "Whom the token is for: --token-audience of the control plane.", "NAME", AUDIENCE),
    _flag("system_namespace", "The control plane's namespace.", "NAME", SYSTEM),
    _flag("replica", "The Pod of a replica, where a certain one is to be asked.", "POD"),
    _flag("request_timeout", "How long a replica may take to answer, in seconds.", "SECONDS", 10.0, min=0.1, max=3600),
)  # fmt: skip
NAMES = tuple(parameter.name for parameter in CONNECTION)
OUTPUT = inspect.Parameter(
    "form", inspect.Parameter.KEYWORD_ONLY, default=Form.TABLE,
    annotation=Annotated[Form, typer.Option("--output", "-o", metavar="FORM", help="table, wide, json, yaml or name.")],
)  # fmt: skip


class Asked(Struct, frozen=True):
    """What was given beside a verb's own arguments."""

    flags: Flags
    form: Form = Form.TABLE

    @contextmanager
    def replica(self) -> Iterator[ask.Replica]:
        """The replica that is asked. Raises `Failed`."""
        with ask.replica(self.flags) as found:
            yield found

    def show(self, answer: Answer) -> None:
        output.show(answer, self.form)

    @property
    def socket(self) -> bool:
        """Whether a unix socket is asked, which may be an agent's."""
        return self.flags.server.startswith(SCHEME)

    def agent_answers(self, failure: Failed) -> bool:
        """Whether it failed because an agent was asked what only a replica knows."""
        return failure.code is Exit.FAILED and self.socket

    def agent(self, agent: ask.Replica, node: str = "", *, foreign: bool = False) -> agent_pb2.GetAgentResponse:
        """The agent that is asked itself. Raises `Failed` where it is another node's than the one that is named.

        `foreign`: with other programs' tables.
        """
        request = agent_pb2.GetAgentRequest(without_foreign=not foreign)
        found = agent.ask("GetAgent", request, agent_pb2.GetAgentResponse)
        if node and found.node_name != node:
            text = f"the agent at {agent.where} is {found.node_name}'s, and not {node}'s"
            raise usage(text, f"Ask a replica about {node}, or leave --node out.")
        return found

    def namespace(self, given: str) -> str:
        """The one that was given, else the kubeconfig's, else "default"."""
        if given:
            return given
        if self.flags.server:
            return "default"
        from operatorcli.connect import cluster

        return cluster.namespace(self.flags)


class Verb(TyperCommand):
    """Help: what is this verb's, examples, and then what all verbs have."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Its own."""
        own = [
            param for param in self.get_params(ctx) if param.name not in NAMES and not getattr(param, "hidden", False)
        ]
        self._section(formatter, "Arguments and options", [_record(param, ctx) for param in own])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """What it has in common with others comes last."""
        super().format_epilog(ctx, formatter)
        common = [param for param in self.get_params(ctx) if param.name in NAMES]
        if len(common) == len(NAMES):
            formatter.write_paragraph()
            formatter.write_text(REACHED)
        elif common:
            title = f"How the cluster is reached (each also in the environment, as {ENVIRONMENT}CONTEXT)"
            self._section(formatter, title, [_record(param, ctx) for param in common])

    def _section(self, formatter: Any, title: str, rows: list[tuple[str, str]]) -> None:
        with formatter.section(title):
            formatter.write_dl(rows)


def _record(param: Any, ctx: Any) -> tuple[str, str]:
    names, meaning = param.get_help_record(ctx)
    return (param.metavar if param.param_type_name == "argument" else names), meaning


def meaning(parameter: inspect.Parameter) -> tuple[str, str]:
    """Of `CONNECTION`: the option as it is written, and what it is."""
    option, default = parameter.annotation.__metadata__[0], parameter.default
    written = f"--{parameter.name.replace('_', '-')}"
    shown = f" [default: {default}]" if default not in ("", False) else ""
    return f"{written}{f' {option.metavar}' if option.metavar else ''}", f"{option.help}{shown}"


def verb(
    app: typer.Typer, name: str, *examples: str, forms: bool = True, only: Collection[str] = NAMES
) -> Callable[[Callable[..., Exit | None]], None]:
    """Adds a function as a verb: it gets an `Asked` first, and gives the exit code (none: YES).

    `examples`: what comes after `deltaplane `, each run by a test. `forms`: it has -o. `only`: which flags of
    `CONNECTION` it has.
    """

    def add(function: Callable[..., Exit | None]) -> None:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        reached = [each for each in CONNECTION if each.name in only]
        common = [*([OUTPUT] if forms else []), *reached]

        def run(**given: Any) -> None:
            flags = Flags(**{each.name: given.pop(each.name) for each in reached})
            asked = Asked(flags, given.pop("form", Form.TABLE))
            raise typer.Exit(function(asked, **given) or Exit.YES)

        keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        run.__signature__ = inspect.Signature([*keyword, *common])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in (*keyword, *common)}
        lines = "\n".join(f"  deltaplane {example}" for example in examples)
        text = inspect.cleandoc(function.__doc__ or "")
        app.command(name, cls=Verb, help=text, epilog=f"\b\nExamples:\n{lines}\n\n{CODES}")(run)

    return add


def length(flag: str, given: str) -> float:
    """Seconds. Raises `Failed` with USAGE."""
    found = duration(given)
    if found is None:
        raise usage(f"--{flag}={given} is no time", "Write it as 10s, 1m30s or 500ms.")
    return found


def usage(text: str, advice: str = "") -> Failed:
    """A value that cannot be."""
    return Failed(Exit.USAGE, text, advice)
