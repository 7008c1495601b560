"""Google Cloud's APIs in one process, driven by the discovery documents that google-api-python-client ships."""
