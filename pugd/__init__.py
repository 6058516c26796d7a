"""pugd: one timeline per person. Events in over HTTP and UDP, identity resolved, kept in ClickHouse."""

__version__ = "0.1.0"
