"""Questions and answers on the wire. Raises ValueError, naming the field, for a question that is none."""

from __future__ import annotations

from deltaplane.addresses import parse_address
from deltaplane.explain.answer import Answer, Choice, Question
from deltaplane.explain.site import Site
from deltaplane.model import PROTOCOL_NAMES, PROTOCOL_NUMBERS
from deltaplane.names import shown
from deltaplane.v1 import views_pb2
from deltaplane.views import conditions_text, frontend_text, key_message, place


def question_of(connection: views_pb2.Connection) -> Question:
    """The question, checked."""
    source, address = _address("source", connection.source), _address("address", connection.address)
    if len(source) != len(address):
        raise ValueError(f"connection: {connection.source} and {connection.address} are of two families")
    if not 0 < connection.port < 65536:
        raise ValueError(f"connection.port: {connection.port} is not 1 to 65535")
    return Question(source, address, connection.port, protocol_number(connection.protocol))


def protocol_number(text: str) -> int:
    """IANA's number of TCP, UDP or SCTP; empty: TCP."""
    number = PROTOCOL_NUMBERS.get(text.lower() or "tcp")
    if number is None:
        names = ", ".join(name.upper() for name in PROTOCOL_NAMES.values())
        raise ValueError(f"protocol: {shown(text)} is none of {names}")
    return number


def _address(field: str, text: str) -> bytes:
    try:
        return parse_address(text)
    except ValueError as error:
        raise ValueError(f"connection.{field}: {error}") from None


def explanation(connection: views_pb2.Connection, answer: Answer, site: Site) -> views_pb2.Explanation:
    """The answer as a message."""
    message = views_pb2.Explanation(
        connection=connection,
        fate=views_pb2.Fate.ValueType(int(answer.fate)),
        frontend=frontend_text(answer.entry.frontend) if answer.entry is not None else "",
        decisions=[views_pb2.Decision(what=d.what, found=d.found, why=d.why) for d in answer.decisions],
        choices=[_choice(choice) for choice in answer.choices],
        near=[
            views_pb2.NearService(service=key_message(n.service), frontend=n.frontend, why=n.why) for n in answer.near
        ],
        assumptions=site.assumptions,
    )
    if answer.service is not None:
        message.service.CopyFrom(key_message(answer.service))
    return message


def _choice(choice: Choice) -> views_pb2.Choice:
    message = views_pb2.Choice(
        endpoint=place(choice.target.address, choice.target.port),
        probability=choice.probability,
        masqueraded=choice.masqueraded,
    )
    if choice.endpoint is not None:
        message.node, message.zone = choice.endpoint.node, choice.endpoint.zone
        message.conditions = conditions_text(choice.endpoint.conditions)
    return message
