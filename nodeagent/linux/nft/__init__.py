"""What nf_tables has, packed as its messages and printed as nft prints it: expressions, rules, sets, elements."""
