"""Which Pods a Service selects, and which Services select a Pod, by an index of labels. Pure.

A Pod's change costs the Services that are filed under one of its labels, a Service's the Pods that have its rarest
label; neither costs all Services or all Pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from controlplane.endpoints.values import Name, Pod, Service

Label = tuple[str, str, str]  # namespace, key, value


class Selection:
    """Owned by `known`, which takes out the old form of an object before it puts in the new one."""

    def __init__(self) -> None:
        self._pods: dict[Label, dict[Name, Pod]] = {}
        self._services: dict[Label, dict[Name, Service]] = {}
        self._filed: dict[Name, Label] = {}  # under which of its selector's labels a Service is

    def add_pod(self, pod: Pod) -> None:
        for label in _labels(pod.namespace, pod.labels):
            self._pods.setdefault(label, {})[pod.key] = pod

    def remove_pod(self, pod: Pod) -> None:
        for label in _labels(pod.namespace, pod.labels):
            _drop(self._pods, label, pod.key)

    def add_service(self, service: Service) -> None:
        """Files it under the label of its selector that the fewest Services are under."""
        if service.managed:
            labels = sorted(_labels(service.namespace, service.selector))
            label = min(labels, key=lambda one: len(self._services.get(one, ())))
            self._services.setdefault(label, {})[service.key] = service
            self._filed[service.key] = label

    def remove_service(self, service: Service) -> None:
        label = self._filed.pop(service.key, None)
        if label is not None:
            _drop(self._services, label, service.key)

    def services_of(self, pod: Pod) -> set[Name]:
        """The Services that select it."""
        found: set[Name] = set()
        for label in _labels(pod.namespace, pod.labels):
            some = self._services.get(label, {})
            found.update(name for name, service in some.items() if service.selector.items() <= pod.labels.items())
        return found

    def pods_of(self, service: Service) -> list[Pod]:
        """The Pods that it selects."""
        if not service.managed:
            return []
        groups = (self._pods.get(label, {}) for label in _labels(service.namespace, service.selector))
        rarest = min(groups, key=len)
        return [pod for pod in rarest.values() if service.selector.items() <= pod.labels.items()]


def _labels(namespace: str, labels: Mapping[str, str]) -> Iterable[Label]:
    return ((namespace, key, value) for key, value in labels.items())


def _drop(index: dict[Label, dict[Name, Pod]] | dict[Label, dict[Name, Service]], label: Label, name: Name) -> None:
    some = index.get(label)
    if some is not None:
        some.pop(name, None)
        if not some:
            del index[label]
