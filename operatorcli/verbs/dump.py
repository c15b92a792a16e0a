"""`dump`."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import IO, Annotated, Any

import typer

import deltaplane
from deltaplane.v1 import inspection_pb2 as pb
from operatorcli.bundle import Bundle
from operatorcli.exits import Exit, Failed
from operatorcli.flags import Asked, usage, verb
from operatorcli.text import count

File = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="Where to; - is standard output. Without it: deltaplane-dump-TIME.tar.gz here.",
        show_default=False,
    ),
]


def add(app: typer.Typer) -> None:
    """Adds it."""

    @verb(app, "dump", "dump", "dump bundle.tar.gz", forms=False)
    def dump(asked: Asked, file: File = "") -> Exit:
        """A support bundle (tar.gz): replicas, nodes, objects and the last changes, without any secret.

        It has names and addresses of Services, pods and nodes. Ends with 1 when a replica or a part of it is missing.
        """
        name = f"deltaplane-dump-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        with closing(Bundle()) as bundle:
            about = {"command": deltaplane.__version__, "unix_seconds": int(time.time())}
            with asked.replica() as replica:
                about["asked"] = replica.where
                for part in replica.follow("Dump", pb.DumpRequest(), pb.DumpResponse):
                    bundle.take(part)
            if file == "-":
                bundle.finish(sys.stdout.buffer, name, about)
            else:
                written(Path(file or f"{name}.tar.gz"), bundle, name, about)
            return told(bundle, file or f"{name}.tar.gz")


def written(path: Path, bundle: Bundle, name: str, about: dict[str, Any]) -> None:
    """A new file of this user alone. Raises `Failed`."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise usage(f"{path} is there already", "Name another file, or remove it.") from None
    except OSError as error:
        raise Failed(
            Exit.USAGE, f"cannot write {path}: {error.strerror}", "Name a file in a folder of yours."
        ) from error
    out: IO[bytes]
    with open(descriptor, "wb") as out:  # noqa: PTH123 - it is open already
        bundle.finish(out, name, about)


def told(bundle: Bundle, where: str) -> Exit:
    """Says what there is, on standard error."""
    silent = [each for each in bundle.end.replicas if each.error] if bundle.end is not None else []
    print(f"{where}: {count(bundle.parts, 'part')}{'' if bundle.whole else ', which is not all'}", file=sys.stderr)
    for each in silent:
        print(f"  The replica {each.address} does not answer, and is missing: {each.error}", file=sys.stderr)
    return Exit.YES if bundle.whole and not silent else Exit.NO
