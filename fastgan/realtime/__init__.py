"""Real time: where frames go (docs/realtime.md)."""
