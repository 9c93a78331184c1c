"""The ``tradingbot`` command: words in, words out."""
