"""`deltaplane doctor`: findings, and kube-proxy's settings beside the agent's. Pure."""

from __future__ import annotations

from typing import Any

from operatorcli.exits import Exit
from operatorcli.output import Answer
from operatorcli.tables import Block, Cell, Sentence, Table, columns
from operatorcli.text import count

FINDINGS = columns("FINDING", "WHAT*", "WHAT TO DO*")
SETTINGS = columns("SETTING*", "KUBE-PROXY*", "DELTAPLANE*", "VERDICT", "WHY*")
ACT = "act"


def answer(report: dict[str, Any], written: list[str]) -> tuple[Answer, Exit]:
    """Of a report as json has it. `written`: what was written where."""
    findings, settings = report["findings"], report["settings"]
    needed = sum(each["severity"] == ACT for each in findings)
    blocks: list[Block] = [Sentence(_head(report))]
    blocks.append(Sentence(_verdict(needed), "bad" if needed else "good"))
    blocks.append(Table(FINDINGS, [_finding(each) for each in findings], empty="no findings"))
    if settings:
        told = [_setting(each) for each in settings if each["given"] or each["verdict"] == "different"]
        more = len(settings) - len(told)
        blocks += [Sentence(""), Table(SETTINGS, told)]
        blocks.append(Sentence(f"{count(more, 'more setting')} at kube-proxy's default: -o json has them.", "faint"))
    blocks += [Sentence(f"kube-proxy's file: {each}") for each in report["notes"]]
    blocks += [Sentence(each) for each in written]
    return Answer(blocks, report, [each["id"] for each in findings]), Exit.NO if needed else Exit.YES


def _head(report: dict[str, Any]) -> str:
    origin = report["kube_proxy"]
    where = f"kube-proxy: {origin}" if origin else "kube-proxy: not found, so its settings are not compared"
    node = f"node: {report['node']}" if report["node"] else "node: not looked at"
    return f"{where}; {node}; agent's mode: {report['mode']}."


def _verdict(needed: int) -> str:
    return f"{count(needed, 'finding')} to act on before the move." if needed else "Nothing to act on before the move."


def _finding(of: dict[str, Any]) -> tuple[Cell | str, ...]:
    return (Cell(of["id"], "bad" if of["severity"] == ACT else "faint"), of["what"], of["do"] or "-")


def _setting(of: dict[str, Any]) -> tuple[Cell | str, ...]:
    tone = "" if of["verdict"] == "same" else "warn"
    return (of["setting"], of["theirs"], of["ours"], Cell(of["verdict"], tone), of["why"] or "-")
