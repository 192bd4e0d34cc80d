"""A small order service that wears the whole extension: a database, a cache and a payment API that fails."""
