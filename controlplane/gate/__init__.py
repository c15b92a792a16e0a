"""The Pod readiness gate deltaplane.dev/programmed: true once the nodes reach a new Pod. Imported only if it is on."""
