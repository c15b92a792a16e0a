"""kube-proxy itself is asked: what it refuses, in which words, and what its defaults are."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeagent.config.defaults import completed, filled
from nodeagent.config.document import load, plain
from tests.unit.nodeagent.config.cases import HEAD, INVALID, VALID
from tools.lab import parts


@pytest.fixture(scope="module")
def kube_proxy() -> Path:
    try:
        return parts.find("kube-proxy")
    except parts.PartMissing as missing:
        pytest.skip(str(missing))


def asked(program: Path, folder: Path, text: str) -> tuple[str, Any]:
    """Its error, unescaped, and the configuration it would run with."""
    source, target = folder / "in.yaml", folder / "out.yaml"
    source.write_text(HEAD + text)
    done = subprocess.run(
        [program, f"--config={source}", f"--write-config-to={target}"], check=False, capture_output=True, text=True
    )
    written = yaml.safe_load(target.read_text()) if target.exists() else None
    return done.stderr.replace('\\"', '"'), written


def test_the_table_of_refusals_is_kube_proxys(kube_proxy: Path, tmp_path: Path) -> None:
    for text, messages in INVALID:
        error, _ = asked(kube_proxy, tmp_path, text)

        expected = messages[0] if len(messages) == 1 else f"[{', '.join(messages)}]"
        assert f': {expected}"\n' in error


@pytest.mark.parametrize("mode", ["iptables", "ipvs", "nftables"])
@pytest.mark.parametrize("text", ["", *(text.partition("\n")[2] for text in VALID)])
def test_defaults_are_kube_proxys(kube_proxy: Path, tmp_path: Path, text: str, mode: str) -> None:
    said = f"mode: {mode}\n{text}"
    error, theirs = asked(kube_proxy, tmp_path, said)
    if theirs is None:
        pytest.skip(f"not valid in this mode: {error[-200:]}")
    ours = plain(completed(filled(load(HEAD + said)[0])))

    for section in {"iptables", "ipvs", "nftables"} - {mode}:  # it forgets the periods and masqueradeAll of other modes
        for name in ("syncPeriod", "minSyncPeriod", "masqueradeAll"):
            ours[section].pop(name, None)
            theirs[section].pop(name, None)
    if mode == "ipvs":  # whose masqueradeAll is that of iptables
        ours["iptables"].pop("masqueradeAll", None)
    assert normal(ours) == normal(theirs)


def normal(value: Any) -> Any:
    """An empty list and null are the same to every reader."""
    if isinstance(value, dict):
        return {name: normal(inner) for name, inner in value.items()}
    return [normal(inner) for inner in value] if isinstance(value, list | tuple) else [] if value is None else value


LENIENT = """mode: nftables
foo: 1
conntrack: {mim: 1, min: 7}
logging: {vmodule: [{filePattern: a, level: 1}]}
hostnameOverride: a
hostnameOverride: b
"""


def test_what_it_only_logs_is_let_pass_with_the_same_meaning(kube_proxy: Path, tmp_path: Path) -> None:
    error, theirs = asked(kube_proxy, tmp_path, LENIENT)
    config, notes = load(HEAD + LENIENT)

    for path in ("foo", "conntrack.mim", "logging.vmodule[0].level"):
        assert f'unknown field "{path}"' in error
        assert [note for note in notes if note.startswith(f"{path}: unknown field")]
    assert len(notes) == 4
    assert (config.conntrack.min, config.hostname_override) == (7, "b")
    assert (theirs["conntrack"]["min"], theirs["hostnameOverride"]) == (7, "b")
