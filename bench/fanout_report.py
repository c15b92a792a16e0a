"""The tables of (e). Called by `__main__`."""

from __future__ import annotations

from bench.fanout import LAGGING, PARTITION, RATE, Found, Size, median
from bench.report import floor

CHANGE = ("CPU us per change and stream", "half s", "p99 s", "all s")
AGAIN = ("back again s", "its CPU ms each", "bytes each")
COLUMNS = ("streams", "join, CPU ms", "KiB per stream", *CHANGE, *AGAIN, "peak MiB")
FLOW_COLUMNS = (
    f"streams, {RATE:.0f} changes/s", "share of a core", "agents' share", "last agent s", "its Ack s", "Deltas/s",
    "Acks/s",
)  # fmt: skip


def fanout(found: Found, *, quick: bool = False) -> str:
    """One row for each number of streams."""
    merging, defects = found.merging, sum(size.defects for size in found.sizes)
    partition = PARTITION // (10 if quick else 1)
    whole, longest = merging.everything, merging.longest * 1e3
    said = [
        f"Medians of {len(found.sizes[0].change)} changes; (least). Others took {found.others:.0%} of the machine.",
        f"Reports of protocol errors by agents: {defects}.",
        f"{LAGGING} streams after {partition:,} revisions, which all but a few lack:",
        f"{whole:.2f} s of CPU for all their messages, {longest:.0f} ms for the longest.",
        f"{found.secure.streams:,} streams by turns, us of CPU per change and stream:",
        f"{_us(found.secure.plain)} in plain text, {_us(found.secure.tls)} over TLS.",
    ]
    rows = [_head(COLUMNS), *map(_row, found.sizes)]
    flows = [_head(FLOW_COLUMNS), *filter(None, map(_flow, found.sizes))]
    return "\n".join([*rows, "", *flows, "", *said, "", *_floors(found)])


def _us(seconds: list[float]) -> str:
    return f"{median(seconds) * 1e6:.0f} ({min(seconds) * 1e6:.0f})"


def _head(columns: tuple[str, ...]) -> str:
    return f"| {' | '.join(columns)} |\n|{'--:|' * len(columns)}"


def _row(size: Size) -> str:
    cells = [f"{size.streams:,}", f"{size.join * 1e3:.2f}", f"{size.stream_kib:.0f}", _us(size.change)]
    cells += [f"{median(times):.2f}" for times in (size.half, size.p99, size.all)]
    cells += [f"{size.again:.1f}", f"{size.again_cpu * 1e3:.2f}", f"{size.again_bytes:,.0f}"]
    return f"| {' | '.join(cells)} | {size.server_kib / 1024:.0f} |"


def _flow(size: Size) -> str:
    flow = size.flow
    if flow is None:
        return ""
    shares = f"{flow.core:.0%} | {flow.agents_core:.0%}"
    lags = f"{flow.lag:.2f} | {flow.ack_lag:.2f}"
    return f"| {size.streams:,} | {shares} | {lags} | {flow.deltas:.1f} | {flow.acks:.1f} |"


def _floors(found: Found) -> list[str]:
    last = found.sizes[-1]
    change, p99 = median(last.change) * 1e6, median(last.p99)
    floors = [
        floor("a change and its Ack", f"{change:.0f} us of CPU per stream", "at most 100 us", met=change <= 100),
        floor(f"{last.streams:,} streams, p99", f"{p99:.2f} s", "at most 1 s", met=p99 <= 1),
        floor("server's peak", f"{last.server_kib / 1024:.0f} MiB", "at most 300 MiB", met=last.server_kib <= 307_200),
        floor(f"{last.streams:,} back again", f"{last.again:.1f} s", "at most 10 s", met=last.again <= 10),
        floor("bytes of coming back", f"{last.again_bytes:,.0f}", "at most 1,024", met=last.again_bytes <= 1024),
        floor("merging", f"{found.merging.everything:.2f} s", "at most 1 s", met=found.merging.everything <= 1),
    ]
    ratio = median(found.secure.tls) / median(found.secure.plain)
    floors.append(floor("TLS beside plain text", f"{ratio:.2f} times the CPU", "at most 1.3 times", met=ratio <= 1.3))
    for size in found.sizes:
        if size.flow is not None and size.streams == 2_000:
            core, lag = size.flow.core, size.flow.lag
            floors.append(floor("2,000 streams", f"{core:.0%} of a core", "at most 60 %", met=core <= 0.6))
            floors.append(floor("2,000 streams, last agent", f"{lag:.2f} s", "at most 1 s", met=lag <= 1))
    return floors
