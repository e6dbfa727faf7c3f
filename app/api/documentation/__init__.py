"""The documentation that the service serves: pages, and the OpenAPI document."""
