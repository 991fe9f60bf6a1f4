"""What ``iarn-train`` and ``iarn-test`` do around BasicSR's pipelines: option files, checks, the start of a run."""
