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

Runs on the kernel in memory, 21 November 2026, two cores shared with much else:

    operations   seed   differences
    950,900      7      0 in 20 minutes, without kernels in trouble; ended by a mistake of the driver's
    257,000      7      1: a service CIDR that grew beside the one before it lost its end (now `Ledger.changes`)
    170,100      8      the same
    518,400      7, 8   0 in 25 minutes (9 of processor time), after that
    500,000      9      0 in 1,404 s
    500,000      10     0 in 1,412 s
"""
