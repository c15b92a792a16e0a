"""What becomes of a node when Deltaplane takes kube-proxy's place there: `deltaplane doctor` asks, nothing is changed.

`translation` (kube-proxy's configuration to ours, setting by setting) and `checks` are pure; `machine` and `process`
read this node; `written` makes files. The agent's own parser and table of settings (`nodeagent.config`) are used.
"""

from nodeagent.doctor.checks import findings
from nodeagent.doctor.facts import Change, Finding, KubeProxy, Machine, Severity, Wanted
from nodeagent.doctor.translation import BadInput, Translation, changes, translated

__all__ = [
    "BadInput",
    "Change",
    "Finding",
    "KubeProxy",
    "Machine",
    "Severity",
    "Translation",
    "Wanted",
    "changes",
    "findings",
    "translated",
]
