"""The built-in checks, one file a driver. Each imports its driver when it is made, and only then."""
