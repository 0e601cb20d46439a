"""One manifest per dataset: where its files lie, and how responses are read from them."""
