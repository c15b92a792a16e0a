"""Which replica is asked, and how it is reached: an address, a unix socket, or a Pod behind the API server."""
