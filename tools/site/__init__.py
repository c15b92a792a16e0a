"""The documentation site: the repository's Markdown as it is, in the order of docs/index.md. `make site` builds it."""
