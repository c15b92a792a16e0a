"""The page for people (`--http-listen`): nodes, lag, changes, Services and explain, live and read-only."""
