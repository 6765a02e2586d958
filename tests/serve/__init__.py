"""The service, held to an independent client."""
