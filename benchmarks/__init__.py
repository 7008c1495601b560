"""cloudfn and its peers, measured side by side: `python -m benchmarks.run`. See README.md for what came out."""
