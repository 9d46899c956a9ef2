"""Puller: which way a pull goes, how it is ended, and what it reports."""
