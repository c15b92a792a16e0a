"""The agent's configuration: kube-proxy's flags and file, and Deltaplane's own flags, read into `Settings`."""

from nodeagent.config.settings import Detector, Settings, Task, in_mode, parse, write

__all__ = ["Detector", "Settings", "Task", "in_mode", "parse", "write"]
