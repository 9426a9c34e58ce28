"""What ``enginegate init`` writes into other repositories; the tests are this repository's own."""
