"""The stream to a replica: session, mirror of the cluster, journal. Knows no kernel."""
