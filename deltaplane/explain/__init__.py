"""What becomes of one connection at a node, and why: computed from what Services mean there, without any kernel."""

from deltaplane.explain.answer import Answer, Choice, Decision, Fate, Near, Question
from deltaplane.explain.directory import Directory, Listed, slices_by_service
from deltaplane.explain.explain import explain
from deltaplane.explain.manner import Manner, Refused, manner_of
from deltaplane.explain.messages import explanation, protocol_number, question_of
from deltaplane.explain.site import Client, Site

__all__ = [
    "Answer",
    "Choice",
    "Client",
    "Decision",
    "Directory",
    "Fate",
    "Listed",
    "Manner",
    "Near",
    "Question",
    "Refused",
    "Site",
    "explain",
    "explanation",
    "manner_of",
    "protocol_number",
    "question_of",
    "slices_by_service",
]
