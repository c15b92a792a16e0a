"""A CA and server certificates of the control plane's own, for clusters where nobody else makes them.

Pure: `plan` decides, `stored` reads and writes objects' content. `authority` signs, `objects` speaks to the API server,
`keeper` does it all, `served` hands the certificate to the listener.
"""
