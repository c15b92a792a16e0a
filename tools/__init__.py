"""What builders and tests use and users do not: the laboratory, and scripts that build real parts."""
