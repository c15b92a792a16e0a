"""Random truth: whatever happens to objects, streams and processes, the kernel ends in what the last input means.

`python -m tests.soak` runs a million operations on the kernel in memory, pytest a short form of it and the real kernel.
`driver.Driver` lists the operations: objects come, change, move their addresses and go; messages are lost, repeated and
cut; agent, replica and machine start anew, with a whole journal, half of one or none; the kernel refuses transactions,
does them without saying so, or does them for a process that ends (`trouble`).

Nothing is compared after an operation. Every 100, the last input gets the time to arrive, and then the whole kernel is
held against one that a new dataplane writes from that input alone: all elements of all sets (`canonical`: but for the
order of slots), all chains with the number of their rules, and the chains and sets that belong to some Services only.
In between, the kernel in memory checks every message (`MemoryKernel`: what is named must be there, what goes must not
be named); what a rule names is parsed once and remembered, and the program is rendered once in a run.
"""
