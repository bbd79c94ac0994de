"""LeaderWorkerSet as pure functions: what should exist, and which step comes next."""
