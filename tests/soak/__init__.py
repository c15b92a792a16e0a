"""Random truth: whatever happens to objects, streams and processes, the kernel ends in what the last input means.

`python -m tests.soak` runs a million operations on the kernel in memory, pytest a short form of it and the real kernel.
"""
