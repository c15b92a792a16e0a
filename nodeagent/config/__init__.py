"""The agent's configuration: kube-proxy's flags and file, and Deltaplane's own flags, read into `Settings`."""

from nodeagent.config.settings import MODES, Detector, Settings, Task, parse, write

__all__ = ["MODES", "Detector", "Settings", "Task", "parse", "write"]
