"""Mass generation: shards, stores, Ray."""
