"""The addresses that node ports answer on: which ones (`selection`, `node_ports`), and what this machine has.

`wire` is the codec of the kernel's address messages and `monitor` the sockets. Knows no Service and no kernel program.
"""
