"""The page as a job of the control plane: wired from its settings, served until cancelled."""

from __future__ import annotations

from controlplane.identity.door import Door
from controlplane.identity.peer import Way
from controlplane.inspection.service import Inspection
from controlplane.page import place
from controlplane.page.history import History
from controlplane.page.http import Server
from controlplane.page.site import HEADERS, Site
from controlplane.settings import Settings


async def served(settings: Settings, inspection: Inspection, door: Door, history: History) -> None:
    """Raises `ControlPlaneError` where it cannot listen."""
    site = Site(inspection, door.person, open_to_all=settings.security.way is not Way.TLS, history=history)
    try:
        await place.serve(settings.http_listen, Server(site, HEADERS))
    finally:
        await site.live.close()
