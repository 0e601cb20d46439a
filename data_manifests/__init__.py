"""One manifest per dataset: where its files are, and how responses are read from them."""
