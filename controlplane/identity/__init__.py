"""Who a peer is, and what it may do: certificates, ServiceAccount tokens, and what they are checked against."""
