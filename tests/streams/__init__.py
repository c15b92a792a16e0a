"""Both programs over real sockets: however a stream ends, the next one follows."""
