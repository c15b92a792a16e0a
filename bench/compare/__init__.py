"""kube-proxy and Deltaplane side by side, on one real API server: `python -m bench compare`, `make compare`.

One proxy runs at a time, each on a node of its own of the same shape; all follow the same objects. What is measured is
kept below build/compare/, so that a run that was cut short goes on where it was; tables and plots are made of that.
"""
