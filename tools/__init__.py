"""What builders and tests of Deltaplane use and its users do not: the laboratory and the scripts that build real parts."""
