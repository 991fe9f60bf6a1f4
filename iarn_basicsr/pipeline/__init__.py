"""What ``iarn-train`` and ``iarn-test`` do around BasicSR's pipelines: command line, checks, start, stop and resume."""
