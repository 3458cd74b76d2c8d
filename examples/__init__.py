"""Networks and recipes to try the tool on."""
