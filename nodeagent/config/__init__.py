"""The agent's configuration: kube-proxy's flags and file, and Deltaplane's own flags, read into `AgentSettings`."""

from nodeagent.config.settings import OF_KUBE_PROXY, AgentSettings, Detector, Task, in_mode, parse, write

__all__ = ["OF_KUBE_PROXY", "Detector", "AgentSettings", "Task", "in_mode", "parse", "write"]
